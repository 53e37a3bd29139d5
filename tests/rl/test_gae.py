"""Where PPO's rewards lie, and what GAE makes of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.completion import SEGMENTS
from rl.advantages import gae, masked_moments, sibling_rewards, stream_rewards, whiten

NAN = math.nan


# -- placing -----------------------------------------------------------------------------------------------------------


def masks(*completions: str) -> torch.Tensor:
    """Masks (B, S, T) of completions written as one letter a token: r, a, c for reasoning, answer, confidence."""
    letters = {"r": "reasoning", "a": "answer", "c": "confidence"}
    length = max(map(len, completions))
    masks_BST = torch.zeros(len(completions), len(SEGMENTS), length)
    for row, tokens in enumerate(completions):
        for column, letter in enumerate(tokens):
            if letter in letters:
                masks_BST[row, SEGMENTS.index(letters[letter]), column] = 1
    return masks_BST


def segments(*names: str) -> list[float]:
    return [float(name in names) for name in SEGMENTS]


ANSWERING, STATING, WHOLE = segments("reasoning", "answer"), segments("analysis", "confidence"), segments(*SEGMENTS)


@pytest.mark.parametrize(
    ("tokens", "stream", "place", "reached"),
    [
        ("raaccr", ANSWERING, 2, "rrr..."),  # an answer has earned its reward once it is there
        ("raaccr", STATING, 4, "...rr."),
        ("raaccr", WHOLE, 5, "rrrrrr"),  # the end is part of the format
        ("ccraar", ANSWERING, 4, "..rrr."),  # the confidence first
        ("rrr", ANSWERING, 2, "rrr"),  # no answer: the reasoning that led to none
        ("raar", STATING, 3, "rrrr"),  # no confidence: the whole completion left it out
        ("raacc-", STATING, 4, "...rr."),  # padding, or a token that is not trained
        ("raac-cr", STATING, 5, "...r.r."),
        ("raaccr", segments("reasoning"), 5, "r....r"),
    ],
)
def test_a_reward_lies_on_the_token_that_completes_what_earned_it(
    tokens: str, stream: list[float], place: int, reached: str
) -> None:
    one = torch.ones(1, 1)
    rewards_BRT, reach_BRT = stream_rewards(2 * one, one[0], one, torch.tensor([stream]), masks(tokens))
    assert rewards_BRT[0, 0].tolist() == [2.0 * (column == place) for column in range(len(tokens))]
    assert reach_BRT[0, 0].tolist() == [float(letter == "r") for letter in reached]


def test_terms_of_one_stream_are_summed_and_what_is_not_judged_is_neutral() -> None:
    rewards_BK = torch.tensor([[1.0, -0.5, 1.0], [NAN, -0.5, 1.0], [NAN, NAN, 1.0], [NAN, 0.0, NAN]])
    members_RK = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    known = torch.tensor([1.0, 2.0, 0.0]), members_RK, torch.tensor([ANSWERING, WHOLE]), masks(*["raccr"] * 4)
    rewards_BRT, reach_BRT = stream_rewards(rewards_BK, *known, sibling_rewards(rewards_BK, 4))
    assert rewards_BRT.sum(dim=2).tolist() == [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [1.0, 0.0]], "1, the siblings' mean"
    assert reach_BRT[:, 0].sum(dim=1).tolist() == [2.0, 2.0, 0.0, 2.0], "a reward of 0 is one"
    assert reach_BRT[:, 1].sum() == 0, "a term of weight 0 has nothing to learn a value of"
    alone_BRT, reach_BRT = stream_rewards(rewards_BK, *known, sibling_rewards(rewards_BK, 1))
    assert reach_BRT[:, 0].sum(dim=1).tolist() == [2.0, 0.0, 0.0, 0.0], "alone it has no value, nor has its stream"
    assert alone_BRT.sum() == 0


def test_a_term_that_could_not_be_judged_pays_what_the_siblings_earned() -> None:
    """Not being judged is not worth an answer: accuracy, Brier score and format in one stream, all siblings wrong."""
    rewards_BK = torch.tensor([[NAN, NAN, 1.0], [0.0, -0.36, 1.0], [0.0, -0.16, 1.0], [1.0, 0.0, 0.0]])
    one, weights_K = torch.ones(1, 3), torch.tensor([1.0, 0.5, 0.2])
    neutral_BK = sibling_rewards(rewards_BK[:3], 3)
    rewards_BRT, _ = stream_rewards(
        rewards_BK[:3], weights_K, one, torch.tensor([WHOLE]), masks(*["raccr"] * 3), neutral_BK
    )
    paid_B = rewards_BRT.sum(dim=(1, 2))
    torch.testing.assert_close(paid_B[0], paid_B[1:].mean())


def test_a_completion_without_a_token_that_is_trained_gets_nothing() -> None:
    one = torch.ones(2, 1)
    rewards_BRT, reach_BRT = stream_rewards(one, one[0], one[:1], torch.tensor([WHOLE]), masks("---", "raa"))
    assert rewards_BRT.sum(dim=(1, 2)).tolist() == reach_BRT.amax(dim=(1, 2)).tolist() == [0.0, 1.0]


# -- GAE ---------------------------------------------------------------------------------------------------------------


def by_definition(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """Equation 16 of arXiv 1506.02438, every sum written out."""
    deltas = [
        rewards[t] + gamma * (values[t + 1] if t + 1 < len(values) else 0.0) - values[t] for t in range(len(values))
    ]
    return [sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, len(deltas))) for t in range(len(deltas))]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), gamma=st.floats(0, 1), lam=st.floats(0, 1), tokens=st.integers(1, 12))
def test_each_stream_has_the_gae_of_its_own_tokens(seed: int, gamma: float, lam: float, tokens: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rewards, values = torch.randn(2, 3, 2, tokens, generator=generator, dtype=torch.float64)
    reach = (torch.rand(3, 2, tokens, generator=generator) < 0.6).double()
    advantages, returns = gae(rewards, values, reach, gamma, lam)
    for row in range(3):
        for stream in range(2):
            inside = reach[row, stream] > 0
            expected = by_definition(
                rewards[row, stream][inside].tolist(), values[row, stream][inside].tolist(), gamma, lam
            )
            np.testing.assert_allclose(advantages[row, stream][inside], expected, atol=1e-9)
            np.testing.assert_allclose(returns[row, stream][inside], expected + values[row, stream][inside].numpy())
    assert (advantages[reach == 0] == 0).all() and (returns[reach == 0] == 0).all()


def by_loop(
    rewards_BRT: torch.Tensor, values_BRT: torch.Tensor, reach_BRT: torch.Tensor, gamma: float, lam: float
) -> torch.Tensor:
    """The recursion A_t = delta_t + gamma lam A_(t+1) from the last token back, one token at a time."""
    advantages_BRT = torch.zeros_like(values_BRT)
    next_value_BR = next_advantage_BR = torch.zeros_like(values_BRT[:, :, 0])
    for step in reversed(range(values_BRT.size(2))):
        inside_BR, value_BR = reach_BRT[:, :, step] > 0, values_BRT[:, :, step]
        delta_BR = rewards_BRT[:, :, step] + gamma * next_value_BR - value_BR
        advantage_BR = delta_BR + gamma * lam * next_advantage_BR
        advantages_BRT[:, :, step] = torch.where(inside_BR, advantage_BR, 0.0)
        next_value_BR = torch.where(inside_BR, value_BR, next_value_BR)
        next_advantage_BR = torch.where(inside_BR, advantage_BR, next_advantage_BR)
    return advantages_BRT


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (1.0, 0.95), (0.999, 0.9), (0.5, 0.0)])
@pytest.mark.parametrize("tokens", [1, 2, 1000, 4097])
def test_long_completions_have_the_gae_of_the_recursion(tokens: int, gamma: float, lam: float) -> None:
    generator = torch.Generator().manual_seed(tokens)
    rewards, values = torch.randn(2, 2, 3, tokens, generator=generator, dtype=torch.float64)
    reach = (torch.rand(2, 3, tokens, generator=generator) < 0.7).double()
    reach[0, 0] = 0.0
    ours, _ = gae(rewards, values, reach, gamma, lam)
    torch.testing.assert_close(ours, by_loop(rewards, values, reach, gamma, lam), rtol=1e-12, atol=1e-10)


def test_what_lies_out_of_reach_has_no_part_in_it() -> None:
    """Values of padding may be anything, infinite as well."""
    rewards, values, reach = torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[0.5, math.inf]]]), torch.tensor([[[1, 0]]])
    advantages, returns = gae(rewards, values, reach, 0.9, 0.9)
    assert (advantages.tolist(), returns[0, 0, 0].item()) == ([[[-0.5, 0.0]]], 0.0)


def test_hand_values() -> None:
    rewards, values, reach = torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[0.5, 0.25]]]), torch.ones(1, 1, 2)
    # deltas: 0.5 * 0.25 - 0.5 = -0.375 and 1 - 0.25 = 0.75
    assert gae(rewards, values, reach, gamma=0.5, lam=0.5)[0].tolist() == [[[-0.375 + 0.25 * 0.75, 0.75]]]
    assert gae(rewards, values, reach, gamma=0.5, lam=0.0)[0].tolist() == [[[-0.375, 0.75]]]
    assert gae(rewards, values, reach, gamma=1.0, lam=1.0)[1].tolist() == [[[1.0, 1.0]]]


def test_calibration_does_not_leak_into_the_answer_and_does_without_streams() -> None:
    """The answer's tokens have the same advantage whatever the confidence earns."""
    one, tokens = torch.ones(1), masks("raaccr")
    for streams in (torch.tensor([ANSWERING, STATING]), torch.tensor([WHOLE])):
        members = torch.eye(2) if len(streams) == 2 else torch.ones(1, 2)
        answering, stating = [], []
        for brier in (-1.0, 0.0):
            rewards, reach = stream_rewards(torch.tensor([[1.0, brier]]), one.expand(2), members, streams, tokens)
            advantages, _ = gae(rewards, torch.zeros_like(rewards), reach, 1.0, 1.0)
            answering.append(advantages.sum(dim=1)[0, 1].item())
            stating.append(advantages.sum(dim=1)[0, 4].item())
        assert answering == ([1.0, 1.0] if len(streams) == 2 else [0.0, 1.0])
        assert stating == ([-1.0, 0.0] if len(streams) == 2 else [0.0, 1.0])


