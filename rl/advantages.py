"""From rewards to advantages: baselines, scaling, credit and GAE, as pure functions of tensors.

Shapes: N completions of the global batch, G completions a prompt (N divisible by G, siblings adjacent), K reward
terms, S segments, B completions of this rank, T completion tokens, R credit streams.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import pad

from rewards.completion import SEGMENTS
from rewards.schedule import RAW, SCALINGS

TRAINER_SCALINGS = (*SCALINGS, "gdpo")
"""What ``trainer.scaling`` may be: as for a single term, or GDPO (arXiv 2601.05242), in which each term is scaled by
its group and the weighted sum by the batch."""
CREDITS = ("sequence", "segment")
SEGMENT_WEIGHTS = ("token", "completion")
_EPSILON = 1e-4  # as in TRL, so that `group` and `batch` give its numbers


def centred_rewards(rewards_NK: torch.Tensor, group_size: int, scaling: str) -> torch.Tensor:
    """Advantage (N, K) of each term: reward less the group's mean, then scaled.

    ``none`` leaves it there (Dr. GRPO, arXiv 2503.20783); ``leave_one_out`` takes the mean over the other siblings
    (RLOO, arXiv 2402.14740); ``batch`` divides by the standard deviation of the term over the batch; ``group`` by
    that of the group (GRPO, arXiv 2402.03300), which cancels the magnitude that makes a scoring rule proper
    (arXiv 2508.11800). ``raw`` takes the reward as it is, without a baseline: it is an advantage already
    (``capo``). NaN rewards are left out of every mean and get advantage 0; so does, but for ``raw``, the only judged
    sibling of a group. Where ``raw`` advantages have a mean, NaN gets that: 0 would be better than it, or worse.

    Raises ValueError where N is not a multiple of ``group_size`` or the scaling is unknown.

    >>> centred_rewards(torch.tensor([[1.0], [0.0], [0.0], [0.0]]), 4, "none").flatten().tolist()
    [0.75, -0.25, -0.25, -0.25]
    >>> centred_rewards(torch.tensor([[1.0], [0.0]]), 2, "leave_one_out").flatten().tolist()
    [1.0, -1.0]
    """
    total, terms = rewards_NK.shape
    if total % group_size:
        raise ValueError(f"{total} rewards do not divide into groups of {group_size}")
    if scaling not in (*SCALINGS, RAW):
        raise ValueError(f"scaling {scaling!r} is not one of {', '.join(SCALINGS)}")
    if scaling == RAW:
        return neutral_rewards(rewards_NK, group_size, beyond=False)
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
    differ = _differ(grouped, dim=1)
    centred = torch.where(judged & (counts > 1) & differ, centred, torch.zeros_like(centred))
    return centred.reshape(total, terms)


def _differ(values: torch.Tensor, dim: int) -> torch.Tensor:
    """Whether any two judged values differ: the mean of equal ones can be a bit off, which a scale magnifies."""
    high = values.nan_to_num(nan=-torch.inf).amax(dim=dim, keepdim=True)
    low = values.nan_to_num(nan=torch.inf).amin(dim=dim, keepdim=True)
    return high > low


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

    Each term is centred over the siblings in which it could be judged, and the terms are summed: a term that could not
    be judged in a completion, or in a single one of a group, moves that completion neither up nor down. ``group`` and
    ``batch`` divide by the deviation of the summed rewards, in which such a term counts with the mean of its siblings;
    where all are judged, these are GRPO's numbers. A term with a scaling of its ``own_K`` is scaled alone, and joins
    the sum after. A completion of which no term could be judged gets 0; terms of weight 0 count for nothing.

    Accuracy could not be judged in the first completion, whose siblings are wrong; the format of the last is bad:

    >>> rewards = torch.tensor([[torch.nan, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    >>> sequence_advantages(rewards, torch.ones(2), 4, "none").tolist()
    [0.25, 0.25, 0.25, -0.75]
    """
    own_K = own_K or (None,) * rewards_NK.size(1)
    advantages_N = torch.zeros_like(rewards_NK[:, 0])
    weighed = weights_K.tolist()
    together = [term for term, own in enumerate(own_K) if own is None and weighed[term]]
    if together:
        summed_NK, weights = rewards_NK[:, together], weights_K[together]
        if scaling in ("group", "batch"):
            total_N1 = (neutral_rewards(summed_NK, group_size) * weights).sum(dim=1, keepdim=True)
            total_N1[summed_NK.isnan().all(dim=1)] = torch.nan
            # A NaN's place is taken by the mean of its siblings, which can be a bit off.
            differ_G1 = _differ(summed_NK.view(-1, group_size, len(together)), dim=1).any(dim=2)
            advantages_N = centred_rewards(total_N1, group_size, scaling).squeeze(1)
            advantages_N = advantages_N * differ_G1.expand(-1, group_size).reshape(-1)
        else:
            advantages_N = (centred_rewards(summed_NK, group_size, scaling) * weights).sum(dim=1)
    for term, own in enumerate(own_K):
        if own is not None:
            advantages_N = advantages_N + weights_K[term] * centred_rewards(
                rewards_NK[:, [term]], group_size, own
            ).squeeze(1)
    return advantages_N


