"""Any question set, from files here or through ``datasets``: columns, splits, filter and prompt are the recipe's.

    task: {name: dataset, layout: gsm8k, path: data/gsm8k}
    task: {name: dataset, path: mine.jsonl, held_out: 0.1, columns: {question: problem, answer: solution.final}}

Held-out questions that stand among those to train on, by their normalised prompt, are left out of the latter, and so
is what stands there twice. Rows are read one at a time; what is held is what is asked for, of a set of any length.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, ClassVar

from experiments.schema import one_of
from experiments.tasks.columns import check_filter, check_prompt, filled, passes, text_of, texts_of, value_of
from experiments.tasks.drawing import Asked, Draw, Reading
from experiments.tasks.golds import demonstration_of, gold_of
from experiments.tasks.layouts import LAYOUTS, Fields, Layout
from experiments.tasks.prompts import Template, build_prompt
from experiments.tasks.sources import SUFFIXES, Record, check_source, read_source
from experiments.tasks.splits import question_key
from experiments.tasks.task import VerifiedTask
from rewards.template import AnswerTemplate
from rewards.verifiers.choice import LETTERS
from rewards.verifiers.pool import VERIFIERS

SPLITS = ("train", "validation", "test")
ROLES = ("question", "answer", "choices", "context", "id", "group", "item", "solution")
_IN_USE = ("read", "looked_at", "kept")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Dataset(VerifiedTask):
    """The keys of the task ``dataset``. Raises ConfigError and ValueError, naming the key, for what cannot be read."""

    verifiers: ClassVar[tuple[str, ...]] = tuple(VERIFIERS)
    layout: str | None = None
    """A set of :data:`LAYOUTS`, which then says what is left out here; None for columns of one's own."""
    path: str | dict[str, str | list[str]] | None = None
    """A file, a folder or a hub name; or one or several of them for each split."""
    subset: str | None = None
    splits: dict[str, str] | None = None
    """Our split, ``train``, ``validation`` or ``test`` -> the set's name of it."""
    columns: dict[str, str] = field(default_factory=dict)
    """A role (question, answer, choices, context, id, group, item, solution) -> its column; dots go into mappings."""
    filter: dict[str, Any] = field(default_factory=dict)
    """Column of the file, or else a role -> the value that it must have, or conditions: above, below, at_least,
    at_most, in, not_in, number, max_chars, min_chars. Added to those of the layout; null takes one of these away."""
    prompt: str | None = None
    """What is asked, ``{question}``, ``{context}`` and any column filled in."""
    held_out: float | None = None
    """Share of the questions, by their prompt, for each held-out split that is the same file or split as ``train``."""
    streaming: bool = False
    """Read the hub over the network, a row at a time, instead of downloading it."""
    unreadable: float = 0.0
    """Share of the rows that may be broken, and of the golds looked at that the verifier may be unable to read; these
    rows are left out. Where a number of questions is drawn, not every gold is looked at."""
    train_size: int | None = None
    """How many training questions to draw; None for all."""
    verifier: str | tuple[str, ...] | None = None
    """The layout's where it is left out, or else math."""
    chat: bool = True
    instructions: bool = True
    template: Template = field(default_factory=AnswerTemplate)

    def __post_init__(self) -> None:
        known = self._layout
        if known is not None and self.columns:
            raise ValueError(f"task.columns: the layout {self.layout} says where they are, leave one of the two out")
        if self.path is None and known is None:
            raise ValueError("task.path: missing; expected a file, a folder or a hub name, or a task.layout")
        named = known.splits if known is not None else self._own_splits()
        given = dict.fromkeys(self.path) if isinstance(self.path, Mapping) else {}
        defaults = {
            "splits": {split: named.get(split, split) for split in given} or dict(named),
            "path": known.hub if known is not None else None,
            "subset": known.subset if known is not None else None,
            "prompt": known.prompt if known is not None else "{question}",
            "held_out": known.held_out if known is not None else None,
            "verifier": known.verifier if known is not None else "math",
        }
        for name, value in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        own = {**(known.filter if known is not None else {}), **self.filter}
        object.__setattr__(self, "filter", {name: asked for name, asked in own.items() if asked is not None})
        super().__post_init__()
        self._check_keys()

    @property
    def _layout(self) -> Layout | None:
        return None if self.layout is None else LAYOUTS[one_of("task.layout", self.layout, LAYOUTS)]

    def _own_splits(self) -> Mapping[str, str]:
        folder = not isinstance(self.path, str) or PurePath(self.path).suffix not in SUFFIXES
        return {split: split if folder else "train" for split in ("train", "test")}

    def _check_keys(self) -> None:
        for key in ("splits", "path"):
            for split in getattr(self, key) if isinstance(getattr(self, key), Mapping) else ():
                one_of(f"task.{key}", split, SPLITS)
        for role in self.columns:
            one_of("task.columns", role, ROLES)
        check_filter(self.filter, "task.filter")
        check_prompt(self.prompt or "{question}", "task.prompt")
        if isinstance(self.path, Mapping) and self.path.keys() != self.splits.keys():
            raise ValueError(f"task.path: names {', '.join(self.path)} and task.splits {', '.join(self.splits or ())}")
        for split in self.splits or ():
            for path in self._paths(split):
                check_source(path, "task.path")
        if self.held_out is not None and not 0 < self.held_out < 0.5:
            raise ValueError(f"task.held_out: {self.held_out} is not above 0 and below .5")
        if self.held_out is None and len(shared := self._sharing("train")) > 1:
            raise ValueError(
                f"task.held_out: missing; {' and '.join(shared)} are one source, and the share of its questions that "
                "is held out of it must be said, such as 0.1, or task.path must name a source for each"
            )
        if not 0 <= self.unreadable < 1:
            raise ValueError(f"task.unreadable: {self.unreadable} is not from 0 to below 1")
        if self.train_size is not None and self.train_size < 1:
            raise ValueError(f"task.train_size: {self.train_size} is below 1")

    def _paths(self, split: str) -> list[str]:
        path = self.path[split] if isinstance(self.path, Mapping) else self.path
        return [path] if isinstance(path, str) else list(path or ())

    def _source(self, split: str) -> tuple[tuple[str, ...], str]:
        return tuple(self._paths(split)), (self.splits or {})[split]

    def _sharing(self, split: str) -> list[str]:
        """The splits that are read from where ``split`` is, itself among them."""
        named = self.splits or {}
        return [
            each for each in SPLITS if split in named and each in named and self._source(each) == self._source(split)
        ]

    def rows(self, split: str, size: int | None = None, seed: int = 0) -> list[dict]:
        """Rows of a split, all in order or ``size`` of them drawn by ``seed``; as :meth:`read` raises.

        ``size`` defaults to ``train_size`` for ``train``.
        """
        found = self.read(split, size, seed)
        left_out = {name: count for name, count in found.counts().items() if count and name not in _IN_USE}
        if left_out:
            told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in left_out.items())
            looked = f"; {found.looked_at:,} golds were looked at" if found.unreadable else ""
            _logger.warning("task dataset: %s: of %s rows %s left out%s", split, f"{found.read:,}", told, looked)
        return found.rows

    def read(self, split: str, size: int | None = None, seed: int = 0) -> Reading:
        """The rows of a split with what was left out of it.

        Raises ValueError for a split that there is not, an empty one, one with fewer than ``size`` questions, and where
        a larger share than ``unreadable`` cannot be used, naming file and line of the first.
        """
        named = self.splits or {}
        if split not in named:
            raise ValueError(f"split {split!r} is not one of {', '.join(named)}")
        if size is None and split == "train":
            size = self.train_size
        others = [each for each in SPLITS[SPLITS.index(split) + 1 :] if each in named]
        held_out = {each.key for other in others if other not in self._sharing(split) for each in self._asked(other)}
        found, draw = Reading(), Draw(size, f"{self.layout or 'dataset'}/{split}/{seed}")
        for asked in self._asked(split, found):
            if asked.key in held_out:
                found.held_out += 1
            else:
                draw.take(asked, self._row, found)
        found.rows = draw.rows()
        self._check_found(split, found, size)
        return found

    def _check_found(self, split: str, found: Reading, size: int | None) -> None:
        found.check_unreadable(self.unreadable)
        where, kept = " and ".join(self._paths(split)), len(found.rows)
        if not kept:
            told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in found.counts().items())
            raise ValueError(f"{where} has no question for the split {split}: {told}")
        if size is not None and size > kept:
            raise ValueError(f"{where} has {kept} questions for {split}, {size} were asked for")

    def _asked(self, split: str, found: Reading | None = None) -> Iterator[Asked]:
        """The rows of a split that pass the filter, the others counted in ``found``."""
        found = found or Reading()
        paths, name = self._source(split)
        sharing, known = self._sharing(split), self._layout
        known_file = known.file_of(name, self.subset) if known is not None else None
        for file, number, record in read_source(paths, self.subset, name, self.streaming, known_file):
            found.read += 1
            place = f"{file}:{number}"
            try:
                if isinstance(record, ValueError):
                    raise record
                fields = known.read(record) if known is not None else self._own(record)
                if not passes({**fields, **record}, self.filter):
                    found.filtered += 1
                    continue
                fields["question"] = text_of(fields["question"], "question")
                if fields.get("choices") is not None:
                    fields["choices"] = texts_of(fields["choices"], "choices")
                key = question_key(filled(self.prompt or "{question}", fields, record), fields.get("choices") or ())
            except ValueError as error:
                found.broken.add(place, error)
                continue
            if len(sharing) < 2 or self._belongs(key, sharing) == split:
                yield Asked(fields, record, key, place)

    def _belongs(self, key: int, sharing: list[str]) -> str:
        """Which of the splits of one source a question is in: by its text, so that repeated ones stay together."""
        held_out = [each for each in sharing if each != "train"]
        place = int(key / 2**64 / (self.held_out or 1.0))
        return held_out[place] if place < len(held_out) else "train"

    def _own(self, record: Record) -> Fields:
        named = {role: role for role in ("choices", "id", "group", "item", "solution") if role in record} | self.columns
        if "question" not in named:
            found = [name for name in ("prompt", "question") if name in record]
            if len(found) > 1:
                raise ValueError("prompt and question found, name one of them: task.columns.question")
            named["question"] = found[0] if found else "question"
        fields = {role: value_of(record, column) for role, column in ({"answer": "answer"} | named).items()}
        if "id" in fields and fields["id"] is not None:
            fields["id"] = text_of(fields["id"], "id")
        return fields

    def _row(self, asked: Asked) -> dict[str, Any]:
        """A row as trainers and probes take it. Raises ValueError for a gold that a verifier cannot read."""
        fields = asked.fields
        question, answer, options = fields["question"], fields["answer"], fields.get("choices")
        gold = gold_of(answer, options, self.verifier_names)
        if options is not None:
            lettered = zip(LETTERS, options, strict=False)
            question += "".join(f"\n{letter}. {option}" for letter, option in lettered)
        told = filled(self.prompt or "{question}", fields | {"question": question}, asked.record)
        prompt = build_prompt(told, self.template, chat=self.chat, instructions=self.instructions)
        file, _, number = asked.name.rpartition(":")
        name = fields.get("id") or f"{PurePath(file).stem}-{number}"
        row = {"id": str(name), "prompt": prompt, "answer": gold, "source": self.layout or "dataset"}
        row |= {each: None if fields.get(each) is None else text_of(fields[each], each) for each in ("group", "item")}
        row["demonstration"] = demonstration_of(answer, gold, self.verifier_names)
        return row | ({"solution": text_of(fields["solution"], "solution")} if fields.get("solution") else {})
