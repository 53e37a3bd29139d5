from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import CohereConfig, Gemma2Config, GraniteConfig, LlamaConfig

from estimators.forward_passes import model_logits
from rewards.scoring_rules import brier_scheme
from rl.advantages import masked_moments
from rl.losses import expected_reward_loss, explained_variance, level_entropy, value_loss

LEVELS = np.linspace(0.0, 1.0, 11)
RIGHT, WRONG = (
    torch.tensor(each(LEVELS), dtype=torch.float64) for each in (brier_scheme().right, brier_scheme().wrong)
)
UNPARSED = -1.0


def test_hand_values() -> None:
    right, wrong = torch.tensor([-1.0, -0.25, 0.0]), torch.tensor([0.0, -0.25, -1.0])
    probabilities = torch.tensor([[0.2, 0.3, 0.5], [0.2, 0.3, 0.5], [0.1, 0.1, 0.1]])
    losses = expected_reward_loss(probabilities, right, wrong, -1.0, torch.tensor([1.0, 0.0, 1.0]))
    torch.testing.assert_close(losses, torch.tensor([0.2 + 0.075, 0.075 + 0.5, 0.1 + 0.025 + 0.7]))


def test_a_verdict_in_between_mixes_the_two_rewards() -> None:
    probabilities = torch.full((3, 11), 1 / 11, dtype=torch.float64)
    wrong, half, right = expected_reward_loss(
        probabilities, RIGHT, WRONG, UNPARSED, torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    )
    assert half == pytest.approx((wrong + right) / 2)


@pytest.mark.parametrize("probability_right", [0.0, 0.3, 0.9])
def test_closed_form_is_the_mean_of_sampled_rewards(probability_right: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(12, generator=generator, dtype=torch.float64)  # the twelfth token is no level
    probabilities = logits.softmax(dim=0)
    tokens = torch.multinomial(probabilities, 200_000, replacement=True, generator=generator)
    outcomes = (torch.rand(len(tokens), generator=generator) < probability_right).double()
    rewards = torch.where(
        tokens == 11,
        torch.tensor(UNPARSED, dtype=torch.float64),
        -((torch.tensor(LEVELS)[tokens.clamp(max=10)] - outcomes) ** 2),
    )
    expected = expected_reward_loss(
        probabilities[None, :11], RIGHT, WRONG, UNPARSED, torch.tensor([probability_right], dtype=torch.float64)
    )
    assert -rewards.mean().item() == pytest.approx(expected.item(), abs=4 * rewards.std().item() / len(tokens) ** 0.5)


@given(st.floats(0.0, 1.0))
def test_smallest_with_everything_on_the_level_nearest_to_the_probability(probability: float) -> None:
    point_masses = torch.eye(11, dtype=torch.float64)
    losses = expected_reward_loss(
        point_masses, RIGHT, WRONG, UNPARSED, torch.full((11,), probability, dtype=torch.float64)
    )
    nearest = np.abs(LEVELS - probability)
    assert nearest[losses.argmin().item()] == pytest.approx(nearest.min(), abs=1e-6)
    assert losses.min() >= 0


def test_no_mixture_beats_the_best_level_and_unread_is_never_better() -> None:
    outcome = torch.full((500,), 0.7, dtype=torch.float64)
    mixtures = torch.tensor(np.random.default_rng(1).dirichlet(np.full(12, 0.3), 500))
    losses = expected_reward_loss(mixtures[:, :11], RIGHT, WRONG, UNPARSED, outcome)
    best = expected_reward_loss(torch.eye(11, dtype=torch.float64)[7:8], RIGHT, WRONG, UNPARSED, outcome[:1])
    assert (losses >= best - 1e-12).all()
    nothing_read = expected_reward_loss(torch.zeros(500, 11, dtype=torch.float64), RIGHT, WRONG, UNPARSED, outcome)
    assert (losses <= nothing_read + 1e-12).all()


@pytest.mark.parametrize("outcome", [0.0, 0.25, 1.0])
def test_gradient_is_the_expected_policy_gradient(outcome: float) -> None:
    """-E[r * grad log p], the sum over all tokens written out, levels and others."""
    logits = torch.randn(15, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
    loss = expected_reward_loss(
        logits.softmax(dim=0)[None, :11], RIGHT, WRONG, UNPARSED, torch.tensor([outcome], dtype=torch.float64)
    )
    (closed,) = torch.autograd.grad(loss.sum(), logits)
    sampled = torch.zeros_like(closed)
    for token in range(15):
        reward = outcome * RIGHT[token] + (1 - outcome) * WRONG[token] if token < 11 else UNPARSED
        (score,) = torch.autograd.grad(logits.log_softmax(dim=0)[token], logits)
        sampled -= logits.softmax(dim=0)[token].detach() * reward * score
    torch.testing.assert_close(closed, sampled)
    assert closed.abs().max() > 1e-3


def test_gradient_does_not_change_with_a_constant_added_to_all_rewards() -> None:
    logits = torch.randn(1, 13, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)
    gradients = []
    for shift in (0.0, 5.0):
        loss = expected_reward_loss(
            logits.softmax(dim=1)[:, :11], RIGHT + shift, WRONG + shift, UNPARSED + shift, torch.ones(1).double()
        )
        gradients.append(torch.autograd.grad(loss.sum(), logits)[0])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LlamaConfig(), lambda x: x),
        (Gemma2Config(final_logit_softcapping=3.0), lambda x: 3 * torch.tanh(x / 3)),
        (CohereConfig(logit_scale=0.25), lambda x: x / 4),
        (GraniteConfig(logits_scaling=8.0), lambda x: x / 8),
    ],
)
def test_logits_are_scaled_and_capped_as_the_model_does(config, expected) -> None:
    outputs = torch.linspace(-9, 9, 7)
    torch.testing.assert_close(model_logits(outputs, config), expected(outputs))


