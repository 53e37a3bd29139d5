"""Whether a rubric can be gamed in training: the deviations that pay, where they do, and which terms pay for them.

Answering wrongly on purpose is decided in closed form where the tokens of an answer earn a sum of terms that look at
one completion each (:mod:`rewards.audit`), by the mean advantage of one completion in a group
(:mod:`rewards.deviations`) where they do not, because advantages are scaled or terms look at siblings; every other
deviation by the latter.

Shapes: P probabilities of being right, K terms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rewards.audit import Audit, audit
from rewards.completion import STATED
from rewards.deviations import PROBABILITIES, Deviation, Played, earned, on_segment, play
from rewards.scoring_rules import Scheme, constant_scheme
from rewards.terms import AccuracyTerm, Term
from rewards.terms.intrinsic import GOLD_SIGNALS
from rewards.training import TrainingFacts

_TOLERANCE = 1e-9
_ANSWERING = ("reasoning", "answer")

EVENTS = {
    "wrong": "answering wrongly on purpose",
    "truncated": "being cut off by the length limit",
    "unjudged": "an answer that the verifier cannot judge",
    "abstained": "declining to answer",
    "unparsed": "an answer or a confidence that cannot be read",
}
"""Deviation -> what it is, in words."""
_OPTIONS = {
    ("accuracy", "truncated"): "truncated",
    ("truncated", "truncated"): "value",
    ("accuracy", "unjudged"): "unjudged",
    ("ternary", "abstained"): "abstain",
}
"""Term and deviation -> the option that says what the one pays for the other."""


@dataclass(frozen=True)
class Flaw:
    """A way to game a rubric: ``event`` is a deviation, "decreasing" or "untied"; it pays where P(correct) is in
    (``low``, ``high``), ``reason`` says so in words, ``terms`` are those that pay for it; ``cures`` change it."""

    event: str
    low: float
    high: float
    reason: str
    terms: tuple[str, ...] = ()
    cures: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Safety:
    """A rubric at one step of its schedules: its ``terms``, ``weights`` (K,), the scalings of their own, how it is
    trained, and which terms hold a stated confidence to a target (``calibrates``)."""

    terms: tuple[Term, ...]
    weights: np.ndarray
    scalings: tuple[str | None, ...]
    facts: TrainingFacts
    calibrates: tuple[bool, ...]

    @property
    def live(self) -> np.ndarray:
        """Weights (K,) in the policy gradient: 0 for what is taken in closed form."""
        closed = np.array(self.calibrates) & self.facts.closed_form
        return np.where(closed, 0.0, self.weights)

    def scheme(self, segment: str) -> Scheme:
        """What the tokens of a segment earn at each confidence, right and wrong, before any scaling."""
        total = constant_scheme(0.0, 0.0)
        for term, weight in zip(self.terms, self.live.tolist(), strict=True):
            if weight > 0 and self._credited(term, segment):
                total = total + weight * term.scheme()
        return total

    @property
    def scaled_by_group(self) -> tuple[str, ...]:
        """Calibration terms that a group's deviation divides, alone (``gdpo``, too) or within the sum: no confidence is
        worth its probability any more, however proper their rule."""
        by_group = (own == "group" or (own is None and self.facts.by_group) for own in self.scalings)
        rows = zip(self.terms, by_group, self.calibrates, self.live, strict=True)
        return tuple(term.name for term, group, calibrates, weight in rows if group and calibrates and weight > 0)

    def flaws(self) -> tuple[Flaw, ...]:
        """Everything that pays and should not."""
        played = play(self.terms, self.facts.group_size, self.facts.levels)
        rows = [(each, earned(each, self.live, self.scalings, self.facts)) for each in played]
        wrong_P = self._best(rows, "wrong")
        answering = self._untied() or self._wrong(rows, wrong_P)
        others = (self._event(rows, event, wrong_P) for event in EVENTS if event != "wrong")
        return (*answering, *(flaw for flaw in others if flaw is not None))

    def _trained(self, deviation: Deviation) -> list[str]:
        """The segments that decide on a deviation, have tokens in it and are trained on."""
        trained = [each for each in deviation.decided_by if each in deviation.written]
        return [each for each in trained if each in STATED or self.facts.trained_tokens == "all"]

    def _gains(self, rows: list[tuple[Played, np.ndarray]], event: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each way to deviate and each segment that decides on it, the advantages (P,) and by term (P, K)."""
        return [
            (on_segment(earned_PK, each.deviation, segment, self.terms, self.facts.credit), earned_PK)
            for each, earned_PK in rows
            if each.deviation.event == event
            for segment in self._trained(each.deviation)
        ]

    def _best(self, rows: list[tuple[Played, np.ndarray]], event: str) -> np.ndarray:
        gains = [gain_P for gain_P, _ in self._gains(rows, event)]
        return np.asarray(np.max(gains, axis=0)) if gains else np.full(len(PROBABILITIES), -np.inf)

    def _wrong(self, rows: list[tuple[Played, np.ndarray]], wrong_P: np.ndarray) -> list[Flaw]:
        if self.facts.trained_tokens == "confidence":
            return []  # no token of an answer is trained on
        if self._plain(rows):
            found = [self._in_closed_form(audit(each, levels=self.facts.levels)) for each in self._answering_schemes()]
            return [flaw for flaw in found if flaw][:1]
        pays_P = (wrong_P > _TOLERANCE * self.weights.sum()) & (PROBABILITIES > 0) & (PROBABILITIES < 1)
        if not pays_P.any():
            return []
        low, high = _around(pays_P)
        culprits = self._culprits(rows, "wrong", pays_P)
        scaled = [
            f"rubric.{term.name}.scaling" if own else "trainer.scaling"
            for term, own in zip(self.terms, self.scalings, strict=True)
            if term.name in culprits and (own or self.facts.scaling) in ("batch", "group", "gdpo")
        ]
        cures = [f"set {' and '.join(dict.fromkeys(scaled))} to none"] if scaled else []
        why = ", once advantages are scaled" if scaled else ""
        return [
            Flaw(
                "wrong", low, high, f"{_where(low, high)}, {EVENTS['wrong']} pays more than trying{why}", culprits,
                (*cures, *self._lower(culprits)),
            )
        ]  # fmt: skip

    def _answering_schemes(self) -> list[Scheme]:
        """What the segments earn that decide on the answer, once where they earn the same."""
        credited = [tuple(self._credited(term, segment) for term in self.terms) for segment in _ANSWERING]
        segments = _ANSWERING[:1] if credited[0] == credited[1] else _ANSWERING
        return [self.scheme(segment) for segment in segments]

    def _credited(self, term: Term, *segments: str) -> bool:
        return self.facts.credit == "sequence" or bool(set(term.segments) & set(segments))

    def _in_closed_form(self, found: Audit) -> Flaw | None:
        if found.safe:
            return None
        culprits = tuple(
            term.name
            for term, weight in zip(self.terms, self.live, strict=True)
            if weight > 0
            and self._credited(term, *_ANSWERING)
            and not audit(term.scheme(), levels=self.facts.levels).safe
        )
        weights = {term.name: weight for term, weight in zip(self.terms, self.weights.tolist(), strict=True)}
        cures = []
        if np.isfinite(found.shortfall):
            # Rounded up, but not for the rounding error of a slope taken numerically.
            weight = weights.get("accuracy", 0.0)
            enough = np.ceil((weight + found.shortfall) * 1e4 - 0.01) / 1e4
            cures.append(f"raise rubric.accuracy.weight from {weight:g} to at least {enough:g}")
        cures += self._lower(culprits)
        if found.hackable_range is not None:
            low, high = found.hackable_range
            reason = f"{_where(low, high)}, {EVENTS['wrong']} pays more than trying"
            return Flaw("wrong", low, high, reason, culprits, tuple(cures))
        low, high = found.decreasing_range or (0.0, 0.0)
        reason = f"from confidence {low:.4g} to {high:.4g}, a calibrated answer earns less the likelier it is right"
        return Flaw("decreasing", low, high, reason, culprits, tuple(cures))

    def _plain(self, rows: list[tuple[Played, np.ndarray]]) -> bool:
        """Whether advantages are what one completion earns, less a baseline, times one factor for all terms."""
        live = (self.live > 0) & [self._credited(term, *_ANSWERING) for term in self.terms]
        kinds = {own or self.facts.scaling for own, each in zip(self.scalings, live, strict=True) if each}
        summed = self.facts.credit == "sequence" and not any(self.scalings)
        if len(kinds) > 1 or not kinds <= {"none", "leave_one_out", *(("batch",) if summed else ())}:
            return False
        wrong = [each for each, _ in rows if each.deviation.event == "wrong"]
        beyond = (
            [_beyond_scheme(term, each, index) for each in wrong]
            for index, term in enumerate(self.terms)
            if live[index]
        )
        return all(float(np.ptp(each)) < _TOLERANCE for each in map(np.stack, beyond))

    def _event(self, rows: list[tuple[Played, np.ndarray]], event: str, wrong_P: np.ndarray) -> Flaw | None:
        gain_P, tolerance = self._best(rows, event), _TOLERANCE * self.weights.sum()
        # What a wrong answer earns as well is no matter of the event.
        pays_P = gain_P > np.maximum(wrong_P, 0.0) + tolerance
        if event == "abstained" and gain_P[-1] < -tolerance:
            return None  # it may pay where P(correct) is low, that is what it is there for, but not up to 1
        if not pays_P.any():
            return None
        low, high = _around(pays_P)
        culprits = self._culprits(rows, event, pays_P)
        options = []
        for term in self.terms:
            option = _OPTIONS.get((term.name, event))
            if term.name in culprits and option is not None and getattr(term, option) is not None:
                options.append(f"lower rubric.{term.name}.{option} ({getattr(term, option):g})")
        accuracy = next((term for term in self.terms if isinstance(term, AccuracyTerm)), None)
        if event == "unjudged" and not options and accuracy is not None and accuracy.unjudged is None:
            options.append("set rubric.accuracy.unjudged to 0")  # else it has no part in what such an answer earns
        cures = tuple(options) or self._lower(culprits)
        return Flaw(event, low, high, f"{_where(low, high)}, {EVENTS[event]} pays more than trying", culprits, cures)

    def _culprits(self, rows: list[tuple[Played, np.ndarray]], event: str, pays_P: np.ndarray) -> tuple[str, ...]:
        """Terms that the best way to deviate earns by, somewhere that it pays."""
        gains = self._gains(rows, event)
        best = max(gains, key=lambda gain: float(gain[0][pays_P].max()))
        credited_K = (best[1][pays_P] > _TOLERANCE).any(axis=0)
        return tuple(term.name for term, paid in zip(self.terms, credited_K, strict=True) if paid)

    def _untied(self) -> list[Flaw]:
        """A reward for certainty where nothing pays for being right."""
        if self.facts.trained_tokens == "confidence":
            return []
        certain = []
        for term, weight in zip(self.terms, self.live, strict=True):
            if not weight or not self._credited(term, *_ANSWERING):
                continue
            if _pays_for_right(term):
                return []
            own = [name for name in term.signals if name not in (*GOLD_SIGNALS, "repetition")]
            if own or getattr(term, "signal", None) == "confidence":
                certain.append(term.name)
        if not certain:
            return []
        listed = " and ".join(f"rubric.{name}" for name in certain)
        reason = (
            f"where P(correct) is in (0, 1), {listed} pays for certainty, right or wrong, and nothing for being right"
        )
        cures = ("add rubric.accuracy", *self._lower(tuple(certain)))
        return [Flaw("untied", 0.0, 1.0, reason, tuple(certain), cures)]

    def _lower(self, names: tuple[str, ...]) -> tuple[str, ...]:
        weights = {term.name: weight for term, weight in zip(self.terms, self.weights.tolist(), strict=True)}
        listed = " and ".join(f"rubric.{name}.weight ({weights[name]:g})" for name in names)
        return (f"lower {listed}",) if names else ()


