"""Confidence of steps: of whole completions, and of one token after another with the same value at every token.

What a probe measures is what a stream is stopped or steered by.

Shapes: B completions, T tokens of the longest, S steps of the completion that has most of them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch

from estimators.estimator import TOKEN_STATISTICS, Completions, Estimate
from estimators.segmentation import NO_STEP, Placed
from estimators.token_statistics import TokenStatistics

Kind = Literal["geometric", "arithmetic"]


def step_confidences(
    max_probability_BT: torch.Tensor, steps_BT: torch.Tensor, kind: Kind = "geometric"
) -> torch.Tensor:
    """Mean probability of the likeliest token over each step (B, S), float64 in [0, 1], NaN where there is no step.

    ``geometric`` is ReBalance's definition, exp(mean ln p_max) (arXiv 2603.12372); ``arithmetic`` is what its released
    code steers by. ``steps_BT`` are step numbers without a gap, -1 outside of steps; the separator is in its step.

    >>> step_confidences(torch.tensor([[0.5, 0.5, 0.9, 0.1]]), torch.tensor([[0, 0, 1, -1]])).round(decimals=6).tolist()
    [[0.5, 0.9]]
    """
    inside_BT = steps_BT >= 0
    count = int(steps_BT.max()) + 1 if steps_BT.numel() else 0
    values_BT = max_probability_BT.double()
    values_BT = torch.where(inside_BT, values_BT.log() if kind == "geometric" else values_BT, 0.0)
    sums_BS = values_BT.new_zeros(len(values_BT), count + 1)
    tokens_BS = torch.zeros_like(sums_BS)
    columns_BT = torch.where(inside_BT, steps_BT, count)  # one behind the last step, for what is in none
    sums_BS.scatter_add_(1, columns_BT, values_BT)
    tokens_BS.scatter_add_(1, columns_BT, torch.ones_like(values_BT))
    means_BS = sums_BS[:, :count] / tokens_BS[:, :count]  # NaN of a step without tokens
    return means_BS.exp() if kind == "geometric" else means_BS


def window_variances(confidences: Sequence[float], window: int = 2) -> list[float]:
    """Population variance of each step's confidence and those of the steps before it, ``window`` of them in all.

    The first step's is 0. Two steps, as ReBalance's released code has it, give a quarter of the squared difference
    (arXiv 2603.12372 writes Var(c; W)).

    >>> [round(value, 6) for value in window_variances([0.9, 0.5, 0.5])]
    [0.0, 0.04, 0.0]
    """
    parts = (confidences[max(0, place - window + 1) : place + 1] for place in range(len(confidences)))
    return [variance(part) for part in parts]


def variance(values: Sequence[float]) -> float:
    """Population variance of at least one value."""
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / len(values)


@dataclass(frozen=True, slots=True)
class ClosedStep:
    """A step that has ended: both means of its p_max, in [0, 1], and how many tokens it has."""

    geometric: float
    arithmetic: float
    tokens: int


class StepAccumulator:
    """Confidence of steps, one token at a time: :func:`step_confidences` of the tokens so far.

    >>> steps = StepAccumulator()
    >>> steps.push(0.5, Placed(0, closes=False)), round(steps.push(0.5, Placed(0, closes=True)).geometric, 6)
    (None, 0.5)
    """

    def __init__(self) -> None:
        self.closed: list[ClosedStep] = []
        """The steps that have ended, in order."""
        self._logs, self._sum, self._tokens = 0.0, 0.0, 0

    def push(self, max_probability: float, placed: Placed) -> ClosedStep | None:
        """Take in a token's p_max; returns the step that ends with it, or that a closing tag ends before it."""
        if placed.step >= 0:
            self._logs += -math.inf if max_probability == 0 else math.log(max_probability)
            self._sum += max_probability
            self._tokens += 1
        if not placed.closes:
            return None
        ended = self.current
        assert ended is not None, "a step closes that no token is in"
        self.closed.append(ended)
        self._logs, self._sum, self._tokens = 0.0, 0.0, 0
        return ended

    @property
    def current(self) -> ClosedStep | None:
        """The step that is being written, as if it ended here; None between steps."""
        if not self._tokens:
            return None
        return ClosedStep(math.exp(self._logs / self._tokens), self._sum / self._tokens, self._tokens)


@dataclass(frozen=True)
class _OfSteps(ABC):
    """One value of the confidences of a completion's steps; not valid where it has no step."""

    needs: ClassVar[frozenset[str]] = frozenset({TOKEN_STATISTICS})
    is_probability: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    higher_is_surer: ClassVar[bool] = True
    cost: ClassVar[str] = "one forward pass; none while the policy generates"
    source: ClassVar[str] = "arXiv 2603.12372"
    kind: Kind = "geometric"

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind is {self.kind!r}, expected one of {', '.join(get_args(Kind))}")

    def reads(self, completions: Completions) -> torch.Tensor:
        """The tokens of steps."""
        return completions.steps_BT >= 0

    def __call__(self, completions: Completions, statistics: TokenStatistics) -> Estimate:
        """The value (B,)."""
        found_BS = step_confidences(statistics.max_probability, completions.steps_BT, self.kind)
        found_BS = torch.nn.functional.pad(found_BS, (0, 1), value=torch.nan)  # where no completion has a step
        steps_B1 = torch.nn.functional.pad(completions.steps_BT, (0, 1), value=NO_STEP).amax(dim=1, keepdim=True) + 1
        there_BS = torch.arange(found_BS.size(1), device=found_BS.device) < steps_B1
        return Estimate.where(steps_B1.squeeze(1) > 0, self._of(found_BS, there_BS))

    @abstractmethod
    def _of(self, confidences_BS: torch.Tensor, there_BS: torch.Tensor) -> torch.Tensor:
        """The value (B,) of the confidences of S steps, of which ``there_BS`` says which a completion has."""


@dataclass(frozen=True)
class MeanStepConfidence(_OfSteps):
    """Mean over the steps of their confidence, the mean p_max of their tokens, in [0, 1]."""

    def _of(self, confidences_BS: torch.Tensor, there_BS: torch.Tensor) -> torch.Tensor:
        return _mean(confidences_BS, there_BS)


@dataclass(frozen=True)
class LowestStepConfidence(_OfSteps):
    """Confidence of the least sure step, the mean p_max of its tokens, in [0, 1]."""

    def _of(self, confidences_BS: torch.Tensor, there_BS: torch.Tensor) -> torch.Tensor:
        return confidences_BS.masked_fill(~there_BS, torch.inf).amin(dim=1)


@dataclass(frozen=True)
class StepConfidenceVariance(_OfSteps):
    """Population variance in [0, 0.25] of the confidence of the steps; lower is surer, and one step has 0."""

    higher_is_surer = False
    bounds = (0.0, 0.25)

    def _of(self, confidences_BS: torch.Tensor, there_BS: torch.Tensor) -> torch.Tensor:
        return _mean((confidences_BS - _mean(confidences_BS, there_BS).unsqueeze(1)).square(), there_BS)


def _mean(values_BS: torch.Tensor, there_BS: torch.Tensor) -> torch.Tensor:
    return torch.where(there_BS, values_BS, 0.0).sum(dim=1) / there_BS.sum(dim=1)
