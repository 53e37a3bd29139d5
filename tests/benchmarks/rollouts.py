r"""What the runs of a study measured on their own rollouts, for runs that ended before their held-out probe.

    candor ablate smollm2_terms --out runs/smollm2_terms --jobs 4
    python tests/benchmarks/rollouts.py runs/smollm2_terms --until 187 --out experiments/results/smollm2_terms

``steps.csv`` gets one row a step of every run. The table is of the last ``--last`` steps up to ``--until``, which every
run has to have reached: mean over seeds, lowest and highest seed. Brier is a mean over all these completions; ECE and
AUROC are means over steps of those of one batch, and ECE of a small batch is above 0 even where nothing is off. The
column "constant" is the Brier score of stating the accuracy every time, which is what temperature scaling can reach
where all answers state the same.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

COLUMNS = ("accuracy", "mean_confidence", "brier", "ece", "auroc")
STEPS, CURVES = "steps.csv", "curves.svg"


def read_steps(study: Path) -> pd.DataFrame:
    """Rows ``variant, seed, step, COLUMNS, seconds`` of every ``VARIANT/SETTING/seed-N/metrics.jsonl``."""
    rows = []
    for path in sorted(study.glob("*/*/seed-*/metrics.jsonl")):
        run = {"variant": path.parts[-4], "seed": int(path.parent.name.removeprefix("seed-"))}
        for line in path.read_text().splitlines():
            logged = json.loads(line)
            if "calibration/brier" in logged:
                values = {each: logged.get(f"calibration/{each}") for each in COLUMNS}
                rows.append(run | {"step": logged["step"]} | values | {"seconds": logged.get("step_time")})
    return pd.DataFrame(rows)


def table(steps: pd.DataFrame, *, until: int, last: int) -> str:
    """A row a variant in Markdown, of the runs that reached step ``until``."""
    reached = steps.groupby(["variant", "seed"])["step"].transform("max") >= until
    window = steps[reached & steps["step"].between(until - last + 1, until)]
    runs = window.groupby(["variant", "seed"])[list(COLUMNS)].mean()
    runs["constant"] = runs["accuracy"] * (1 - runs["accuracy"])
    lines = [f"| | runs | {' | '.join(runs.columns)} |", "| --- " * (len(runs.columns) + 2) + "|"]
    for variant, of_seeds in runs.groupby("variant"):
        cells = [
            f"{of_seeds[each].mean():.3f} ({of_seeds[each].min():.3f}-{of_seeds[each].max():.3f})" for each in runs
        ]
        lines.append(f"| `{variant}` | {len(of_seeds)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(steps: pd.DataFrame, path: Path, *, until: int) -> None:
    """Brier score and accuracy by step, mean over the seeds that reached a step, over ten steps."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, column in zip(panels, ("brier", "accuracy"), strict=True):
        for variant, rows in steps[steps["step"] <= until].groupby("variant"):
            by_step = rows.groupby("step")[column].mean().rolling(10, min_periods=5).mean()
            axes.plot(by_step.index, by_step, label=variant)
        axes.set(xlabel="step", ylabel=f"{column}, of the rollouts")
        axes.spines[["top", "right"]].set_visible(False)
    panels[1].legend(frameon=False, fontsize=8)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, help=f"folder of a study, or of a {STEPS}")
    parser.add_argument("--until", type=int, required=True)
    parser.add_argument("--last", type=int, default=30)
    parser.add_argument("--out", type=Path, help=f"folder for {STEPS} and {CURVES}")
    arguments = parser.parse_args()
    kept = arguments.study / STEPS
    steps = pd.read_csv(kept) if kept.exists() else read_steps(arguments.study)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        steps.round(4).to_csv(arguments.out / STEPS, index=False)
        draw(steps, arguments.out / CURVES, until=arguments.until)
    print(table(steps, until=arguments.until, last=arguments.last))


if __name__ == "__main__":
    main()
