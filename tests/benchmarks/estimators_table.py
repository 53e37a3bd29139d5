"""Every estimator that applies to a checkpoint, and every vote over samples of it, as two tables with 95% intervals.

    python tests/benchmarks/estimators_table.py runs/candor/final [CHECKPOINT ...] --questions 2000 --samples 16

Of each checkpoint: a probe of validation questions gives the base rate and fits the hidden probe; ``candor estimate``
reads all estimators off one greedy completion of each test question (agreement off further samples); ``candor vote``
votes over samples of the same questions. Rows of several checkpoints (seeds of a run, say) are pooled: intervals of
estimators are over questions, each with its rows of all checkpoints; ranks are taken within a checkpoint. Votes count a
question once for each checkpoint. What a task or a tokenizer cannot give is left out: p_true and yes_no need the words,
the corpus an index, the critic a checkpoint of PPO.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from estimators import ESTIMATORS
from estimators.metrics.resampling import paired_difference
from estimators.metrics.selective import auroc
from experiments.cli import main as candor
from experiments.probe.measure import measure
from experiments.probe.samples import read_samples, write_samples
from experiments.probe.votes import VoteSettings, measure_votes

_BOUNDS = ("value", "low", "high")
STEPS, MEAN = "lowest_step_confidence", "mean_max_probability"
GROUPS = [name for name in ESTIMATORS if "window" in getattr(ESTIMATORS[name], "__dataclass_fields__", {})]


def main() -> None:
    """Run the commands, then print both tables as markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--validation", type=int, default=500, help="questions of base rate and hidden probe")
    parser.add_argument("--window", type=int, default=8, help="tokens of a group of DeepConf")
    parser.add_argument("--out", type=Path, default=Path("runs/estimators-table"))
    options = parser.parse_args()
    records, samples = [], []
    for number, checkpoint in enumerate(options.checkpoints):
        out = options.out / str(number)
        records.append(estimated(checkpoint, out, options))
        samples.append(sampled(checkpoint, out, options).assign(checkpoint=number))
    print(estimator_table(pd.concat(records, ignore_index=True)))
    print()
    print(vote_table(pd.concat(samples, ignore_index=True), options))


def ran(*command: Any) -> None:
    """A command of candor, which has to end well."""
    if candor([str(word) for word in command]) != 0:
        raise SystemExit(f"candor {' '.join(map(str, command))}")


def estimated(checkpoint: Path, out: Path, options: argparse.Namespace) -> pd.DataFrame:
    """Records of all estimators of a checkpoint."""
    validation = ["probe.split=validation", f"probe.size={options.validation}", "probe.samples=0"]
    ran("probe", checkpoint, *validation, "--out", out / "validation")
    told = pd.read_parquet(out / "validation" / "records.parquet")
    rate = told.loc[told["method"] == "checkpoint", "correct"].mean()
    place = ["--position", "answer", "--layers", "-1"]
    path = out / "validation" / "records.parquet"
    ran("hidden-probe", "fit", checkpoint, "--records", path, *place, "--out", out / "hidden")
    given = [f"estimators.hidden_probe.path={out / 'hidden'}", f"estimators.base_rate.rate={rate:.4f}"]
    given += [f"estimators.{name}.window={options.window}" for name in GROUPS]
    ran("estimate", checkpoint, *sized(options), *given, "--out", out / "estimate")
    return pd.read_parquet(out / "estimate" / "records.parquet")


def sampled(checkpoint: Path, out: Path, options: argparse.Namespace) -> pd.DataFrame:
    """Samples of a checkpoint, with trial answers."""
    ran("vote", checkpoint, *sized(options), "--trials", "--window", options.window, "--out", out / "vote")
    return pd.read_parquet(out / "vote" / "samples.parquet")


def sized(options: argparse.Namespace) -> Sequence[str]:
    """The questions that are asked, and how often."""
    size, samples = options.questions, options.samples
    return [f"probe.size={size}", f"probe.sampled_size={size}", f"probe.samples={samples}"]


def estimator_table(records: pd.DataFrame) -> str:
    """A row an estimator, by its AUROC; the lowest step against the mean over tokens below it."""
    metrics = measure(records)
    rows = sorted(metrics.items(), key=lambda each: -(each[1]["auroc"]["value"] or 0.0))
    lines = ["| estimator | AUROC | Brier | ECE | not read |", "| --- | --- | --- | --- | --- |"]
    for name, entries in rows:
        cells = [interval(entries.get(key)) for key in ("auroc", "brier", "ece")]
        lines.append(f"| `{name}` | {' | '.join(cells)} | {entries['unparsed']['value']:.1%} |")
    by = {name: rows.reset_index(drop=True) for name, rows in records.groupby("method")}
    steps, mean = by[STEPS], by[MEAN]
    judged = steps["correct"].notna()
    columns = [[each.loc[judged, "confidence"], each.loc[judged, "correct"]] for each in (steps, mean)]
    gain = paired_difference(auroc, *columns, groups=steps.loc[judged, "question_id"].tolist())
    said = f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
    accuracy = interval(metrics[MEAN]["accuracy"])
    return "\n".join([*lines, "", f"Accuracy {accuracy}; AUROC of `{STEPS}` less that of `{MEAN}`, paired: {said}."])


def interval(entry: dict[str, Any] | None, sign: str = "") -> str:
    """A value with its bounds; a dash where there is none."""
    if entry is None or entry["value"] is None:
        return "-"
    bounds = "" if entry["low"] is None else f" ({entry['low']:{sign}.3f}-{entry['high']:{sign}.3f})"
    return f"{entry['value']:{sign}.3f}{bounds}"


def vote_table(samples: pd.DataFrame, options: argparse.Namespace) -> str:
    """A row a plan: what it gets right, against the full vote, and what it saves of its tokens."""
    ids = samples["checkpoint"].astype(str) + "/" + samples["question_id"]
    path = write_samples(samples.assign(question_id=ids).drop(columns="checkpoint"), options.out / "samples.parquet")
    warmup = min(max(options.samples // 4, 2), 16)
    measured = measure_votes(read_samples(path), VoteSettings(options.window, options.samples, warmup))
    (options.out / "votes.json").write_text(json.dumps(measured, indent=2), encoding="utf-8")
    lines = ["| plan | accuracy | to full vote, points | tokens | saved |", "| --- | --- | --- | --- | --- |"]
    for name, row in measured.items():
        saved = percent(row["saved"])
        difference = percent(row["difference"], "+")
        tokens = f"{row['tokens']['value']:,.0f}"
        lines.append(f"| {name} | {percent(row['accuracy'])} | {difference} | {tokens} | {saved} |")
    return "\n".join(lines)


def percent(entry: dict[str, Any], sign: str = "") -> str:
    """A share in per cent, with its bounds."""
    if entry["value"] is None:
        return "-"
    value, low, high = (None if entry[key] is None else f"{100 * entry[key]:{sign}.1f}" for key in _BOUNDS)
    return f"{value}" if low is None else f"{value} ({low} to {high})"


if __name__ == "__main__":
    main()
