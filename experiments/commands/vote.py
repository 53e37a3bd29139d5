"""``candor vote``: what voting over several traces and stopping them early gives, and what it saves."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from experiments.commands.numbers import seed
from experiments.commands.overrides import settle_checkpoint
from experiments.commands.terminal import print_table
from experiments.errors import ConfigError
from experiments.files import writable

if TYPE_CHECKING:
    from experiments.probe.samples import Question

HELP = "compare votes over several traces, and rules that stop them early"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    parser.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT", help="a folder, a shipped policy or a hub name")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as probe.samples=16; for a checkpoint")
    parser.add_argument("--samples", type=Path, metavar="FILE", help="parquet or JSONL of samples drawn before")
    parser.add_argument("--recipe", help="task and probe settings for a checkpoint that carries no recipe")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for samples and votes.json")
    parser.add_argument("--trials", action="store_true", help="draw a trial answer where a step of a thought ends too")
    parser.add_argument("--window", type=int, default=2048, help="tokens of a group of DeepConf (default 2048)")
    parser.add_argument("--budget", type=int, help="traces of a question (default: as many as all questions have)")
    parser.add_argument("--warmup", type=int, help="traces before DeepConf's consensus (default: a quarter)")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the bootstrap (default 0)")


def run(options: argparse.Namespace) -> int:
    """Draw or read samples, vote on them in every way, and print what each gives and costs."""
    from experiments.probe.measure import write_metrics
    from experiments.probe.samples import read_samples
    from experiments.probe.votes import VoteSettings, measure_votes

    settle_checkpoint(options)
    if (options.checkpoint is None) == (options.samples is None):
        raise ConfigError("vote: expected one of CHECKPOINT, --samples FILE")
    if options.samples is not None and (options.recipe or options.overrides or options.trials):
        raise ConfigError("vote: --recipe, --trials and key=value are for a checkpoint, not for --samples")
    for name, value in (("--window", options.window), ("--budget", options.budget), ("--warmup", options.warmup)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}, expected a whole number of at least 1")
    out = writable(options.out)
    path = options.samples or _draw(options, out)
    questions = read_samples(path)
    budget = options.budget or min(len(each.traces) for each in questions)
    warmup = options.warmup or min(max(budget // 4, 2), 16)
    measured = measure_votes(questions, VoteSettings(options.window, budget, warmup, seed=options.seed))
    write_metrics(measured, out / "votes.json")
    print_table(_table(measured, budget))
    for notice in _notices(questions, options.window):
        print(notice)
    print(out / "votes.json")
    return 0


def _draw(options: argparse.Namespace, out: Path) -> Path:
    from estimators.online.sampling import lowest_group
    from estimators.online.thresholds import (
        HIGH_SHARE,
        LOW_SHARE,
        Identity,
        Thresholds,
        keeping,
        model_fingerprint,
        tokenizer_fingerprint,
    )
    from experiments.commands.probe import checkpoint_recipe
    from experiments.probe.samples import read_samples, write_samples
    from experiments.probe.sampling import sample_checkpoint

    recipe = checkpoint_recipe(options.checkpoint, options.recipe, options.overrides)
    with recipe.task.open_verifier() as verifier:
        samples, policy = sample_checkpoint(options.checkpoint, recipe, verifier, trials=options.trials)
    path = write_samples(samples, out / "samples.parquet")
    lowest = [lowest_group(trace, options.window) for question in read_samples(path) for trace in question.traces]
    definition = f"lowest group of token_confidence, window {options.window}, top 20, temperature 1"
    identity = Identity(model_fingerprint(policy.model), tokenizer_fingerprint(policy.tokenizer), definition)
    values = {"low": keeping(lowest, LOW_SHARE), "high": keeping(lowest, HIGH_SHARE)}
    Thresholds(identity, values, traces=len(lowest)).save(out / "thresholds.json")
    return path


def _table(measured: Mapping[str, Mapping[str, Any]], budget: int) -> Table:
    first = next(iter(measured.values()))
    caption = f"{first['accuracy']['n']} questions, {budget} traces each; 95% intervals over questions"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=caption, caption_justify="left")
    widths = {"plan": 32, "accuracy": 12, "to full vote": 14, "tokens": 6, "saved": 12, "traces": 6, "given up": 8}
    for column, width in widths.items():
        table.add_column(column, justify="left" if column == "plan" else "right", min_width=width)
    for name, row in measured.items():
        table.add_row(
            name,
            f"{_share(row['accuracy']['value'])}\n{_bounds(row['accuracy'])}",
            f"{_share(row['difference']['value'], '+')}\n{_bounds(row['difference'], '+')}",
            f"{row['tokens']['value']:,.0f}",
            f"{_share(row['saved']['value'])}\n{_bounds(row['saved'])}",
            f"{row['traces']['value']:.1f}",
            f"{row['stopped']:.0%}",
        )
    return table


def _share(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.1%}"


def _bounds(entry: Mapping[str, Any], sign: str = "") -> str:
    if entry["low"] is None:
        return ""
    return f"{100 * entry['low']:{sign}.1f} to {100 * entry['high']:{sign}.1f}"


def _notices(questions: list[Question], window: int) -> list[str]:
    lengths = [len(trace.confidences_T) for question in questions for trace in question.traces]
    short = sum(length < window for length in lengths)
    if not short:
        return []
    return [
        f"{short:,} of {len(lengths):,} traces are shorter than the window of {window}: none of these can be given up, "
        "and their lowest group is their mean (--window)"
    ]