def _pays_for_right(term: Term) -> bool:
    """Whether a right completion earns more than a wrong one, at some confidence."""
    right = play((term,), 8, None)[0]
    honest_PAG, correct_A = right.rewards_PAGK[..., 0], np.arange(8)
    inside = (correct_A > 0) & (correct_A < 7)
    lead_PA = honest_PAG[:, inside, 1] - honest_PAG[:, inside, -1]  # the first sibling is right, the last one wrong
    return bool((np.nan_to_num(lead_PA) > _TOLERANCE).any())


def _beyond_scheme(term: Term, played: Played, index: int) -> np.ndarray:
    """What a term pays (P, A, G) above its scheme; one number where it looks at one completion and nothing else."""
    scheme = term.scheme()
    rewards_PAG = played.rewards_PAGK[..., index]
    with np.errstate(divide="ignore", invalid="ignore"):
        right_P1G, wrong_P1G = (side(played.stated_PG)[:, None] for side in (scheme.right, scheme.wrong))
        scheme_PAG = np.where(played.correct_AG, right_P1G, wrong_P1G)
        return np.where(rewards_PAG == scheme_PAG, 0.0, rewards_PAG - scheme_PAG)  # infinite ones as well


def _around(pays_P: np.ndarray) -> tuple[float, float]:
    """The neighbours of the first and last probability at which something pays: it does somewhere in between."""
    first, last = np.flatnonzero(pays_P)[[0, -1]]
    return float(PROBABILITIES[max(first - 1, 0)]), float(PROBABILITIES[min(last + 1, len(PROBABILITIES) - 1)])


def _where(low: float, high: float) -> str:
    return f"where P(correct) is in ({low:.4g}, {high:.4g})"
