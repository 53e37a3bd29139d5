"""Rewards for comparing well with the other completions of the same prompt.

Shapes: N completions of the global batch; A groups of M members each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rewards.completion import SEGMENTS
from rewards.outcomes import Outcomes
from rewards.scoring_rules import Scheme, check_range, constant_scheme
from rewards.terms.intrinsic import read_signal

_RANGES = {"rank": "[-1, 1]", "win_rate": "[0, 1]", "bradley_terry": "(-inf, 0]"}
_AMONG = ("all", "equally_correct")
REWARD_MODEL = "reward_model"
"""The signal that a reward model gives."""


@dataclass(frozen=True)
class RLSFTerm:
    """Preference for the completions of a group that are surer than their siblings (RLSF, arXiv 2507.21931).

    Needs no verdict, and therefore sharpens rather than calibrates: nothing ties the signal to the truth, and only a
    signal that already tells right from wrong is worth ranking by. ``among="equally_correct"`` compares a completion
    with siblings of the same verdict only, so that it never contradicts accuracy.

    ``signal`` s is any signal, higher being surer, or "confidence" for the stated one. It defaults to the top-1/top-2
    margin over the answer, the paper's measure. The stated confidence should not be credited to the confidence tokens:
    they would learn to outbid one another. ``form``:

    - "rank": mean-centred rank scaled to [-1, 1], ties averaged; it is 2 win_rate - 1, so its group mean is 0;
    - "win_rate": share of the siblings that it beats, a tie counting half, in [0, 1];
    - "bradley_terry": mean over siblings j of log sigmoid((s_i - s_j) / temperature), in (-inf, 0]: unlike the other
      two it sees by how much.

    Returns (N,) float, NaN where the signal is undefined, where there is no sibling to compare with and, among the
    equally correct, where the verifier could not judge; these take part in no other's comparison. By parse status: the
    same under every status. Raises ValueError for another form or choice of siblings and for a temperature that is not
    positive and finite.

    >>> from rewards.completion import ParseStatus
    >>> confidence, ones = np.array([0.9, 0.5, 0.5, 0.2, np.nan]), np.ones(5)
    >>> facts = Outcomes(ones, confidence, (ParseStatus.OK,) * 5, np.zeros(5, int), ones)
    >>> RLSFTerm(signal="confidence")(facts).tolist()
    [1.0, 0.0, 0.0, -1.0, nan]
    """

    name: ClassVar[str] = "rlsf"
    formula: ClassVar[str] = "rank, win rate or mean_j log sigmoid((s_i - s_j) / temperature) among siblings j"
    paper: ClassVar[str] = "arXiv 2507.21931"
    needs_group: ClassVar[bool] = True
    method: ClassVar[str] = "RLSF"
    signal: str = "answer_margin"
    form: str = "rank"
    among: str = "all"
    temperature: float = 1.0
    segments: tuple[str, ...] = ("reasoning", "answer")

    def __post_init__(self) -> None:
        for key, value, allowed in (("form", self.form, tuple(_RANGES)), ("among", self.among, _AMONG)):
            if value not in allowed:
                raise ValueError(f"rubric.rlsf.{key} is {value!r}, expected one of {', '.join(allowed)}")
        _check_signal("rubric.rlsf.signal", self.signal)
        check_range("rubric.rlsf.temperature", self.temperature, 0.0, np.inf, "()")

    @property
    def signals(self) -> tuple[str, ...]:
        """The signal it ranks by; the stated confidence is a fact and no signal."""
        return () if self.signal == "confidence" else (self.signal,)

    @property
    def reward_range(self) -> str:
        """What the term pays at least and at most, by its form."""
        return _RANGES[self.form]

    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        signal_N = read_signal(outcomes, self.signal, self.name)
        verdict_N = outcomes.correct if self.among == "equally_correct" else np.zeros(len(outcomes))
        known_N = ~(np.isnan(signal_N) | np.isnan(verdict_N))
        reward_N = np.full(len(outcomes), np.nan)
        for rows_AM in _groups(known_N, outcomes.group, verdict_N):
            if rows_AM.shape[1] > 1:
                reward_N[rows_AM] = self._compare(signal_N[rows_AM])
        return reward_N

    def scheme(self) -> Scheme:
        """Nothing: what a completion earns here is decided by its siblings, which no scheme knows."""
        return constant_scheme(0.0, 0.0)

    def _compare(self, signal_AM: np.ndarray) -> np.ndarray:
        others = signal_AM.shape[1] - 1
        if self.form == "bradley_terry":
            wins_AM = np.zeros_like(signal_AM)
            for member in range(others + 1):
                lead_AM = signal_AM - signal_AM[:, [member]]
                win_AM = -np.logaddexp(0.0, -lead_AM / self.temperature)
                win_AM[:, member] = 0.0
                wins_AM += win_AM
            return np.asarray(wins_AM / others)
        # Of the sorted signals, those before the first equal one are beaten; those equal count half, but not oneself.
        order_AM = signal_AM.argsort(axis=1, kind="stable")
        sorted_AM = np.take_along_axis(signal_AM, order_AM, axis=1)
        place_AM = np.broadcast_to(np.arange(others + 1), sorted_AM.shape)
        new_AM = np.diff(sorted_AM, axis=1, prepend=np.nan) != 0
        first_AM = np.maximum.accumulate(np.where(new_AM, place_AM, 0), axis=1)
        ends_AM = np.where(np.roll(new_AM, -1, axis=1), place_AM, others)
        last_AM = np.minimum.accumulate(ends_AM[:, ::-1], axis=1)[:, ::-1]
        rate_AM = np.empty_like(sorted_AM)
        np.put_along_axis(rate_AM, order_AM, (first_AM + last_AM) / (2 * others), axis=1)
        return np.asarray(2.0 * rate_AM - 1.0 if self.form == "rank" else rate_AM)


@dataclass(frozen=True)
class CAPOTerm:
    """Pull on the signal s that ranks the right completions of a group above its wrong ones (CAPO).

    Minus the derivative with respect to s_i of the pairwise logistic loss, the sum over right i and wrong j of
    phi(s_i - s_j) with phi(t) = log(1 + exp(-t / tau)), divided by the number of siblings of the other verdict:
    positive for a right completion, negative for a wrong one, and the larger the worse the two are ranked. Unlike
    the advantage of plain GRPO, the surrogate is consistent with the AUC of s. The mean over the right is minus the
    mean over the wrong, so it is an advantage already: a baseline on top would turn signs round (of one right and seven
    wrong completions, five wrong ones end positive). Its scaling is therefore ``raw``, and no other is allowed.

    ``signal`` is the mean log-probability in the paper, where a policy gradient moves what is ranked; with another
    one it is a reward for it. ``tau`` is 0.5 to 0.6 in the paper. Right is a verdict of at least 1/2.

    Returns (N,) float in [-1 / tau, 1 / tau], 0 where the group has no sibling of the other verdict, NaN where the
    verifier could not judge or the signal is undefined; these count for no sibling. By parse status: the same under
    every status; an unparsed answer is wrong. Raises ValueError for a tau that is not positive and finite.
    Source: arXiv 2604.12632.

    >>> from rewards.completion import ParseStatus
    >>> correct, signals = np.array([1.0, 0.0, 0.0]), {"mean_log_prob": np.array([-1.0, -1.0, -2.0])}
    >>> facts = Outcomes(correct, correct, (ParseStatus.OK,) * 3, np.zeros(3, int), np.ones(3), signals)
    >>> CAPOTerm()(facts).round(3).tolist()  # level with one wrong sibling, above the other
    [0.619, -1.0, -0.238]
    """

    name: ClassVar[str] = "capo"
    formula: ClassVar[str] = "+-mean_j sigmoid((s_wrong - s_right) / tau) / tau over siblings j of the other verdict"
    paper: ClassVar[str] = "arXiv 2604.12632"
    needs_group: ClassVar[bool] = True
    method: ClassVar[str] = "CAPO"
    signal: str = "mean_log_prob"
    tau: float = 0.5
    segments: tuple[str, ...] = ("reasoning", "answer")

    def __post_init__(self) -> None:
        _check_signal("rubric.capo.signal", self.signal)
        check_range("rubric.capo.tau", self.tau, 0.0, np.inf, "()")

    @property
    def signals(self) -> tuple[str, ...]:
        """The signal it ranks; the stated confidence is a fact and no signal."""
        return () if self.signal == "confidence" else (self.signal,)

    @property
    def reward_range(self) -> str:
        """What the term pays at least and at most."""
        return f"[{-1.0 / self.tau:.4g}, {1.0 / self.tau:.4g}]"

    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        signal_N = read_signal(outcomes, self.signal, self.name)
        known_N = ~(np.isnan(signal_N) | np.isnan(outcomes.correct))
        sign_N = np.where(outcomes.correct >= 0.5, 1.0, -1.0)
        pull_N = np.where(known_N, 0.0, np.nan)
        for rows_AM in _groups(known_N, outcomes.group):
            signal_AM, sign_AM = signal_N[rows_AM], sign_N[rows_AM]
            pull_AM, rivals_AM = np.zeros_like(signal_AM), np.zeros_like(signal_AM)
            for member in range(signal_AM.shape[1]):
                rival_AM = sign_AM != sign_AM[:, [member]]
                lead_AM = (signal_AM - signal_AM[:, [member]]) * sign_AM  # of the right over the wrong
                push_AM = np.exp(-np.logaddexp(0.0, lead_AM / self.tau)) / self.tau  # -phi', which cannot overflow
                pull_AM += np.where(rival_AM, push_AM, 0.0)
                rivals_AM += rival_AM
            pull_N[rows_AM] = sign_AM * pull_AM / np.maximum(rivals_AM, 1.0)
        return pull_N

    def scheme(self) -> Scheme:
        """Nothing: what a completion earns here is decided by its siblings; right never earns less than wrong."""
        return constant_scheme(0.0, 0.0)


@dataclass(frozen=True)
class RewardModelTerm:
    """What a reward model says of a completion, such as one trained on self-feedback (RLSF, arXiv 2507.21931).

    Any number, known up to a constant a prompt: with a baseline from siblings that is nothing to mind. It knows no
    verdict, and a policy finds what it overrates: with a KL to the start (``trainer.beta``) alone.

    Returns (N,) float, NaN where the signal is undefined. By parse status: the same under every status.

    >>> from rewards.completion import ParseStatus
    >>> ones = np.ones(2)
    >>> facts = Outcomes(ones, ones, (ParseStatus.OK,) * 2, np.zeros(2, int), ones, {"reward_model": ones * 0.5})
    >>> RewardModelTerm()(facts).tolist()
    [0.5, 0.5]
    """

    name: ClassVar[str] = "reward_model"
    formula: ClassVar[str] = "r(prompt, completion)"
    paper: ClassVar[str] = "arXiv 2507.21931"
    needs_group: ClassVar[bool] = False
    method: ClassVar[str] = "RLSF's reward model"
    signals: ClassVar[tuple[str, ...]] = (REWARD_MODEL,)
    reward_range: ClassVar[str] = "(-inf, inf)"
    segments: tuple[str, ...] = SEGMENTS

    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        return read_signal(outcomes, REWARD_MODEL, self.name)

    def scheme(self) -> Scheme:
        """Nothing, right or wrong: the term sees neither the verdict nor the stated confidence."""
        return constant_scheme(0.0, 0.0)


def _groups(known_N: np.ndarray, *labels: np.ndarray) -> Iterator[np.ndarray]:
    """Rows (A, M) of the groups of M known completions that share all labels, once for every size M that occurs."""
    rows = np.flatnonzero(known_N)
    rows = rows[np.lexsort([label[rows] for label in labels])]
    changes = np.any([np.diff(label[rows]) != 0 for label in labels], axis=0)
    starts = np.flatnonzero(np.append(True, changes)) if rows.size else rows
    sizes = np.diff(np.append(starts, rows.size))
    for size in np.unique(sizes):
        yield rows[starts[sizes == size][:, None] + np.arange(size)]


def _check_signal(key: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} is {value!r}, expected the name of a signal, such as answer_margin, or confidence")
