"""Rewards against text that goes on for too long or says the same again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rewards.completion import SEGMENTS, ParseStatus
from rewards.outcomes import Outcomes
from rewards.scoring_rules import Scheme, check_range, constant_scheme
from rewards.terms.intrinsic import read_signal


@dataclass(frozen=True)
class RepetitionTerm:
    """Minus the share of the completion's token 4-grams that occurred before in it; credited to all of it.

    Belongs beside every reward for the model's own certainty, which repetition is the cheapest way to raise.

    Returns (N,) float in [-1, 0], NaN where the signal is undefined. By parse status: the same under every status.
    """

    name: ClassVar[str] = "repetition"
    formula: ClassVar[str] = "-(share of repeated token 4-grams)"
    paper: ClassVar[str] = ""
    needs_group: ClassVar[bool] = False
    method: ClassVar[str] = ""
    signals: ClassVar[tuple[str, ...]] = ("repetition",)
    reward_range: ClassVar[str] = "[-1, 0]"
    segments: tuple[str, ...] = SEGMENTS

    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        return 0.0 - read_signal(outcomes, "repetition", self.name)  # no -0.0

    def scheme(self) -> Scheme:
        """Nothing, right or wrong: the term sees neither the verdict nor the stated confidence."""
        return constant_scheme(0.0, 0.0)


@dataclass(frozen=True)
class OverlongTerm:
    """Soft punishment of length: 0 up to ``max_length - buffer`` tokens, then linear to -1 at ``max_length`` (DAPO).

    The slope tells a policy that it runs out of room before the cut-off does. The lengths default to the paper's;
    ``max_length`` should be the trainer's ``max_completion_length``.

    Returns (N,) float in [-1, 0], never NaN. By parse status: the same under every status; a truncated completion has
    the length that was generated. Raises ValueError unless 0 < buffer <= max_length.
    Source: arXiv 2503.14476, equation 13.

    >>> term, length = OverlongTerm(max_length=100, buffer=40), np.array([60, 80, 100, 130])
    >>> term(Outcomes(np.ones(4), np.ones(4), (ParseStatus.OK,) * 4, np.zeros(4, int), length)).tolist()
    [0.0, -0.5, -1.0, -1.0]
    """

    name: ClassVar[str] = "overlong"
    formula: ClassVar[str] = "-clip((length - max_length + buffer) / buffer, 0, 1)"
    paper: ClassVar[str] = "arXiv 2503.14476"
    needs_group: ClassVar[bool] = False
    method: ClassVar[str] = "DAPO"
    signals: ClassVar[tuple[str, ...]] = ()
    reward_range: ClassVar[str] = "[-1, 0]"
    max_length: int = 20480
    buffer: int = 4096
    segments: tuple[str, ...] = SEGMENTS

    def __post_init__(self) -> None:
        check_range("rubric.overlong.max_length", self.max_length, 0.0, np.inf, "()")
        check_range("rubric.overlong.buffer", self.buffer, 0.0, self.max_length, "(]")

    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        return 0.0 - np.clip((outcomes.length - (self.max_length - self.buffer)) / self.buffer, 0.0, 1.0)  # no -0.0

    def scheme(self) -> Scheme:
        """Nothing, right or wrong: the term sees neither the verdict nor the stated confidence."""
        return constant_scheme(0.0, 0.0)


@dataclass(frozen=True)
class TruncatedTerm:
    """An explicit ``value`` for completions that hit the length limit; credited to all of it.

    Returns (N,) float, never NaN. By parse status: TRUNCATED earns ``value``, every other status 0. Raises ValueError
    for a value that is not finite.
    """

    name: ClassVar[str] = "truncated"
    formula: ClassVar[str] = "value * 1[status = truncated]"
    paper: ClassVar[str] = ""
    needs_group: ClassVar[bool] = False
    method: ClassVar[str] = ""
    signals: ClassVar[tuple[str, ...]] = ()
    value: float = -1.0
    segments: tuple[str, ...] = SEGMENTS

    def __post_init__(self) -> None:
        check_range("rubric.truncated.value", self.value, -np.inf, np.inf, "()")

    @property
    def reward_range(self) -> str:
        """What the term pays at least and at most."""
        return f"[{min(self.value, 0.0):g}, {max(self.value, 0.0):g}]"

    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        truncated_N = np.array([status == ParseStatus.TRUNCATED for status in outcomes.status], dtype=bool)
        return np.where(truncated_N, float(self.value), 0.0)

    def scheme(self) -> Scheme:
        """Nothing, right or wrong: the term sees neither the verdict nor the stated confidence."""
        return constant_scheme(0.0, 0.0)
