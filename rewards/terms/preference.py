"""Rewards for comparing well with the other completions of the same prompt.

Shapes: N completions of the global batch; of one group, M members, R right and W wrong ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rewards.outcomes import Outcomes
from rewards.scoring_rules import Scheme, check_range, constant_scheme
from rewards.terms.intrinsic import read_signal

_RANGES = {"rank": "[-1, 1]", "win_rate": "[0, 1]", "bradley_terry": "(-inf, 0]"}
_AMONG = ("all", "equally_correct")


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
        known_N = ~np.isnan(signal_N)
        verdict_N = outcomes.correct if self.among == "equally_correct" else np.zeros(len(outcomes))
        reward_N = np.full(len(outcomes), np.nan)
        for rows in _members(outcomes.group, known_N & ~np.isnan(verdict_N)):
            for verdict in np.unique(verdict_N[rows]):
                members = rows[verdict_N[rows] == verdict]
                if members.size > 1:
                    reward_N[members] = self._compare(signal_N[members])
        return reward_N

    def scheme(self) -> Scheme:
        """Nothing: what a completion earns here is decided by its siblings, which no scheme knows."""
        return constant_scheme(0.0, 0.0)

    def _compare(self, signal_M: np.ndarray) -> np.ndarray:
        lead_MM = signal_M[:, None] - signal_M[None, :]
        if self.form == "bradley_terry":
            wins_MM = -np.logaddexp(0.0, -lead_MM / self.temperature)
        else:
            wins_MM = (lead_MM > 0) + 0.5 * (lead_MM == 0)
        np.fill_diagonal(wins_MM, 0.0)
        mean_M = wins_MM.sum(axis=1) / (signal_M.size - 1)
        return np.asarray(2.0 * mean_M - 1.0 if self.form == "rank" else mean_M)


@dataclass(frozen=True)
class CAPOTerm:
    """Pull on the signal s that ranks the right completions of a group above its wrong ones (CAPO).

    Minus the derivative with respect to s_i of the pairwise logistic loss, the sum over right i and wrong j of
    phi(s_i - s_j) with phi(t) = log(1 + exp(-t / tau)), divided by the number of siblings of the other verdict:
    positive for a right completion, negative for a wrong one, and the larger the worse the two are ranked. Unlike
    the advantage of plain GRPO, the surrogate is consistent with the AUC of s. The mean over the right is minus the
    mean over the wrong, so it is an advantage already: a baseline or a group scale on top would distort it.

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
        right_N = outcomes.correct >= 0.5
        pull_N = np.where(known_N, 0.0, np.nan)
        for rows in _members(outcomes.group, known_N):
            right, wrong = rows[right_N[rows]], rows[~right_N[rows]]
            if right.size and wrong.size:
                lead_RW = signal_N[right][:, None] - signal_N[wrong][None, :]
                pull_RW = np.exp(-np.logaddexp(0.0, lead_RW / self.tau)) / self.tau  # -phi', which cannot overflow
                pull_N[right] = pull_RW.mean(axis=1)
                pull_N[wrong] = -pull_RW.mean(axis=0)
        return pull_N

    def scheme(self) -> Scheme:
        """Nothing: what a completion earns here is decided by its siblings; right never earns less than wrong."""
        return constant_scheme(0.0, 0.0)


def _members(group_N: np.ndarray, known_N: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of each group that are known."""
    for label in np.unique(group_N[known_N]):
        yield np.flatnonzero(known_N & (group_N == label))


def _check_signal(key: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} is {value!r}, expected the name of a signal, such as answer_margin, or confidence")
