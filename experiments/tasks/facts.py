"""Questions about people of a small world, whom its corpus names often, rarely, or never: what abstention is for.

The world and its corpus are :mod:`experiments.tasks.biographies`. A policy learns the facts from documents about
everybody, and how questions are answered from those about the people of the ``warmup`` split alone, so that on the
others it has only what it has read. Where the corpus states no fact the gold is "unknown": the policy cannot know.

Splits are disjoint by construction: a person, with every question about them, is hashed into one of them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from typing import ClassVar, Literal

from experiments.tasks.biographies import KINDS, RELATIONS, UNKNOWN, Person, Relation, documents, people
from experiments.tasks.prompts import Template, build_prompt
from experiments.tasks.splits import SPLITS, split_of
from experiments.tasks.task import VerifiedTask
from rewards.template import AnswerTemplate

_TO_MEASURE_ON = ("validation", "test")
_SHARES = dict(zip(KINDS, (0.25, 0.35, 0.2, 0.2), strict=True))
_DOCUMENTS, _DECLINED = 0.6, 0.02


def _row(person: Person, relation: Relation, paraphrase: int) -> dict:
    return {
        "id": f"{person.name}/{relation.name}/{paraphrase}",
        "question": relation.questions[paraphrase].format(person=person.name),
        "answer": person.answer(relation.name),
        "source": "facts",
        "group": person.kind(relation.name),
        "item": f"{person.name}/{relation.name}",
        "entity": person.name,
        "relation": relation.name,
        "paraphrase": paraphrase,
        "frequency": person.frequencies[relation.name],
    }


def questions(split: str, size: int, *, seed: int = 0, world: int = 0) -> Iterator[dict]:
    """Yield ``size`` rows of a split: ``id question answer source group item entity relation paraphrase
    frequency``.

    ``group`` is one of :data:`KINDS`, of which a quarter of the rows are "often", 35% "rarely" and a fifth each
    "combination" and "never"; ``frequency`` is the number of documents that state the fact, ``paraphrase`` the number
    of the question's wording from 0. Rows to train on may repeat, those to measure on are distinct, so that there a
    kind drops out when its questions are used up.

    Raises ValueError for an unknown split, and where one to measure on has fewer than ``size`` questions.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    draw = random.Random(f"facts/{split}/{seed}")
    left: dict[str, list[tuple[Person, Relation, int]]] = {kind: [] for kind in KINDS}
    for person in people(world):
        if split_of(person.name) == split:
            for relation in RELATIONS:
                left[person.kind(relation.name)] += [
                    (person, relation, number) for number in range(len(relation.questions))
                ]
    for each in left.values():
        draw.shuffle(each)
    for count in range(size):
        kinds = [kind for kind in KINDS if left[kind]]
        if not kinds:
            raise ValueError(f"split {split!r} has only {count} distinct questions, {size} were asked for")
        kind = draw.choices(kinds, [_SHARES[each] for each in kinds])[0]
        yield _row(*(left[kind].pop() if split in _TO_MEASURE_ON else draw.choice(left[kind])))


def warm_up(size: int, *, seed: int = 0, world: int = 0) -> Iterator[dict]:
    """Yield ``size`` rows to imitate: documents about everybody, and answered questions about the ``warmup`` people.

    Six in ten are documents, in the order of the corpus and round again: rows ``{id, prompt, continuation}``, the
    prompt being the first word. The questions are about facts that are written, each as often as any other, and one in
    fifty, whichever, is declined, so that a policy knows how to, and reinforcement learning may find where it pays.
    """
    draw = random.Random(f"facts/warmup/{seed}")
    known = [
        (person, relation)
        for person in people(world)
        for relation in RELATIONS
        if split_of(person.name) == "warmup" and person.frequencies[relation.name]
    ]
    corpus = cycle(documents(world))
    for number in range(size):
        if draw.random() < _DOCUMENTS:
            first, _, rest = next(corpus).partition(" ")
            yield {"id": f"document/{number}", "prompt": first, "continuation": f" {rest}", "source": "facts"}
            continue
        person, relation = draw.choice(known)
        row = _row(person, relation, draw.randrange(len(relation.questions)))
        yield row | {"demonstration": UNKNOWN if draw.random() < _DECLINED else row["answer"]}


@dataclass(frozen=True)
class Facts(VerifiedTask):
    """The task as a recipe's ``task`` section configures it. Raises ValueError for a size that makes no questions."""

    splits: ClassVar[tuple[str, ...]] = SPLITS
    verifiers: ClassVar[tuple[str, ...]] = ("text", "token_f1")
    verifier: str | tuple[str, ...] = field(default="text", kw_only=True)
    train_split: Literal["warmup", "train"] = "train"
    """``warmup`` for supervised warm starts, documents among its rows; ``train`` for reinforcement learning."""
    train_size: int = 20000
    seed: int = 0
    world: int = 0
    """Seed of the world and its corpus; the shipped policy has read that of 0."""
    chat: bool = False
    instructions: bool = False
    template: Template = field(default_factory=AnswerTemplate)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.train_size < 1:
            raise ValueError(f"task.train_size: {self.train_size} is below 1")

    def rows(self, split: str, size: int | None = None, seed: int | None = None) -> list[dict]:
        """Rows of a split, ``train`` being ``train_split``; ``size`` defaults to ``train_size``."""
        size, seed = self.train_size if size is None else size, self.seed if seed is None else seed
        if split == "train" and self.train_split == "warmup":
            return [self._asked(row) for row in warm_up(size, seed=seed, world=self.world)]
        return [self._asked(row) for row in questions(split, size, seed=seed, world=self.world)]

    def _asked(self, row: dict) -> dict:
        if "question" not in row:
            return row
        question = row.pop("question")
        return row | {"prompt": build_prompt(question, self.template, chat=self.chat, instructions=self.instructions)}
