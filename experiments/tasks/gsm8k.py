"""GSM8K (arXiv 2110.14168) from local JSONL files.

Each line has a ``question`` and a worked ``answer`` that ends in ``#### number``.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path

from experiments.tasks.prompts import build_prompt
from rewards.template import AnswerTemplate

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Gsm8k:
    """Grade-school word problems read from ``train_path`` and ``test_path``.

    Raises ValueError naming the file where one is missing; a broken line names file and line.
    """

    train_path: str
    test_path: str
    train_size: int | None = None
    """How many training questions to use; None for all."""
    chat: bool = True
    instructions: bool = True
    template: AnswerTemplate = field(default_factory=AnswerTemplate)

    def __post_init__(self) -> None:
        for name in ("train_path", "test_path"):
            if not Path(getattr(self, name)).is_file():
                raise ValueError(f"task.{name}: {getattr(self, name)} is no file; expected GSM8K in JSON lines")

    def rows(self, split: str, size: int | None = None, seed: int = 0) -> list[dict]:
        """Rows of ``train`` or ``test``, all in file order or ``size`` of them drawn by ``seed``."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")
        path = Path(self.train_path if split == "train" else self.test_path)
        rows = [
            self._row(path, number, line)
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
            if line.strip()
        ]
        if size is not None and size > len(rows):
            raise ValueError(f"{path} has {len(rows)} questions, {size} were asked for")
        return rows if size is None else random.Random(f"gsm8k/{split}/{seed}").sample(rows, size)

    def _row(self, path: Path, number: int, line: str) -> dict:
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}: not JSON: {error.msg} at column {error.colno}") from error
        missing = [name for name in ("question", "answer") if name not in record]
        if missing:
            raise ValueError(f"{path}:{number}: no {missing[0]!r}; a line needs question and answer")
        _, mark, gold = record["answer"].rpartition("####")
        if not mark:
            raise ValueError(f"{path}:{number}: the answer has no '####' before its final number")
        return {
            "id": f"{path.stem}-{number}",
            "prompt": build_prompt(record["question"], self.template, chat=self.chat, instructions=self.instructions),
            "answer": gold.strip(),
            "source": "gsm8k",
            "group": None,
        }
