"""What a run reads and leaves behind: policies, the calibration folder beside them, complete checkpoints.

Weights are read and written as safetensors only (a GGUF file may be the start of a run), and no code that comes with
a model is ever run.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations import is_deepspeed_zero3_enabled

from rewards.rubric import Rubric
from rewards.template import AnswerTemplate

CALIBRATION_FOLDER = "calibration"
_COMPLETE = "candor_complete.json"
_CHECKPOINTS = "checkpoint-*"
_PACKAGES = ("candor-rl", "torch", "trl", "transformers", "accelerate", "deepspeed", "math-verify")


class CheckpointError(RuntimeError):
    """A checkpoint could not be written to its end; the one before it is whole."""


def load_policy(
    path: str | Path,
    *,
    gguf_file: str | None = None,
    dtype: str = "float32",
    attn_implementation: str | None = None,
    check: Callable[[PreTrainedTokenizerBase], None] | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer, padding on the left as generation needs it.

    ``check`` sees the tokenizer before the weights are loaded, and raises what it has against it.
    Raises OSError naming the path where there is no model, and ValueError for an unknown dtype.
    """
    if not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise ValueError(f"model.dtype: {dtype!r} is no torch dtype, such as float32 or bfloat16")
    # Without the refusal transformers asks on the terminal whether to run code that comes with a model.
    shared: dict[str, Any] = {"trust_remote_code": False} | ({"gguf_file": gguf_file} if gguf_file else {})
    extra: dict[str, Any] = {} if gguf_file else {"use_safetensors": True}
    if attn_implementation:
        extra["attn_implementation"] = attn_implementation
    tokenizer = AutoTokenizer.from_pretrained(path, **shared)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if check is not None:
        check(tokenizer)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype), **shared, **extra)
    if gguf_file:
        model = _dequantized(model)
    return model, tokenizer


def add_template_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, template: AnswerTemplate
) -> list[str]:
    """Make each tag and level of the template one token; return the new ones.

    A new token starts as the mean of the tokens that wrote it before: so the levels differ from the first step on, and
    a tag has something of its word.
    """
    pieces = {token: tokenizer.encode(token, add_special_tokens=False) for token in template.tokens}
    new = [token for token, ids in pieces.items() if len(ids) != 1]
    tokenizer.add_tokens(new)  # not as special tokens, which decoding would hide from the parser
    model.resize_token_embeddings(len(tokenizer), mean_resizing=True)
    tables = {id(table.weight): table.weight for table in (model.get_input_embeddings(), model.get_output_embeddings())}
    with torch.no_grad(), _whole(list(tables.values())):
        for weight in tables.values():
            for token in new:
                weight[tokenizer.convert_tokens_to_ids(token)] = weight[pieces[token]].mean(dim=0)
    return new


@contextmanager
def _whole(parameters: list[torch.nn.Parameter]) -> Iterator[None]:
    """Inside, parameters that ZeRO-3 splits over the ranks are whole on each, and may be changed alike."""
    if not is_deepspeed_zero3_enabled():
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(parameters, modifier_rank=0):
        yield


def write_calibration(
    folder: str | Path, template: AnswerTemplate, rubric: Rubric | None, recipe: Mapping[str, Any]
) -> None:
    """Write what a router needs beside the weights: how to ask and read, what was rewarded, and the recipe."""
    calibration = Path(folder) / CALIBRATION_FOLDER
    calibration.mkdir(parents=True, exist_ok=True)
    write_json(calibration / "template.json", dataclasses.asdict(template))
    if rubric is not None:
        write_json(calibration / "rubric.json", rubric.describe())
    (calibration / "recipe.yaml").write_text(yaml.safe_dump(dict(recipe), sort_keys=False), encoding="utf-8")
    write_json(calibration / "versions.json", {name: _version(name) for name in _PACKAGES})


def read_template(folder: str | Path) -> AnswerTemplate | None:
    """The template a checkpoint was trained with, or None where it carries none."""
    path = Path(folder) / CALIBRATION_FOLDER / "template.json"
    if not path.is_file():
        return None
    fields = json.loads(path.read_text(encoding="utf-8"))
    levels = fields.get("levels")
    return AnswerTemplate(**{**fields, "levels": None if levels is None else tuple(levels)})


def mark_complete(checkpoint: str | Path, step: int) -> None:
    """Leave the mark by which a resume knows that every file of this checkpoint was written."""
    write_json(Path(checkpoint) / _COMPLETE, {"step": step})


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
    """Inside, a file that cannot be written raises CheckpointError, which says what failed and how to go on."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        folder = Path(checkpoint)
        last = last_complete_checkpoint(folder.parent)
        if last is None:
            how = "there is no complete checkpoint before it"
        else:
            how = f"make room, and the same command with --resume goes on from {last.name}"
        reason, free = str(error).strip().partition("\n")[0], shutil.disk_usage(folder.parent).free / 1e6
        raise CheckpointError(f"{folder} could not be written ({free:.0f} MB are free): {reason}; {how}") from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of either."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text whole or not at all, as :func:`write_json` does."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        os.unlink(temporary)
        raise
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)


def keep_lines_up_to(path: Path, step: int) -> None:
    """Drop the lines of a JSON-lines file that lie past a step, all of them at step 0, and one cut off by a kill."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    write_text(path, "".join(f"{line}\n" for line in lines if step and _step_of_line(line) <= step))


def _step_of_line(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return math.inf


def _step_of_folder(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _dequantized(model: PreTrainedModel) -> PreTrainedModel:
    """The same weights in a model that does not call itself quantized, which trainers refuse to train.

    transformers has turned a GGUF file's weights into plain tensors by the time they are loaded, but leaves the mark.
    """
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    attention = model.config._attn_implementation
    plain = AutoModelForCausalLM.from_config(config, dtype=model.dtype, attn_implementation=attention)
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    return plain


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
