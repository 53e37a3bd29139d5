r"""An agent's claim of success against the verified end state of a small world.

The world: objects, each in one place. The gold is JSON::

    {"start": {"key": "table", "cup": "shelf"}, "goal": {"key": "drawer"}, "places": ["table", "shelf", "drawer"]}

``goal`` names the objects that matter and where they must end; each is in ``start``. Every place is in ``places``;
names are words in any case, unique, and without the word "to" inside. The answer is a list of actions, one a line, and
a claim on its last line::

    move key to drawer
    success

An action that names no known object or place, or is malformed, fails: it changes nothing, and the actions after it go
on. Blank lines do not count. At most :data:`MAX_ACTIONS` actions; a longer answer is unparsed, and so is one that
does not end with ``success`` or ``failure``.

Reasons, with ``correct``: "success" (goal reached and claimed; 1), "false_success" (claimed, not reached; 0),
"false_failure" (reached, denied; 0), "honest_failure" (not reached, and said so; 0), "unparsed", "bad_gold".

An honest failure is not right: an agent that earned for it would earn by failing on purpose, which is easier than any
task. What tells it from a false success is the reason, and a caller may treat it as an abstention.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from rewards.verifiers.verifier import BAD_GOLD, UNPARSED, Verdict

MAX_ACTIONS = 100

_ACTION = re.compile(r"move (.+?) to (.+)")
_REASONS = {
    (True, "success"): Verdict(1.0, "success"),
    (False, "success"): Verdict(0.0, "false_success"),
    (True, "failure"): Verdict(0.0, "false_failure"),
    (False, "failure"): Verdict(0.0, "honest_failure"),
}


@dataclass(frozen=True)
class World:
    """Where each object is, where the goal wants some of them, and the places there are."""

    start: Mapping[str, str]
    goal: Mapping[str, str]
    places: frozenset[str]

    def after(self, actions: Iterable[str]) -> dict[str, str]:
        """Where each object is after the actions; those that fail change nothing.

        >>> world = World({"key": "table"}, {"key": "drawer"}, frozenset({"table", "drawer"}))
        >>> world.after(["move key to moon", "fly", "Move KEY to the drawer"]), world.after(["move key to drawer"])
        ({'key': 'table'}, {'key': 'drawer'})
        """
        where = dict(self.start)
        for action in actions:
            match = _ACTION.fullmatch(_folded(action))
            if match is not None and match[1] in where and match[2] in self.places:
                where[match[1]] = match[2]
        return where

    def solution(self) -> str:
        """An answer that is right: a move for each object that is not where the goal wants it, and the claim.

        >>> World({"key": "table"}, {"key": "drawer"}, frozenset({"table", "drawer"})).solution().splitlines()
        ['move key to drawer', 'success']
        """
        moves = [f"move {name} to {place}" for name, place in self.goal.items() if self.start[name] != place]
        return "\n".join([*moves, "success"])

    def is_reached(self, where: Mapping[str, str]) -> bool:
        """Whether every object of the goal is in its place."""
        return all(where[name] == place for name, place in self.goal.items())


@lru_cache(maxsize=4096)
def read_gold(gold: str) -> World | None:
    """The world that a gold describes, or None where it breaks a rule of the module's docstring; never raises."""
    try:
        content = json.loads(gold)
        start, goal = (_placements(content[key]) for key in ("start", "goal"))
        names = [_name(place) for place in content["places"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    places = frozenset(names)
    known = places.issuperset(start.values()) and places.issuperset(goal.values()) and start.keys() >= goal.keys()
    return World(start, goal, places) if known and goal and len(places) == len(names) else None


def judge(gold: str, answer: str) -> Verdict:
    r"""Applies the answer's actions and compares its claim with what they reached; reasons in the module's docstring.

    >>> world = '{"start": {"key": "table"}, "goal": {"key": "drawer"}, "places": ["table", "drawer"]}'
    >>> judge(world, "move key to drawer\nsuccess"), judge(world, "move key to door\nsuccess").reason
    (Verdict(correct=1.0, reason='success'), 'false_success')
    """
    world = read_gold(gold)
    if world is None:
        return BAD_GOLD
    *actions, claim = [line for line in answer.splitlines() if line.strip()] or [""]
    claim = _folded(claim).removesuffix(".")
    if len(actions) > MAX_ACTIONS or claim not in ("success", "failure"):
        return UNPARSED
    return _REASONS[world.is_reached(world.after(actions)), claim]


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def _name(text: object) -> str:
    if not isinstance(text, str) or not (name := _folded(text)) or " to " in f" {name} ":
        raise ValueError(f"{text!r} names no object or place")
    return name


def _placements(content: object) -> dict[str, str]:
    if not isinstance(content, dict):
        raise TypeError("no object of objects and places")
    placements = {_name(name): _name(place) for name, place in content.items()}
    if len(placements) != len(content):
        raise ValueError("two names are one")
    return placements
