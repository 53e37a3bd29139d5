"""Votes and stopping rules side by side on the same samples: accuracy and tokens of each, paired with the full vote.

Every plan is given the same traces in the same order and the same budget of them. What has to be fitted is fitted on
other questions than it is measured on: the questions are halved, and each half is measured with what the other one
says. Intervals are over questions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from estimators.metrics.resampling import Interval, bootstrap, paired_difference
from estimators.online.mars import FEATURES, Mars, SwitchModel
from estimators.online.sampling import Decided, DeepConf, Drawn, FullVote, Plan, lowest_group, recorded
from estimators.online.stopping import ConfidenceDynamics, TrialExit
from estimators.online.thresholds import HIGH_SHARE, LOW_SHARE, keeping
from experiments.errors import DataError
from experiments.probe.samples import Question

FULL = "full vote"
_UNFITTED = SwitchModel((0.0,) * len(FEATURES), 0.0)
Measured = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class VoteSettings:
    """How samples are voted on: tokens of a group, traces of a question, those of them that warm DeepConf up."""

    window: int
    budget: int
    warmup: int
    resamples: int = 1000
    seed: int = 0


def plans(settings: VoteSettings, trials: bool) -> dict[str, Plan]:
    """Name -> plan of everything that is compared, the full vote first; those on trial answers where there are any."""
    window, warmup = settings.window, settings.warmup
    compared: dict[str, Plan] = {
        FULL: FullVote(),
        "weighted vote": FullVote(window),
        "deepconf offline, top 10%": FullVote(window, LOW_SHARE),
        "deepconf offline, top 90%": FullVote(window, HIGH_SHARE),
        "deepconf online, low": DeepConf(window, LOW_SHARE, warmup),
        "deepconf online, high": DeepConf(window, HIGH_SHARE, warmup),
        "deepconf online, low, fitted": DeepConf(window, LOW_SHARE, threshold=math.nan),
        "deepconf online, high, fitted": DeepConf(window, HIGH_SHARE, threshold=math.nan),
        "cannot turn": Decided(),
        "turns at most 1%": Decided(0.01),
        "turns at most 5%": Decided(0.05),
        "turns at most 10%": Decided(0.1),
        "turns at most 20%": Decided(0.2),
    }
    if trials:
        compared |= {
            "trial exit .95, full vote": FullVote(rules=(TrialExit(0.95),)),
            "confidence dynamics, full vote": FullVote(rules=(ConfidenceDynamics(),)),
            "mars": Mars(_UNFITTED),
            "mars, delta .05": Mars(_UNFITTED, delta=0.05),
        }
    return compared


def measure_votes(questions: Sequence[Question], settings: VoteSettings) -> Measured:
    """Plan -> ``accuracy``, ``tokens`` and ``traces`` a question, ``saved`` share of the full vote's tokens,
    ``difference`` in accuracy to it (paired), each with a 95% interval; ``stopped`` share of traces, ``reasons``.

    "single trace" is the mean of each question's first trace. Raises DataError where a question has fewer traces than
    the budget, and where there are fewer than two questions to fit on one another.
    """
    _check(questions, settings)
    fitted = _cross_fitted(questions, settings.window)
    measured: Measured = {}
    compared = plans(settings, trials=any(each.trials for question in questions for each in question.traces))
    full_correct = full_tokens = np.empty(0)
    for name, plan in {FULL: compared[FULL], "single trace": FullVote(), **compared}.items():
        budget = 1 if name == "single trace" else settings.budget
        drawn = [_draw(plan, question, budget, fitted[row]) for row, question in enumerate(questions)]
        correct = np.array([q.correct(each.vote.answer) for q, each in zip(questions, drawn, strict=True)])
        tokens = np.array([each.tokens for each in drawn], dtype=np.float64)
        if name == FULL:
            full_correct, full_tokens = correct, tokens
        measured[name] = _intervals(correct, tokens, full_correct, full_tokens, drawn, settings)
    return measured


def _check(questions: Sequence[Question], settings: VoteSettings) -> None:
    if len(questions) < 2:
        raise DataError(f"samples of {len(questions)} question, expected at least 2")
    short = next((each for each in questions if len(each.traces) < settings.budget), None)
    if short is not None:
        raise DataError(f"question {short.id!r} has {len(short.traces)} samples, expected {settings.budget} or more")


@dataclass(frozen=True)
class _Fitted:
    """What is fitted on the other half of the questions: share to keep -> threshold, and a model of changes."""

    thresholds: Mapping[float, float]
    switches: SwitchModel | None


def _cross_fitted(questions: Sequence[Question], window: int) -> list[_Fitted]:
    """For each question what the other half of the questions says."""
    halves = []
    for half in (0, 1):
        others = [trace for row, question in enumerate(questions) if row % 2 != half for trace in question.traces]
        lowest = [lowest_group(trace, window) for trace in others]
        known = not np.isnan(lowest).all()
        thresholds = {share: keeping(lowest, share) if known else -math.inf for share in (LOW_SHARE, HIGH_SHARE)}
        tried = any(trace.trials for trace in others)
        halves.append(_Fitted(thresholds, SwitchModel.fit(others) if tried else None))
    return [halves[row % 2] for row in range(len(questions))]


def _draw(plan: Plan, question: Question, budget: int, fitted: _Fitted) -> Drawn:
    if isinstance(plan, DeepConf) and plan.threshold is not None:
        plan = replace(plan, threshold=fitted.thresholds[plan.share])
    if isinstance(plan, Mars):
        plan = replace(plan, model=fitted.switches or _UNFITTED)
    return plan(recorded(question.traces), budget)


def _intervals(
    correct: np.ndarray,
    tokens: np.ndarray,
    full_correct: np.ndarray,
    full_tokens: np.ndarray,
    drawn: Sequence[Drawn],
    settings: VoteSettings,
) -> dict[str, Any]:
    sampling: dict[str, Any] = {"resamples": settings.resamples, "seed": settings.seed}
    traces = [trace for each in drawn for trace in each.traces]
    values: dict[str, Interval] = {
        "accuracy": bootstrap(_mean, correct, **sampling),
        "difference": paired_difference(_mean, [correct], [full_correct], **sampling),
        "tokens": bootstrap(_mean, tokens, **sampling),
        "saved": bootstrap(_saved, tokens, full_tokens, **sampling),
        "traces": bootstrap(_mean, np.array([len(each.traces) for each in drawn], dtype=float), **sampling),
    }
    return {
        **{name: asdict(interval) for name, interval in values.items()},
        "stopped": sum(each.stop is not None for each in traces) / max(len(traces), 1),
        "fell_back": sum(each.vote.fell_back for each in drawn) / len(drawn),
        "ended_early": sum(each.reason != "budget" for each in drawn) / len(drawn),
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean())


def _saved(tokens: np.ndarray, full: np.ndarray) -> float | None:
    return float(1 - tokens.sum() / full.sum()) if full.sum() else None
