"""Any question set in local JSON lines: ``{"prompt": "What is two plus two?", "answer": "4"}``.

Keys of a line, others being left out:

- ``prompt`` (or ``question``): the question, text.
- ``answer``: the gold, text in the form that the task's verifier reads (see its module); a list of texts, any of which
  will do, for ``text`` and ``token_f1``; a letter or an option's text beside ``choices``.
- ``choices``: the options, for the verifier ``choice``; they are put under the question as ``A. …``, ``B. …``.
- ``id`` (else file and line), ``group`` and ``item``, what wordings of one question share (else none): text or a
  whole number.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from experiments.tasks.json_lines import LocalQuestions, text_of
from rewards.verifiers import choice, state, text
from rewards.verifiers.pool import VERIFIERS

_ALIASED = ("text", "token_f1")
_READ_GOLD = {"choice": choice.read_gold, "text": text.read_gold, "token_f1": text.read_gold, "state": state.read_gold}
"""What reads a gold before training starts; that of mathematics would load computer algebra."""


@dataclass(frozen=True)
class JsonLines(LocalQuestions):
    """Questions of one's own; see :class:`LocalQuestions` for the keys and the errors.

    A gold that no verifier of the task can use is an error of its line, not a question without a reward.
    """

    verifiers: ClassVar[tuple[str, ...]] = tuple(VERIFIERS)
    contents: ClassVar[str] = "JSON lines of prompt and answer"

    def row(self, record: dict[str, Any], name: str) -> dict[str, Any]:
        """Question, gold, id and group of a line; the options under the question where it has ``choices``."""
        asked = [key for key in ("prompt", "question") if key in record]
        if len(asked) != 1:
            raise ValueError(f"{' and '.join(asked) or 'neither prompt nor question'} found, expected one of the two")
        question, gold = text_of(record, asked[0]), self._gold(record)
        for letter, option in zip(choice.LETTERS, record.get("choices", ()), strict=False):
            question += f"\n{letter}. {option}"
        row = {"id": _name(record, "id") or name, "question": question, "answer": gold, "source": "jsonl"}
        names = {key: _name(record, key) for key in ("group", "item")}
        return row | names | {"demonstration": self._demonstration(record["answer"], gold)}

    def _demonstration(self, answer: str | list[str], gold: str) -> str:
        if "choice" in self.verifier_names and (option := choice.read_gold(gold)):
            return option.letter
        if "state" in self.verifier_names and (world := state.read_gold(gold)):
            return world.solution()
        return answer if isinstance(answer, str) else answer[0]

    def _gold(self, record: dict[str, Any]) -> str:
        if "choices" in record:
            gold = json.dumps({"answer": text_of(record, "answer"), "options": self._options(record["choices"])})
        elif isinstance(record.get("answer"), list):
            others = [name for name in self.verifier_names if name not in _ALIASED]
            if others:
                raise ValueError(f"answer is a list of aliases, which the verifier {others[0]} does not take")
            gold = json.dumps(record["answer"])
        else:
            gold = text_of(record, "answer")
        for name in self.verifier_names:
            if not gold.strip() or (name in _READ_GOLD and not _READ_GOLD[name](gold)):
                raise ValueError(f"answer is {record['answer']!r}, which the verifier {name} cannot use")
        return gold

    def _options(self, choices: Any) -> list[str]:
        if self.verifier_names != ("choice",):
            raise ValueError(f"choices need task.verifier: choice, it is {', '.join(self.verifier_names)}")
        if not isinstance(choices, list) or not all(isinstance(each, str) and each.strip() for each in choices):
            raise ValueError(f"choices are {choices!r}, expected a list of texts")
        if not 2 <= len(choices) <= len(choice.LETTERS):
            raise ValueError(f"choices has {len(choices)} options, expected from 2 to {len(choice.LETTERS)}")
        return choices


def _name(record: dict[str, Any], key: str) -> str | None:
    value = record.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (str, int))):
        raise ValueError(f"{key} is {value!r}, expected text or a whole number")
    return None if value is None else str(value)
