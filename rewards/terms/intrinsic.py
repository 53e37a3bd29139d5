"""Rewards from the model's own token probabilities: controls that raise certainty, and two that are tied to the truth.

Shapes: N completions of the global batch, G groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rewards.completion import SEGMENTS
from rewards.outcomes import Outcomes
from rewards.scoring_rules import Scheme, check_range, constant_scheme

GOLD_SIGNALS = ("reference_probability", "reference_probability_prior", "token_f1")
"""Signals that are measured against the gold answer: a policy raises them by coming nearer to it."""


def read_signal(outcomes: Outcomes, name: str, term: str) -> np.ndarray:
    """Return the signal ``name`` (N,) in a new array, NaN where undefined or infinite; "confidence" is the stated one.

    Raises ValueError, naming the ``term`` that reads it, where the outcomes have no such signal.
    """
    if name != "confidence" and name not in outcomes.signals:
        known = ", ".join(["confidence", *outcomes.signals])
        raise ValueError(f"term {term} reads the signal {name!r}, the outcomes have {known}")
    values_N = np.array(outcomes.confidence if name == "confidence" else outcomes.signals[name], dtype=float)
    return np.where(np.isfinite(values_N), values_N, np.nan)


@dataclass(frozen=True)
class IntuitorTerm:
    """Self-certainty u, the mean over tokens of KL(uniform || p) in nats (INTUITOR, arXiv 2505.19590).

    An anti-calibration control: it only ever raises certainty, whatever is true. With a frozen scorer it is hacked by
    appending a problem already solved, at about step 100; users report repeated tokens and an exploding KL with the
    policy's own. Never a target for confidence; as a reward only beside accuracy and with a KL penalty.

    Returns (N,) float in [0, inf), NaN where the signal is undefined. By parse status: the same under every status.
    """

    name: ClassVar[str] = "intuitor"
    formula: ClassVar[str] = "mean_t KL(U || p_t)"
    paper: ClassVar[str] = "arXiv 2505.19590"
    needs_group: ClassVar[bool] = False
    method: ClassVar[str] = "INTUITOR"
    signals: ClassVar[tuple[str, ...]] = ("self_certainty",)
    reward_range: ClassVar[str] = "[0, inf)"
    segments: tuple[str, ...] = SEGMENTS

    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        return read_signal(outcomes, "self_certainty", self.name)

    def scheme(self) -> Scheme:
        """Nothing, right or wrong: the term sees neither the verdict nor the stated confidence."""
        return constant_scheme(0.0, 0.0)


@dataclass(frozen=True)
class NegativeEntropyTerm:
    """Minus the mean entropy of the token distributions in nats: a control (arXiv 2505.19590).

    It collapses: a repeated token is the most certain text there is, and the policy falls into repetition.

    Returns (N,) float in (-inf, 0], NaN where the signal is undefined. By parse status: the same under every status.
    """

    name: ClassVar[str] = "negative_entropy"
    formula: ClassVar[str] = "-mean_t H(p_t)"
    paper: ClassVar[str] = "arXiv 2505.19590"
    needs_group: ClassVar[bool] = False
    method: ClassVar[str] = "INTUITOR's control"
    signals: ClassVar[tuple[str, ...]] = ("entropy",)
    reward_range: ClassVar[str] = "(-inf, 0]"
    segments: tuple[str, ...] = SEGMENTS

    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        return 0.0 - read_signal(outcomes, "entropy", self.name)  # no -0.0

    def scheme(self) -> Scheme:
        """Nothing, right or wrong: the term sees neither the verdict nor the stated confidence."""
        return constant_scheme(0.0, 0.0)


@dataclass(frozen=True)
class MeanLogProbTerm:
    """Mean log-probability of the sampled tokens in nats: a control (arXiv 2505.19590).

    It collapses: the likeliest completions are short, and the reasoning shrinks away.

    Returns (N,) float in (-inf, 0], NaN where the signal is undefined. By parse status: the same under every status.
    """

    name: ClassVar[str] = "mean_log_prob"
    formula: ClassVar[str] = "mean_t log p(o_t)"
    paper: ClassVar[str] = "arXiv 2505.19590"
    needs_group: ClassVar[bool] = False
    method: ClassVar[str] = "INTUITOR's control"
    signals: ClassVar[tuple[str, ...]] = ("mean_log_prob",)
    reward_range: ClassVar[str] = "(-inf, 0]"
    segments: tuple[str, ...] = SEGMENTS

    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        return read_signal(outcomes, "mean_log_prob", self.name)

    def scheme(self) -> Scheme:
        """Nothing, right or wrong: the term sees neither the verdict nor the stated confidence."""
        return constant_scheme(0.0, 0.0)


@dataclass(frozen=True)
class RLPRTerm:
    """How much the reasoning raises the mean token probability of the gold answer, clipped to [0, 1] (RLPR).

    ``reference_probability`` is read with the reasoning before the gold answer and ``reference_probability_prior``
    without; ``debias=False`` leaves the prior out. Credited to the reasoning: the sampled answer has no part in the
    number, so crediting it would only add variance.

    ``std_filter`` (beta, at least 0; 0.5, 0.9 and 1 in the paper, by model): where the standard deviation over a group
    is below beta times the mean one of the batch, the prompt tells nothing and its rewards are NaN. The paper keeps a
    moving average of that mean over steps; a term is a pure function of one batch, so that resuming, accumulating and
    rescoring give the same rewards, and takes the batch's own mean. It is the noisier the fewer prompts a batch has,
    and with a single prompt nothing is dropped for beta up to 1.

    Returns (N,) float in [0, 1], NaN where a signal is undefined or the prompt is filtered. By parse status: the same
    under every status; where there is no reasoning to put before the answer, the signal decides. Raises ValueError for
    a beta that is negative or infinite. Source: arXiv 2506.18254.

    >>> from rewards.completion import ParseStatus
    >>> ones = np.ones(2)
    >>> signals = {"reference_probability": np.array([0.9, 0.4]), "reference_probability_prior": np.array([0.5, 0.5])}
    >>> RLPRTerm()(Outcomes(ones, ones, (ParseStatus.OK,) * 2, np.zeros(2, int), ones, signals)).tolist()
    [0.4, 0.0]
    """

    name: ClassVar[str] = "rlpr"
    formula: ClassVar[str] = "clip(p(gold | reasoning) - p(gold), 0, 1)"
    paper: ClassVar[str] = "arXiv 2506.18254"
    method: ClassVar[str] = "RLPR"
    reward_range: ClassVar[str] = "[0, 1]"
    debias: bool = True
    std_filter: float = 0.5
    segments: tuple[str, ...] = ("reasoning",)

    def __post_init__(self) -> None:
        if not isinstance(self.debias, bool):
            raise ValueError(f"rubric.rlpr.debias is {self.debias!r}, expected true or false")
        check_range("rubric.rlpr.std_filter", self.std_filter, 0.0, np.inf, "[)")

    @property
    def signals(self) -> tuple[str, ...]:
        """The signals it reads; the prior, which costs a pass of its own, only to take it off."""
        return ("reference_probability", "reference_probability_prior")[: 1 + self.debias]

    @property
    def needs_group(self) -> bool:
        """Whether it drops the prompts whose completions are much alike, which one completion does not tell."""
        return self.std_filter > 0

    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        reward_N = read_signal(outcomes, "reference_probability", self.name)
        if self.debias:
            reward_N -= read_signal(outcomes, "reference_probability_prior", self.name)
        np.clip(reward_N, 0.0, 1.0, out=reward_N)
        judged_N = ~np.isnan(reward_N)
        if not judged_N.any():
            return reward_N
        _, index_N = np.unique(outcomes.group, return_inverse=True)
        index, reward = index_N[judged_N], reward_N[judged_N]
        count_G = np.bincount(index, minlength=index_N.max() + 1)
        size_G = np.maximum(count_G, 1)
        mean_G = np.bincount(index, reward, minlength=count_G.size) / size_G
        std_G = np.sqrt(np.bincount(index, (reward - mean_G[index]) ** 2, minlength=count_G.size) / size_G)
        threshold = self.std_filter * std_G[count_G > 0].mean()
        return np.where(std_G[index_N] < threshold, np.nan, reward_N)

    def scheme(self) -> Scheme:
        """Nothing, right or wrong: the term sees neither the verdict nor the stated confidence."""
        return constant_scheme(0.0, 0.0)


@dataclass(frozen=True)
class C2GSPGTerm:
    """The weight of grad log C in the sequence-probability calibration of C2GSPG, with C = exp(mean log-prob).

    It is the derivative with respect to log C of y log C + (1 - y) log(1 - C), the calibration objective J. A policy
    gradient multiplies its reward with the gradient of the log-probabilities; averaged over the tokens of a completion
    (``loss_type: grpo``), that is grad log C, so with this reward it climbs J over the sampled completions. The
    identity holds on the policy's own samples and without a baseline; a baseline adds a multiple of grad log C whose
    mean vanishes but for the different lengths of completions, and dividing by a standard deviation breaks it. It
    calibrates the probability of the sequence, not the stated confidence. The paper gives J the weight 0.01.

    C is clipped to ``ceiling``, in (0, 1), since the weight of a wrong completion has no bound as C nears 1.

    Returns (N,) float in [-ceiling / (1 - ceiling), 1], NaN where the verifier could not judge or the signal is
    undefined. By parse status: the same under every status; an unparsed answer is wrong. Raises ValueError for another
    ceiling. Source: arXiv 2509.23129.

    >>> from rewards.completion import ParseStatus
    >>> correct, signals = np.array([1.0, 0.0]), {"mean_log_prob": np.log([0.8, 0.8])}
    >>> facts = Outcomes(correct, correct, (ParseStatus.OK,) * 2, np.zeros(2, int), np.ones(2), signals)
    >>> C2GSPGTerm()(facts).round(6).tolist()
    [1.0, -4.0]
    """

    name: ClassVar[str] = "c2gspg"
    formula: ClassVar[str] = "y - (1 - y) C / (1 - C), C = min(exp(mean_t log p(o_t)), ceiling)"
    paper: ClassVar[str] = "arXiv 2509.23129"
    needs_group: ClassVar[bool] = False
    method: ClassVar[str] = "C2GSPG"
    signals: ClassVar[tuple[str, ...]] = ("mean_log_prob",)
    ceiling: float = 0.99
    segments: tuple[str, ...] = SEGMENTS

    def __post_init__(self) -> None:
        check_range("rubric.c2gspg.ceiling", self.ceiling, 0.0, 1.0, "()")

    @property
    def reward_range(self) -> str:
        """What the term pays at least and at most."""
        return f"[{-self.ceiling / (1.0 - self.ceiling):.4g}, 1]"

    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        probability_N = np.minimum(np.exp(read_signal(outcomes, "mean_log_prob", self.name)), self.ceiling)
        return np.asarray(outcomes.correct - (1.0 - outcomes.correct) * probability_N / (1.0 - probability_N))

    def scheme(self) -> Scheme:
        """1 if right and at most 0 if wrong, whatever confidence is stated."""
        return constant_scheme(1.0, 0.0)
