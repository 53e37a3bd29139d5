"""How far several samples of one question agree, where it is given which of their answers are equivalent.

Which answers are, a caller says: of a task the verifier that judges its answers, so that 1/2 agrees with 0.5.

Shapes: B questions, N samples of each, the completion that is estimated the first of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import torch

from estimators.estimator import SAMPLES, Completions, Estimate, nothing
from estimators.token_statistics import TokenStatistics

Same = Callable[[str, str], bool]
"""Whether two answers to one question are equivalent, the first taken for the right one."""


def answer_clusters(answers: Sequence[str | None], same: Same = str.__eq__) -> list[int]:
    """Cluster, from 0, of each answer to one question; -1 of None, which agrees with nothing.

    An answer joins the first cluster whose first answer it is the ``same`` as, in either direction, and begins a new
    one where there is none. Equal texts are not compared again, so that a question costs at most as many comparisons
    as it has pairs of different texts.

    >>> answer_clusters(["1/2", "0.5", None, "7", "1/2"], lambda a, b: {a, b} <= {"1/2", "0.5"})
    [0, 0, -1, 1, 0]
    """
    first: list[str] = []
    known: dict[str, int] = {}
    for answer in answers:
        if answer is None or answer in known:
            continue
        found = next((k for k, other in enumerate(first) if same(other, answer) or same(answer, other)), len(first))
        if found == len(first):
            first.append(answer)
        known[answer] = found
    return [-1 if answer is None else known[answer] for answer in answers]


@dataclass(frozen=True)
class Agreement:
    """Share in (0, 1] of the samples whose answer is equivalent to the completion's; not valid without an answer."""

    needs: ClassVar[frozenset[str]] = frozenset({SAMPLES})
    is_probability: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    higher_is_surer: ClassVar[bool] = True
    cost: ClassVar[str] = "further samples of each question"
    source: ClassVar[str] = "arXiv 2203.11171"

    def reads(self, completions: Completions) -> torch.Tensor:
        """No token's statistics."""
        return nothing(completions)

    def __call__(self, completions: Completions, statistics: TokenStatistics) -> Estimate:
        """The share (B,), of all samples, with an answer or not. Raises ValueError where there are no samples."""
        clusters_BN = _clusters(completions, "agreement")
        own_B1 = clusters_BN[:, :1]
        return Estimate.where(own_B1.squeeze(1) >= 0, (clusters_BN == own_B1).double().mean(dim=1))


@dataclass(frozen=True)
class SemanticEntropy:
    """Entropy over the answers' meanings among the samples, in nats, at least 0; lower is surer.

    ``weighted`` sums the probabilities of a meaning's samples (arXiv 2302.09664); if not, its share of the samples
    counts, which needs no log-probabilities (the discrete form, Farquhar et al., Nature 630, 2024). Not valid without
    any answer, and, weighted, where none has a probability.
    """

    needs: ClassVar[frozenset[str]] = frozenset({SAMPLES})
    is_probability: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, inf)
    higher_is_surer: ClassVar[bool] = False
    cost: ClassVar[str] = "further samples of each question"
    source: ClassVar[str] = "arXiv 2302.09664"
    weighted: bool = False

    def reads(self, completions: Completions) -> torch.Tensor:
        """No token's statistics."""
        return nothing(completions)

    def __call__(self, completions: Completions, statistics: TokenStatistics) -> Estimate:
        """The entropy (B,). Raises ValueError where there are no samples, or no log-probabilities to weight them by."""
        clusters_BN = _clusters(completions, "semantic_entropy")
        log_weights_BN = torch.zeros(clusters_BN.shape, dtype=torch.float64, device=clusters_BN.device)
        if self.weighted:
            if completions.sample_log_probs_BN is None:
                raise ValueError("semantic_entropy, weighted, needs the log-probability of each sample, there are none")
            log_weights_BN = completions.sample_log_probs_BN.double()
        answered_BN = clusters_BN >= 0
        weights_BN = torch.softmax(log_weights_BN.masked_fill(~answered_BN, -torch.inf), dim=1).nan_to_num(0.0)
        # The weight of each sample's cluster: its entropy is the mean of -log of that.
        same_BNN = clusters_BN.unsqueeze(1) == clusters_BN.unsqueeze(2)
        of_cluster_BN = torch.where(same_BNN, weights_BN.unsqueeze(1), 0.0).sum(dim=2)
        terms_BN = torch.where(weights_BN > 0, -weights_BN * of_cluster_BN.clamp(max=1.0).log(), 0.0)
        return Estimate.where((weights_BN > 0).any(dim=1), terms_BN.sum(dim=1))


def _clusters(completions: Completions, name: str) -> torch.Tensor:
    if completions.clusters_BN is None:
        raise ValueError(f"{name} needs further samples of each question, and the completions have none")
    return completions.clusters_BN
