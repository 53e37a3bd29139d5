"""GSM8K (arXiv 2110.14168) from local JSONL files.

Each line has a ``question`` and a worked ``answer`` that ends in ``#### number``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from experiments.tasks.json_lines import LocalQuestions, text_of


@dataclass(frozen=True)
class Gsm8k(LocalQuestions):
    """Grade-school word problems; see :class:`LocalQuestions` for the keys and the errors."""

    verifiers: ClassVar[tuple[str, ...]] = ("math", "text", "token_f1")
    contents: ClassVar[str] = "GSM8K in JSON lines"

    def row(self, record: dict[str, Any], name: str) -> dict[str, Any]:
        """The question of a line and the number that its answer ends in."""
        question, worked = text_of(record, "question"), text_of(record, "answer")
        _, mark, gold = worked.rpartition("####")
        if not mark or not gold.strip():
            raise ValueError("the answer does not end in '#### number'")
        return {"id": name, "question": question, "answer": gold.strip(), "source": "gsm8k", "group": None}
