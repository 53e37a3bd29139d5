"""``candor hidden-probe``: a classifier on a checkpoint's hidden states, fitted to its records."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.commands.numbers import seed
from experiments.errors import ConfigError

HELP = "fit a classifier on hidden states to the records of a checkpoint"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    fit = actions.add_parser("fit", help="fit one; candor probe CHECKPOINT estimators.hidden_probe.path=DIR uses it")
    fit.add_argument("checkpoint", metavar="CHECKPOINT", help="a folder or a shipped policy")
    fit.add_argument("--records", type=Path, required=True, metavar="FILE", help="records.parquet of a probe of it")
    fit.add_argument("--position", default="answer", help="prompt, answer (default) or confidence")
    fit.add_argument("--layers", default="-1", help="numbers, 0 the embeddings, -1 the last (default): 2,-1")
    fit.add_argument("--kind", default="linear", help="linear (default) or mlp")
    fit.add_argument("--recipe", help="task of a checkpoint that carries no recipe")
    fit.add_argument("--seed", type=seed, default=0, help="what is held out, and how the fit starts (default 0)")
    fit.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the hidden probe")


def run(options: argparse.Namespace) -> int:
    """Fit it and say how it did on what was held out."""
    from estimators.hidden_probe import KINDS
    from estimators.hidden_states import POSITIONS
    from experiments.commands.probe import checkpoint_recipe
    from experiments.config.models import find_model
    from experiments.files import writable
    from experiments.probe.hidden import fit_from_records
    from experiments.probe.records import read_records
    from experiments.schema import one_of

    position = one_of("--position", options.position, POSITIONS)
    kind = one_of("--kind", options.kind, KINDS)
    recipe = checkpoint_recipe(options.checkpoint, options.recipe, [])
    folder = find_model(options.checkpoint, "hidden-probe")
    layers = layer_numbers(options.layers, folder)
    out = writable(options.out)
    try:
        facts, left = fit_from_records(
            folder, recipe, read_records(options.records), out,
            position=position, layers=layers, kind=kind, seed=options.seed,
        )  # fmt: skip
    except ValueError as error:
        raise error if isinstance(error, ConfigError) else ConfigError(str(error)) from error
    print(
        f"{out}: {facts.kind} on {facts.position}, layers {', '.join(map(str, facts.layers))}: {facts.records} records"
        f"{f', {left} left out' if left else ''}; log-loss {facts.held_out_log_loss:.4f} on {facts.held_out} held out, "
        f"{facts.base_log_loss:.4f} of their base rate"
    )
    return 0


def layer_numbers(text: str, folder: str | Path) -> tuple[int, ...]:
    """Layers by number, negative ones from the last. Raises ConfigError for what is no number of one, or is twice."""
    from transformers import AutoConfig

    count = AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config().num_hidden_layers
    layers = []
    for each in text.split(","):
        try:
            number = int(each)
        except ValueError:
            raise ConfigError(f"--layers: {each!r} is not a number, expected some of 0 to {count}: 2,-1") from None
        if not -count - 1 <= number <= count:
            raise ConfigError(f"--layers: {number} is missing, the model has 0 to {count}, -1 being the last")
        if number % (count + 1) in layers:
            raise ConfigError(f"--layers: {text} has layer {number} twice, expected each once")
        layers.append(number % (count + 1))
    return tuple(layers)