def neutral_rewards(rewards_NK: torch.Tensor, group_size: int = 1, *, beyond: bool = True) -> torch.Tensor:
    """Rewards (N, K) with a number for every NaN, so that what could not be judged is neither better nor worse.

    That is the term's mean over the judged siblings of the group, or else, with ``beyond``, over the judged of the
    batch, or else 0.

    >>> neutral_rewards(torch.tensor([[torch.nan], [1.0], [torch.nan], [torch.nan], [0.0], [0.5]]), 2).T.tolist()
    [[1.0, 1.0, 0.5, 0.5, 0.0, 0.5]]
    """
    among_NK = sibling_rewards(rewards_NK, group_size)
    others_K = rewards_NK.nanmean(dim=0).nan_to_num() * beyond
    return torch.where(among_NK.isnan(), others_K.to(among_NK.dtype), among_NK)


def sibling_rewards(rewards_NK: torch.Tensor, group_size: int) -> torch.Tensor:
    """Rewards (N, K) with the mean of the judged siblings for every NaN, and NaN left where none was judged."""
    means_NK = rewards_NK.view(-1, group_size, rewards_NK.size(1)).nanmean(dim=1).repeat_interleave(group_size, 0)
    return torch.where(rewards_NK.isnan(), means_NK.to(rewards_NK.dtype), rewards_NK)


def batch_scale(advantages_N: torch.Tensor) -> torch.Tensor:
    """What GDPO divides by at the end: the standard deviation of the summed advantages over the batch, a scalar."""
    return _deviation(advantages_N, dim=0).squeeze(0) + _EPSILON


def segment_advantages(
    advantages_BK: torch.Tensor,
    weights_K: torch.Tensor,
    credit_KS: torch.Tensor,
    masks_BST: torch.Tensor,
    segment_weight: str = "token",
) -> torch.Tensor:
    """Advantages (B, T): each term on the tokens of its own segments.

    ``credit_KS`` is 1 where term k credits segment s. Where a completion has no token in any segment of a term (a
    missing confidence field, say), the term falls on all of its tokens: leaving the field out was their doing.
    ``segment_weight`` says what a weight is of, see :func:`reach_weights`.

    Two tokens of reasoning, one of answer and one of confidence; a term on the confidence alone:

    >>> masks = torch.tensor([[[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]]]).float()
    >>> one = torch.ones(1, 1), torch.ones(1), torch.tensor([[0.0, 0.0, 0.0, 1.0]]), masks
    >>> segment_advantages(*one).tolist(), segment_advantages(*one, "completion").tolist()
    ([[0.0, 0.0, 0.0, 1.0]], [[0.0, 0.0, 0.0, 4.0]])
    """
    reach_BKT = torch.einsum("ks,bst->bkt", credit_KS, masks_BST)
    absent_BK1 = reach_BKT.sum(dim=2, keepdim=True) == 0
    reach_BKT = torch.where(absent_BK1, masks_BST.sum(dim=1, keepdim=True), reach_BKT)
    reach_BKT = reach_BKT * reach_weights(reach_BKT, masks_BST.sum(dim=(1, 2)), segment_weight)
    return torch.einsum("bk,bkt->bt", advantages_BK * weights_K, reach_BKT)


