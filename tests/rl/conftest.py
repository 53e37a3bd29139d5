"""Shared by the tests of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest


@pytest.fixture
def dictate() -> Callable[..., None]:
    """Makes a model's own generation write given completions, token by token, with every hook that it has.

    Completions are token ids; those that do not reach the length limit end with the end-of-sequence token.
    """

    def install(model: Any, completion_ids: Sequence[list[int]]) -> None:
        pad = model.config.pad_token_id
        generate = type(model).generate.__get__(model)

        def write(**arguments: Any) -> Any:
            start = arguments["input_ids"].size(1)

            def allowed(row: int, ids: Any) -> list[int]:
                place = len(ids) - start
                return [completion_ids[row][place] if place < len(completion_ids[row]) else pad]

            return generate(**arguments, prefix_allowed_tokens_fn=allowed)

        model.generate = write

    return install
