"""A variant of one study less a variant of another that had the same seeds and asked the same test questions.

    python tests/benchmarks/between_studies.py experiments/results/after candor_after experiments/results/seeds rlvr

Final policies on test questions, each read by its recipe's own confidence, or by ``--read METHOD METHOD``: means of
both and the mean difference, seed by seed, with 95% t-intervals over seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from experiments.ablation.study import MEASURED
from experiments.ablation.summary import over_seeds, paired

BySeed = dict[int, float | None]


def main() -> None:
    """Read both, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for which in ("", "other_"):
        parser.add_argument(f"{which}study", type=Path)
        parser.add_argument(f"{which}variant")
    parser.add_argument("--read", nargs=2, metavar="METHOD", default=(None, None))
    given = parser.parse_args()
    one = final(given.study, given.variant, given.read[0])
    two = final(given.other_study, given.other_variant, given.read[1])
    print(f"| | {given.variant} | {given.other_variant} | difference |\n| --- | --- | --- | --- |")
    for metric in MEASURED:
        cells = (over_seeds(one[metric]), over_seeds(two[metric]), paired(one[metric], two[metric]))
        print(f"| {metric} | {' | '.join('{value:.3f} ({low:.3f} to {high:.3f})'.format(**each) for each in cells)} |")


def final(study: Path, variant: str, method: str | None) -> dict[str, BySeed]:
    """Metric -> seed -> value of the final policies that a study reports, as its ``results.parquet`` has them."""
    rows = pd.read_parquet(study / "results.parquet")
    rows = rows[(rows["variant"] == variant) & (rows["role"] == "reporting") & (rows["split"] == "test")]
    if rows.empty:
        raise SystemExit(f"{study}: reports no variant {variant!r}")
    rows = rows[rows["method"] == (method or rows["method"].iloc[0])]
    return {metric: dict(zip(part["seed"], part["value"], strict=True)) for metric, part in rows.groupby("metric")}


if __name__ == "__main__":
    main()
