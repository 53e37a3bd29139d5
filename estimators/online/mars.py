"""MARS over traces that are written side by side: trial answers are drawn at the ends of steps, until the vote is safe.

Kept of the paper (arXiv 2606.12935): the vote over trial answers, the learned probability that a trace will change its
answer from five features of its trial answers so far, the adversarial cost of a change
(:func:`estimators.online.margin.unlikely_to_turn`). Left out: the calibration of a factor on that cost per question,
which needs warm-up traces of the question and voids the bound. The tokens of trial answers are counted.

Shapes: N traces, F features.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estimators.online.margin import unlikely_to_turn
from estimators.online.sampling import Drawn, Source, Trace
from estimators.online.stopping import Stop
from estimators.online.voting import Same, group_answers, vote

FEATURES = ("log steps", "confidence", "changes", "streak", "trend")
"""Of a trace's trial answers so far: how many, how sure the last is, changes of answer, equal ones at the end, rise of
the confidence since the one before."""
FloatArray = NDArray[np.float64]


def switch_features(trace: Trace, trials: int, same: Same | None = None) -> list[float]:
    """The :data:`FEATURES` of a trace's first ``trials`` trial answers, at least one.

    ``same`` says which answers are equal, as in :func:`estimators.online.voting.group_answers`.
    """
    seen = trace.trials[:trials]
    answers = group_answers([each.answer for each in seen], same).tolist()
    changes = sum(one != other for one, other in itertools.pairwise(answers))
    streak = next((n for n, answer in enumerate(reversed(answers)) if answer != answers[-1]), len(answers))
    trend = seen[-1].confidence - seen[-2].confidence if len(seen) > 1 else 0.0
    return [float(np.log(len(seen))), seen[-1].confidence, float(changes), float(streak), trend]


@dataclass(frozen=True)
class SwitchModel:
    """Probability that a trace ends with another answer than its last trial answer: a logistic regression.

    ``weights`` has one number a feature of :data:`FEATURES`, ``intercept`` stands beside them; plain numbers, which
    can be saved with :class:`estimators.online.thresholds.Thresholds`.
    """

    weights: tuple[float, ...]
    intercept: float

    @classmethod
    def fit(cls, traces: Sequence[Trace], same: Same | None = None) -> SwitchModel:
        """Fit on complete traces with trial answers, as scikit-learn does with its default ridge.

        ``same`` says which answers of a trace are equal. Where all of them change, or none does, that share, with one
        trace of the other kind added, whatever the features. Raises ValueError without a trial answer.
        """
        rows = []
        for each in traces:
            groups = group_answers([*(trial.answer for trial in each.trials), each.answer], same)
            rows += [(switch_features(each, n + 1, same), groups[n] != groups[-1]) for n in range(len(each.trials))]
        if not rows:
            raise ValueError(f"{len(traces)} traces without a trial answer: nothing to fit on")
        features_NF, switched = np.array([row for row, _ in rows]), np.array([changed for _, changed in rows])
        if switched.all() or not switched.any():
            share = (switched.sum() + (not switched.any())) / (len(switched) + 1)
            return cls((0.0,) * len(FEATURES), float(np.log(share / (1 - share))))
        from sklearn.linear_model import LogisticRegression

        fitted = LogisticRegression(max_iter=1000).fit(features_NF, switched)
        return cls(tuple(map(float, fitted.coef_[0])), float(fitted.intercept_[0]))

    def __call__(self, features: Sequence[float]) -> float:
        """Probability in (0, 1).

        >>> SwitchModel((0.0,) * 5, 0.0)([1.0] * 5)
        0.5
        """
        return float(1 / (1 + np.exp(-(np.dot(self.weights, features) + self.intercept))))


@dataclass(frozen=True)
class Mars:
    """All traces of the budget begin; after each step the vote over their answers now is asked whether it can turn.

    ``delta`` and ``looks`` as in :func:`estimators.online.margin.unlikely_to_turn`: ``delta`` None is what the paper's
    released runs do.
    """

    model: SwitchModel
    delta: float | None = None
    looks: int = 1

    def __call__(self, source: Source, budget: int, same: Same | None = None) -> Drawn:
        traces = [source(()) for _ in range(budget)]
        longest = max((len(each.trials) for each in traces), default=0)
        for step in range(1, longest + 1):
            now = [self._after(each, step) for each in traces]
            groups = group_answers([each.answer for each in now], same)
            switch = [
                self.model(switch_features(whole, step, same)) if each.stop is not None else 0.0
                for whole, each in zip(traces, now, strict=True)
            ]
            if unlikely_to_turn(groups, np.ones(budget), switch, self.delta, self.looks):
                return Drawn(vote([each.answer for each in now], same=same), tuple(now), "decided")
        whole = tuple(self._after(each, longest + 1) for each in traces)
        return Drawn(vote([each.answer for each in whole], same=same), whole, "budget")

    def _after(self, trace: Trace, step: int) -> Trace:
        """The trace once it has written so many steps, or ended."""
        seen = tuple(trace.trials[:step])
        spent = sum(each.tokens for each in seen)
        if len(trace.trials) < step:
            return Trace(trace.answer, trace.confidences_T, trace.thought, seen, len(trace.confidences_T) + spent)
        last = seen[-1]
        stop = Stop("vote decided", last.place, answers=True)
        return Trace(last.answer, trace.confidences_T[: last.place], trace.thought, seen, last.place + spent, stop)
