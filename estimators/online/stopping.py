"""The core that follows one request token by token and says when to stop it; it knows no engine.

A rule is a frozen description; what it remembers of a request is in a :class:`Monitor` of its own, made for that
request and thrown away with it, so that nothing can leak from one request to the next or to a neighbour in a batch.
An engine, a stream or a recorded trace feeds the monitor; all see the same stop at the same token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

from estimators.group_confidence import GroupAccumulator


class Token(NamedTuple):
    """One token that was written.

    ``confidence`` is by the definition that the thresholds were fitted for, NaN where it is not known; ``thinking``
    says that it belongs to the thought, ``closes`` that a step of the thought ends with it or before it
    (:class:`estimators.segmentation.StepSegmenter`).
    """

    confidence: float
    thinking: bool = True
    closes: bool = False


class Stop(NamedTuple):
    """Why a request is stopped, after how many of its tokens, and whether it still has to answer.

    ``answers`` true means: close the thought and let the answer be written. False means that the trace is given up.
    """

    reason: str
    tokens: int
    answers: bool


class Follower(Protocol):
    """What a rule remembers of one request."""

    def token(self, token: Token) -> bool:
        """Whether to stop after this token."""
        ...

    def trial(self, confidence: float) -> bool:
        """Whether to stop after a trial answer of this confidence in [0, 1]."""
        ...


class Rule(Protocol):
    """When to stop; a frozen dataclass."""

    name: ClassVar[str]
    answers: ClassVar[bool]
    reads_trials: ClassVar[bool]
    """Whether a trial answer is to be drawn at the end of each step."""

    def follow(self) -> Follower:
        """Begin with a request: nothing is remembered of another."""
        ...


class Monitor:
    """Follows one request by several rules; the first of them to speak, in their order, decides.

    >>> monitor = Monitor([LowestGroup(threshold=1.0, window=2)])
    >>> [monitor.token(Token(value)) for value in (3.0, 0.5, 0.5)][-1]
    Stop(reason='lowest group', tokens=3, answers=False)
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._followers = [(rule, rule.follow()) for rule in rules]
        self.tokens = 0
        """How many tokens it has been fed."""
        self.stopped: Stop | None = None
        self.trial_due = False
        """Whether a rule waits for a trial answer here, at the end of a step."""

    def token(self, token: Token) -> Stop | None:
        """Feed one token; the decision to stop, which stays once it is made: what comes later is not looked at."""
        if self.stopped is None:
            self.tokens += 1
            self._decide([rule for rule, follower in self._followers if follower.token(token)])
            self.trial_due = token.closes and any(rule.reads_trials for rule, _ in self._followers) and not self.stopped
        return self.stopped

    def trial(self, confidence: float) -> Stop | None:
        """Feed the confidence of a trial answer where one is due. Raises ValueError where none is, or outside [0, 1].

        The trial's own tokens are not the request's and are not fed.
        """
        if not self.trial_due:
            raise ValueError(f"no trial answer is due after token {self.tokens}: no step has ended there")
        if not 0 <= confidence <= 1:
            raise ValueError(f"trial confidence is {confidence!r}, expected a number in [0, 1]")
        self.trial_due = False
        self._decide([rule for rule, follower in self._followers if rule.reads_trials and follower.trial(confidence)])
        return self.stopped

    def _decide(self, spoken: Sequence[Rule]) -> None:
        if spoken:
            self.stopped = Stop(spoken[0].name, self.tokens, spoken[0].answers)


class _Silent:
    """Follower that does not stop by what it does not read."""

    def token(self, token: Token) -> bool:
        return False

    def trial(self, confidence: float) -> bool:
        return False


@dataclass(frozen=True)
class LowestGroup:
    """DeepConf's early stop: the trace is given up at the first full window whose mean confidence is below a threshold.

    While fewer than ``window`` tokens are there nothing is stopped, whatever their confidence: a trace that is shorter
    than the window is never stopped. A mean equal to the threshold is not below it, nor is that of a window in which a
    token's confidence is not known. Raises ValueError for a threshold that is NaN and for a window of no token (arXiv
    2508.15260, section 3.3).
    """

    name: ClassVar[str] = "lowest group"
    answers: ClassVar[bool] = False
    reads_trials: ClassVar[bool] = False
    threshold: float
    window: int

    def __post_init__(self) -> None:
        if math.isnan(self.threshold):
            raise ValueError("threshold is nan: it was fitted on no trace")
        if self.window < 1:
            raise ValueError(f"window is {self.window}, expected a number of tokens, at least 1")

    def follow(self) -> Follower:
        return _GroupFollower(self)


