"""How many traces of a question to draw, and how far: a plan asks a source for one trace after another.

A plan never sees more of the traces than a running system would: a source is called for a trace when the plan wants
it, with the rules that may stop that trace, and answers with what was written until then. A live engine is a source;
so are recorded traces, which :func:`recorded` cuts where a monitor would have stopped them. One plan therefore gives
the same vote and the same number of tokens offline and online.

Shapes: T tokens of a trace.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from estimators.group_confidence import group_means
from estimators.online.margin import cannot_turn, turn_probability
from estimators.online.stopping import LowestGroup, Monitor, Rule, Stop, Token
from estimators.online.thresholds import keeping
from estimators.online.voting import Same, Vote, group_answers, surest, vote

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial answer that was drawn where a step had ended, after ``place`` tokens of its trace.

    ``confidence`` in [0, 1], ``tokens`` that were written for the trial, at least 0.
    """

    place: int
    answer: str | None
    confidence: float
    tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What was written of one trace: its answer, None without one, and the confidence of each of its T tokens.

    ``thought`` is how many of the tokens, from the first, are of the thought; all if left out. ``tokens`` counts what
    was spent, with trial answers, T if left out; ``stop`` says why a trace ended before its end.
    """

    answer: str | None
    confidences_T: FloatArray
    thought: int | None = None
    trials: Sequence[Trial] = ()
    tokens: int = -1
    stop: Stop | None = None

    @property
    def spent(self) -> int:
        """Tokens that the trace has cost."""
        return len(self.confidences_T) if self.tokens < 0 else self.tokens


Source = Callable[[Sequence[Rule]], Trace]
"""Draws the next trace, watched by these rules, up to where one of them stops it."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """What a plan has come to: the vote, the traces, what they cost in tokens, and why no more of them were drawn."""

    vote: Vote
    traces: tuple[Trace, ...]
    reason: str

    @property
    def tokens(self) -> int:
        """Tokens of all traces, stopped ones and trial answers among them."""
        return sum(each.spent for each in self.traces)


class Plan(Protocol):
    """A way to spend a budget of traces; a frozen dataclass."""

    def __call__(self, source: Source, budget: int, same: Same | None = None) -> Drawn:
        """Draw up to ``budget`` traces and vote; ``same`` says which answers mean the same."""
        ...


def lowest_group(trace: Trace, window: int) -> float:
    """Lowest mean confidence of a window of the trace, its plain mean where it is shorter; NaN of no token."""
    length = len(trace.confidences_T)
    if not length:
        return math.nan
    row_1T = torch.from_numpy(np.asarray(trace.confidences_T, dtype=np.float64))[None]
    return float(
        group_means(row_1T, torch.ones_like(row_1T, dtype=torch.bool), window)[0, min(length, window) - 1 :].min()
    )


def cut(trace: Trace, rules: Sequence[Rule]) -> Trace:
    """The trace up to where these rules stop it, as a monitor does that is fed its tokens and trial answers.

    A trace that is given up has no answer. One whose thought is closed has the answer of the last trial up to there,
    none without a trial; the trial's tokens count for what was spent, those of every trial that a rule has read too.
    """
    if not rules:
        return trace
    monitor, spent, answer = Monitor(rules), 0, None
    trials = {each.place: each for each in trace.trials}
    thought = len(trace.confidences_T) if trace.thought is None else trace.thought
    for place, confidence in enumerate(trace.confidences_T.tolist(), 1):
        trial = trials.get(place)
        stop = monitor.token(Token(confidence, thinking=place <= thought, closes=trial is not None))
        answer = answer if trial is None else trial.answer
        if trial is not None and monitor.trial_due:
            spent += trial.tokens
            stop = monitor.trial(trial.confidence)
        if stop is not None:
            kept = tuple(each for each in trace.trials if each.place <= place)
            if stop.answers and kept and not any(rule.reads_trials for rule in rules):
                spent += kept[-1].tokens  # the answer has to be written once
            return Trace(
                answer if stop.answers else None, trace.confidences_T[:place], thought, kept, place + spent, stop
            )
    return Trace(trace.answer, trace.confidences_T, trace.thought, trace.trials, len(trace.confidences_T) + spent)


def recorded(traces: Sequence[Trace]) -> Source:
    """A source that gives recorded traces in their order, each cut by the rules of the moment.

    Raises IndexError where more are asked for than were recorded.
    """
    left: Iterator[Trace] = iter(traces)

    def draw(rules: Sequence[Rule]) -> Trace:
        trace = next(left, None)
        if trace is None:
            raise IndexError(f"more traces are asked for than the {len(traces)} that were recorded")
        return cut(trace, rules)

    return draw


@dataclass(frozen=True)
class FullVote:
    """Every trace of the budget is drawn, watched by ``rules``; a majority, or weighted by the lowest group's mean.

    ``share`` below 1 lets the surest traces alone vote (DeepConf offline).
    """

    window: int | None = None
    """Tokens of a group; None votes without weights."""
    share: float = 1.0
    rules: tuple[Rule, ...] = ()

    def __call__(self, source: Source, budget: int, same: Same | None = None) -> Drawn:
        traces = tuple(source(self.rules) for _ in range(budget))
        answers = [each.answer for each in traces]
        if self.window is None:
            return Drawn(vote(answers, same=same), traces, "budget")
        weights = [lowest_group(each, self.window) for each in traces]
        return Drawn(vote(answers, weights, among=surest(weights, self.share), same=same), traces, "budget")


@dataclass(frozen=True)
class Decided:
    """A majority vote that ends once it can no longer turn: MARS's question of traces that have not begun.

    ``delta`` None asks for certainty (:func:`estimators.online.margin.cannot_turn`): the vote is the full budget's.
    Otherwise drawing ends where the model of :func:`estimators.online.margin.turn_probability` gives a turn at most
    ``delta``, from ``least`` traces on.
    """

    delta: float | None = None
    least: int = 3

    def __call__(self, source: Source, budget: int, same: Same | None = None) -> Drawn:
        traces: list[Trace] = []
        while len(traces) < budget:
            traces.append(source(()))
            if self._is_decided(group_answers([each.answer for each in traces], same), budget - len(traces)):
                break
        reason = "decided" if len(traces) < budget else "budget"
        return Drawn(vote([each.answer for each in traces], same=same), tuple(traces), reason)

    def _is_decided(self, groups: NDArray[np.intp], left: int) -> bool:
        drawn = len(groups)
        if self.delta is None:
            return cannot_turn(
                np.append(groups, np.full(left, -1)), np.ones(drawn + left), np.arange(drawn + left) < drawn
            )
        if drawn < self.least:
            return False
        rival, leader = np.sort(np.append(np.bincount(groups[groups >= 0], minlength=1), 0))[-2:]
        return turn_probability(int(leader), int(rival), left) <= self.delta


@dataclass(frozen=True)
class DeepConf:
    """DeepConf online (arXiv 2508.15260, algorithm 2).

    The first ``warmup`` traces are complete. Their lowest groups fit the threshold that keeps ``share`` of them, unless
    ``threshold`` was fitted before, for the same model: then the first traces are watched too. Every later trace is
    given up at the first group below the threshold. Traces whose lowest group is not below it vote, each with that for
    a weight, and drawing ends once the leader has ``tau`` of the weight, after ``warmup`` traces at the earliest.

    Kept: the percentile, the stop, the weights, the consensus. Stated where the paper leaves it open: a trace shorter
    than the window is never given up but has to reach the threshold with its plain mean to vote; equal confidences
    keep every trace; a vote without a voter falls back to the traces that were written to their end, and where there
    is none by the last of the budget, that one is not given up.
    """

    window: int
    share: float = 0.1
    warmup: int = 16
    tau: float = 0.95
    threshold: float | None = None
    rules: tuple[Rule, ...] = field(default=())
    """More rules that every trace is watched by."""

    def __call__(self, source: Source, budget: int, same: Same | None = None) -> Drawn:
        warmup = 0 if self.threshold is not None else min(self.warmup, budget)
        traces = [source(self.rules) for _ in range(warmup)]
        lowest = [lowest_group(each, self.window) for each in traces]
        threshold = self.threshold
        if threshold is None:
            threshold = -math.inf if np.isnan(lowest).all() else keeping(lowest, self.share)
        while True:
            surer = np.array(lowest) >= threshold
            now = vote([each.answer for each in traces], lowest, among=surer, same=same)
            if len(traces) == budget:
                return Drawn(now, tuple(traces), "budget")
            if len(traces) >= self.warmup and now.share >= self.tau and not now.fell_back:
                return Drawn(now, tuple(traces), "consensus")
            last_hope = now.answer is None and len(traces) == budget - 1
            early = () if last_hope else (LowestGroup(threshold, self.window),)
            traces.append(source((*self.rules, *early)))
            lowest.append(lowest_group(traces[-1], self.window))
