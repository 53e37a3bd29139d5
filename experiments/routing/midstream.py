"""Mid-stream hand-over: step by step, a small policy writes what it is sure of and a large one the rest (STEER).

Kept of STEER (arXiv 2511.06190): a mixture of two normal distributions over step confidences, fitted without labels,
and the large policy's turn where a step most likely belongs to the lower one, judged before the step is written (by the
next token) or after it. Changed: the confidence is the mean of the tokens' highest probabilities, as everywhere here,
in place of the mean highest logit; and between the means only does the mixture say anything, for beyond them the wider
component, which may be the lower one, would take over again. The controls hand over at a fixed rate, at random, or by
the large policy's judgement of the finished step, as SpecReason does.

The policies may have different vocabularies: what one wrote the other reads as text. What each has to read of the
other's steps is counted, in its own tokens, and so is what is thrown away.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike
from sklearn.mixture import GaussianMixture

from estimators.metrics.inputs import FloatArray


@dataclass(frozen=True)
class Mixture:
    """Two normal distributions over confidences, the lower one first."""

    shares: tuple[float, float]
    means: tuple[float, float]
    deviations: tuple[float, float]

    @classmethod
    def fit(cls, confidences: ArrayLike) -> Mixture:
        """Fit to confidences (N,) by expectation maximisation. Raises ValueError for fewer than two distinct ones."""
        values = np.asarray(confidences, dtype=float).reshape(-1, 1)
        if not np.isfinite(values).all() or len(np.unique(values)) < 2:
            raise ValueError(f"{len(np.unique(values))} distinct confidences, expected at least two, all finite")
        found = GaussianMixture(2, n_init=5, random_state=0).fit(values)
        order = np.argsort(found.means_[:, 0])
        low, high = (
            (float(found.weights_[each]), float(found.means_[each, 0]), float(found.covariances_[each, 0, 0]) ** 0.5)
            for each in order
        )
        return cls(*zip(low, high, strict=True))

    def surely_high(self, confidence: ArrayLike) -> FloatArray:
        """Posterior that confidences (N,) belong to the upper distribution; it rises with the confidence.

        >>> Mixture((0.5, 0.5), (0.4, 0.8), (0.1, 0.1)).surely_high([0.6]).tolist()
        [0.5]
        """
        values = np.clip(np.asarray(confidence, dtype=float), *self.means)
        low, high = (
            np.log(share) - np.log(deviation) - 0.5 * ((values - mean) / deviation) ** 2
            for share, mean, deviation in zip(self.shares, self.means, self.deviations, strict=True)
        )
        posterior: FloatArray = 1.0 / (1.0 + np.exp(np.clip(low - high, -700.0, 700.0)))
        return posterior


@dataclass(frozen=True)
class Step:
    """A piece of a completion: up to the end of a step of thought, or of the whole. ``confidence`` is in [0, 1].

    ``ids`` are of the vocabulary of who wrote it, with the token that ends the completion, which ``text`` is without.
    """

    ids: tuple[int, ...]
    text: str
    confidence: float
    ends: bool
    vocabulary: str = ""


class Writer(Protocol):
    """A policy that writes step by step and counts the tokens that it has run through."""

    parameters: int
    processed: int

    def begin(self, prompt: Any) -> list[int]:
        """The ids of a prompt, a text or the messages of a chat."""

    def reads(self, step: Step) -> list[int]:
        """A step as ids of its own vocabulary, whoever wrote it."""

    def write(self, ids: Sequence[int], most: int) -> Step:
        """The step that goes on from ``ids``, of at most ``most`` tokens."""

    def next_confidence(self, ids: Sequence[int]) -> float:
        """The highest probability of the token after ``ids``."""

    def likelihood(self, ids: Sequence[int], step: Sequence[int]) -> float:
        """Geometric mean of the probabilities that this policy gives the tokens of a step after ``ids``."""


class HandOver(Protocol):
    """Says when the large policy writes. What it asks for as a function costs tokens, and only when it is called."""

    def before(self, number: int, confidence: Callable[[], float]) -> bool:
        """Whether the large policy writes step ``number`` at once; ``confidence`` is the small one's next token's."""

    def after(self, step: Step, judged: Callable[[], float]) -> bool:
        """Whether it writes the small policy's step again; ``judged`` is its likelihood of what is there."""