def test_loss_per_completion_depends_on_that_completion_alone() -> None:
    generator = torch.Generator().manual_seed(4)
    probabilities = torch.randn(6, 12, generator=generator).double().softmax(dim=1)[:, :11]
    outcomes = torch.tensor([0.0, 1.0, 1.0, 0.0, 0.5, 1.0], dtype=torch.float64)
    together = expected_reward_loss(probabilities, RIGHT, WRONG, UNPARSED, outcomes)
    for first, last in itertools.pairwise([0, 1, 4, 6]):
        apart = expected_reward_loss(probabilities[first:last], RIGHT, WRONG, UNPARSED, outcomes[first:last])
        torch.testing.assert_close(together[first:last], apart)


def test_the_entropy_is_of_the_levels_among_themselves() -> None:
    logits = torch.randn(5, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(level_entropy(logits.log_softmax(dim=1)), expected)
    torch.testing.assert_close(level_entropy(logits.log_softmax(dim=1) - 3.0), expected)  # most of it on other tokens
    assert level_entropy(torch.zeros(1, 11)).item() == pytest.approx(np.log(11))


def test_the_entropy_bonus_brings_back_a_level_that_was_left() -> None:
    """From a policy that has all but given up the right level, so many steps of the same size."""

    def preferred(entropy_coef: float) -> float:
        logits = torch.tensor([[0.0] * 9 + [6.0, 0.0]], dtype=torch.float64, requires_grad=True)  # .9, 1.0 is right
        for _ in range(300):
            probabilities = logits.softmax(dim=1)
            loss = expected_reward_loss(probabilities, RIGHT, WRONG, UNPARSED, torch.ones(1, dtype=torch.float64))
            loss = loss - entropy_coef * level_entropy(logits.log_softmax(dim=1))
            (gradient,) = torch.autograd.grad(loss.sum(), logits)
            logits = (logits - 10.0 * gradient).detach().requires_grad_()
        return float(LEVELS[logits.argmax()])

    assert preferred(0.0) == 0.9
    assert preferred(0.05) == 1.0


# -- the critic --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "old", "target", "loss", "slope"),
    [
        (0.1, 0.0, 1.0, 0.5 * 0.81, -0.9),  # inside the range: the plain error
        (0.5, 0.0, 1.0, 0.5 * 0.64, 0.0),  # has moved far enough towards its target
        (-0.5, 0.0, 1.0, 0.5 * 2.25, -1.5),  # has moved away from it, and may come back
        (1.5, 1.4, 1.0, 0.5 * 0.25, 0.5),
    ],
)
def test_a_value_is_taken_no_further_than_the_range(
    value: float, old: float, target: float, loss: float, slope: float
) -> None:
    values = torch.tensor([value], requires_grad=True)
    clipped = value_loss(values, torch.tensor([old]), torch.tensor([target]), 0.2)
    assert clipped.item() == pytest.approx(loss)
    (gradient,) = torch.autograd.grad(clipped.sum(), values)
    assert gradient.item() == pytest.approx(slope)
    plain = value_loss(values, torch.tensor([old]), torch.tensor([target]), None)
    assert plain.item() == pytest.approx(0.5 * (value - target) ** 2)


def test_explained_variance_is_about_each_streams_own_mean() -> None:
    def explained(*streams: tuple[list[float], list[float]]) -> float:
        returns = [torch.tensor(each) for each, _ in streams]
        errors = [torch.tensor(each) - torch.tensor(values) for each, values in streams]
        both = (
            torch.stack([masked_moments(each, torch.ones_like(each)) for each in kind]) for kind in (returns, errors)
        )
        return explained_variance(*both)

    varied, constant = [0.0, 1.0, 2.0, 3.0], [5.0] * 4
    assert explained((varied, varied)) == pytest.approx(1.0)
    assert explained((varied, constant)) == pytest.approx(0.0)
    assert explained((varied, varied[::-1])) == pytest.approx(1 - np.var([-3, -1, 1, 3]) / np.var(varied))
    assert explained((varied, [0.0] * 4), (constant, [0.0] * 4)) == pytest.approx(0.0), "two means explain nothing"
    assert np.isnan(explained(([0.8] * 1000, [0.5] * 1000)))
