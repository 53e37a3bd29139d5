"""The gold of a row in the form that its verifiers read, and the answer that a warm start imitates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from experiments.tasks.columns import text_of
from rewards.verifiers import choice, state, text
from rewards.verifiers.math import normalize

ALIASED = ("text", "token_f1")
"""The verifiers to which any of a list of golds will do."""


def gold_of(answer: Any, choices: list[str] | None, verifiers: Sequence[str]) -> str:
    """The gold for all of ``verifiers``; ``choices`` are a question's options, None where it has none.

    Raises ValueError for what one of them cannot use, as far as that shows without computer algebra.

    >>> gold_of(["NYC", "New York"], None, ["text"]), gold_of("b", ["a dog", "a cat"], ["choice"])
    ('["NYC", "New York"]', '{"answer": "b", "options": ["a dog", "a cat"]}')
    """
    if choices is not None:
        gold = json.dumps({"answer": text_of(answer, "answer"), "options": _options(choices, verifiers)})
    elif isinstance(answer, list):
        others = [name for name in verifiers if name not in ALIASED]
        if others:
            raise ValueError(f"answer is a list of aliases, which the verifier {others[0]} does not take")
        if not all(isinstance(each, str) for each in answer):
            raise ValueError(f"answer is {answer!r}, which the verifier {verifiers[0]} cannot use")
        gold = json.dumps(answer)
    else:
        gold = text_of(answer, "answer")
    for name in verifiers:
        if not _can_read(name, gold):
            raise ValueError(f"answer is {answer!r}, which the verifier {name} cannot use")
    return gold


def demonstration_of(answer: Any, gold: str, verifiers: Sequence[str]) -> str:
    """A right answer as a policy would write it: the letter of an option, the moves to a state, the first alias."""
    if "choice" in verifiers and (option := choice.read_gold(gold)):
        return option.letter
    if "state" in verifiers and (world := state.read_gold(gold)):
        return world.solution()
    return str(answer[0]) if isinstance(answer, list) else str(answer)


def _options(choices: list[str], verifiers: Sequence[str]) -> list[str]:
    if tuple(verifiers) != ("choice",):
        raise ValueError(f"choices need task.verifier: choice, it is {', '.join(verifiers)}")
    if not 2 <= len(choices) <= len(choice.LETTERS):
        raise ValueError(f"choices has {len(choices)} options, expected from 2 to {len(choice.LETTERS)}")
    return choices


def _can_read(verifier: str, gold: str) -> bool:
    if verifier == "math":
        reading = normalize.read(gold)
        return bool(reading.pieces or reading.is_words)
    readers = {"choice": choice.read_gold, "text": text.read_gold, "token_f1": text.read_gold, "state": state.read_gold}
    return bool(readers[verifier](gold))
