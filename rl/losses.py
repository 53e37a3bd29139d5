"""Losses that are written down rather than sampled, as pure functions of tensors.

Shapes: B completions, L confidence levels, R credit streams.
"""

from __future__ import annotations

import math

import torch

LEVEL_MASS_LOG = math.log(0.95)


def expected_reward_loss(
    probabilities_BL: torch.Tensor,
    right_L: torch.Tensor,
    wrong_L: torch.Tensor,
    unparsed: float,
    correct_B: torch.Tensor,
) -> torch.Tensor:
    """Negative expected calibration reward (B,) of the confidence that the policy is about to state.

    ``-sum_l p_l (y f(c_l) + (1 - y) g(c_l)) - (1 - sum_l p_l) u``, where ``probabilities_BL`` are the policy's
    probabilities of the level tokens (they sum to at most 1), ``right_L`` holds ``f`` and ``wrong_L`` ``g`` of the
    scoring rule at each level, ``unparsed`` is the reward u of any other token, which leaves the confidence unparsed,
    and ``correct_B`` is the outcome y in [0, 1].

    This is the expectation that the policy gradient of a calibration reward estimates from one sampled token, here
    without sampling variance and with nothing to normalise. For the Brier rule it is the tokenised Brier loss of
    ConfTuner (arXiv 2508.18847), taken on the policy's own answers and over all tokens; its minimum puts everything on
    the level nearest to P(correct).

    Brier at levels 0 and 1, for a correct answer of which half the probability says 1 and a quarter says 0:

    >>> right, wrong = torch.tensor([-1.0, 0.0]), torch.tensor([0.0, -1.0])
    >>> expected_reward_loss(torch.tensor([[0.25, 0.5]]), right, wrong, -1.0, torch.tensor([1.0])).item()
    0.5
    """
    outcome = correct_B.unsqueeze(1)
    rewards_BL = outcome * right_L + (1 - outcome) * wrong_L
    return -((probabilities_BL * (rewards_BL - unparsed)).sum(dim=-1) + unparsed)


def token_weights(
    loss_type: str,
    mask_BT: torch.Tensor,
    max_completion_length: int,
    tokens_in_batch: torch.Tensor | float,
    epsilon_high: float = 1.0,
) -> torch.Tensor:
    """What one token of each completion weighs (B,) in the policy gradient of a loss type of TRL's.

    With advantage A and at a ratio of 1 to the policy that sampled, the loss has the derivative ``-A * weight`` by the
    log-probability of a token of the mask, for accumulation over one micro-batch. ``grpo`` and ``sapo`` take the mean
    over a completion's tokens and then over completions; ``luspo`` the sum over tokens, then the mean; ``bnpo`` divides
    by the tokens of the micro-batch, ``dr_grpo`` by the completions times ``max_completion_length``, and ``dapo``,
    ``cispo`` and ``vespo`` by ``tokens_in_batch``, the mean number of tokens of a micro-batch of the whole batch.
    ``cispo`` caps the ratio at ``epsilon_high``, and the weight with it where that is below 1.

    Raises ValueError for a loss type that is none of these.

    >>> mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    >>> token_weights("grpo", mask, 8, 6).tolist(), token_weights("dr_grpo", mask, 8, 6).tolist()
    ([0.25, 0.125], [0.0625, 0.0625])
    """
    lengths_B = mask_BT.sum(dim=1).float()
    if loss_type in ("grpo", "sapo"):
        divisors_B = lengths_B.clamp(min=1) * len(lengths_B)
    elif loss_type == "luspo":
        divisors_B = torch.full_like(lengths_B, len(lengths_B))
    elif loss_type == "bnpo":
        divisors_B = lengths_B.sum().clamp(min=1).expand_as(lengths_B)
    elif loss_type == "dr_grpo":
        divisors_B = torch.full_like(lengths_B, len(lengths_B) * max_completion_length)
    elif loss_type in ("dapo", "cispo", "vespo"):
        divisors_B = torch.zeros_like(lengths_B) + tokens_in_batch
    else:
        raise ValueError(f"trainer.loss_type: {loss_type!r} has no known weight of a token")
    return (min(epsilon_high, 1.0) if loss_type == "cispo" else 1.0) / divisors_B


def mass_hinge(log_mass: torch.Tensor) -> torch.Tensor:
    """relu(log .95 - log M), in nats: 0 where the levels together have a probability M of .95 or more.

    An expected reward over levels alone leaves the probability of other tokens to itself, and a policy then stops
    writing levels; a price of other tokens is linear in M and so weakest where M is almost 0, which this is not.

    >>> mass_hinge(torch.tensor([1.0, 0.96, 0.475]).double().log()).round(decimals=4).tolist()
    [0.0, 0.0, 0.6931]
    """
    return torch.relu(LEVEL_MASS_LOG - log_mass)


def level_entropy(log_probabilities_BL: torch.Tensor) -> torch.Tensor:
    """Entropy (B,) in nats of the confidence levels among themselves, in [0, ln L]; other tokens are left out.

    >>> round(level_entropy(torch.tensor([[0.25, 0.25]]).log()).item(), 4)
    0.6931
    """
    conditional_BL = torch.log_softmax(log_probabilities_BL, dim=-1)
    return -(conditional_BL.exp() * conditional_BL).sum(dim=-1)


def value_loss(
    values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, clip_range: float | None
) -> torch.Tensor:
    """Half the squared error of each value, of any shape; the larger of it and that of the value clipped.

    Clipped to ``clip_range`` around the value before the update, in units of reward: a value that has moved further has
    no gradient that would take it on (Schulman's PPO implementation; the paper, arXiv 1707.06347, has no clipping of
    values). None leaves it out.

    >>> value_loss(torch.tensor(0.5), torch.tensor(0.0), torch.tensor(1.0), clip_range=0.25).item()
    0.28125
    """
    errors = (values - returns) ** 2
    if clip_range is not None:
        clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)
        errors = torch.maximum(errors, (clipped - returns) ** 2)
    return 0.5 * errors


def explained_variance(returns_R3: torch.Tensor, errors_R3: torch.Tensor) -> float:
    """Share of the returns' variance that the values explain, at most 1; NaN where the returns do not vary.

    From the moments (:func:`rl.advantages.masked_moments`) of each stream's returns and of returns less values. The
    variances are about each stream's own mean: to know that streams pay differently explains nothing.

    >>> from rl.advantages import masked_moments
    >>> returns, values = torch.tensor([0.0, 1.0, 0.0, 1.0]), torch.tensor([0.5, 1.0, 0.5, 1.0])
    >>> moments = [masked_moments(each, torch.ones(4)).unsqueeze(0) for each in (returns, returns - values)]
    >>> explained_variance(*moments)
    0.75
    """
    scatter, unexplained = (
        (squares - total**2 / count.clamp(min=1)).sum()
        for count, total, squares in (moments.unbind(dim=1) for moments in (returns_R3, errors_R3))
    )
    varies = scatter > 1e-9 * returns_R3[:, 2].sum()  # more than rounding does
    return 1 - (unexplained / scatter).item() if varies else float("nan")