def test_streams_that_reach_everything_add_up_to_the_textbook() -> None:
    generator = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(2, 4, 3, 7, generator=generator)
    apart, _ = gae(rewards, values, torch.ones_like(values), 0.9, 0.8)
    together, _ = gae(rewards.sum(1, True), values.sum(1, True), torch.ones(4, 1, 7), 0.9, 0.8)
    torch.testing.assert_close(apart.sum(dim=1), together.squeeze(1))


# -- whitening ---------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), cut=st.integers(0, 12), offset=st.floats(-100, 100))
def test_whitening_does_not_depend_on_how_the_batch_is_split(seed: int, cut: int, offset: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(12, 5, generator=generator) + offset
    mask = (torch.rand(12, 5, generator=generator) < 0.7).float()
    mask[0] = 1.0
    parts = [(values[:cut], mask[:cut]), (values[cut:], mask[cut:])]
    moments = sum(masked_moments(*part) for part in parts)
    torch.testing.assert_close(moments, masked_moments(values, mask))
    whole = torch.cat([whiten(*part, moments) for part in parts])
    inside = values[mask > 0]
    expected = (inside - inside.mean()) / (inside.std() + 1e-4)
    torch.testing.assert_close(whole[mask > 0], expected, atol=1e-3, rtol=1e-3)
    assert (whole[mask == 0] == 0).all()


@pytest.mark.parametrize("mask", [torch.zeros(3), torch.tensor([1.0, 0.0, 0.0]), torch.ones(3)])
def test_whitening_what_does_not_vary_gives_zeros(mask: torch.Tensor) -> None:
    values = torch.full((3,), 0.7)
    assert whiten(values, mask, masked_moments(values, mask)).abs().max() < 1e-3
