"""The rubric: named reward terms with weights, refused where they can be gamed (:mod:`rewards.safety`).

Shapes: N completions of the global batch, K terms.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from rewards.audit import Audit, audit
from rewards.completion import SEGMENTS
from rewards.nearest import nearest
from rewards.outcomes import Outcomes
from rewards.safety import Flaw, Safety
from rewards.schedule import RAW, SCALINGS, TermSchedule
from rewards.scoring_rules import Scheme, constant_scheme
from rewards.terms import ADVANTAGES, TERMS, PriorConfidenceTerm, Term
from rewards.terms.intrinsic import C2GSPGTerm
from rewards.training import TrainingFacts


class HackableRubricError(ValueError):
    """The rubric pays for something else than trying to be right, such as answering wrongly on purpose."""


@dataclass(frozen=True, eq=False)
class RewardMatrix:
    """Rewards before weighting: ``values`` (N, K), NaN where a term cannot be judged; ``names`` K; ``weights`` (K,)."""

    values: np.ndarray
    names: tuple[str, ...]
    weights: np.ndarray

    def total(self) -> np.ndarray:
        """Return the weighted sum (N,) over the terms that could be judged; NaN where no term with a weight could."""
        values_NK = self.values[:, self.weights > 0]
        total_N = np.where(np.isnan(values_NK), 0.0, values_NK) @ self.weights[self.weights > 0]
        return np.where(np.isnan(values_NK).all(axis=1), np.nan, total_N)

    def means(self) -> dict[str, float]:
        """Return each term's mean over the completions it could judge, for logging; NaN where there are none."""
        judged_K = (~np.isnan(self.values)).sum(axis=0)
        with np.errstate(invalid="ignore"):
            means_K = np.nansum(self.values, axis=0) / judged_K
        return dict(zip(self.names, means_K.tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class Rubric:
    """Terms and their weights; a term of weight zero is a metric: computed and logged, never trained on.

    ``schedules`` has one entry a term, or none for the defaults. The audit looks at every step at which the weights
    stop or start to move: what is safe there is safe in between, because rewards are linear in the weights.
    ``facts`` say how it is trained, which decides what is safe.

    Raises ValueError for weights that are not finite and non-negative or all zero, repeated terms, unknown segments, a
    scaling that a term cannot have and a ``loss_type`` under which a term is not what it says; HackableRubricError if
    the weighted terms together pay for a deviation (:mod:`rewards.safety`), unless ``allow_hackable``.
    """

    terms: tuple[Term, ...]
    weights: np.ndarray
    allow_hackable: bool = False
    schedules: tuple[TermSchedule, ...] = ()
    facts: TrainingFacts = field(default_factory=TrainingFacts)

    def __post_init__(self) -> None:
        if len(self.terms) != len(self.weights):
            raise ValueError(f"rubric has {len(self.terms)} terms and {len(self.weights)} weights")
        if len(set(self.names)) != len(self.terms):
            raise ValueError(f"rubric names a term twice: {', '.join(self.names)}")
        weights = [_weight(f"rubric.{term.name}.weight", w) for term, w in zip(self.terms, self.weights, strict=True)]
        if not any(weights):
            raise ValueError(f"rubric rewards nothing: no weight above 0 among its terms ({', '.join(self.names)})")
        object.__setattr__(self, "weights", np.array(weights))
        schedules = self.schedules or (TermSchedule(),) * len(self.terms)
        for term in self.terms:
            _check_segments(f"rubric.{term.name}.segments", term.segments)
        object.__setattr__(self, "schedules", tuple(map(_scheduled, self.terms, schedules)))
        for term, weight in zip(self.terms, weights, strict=True):
            if weight and isinstance(term, C2GSPGTerm) and self.facts.loss_type not in (None, "grpo"):
                raise ValueError(
                    f"rubric.{term.name}: takes the mean over a completion's tokens for the gradient of its "
                    f"log-probability, set trainer.loss_type from {self.facts.loss_type!r} to 'grpo'"
                )
        for step in [] if self.allow_hackable else self.turning_points():
            for flaw in self.flaws(step)[:1]:
                reason, remedies = flaw.reason, flaw.cures
                when = "" if step is None else f" at step {step}"
                cures = ", ".join((*remedies, "or set allow_hackable to study it"))
                raise HackableRubricError(f"rubric is hackable{when}: {reason}; {cures}")

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Mapping[str, Any]],
        allow_hackable: bool = False,
        facts: TrainingFacts | None = None,
    ) -> Rubric:
        """Build a rubric from ``{term: {"weight": 1.0, option: value, ...}}``; the weight is 1 if left out.

        Raises ValueError for a name or option that does not exist, and what the constructor raises.

        >>> rubric = Rubric.from_config({"accuracy": {"weight": 1.0}, "brier": {"weight": 0.5}})
        >>> rubric.names, rubric.weights.tolist(), rubric.segments[1]
        (('accuracy', 'brier'), [1.0, 0.5], ('confidence', 'analysis'))
        """
        terms: list[Term] = []
        weights: list[float] = []
        schedules: list[TermSchedule] = []
        of_schedule = [each.name for each in dataclasses.fields(TermSchedule)]
        for name, entry in config.items():
            key = f"rubric.{name}"
            if name not in TERMS:
                raise ValueError(f"{key} is not a reward term; {_one_of(TERMS, name)}")
            if not isinstance(entry, Mapping):
                raise ValueError(f"{key} is {entry!r}, expected a mapping such as {{weight: 1.0}}")
            options = {option: value for option, value in entry.items() if option not in ("weight", *of_schedule)}
            allowed = [each.name for each in dataclasses.fields(TERMS[name])]
            for option in options:
                if option not in allowed:
                    listed = ["weight", *of_schedule, *allowed]
                    raise ValueError(f"{key}.{option} is not an option of {name}; {_one_of(listed, option)}")
            if "segments" in options:
                _check_segments(f"{key}.segments", options["segments"])
                options["segments"] = tuple(options["segments"])
            terms.append(TERMS[name](**options))
            weights.append(_weight(f"{key}.weight", entry.get("weight", 1.0)))
            try:
                schedules.append(TermSchedule(**{option: entry[option] for option in of_schedule if option in entry}))
            except ValueError as error:
                raise ValueError(f"{key}.{error}") from error
        return cls(
            tuple(terms), np.array(weights, dtype=float), allow_hackable, tuple(schedules), facts or TrainingFacts()
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the K terms, in the order of the recipe."""
        return tuple(term.name for term in self.terms)

    @property
    def segments(self) -> tuple[tuple[str, ...], ...]:
        """For each of the K terms, the parts of a completion it is credited to."""
        return tuple(term.segments for term in self.terms)

    def score(self, outcomes: Outcomes) -> RewardMatrix:
        """Score the global batch: every term on all N completions, so that terms may look at siblings in a group."""
        columns = []
        for term in self.terms:
            reward_N = term(outcomes)
            if reward_N.shape != (len(outcomes),):
                raise ValueError(f"term {term.name} returned shape {reward_N.shape}, expected ({len(outcomes)},)")
            columns.append(reward_N)
        return RewardMatrix(np.stack(columns, axis=1), self.names, self.weights)

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of the entries of ``Outcomes.signals`` that the terms read, each once."""
        return tuple(dict.fromkeys(name for term in self.terms for name in term.signals))

    def weights_at(self, step: int | None = None) -> np.ndarray:
        """The weights (K,) at a step, counted from 0; those that the schedules end with where it is left out."""
        if step is None:
            return self.weights
        return np.asarray(self.weights * np.array([schedule.factor(step) for schedule in self.schedules]))

    def scheme(self, step: int | None = None) -> Scheme:
        """Return what the weighted terms together pay for a right and for a wrong answer at each confidence."""
        total = constant_scheme(0.0, 0.0)
        for term, weight in zip(self.terms, self.weights_at(step).tolist(), strict=True):
            if weight > 0:
                total = total + weight * term.scheme()
        return total

    @property
    def calibrates(self) -> tuple[bool, ...]:
        """For each of the K terms, whether what it pays depends on the confidence stated after the answer."""
        return tuple(_depends_on_confidence(term.scheme()) for term in self.terms)

    @property
    def pays_for(self) -> tuple[str | None, ...]:
        """For each of the K terms, the field whose stated confidence it holds to a target, None where there is none."""
        return tuple(
            "prior_confidence" if isinstance(term, PriorConfidenceTerm) else "confidence" if calibrates else None
            for term, calibrates in zip(self.terms, self.calibrates, strict=True)
        )

    def audit(self, step: int | None = None) -> Audit:
        """Audit what the weights at a step pay, over the confidences that can be stated.

        Propriety, bounds and range are those of the whole :meth:`scheme`; ``safe`` and the rest say whether it can be
        gamed in the training that :attr:`facts` describe, see :meth:`flaws`.
        """
        found, flaws = audit(self.scheme(step), levels=self.facts.levels), self.flaws(step)
        ranges = {flaw.event: (flaw.low, flaw.high) for flaw in flaws}
        improper = bool(self.safety(step).scaled_by_group)
        return dataclasses.replace(
            found,
            proper=found.proper and not improper,
            strictly_proper=found.strictly_proper and not improper,
            safe=not flaws,
            hackable_range=ranges.get("wrong"),
            decreasing_range=ranges.get("decreasing"),
            shortfall=found.shortfall if flaws else 0.0,
        )

    def safety(self, step: int | None = None) -> Safety:
        """The weights at a step, as they are trained."""
        scalings = tuple(schedule.scaling for schedule in self.schedules)
        stating = tuple(field is not None for field in self.pays_for)
        return Safety(self.terms, self.weights_at(step), scalings, self.facts, stating)

    def flaws(self, step: int | None = None) -> tuple[Flaw, ...]:
        """What pays at a step and should not, each with the changes that would cure it; none if the rubric is safe.

        >>> Rubric.from_config({"brier": {}}, allow_hackable=True).flaws()[0].cures
        ('raise rubric.accuracy.weight from 0 to at least 1', 'lower rubric.brier.weight (1)')
        """
        flaws = self.safety(step).flaws()
        if np.array_equal(self.weights_at(step), self.weights):
            return flaws
        later = "bring rubric.{} in later (start_step, warmup_steps)".format
        return tuple(dataclasses.replace(flaw, cures=tuple(map(later, flaw.terms))) for flaw in flaws)

    def turning_points(self) -> list[int | None]:
        """Return the steps between which the weights move in straight lines, then None, where all have arrived."""
        starts = {each.start_step for each in self.schedules}
        before = {step - 1 for step in starts if step}  # a weight without a warm-up jumps
        ends = {each.start_step + each.warmup_steps for each in self.schedules}
        return [*sorted((starts | before | ends) - {max(ends, default=0)}), None]

    def to_config(self) -> dict[str, dict[str, Any]]:
        """Return plain values from which :meth:`from_config` builds an equal rubric."""
        return {
            term.name: {"weight": weight}
            | {option: value for option, value in vars(schedule).items() if value != getattr(TermSchedule, option)}
            | {option: _plain(value) for option, value in vars(term).items()}
            for term, weight, schedule in zip(self.terms, self.weights.tolist(), self.schedules, strict=True)
        }

    def describe(self) -> dict[str, Any]:
        """Return plain values that say what was rewarded, and how, for the checkpoint: config, formulas, the audit."""
        return {
            "terms": self.to_config(),
            "formulas": {term.name: term.formula for term in self.terms},
            "allow_hackable": self.allow_hackable,
            "training": {key: _plain(value) for key, value in vars(self.facts).items()},
            "audit": {key: _plain(value) for key, value in dataclasses.asdict(self.audit()).items()},
        }


def _scheduled(term: Term, schedule: TermSchedule) -> TermSchedule:
    """The schedule with the scaling that the term must have; the one it has if it may have another."""
    key, raw = f"rubric.{term.name}.scaling", isinstance(term, ADVANTAGES)
    if raw and schedule.scaling not in (None, RAW):
        raise ValueError(f"{key} is {schedule.scaling!r}, expected {RAW}: the term is an advantage already")
    if not raw and schedule.scaling == RAW:
        raise ValueError(f"{key} is {RAW!r}, which only an advantage may be; expected one of {', '.join(SCALINGS)}")
    return dataclasses.replace(schedule, scaling=RAW) if raw else schedule


def _depends_on_confidence(scheme: Scheme) -> bool:
    inside = np.linspace(0.0, 1.0, 101)[1:-1]
    return bool(np.ptp(scheme.right(inside)) > 0 or np.ptp(scheme.wrong(inside)) > 0)


def _weight(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{key} is {value!r}, expected a finite number of at least 0")
    return float(value)


def _check_segments(key: str, segments: object) -> None:
    names = segments if isinstance(segments, (list, tuple)) else ()
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise ValueError(f"{key} is {segments!r}, expected a list of one or more of {', '.join(SEGMENTS)}, each once")
    for name in names:
        if name not in SEGMENTS:
            raise ValueError(f"{key} names {name!r}; {_one_of(SEGMENTS, name)}")


def _one_of(allowed: Iterable[str], given: object) -> str:
    names = list(allowed)
    return f"expected one of {', '.join(names)}{nearest(given, names)}"


def _plain(value: Any) -> Any:
    """Tuples as lists and infinities as None, which is all that JSON and YAML can hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return list(value) if isinstance(value, tuple) else value
