"""What a trained confidence is worth to a router, over the seeds of a study, against what needs no such training.

``python tests/benchmarks/routing_seeds.py runs/seeds`` takes the folder of ``candor ablate seeds`` (``runs/after
--trained candor_after --control rlvr_on`` that of ``after``): the answers of its final policies to the test questions,
with each of their confidences and the large policy's verdicts. Routers that see the prompt alone are fitted on half of
the questions, everything is measured on the other half. Prints, for each way to choose what is escalated, the accuracy
of the pair with a share of the questions escalated, and the mean over all shares; then the first one's lead over each
other, seed by seed. Means over seeds with 95% t-intervals. Of the routers on the prompt the best one is shown, chosen
on the measured half, which flatters it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from estimators.metrics.resampling import student
from estimators.metrics.routing import routing_curve
from experiments.ablation.settings import in_a_name
from experiments.routing.outcomes import read_outcomes, routed_records
from experiments.routing.routers import ROUTERS, TfidfVectors

SHARES = (0.1, 0.2, 0.4, 0.6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, metavar="DIR")
    parser.add_argument("--trained", default="candor", help="the variant whose confidence is trained")
    parser.add_argument("--control", default="rlvr", help="the variant it is compared with")
    options = parser.parse_args()
    names = (options.trained, options.control)
    if not (options.study / "summary.json").is_file():
        parser.error(f"{options.study}: holds no summary.json; is it the folder of a study that has ended?")
    by_seed = [dict(measured(folders)) for folders in reported(options.study, names)]
    if not by_seed:
        parser.error(f"{options.study}: no seed of which {' and '.join(names)} have both been measured")
    heads = ["escalates by", *(f"{share:.0%}" for share in SHARES), "mean over shares"]
    show(heads, {name: np.array([each[name] for each in by_seed]) for name in by_seed[0]}, signed=False)
    first = next(iter(by_seed[0]))
    rest = {name: np.array([each[first] - each[name] for each in by_seed]) for name in by_seed[0] if name != first}
    show([f"{first} less", *heads[1:]], rest, signed=True)


def reported(study: Path, names: tuple[str, str]) -> list[dict[str, Path]]:
    """For each seed that is reported, the folders of both variants' runs at the settings that were chosen for them."""
    variants = json.loads((study / "summary.json").read_text(encoding="utf-8"))["variants"]
    at = {name: study / name / (in_a_name(variants[name]["setting"] or {}) or "only") for name in names}
    found = [set(variants[name].get("accuracy", {"seeds": {}})["seeds"]) for name in at]
    return [{name: at[name] / f"seed-{seed}" for name in at} for seed in sorted(found[0] & found[1])]


def measured(folders: dict[str, Path]) -> Iterator[tuple[str, np.ndarray]]:
    """Name -> the pair's accuracy at each of ``SHARES`` and over all shares; the first variant is the trained one."""
    for place, (variant, folder) in enumerate(folders.items()):
        path = folder / "records.parquet"
        records = routed_records(read_outcomes(path), TfidfVectors)
        curves = {
            str(method): accuracy_at(
                *(rows[each].to_numpy(float) for each in ("confidence", "correct", "large_correct"))
            )
            for method, rows in records.groupby("method", sort=False)
        }
        trained = place == 0
        said = "its trained confidence" if trained else "temperature-scaled answer probability"
        yield f"{variant}, {said}", curves["probe" if trained else "probe_answer_probability_temperature"]
        if trained:
            yield f"{variant}, its own answer probability", curves["probe_answer_probability"]
        best = max((name for name in ROUTERS if name != "base_rate"), key=lambda name: curves[name][-1])
        yield f"{variant}, best of {len(ROUTERS) - 1} routers on the prompt", curves[best]
        yield f"{variant}, by lot", curves["base_rate"]


def accuracy_at(confidence: np.ndarray, small: np.ndarray, large: np.ndarray) -> np.ndarray:
    """Accuracy of the pair at each of ``SHARES`` and the mean over all; ties are escalated by lot."""
    curve = routing_curve(confidence, small, large)
    points = np.interp(SHARES, curve.rate, curve.accuracy)
    return np.append(points, np.trapezoid(curve.accuracy, curve.rate))


def show(heads: list[str], rows: dict[str, np.ndarray], *, signed: bool) -> None:
    """A table of means over seeds."""
    print("|", " | ".join(heads), "|\n|" + " --- |" * len(heads))
    form = "+.3f" if signed else ".3f"
    for name, values in rows.items():
        cells = [student(column, bounds=(-1.0, 1.0)) for column in values.T]
        print(
            "|",
            " | ".join([name, *(f"{each.value:{form}} ({each.low:{form}} to {each.high:{form}})" for each in cells)]),
            "|",
        )
    print()


if __name__ == "__main__":
    main()