def reach_weights(reach_BKT: torch.Tensor, lengths_B: torch.Tensor, segment_weight: str) -> torch.Tensor:
    """Factor (B, K, 1) on the advantage of each token that a term or stream reaches (0 or 1, (B, K, T)).

    ``token``: 1. Every token of a completion counts alike, so that the gradient is that of the expected weighted sum of
    rewards: a weight of 1 is worth as much as correctness of weight 1, whatever the number of tokens that either is
    decided in. ``completion``: n / n_k, the completion's number of tokens by that of those reached. The advantages of a
    term then add up to weight x advantage x n over the completion's tokens, however few they are, as they do for a term
    on all tokens: five tokens of confidence count as much as two thousand of reasoning.
    """
    if segment_weight == "token":
        return torch.ones_like(reach_BKT[:, :, :1])
    return lengths_B.view(-1, 1, 1) / reach_BKT.sum(dim=2, keepdim=True).clamp(min=1)


def stream_rewards(
    rewards_BK: torch.Tensor,
    weights_K: torch.Tensor,
    members_RK: torch.Tensor,
    streams_RS: torch.Tensor,
    masks_BST: torch.Tensor,
    neutral_BK: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rewards (B, R, T), each on the token that completes what earned it, and the tokens (B, R, T) that could earn it.

    A stream r pays the weighted sum of its terms (``members_RK``) for its segments (``streams_RS``), on their last
    token. Where it has others, reasoning does not count for the last one: it holds whatever is in no field, the end of
    the sequence among it, and an answer has earned its reward once its field is closed. A stream on all segments pays
    on the completion's last token; so does one without a token in its segments, which then reaches the whole completion
    (leaving the field out was its doing). Tokens after the reward have no part in it.

    A NaN reward pays what ``neutral_BK`` has in its place, the mean of its siblings (:func:`sibling_rewards`, of the
    global batch), by default nothing. A stream reaches no token where none of its terms with a weight could be judged,
    and where one of them has no value even so: a mean over other questions would pay for being unjudged where the
    critic expects less than that, and the audit takes what cannot be judged to earn nothing.

    Reasoning, answer, answer, confidence, end; accuracy pays 1 on the answer's last token:

    >>> fields = [[0, 0, 0, 0, 0], [1, 0, 0, 0, 1], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 1, 0]]
    >>> masks = torch.tensor([fields]).float()
    >>> one = torch.ones(1, 1)
    >>> rewards, reach = stream_rewards(one, one[0], one, torch.tensor([[0.0, 1.0, 1.0, 0.0, 0.0]]), masks)
    >>> rewards.tolist(), reach.tolist()
    ([[[0.0, 0.0, 1.0, 0.0, 0.0]]], [[[1.0, 1.0, 1.0, 0.0, 0.0]]])
    """
    paid_BK, weighs_K = rewards_BK if neutral_BK is None else neutral_BK, weights_K != 0
    judged_BK, open_BK = ~rewards_BK.isnan() & weighs_K, paid_BK.isnan() & weighs_K
    known_BR = (judged_BK.to(members_RK.dtype) @ members_RK.T > 0) & (open_BK.to(members_RK.dtype) @ members_RK.T == 0)
    known_BR1 = known_BR.unsqueeze(2)
    paid_BR1 = ((paid_BK.nan_to_num() * weights_K) @ members_RK.T).unsqueeze(2)
    fields_RS = streams_RS.clone()
    fields_RS[streams_RS.min(dim=1).values == 0, SEGMENTS.index("reasoning")] = 0
    own_BRT = _tokens_or(streams_RS, masks_BST, masks_BST.sum(dim=1, keepdim=True))
    steps_T = torch.arange(1, masks_BST.size(2) + 1, device=masks_BST.device)
    last_BR1 = (_tokens_or(fields_RS, masks_BST, own_BRT) * steps_T).amax(dim=2, keepdim=True)
    reach_BRT = own_BRT * (steps_T <= last_BR1) * known_BR1
    return paid_BR1 * reach_BRT * (steps_T == last_BR1), reach_BRT


def _tokens_or(streams_RS: torch.Tensor, masks_BST: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Mask (B, R, T) of the tokens in each stream's segments, ``others`` where there are none."""
    tokens_BRT = torch.einsum("rs,bst->brt", streams_RS, masks_BST)
    return torch.where(tokens_BRT.sum(dim=2, keepdim=True) > 0, tokens_BRT, others)


