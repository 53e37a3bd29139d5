"""From rewards to advantages: baselines, scaling and credit, as pure functions of tensors.

Shapes: N completions of the global batch, G completions a prompt (N divisible by G, siblings adjacent), K reward
terms, S segments, B completions of this rank, T completion tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rewards.placing import SCALINGS

TRAINER_SCALINGS = (*SCALINGS, "gdpo")
"""What ``trainer.scaling`` may be: as for a single term, or GDPO (arXiv 2601.05242), in which each term is scaled by
its group and the weighted sum by the batch."""
CREDITS = ("sequence", "segment")
_EPSILON = 1e-4  # as in TRL, so that `group` and `batch` give its numbers


def centred_rewards(rewards_NK: torch.Tensor, group_size: int, scaling: str) -> torch.Tensor:
    """Advantage (N, K) of each term: reward less the group's mean, then scaled.

    ``none`` leaves it there (Dr. GRPO, arXiv 2503.20783); ``leave_one_out`` takes the mean over the other siblings
    (RLOO, arXiv 2402.14740); ``batch`` divides by the standard deviation of the term over the batch; ``group`` by
    that of the group (GRPO, arXiv 2402.03300), which cancels the magnitude that makes a scoring rule proper
    (arXiv 2508.11800). NaN rewards are left out of every mean and get advantage 0; so does the only judged sibling
    of a group.

    Raises ValueError where N is no multiple of ``group_size`` or the scaling is unknown.

    >>> centred_rewards(torch.tensor([[1.0], [0.0], [0.0], [0.0]]), 4, "none").flatten().tolist()
    [0.75, -0.25, -0.25, -0.25]
    >>> centred_rewards(torch.tensor([[1.0], [0.0]]), 2, "leave_one_out").flatten().tolist()
    [1.0, -1.0]
    """
    total, terms = rewards_NK.shape
    if total % group_size:
        raise ValueError(f"{total} rewards do not divide into groups of {group_size}")
    if scaling not in SCALINGS:
        raise ValueError(f"scaling {scaling!r} is not one of {', '.join(SCALINGS)}")
    grouped = rewards_NK.view(-1, group_size, terms)
    judged = ~grouped.isnan()
    counts = judged.sum(dim=1, keepdim=True)
    centred = grouped - grouped.nanmean(dim=1, keepdim=True)
    if scaling == "leave_one_out":
        centred = centred * counts / (counts - 1).clamp(min=1)
    elif scaling == "group":
        centred = centred / (_deviation(grouped, dim=1) + _EPSILON)
    elif scaling == "batch":
        centred = centred / (_deviation(rewards_NK, dim=0).unsqueeze(0) + _EPSILON)
    centred = torch.where(judged & (counts > 1), centred, torch.zeros_like(centred))
    return centred.reshape(total, terms)


def _deviation(values: torch.Tensor, dim: int) -> torch.Tensor:
    """Standard deviation with Bessel's correction over the judged values; 0 where fewer than two are."""
    mean = values.nanmean(dim=dim, keepdim=True)
    count = (~values.isnan()).sum(dim=dim, keepdim=True)
    squares = ((values - mean) ** 2).nansum(dim=dim, keepdim=True)
    return (squares / (count - 1).clamp(min=1)).sqrt()


def term_advantages(rewards_NK: torch.Tensor, group_size: int, scalings_K: Sequence[str]) -> torch.Tensor:
    """Advantage (N, K) of each term, centred and scaled in its own way; see :func:`centred_rewards`."""
    columns = [centred_rewards(rewards_NK[:, [term]], group_size, scaling) for term, scaling in enumerate(scalings_K)]
    return torch.cat(columns, dim=1)


def sequence_advantages(
    rewards_NK: torch.Tensor,
    weights_K: torch.Tensor,
    group_size: int,
    scaling: str,
    own_K: Sequence[str | None] | None = None,
) -> torch.Tensor:
    """Advantage (N,) of the weighted sum of all terms: plain GRPO.

    The terms are summed before they are scaled, so that ``group`` and ``batch`` divide by the deviation of the sum;
    a term with a scaling of its ``own_K`` is scaled alone, and joins the sum after. A completion of which no term
    could be judged gets 0; a NaN term adds nothing to a sum that has others. Terms of weight 0 are no others.
    """
    own_K = own_K or (None,) * rewards_NK.size(1)
    advantages_N = torch.zeros_like(rewards_NK[:, 0])
    weighed = weights_K.tolist()
    together = [term for term, own in enumerate(own_K) if own is None and weighed[term]]
    if together:
        total = (rewards_NK[:, together] * weights_K[together]).nansum(dim=1, keepdim=True)
        total[rewards_NK[:, together].isnan().all(dim=1)] = torch.nan
        advantages_N = centred_rewards(total, group_size, scaling).squeeze(1)
    for term, own in enumerate(own_K):
        if own is not None:
            advantages_N = advantages_N + weights_K[term] * centred_rewards(
                rewards_NK[:, [term]], group_size, own
            ).squeeze(1)
    return advantages_N


def batch_scale(advantages_N: torch.Tensor) -> torch.Tensor:
    """What GDPO divides by at the end: the standard deviation of the summed advantages over the batch, a scalar."""
    return _deviation(advantages_N, dim=0).squeeze(0) + _EPSILON


def segment_advantages(
    advantages_BK: torch.Tensor, weights_K: torch.Tensor, credit_KS: torch.Tensor, masks_BST: torch.Tensor
) -> torch.Tensor:
    """Advantages (B, T): each term on the tokens of its own segments.

    ``credit_KS`` is 1 where term k credits segment s. Where a completion has no token in any segment of a term (a
    missing confidence field, say), the term falls on all of its tokens: leaving the field out was their doing.
    """
    reach_BKT = torch.einsum("ks,bst->bkt", credit_KS, masks_BST)
    absent_BK1 = reach_BKT.sum(dim=2, keepdim=True) == 0
    reach_BKT = torch.where(absent_BK1, masks_BST.sum(dim=1, keepdim=True), reach_BKT)
    return torch.einsum("bk,bkt->bt", advantages_BK * weights_K, reach_BKT)
