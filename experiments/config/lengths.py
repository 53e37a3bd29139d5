"""Prompts that are too long for a run, told before its weights load."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from experiments.config.models import find_model
from experiments.errors import ConfigError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from experiments.config.recipe import Recipe

_BATCH = 1000
_logger = logging.getLogger(__name__)


def context_of(recipe: Recipe) -> int | None:
    """Positions that the policy has, by its configuration; None where it states none or is not here yet."""
    from transformers import AutoConfig

    if recipe.model.gguf_file is not None:
        return None
    try:
        found = AutoConfig.from_pretrained(find_model(recipe.model.path, "model.path"), trust_remote_code=False)
    except (OSError, ValueError):
        return None  # opening the weights will say why
    return getattr(found, "max_position_embeddings", None)


def fitting_prompts(
    recipe: Recipe, dataset: Dataset, tokenizer: PreTrainedTokenizerBase, completion: int, context: int | None
) -> Dataset:
    """The rows whose prompt has at most ``task.max_prompt_tokens`` tokens; how many have more is logged.

    Raises ConfigError where none is left, and, without that key, for a prompt that leaves less than ``completion`` of
    the ``context`` of the model.
    """
    asked = recipe.task.max_prompt_tokens
    limit = asked if asked is not None else context - completion if context is not None else None
    if limit is None or all(_bytes(row) < limit for row in dataset["prompt"]):  # a token is a byte or more
        return dataset
    lengths = list(_lengths(dataset["prompt"], tokenizer))
    longer = sum(length > limit for length in lengths)
    if longer and asked is None:
        raise ConfigError(
            f"task.max_prompt_tokens: missing; {longer:,} of {len(lengths):,} prompts leave less than "
            f"trainer.max_completion_length ({completion}) of the {context} positions of {recipe.model.path}, the "
            f"longest has {max(lengths):,} tokens; at most {limit} would be left in"
        )
    if longer == len(lengths):
        raise ConfigError(f"task.max_prompt_tokens: {limit} leaves no prompt, the shortest has {min(lengths)} tokens")
    if longer:
        _logger.warning(
            "task.max_prompt_tokens: %s of %s prompts have more than %s tokens and are left out",
            f"{longer:,}", f"{len(lengths):,}", limit,
        )  # fmt: skip
    return dataset.select([number for number, length in enumerate(lengths) if length <= limit])


def _bytes(prompt: Any) -> int:
    # A chat's template adds some of its own.
    return (
        len(prompt.encode()) if isinstance(prompt, str) else sum(len(each["content"].encode()) for each in prompt) + 400
    )


def _lengths(prompts: Any, tokenizer: PreTrainedTokenizerBase) -> Iterator[int]:
    """Tokens of each prompt as a policy is asked it."""
    written: Callable[[Any], str] = lambda prompt: (  # noqa: E731
        prompt
        if isinstance(prompt, str)
        else tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    )
    for start in range(0, len(prompts), _BATCH):
        part = [written(prompt) for prompt in prompts[start : start + _BATCH]]
        yield from map(len, tokenizer(part, add_special_tokens=False)["input_ids"])