class _GroupFollower(_Silent):
    def __init__(self, rule: LowestGroup) -> None:
        self._rule, self._group = rule, GroupAccumulator(rule.window)

    def token(self, token: Token) -> bool:
        group = self._group.push(token.confidence)
        return self._group.full and group < self._rule.threshold


@dataclass(frozen=True)
class TokenBudget:
    """The thought is closed once it has ``tokens`` tokens, at least 1; what stands outside of it is not counted."""

    name: ClassVar[str] = "token budget"
    answers: ClassVar[bool] = True
    reads_trials: ClassVar[bool] = False
    tokens: int

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ValueError(f"a budget of {self.tokens} tokens, expected at least 1")

    def follow(self) -> Follower:
        return _BudgetFollower(self.tokens)


class _BudgetFollower(_Silent):
    def __init__(self, tokens: int) -> None:
        self._left = tokens

    def token(self, token: Token) -> bool:
        self._left -= token.thinking
        return token.thinking and self._left <= 0


@dataclass(frozen=True)
class TrialExit:
    """DEER's exit: the thought is closed where a trial answer at the end of a step reaches ``threshold``.

    The confidence of a trial is the geometric mean of the likeliest tokens' probabilities over its answer, drawn
    greedily (arXiv 2504.15895; .95 there). Raises ValueError for a threshold outside of [0, 1].
    """

    name: ClassVar[str] = "trial answer"
    answers: ClassVar[bool] = True
    reads_trials: ClassVar[bool] = True
    threshold: float = 0.95

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold!r}, expected a number in [0, 1]")

    def follow(self) -> Follower:
        return _TrialFollower(self.threshold)


class _TrialFollower(_Silent):
    def __init__(self, threshold: float) -> None:
        self._threshold = threshold

    def trial(self, confidence: float) -> bool:
        return confidence >= self._threshold


@dataclass(frozen=True)
class ConfidenceDynamics:
    """CoDE-Stop: the thought is closed where trial answers are sure, or have been unsure for too long.

    At the end of step s = 1, 2, ... with trial confidence c_s it is closed where

        c_s >= first + (last - first) * min((s - 1) / ramp, 1)        sure: early confidence is trusted more
        sum_{i <= s} (1 - c_i) / log2(1 + i) >= degeneration          unsure: early steps weigh more

    Both signals and the falling logarithmic weight are the paper's (arXiv 2604.04930); the constants here are ours.
    ``first`` and ``last`` above 1 are reached by no confidence. Raises ValueError where either is NaN, for ``ramp``
    below 1 and for ``degeneration`` not above 0.
    """

    name: ClassVar[str] = "confidence dynamics"
    answers: ClassVar[bool] = True
    reads_trials: ClassVar[bool] = True
    first: float = 0.9
    last: float = 0.98
    ramp: int = 8
    degeneration: float = 4.0

    def __post_init__(self) -> None:
        if math.isnan(self.first + self.last):
            raise ValueError(f"first {self.first}, last {self.last}: expected two numbers")
        if self.ramp < 1 or not self.degeneration > 0:
            raise ValueError(f"ramp {self.ramp}, degeneration {self.degeneration}: expected at least 1, and above 0")

    def follow(self) -> Follower:
        return _DynamicsFollower(self)


class _DynamicsFollower(_Silent):
    def __init__(self, rule: ConfidenceDynamics) -> None:
        self._rule, self._steps, self._degeneration = rule, 0, 0.0

    def trial(self, confidence: float) -> bool:
        rule = self._rule
        sure = rule.first + (rule.last - rule.first) * min(self._steps / rule.ramp, 1.0)
        self._steps += 1
        self._degeneration += (1 - confidence) / math.log2(1 + self._steps)
        return confidence >= sure or self._degeneration >= rule.degeneration
