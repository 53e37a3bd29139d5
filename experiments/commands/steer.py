"""``candor steer``: a direction in a checkpoint's hidden states that is read off its thoughts, and steering by it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.commands.numbers import seed
from experiments.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from experiments.probe.steering import Writing

HELP = "steer thoughts by the confidence of their steps (ReBalance), beside its controls"
_CONTROLS = ("balance", "constant", "random")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    extract = actions.add_parser("extract", help="fit a steering vector to what a checkpoint writes")
    run_ = actions.add_parser("run", help="answer questions unsteered, steered and by the controls")
    for each in (extract, run_):
        each.add_argument("checkpoint", metavar="CHECKPOINT", help="a folder, a shipped policy or a hub name")
        each.add_argument("overrides", nargs="*", metavar="key=value", help="such as probe.size=500")
        each.add_argument("--recipe", help="task and probe settings for a checkpoint that carries no recipe")
        each.add_argument("--temperature", type=float, default=0.0, help="0 (default) writes greedily")
        each.add_argument("--prefix", default="", metavar="TEXT", help="what every answer begins with, as <think>")
        each.add_argument("--seed", type=seed, default=0, help="seed of what is sampled or drawn (default 0)")
        each.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for what is written")
    extract.add_argument("--split", default="validation", help="split of the questions (default validation)")
    extract.add_argument("--questions", type=int, default=500, help="how many of them (default 500)")
    extract.add_argument("--layers", metavar="N,...", help="layers to choose from, -1 the last (default: all)")
    extract.add_argument(
        "--position", default="first", help="what is moved: first token of a step (default), separator"
    )
    extract.add_argument("--quantiles", default="0.25,0.75", metavar="LOW,HIGH", help="of confidence and variance")
    extract.add_argument("--labels", default="quantiles", help="of steps: quantiles (default), release, words")
    extract.add_argument("--lexicon", metavar="WORD,...", help="words of hesitation, for release and words")
    run_.add_argument("--steering", type=Path, required=True, metavar="DIR", help="what candor steer extract has made")
    run_.add_argument("--coefficients", default="0.5,1,2", metavar="X,...", help="multiples of the strengths")
    run_.add_argument("--controls", default=",".join(_CONTROLS), metavar="NAME,...", help="which (default all)")


def run(options: argparse.Namespace) -> int:
    """Extract a vector, or steer by one."""
    if not options.temperature >= 0:
        raise ConfigError(f"--temperature is {options.temperature}, expected a number of at least 0")
    return _extract(options) if options.action == "extract" else _run(options)


def _writing(options: argparse.Namespace) -> Writing:
    from experiments.probe.steering import Writing

    return Writing(options.temperature, options.prefix, options.seed)


def _extract(options: argparse.Namespace) -> int:
    from estimators.steering.extraction import LABELS, LEXICON
    from estimators.steering.vector import POSITIONS
    from experiments.commands.hidden_probe import layer_numbers
    from experiments.commands.probe import checkpoint_recipe
    from experiments.config.models import find_model
    from experiments.files import writable
    from experiments.probe.steering import ExtractSettings, extract_vector
    from experiments.schema import one_of

    position = one_of("--position", options.position, POSITIONS)
    low, high = _two_numbers("--quantiles", options.quantiles)
    if options.questions < 1:
        raise ConfigError(f"--questions is {options.questions}, expected a whole number of at least 1")
    labels = one_of("--labels", options.labels, LABELS)
    lexicon = [each.strip() for each in (options.lexicon or "").split(",") if each.strip()]
    if options.lexicon is not None and (labels == "quantiles" or not lexicon):
        raise ConfigError(f"--lexicon {options.lexicon!r}: expected words, with --labels release or --labels words")
    recipe = checkpoint_recipe(options.checkpoint, options.recipe, options.overrides)
    split = one_of("--split", options.split, recipe.task.splits)
    layers = None
    if options.layers is not None:
        layers = layer_numbers(options.layers, find_model(options.checkpoint, "steer"))
    out = writable(options.out)
    vector = extract_vector(
        options.checkpoint,
        recipe,
        ExtractSettings(
            split, options.questions, layers, position, (low, high), labels, lexicon or LEXICON, _writing(options)
        ),
    )
    vector.save(out)
    fits = ", ".join(f"{layer}: {value:.3f}" for layer, value in vector.fits.items())
    print(
        f"{out}: layer {vector.layer}{f' (R^2 by layer {fits})' if fits else ''}, {vector.over} over-thinking and "
        f"{vector.under} under-thinking of {vector.steps} steps, {vector.distance:.4f} apart; confidence "
        f"{vector.bounds.confidence_low:.4f} and {vector.bounds.confidence_high:.4f}, variance "
        f"{vector.bounds.variance_low:.3g} and {vector.bounds.variance_high:.3g}"
    )
    return 0


def _run(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from experiments.commands.probe import checkpoint_recipe
    from experiments.commands.terminal import print_table
    from experiments.files import writable
    from experiments.probe.measure import write_metrics
    from experiments.probe.records import write_records
    from experiments.probe.steering import CONTROLS, RunSettings, steer_checkpoint
    from experiments.schema import some_of

    coefficients = _numbers("--coefficients", options.coefficients)
    controls = some_of("--controls", [each.strip() for each in options.controls.split(",")], CONTROLS)
    recipe = checkpoint_recipe(options.checkpoint, options.recipe, options.overrides)
    out = writable(options.out)
    settings = RunSettings(coefficients, controls, _writing(options))
    with recipe.task.open_verifier() as verifier:
        records, measured, throughput = steer_checkpoint(
            options.checkpoint, recipe, options.steering, settings, verifier
        )
    write_records(records, out / "records.parquet")
    write_metrics({"methods": measured, "throughput": asdict(throughput)}, out / "steering.json")
    print_table(_table(measured))
    print(
        f"tokens a second against those without steering: {throughput.value:.3f}, "
        f"{throughput.low:.3f} to {throughput.high:.3f} in {throughput.n} pairs"
    )
    print(out / "records.parquet")
    return 0


def _numbers(name: str, text: str) -> list[float]:
    import math

    numbers = []
    for each in text.split(","):
        try:
            numbers.append(float(each))
        except ValueError:
            raise ConfigError(f"{name}: {each!r} is not a number, expected some: 0.5,1,2") from None
    if not all(map(math.isfinite, numbers)) or len(set(numbers)) < len(numbers):
        raise ConfigError(f"{name}: {text}, expected finite numbers, each once")
    return numbers


def _two_numbers(name: str, text: str) -> tuple[float, float]:
    numbers = _numbers(name, text)
    if len(numbers) != 2 or not 0 < numbers[0] < numbers[1] < 1:
        raise ConfigError(f"{name}: {text}, expected two numbers between 0 and 1, the lower one first: 0.25,0.75")
    return numbers[0], numbers[1]


_COLUMNS = {
    "accuracy": ("accuracy", 1),
    "accuracy_difference": ("to unsteered", 1),
    "tokens": ("tokens", 0),
    "tokens_change": ("change", 1),
    "step_confidence": ("step confidence", 2),
    "moved": ("moved", 0),
    "over_tokens_change": ("over-thinking: tokens", 1),
    "over_accuracy_difference": ("accuracy", 1),
}
"""Metric -> heading, and how it is shown: 0 a number, 1 a share, 2 to four places."""


def _table(measured: Mapping[str, Mapping[str, Any]]) -> Table:
    from rich import box
    from rich.table import Table

    first = next(iter(measured.values()))
    caption = (
        f"{first['accuracy']['n']} questions, {first['over_tokens_change']['n']} of them over-thought unsteered; "
        "95% intervals over questions"
    )
    table = Table("control", box=box.SIMPLE_HEAD, pad_edge=False, caption=caption, caption_justify="left")
    for heading, _ in _COLUMNS.values():
        table.add_column(heading, justify="right", min_width=12)
    for name, entries in measured.items():
        table.add_row(name, *(_cell(entries[metric], kind, metric) for metric, (_, kind) in _COLUMNS.items()))
    return table


def _cell(entry: Mapping[str, Any], kind: int, metric: str) -> str:
    if entry["value"] is None:
        return "-"
    sign = "+" if metric.endswith(("difference", "change")) else ""
    form = (f"{sign}.2f", f"{sign}.1%", ".4f")[kind]
    if entry["low"] is None:
        return format(entry["value"], form)
    low, high = (format(entry[each], form) for each in ("low", "high"))
    return f"{format(entry['value'], form)}\n{low} to {high}"