@dataclass(frozen=True)
class Steer:
    """STEER: the large policy's turn where the posterior of the upper component is below ``threshold``."""

    mixture: Mixture
    threshold: float = 0.5
    moment: Literal["before", "after"] = "before"

    def before(self, number: int, confidence: Callable[[], float]) -> bool:
        return self.moment == "before" and self._unsure(confidence())

    def after(self, step: Step, judged: Callable[[], float]) -> bool:
        return self.moment == "after" and self._unsure(step.confidence)

    def _unsure(self, confidence: float) -> bool:
        return bool(self.mixture.surely_high([confidence])[0] < self.threshold)


@dataclass(frozen=True)
class Judge:
    """The large policy reads each step and writes it again where it finds it less likely than ``threshold``.

    SpecReason (arXiv 2504.07891) asks for a mark from 0 to 9 in one more token, which takes a policy that speaks.
    """

    threshold: float

    def before(self, number: int, confidence: Callable[[], float]) -> bool:
        return False

    def after(self, step: Step, judged: Callable[[], float]) -> bool:
        return judged() < self.threshold


@dataclass(frozen=True)
class FixedRate:
    """The large policy writes every ``every``-th step, from the first on; 1 is the large policy alone, 0 never."""

    every: int

    def before(self, number: int, confidence: Callable[[], float]) -> bool:
        return self.every > 0 and number % self.every == 0

    def after(self, step: Step, judged: Callable[[], float]) -> bool:
        return False


@dataclass
class RandomShare:
    """The large policy writes this share of the steps, by lot: what any rule has to beat at the same share."""

    share: float
    seed: int = 0
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def before(self, number: int, confidence: Callable[[], float]) -> bool:
        return self._random.random() < self.share

    def after(self, step: Step, judged: Callable[[], float]) -> bool:
        return False


@dataclass(frozen=True)
class Solved:
    """A completion of a pair, and what it cost. ``by_large`` says of each step who wrote it.

    ``tokens`` are those of the completion, each counted by who wrote it. ``small_tokens`` and ``large_tokens`` have run
    through the policies, prompts and the other's steps included; ``discarded`` were written by the small one and thrown
    away. ``flops`` counts two a parameter and token.
    """

    text: str
    tokens: int
    by_large: tuple[bool, ...]
    written_by_large: int
    discarded: int
    small_tokens: int
    large_tokens: int
    flops: float


def solve(
    small: Writer, large: Writer, hand_over: HandOver, prompt: Any, *, max_tokens: int, longest_step: int
) -> Solved:
    """Write one completion of at most ``max_tokens`` tokens, step by step, each by the policy that is to write it."""
    started = small.processed, large.processed
    small_ids, large_ids = small.begin(prompt), large.begin(prompt)  # asked and written so far, as each reads it
    texts: list[str] = []
    by_large: list[bool] = []
    tokens = written_by_large = discarded = 0
    ended = False
    while not ended and tokens < max_tokens:
        most = min(longest_step, max_tokens - tokens)
        handed = hand_over.before(len(by_large), lambda: small.next_confidence(small_ids))
        step = large.write(large_ids, most) if handed else small.write(small_ids, most)
        if not handed and hand_over.after(step, lambda step=step: large.likelihood(large_ids, large.reads(step))):
            discarded += len(step.ids)
            handed, step = True, large.write(large_ids, most)
        small_ids.extend(small.reads(step))
        large_ids.extend(large.reads(step))
        texts.append(step.text)
        by_large.append(handed)
        tokens += len(step.ids)
        written_by_large += len(step.ids) if handed else 0
        ended = step.ends or not step.ids
    small_tokens, large_tokens = small.processed - started[0], large.processed - started[1]
    return Solved(
        text="".join(texts),
        tokens=tokens,
        by_large=tuple(by_large),
        written_by_large=written_by_large,
        discarded=discarded,
        small_tokens=small_tokens,
        large_tokens=large_tokens,
        flops=2.0 * (small.parameters * small_tokens + large.parameters * large_tokens),
    )
