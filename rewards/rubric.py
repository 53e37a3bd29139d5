"""The rubric: named reward terms with weights, and the audit that refuses unsafe combinations.

Shapes: N completions of the global batch, K terms.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from rewards.completion import SEGMENTS
from rewards.outcomes import Outcomes
from rewards.scoring_rules import Audit, Scheme, audit, constant_scheme
from rewards.terms import TERMS, Term


class HackableRubricError(ValueError):
    """The rubric pays for answering wrongly on purpose."""


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

    Raises ValueError for weights that are not finite and non-negative or all zero, repeated terms and unknown segments;
    HackableRubricError if the weighted terms together are unsafe (:func:`rewards.scoring_rules.audit`), unless
    ``allow_hackable``.
    """

    terms: tuple[Term, ...]
    weights: np.ndarray
    allow_hackable: bool = False

    def __post_init__(self) -> None:
        if len(self.terms) != len(self.weights):
            raise ValueError(f"rubric has {len(self.terms)} terms and {len(self.weights)} weights")
        if len(set(self.names)) != len(self.terms):
            raise ValueError(f"rubric names a term twice: {', '.join(self.names)}")
        weights = [_weight(f"rubric.{term.name}.weight", w) for term, w in zip(self.terms, self.weights, strict=True)]
        if not any(weights):
            raise ValueError(f"rubric rewards nothing: no weight above 0 among its terms ({', '.join(self.names)})")
        object.__setattr__(self, "weights", np.array(weights))
        for term in self.terms:
            _check_segments(f"rubric.{term.name}.segments", term.segments)
        found = self.audit()
        if not (found.safe or self.allow_hackable):
            raise HackableRubricError(self._explain(found))

    @classmethod
    def from_config(cls, config: Mapping[str, Mapping[str, Any]], allow_hackable: bool = False) -> Rubric:
        """Build a rubric from ``{term: {"weight": 1.0, option: value, ...}}``; the weight is 1 if left out.

        Raises ValueError for a name or option that does not exist, and what the constructor raises.

        >>> rubric = Rubric.from_config({"accuracy": {"weight": 1.0}, "brier": {"weight": 0.5}})
        >>> rubric.names, rubric.weights.tolist(), rubric.segments[1]
        (('accuracy', 'brier'), [1.0, 0.5], ('confidence', 'analysis'))
        """
        terms: list[Term] = []
        weights: list[float] = []
        for name, entry in config.items():
            key = f"rubric.{name}"
            if name not in TERMS:
                raise ValueError(f"{key} is no reward term; {_one_of(TERMS, name)}")
            if not isinstance(entry, Mapping):
                raise ValueError(f"{key} is {entry!r}, expected a mapping such as {{weight: 1.0}}")
            options = {option: value for option, value in entry.items() if option != "weight"}
            allowed = [field.name for field in dataclasses.fields(TERMS[name])]
            for option in options:
                if option not in allowed:
                    raise ValueError(f"{key}.{option} is no option of {name}; {_one_of(['weight', *allowed], option)}")
            if "segments" in options:
                _check_segments(f"{key}.segments", options["segments"])
                options["segments"] = tuple(options["segments"])
            terms.append(TERMS[name](**options))
            weights.append(_weight(f"{key}.weight", entry.get("weight", 1.0)))
        return cls(tuple(terms), np.array(weights, dtype=float), allow_hackable)

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

    def scheme(self) -> Scheme:
        """Return what the weighted terms together pay for a right and for a wrong answer at each confidence."""
        total = constant_scheme(0.0, 0.0)
        for term, weight in zip(self.terms, self.weights.tolist(), strict=True):
            if weight > 0:
                total = total + weight * term.scheme()
        return total

    @property
    def calibrates(self) -> tuple[bool, ...]:
        """For each of the K terms, whether what it pays depends on the stated confidence."""
        return tuple(_depends_on_confidence(term.scheme()) for term in self.terms)

    def calibration_scheme(self) -> Scheme:
        """Return what the weighted terms that depend on the confidence pay, the part that closed-form losses take."""
        total = constant_scheme(0.0, 0.0)
        for term, weight, calibrates in zip(self.terms, self.weights.tolist(), self.calibrates, strict=True):
            if weight > 0 and calibrates:
                total = total + weight * term.scheme()
        return total

    def audit(self) -> Audit:
        """Audit :meth:`scheme` over all confidences in [0, 1]."""
        return audit(self.scheme())

    def to_config(self) -> dict[str, dict[str, Any]]:
        """Return plain values from which :meth:`from_config` builds an equal rubric."""
        return {
            term.name: {"weight": weight} | {option: _plain(value) for option, value in vars(term).items()}
            for term, weight in zip(self.terms, self.weights.tolist(), strict=True)
        }

    def describe(self) -> dict[str, Any]:
        """Return plain values that say what was rewarded, for the checkpoint: config, formulas and the audit."""
        return {
            "terms": self.to_config(),
            "formulas": {term.name: term.formula for term in self.terms},
            "allow_hackable": self.allow_hackable,
            "audit": {key: _plain(value) for key, value in dataclasses.asdict(self.audit()).items()},
        }

    def _explain(self, found: Audit) -> str:
        weights = dict(zip(self.names, self.weights.tolist(), strict=True))
        if found.hackable_range is not None:
            low, high = found.hackable_range
            reason = (
                f"where P(correct) is in ({low:.4g}, {high:.4g}), answering wrongly on purpose pays more than trying"
            )
        else:
            low, high = found.decreasing_range or (0.0, 0.0)
            reason = f"from confidence {low:.4g} to {high:.4g}, a calibrated answer earns less the likelier it is right"
        remedies = []
        if np.isfinite(found.shortfall):
            # Rounded up, but not for the rounding error of a slope taken numerically.
            enough = math.ceil((weights.get("accuracy", 0.0) + found.shortfall) * 1e4 - 0.01) / 1e4
            remedies.append(
                f"raise rubric.accuracy.weight from {weights.get('accuracy', 0.0):g} to at least {enough:g}"
            )
        culprits = [term.name for term in self.terms if weights[term.name] > 0 and _favours_wrong(term.scheme())]
        remedies.append(f"lower {' and '.join(f'rubric.{name}.weight ({weights[name]:g})' for name in culprits)}")
        return f"rubric is hackable: {reason}; {', '.join(remedies)}, or set allow_hackable to study it"


def _depends_on_confidence(scheme: Scheme) -> bool:
    inside = np.linspace(0.0, 1.0, 101)[1:-1]
    return bool(np.ptp(scheme.right(inside)) > 0 or np.ptp(scheme.wrong(inside)) > 0)


def _favours_wrong(scheme: Scheme) -> bool:
    """Whether a wrong answer can earn more than a right one at the lowest confidence."""
    ends = np.array([0.0, 1.0])
    with np.errstate(divide="ignore"):
        return bool(scheme.wrong(ends).max() > scheme.right(ends)[0])


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
    nearest = difflib.get_close_matches(str(given), names, n=1, cutoff=0.0)[0]
    return f"expected one of {', '.join(names)}; nearest: {nearest}"


def _plain(value: Any) -> Any:
    """Tuples as lists and infinities as None, which is all that JSON and YAML can hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return list(value) if isinstance(value, tuple) else value
