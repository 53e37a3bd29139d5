"""Confidence read off the tokens of the answer, without asking for it."""

from __future__ import annotations

import torch

REDUCTIONS = ("product", "mean", "min")


def answer_probability(log_probs: torch.Tensor, reduction: str = "product") -> float:
    """Confidence in [0, 1] from the log-probabilities (T,) of an answer's tokens; higher is surer.

    ``product`` is the probability of the whole answer; ``mean`` the mean token probability (the Answer-Prob baseline
    of RLCR, arXiv 2507.16806); ``min`` that of the least likely token. Raises ValueError for no tokens or another
    reduction.

    >>> round(answer_probability(torch.log(torch.tensor([0.5, 0.8]))), 6)
    0.4
    >>> round(answer_probability(torch.log(torch.tensor([0.5, 0.8])), "mean"), 6)
    0.65
    """
    if log_probs.numel() == 0:
        raise ValueError("an answer of no tokens has no probability")
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction {reduction!r} is not one of {', '.join(REDUCTIONS)}")
    if reduction == "product":
        return min(1.0, float(log_probs.sum().exp()))
    probabilities = log_probs.exp()
    return min(1.0, float(probabilities.mean() if reduction == "mean" else probabilities.min()))
