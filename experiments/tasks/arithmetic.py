"""Chains of sums, differences and products (``72-4-5*5=``) that a tiny policy answers at once or step by step.

A worked solution does one operation a step, products before the sum or difference that they stand in, from left to
right; steps are separated by ``;`` and a re-check repeats a step behind a question mark:

    72-4=68;5*5=25;68-25=43;?68-25=43

Answered at once a chain is hard, and harder the more operations it has and the larger its values are, both of which
can be seen from the question; worked out, each step is a small fact. So reinforcement learning has something to teach,
and P(correct) covers 0 to 1. A number has at most two digits, which the shipped policies read as one token.

Splits are disjoint by construction: each question is hashed into one of them, and commuted twins of one operation
(``3+8``, ``8+3``) fall together. ``warmup`` is for supervised warm starts and ``train`` for RL; a policy that met its
RL questions in the warm start would be sure of them for a reason that does not hold on ``test``. ``shifted`` holds
chains with one or two operations more than any of the other splits has.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from experiments.schema import known_keys
from experiments.tasks.prompts import Template, build_prompt
from experiments.tasks.splits import SPLITS as HASHED
from experiments.tasks.splits import split_of
from experiments.tasks.task import VerifiedTask
from rewards.template import AnswerTemplate

SPLITS = (*HASHED, "shifted")
MANNERS = ("direct", "worked", "checked")
"""How a demonstration comes to its answer: at once, step by step, or step by step with one or two re-checks."""
SEPARATOR = ";"
"""Stands between the steps of a solution."""
RECHECK = "?"
"""Stands before a step that repeats the one before it."""
_REPEATING = ("warmup", "train")
_LIMITS = {29: 5, 49: 3}
"""Limits below the largest, with their shares against its 2."""
_PRODUCT = 0.25


@dataclass(frozen=True, slots=True)
class Chain:
    """A question ``text`` without its equals sign, its answer, and the operations that lead there, in order."""

    text: str
    value: int
    steps: tuple[str, ...]

    @property
    def twin(self) -> str:
        """A text that commuted twins of one operation share."""
        for sign in "+*" if len(self.steps) == 1 else "":
            if sign in self.text:
                return sign.join(sorted(self.text.split(sign)))
        return self.text


def draw_chain(generator: random.Random, operations: int, limit: int) -> Chain:
    """A chain of so many operations whose numbers, partial results included, lie in [0, limit]; ``limit`` from 9."""
    parts: list[str] = []
    steps: list[str] = []
    value, left = 0, operations
    while left or not parts:
        sign = "" if not parts else generator.choice("+-")
        room = limit - value if sign != "-" else value
        if sign and room < 1:  # at an end of the range only the other way is open
            sign = "-" if sign == "+" else "+"
            room = limit - value if sign == "+" else value
        needed = 2 if sign else 1
        if left >= needed and room >= 4 and generator.random() < (_PRODUCT if sign or left > 1 else 1 / 3):
            one = generator.randint(2, min(9, room // 2))
            other = generator.randint(2, min(9, room // one))
            term, text = one * other, f"{one}*{other}"
            steps.append(f"{text}={term}")
            left -= 1
        else:
            term = generator.randint(1, room)
            text = str(term)
        if sign:
            result = value + term if sign == "+" else value - term
            steps.append(f"{value}{sign}{term}={result}")
            value = result
            left -= 1
        else:
            value = term
        parts.append(sign + text)
    return Chain("".join(parts), value, tuple(steps))


def written_solution(chain: Chain, manner: str, generator: random.Random) -> str | None:
    """The steps of a chain as a policy of this manner writes them; None where it answers at once."""
    if manner == "direct":
        return None
    steps = list(chain.steps)
    if manner == "checked":
        checked = generator.sample(range(len(steps)), min(len(steps), generator.randint(1, 2)))
        for index in sorted(checked, reverse=True):
            steps.insert(index + 1, RECHECK + steps[index])
    return SEPARATOR.join(steps)


def questions(
    split: str,
    size: int,
    *,
    seed: int = 0,
    max_steps: int = 5,
    max_value: int = 79,
    manners: Mapping[str, float] | None = None,
) -> Iterator[dict]:
    """Yield ``size`` rows ``{id, question, answer, solution, source, difficulty, group}`` of one split.

    Chains of 1 to ``max_steps`` operations are equally frequent. Their numbers stay within 29, 49 and ``max_value`` in
    shares of 5, 3 and 2, of those limits that are not above it, so that a large number is hard for being rare. Rows to
    train on may repeat; those to measure on are distinct. ``difficulty`` is the number of operations, which ``group``
    names too. ``solution`` is what a demonstration thinks before it answers, by a manner drawn with the shares of
    ``manners`` (worked if left out), None where it answers at once.

    Raises ValueError for an unknown split, and where one to measure on has fewer than ``size`` questions.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    shares = dict(manners or {"worked": 1.0})
    limits = {limit: share for limit, share in _LIMITS.items() if limit < max_value} | {max_value: 2}
    lengths = [max_steps + 1, max_steps + 2] if split == "shifted" else list(range(1, max_steps + 1))
    generator = random.Random(f"arithmetic/{split}/{seed}")
    kinds = {(length, limit): share for length in lengths for limit, share in limits.items()}
    misses = dict.fromkeys(kinds, 0)
    seen: set[str] = set()
    count = 0
    while count < size:
        if not kinds:
            raise ValueError(f"split {split!r} has only {count} distinct questions, {size} were asked for")
        kind = generator.choices(list(kinds), list(kinds.values()))[0]
        chain = draw_chain(generator, *kind)
        repeated = chain.text in seen and split not in _REPEATING
        if repeated or not (split == "shifted" or split_of(chain.twin) == split):
            misses[kind] += 1
            if misses[kind] > 2000:  # an exhausted kind: every further draw would be a repeat
                del kinds[kind]
            continue
        misses[kind] = 0
        seen.add(chain.text)
        count += 1
        manner = generator.choices(list(shares), list(shares.values()))[0]
        yield {
            "id": chain.text,
            "question": f"{chain.text}=",
            "answer": str(chain.value),
            "solution": written_solution(chain, manner, generator),
            "source": "arithmetic",
            "difficulty": kind[0],
            "group": f"{kind[0]} step{'s' * (kind[0] > 1)}",
        }


