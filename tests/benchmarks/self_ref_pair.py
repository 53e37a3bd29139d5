"""Self-REF against its baselines on the embedded pair: calibration, routing and rejection, with intervals.

``python tests/benchmarks/self_ref_pair.py NAME=PROBE:METHOD ... --reject NAME=CHECKPOINT:ESTIMATOR ...`` prints two
tables: of the records that probes of one set of questions have left (``PROBE/records.parquet``), by method or by the
product of several (``METHOD*METHOD``), and of questions of ``arithmetic`` from which a number is gone. ``--against
NAME`` adds paired differences of AUROC to it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from estimators import ESTIMATORS
from estimators.metrics import auroc
from estimators.metrics.resampling import bootstrap, paired_difference
from estimators.metrics.summary import summarize
from experiments.config.models import find_model, open_policy
from experiments.probe.estimates import estimate_generations
from experiments.probe.generate import Policy, generate
from experiments.probe.records import read_records
from experiments.routing.self_ref import at_quantiles, by_methods, deployed, least_rate, rejection, rejection_questions
from experiments.tasks import Arithmetic
from rl.checkpoint import read_temperature, read_template

SHOWN = ("accuracy", "auroc", "ece", "brier", "nll", "escalation_rate_to_parity")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("probes", nargs="*", metavar="NAME=PROBE:METHOD")
    parser.add_argument("--reject", nargs="*", default=[], metavar="NAME=CHECKPOINT:ESTIMATOR")
    parser.add_argument("--against", metavar="NAME")
    parser.add_argument("--tolerance", type=float, default=0.01)
    parser.add_argument("--questions", type=int, default=500)
    options = parser.parse_args()
    frames = {}
    for each in options.probes:
        name, _, place = each.partition("=")
        folder, _, method = place.rpartition(":")
        frames[name] = by_methods(read_records(Path(folder) / "records.parquet"), method.split("*"))
    for name, frame in frames.items():
        show_routing(name, frame, options.tolerance)
    reference = frames.get(options.against)
    for name, frame in frames.items() if reference is not None else ():
        if name != options.against:
            show_difference(name, frame, reference)
    for each in options.reject:
        name, _, place = each.partition("=")
        checkpoint, _, estimator = place.rpartition(":")
        show_rejection(name, checkpoint, estimator, options.questions)


def show_routing(name: str, frame: pd.DataFrame, tolerance: float) -> None:
    c, small, large = (frame[column].to_numpy(float) for column in ("confidence", "correct", "large_correct"))
    summary = summarize(c, small, large_correct=large)
    values = [f"{key} {each.value:.3f} ({each.low:.3f}-{each.high:.3f})" for key in SHOWN if (each := summary[key])]
    points = at_quantiles(c, small, large)
    routes = [least_rate(points, float(large.mean()), each) for each in (0.0, tolerance)]
    found = deployed(c, small, large, tolerance)
    rates = "/".join("none" if each is None else f"{each:.2f}" for each in routes)
    kept = "none" if found is None else f"{found.rate:.2f} at {found.accuracy - large.mean():+.3f}"
    print(f"{name:24} {'  '.join(values)}  route at 0/{tolerance:g} {rates}  deployed {kept}", flush=True)


def show_difference(name: str, frame: pd.DataFrame, reference: pd.DataFrame) -> None:
    """Of the same questions, each by its own answers, resampled together."""
    both = reference.merge(frame, left_index=True, right_index=True, suffixes=("", "_other"))
    ours, theirs = (
        [both[column + end].to_numpy(float) for column in ("confidence", "correct")] for end in ("", "_other")
    )
    gap = paired_difference(auroc, ours, theirs, resamples=500)
    print(f"AUROC less that of {name}: {gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})", flush=True)


def show_rejection(name: str, checkpoint: str, estimator: str, size: int) -> None:
    folder = find_model(checkpoint, "checkpoint")
    model, tokenizer = open_policy(checkpoint, "checkpoint", attn_implementation="eager")
    template = read_template(folder)
    assert template is not None
    policy = Policy(model.eval(), tokenizer, template, read_temperature(folder))
    asked = rejection_questions(Arithmetic(template=template).rows("test", size, seed=0))
    generations = generate(policy, [prompt for prompt, _ in asked], max_new_tokens=56, batch_size=250, title=None)
    options = {"reduction": "mean"} if estimator == "answer_probability" else {}
    read = estimate_generations(policy, generations, {estimator: ESTIMATORS[estimator](**options)}, batch_size=250)
    estimate = read[estimator]
    confidence = np.where(estimate.valid_B.numpy(), estimate.values_B.numpy(), 0.0)
    answerable = np.array([float(each) for _, each in asked])
    values = rejection(confidence, answerable)
    interval = bootstrap(auroc, confidence, answerable, resamples=500)
    shown = "  ".join(f"{key} {value:.3f}" for key, value in values.items() if key != "auroc")
    area = f"{interval.value:.3f} ({interval.low:.3f}-{interval.high:.3f})"
    print(f"{name:24} rejection of {len(asked)}: AUROC {area}  {shown}", flush=True)


if __name__ == "__main__":
    main()
