"""What it pays to deviate: the mean advantage of one completion of a group that does not do its honest best.

Siblings try, and state their true probability p of being right. Every outcome of their group is written down with its
probability, the terms pay it, and the rewards become advantages as they do in training (:mod:`rl.advantages`, whose
numbers these are; a batch is made of such groups). A deviation pays at p where its mean advantage is above 0 on tokens
that decide on it: there a policy gradient makes it more frequent.

Shapes: P probabilities of being right, A outcomes of a group, G completions of it (the first one deviates), K terms,
Q confidences that the deviating completion may state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rewards.completion import SEGMENTS, ParseStatus
from rewards.outcomes import Outcomes
from rewards.schedule import RAW
from rewards.terms import Term
from rewards.terms.calibration import CalibrationTerm
from rewards.terms.intrinsic import GOLD_SIGNALS
from rewards.training import TrainingFacts

_EPSILON = 1e-4  # as in rl.advantages
_ANSWERING, _STATING = ("reasoning", "answer"), ("prior_confidence", "analysis", "confidence")
_ENDS = (0.001, 0.01, 0.99, 0.999)
PROBABILITIES = np.union1d(np.linspace(0.0, 1.0, 41), _ENDS)
"""P(correct) at which deviations are looked at, (P,)."""


@dataclass(frozen=True)
class Deviation:
    """A way not to do one's honest best.

    ``correct`` is the verdict it gets, NaN where there is none, None where it is right as often as its siblings.
    ``confidences`` it may state, before and after, beside those of its siblings; NaN for none that can be read; None:
    any.
    ``decided_by`` are the segments whose tokens make it happen, ``written`` those that it has tokens in.
    """

    event: str
    correct: float | None
    confidences: tuple[float, ...] | None
    status: ParseStatus = ParseStatus.OK
    abstained: bool = False
    decided_by: tuple[str, ...] = _ANSWERING
    written: tuple[str, ...] = SEGMENTS


_NONE, _EXTREME = (np.nan,), (0.0, 1.0)
_BEFORE = ("prior_confidence", "reasoning")
DEVIATIONS = (
    Deviation("wrong", 0.0, None),
    Deviation("truncated", None, (), ParseStatus.TRUNCATED, decided_by=SEGMENTS),
    Deviation("truncated", 0.0, _EXTREME, ParseStatus.TRUNCATED),
    Deviation("truncated", 0.0, _NONE, ParseStatus.TRUNCATED, decided_by=SEGMENTS, written=_BEFORE),
    Deviation("unjudged", np.nan, _EXTREME),
    Deviation("abstained", 0.0, _EXTREME, abstained=True),
    Deviation("unparsed", None, _NONE, ParseStatus.NOT_A_NUMBER, decided_by=_STATING),
    Deviation("unparsed", 0.0, _EXTREME, ParseStatus.MISSING_ANSWER, written=("reasoning", *_STATING)),
    Deviation("unparsed", 0.0, _NONE, ParseStatus.MISSING_ANSWER, decided_by=SEGMENTS, written=_BEFORE),
)
"""``wrong`` on purpose; ``truncated`` by the length limit, after an honest completion, a wrong one, or within the
thinking; ``unjudged``, where no verifier can read the answer; ``abstained``; ``unparsed`` without its confidence or
its answer."""


@dataclass(frozen=True, eq=False)
class Played:
    """A deviation that states one confidence: what the terms pay its group, ``rewards_PAGK``, each outcome with its
    probability, ``chances_PA``; who is right, ``correct_AG``, and the confidences stated, its own first, ``stated_PG``.
    """

    deviation: Deviation
    correct_AG: np.ndarray
    stated_PG: np.ndarray
    rewards_PAGK: np.ndarray
    chances_PA: np.ndarray


@lru_cache(maxsize=128)
def play(terms: tuple[Term, ...], group_size: int, levels: tuple[float, ...] | None) -> tuple[Played, ...]:
    """Let every deviation state each of its confidences among honest siblings, at each of :data:`PROBABILITIES`.

    Confidences that are not level become the nearest one.
    """
    anything = tuple(np.linspace(0.0, 1.0, 11).tolist()) if levels is None else levels
    # Under a verifier that errs at a rate e, terms hold the confidence to p (1 - 2e) + e, so that is what is honest.
    noise = [term.noise for term in terms if isinstance(term, CalibrationTerm)]
    error = float(np.mean(noise)) if noise else 0.0
    stated_P = _nearest(PROBABILITIES * (1.0 - 2.0 * error) + error, levels)
    played = []
    for deviation in DEVIATIONS:
        choices = anything if deviation.confidences is None else deviation.confidences
        choices_P = [_nearest(np.full_like(stated_P, each), levels) for each in choices]
        for choice_P in choices_P if choices == _NONE else [stated_P, *choices_P]:
            played.append(_played(deviation, terms, group_size, stated_P, choice_P))
    return tuple(played)


def _played(
    deviation: Deviation, terms: tuple[Term, ...], group_size: int, stated_P: np.ndarray, choice_P: np.ndarray
) -> Played:
    siblings = group_size - 1
    verdicts = (deviation.correct,) if deviation.correct is not None else (0.0, 1.0)
    right_A = np.repeat(np.arange(siblings + 1), len(verdicts))  # siblings that are right, the first ones
    own_A = np.tile(np.array(verdicts), siblings + 1)
    p_P1 = PROBABILITIES[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        chances_PA = _binomial(siblings, right_A) * p_P1**right_A * (1.0 - p_P1) ** (siblings - right_A)
    if deviation.correct is None:
        chances_PA = chances_PA * np.where(own_A == 1.0, p_P1, 1.0 - p_P1)
    correct_AG = (np.arange(group_size) <= right_A[:, None]).astype(float)
    correct_AG[:, 0] = own_A
    stated_PG = np.repeat(stated_P[:, None], group_size, axis=1)
    stated_PG[:, 0] = choice_P
    shape = (len(PROBABILITIES), len(right_A), group_size)
    size = len(PROBABILITIES) * len(right_A)
    facts = {
        "correct": np.tile(correct_AG.ravel(), len(PROBABILITIES)),
        "confidence": np.repeat(stated_PG, len(right_A), axis=0).ravel(),
        "group": np.repeat(np.arange(size), group_size),
        "length": np.ones(size * group_size),
        "abstained": np.tile([deviation.abstained, *(False,) * siblings], size),
    }
    status = (deviation.status, *(ParseStatus.OK,) * siblings) * size
    columns = []
    for term in terms:
        signals = {name: _signal(term, name, facts) for name in term.signals if name != "confidence"}
        columns.append(term(Outcomes(status=status, signals=signals, **facts)).reshape(shape))
    return Played(deviation, correct_AG, stated_PG, np.stack(columns, axis=-1), chances_PA)


def _nearest(confidence_P: np.ndarray, levels: tuple[float, ...] | None) -> np.ndarray:
    if levels is None or np.isnan(confidence_P).all():
        return confidence_P
    return np.asarray(np.array(levels)[np.abs(np.subtract.outer(confidence_P, levels)).argmin(axis=1)])


def _signal(term: Term, name: str, facts: Mapping[str, np.ndarray]) -> np.ndarray:
    """The stated confidence, for the one before the answer; the verdict, for a signal that is measured against the gold
    answer or held to be the target, with 0 for what the verifier cannot judge; else one value for all: what a policy
    can do to its own statistics comes on top, and no audit sees it."""
    correct = facts["correct"]
    if name == "prior_confidence":
        return facts["confidence"]
    target = isinstance(term, CalibrationTerm) and name == term.soft_signal
    if target or (name in GOLD_SIGNALS and not name.endswith("_prior")):
        return np.asarray(np.nan_to_num(correct))
    return np.full_like(correct, -1.0 if name.endswith("log_prob") else 0.0 if name.endswith("_prior") else 0.5)


def _binomial(n: int, k_A: np.ndarray) -> np.ndarray:
    row = np.ones(1)
    for _ in range(n):
        row = np.append(row, 0.0) + np.append(0.0, row)
    return np.asarray(row[k_A])


@np.errstate(invalid="ignore")
def earned(
    played: Played, weights_K: np.ndarray, scalings_K: tuple[str | None, ...], facts: TrainingFacts
) -> np.ndarray:
    """Mean advantage (P, K) that each term gives the deviating completion, weights and scales taken in.

    An advantage without a baseline, ``raw``, is taken less that of its siblings, whom it has to be ahead of.
    ``weights_K`` are 0 for terms out of the policy gradient; ``scalings_K`` are the terms' own, None for the trainer's.
    NaN where a rule without bound pays an infinity, which the audit names by itself.
    """
    rewards_PAGK, chances_PA = played.rewards_PAGK, played.chances_PA
    live = weights_K > 0
    inside = "group" if facts.scaling == "gdpo" else None if facts.credit == "sequence" else facts.scaling
    kinds = [own or inside for own in scalings_K]
    shares_PAGK = np.zeros_like(rewards_PAGK)
    for term in np.flatnonzero(live):
        shares_PAGK[..., term] = _centred(rewards_PAGK[..., term], chances_PA, kinds[term] or facts.scaling)
    together_K = live & np.array([kind is None for kind in kinds])
    if together_K.any() and facts.scaling in ("group", "batch"):
        for term in np.flatnonzero(together_K):
            shares_PAGK[..., term] = _centred(rewards_PAGK[..., term], chances_PA, "none")
        spread = _spread_of_the_sum(rewards_PAGK[..., together_K], weights_K[together_K], chances_PA, facts.scaling)
        shares_PAGK[..., together_K] /= spread[..., None]
    shares_PAGK = shares_PAGK * np.where(live, weights_K, 0.0)
    if facts.scaling == "gdpo":
        shares_PAGK /= _deviation_of_batch(shares_PAGK.sum(axis=-1), chances_PA)[..., None] + _EPSILON
    own_PAK, raw = shares_PAGK[:, :, 0], [kind == RAW for kind in kinds]
    own_PAK = own_PAK - np.where(raw, shares_PAGK[:, :, 1:].mean(axis=2), 0.0)
    return np.asarray((own_PAK * chances_PA[..., None]).sum(axis=1))


def on_segment(
    earned_PK: np.ndarray, deviation: Deviation, segment: str, terms: tuple[Term, ...], credit: str
) -> np.ndarray:
    """What tokens of a segment earn (P,): all terms, or those credited to it, or to nothing that was written."""
    if credit == "sequence":
        return np.asarray(earned_PK.sum(axis=1))
    credited = [segment in term.segments or not set(term.segments) & set(deviation.written) for term in terms]
    return np.asarray(earned_PK[:, credited].sum(axis=1))


def _centred(rewards_PAG: np.ndarray, chances_PA: np.ndarray, scaling: str) -> np.ndarray:
    """As :func:`rl.advantages.centred_rewards`."""
    if scaling == RAW:
        return np.where(np.isnan(rewards_PAG), np.nan_to_num(_mean(rewards_PAG)), rewards_PAG)
    judged = ~np.isnan(rewards_PAG)
    count = judged.sum(axis=2, keepdims=True)
    means = np.broadcast_to(_mean(rewards_PAG), rewards_PAG.shape)
    centred = np.subtract(rewards_PAG, means, out=np.zeros_like(rewards_PAG), where=judged & (count > 1))
    if scaling == "leave_one_out":
        centred *= count / np.maximum(count - 1, 1)
    elif scaling == "group":
        centred /= _deviation_of_group(rewards_PAG) + _EPSILON
    elif scaling == "batch":
        centred /= _deviation_of_batch(rewards_PAG, chances_PA) + _EPSILON
    return np.asarray(centred)


def _spread_of_the_sum(
    rewards_PAGK: np.ndarray, weights_K: np.ndarray, chances_PA: np.ndarray, scaling: str
) -> np.ndarray:
    """What the summed terms are divided by, as in :func:`rl.advantages.sequence_advantages`."""
    means_PA1K = np.nan_to_num(np.stack([_mean(each) for each in np.moveaxis(rewards_PAGK, -1, 0)], axis=-1))
    total_PAG = np.where(np.isnan(rewards_PAGK), means_PA1K, rewards_PAGK) @ weights_K
    total_PAG[np.isnan(rewards_PAGK).all(axis=-1)] = np.nan
    by_group = scaling == "group"
    spread = _deviation_of_group(total_PAG) if by_group else _deviation_of_batch(total_PAG, chances_PA)
    return np.asarray(spread + _EPSILON)


def _mean(rewards_PAG: np.ndarray) -> np.ndarray:
    """Mean (P, A, 1) over the judged of a group, NaN where there is none."""
    count = (~np.isnan(rewards_PAG)).sum(axis=2, keepdims=True)
    total = np.nansum(rewards_PAG, axis=2, keepdims=True)
    return np.asarray(np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0))


def _deviation_of_group(rewards_PAG: np.ndarray) -> np.ndarray:
    """Standard deviation (P, A, 1) over the judged of a group, with Bessel's correction."""
    count = (~np.isnan(rewards_PAG)).sum(axis=2, keepdims=True)
    squares = np.nansum((rewards_PAG - _mean(rewards_PAG)) ** 2, axis=2, keepdims=True)
    return np.asarray(np.sqrt(squares / np.maximum(count - 1, 1)))


def _deviation_of_batch(values_PAG: np.ndarray, chances_PA: np.ndarray) -> np.ndarray:
    """Standard deviation (P, 1, 1) over a large batch of such groups, all of one p."""
    known = ~np.isnan(values_PAG)
    chances = np.where(known, chances_PA[..., None], 0.0)
    values = np.where(known, values_PAG, 0.0)
    total = np.maximum(chances.sum(axis=(1, 2), keepdims=True), 1e-300)
    mean = (chances * values).sum(axis=(1, 2), keepdims=True) / total
    squares = (chances * np.where(known, values - mean, 0.0) ** 2).sum(axis=(1, 2), keepdims=True) / total
    return np.asarray(np.sqrt(squares))
