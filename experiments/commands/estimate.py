"""``candor estimate``: every confidence that can be read off completions, as records and as a table of metrics."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.commands.overrides import settle_checkpoint
from experiments.commands.probe import checkpoint_recipe
from experiments.commands.terminal import Terminal
from experiments.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from experiments.probe.measure import Metrics

_SHOWN = ("auroc", "brier", "ece", "unparsed")

HELP = "read estimators off a checkpoint's completions, or off recorded log-probabilities"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    parser.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT", help="a folder, a shipped policy or a hub name")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="such as probe.size=500, probe.samples=8; for a checkpoint"
    )
    parser.add_argument(
        "--completions", type=Path, metavar="FILE", help="parquet or JSONL of prompt, gold, completion, logprobs"
    )
    parser.add_argument(
        "--estimators", metavar="NAME,...", help="which; if left out all that the source can give, and the recipe's"
    )
    parser.add_argument("--recipe", help="task and probe settings for a checkpoint that carries no recipe")
    parser.add_argument("--verifier", default="math", help="what judges recorded completions (default math)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for records.parquet")


def run(options: argparse.Namespace) -> int:
    """Estimate, write the records and print the metrics of each estimator."""
    from experiments.files import writable
    from experiments.probe.measure import measure, write_metrics
    from experiments.probe.records import write_records

    settle_checkpoint(options)
    if (options.checkpoint is None) == (options.completions is None):
        raise ConfigError("estimate: expected one of CHECKPOINT and --completions FILE")
    out = writable(options.out)
    if options.completions is not None:
        if options.recipe or options.overrides:
            raise ConfigError("estimate: --recipe and key=value are for a checkpoint, not for --completions")
        frame = _recorded(options.completions, _asked_for(options.estimators), options.verifier)
    else:
        frame = _of_checkpoint(options)
    write_records(frame, out / "records.parquet")
    metrics = measure(frame)
    write_metrics(metrics, out / "metrics.json")
    _print(metrics)
    print(out / "records.parquet")
    return 0


def _print(metrics: Metrics) -> None:
    """Print a row an estimator: there are many of them, and few of the metrics tell them apart."""
    from rich.table import Table

    from experiments.report.glossary import interval_text, shown_entry, shown_metrics, value_text

    shown = [each for each in shown_metrics(metrics) if each.key in _SHOWN]
    table = Table("estimator", *(f"{each.label} {each.arrow}" for each in shown), box=None, header_style="bold")
    for name, entries in metrics.items():
        found = [(metric, shown_entry(metric, entries)) for metric in shown]
        table.add_row(name, *(f"{value_text(m, e['value'])}  {interval_text(m, e) or ''}" for m, e in found))
    Terminal(width=200).print(table)


def _asked_for(names: str | None) -> list[str] | None:
    """The estimators of a comma-separated list. Raises ConfigError for none, an unknown one and one twice."""
    from estimators import ESTIMATORS
    from experiments.schema import some_of

    if names is None:
        return None
    return some_of("--estimators", [name.strip() for name in names.split(",") if name.strip()], ESTIMATORS)


def _of_checkpoint(options: argparse.Namespace) -> pd.DataFrame:
    from estimators import ESTIMATORS
    from estimators.critic import has_critic
    from estimators.estimator import CRITIC, LEVELS, SAMPLES, TOKEN_STATISTICS
    from experiments.config.recipe import VERBALIZED
    from experiments.probe.checkpoint import probe_checkpoint
    from experiments.schema import from_mapping

    recipe = checkpoint_recipe(options.checkpoint, options.recipe, options.overrides)
    given = {TOKEN_STATISTICS} | ({LEVELS} if recipe.template.levels else set())
    given |= {SAMPLES} if recipe.probe.samples else set()
    given |= {CRITIC} if has_critic(options.checkpoint) else set()
    names: Sequence[str] = _asked_for(options.estimators) or [
        name for name, kind in ESTIMATORS.items() if kind.needs <= given or name in recipe.estimators
    ]
    estimators = {
        name: recipe.estimators.get(name) or from_mapping(ESTIMATORS[name], {}, f"estimators.{name}")
        for name in names
        if name != VERBALIZED
    }
    # What compares samples is to have a value of every question.
    settings = dataclasses.replace(recipe.probe, sampled_size=recipe.probe.size)
    recipe = dataclasses.replace(recipe, estimators=estimators, probe=settings)
    with recipe.task.open_verifier() as verifier:
        frame = probe_checkpoint(
            options.checkpoint,
            recipe,
            "checkpoint",
            verifier,
            confidence=names[0],
            others=names[1:],
            sampled=False,
        )
    method = frame["method"].str.removeprefix("checkpoint_")
    return frame.assign(method=method.where(method != "checkpoint", names[0]))


def _recorded(path: Path, names: Sequence[str] | None, verifier: str) -> pd.DataFrame:
    import pandas as pd

    from estimators import ESTIMATORS
    from estimators.estimator import TOKEN_STATISTICS
    from experiments.config.recipe import VERBALIZED
    from experiments.probe.estimates import with_estimate
    from experiments.probe.recorded import check_recorded, estimate_recorded
    from experiments.probe.records import from_completions, read_completions
    from experiments.probe.tables import read_table
    from experiments.schema import one_of
    from rewards.template import AnswerTemplate
    from rewards.verifiers.pool import VERIFIERS, VerifierPool

    one_of("--verifier", verifier, [name for name, kind in VERIFIERS.items() if not kind.graded])
    names = names or [name for name, kind in ESTIMATORS.items() if kind.needs <= {TOKEN_STATISTICS}]
    template, completions = AnswerTemplate(analysis="optional"), read_completions(path)
    check_recorded({name: ESTIMATORS[name].needs for name in names})
    estimators = {name: ESTIMATORS[name]() for name in names}
    estimates = estimate_recorded(read_table(path), completions["completion"].tolist(), template, estimators)
    with VerifierPool(verifier, workers=2) as pool:
        stated = from_completions(completions, template, pool)
    frames = [
        (stated if name == VERBALIZED else with_estimate(stated, estimators[name], estimates[name])).assign(method=name)
        for name in names
    ]
    return pd.concat(frames, ignore_index=True)
