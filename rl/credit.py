"""Credit of a whole batch: advantages of correctness and of calibration, each term on the tokens that earned it.

Shapes: N completions of the global batch, B of this rank, K terms, P parts, S segments, T completion tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rewards.rubric import Rubric
from rl.advantages import batch_scale, centred_rewards, segment_advantages, sequence_advantages, term_advantages


@dataclass(frozen=True)
class Credit:
    """How rewards become advantages; the fields are keys of the ``trainer`` section, and the terms' own scalings."""

    credit: str
    segment_weight: str
    scaling: str
    own_K: Sequence[str | None]
    group_size: int
    credit_KS: torch.Tensor
    """1 where a term is credited to a segment."""


def divides_a_rule(rubric: Rubric, scaling: str) -> bool:
    """Whether a term that pays by the confidence is divided by the standard deviation of its group."""
    by_group = [(each.scaling or scaling) in ("group", "gdpo") for each in rubric.schedules]
    return any(group and field for group, field in zip(by_group, rubric.pays_for, strict=True))


def parts_are_apart(credit: str, scaling: str) -> bool:
    """Whether the advantages of correctness and of calibration are known one by one, and not only their sum."""
    return scaling != "gdpo" if credit == "segment" else scaling in ("none", "leave_one_out")


def credited_advantages(
    how: Credit,
    rewards_NK: torch.Tensor,
    masks_BST: torch.Tensor,
    weights_K: torch.Tensor,
    calibrates_K: torch.Tensor,
    local: slice,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Advantages (B, 2, T) of this rank's completions, and one number a completion (N,) of the global batch.

    Two parts, whose sum is the advantage: the terms that do not depend on the stated confidence, and those that do
    (``calibrates_K``). Where they are not known one by one, all is in the first. ``local`` are the rank's rows.
    """
    parts_2K = torch.stack([~calibrates_K, calibrates_K]) * weights_K
    if how.credit == "sequence":
        if not parts_are_apart(how.credit, how.scaling):
            parts_2K = torch.stack([weights_K, torch.zeros_like(weights_K)])
        known = how.group_size, how.scaling, how.own_K
        advantages_N2 = torch.stack([sequence_advantages(rewards_NK, each_K, *known) for each_K in parts_2K], dim=1)
        advantages_N = advantages_N2.sum(dim=1)
        advantages_B2T = advantages_N2[local].unsqueeze(2).repeat(1, 1, masks_BST.size(2))
    else:
        advantages_NK = term_advantages(rewards_NK, how.group_size, [own or how.scaling for own in how.own_K])
        advantages_N, own_BK = advantages_NK @ weights_K, advantages_NK[local]
        place = how.credit_KS, masks_BST, how.segment_weight
        advantages_B2T = torch.stack([segment_advantages(own_BK, each_K, *place) for each_K in parts_2K], dim=1)
    if how.scaling == "gdpo":
        scale = batch_scale(advantages_N)
        advantages_B2T, advantages_N = advantages_B2T / scale, advantages_N / scale
    return advantages_B2T, advantages_N


def unread_credit(
    how: Credit,
    rewards_NK: torch.Tensor,
    masks_BST: torch.Tensor,
    terms: Sequence[int],
    weights_K: torch.Tensor,
    unread_B: torch.Tensor,
    local: slice,
) -> torch.Tensor:
    """Advantages (B, T) by which completions pay that state nothing the closed form of some ``terms`` could read.

    It has no token to read there, so that their reward, that of an unparsed confidence, is taken as it was sampled:
    less the mean of the siblings, or of the batch where there are none, without any other scaling. 0 elsewhere.
    """
    rewards_NC = rewards_NK[:, terms]
    size = how.group_size if how.group_size > 1 else len(rewards_NC)
    advantages_BC = centred_rewards(rewards_NC, size, "none")[local] * unread_B.unsqueeze(1)
    credit_CS = how.credit_KS[terms]
    if how.credit == "sequence":
        credit_CS = torch.ones_like(credit_CS)
    return segment_advantages(advantages_BC, weights_K[terms], credit_CS, masks_BST, how.segment_weight)
