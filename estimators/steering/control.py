"""How far a state is moved, by the confidence of the step that has just ended and its variance.

Strengths are in units of the distance between the two prototypes; negative ones lead away from over-thinking.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

SHARPNESS = 1200.0
"""Slope of the gates a quartile range, as in ReBalance's release: they are steps in all but name."""
AT_CERTAINTY = 0.01
"""Strength that the smooth part has for a step of confidence 1."""
_BISECTIONS = 80
_STEEPEST = 1e3


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where steps are over-thinking (unsure, and of varying confidence) or under-thinking (sure, and steadily so).

    Quantiles of the confidence of steps, in [0, 1], and of its variance, in [0, 0.25]. Raises ValueError where an upper
    one is not above the lower one: of confidences that are all equal nothing can be told apart.
    """

    confidence_low: float
    confidence_high: float
    variance_low: float
    variance_high: float

    def __post_init__(self) -> None:
        for name in ("confidence", "variance"):
            low, high = getattr(self, f"{name}_low"), getattr(self, f"{name}_high")
            if not low < high:
                raise ValueError(
                    f"quantiles of the {name} of steps are {low!r} and {high!r}, expected the second above the first: "
                    f"steps whose {name} is all equal, or nearly so, cannot be told apart"
                )

    def overthinks(self, confidence: float, variance: float) -> bool:
        """Whether such a step is over-thinking."""
        return confidence <= self.confidence_low and variance >= self.variance_high

    def underthinks(self, confidence: float, variance: float) -> bool:
        """Whether such a step is under-thinking."""
        return confidence >= self.confidence_high and variance <= self.variance_low


class Control(Protocol):
    """Confidence in [0, 1] of the step that has ended and its variance in [0, 0.25] -> strength."""

    def __call__(self, confidence: float, variance: float) -> float:
        """The strength."""
        ...


@dataclass(frozen=True)
class Balance:
    """ReBalance's control (arXiv 2603.12372), in the algebra and with the constants of its release.

    A smooth part rises with the confidence: ``mild`` at the lower quantile, 0 at the upper one and 0.01 at 1. Where the
    quantiles are so high that no curve goes through the three, it is a straight line through the first two. Gates take
    it to ``strong`` where a step is over-thinking, and to ``explore`` where it is under-thinking.

    >>> control = Balance(Bounds(0.65, 0.9, 0.0005, 0.01))
    >>> [round(control(each, 0.005), 3) for each in (0.65, 0.9, 1.0)]
    [-1.0, 0.0, 0.01]
    >>> round(control(0.6, 0.02), 3), round(control(0.95, 0.0001), 2)
    (-2.0, 0.1)
    """

    bounds: Bounds
    mild: float = -1.0
    strong: float = -2.0
    explore: float = 0.1

    def __post_init__(self) -> None:
        if not self.mild < 0:
            raise ValueError(f"mild is {self.mild!r}, expected a strength below 0")

    def __call__(self, confidence: float, variance: float) -> float:
        """The strength, from min(mild, strong) to max(0.01, explore)."""
        low, high = self.bounds.confidence_low, self.bounds.confidence_high
        quiet, wild = self.bounds.variance_low, self.bounds.variance_high
        per_confidence, per_variance = SHARPNESS / (high - low), SHARPNESS / (wild - quiet)
        # Divided by what the product is where a step lies on both bounds, or where one of them is far behind.
        over = _sigmoid((low - confidence) * per_confidence) * _sigmoid((variance - wild) * per_variance) / 0.25
        under = _sigmoid((confidence - high) * per_confidence) * _sigmoid((quiet - variance) * per_variance) / 0.5
        strength = (
            self._smooth(confidence)
            + (self.strong - self.mild) * min(over, 1.0)
            + (self.explore - self._smooth(1.0)) * min(under, 1.0)
        )
        return min(max(strength, min(self.mild, self.strong)), max(AT_CERTAINTY, self.explore))

    def _smooth(self, confidence: float) -> float:
        return self.mild / 2 * (1 - _ratio(confidence - self._middle, self._half, self._slope))

    @property
    def _middle(self) -> float:
        return (self.bounds.confidence_low + self.bounds.confidence_high) / 2

    @property
    def _half(self) -> float:
        return (self.bounds.confidence_high - self.bounds.confidence_low) / 2

    @cached_property
    def _slope(self) -> float:
        """Of the hyperbolic tangent, so that a step of confidence 1 has its strength; 0 is a straight line."""
        wanted = 1 + 2 * AT_CERTAINTY / -self.mild
        at_one = 1 - self._middle
        low, high = 0.0, _STEEPEST
        if _ratio(at_one, self._half, 0.0) <= wanted:
            return 0.0
        for _ in range(_BISECTIONS):
            slope = (low + high) / 2
            low, high = (slope, high) if _ratio(at_one, self._half, slope) > wanted else (low, slope)
        return (low + high) / 2


@dataclass(frozen=True)
class Constant:
    """The same strength after every step: what SEAL (arXiv 2504.07986) does along a vector of its own."""

    strength: float = -1.0

    def __call__(self, confidence: float, variance: float) -> float:
        """The strength."""
        return self.strength


def _ratio(distance: float, half: float, slope: float) -> float:
    """tanh(slope distance) / tanh(slope half), and its limit for a slope of 0."""
    return distance / half if slope == 0 else math.tanh(slope * distance) / math.tanh(slope * half)


def _sigmoid(value: float) -> float:
    return 0.5 * (1 + math.tanh(value / 2))
