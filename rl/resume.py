"""What a checkpoint must be for a run to go on from it, looked at before anything of it is loaded.

A resume is exact or it is refused, by the key, the file or the weight that does not fit.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rl.checkpoint import check_finite, saved_weights, vocabulary_digest
from rl.files import damaged_file, write_json

PROGRESS_FILE = "progress.json"
_PICKLED_WEIGHTS = ("pytorch_model*.bin", "adapter_model.bin")


def layout_of(arguments: Any) -> dict[str, int]:
    """How a configuration of ours splits a global batch: recipe key -> number, and the number of processes."""
    by_key = {f"trainer.{name}": getattr(arguments, name) for name in arguments.layout}
    return {"processes": arguments.world_size} | by_key


def write_progress(checkpoint: Path, arguments: Any, counters: dict[str, int]) -> None:
    """Write how batches were split, and what the trainer has counted."""
    write_json(checkpoint / PROGRESS_FILE, {"layout": layout_of(arguments), "counters": counters})


def read_counters(checkpoint: Path) -> dict[str, int]:
    """What the trainer had counted."""
    return json.loads((checkpoint / PROGRESS_FILE).read_text(encoding="utf-8"))["counters"]


def check_whole(checkpoint: Path) -> None:
    """Raise ValueError for a checkpoint of which a file is gone, or one of torch's is of another size than was written.

    Without that of the optimizer, the schedule or the random states transformers begins with new ones, and says
    nothing.
    """
    damaged = damaged_file(checkpoint)
    if damaged is not None:
        raise ValueError(f"{checkpoint} cannot be gone on from: {damaged}")


def check_layout(checkpoint: Path, arguments: Any) -> None:
    """Raise ValueError naming the key in which the run of a checkpoint split its batches in another way."""
    path = checkpoint / PROGRESS_FILE
    if not path.is_file():
        raise ValueError(f"{checkpoint} cannot be gone on from: it holds no {PROGRESS_FILE}")
    layout = json.loads(path.read_text(encoding="utf-8"))["layout"]
    for key, ours in layout_of(arguments).items():
        if layout.get(key) != ours:
            raise ValueError(
                f"{checkpoint} cannot be gone on from with {key}: {ours}, it was written with {key}: "
                f"{layout.get(key)}; only the same number gives the run that was never stopped"
            )


def check_policy(checkpoint: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError for weights that are pickled or not finite numbers, and for another tokenizer than the run's."""
    pickled = [path.name for pattern in _PICKLED_WEIGHTS for path in checkpoint.glob(pattern)]
    if pickled:
        raise ValueError(
            f"{checkpoint} cannot be gone on from: {pickled[0]} is a pickle, weights are read as safetensors alone"
        )
    try:
        check_finite(saved_weights(checkpoint))
    except ValueError as error:
        raise ValueError(f"{checkpoint} cannot be gone on from: {error}") from error
    saved = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
    if vocabulary_digest(saved) != vocabulary_digest(tokenizer):
        raise ValueError(
            f"{checkpoint} cannot be gone on from: its tokenizer, of {len(saved)} tokens, is another one than that of "
            f"the run, of {len(tokenizer)}"
        )
