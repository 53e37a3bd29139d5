"""What a run reads and leaves behind: policies, and the calibration folder beside them.

Weights are read and written as safetensors only (a GGUF file may be the start of a run), and no code that comes with
a model is ever run.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open
from transformers import AddedToken, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations import is_deepspeed_zero3_enabled

from rewards.rubric import Rubric
from rewards.template import AnswerTemplate
from rl.files import write_json

CALIBRATION_FOLDER = "calibration"
_WEIGHTS = ("model*.safetensors", "adapter_model.safetensors", "critic/*.safetensors")
_VERSIONS = "versions.json"
_WIDE = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
SAMPLING_FILE = "sampling.json"
_NUMBERS = ("10.5", "0.25", "30.52", "1.05", "100.0", "0.123", "x0.5", "10.5.", " 10.5 ", "it costs 30.52 or 1.05")
"""What levels must not be cut out of, beside letters and digits."""
_PACKAGES = ("candor-rl", "torch", "trl", "transformers", "accelerate", "deepspeed", "math-verify")


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
        raise ValueError(f"model.dtype: {dtype!r} is not a torch dtype, such as float32 or bfloat16")
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


def check_finite(weights: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Raise ValueError naming the first tensor that holds a value which is not a finite number.

    >>> check_finite([("head", torch.tensor([1.0, float("nan")]))])
    Traceback (most recent call last):
    ValueError: the weights head hold values that are not finite numbers
    """
    for name, tensor in weights:
        here = getattr(tensor, "ds_tensor", tensor)  # under ZeRO-3 each rank looks at its share
        bounds = torch.aminmax(here.detach()) if here.dtype in _WIDE and here.numel() else ()
        if not all(bound.isfinite() for bound in bounds):
            raise ValueError(f"the weights {name} hold values that are not finite numbers")


def saved_weights(folder: str | Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and tensor of each weight in a checkpoint's safetensors, one at a time: of policy, adapter and critic."""
    for pattern in _WEIGHTS:
        for path in sorted(Path(folder).glob(pattern)):
            with safe_open(path, framework="pt") as file:
                yield from ((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118


def vocabulary_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """A text that is the same for tokenizers whose tokens have the same ids, and end completions by the same one."""
    known = [sorted(tokenizer.get_vocab().items()), tokenizer.eos_token_id]
    return f"sha256:{hashlib.sha256(json.dumps(known).encode()).hexdigest()}"


def add_template_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, template: AnswerTemplate
) -> list[str]:
    """Make each tag and level of the template one token; return the new ones.

    A new token starts as the mean of the tokens that wrote it before: so the levels differ from the first step on, and
    a tag has something of its word. A level is a token only where no letter or digit stands beside it: "10.5" stays
    what it was where "0.5" is new. Raises ValueError where the tokenizer does not keep to that.
    """
    levels = template.levels or ()
    numbers = [number for number in _NUMBERS if number.strip() not in levels]
    pieces = {token: tokenizer.encode(token, add_special_tokens=False) for token in template.tokens}
    before = {number: tokenizer.encode(number, add_special_tokens=False) for number in numbers}
    new = [token for token, ids in pieces.items() if len(ids) != 1]
    # Not as special tokens, which decoding would hide from the parser.
    tokenizer.add_tokens([AddedToken(token, single_word=token in levels, normalized=False) for token in new])
    changed = [number for number, ids in before.items() if tokenizer.encode(number, add_special_tokens=False) != ids]
    if changed:
        raise ValueError(
            f"model.add_template_tokens: with {', '.join(each for each in new if each in levels)} as tokens the "
            f"tokenizer writes {', '.join(map(repr, changed))} with other tokens than before; choose task.template."
            "levels that its numbers do not hold, or leave them out"
        )
    model.resize_token_embeddings(len(tokenizer), mean_resizing=True)
    tables = {id(table.weight): table.weight for table in (model.get_input_embeddings(), model.get_output_embeddings())}
    with torch.no_grad(), whole_parameters(list(tables.values())):
        for weight in tables.values():
            for token in new:
                weight[tokenizer.convert_tokens_to_ids(token)] = weight[pieces[token]].mean(dim=0)
    return new


@contextmanager
def whole_parameters(parameters: list[torch.nn.Parameter], *, changed: bool = True) -> Iterator[None]:
    """Context manager: parameters that ZeRO-3 splits over the ranks are whole on each.

    They may be changed, on every rank alike, where ``changed`` is true.
    """
    if not is_deepspeed_zero3_enabled():
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(parameters, modifier_rank=0 if changed else None):
        yield


def write_calibration(
    folder: str | Path,
    template: AnswerTemplate,
    rubric: Rubric | None,
    recipe: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> None:
    """Write what a router needs beside the weights: how to ask and read, what was rewarded, and the recipe.

    Rollouts at a temperature T train softmax(z / T), and only that is calibrated: T is kept in ``sampling.json``.
    With the versions of packages stands a digest of the tokenizer that the weights were trained with, where given.
    """
    calibration = Path(folder) / CALIBRATION_FOLDER
    calibration.mkdir(parents=True, exist_ok=True)
    write_json(calibration / "template.json", dataclasses.asdict(template))
    write_json(calibration / SAMPLING_FILE, {"temperature": recipe.get("trainer", {}).get("temperature", 1.0)})
    if rubric is not None:
        write_json(calibration / "rubric.json", rubric.describe())
    (calibration / "recipe.yaml").write_text(yaml.safe_dump(dict(recipe), sort_keys=False), encoding="utf-8")
    trained_with = {} if tokenizer is None else {"tokenizer": vocabulary_digest(tokenizer)}
    write_json(calibration / _VERSIONS, {name: _version(name) for name in _PACKAGES} | trained_with)


def read_template(folder: str | Path) -> AnswerTemplate | None:
    """The template a checkpoint was trained with, or None where it carries none. Raises ValueError for another file."""
    path = Path(folder) / CALIBRATION_FOLDER / "template.json"
    if not path.is_file():
        return None
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        levels = fields.get("levels")
        return AnswerTemplate(**{**fields, "levels": None if levels is None else tuple(levels)})
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not a template: {error}") from error


def check_tokenizer(folder: str | Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError for another tokenizer than the one that a checkpoint says its weights were trained with."""
    path = Path(folder) / CALIBRATION_FOLDER / _VERSIONS
    written = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if "tokenizer" in written and written["tokenizer"] != vocabulary_digest(tokenizer):
        raise ValueError(
            f"its tokenizer, of {len(tokenizer)} tokens, is not the one that its weights were trained with"
        )


def read_temperature(folder: str | Path) -> float:
    """The temperature that a checkpoint's rollouts were sampled at; 1 where it does not say.

    Raises ValueError for a file that holds none.
    """
    path = Path(folder) / CALIBRATION_FOLDER / SAMPLING_FILE
    if not path.is_file():
        return 1.0
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["temperature"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: holds no temperature") from error


def _dequantized(model: PreTrainedModel) -> PreTrainedModel:
    """The same weights in a model that does not call itself quantized, which trainers refuse to train.

    transformers has turned a GGUF file's weights into plain tensors by the time they are loaded, but leaves the mark.
    """
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    attention = model.config._attn_implementation
    plain = AutoModelForCausalLM.from_config(config, dtype=model.dtype, attn_implementation=attention)
    with whole_parameters(list(model.parameters()), changed=False), whole_parameters(list(plain.parameters())):
        plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    return plain


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
