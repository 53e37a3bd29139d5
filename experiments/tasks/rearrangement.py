"""Rearrangement of a small world, in words: objects in places, and a wish that says where they are to end.

The agent answers with moves and with its claim of success, which the verifier ``state`` compares with where the moves
led: a right claim, a false success or a false failure. (The embodied task of that name: arXiv 2011.01975.) What makes
it hard is reading the wish against the world: ``put`` names objects and places, ``beside`` and ``swap`` take the
places from where objects stand, ``gather`` the objects from a place. All that the wish does not name must stay.

Splits are disjoint by construction, as those of arithmetic are: the world and its goal, in whatever words, are hashed
into one of them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from experiments.tasks.prompts import Template, build_prompt
from experiments.tasks.splits import SPLITS, split_of
from experiments.tasks.task import VerifiedTask
from rewards.template import AnswerTemplate
from rewards.verifiers.state import World

OBJECTS = ("key", "cup", "book", "lamp", "coin", "spoon", "hat", "ball")
PLACES = ("table", "shelf", "drawer", "box", "chair", "desk", "bed", "bag")
KINDS = ("put", "beside", "swap", "gather")
_TO_MEASURE_ON = ("validation", "test")
_HOW = (
    "Answer with one action a line, each of the form: move OBJECT to PLACE. On the last line write success if the "
    "wish is fulfilled then, and failure if it is not."
)


def _wish(kind: str, start: dict[str, str], places: list[str], draw: random.Random) -> tuple[str, dict[str, str]]:
    """A wish in words and where it wants objects; those may be there already."""
    first, second = draw.sample(list(start), 2)
    source, target = draw.sample(places, 2)
    if kind == "put":
        wanted = {name: draw.choice(places) for name in draw.sample([first, second], draw.choice([1, 2]))}
        return " and ".join(f"put the {name} at the {place}" for name, place in wanted.items()), wanted
    if kind == "beside":
        return f"put the {first} where the {second} is", {first: start[second]}
    if kind == "swap":
        return f"swap the {first} and the {second}", {first: start[second], second: start[first]}
    wanted = {name: target for name, place in start.items() if place == source}
    return f"put all that is at the {source} at the {target}", wanted


def worlds(split: str, size: int, *, seed: int = 0, max_objects: int = 4, max_places: int = 4) -> Iterator[dict]:
    """Yield ``size`` rows ``{id, question, answer, demonstration, source, difficulty, group}`` of one split.

    Worlds have from two objects and places up to the given numbers; the difficulty is the number of moves needed, at
    least one. ``answer`` is the gold of :mod:`rewards.verifiers.state`, ``demonstration`` a right answer to it. Rows to
    train on may repeat, those to measure on are distinct.

    Raises ValueError for an unknown split, and where one to measure on runs out of worlds.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    draw = random.Random(f"rearrangement/{split}/{seed}")
    seen: set[str] = set()
    misses = 0
    while size > 0:
        places = draw.sample(PLACES, draw.randint(2, max_places))
        start = {name: draw.choice(places) for name in draw.sample(OBJECTS, draw.randint(2, max_objects))}
        kind = draw.choice(KINDS)
        wish, wanted = _wish(kind, start, places, draw)
        goal = start | wanted
        moves = sum(goal[name] != start[name] for name in start)
        gold = json.dumps({"start": start, "goal": goal, "places": sorted(places)}, sort_keys=True)
        if not moves or split_of(gold) != split or (split in _TO_MEASURE_ON and gold in seen):
            misses += 1
            if misses > 5000:
                raise ValueError(f"split {split!r} has only {len(seen)} distinct questions, more were asked for")
            continue
        misses = 0
        seen.add(gold)
        size -= 1
        lines = [f"The places: {', '.join(places)}.", *(f"The {name} is at the {start[name]}." for name in start)]
        lines += [f"The wish: {wish}, and leave everything else where it is.", _HOW]
        yield {
            "id": f"{wish} | {', '.join(f'{name} {place}' for name, place in start.items())} | {' '.join(places)}",
            "question": "\n".join(lines),
            "answer": gold,
            "demonstration": World(start, goal, frozenset(places)).solution(),
            "source": "rearrangement",
            "difficulty": moves,
            "group": kind,
        }


@dataclass(frozen=True)
class Rearrangement(VerifiedTask):
    """The task as a recipe's ``task`` section configures it. Raises ValueError for sizes that make no worlds."""

    splits: ClassVar[tuple[str, ...]] = SPLITS
    verifiers: ClassVar[tuple[str, ...]] = ("state",)
    verifier: str | tuple[str, ...] = field(default="state", kw_only=True)
    max_objects: int = 4
    max_places: int = 4
    train_split: Literal["warmup", "train"] = "train"
    """``warmup`` for supervised warm starts, ``train`` for reinforcement learning."""
    train_size: int = 5000
    seed: int = 0
    chat: bool = True
    instructions: bool = True
    template: Template = field(default_factory=AnswerTemplate)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, most in (("max_objects", len(OBJECTS)), ("max_places", len(PLACES))):
            if not 2 <= getattr(self, name) <= most:
                raise ValueError(f"task.{name}: {getattr(self, name)} is not from 2 to {most}")
        if self.train_size < 1:
            raise ValueError(f"task.train_size: {self.train_size} is below 1")

    def rows(self, split: str, size: int | None = None, seed: int | None = None) -> list[dict]:
        """Rows of a split, ``train`` being ``train_split``; ``size`` defaults to ``train_size``."""
        drawn = worlds(
            self.train_split if split == "train" else split,
            self.train_size if size is None else size,
            seed=self.seed if seed is None else seed,
            max_objects=self.max_objects,
            max_places=self.max_places,
        )
        return [self._asked(row) for row in drawn]

    def _asked(self, row: dict) -> dict:
        question = row.pop("question")
        return row | {"prompt": build_prompt(question, self.template, chat=self.chat, instructions=self.instructions)}
