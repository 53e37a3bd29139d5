"""GSM8K (arXiv 2110.14168) from local JSONL files.

Each line has a ``question`` and a worked ``answer`` that ends in ``#### number``.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from experiments.tasks.prompts import build_prompt
from rewards.template import AnswerTemplate

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Gsm8k:
    """Grade-school word problems read from ``train_path`` and ``test_path``.

    Raises ValueError naming the file where one is missing; a broken line names file and line.
    """

    splits: ClassVar[tuple[str, ...]] = SPLITS
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
        if self.train_size is not None and self.train_size < 1:
            raise ValueError(f"task.train_size: {self.train_size} is below 1")

    def rows(self, split: str, size: int | None = None, seed: int = 0) -> list[dict]:
        """Rows of ``train`` or ``test``, all in file order or ``size`` of them drawn by ``seed``.

        ``size`` defaults to ``train_size`` for ``train``. Raises ValueError naming file and line for a broken line.
        """
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")
        path = Path(self.train_path if split == "train" else self.test_path)
        if size is None and split == "train":
            size = self.train_size
        with path.open("rb") as lines:  # bytes: only a newline ends a line of JSON, and a bad one is told by its number
            rows = [self._row(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
        if size is not None and size > len(rows):
            raise ValueError(f"{path} has {len(rows)} questions, {size} were asked for")
        return rows if size is None else random.Random(f"gsm8k/{split}/{seed}").sample(rows, size)

    def _row(self, path: Path, number: int, line: bytes) -> dict:
        try:
            record = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}:{number}: not JSON: {error}") from error
        if not isinstance(record, dict):
            raise ValueError(f"{path}:{number}: expected an object with question and answer, found {line[:60]!r}")
        for name in ("question", "answer"):
            if not isinstance(record.get(name), str):
                raise ValueError(f"{path}:{number}: {name} is {record.get(name)!r}, expected text")
        _, mark, gold = record["answer"].rpartition("####")
        if not mark or not gold.strip():
            raise ValueError(f"{path}:{number}: the answer does not end in '#### number'")
        return {
            "id": f"{path.stem}-{number}",
            "prompt": build_prompt(record["question"], self.template, chat=self.chat, instructions=self.instructions),
            "answer": gold.strip(),
            "source": "gsm8k",
            "group": None,
        }
