"""Word problems that lack what they need: GSM8K questions with a sentence deleted, each beside its whole self.

A sentence is needed where it states a number that the worked solution computes with, that no other sentence states,
and that no step of the solution has computed. AbstentionBench (arXiv 2506.09038) keeps the last question of a problem
alone, which leaves a fragment that is easy to tell; here one needed sentence goes and the rest stays, so that the pair
differs in nothing else.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

UNANSWERABLE = "unknown"
"""The gold of a question that lacks what it needs."""
GROUPS = ("answerable", "unanswerable")

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'])")
_NUMBER = re.compile(r"\d[\d,]*\.?\d*")
_STEP = re.compile(r"<<([^<>=]+)=([^<>]+)>>")


@dataclass(frozen=True)
class Pair:
    """A question, the same without a sentence that it needs, and that sentence."""

    whole: str
    lacking: str
    deleted: str


def numbers(text: str) -> set[float]:
    """The numbers written with digits in a text, thousands separators read over.

    >>> sorted(numbers("He pays $1,250.50 for 3 chairs."))
    [3.0, 1250.5]
    """
    return {float(found.replace(",", "").rstrip(".")) for found in _NUMBER.findall(text)}


def given_numbers(solution: str) -> set[float]:
    """What a worked solution computes with and has not computed itself, percentages as 20 and as 0.2.

    >>> sorted(given_numbers("16-3=<<16-3=13>>13 eggs, 13*2=<<13*2=26>>26"))
    [2.0, 3.0, 16.0, 200.0, 300.0, 1600.0]
    """
    given: set[float] = set()
    computed: set[float] = set()
    for operands, result in _STEP.findall(solution):
        for value in numbers(operands) - computed:
            given |= {value, round(100.0 * value, 6)}
        computed |= numbers(result)
    return given


def pair_of(question: str, solution: str, draw: random.Random) -> Pair | None:
    """A pair made of one problem, the deleted sentence drawn among those that are needed; None where there is none.

    The sentence that asks stays.

    >>> made = pair_of("Ann has 5 pens. She buys 7 more. How many has she?", "<<5+7=12>>", random.Random(0))
    >>> made.lacking, made.deleted
    ('Ann has 5 pens. How many has she?', 'She buys 7 more.')
    """
    sentences = _SENTENCE.split(question.strip())
    given = given_numbers(solution)
    needed = []
    for place, sentence in enumerate(sentences):
        rest = [other for at, other in enumerate(sentences) if at != place]
        if not sentence.endswith("?") and (numbers(sentence) & given) - set[float]().union(*map(numbers, rest)):
            needed.append(place)
    if not needed or not any(each.endswith("?") for each in sentences):
        return None
    place = draw.choice(needed)
    lacking = " ".join(each for at, each in enumerate(sentences) if at != place)
    return Pair(" ".join(sentences), lacking, sentences[place])


def paired_rows(records: Iterator[tuple[str, Mapping[str, Any]]], seed: int = 0) -> Iterator[dict[str, str]]:
    """Two rows of the task ``dataset`` from each GSM8K record (name, line) that has a needed sentence.

    Rows are ``{id, question, answer, group, item, deleted}``; the gold of the lacking one is :data:`UNANSWERABLE`.
    """
    for name, record in records:
        made = pair_of(record["question"], record["answer"], random.Random(f"unanswerable/{seed}/{name}"))
        if made is not None:
            gold = record["answer"].rpartition("####")[2].strip()
            for group, question, answer in zip(GROUPS, (made.whole, made.lacking), (gold, UNANSWERABLE), strict=True):
                row = {"id": f"{name}/{group}", "question": question, "answer": answer, "group": group, "item": name}
                yield row | {"deleted": made.deleted}