@dataclass(frozen=True)
class Arithmetic(VerifiedTask):
    """The task as a recipe's ``task`` section configures it. Raises ValueError for sizes that make no questions."""

    splits: ClassVar[tuple[str, ...]] = SPLITS
    verifiers: ClassVar[tuple[str, ...]] = ("math", "text", "token_f1")
    max_steps: int = 5
    """Operations of the longest chains."""
    max_value: int = 79
    """The largest number in a chain or among its partial results."""
    manners: dict[str, float] = field(default_factory=lambda: {"worked": 1.0})
    """Share of each manner among the demonstrations of a supervised warm start."""
    train_split: Literal["warmup", "train"] = "train"
    """``warmup`` for supervised warm starts, ``train`` for reinforcement learning."""
    train_size: int = 20000
    seed: int = 0
    chat: bool = False
    instructions: bool = False
    template: Template = field(default_factory=AnswerTemplate)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low, high in (("max_steps", 1, 12), ("max_value", 9, 99)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"task.{name}: {getattr(self, name)} is not from {low} to {high}")
        if self.train_size < 1:
            raise ValueError(f"task.train_size: {self.train_size} is below 1")
        known_keys("task.manners", self.manners, MANNERS)
        if any(share < 0 for share in self.manners.values()) or not sum(self.manners.values()) > 0:
            raise ValueError(f"task.manners: {self.manners} are not shares of 0 or more, with one above 0")

    def manner(self, completion: str) -> str:
        """How a completion comes to its answer, one of :data:`MANNERS`."""
        if "</think>" not in completion:
            return "direct"
        return "checked" if RECHECK in completion else "worked"

    def rows(self, split: str, size: int | None = None, seed: int | None = None) -> list[dict]:
        """Rows of a split, ``train`` being ``train_split``; ``size`` defaults to ``train_size``."""
        drawn = questions(
            self.train_split if split == "train" else split,
            self.train_size if size is None else size,
            seed=self.seed if seed is None else seed,
            max_steps=self.max_steps,
            max_value=self.max_value,
            manners=self.manners,
        )
        rows = []
        for row in drawn:
            question = row.pop("question")
            prompt = build_prompt(question, self.template, chat=self.chat, instructions=self.instructions)
            rows.append({**row, "prompt": prompt})
        return rows
