"""One saved update made again, up to its gradient: ``candor replay RUN/failed_batch`` or ``RUN/batches/step-N``.

The update of all ranks is made on one process: what each of them averaged over its own share is averaged over all.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch.nn.utils import get_total_norm

from experiments.config.methods import METHODS
from experiments.config.models import open_weights
from experiments.config.recipe import Recipe, load_recipe
from experiments.errors import ConfigError
from experiments.probe.self_training import PREPARATIONS
from experiments.train import build_trainer, run_arguments, training_set
from rl.saved_batches import MicroBatch, read_micro_batches, set_random_states

_SHOWN = 8
"""Parameters and completions listed."""


@dataclass(frozen=True)
class Replayed:
    """What an update comes to when it is made again, beside what the run recorded of it."""

    recorded: dict[str, Any]
    loss: float
    grad_norm: float
    gradients: dict[str, float]
    """Parameter -> norm of its gradient."""
    completions: list[tuple[str, float]]
    """Text of each row and the loss of that row alone, in the order of the batch."""


def replay(folder: str | Path) -> Replayed:
    """Make a saved update again: forward, loss and backward, no optimizer step.

    Raises ConfigError where the folder holds no update, or its recipe's model or data are no longer there.
    """
    folder = Path(folder)
    if not (folder / "update.json").is_file() or not (folder / "recipe.yaml").is_file():
        raise ConfigError(f"replay {folder}: holds no update.json and recipe.yaml, expected a folder of a saved update")
    recorded = json.loads((folder / "update.json").read_text(encoding="utf-8"))
    recipe = load_recipe(str(folder / "recipe.yaml"))
    batches = [batch for rank in range(recorded["processes"]) for batch in read_micro_batches(folder, rank)]
    with tempfile.TemporaryDirectory() as scratch, recipe.task.open_verifier() as verifier:
        arguments = run_arguments(_on_one_process(recipe, recorded["processes"]), Path(scratch))
        arguments.report_to = []
        model, tokenizer = open_weights(recipe, recipe.model.path, "model.path")
        if recipe.method in PREPARATIONS:
            prepared = PREPARATIONS[recipe.method]
            prepared.ready(recipe, model, tokenizer)
            dataset = Dataset.from_list([prepared.example])
        else:
            dataset = training_set(recipe, arguments.seed)
        trainer = build_trainer(recipe, arguments, model, tokenizer, dataset, verifier)
        trainer._load_from_checkpoint(str(folder))
        trainer.state.global_step, trainer.state.max_steps = recorded["step"] - 1, recorded["max_steps"]
        trainer.guards = False
        return _update(trainer, batches, recorded)


def _on_one_process(recipe: Recipe, processes: int) -> Recipe:
    """The recipe with the batches of all its processes on one, so that they are made of whole groups."""
    name = "per_device_train_batch_size"
    size = recipe.trainer.get(name, getattr(METHODS[recipe.method].configuration(), name))
    return dataclasses.replace(recipe, trainer={**recipe.trainer, name: size * processes})


def _update(trainer: Any, batches: list[MicroBatch], recorded: dict[str, Any]) -> Replayed:
    trainer._prepare_inputs = lambda inputs: inputs  # they were prepared before they were saved
    trainer.current_gradient_accumulation_steps = recorded["accumulation"] * recorded["processes"]
    model = trainer.accelerator.prepare_model(trainer.model)
    device, loss = trainer.accelerator.device, 0.0
    for batch in batches:
        for name in ("num_items_in_batch", "num_values"):  # each process has divided by its share of them
            if name in batch.inputs:
                batch.inputs[name] = batch.inputs[name] / recorded["processes"]
        set_random_states(batch.random_states)
        loss += trainer.training_step(model, _on(batch.inputs, device), _moved(batch.num_items, device)).item()
    parameters = {name: each for name, each in model.named_parameters() if each.grad is not None}
    gradients = {name: each.grad.norm().item() for name, each in parameters.items()}
    norm = get_total_norm([each.grad for each in parameters.values()]).item()
    completions = []
    with torch.no_grad():
        for batch in batches:
            for text, row in _rows(trainer, batch.inputs):
                alone = trainer.compute_loss(
                    model, _on(row, device), num_items_in_batch=_moved(batch.num_items, device)
                )
                completions.append((text, alone.item()))
    return Replayed(recorded, loss, norm, gradients, completions)


def _rows(trainer: Any, inputs: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row of a micro-batch as a batch of one, with its text."""
    ids = inputs.get("completion_ids", inputs.get("input_ids"))
    for index in range(len(ids)):
        row = {
            name: value[index : index + 1] if isinstance(value, torch.Tensor) and value.dim() else value
            for name, value in inputs.items()
        }
        kept = ids[index][ids[index] != trainer.processing_class.pad_token_id]
        yield trainer.processing_class.decode(kept), row


def _on(inputs: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {name: _moved(value, device) for name, value in inputs.items()}


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, torch.Tensor) else value


def replay_page(replayed: Replayed) -> Group:
    """A replayed update for the terminal: the largest gradients and losses, those that are not numbers first."""
    recorded = replayed.recorded
    lines = [
        f"step {recorded['step']}, weights {recorded['weights']}: {recorded['reason'] or 'saved on request'}",
        f"loss {replayed.loss:.6g}, recorded {_recorded_loss(recorded)}",
        f"gradient norm {replayed.grad_norm:.6g}, recorded {_or_none(recorded['grad_norm'])}",
    ]
    gradients = Table("gradient norm", "parameter", box=None, header_style="bold")
    for name, norm in sorted(replayed.gradients.items(), key=lambda item: _size(item[1]), reverse=True)[:_SHOWN]:
        gradients.add_row(f"{norm:.4g}", Text(name))
    completions = Table("loss alone", "completion", box=None, header_style="bold")
    for text, loss in sorted(replayed.completions, key=lambda item: _size(item[1]), reverse=True)[:_SHOWN]:
        completions.add_row(f"{loss:.4g}", Text(text))
    broken = [name for name, norm in replayed.gradients.items() if not math.isfinite(norm)]
    lines.append(f"{len(broken)} of {len(replayed.gradients)} parameters have gradients that are not finite numbers")
    return Group(*map(Text, lines), Text(), gradients, Text(), completions)


def _recorded_loss(recorded: dict[str, Any]) -> str:
    """Sum over the micro-batches, as of the main process; nan where one is not a number."""
    return "nan" if None in recorded["loss"] else f"{sum(recorded['loss']):.6g}"


def _or_none(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"


def _size(value: float) -> float:
    return abs(value) if math.isfinite(value) else math.inf
