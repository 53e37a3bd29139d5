"""Every metric with its interval against three figures of four libraries, in one run: ratios of seconds.

``python tests/benchmarks/metrics_speed.py --others DIR`` where DIR holds netcal, torchmetrics and relplot and what they
import (``pip install --target DIR``). The libraries give values without intervals:
scikit-learn AUROC, Brier, NLL and average precision, netcal ECE, MCE and ACE, torchmetrics ECE, relplot smooth ECE.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np

from estimators.metrics import summarize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--others", help="folder with the libraries; left out, only ours is timed")
    parser.add_argument("--records", type=int, nargs="+", default=[100_000, 1_000_000])
    options = parser.parse_args()
    if options.others:
        sys.path.append(options.others)
    for count in options.records:
        rng = np.random.default_rng(0)
        confidence = rng.random(count)
        correct = (rng.random(count) < confidence).astype(int)
        large = (rng.random(count) < 0.8).astype(int)
        ours = seconds(lambda c=confidence, y=correct, z=large: summarize(c, y, large_correct=z))
        print(f"{count:,} records: every metric with intervals {ours:.2f} s of the processor", flush=True)
        for name, run in libraries(confidence, correct).items() if options.others else ():
            try:
                taken = seconds(run)
            except Exception as error:
                print(f"  {name}: {type(error).__name__}: {error}")
                continue
            print(f"  {name}: {taken:.2f} s, {taken / ours:.2f} of ours", flush=True)


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
