"""Files that a kill or a full disk leaves whole: texts written at once, checkpoints that say when they are complete.

Nothing here needs torch or transformers, so that a launcher can ask whether a run is done at once.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

_COMPLETE = "candor_complete.json"
_CHECKPOINTS = "checkpoint-*"
_TORCH = (".pt", ".pth")


class CheckpointError(RuntimeError):
    """A checkpoint could not be written to its end; the one before it is whole."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Context manager: a path to write to, which takes the place of ``path`` at the end of the block.

    A reader sees the old file or the new one, never half of either. The folder is made if it is not there.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text as :func:`replacing` writes a file."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON as :func:`write_text` writes a text. Raises ValueError for NaN and infinity."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def keep_lines_up_to(path: Path, step: int) -> None:
    """Drop the lines of a JSON-lines file that lie past a step, all of them at step 0, and one cut off by a kill."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    write_text(path, "".join(f"{line}\n" for line in lines if step and _step_of_line(line) <= step))


def mark_complete(checkpoint: str | Path, step: int) -> None:
    """Leave the mark by which a resume knows that every file of this checkpoint was written, and how long each was."""
    folder = Path(checkpoint)
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    write_json(folder / _COMPLETE, {"step": step, "bytes": dict(sorted(sizes.items()))})


def damaged_file(checkpoint: str | Path) -> str | None:
    """What has become of a file that :func:`mark_complete` found and that is gone, or of torch's, of another size.

    None where that is none of them. Other files say themselves what is wrong with them when they are read.
    """
    folder = Path(checkpoint)
    for name, size in json.loads((folder / _COMPLETE).read_text(encoding="utf-8")).get("bytes", {}).items():
        path = folder / name
        if not path.is_file():
            return f"its {name} is gone"
        if path.suffix in _TORCH and path.stat().st_size != size:
            return f"its {name} has {path.stat().st_size} bytes, {size} were written"
    return None


def is_complete(checkpoint: str | Path) -> bool:
    """Whether a checkpoint was written to its end."""
    return (Path(checkpoint) / _COMPLETE).is_file()


def last_complete_checkpoint(run: str | Path) -> Path | None:
    """The newest checkpoint of a run that was written to its end, or None.

    A run killed in the middle of a save leaves a folder without the mark; the one before it is still whole.
    """
    return max(filter(is_complete, Path(run).glob(_CHECKPOINTS)), key=_step_of_folder, default=None)


def keep_last_checkpoints(run: str | Path, limit: int | None) -> None:
    """Delete all but the newest ``limit`` complete checkpoints of a run, and what a kill left half-written before them.

    A limit of None or 0 keeps all. To be called when the newest is complete: transformers' own rotation comes before
    that, and with a limit of 1 leaves no whole checkpoint behind for a moment.
    """
    folders = sorted(Path(run).glob(_CHECKPOINTS), key=_step_of_folder)
    kept = [folder for folder in folders if is_complete(folder)][-(limit or 0) :]
    if not limit or not kept:
        return
    for folder in folders[: folders.index(kept[-1])]:
        if folder not in kept:
            (folder / _COMPLETE).unlink(missing_ok=True)  # first, or a kill in the middle leaves a mark on a half
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def writing(checkpoint: str | Path) -> Iterator[None]:
    """Context manager: a file that cannot be written raises CheckpointError, which says what failed and how to go on.

    ``checkpoint`` is the folder that is being written, below the folder of its run.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise CheckpointError(could_not_be_written(Path(checkpoint).parent, error, Path(checkpoint))) from error


def could_not_be_written(run: Path, error: Exception, checkpoint: Path | None = None) -> str:
    """A line that says what of a run could not be written, and how to go on."""
    last = last_complete_checkpoint(run)
    if last is not None:
        how = f"make room, and the same command with --resume goes on from {last.name}"
    elif checkpoint is not None:
        how = "there is no complete checkpoint before it"
    else:
        how = "make room, and the same command with --resume starts again"
    reason, free = str(error).strip().partition("\n")[0], shutil.disk_usage(run).free / 1e6
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        reason = f"{error.filename}: {error.strerror}"
    return f"{checkpoint or run} could not be written ({free:.0f} MB are free): {reason}; {how}"


def _step_of_line(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return math.inf


def _step_of_folder(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
