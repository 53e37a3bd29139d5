"""Updates and rollouts on disk, in safetensors and JSON: everything that a loss and its gradient depend on.

``update.json`` says which update it was and how it ended, ``recipe.yaml`` how it was configured; the weights lie beside
them as in a checkpoint; ``batch_RANK.safetensors`` and ``batch_RANK.json`` hold the micro-batches of each rank: tensors
in the one, numbers, texts and None in the other, the random state before each micro-batch with the tensors.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from rl.files import write_json


@dataclass(frozen=True)
class MicroBatch:
    """What one forward and backward pass of an update was given."""

    inputs: dict[str, Any]
    num_items: torch.Tensor | int | None
    random_states: dict[str, torch.Tensor]
    """Of torch, before the pass: ``cpu``, and ``cuda`` where there is one."""


def random_states() -> dict[str, torch.Tensor]:
    """The random states that a forward pass draws from (dropout)."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: dict[str, torch.Tensor]) -> None:
    """Go back to :func:`random_states`; a state of a device that is not here is passed over."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def write_batches(folder: Path, rank: int, batches: Sequence[dict[str, Any]]) -> None:
    """Write dictionaries of tensors and plain values. Raises TypeError naming a key that is neither."""
    tensors: dict[str, torch.Tensor] = {}
    plain: list[dict[str, Any]] = []
    for index, batch in enumerate(batches):
        plain.append({})
        for name, value in batch.items():
            if isinstance(value, torch.Tensor):
                # A copy: safetensors refuses tensors that share memory, as the slices of one rollout do.
                tensors[f"{index}/{name}"] = value.detach().cpu().clone().contiguous()
            else:
                plain[index][name] = value
    try:
        write_json(folder / f"batch_{rank}.json", plain)
    except TypeError as error:
        raise TypeError(f"a batch holds what is neither a tensor nor plain JSON: {error}") from error
    save_file(tensors, folder / f"batch_{rank}.safetensors")


def read_batches(folder: Path, rank: int) -> list[dict[str, Any]]:
    """What :func:`write_batches` has written, tensors on the CPU."""
    batches: list[dict[str, Any]] = json.loads((folder / f"batch_{rank}.json").read_text(encoding="utf-8"))
    for key, tensor in load_file(folder / f"batch_{rank}.safetensors").items():
        index, _, name = key.partition("/")
        batches[int(index)][name] = tensor
    return batches


def has_batches(folder: Path, rank: int) -> bool:
    """Whether :func:`write_batches` has written into a folder for a rank."""
    return (folder / f"batch_{rank}.json").is_file()


def write_micro_batches(folder: Path, rank: int, batches: Sequence[MicroBatch]) -> None:
    """Write one rank's micro-batches of an update."""
    write_batches(
        folder,
        rank,
        [
            {f"inputs/{name}": value for name, value in batch.inputs.items()}
            | {"num_items": batch.num_items}
            | {f"random/{name}": state for name, state in batch.random_states.items()}
            for batch in batches
        ],
    )


def read_micro_batches(folder: Path, rank: int) -> list[MicroBatch]:
    """One rank's micro-batches of an update, in their order."""
    return [
        MicroBatch(_under("inputs/", batch), batch["num_items"], _under("random/", batch))
        for batch in read_batches(folder, rank)
    ]


def _under(prefix: str, batch: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in batch.items() if name.startswith(prefix)}
