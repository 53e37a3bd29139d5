"""``candor abstain``: does a model decline what it cannot answer, in words or by a threshold, and only that?"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from experiments.commands.numbers import seed
from experiments.commands.overrides import settle_checkpoint
from experiments.commands.terminal import print_table
from experiments.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

HELP = "measure abstention: questions without an answer, options without the right one"

FIGURES = (
    *("auroc", "recall", "precision", "f1", "over_abstention", "under_abstention", "accuracy_answered"),
    "truthfulness",
)
REJECTION = ("auroc_intact", "auroc_control", "rejected_at_fpr_0.1_intact", "rejected_at_fpr_0.1_control")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    measured = actions.add_parser("measure", help="what is declined against what should be")
    measured.add_argument(
        "checkpoint", nargs="?", metavar="CHECKPOINT", help="a folder, a shipped policy or a hub name"
    )
    measured.add_argument(
        "--records",
        action="append",
        type=Path,
        metavar="FILE",
        help="records of a probe: gold, answer, confidence; given again, policies to compare under one threshold",
    )
    measured.add_argument("--method", action="append", metavar="NAME", help="method of --records, one for all or each")
    measured.add_argument("--threshold", type=float, metavar="C", help="decline below this (chosen on half of them)")
    measured.add_argument(
        "--word", action="append", metavar="TEXT", help="gold and answer that decline (unknown); may be given again"
    )
    options = actions.add_parser("options", help="options without the right one, and without a wrong one")
    options.add_argument("checkpoint", metavar="CHECKPOINT", help="a folder, a shipped policy or a hub name")
    options.add_argument("--questions", type=Path, metavar="FILE", help="JSONL of question, choices, answer")
    for each in (measured, options):
        each.add_argument("overrides", nargs="*", metavar="key=value", help="such as probe.size=500; for a checkpoint")
        each.add_argument("--recipe", help="task and probe settings for a checkpoint that carries no recipe")
        each.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for what is measured")
        each.add_argument("--seed", type=seed, default=0, help="seed of the bootstrap (default 0)")
    pairs = actions.add_parser("pairs", help="GSM8K problems, each also without a sentence that it needs")
    pairs.add_argument("problems", type=Path, metavar="FILE", help="GSM8K as JSONL of question, answer")
    pairs.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSONL for the task dataset")
    pairs.add_argument("--seed", type=seed, default=0, help="seed of what is deleted (default 0)")


def run(options: argparse.Namespace) -> int:
    """Do what was asked and print what was seen."""
    return {"measure": _measure, "options": _options, "pairs": _pairs}[options.action](options)


def _measure(options: argparse.Namespace) -> int:
    import pandas as pd

    from experiments.files import writable
    from experiments.probe.abstain import measure_abstention
    from experiments.probe.measure import write_metrics
    from experiments.probe.records import read_records, write_records
    from experiments.routing.tiers import read_tiers

    settle_checkpoint(options)
    if options.checkpoint is not None and options.records is not None:
        raise ConfigError(
            f"abstain measure: {options.checkpoint} beside --records; a checkpoint has none, and further records need "
            "a --records each"
        )
    if options.checkpoint is None and options.records is None:
        raise ConfigError("abstain measure: expected one of CHECKPOINT, --records FILE")
    if options.records is not None and (options.recipe or options.overrides):
        raise ConfigError("abstain measure: --recipe and key=value are for a checkpoint, not for --records")
    if options.records is None and options.method:
        raise ConfigError("abstain measure: --method is for --records, not for a checkpoint")
    words = options.word or ["unknown"]
    if not all(word.strip() for word in words):
        raise ConfigError("--word: is empty, expected a gold that declines, such as unknown")
    if options.threshold is not None and not 0.0 <= options.threshold <= 1.0:
        raise ConfigError(f"--threshold: {options.threshold} is not from 0 to 1")
    together = options.records is not None and len(options.records) > 1
    if options.records is None:
        out = writable(options.out)
        records = _probed(options)
        write_records(records, out / "records.parquet")
    elif together or options.method:
        tiers = read_tiers(options.records, options.method or (), judged=False)
        if tiers[0].records.empty:
            raise DataError(f"{', '.join(map(str, options.records))}: no question is in all of them")
        records = pd.concat([each.records.assign(method=each.name) for each in tiers], ignore_index=True)
        out = writable(options.out)
    else:
        records, out = read_records(options.records[0]), writable(options.out)
    measured = measure_abstention(records, words, together=together, threshold=options.threshold, seed=options.seed)
    write_metrics(measured, out / "abstention.json")
    print_table(_table(measured, FIGURES, "method: how it declines"))
    print(out / "abstention.json")
    return 0


def _probed(options: argparse.Namespace) -> pd.DataFrame:
    from experiments.commands.probe import checkpoint_recipe
    from experiments.probe.checkpoint import other_estimators, probe_checkpoint

    recipe = checkpoint_recipe(options.checkpoint, options.recipe, options.overrides)
    with recipe.task.open_verifier() as verifier:
        return probe_checkpoint(
            options.checkpoint,
            recipe,
            "checkpoint",
            verifier,
            confidence=recipe.probe.confidence,
            others=other_estimators(recipe),
            sampled=False,
        )


def _options(options: argparse.Namespace) -> int:
    from experiments.commands.probe import checkpoint_recipe
    from experiments.files import writable
    from experiments.probe.checkpoint import open_checkpoint, probe_rows
    from experiments.probe.measure import write_metrics
    from experiments.probe.options import (
        choices_of_facts,
        confidences,
        measure_rejection,
        option_log_probs,
        read_choices,
    )
    from experiments.tasks.facts import Facts

    recipe = checkpoint_recipe(options.checkpoint, options.recipe, options.overrides)
    if options.questions is not None:
        choices = read_choices(options.questions)
    elif isinstance(recipe.task, Facts):
        choices = choices_of_facts(probe_rows(recipe), seed=options.seed)
    else:
        raise ConfigError("abstain options: its task has no options (facts has); name a file: --questions FILE")
    out = writable(options.out)
    policy = open_checkpoint(options.checkpoint, recipe, "abstain options")
    tables = confidences(option_log_probs(policy, choices, recipe.probe.batch_size), seed=options.seed)
    measured = measure_rejection(tables, [each.item for each in choices], seed=options.seed)
    write_metrics(measured, out / "options.json")
    print_table(_table(measured, (*REJECTION, "accuracy"), "confidence in the best option"))
    print(out / "options.json")
    return 0


def _pairs(options: argparse.Namespace) -> int:
    import json

    from experiments.files import writable_file
    from experiments.probe.tables import read_jsonl
    from experiments.tasks.unanswerable import paired_rows
    from rl.files import write_text

    out = writable_file(options.out)
    rows, places = read_jsonl(options.problems)
    for row, place in zip(rows, places, strict=True):
        if not all(isinstance(row.get(key), str) for key in ("question", "answer")):
            raise DataError(f"{options.problems}, {place}: expected the texts question and answer")
    names = (f"{options.problems.stem}-{place.removeprefix('line ')}" for place in places)
    made = list(paired_rows(zip(names, rows, strict=True), seed=options.seed))
    if not made:
        raise DataError(f"{options.problems}: no problem has a sentence that its worked solution shows to be needed")
    write_text(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made))
    print(f"{out}: {len(made) // 2} pairs of {len(rows)} problems")
    return 0


def _table(measured: Mapping[str, Mapping[str, Any]], figures: Sequence[str], first: str) -> Table:
    from experiments.report.glossary import plain

    count = next(iter(measured.values()))[figures[-1]]["n"]
    caption = f"{count} rows; 95% intervals over questions"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=caption, caption_justify="left")
    table.add_column(first, min_width=12)
    for figure in figures:
        table.add_column(figure.replace("_", " "), justify="right", min_width=11)
    for name, row in measured.items():
        table.add_row(plain(name, 80), *(_cell(row.get(figure, {"value": None})) for figure in figures))
    return table


def _cell(entry: Mapping[str, Any]) -> str:
    if entry["value"] is None:
        return "-"
    bounds = "" if entry["low"] is None else f"\n{entry['low']:.3f}\N{EN DASH}{entry['high']:.3f}"
    return f"{entry['value']:.3f}{bounds}"
