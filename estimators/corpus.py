"""Confidence from what a corpus says, whatever the model thinks: entities of the question, beside the answer.

QuCo-RAG (arXiv 2512.19134) asks the statistics of the corpus that a model was trained on: an entity that is hardly ever
named is not known, and an answer that never stands beside the entity asked about was not read anywhere. Kept: the
counts, the thresholds, and the order of the questions. Changed: entities are runs of capitalised words instead of a
trained extractor's, counts are of documents, and an index that cannot be asked is an error, where the release goes on
as if nothing were wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch

from estimators.corpus_index import CorpusIndex, normal
from estimators.estimator import TEXT, Completions, Estimate, nothing
from estimators.token_statistics import TokenStatistics

_NAME = re.compile(r"[^\W\d_][\w'’-]*(?:\s+[^\W\d_][\w'’-]*)*")
_OPENING = frozenset(
    re.findall(
        r"\w+",
        "a an and are at but by can did do does for from had has have he her his how i if in is it its name of on or "
        "she that the their there these they this those to was we were what when where which who whom whose why will "
        "with you answer",
    )
)
_YES_NO = frozenset(("yes", "no"))


def entities_of(question: str) -> list[str]:
    """The runs of capitalised words of a question, each once, in order; what stands after its last blank line counts.

    A word that opens a sentence and could open any is left out.

    >>> entities_of("Answer in this Format.\\n\\nWas Ada Brook born in Vienna, or in New York City?")
    ['Ada Brook', 'Vienna', 'New York City']
    """
    found = []
    for stretch in _NAME.finditer(normal(question).rpartition("\n\n")[2]):
        run: list[str] = []
        for word in [*stretch[0].split(), ""]:
            if word[:1].isupper() and (run or word.lower() not in _OPENING):
                run.append(word)
            elif run:
                found.append(" ".join(run))
                run = []
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class CorpusTrigger:
    """When a question or its answer has to be looked up, whatever the model's confidence.

    The thresholds are the paper's, on counts of documents; ``question_below`` was chosen for a corpus of trillions of
    tokens, so that a small one needs another.
    """

    question_below: float = 1000
    """Mean count of the question's entities."""
    pair_below: int = 1
    """Count of the answer beside an entity of the question."""
    yes_no_below: int = 20
    """Mean count of the question's entities where the answer is yes or no, which stands beside nothing."""

    def reasons(self, index: CorpusIndex, question: str, answer: str | None) -> tuple[str, ...]:
        """Why, in one or more of "rare entity", "unseen pair", "nothing to count"; none where it may stand.

        ``answer`` is None before there is one: then only the question is judged.
        """
        named = mean_count(index, question)
        if named is None:
            return ("nothing to count",)
        yes_no = answer is not None and answer.strip().lower() in _YES_NO
        reasons = []
        if named < (self.yes_no_below if yes_no else self.question_below):
            reasons.append("rare entity")
        if answer is not None and not yes_no:
            beside = pair_count(index, question, answer)
            if beside is None:
                reasons.append("nothing to count")
            elif beside < self.pair_below:
                reasons.append("unseen pair")
        return tuple(reasons)


def mean_count(index: CorpusIndex, question: str) -> float | None:
    """Mean number of documents that name an entity of the question; None where it has none."""
    counts = [index.count(entity) for entity in entities_of(question)]
    known = [count for count in counts if count is not None]
    return sum(known) / len(known) if known else None


def pair_count(index: CorpusIndex, question: str, answer: str) -> int | None:
    """Number of documents in which the answer stands beside an entity of the question, of the entity with the most.

    An entity that the answer repeats is not counted, since it stands beside itself wherever it stands. None where no
    entity is left, the answer has no word, or it is yes or no.
    """
    said = normal(answer).strip().lower()
    if said in _YES_NO:
        return None
    apart = [each for each in entities_of(question) if each.lower() not in said and said not in each.lower()]
    counts = [index.count_pair(entity, answer) for entity in apart]
    return max((count for count in counts if count is not None), default=None)


@lru_cache(maxsize=8)
def _opened(folder: str) -> CorpusIndex:
    return CorpusIndex(folder)


def _counted(completions: Completions, count: Callable[[str, str | None], float | None]) -> Estimate:
    """A count of each completion's question and answer (B,); not valid where it has none."""
    if len(completions.prompts) != len(completions) or len(completions.answers) != len(completions):
        raise ValueError("a corpus estimator reads texts, and the completions have no prompts and answers as text")
    found = [count(*each) for each in zip(completions.prompts, completions.answers, strict=True)]
    values = [torch.nan if each is None else each for each in found]
    values_B = torch.tensor(values, dtype=torch.float64, device=completions.written_BT.device)
    return Estimate.where(~values_B.isnan(), values_B)


@dataclass(frozen=True)
class CorpusCount:
    """A count of documents in a corpus, at least 0. Raises ValueError where ``index`` is not the folder of an index."""

    needs: ClassVar[frozenset[str]] = frozenset({TEXT})
    is_probability: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, math.inf)
    higher_is_surer: ClassVar[bool] = True
    cost: ClassVar[str] = "a look-up in a corpus index"
    source: ClassVar[str] = "arXiv 2512.19134"
    index: str
    """Folder that ``candor corpus build`` has written."""

    def check(self) -> None:
        """Raise ValueError where ``index`` is not the folder of an index."""
        _opened(self.index)

    def reads(self, completions: Completions) -> torch.Tensor:
        """No token's statistics."""
        return nothing(completions)


@dataclass(frozen=True)
class CorpusPair(CorpusCount):
    """Documents of a corpus in which the answer stands beside an entity of the question, at least 0 (QuCo-RAG).

    Not valid without an entity or an answer, and where the answer is yes or no. Raises ValueError where ``index`` is
    not the folder of an index.
    """

    def __call__(self, completions: Completions, statistics: TokenStatistics) -> Estimate:
        """The number of documents (B,)."""
        index = _opened(self.index)
        return _counted(
            completions, lambda prompt, answer: None if answer is None else pair_count(index, prompt, answer)
        )


@dataclass(frozen=True)
class CorpusEntity(CorpusCount):
    """Documents of a corpus that name an entity of the question, their mean, at least 0, before any answer (QuCo-RAG).

    Not valid without an entity. Raises ValueError where ``index`` is not the folder of an index.
    """

    def __call__(self, completions: Completions, statistics: TokenStatistics) -> Estimate:
        """The number of documents (B,)."""
        index = _opened(self.index)
        return _counted(completions, lambda prompt, answer: mean_count(index, prompt))
