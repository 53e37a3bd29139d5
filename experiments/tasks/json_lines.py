"""Questions in JSON lines on this machine: what tasks that read them share, and errors that name file and line."""

from __future__ import annotations

import json
import os
import random
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from experiments.tasks.prompts import Template, build_prompt
from experiments.tasks.task import VerifiedTask
from rewards.template import AnswerTemplate

SPLITS = ("train", "test")


@dataclass(frozen=True)
class LocalQuestions(VerifiedTask, ABC):
    """Questions read from ``train_path`` and ``test_path``; a subclass says what a line holds.

    Raises ValueError naming the file where one is missing; a broken line names file and line.
    """

    splits: ClassVar[tuple[str, ...]] = SPLITS
    contents: ClassVar[str]
    """What the files hold, for the error that misses one."""
    train_path: str
    test_path: str
    train_size: int | None = None
    """How many training questions to use; None for all."""
    chat: bool = True
    instructions: bool = True
    template: Template = field(default_factory=AnswerTemplate)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("train_path", "test_path"):
            if not os.path.isfile(getattr(self, name)):
                raise ValueError(f"task.{name}: {getattr(self, name)} is not a file; expected {self.contents}")
        if self.train_size is not None and self.train_size < 1:
            raise ValueError(f"task.train_size: {self.train_size} is below 1")

    @abstractmethod
    def row(self, record: dict[str, Any], name: str) -> dict[str, Any]:
        """The row of one line, ``question`` not yet a prompt, ``name`` told from file and number. Raises ValueError."""

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
            rows = [self._asked(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
        if size is not None and size > len(rows):
            raise ValueError(f"{path} has {len(rows)} questions, {size} were asked for")
        source = type(self).__name__.lower()
        return rows if size is None else random.Random(f"{source}/{split}/{seed}").sample(rows, size)

    def _asked(self, path: Path, number: int, line: bytes) -> dict[str, Any]:
        try:
            row = self.row(_record(line), f"{path.stem}-{number}")
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from error
        prompt = build_prompt(row.pop("question"), self.template, chat=self.chat, instructions=self.instructions)
        return row | {"prompt": prompt}


def text_of(record: dict[str, Any], key: str) -> str:
    """The text under a key. Raises ValueError for anything else."""
    if not isinstance(record.get(key), str):
        raise ValueError(f"{key} is {record.get(key)!r}, expected text")
    return record[key]


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8-sig"))  # some programs put a byte order mark first
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"expected an object with a question and its answer, found {line[:60]!r}")
    return record
