"""Every metric with its interval, and the figures of four libraries with ours for the same, in one run.

``python tests/benchmarks/metrics_speed.py --others DIR`` where DIR holds netcal, torchmetrics and relplot and what they
import (``pip install --target DIR``). The libraries give values without intervals, and so do ours beside them:
scikit-learn AUROC, Brier, NLL and average precision, netcal ECE, MCE and ACE, torchmetrics ECE, relplot smooth ECE.
``--levels N`` draws confidences of N levels, as policies state them; left out, no two are the same.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable

import numpy as np

from estimators.metrics import ace, aupr, auroc, brier, ece, mce, nll, smooth_ece, summarize

SAME = {
    "scikit-learn": (auroc, brier, nll, aupr),
    "netcal": (ece, mce, ace),
    "torchmetrics": (ece,),
    "relplot": (smooth_ece,),
}
"""Library -> ours of the figures that it is asked for."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--others", help="folder with the libraries; left out, only ours is timed")
    parser.add_argument("--records", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--levels", type=int, help="how many different confidences there are")
    options = parser.parse_args()
    if options.others:
        sys.path.append(options.others)
    for count in options.records:
        rng = np.random.default_rng(0)
        confidence = rng.random(count) if options.levels is None else rng.integers(options.levels, size=count)
        confidence = confidence / (1 if options.levels is None else options.levels - 1)
        correct = (rng.random(count) < confidence).astype(int)
        large = (rng.random(count) < 0.8).astype(int)
        all_of_them = seconds(lambda c=confidence, y=correct, z=large: summarize(c, y, large_correct=z))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # kilobytes, on Linux
        said = f"{all_of_them:.2f} s of the processor, {peak:.1f} GiB at most so far"
        print(f"{count:,} records: every metric with intervals {said}", flush=True)
        for name, run in libraries(confidence, correct).items() if options.others else ():
            ours = seconds(lambda c=confidence, y=correct, n=name: [figure(c, y) for figure in SAME[n]])
            try:
                taken = seconds(run)
            except Exception as error:
                print(f"  {name}: {type(error).__name__}: {error}")
                continue
            print(f"  {name}: {taken:.3f} s; ours for the same {ours:.3f} s, {taken / ours:.1f} times", flush=True)


def seconds(run: Callable[[], object]) -> float:
    """Seconds of the processor that the faster of two runs takes."""
    taken = []
    for _ in range(2):
        begin = time.process_time()
        run()
        taken.append(time.process_time() - begin)
    return min(taken)


def libraries(confidence: np.ndarray, correct: np.ndarray) -> dict[str, Callable[[], object]]:
    """Name -> what computes its figures."""

    def sklearn() -> None:
        from sklearn import metrics

        for figure in (
            metrics.roc_auc_score,
            metrics.brier_score_loss,
            metrics.log_loss,
            metrics.average_precision_score,
        ):
            figure(correct, confidence)

    def netcal() -> None:
        from netcal.metrics import ACE, ECE, MCE

        for figure in (ECE(10), MCE(10), ACE(10)):
            figure.measure(confidence, correct)

    def torchmetrics() -> None:
        import torch
        from torchmetrics.functional.classification import binary_calibration_error

        binary_calibration_error(torch.tensor(confidence), torch.tensor(correct), n_bins=10)

    def relplot() -> None:
        import relplot

        relplot.smECE(confidence, correct)

    return {"scikit-learn": sklearn, "netcal": netcal, "torchmetrics": torchmetrics, "relplot": relplot}


if __name__ == "__main__":
    main()
