"""Sums, differences and products of two numbers in English words, for policies that were trained on language.

The difficulty of a question is its operator and the digits of its operands. Splits are disjoint by construction, as
those of :mod:`experiments.tasks.arithmetic` are; ``shifted`` holds operands one digit longer than any of the other
splits has.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from experiments.tasks.prompts import Template, build_prompt
from experiments.tasks.splits import SPLITS as HASHED
from experiments.tasks.splits import split_of
from experiments.tasks.task import VerifiedTask
from rewards.template import AnswerTemplate

SPLITS = (*HASHED, "shifted")
_REPEATING = ("warmup", "train")
_OPERATORS = {"+": "plus", "-": "minus", "*": "times"}
_SHARES = {"+": 1, "-": 1, "*": 4}
_ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of question: the operator and how many digits its two operands have."""

    operator: str
    left_digits: int
    right_digits: int

    @property
    def difficulty(self) -> int:
        """Digits a written solution handles: their sum for ``+`` and ``-``, twice their product for ``*``."""
        if self.operator == "*":
            return 2 * self.left_digits * self.right_digits
        return self.left_digits + self.right_digits

    def share(self, longest: int) -> int:
        """How often it comes, against others of its operator: an operand of a product is as often ``longest`` digits
        long as it is shorter, so that hard products and easy ones balance."""
        if self.operator != "*":
            return 1
        return math.prod(
            max(longest - 1, 1) if each == longest else 1 for each in (self.left_digits, self.right_digits)
        )

    def __str__(self) -> str:
        return f"{self.left_digits}{self.operator}{self.right_digits}"


def kinds_of(max_digits: int, *, shifted: bool = False) -> dict[str, list[Kind]]:
    """Kinds of question by operator; ``shifted`` ones have a left operand one digit longer than ``max_digits``."""
    lefts = [max_digits + 1] if shifted else range(1, max_digits + 1)
    rights = range(1, max_digits + 1 + shifted)
    return {operator: [Kind(operator, left, right) for left in lefts for right in rights] for operator in _OPERATORS}


def number_in_words(value: int) -> str:
    """English words of an integer below one million in size, hyphenated, without "and".

    >>> number_in_words(-1042)
    'minus one thousand forty-two'
    """
    if value < 0:
        return "minus " + number_in_words(-value)
    if value >= 1000:
        rest = value % 1000
        return number_in_words(value // 1000) + " thousand" + (f" {number_in_words(rest)}" if rest else "")
    if value >= 100:
        rest = value % 100
        return _ONES[value // 100] + " hundred" + (f" {number_in_words(rest)}" if rest else "")
    if value >= 20:
        return _TENS[value // 10] + (f"-{_ONES[value % 10]}" if value % 10 else "")
    return _TEENS[value - 10] if value >= 10 else _ONES[value]


def _split_of(left: int, operator: str, right: int) -> str:
    if operator in "+*" and left > right:
        left, right = right, left
    return split_of(f"{left}{operator}{right}")


def _draw(generator: random.Random, digits: int) -> int:
    return generator.randrange(0 if digits == 1 else 10 ** (digits - 1), 10**digits)


def questions(split: str, size: int, *, seed: int = 0, max_digits: int = 3) -> Iterator[dict]:
    """Yield ``size`` rows ``{id, question, answer, source, difficulty, group}`` of one split.

    Two thirds are products, the rest sums and differences in equal shares; within an operator, see :meth:`Kind.share`.
    Rows to train on may repeat; those to measure on are distinct, so that there a kind drops out when its questions
    are used up (two one-digit operands soon are). Differences are not negative. No operand has more than ``max_digits``
    digits, or one more in ``shifted``.

    Raises ValueError for an unknown split, and where one to measure on has fewer than ``size`` questions.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    shifted = split == "shifted"
    kinds = kinds_of(max_digits, shifted=shifted)
    generator = random.Random(f"arithmetic/{split}/{seed}")
    seen: set[tuple[int, str, int]] = set()
    misses: Counter[Kind] = Counter()
    count = 0
    while count < size:
        if not kinds:
            raise ValueError(f"split {split!r} has only {count} distinct questions, {size} were asked for")
        of_operator = kinds[generator.choices(list(kinds), [_SHARES[each] for each in kinds])[0]]
        kind = generator.choices(of_operator, [each.share(max_digits + shifted) for each in of_operator])[0]
        left, right = _draw(generator, kind.left_digits), _draw(generator, kind.right_digits)
        if kind.operator == "-" and left < right:
            left, right = right, left
        key = (left, kind.operator, right)
        repeated = key in seen and split not in _REPEATING
        if repeated or not (shifted or _split_of(*key) == split):
            misses[kind] += 1
            if misses[kind] > 2000:  # an exhausted kind: every further draw would be a repeat
                kinds[kind.operator].remove(kind)
                if not kinds[kind.operator]:
                    del kinds[kind.operator]
            continue
        misses[kind] = 0
        seen.add(key)
        count += 1
        value = {"+": left + right, "-": left - right, "*": left * right}[kind.operator]
        yield {
            "id": f"{left}{kind.operator}{right}",
            "question": f"What is {number_in_words(left)} {_OPERATORS[kind.operator]} {number_in_words(right)}?",
            "answer": str(value),
            "source": "arithmetic_words",
            "difficulty": kind.difficulty,
            "group": str(kind),
        }


@dataclass(frozen=True)
class ArithmeticWords(VerifiedTask):
    """The task as a recipe's ``task`` section configures it. Raises ValueError for sizes that make no questions."""

    splits: ClassVar[tuple[str, ...]] = SPLITS
    verifiers: ClassVar[tuple[str, ...]] = ("math", "text", "token_f1")
    max_digits: int = 3
    train_split: Literal["warmup", "train"] = "train"
    """``warmup`` for supervised warm starts, ``train`` for reinforcement learning."""
    train_size: int = 20000
    seed: int = 0
    chat: bool = False
    instructions: bool = False
    template: Template = field(default_factory=AnswerTemplate)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.max_digits <= 5:
            raise ValueError(f"task.max_digits: {self.max_digits} is not from 1 to 5")
        if self.train_size < 1:
            raise ValueError(f"task.train_size: {self.train_size} is below 1")

    def rows(self, split: str, size: int | None = None, seed: int | None = None) -> list[dict]:
        """Rows of a split, ``train`` being ``train_split``; ``size`` defaults to ``train_size``."""
        drawn = questions(
            self.train_split if split == "train" else split,
            self.train_size if size is None else size,
            seed=self.seed if seed is None else seed,
            max_digits=self.max_digits,
        )
        rows = []
        for row in drawn:
            question = row.pop("question")
            prompt = build_prompt(question, self.template, chat=self.chat, instructions=self.instructions)
            rows.append({**row, "prompt": prompt})
        return rows