def gae(
    rewards_BRT: torch.Tensor, values_BRT: torch.Tensor, reach_BRT: torch.Tensor, gamma: float, lam: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Generalised advantage estimates and returns, both (B, R, T), 0 out of reach (arXiv 1506.02438, eq. 16).

    ``A_t = sum_l (gamma lam)^l delta_(t+l)`` with ``delta_t = r_t + gamma V_(t+1) - V_t``, over the tokens that a
    stream reaches and as if there were no others: the next state is that before the stream's next token. ``values_BRT``
    are of the state before the token at t; after the last one the value is 0, truncated or not. The return is
    ``A_t + V_t``, what the value is to become.

    >>> rewards, values = torch.tensor([[[0.0, 0.0, 1.0]]]), torch.tensor([[[0.5, 9.0, 0.25]]])
    >>> advantages, returns = gae(rewards, values, torch.tensor([[[1, 0, 1]]]), gamma=1.0, lam=1.0)
    >>> advantages.tolist(), returns.tolist()
    ([[[0.5, 0.0, 0.75]]], [[[1.0, 0.0, 1.0]]])
    """
    inside_BRT = reach_BRT > 0
    # The tokens of each stream side by side, so that the next one is the next column.
    order_BRT = (~inside_BRT).to(torch.uint8).argsort(dim=2, stable=True)
    there_BRT = inside_BRT.gather(2, order_BRT)
    values = torch.where(there_BRT, values_BRT.gather(2, order_BRT), 0.0)
    sums = rewards_BRT.gather(2, order_BRT) + gamma * pad(values[..., 1:], (0, 1)) - values
    sums = torch.where(there_BRT, sums, 0.0)
    # After n rounds each column holds the discounted sum of 2^n deltas from its own on.
    span, decay = 1, gamma * lam
    while span < sums.size(2) and decay:
        sums = sums + decay * pad(sums[..., span:], (0, span))
        span, decay = 2 * span, decay**2
    advantages_BRT = torch.zeros_like(values_BRT).scatter(2, order_BRT, sums)
    return advantages_BRT, (advantages_BRT + values_BRT) * inside_BRT


def masked_moments(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Count, sum and sum of squares (3,) where the mask is not 0, in float64; those of ranks add up to the batch's."""
    inside = values[mask > 0].double()
    return torch.stack([torch.tensor(len(inside)).to(inside), inside.sum(), (inside**2).sum()])


def whiten(values: torch.Tensor, mask: torch.Tensor, moments_3: torch.Tensor) -> torch.Tensor:
    """Values of mean 0 and deviation 1 where the mask is not 0, and 0 elsewhere, by the moments of the whole batch.

    >>> values = torch.tensor([1.0, 3.0, 7.0]).double()
    >>> whiten(values, values < 5, masked_moments(values, values < 5)).round(decimals=3).tolist()
    [-0.707, 0.707, 0.0]
    """
    count, total, squares = moments_3
    mean = total / count.clamp(min=1)
    deviation = ((squares - count * mean**2) / (count - 1).clamp(min=1)).clamp(min=0).sqrt()
    return torch.where(mask > 0, (values - mean) / (deviation + _EPSILON), 0.0).to(values.dtype)
