"""Means of one token statistic, over the whole completion or over its answer: the plainest signals there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from estimators.estimator import TOKEN_STATISTICS, Completions, Estimate, mean_over
from estimators.token_statistics import TokenStatistics


@dataclass(frozen=True)
class _TokenMean:
    """Mean of ``statistic`` over a completion's tokens, or over those of its answer; not valid without such tokens."""

    needs: ClassVar[frozenset[str]] = frozenset({TOKEN_STATISTICS})
    is_probability: ClassVar[bool] = False
    higher_is_surer: ClassVar[bool] = True
    cost: ClassVar[str] = "one forward pass; none while the policy generates"
    source: ClassVar[str] = "arXiv 2207.05221"
    statistic: ClassVar[str]
    of_answer: ClassVar[bool] = False

    def reads(self, completions: Completions) -> torch.Tensor:
        """The tokens that are averaged over."""
        return completions.answer_BT if self.of_answer else completions.written_BT

    def __call__(self, completions: Completions, statistics: TokenStatistics) -> Estimate:
        """The mean (B,)."""
        return mean_over(getattr(statistics, self.statistic), self.reads(completions))


@dataclass(frozen=True)
class MeanLogProb(_TokenMean):
    """Mean log-probability of the completion's tokens, in nats, at most 0: the log of the inverse perplexity."""

    statistic = "log_prob"


@dataclass(frozen=True)
class Entropy(_TokenMean):
    """Mean entropy of the distributions that the completion was drawn from, in nats; lower is surer."""

    statistic = "entropy"
    higher_is_surer = False


@dataclass(frozen=True)
class SelfCertainty(_TokenMean):
    """Mean self-certainty of the completion, KL(uniform || p) in nats, at least 0 (arXiv 2505.19590)."""

    statistic = "self_certainty"
    source = "arXiv 2505.19590"


@dataclass(frozen=True)
class MeanMaxProbability(_TokenMean):
    """Mean probability in [0, 1] of the likeliest token over the completion: what confidence of steps has to beat."""

    statistic = "max_probability"


@dataclass(frozen=True)
class AnswerLogProb(_TokenMean):
    """Mean log-probability of the answer's tokens, in nats, at most 0."""

    statistic, of_answer = "log_prob", True


@dataclass(frozen=True)
class AnswerEntropy(_TokenMean):
    """Mean entropy over the answer's tokens, in nats; lower is surer."""

    statistic, of_answer, higher_is_surer = "entropy", True, False


@dataclass(frozen=True)
class AnswerSelfCertainty(_TokenMean):
    """Mean self-certainty over the answer's tokens, in nats, at least 0 (arXiv 2505.19590)."""

    statistic, of_answer, source = "self_certainty", True, "arXiv 2505.19590"


@dataclass(frozen=True)
class AnswerMaxProbability(_TokenMean):
    """Mean probability in [0, 1] of the likeliest token at each of the answer's tokens."""

    statistic, of_answer, is_probability = "max_probability", True, True


@dataclass(frozen=True)
class AnswerMargin(_TokenMean):
    """Mean difference in [0, 1] between the two likeliest tokens over the answer: CoT-decoding's (arXiv 2402.10200)."""

    statistic, of_answer, source = "margin", True, "arXiv 2402.10200"
