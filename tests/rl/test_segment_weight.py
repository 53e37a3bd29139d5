"""What a weight is of: correctness against calibration at any length, in every loss type, sampled or in closed form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.completion import SEGMENTS, STATED
from rewards.rubric import Rubric
from rl.advantages import segment_advantages
from rl.config import CalibratedGRPOConfig
from rl.losses import token_weights
from rl.ppo_config import CalibratedPPOConfig
from tests.rl.scripted import COMPLETIONS, ROWS, scored
from tests.rl.test_grpo_routes import LOSS_TYPES, token_gradients

CREDIT_KS = torch.tensor(
    [[name not in STATED for name in SEGMENTS], [name == "confidence" for name in SEGMENTS]]
).float()
"""Correctness on all but the confidences, calibration on the one after the answer."""


def completion_of(reasoning: int, answer: int, confidence: int) -> torch.Tensor:
    """Masks (1, S, T) of a completion with so many tokens in its segments."""
    lengths = {"reasoning": reasoning, "answer": answer, "confidence": confidence}
    places = [SEGMENTS.index(name) for name, count in lengths.items() for _ in range(count)]
    return (torch.tensor(places) == torch.arange(len(SEGMENTS)).unsqueeze(1)).float().unsqueeze(0)


def masses(reasoning: int, segment_weight: str, loss_type: str = "grpo") -> tuple[float, float, float, float]:
    """Of correctness and of calibration: the weight of a token in the loss, and that of all their tokens together."""
    masks_BST = completion_of(reasoning, 3, 5)
    inside_2T = torch.einsum("ks,st->kt", CREDIT_KS, masks_BST[0])
    advantages_BT = segment_advantages(torch.ones(1, 2), torch.ones(2), CREDIT_KS, masks_BST, segment_weight)
    weights_T = advantages_BT[0] * token_weights(loss_type, masks_BST.sum(dim=1), 4096, masks_BST.sum())[0]
    totals = [(weights_T * inside_T).sum().item() for inside_T in inside_2T]
    return (weights_T[0].item(), weights_T[-1].item(), *totals)


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
@settings(deadline=None, max_examples=20)
@given(reasoning=st.integers(1, 1500))
def test_twice_the_reasoning_leaves_the_ratio_of_correctness_to_calibration(loss_type: str, reasoning: int) -> None:
    """``token``: of what a unit of reward pushes a decision by; ``completion``: of the sums over their tokens."""
    for length in (reasoning, 2 * reasoning):
        of_token, of_confidence, *_ = masses(length, "token", loss_type)
        assert of_token == pytest.approx(of_confidence)
        *_, correctness, calibration = masses(length, "completion", loss_type)
        assert correctness == pytest.approx(calibration, rel=1e-5)


def test_five_tokens_of_confidence_in_two_thousand_have_a_four_hundredth_of_the_mass_or_all_of_it() -> None:
    *_, correctness, calibration = masses(1992, "token")
    assert correctness / calibration == pytest.approx(399)
    *_, correctness, calibration = masses(1992, "completion")
    assert correctness == pytest.approx(1) == pytest.approx(calibration)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**16))
def test_a_term_has_the_mass_that_it_has_on_the_whole_completion(seed: int) -> None:
    """Property over random completions, terms and segments, fields left out among them."""
    rng = np.random.default_rng(seed)
    segments_BT = torch.tensor(rng.integers(-1, len(SEGMENTS), (4, 12)))
    masks_BST = (segments_BT.unsqueeze(1) == torch.arange(len(SEGMENTS)).view(-1, 1)).float()
    credit_KS = torch.tensor(rng.integers(0, 2, (3, len(SEGMENTS)))).float()
    advantages_BK, weights_K = torch.tensor(rng.normal(size=(4, 3))).float(), torch.tensor(rng.random(3)).float()
    whole = segment_advantages(advantages_BK, weights_K, torch.ones_like(credit_KS), masks_BST)
    for term in range(3):
        alone_K = weights_K * torch.eye(3)[term]
        spread = segment_advantages(advantages_BK, alone_K, credit_KS, masks_BST, "completion")
        on_all = segment_advantages(advantages_BK, alone_K, torch.ones_like(credit_KS), masks_BST)
        torch.testing.assert_close(spread.sum(dim=1), on_all.sum(dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        segment_advantages(advantages_BK, weights_K, torch.ones_like(credit_KS), masks_BST, "completion"), whole
    )


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
@pytest.mark.parametrize("training", [True, False])
def test_the_weight_of_a_token_is_that_in_the_loss_of_trl(
    loss_type: str, training: bool, make_trainer: Any, replay: Any
) -> None:
    """And a reward in closed form enters the loss as one that a single token decides."""
    trainer = make_trainer(
        rows=ROWS[:2], loss_type=loss_type, max_completion_length=12, steps_per_generation=2,
        per_device_train_batch_size=4,
    )  # fmt: skip
    replay(trainer, COMPLETIONS)
    batch = scored(trainer)
    trainer.current_gradient_accumulation_steps = 2
    trainer.model.train(training)
    batch = {name: each[:4] if each.dim() else each for name, each in batch.items()}
    batch["advantages"] = torch.ones_like(batch["advantages"])
    _, gradients_BT = token_gradients(trainer, batch)
    expected_BT = -trainer._completion_weights(batch).unsqueeze(1) * batch["completion_mask"]
    torch.testing.assert_close(gradients_BT, expected_BT, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("segment_weight", ["token", "completion"])
def test_the_closed_form_counts_as_a_confidence_of_one_token(
    segment_weight: str, make_trainer: Any, replay: Any
) -> None:
    texts = [text for text in COMPLETIONS if "think" not in text] + COMPLETIONS[:1]
    for thought in ("2", "2121"):
        trainer = make_trainer(
            rows=ROWS[:2], confidence_loss_weight=3.0, segment_weight=segment_weight, max_completion_length=16
        )
        replay(trainer, [f"<think>{thought}</think>{text}" for text in texts])
        batch = scored(trainer)
        weights_B = trainer._completion_weights(batch)
        ones = {**batch, "advantages": torch.ones_like(batch["advantages"])}
        mask_BT = batch["completion_mask"] * batch["tool_mask"]
        _, gradients_BT = token_gradients(trainer, ones)
        held_B = (-gradients_BT * mask_BT).sum(dim=1)
        if segment_weight == "completion":
            torch.testing.assert_close(weights_B, held_B)  # of all its tokens together
        else:
            torch.testing.assert_close(weights_B, held_B / mask_BT.sum(dim=1))  # of one of them


def test_ppo_weighs_its_streams_alike(make_trainer: Any, replay: Any) -> None:
    found, rubric = {}, Rubric.from_config({"accuracy": {}, "brier": {}})
    for segment_weight in ("token", "completion"):
        trainer = make_trainer(
            method="ppo", rows=ROWS, rubric=rubric, segment_weight=segment_weight, max_completion_length=12
        )
        replay(trainer, COMPLETIONS)
        found[segment_weight] = scored(trainer)
    plain, weighed = found["token"], found["completion"]
    torch.testing.assert_close(weighed["returns"], plain["returns"])
    torch.testing.assert_close(weighed["values"], plain["values"])
    lengths_B = plain["completion_mask"].sum(dim=1)
    for stream in range(2):
        alone_BT = (plain["reach"][:, stream] == 1) & (plain["reach"].sum(dim=1) == 1)
        factors_B1 = (lengths_B / plain["reach"][:, stream].sum(dim=1)).unsqueeze(1)
        assert alone_BT.sum() > 8
        torch.testing.assert_close(
            weighed["advantages"][alone_BT], (plain["advantages"] * factors_B1)[alone_BT], rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"segment_weight": "mean"}, "trainer.segment_weight: 'mean' is not one of token, completion"),
        ({"segment_weight": "completion", "credit": "sequence"}, "'completion' has no effect with credit: sequence"),
        ({"segment_weight": "completion", "trained_tokens": "confidence"}, "has nothing to weigh the confidence"),
        ({"importance_sampling_level": "sequence"}, "trainer.importance_sampling_level: 'sequence' takes one ratio"),
    ],
)
@pytest.mark.parametrize("kind", [CalibratedGRPOConfig, CalibratedPPOConfig])
def test_what_a_weight_cannot_be_of_is_refused(kind: Any, choice: dict[str, str], message: str, tmp_path: Path) -> None:
    if kind is CalibratedPPOConfig and "trained_tokens" in choice:
        message = "trained_tokens"
    with pytest.raises(ValueError, match=message):
        kind(output_dir=str(tmp_path), bf16=False, use_cpu=True, per_device_train_batch_size=8, **choice)


def test_a_loss_type_that_is_not_known_has_no_weight() -> None:
    with pytest.raises(ValueError, match=r"trainer\.loss_type: 'mean' has no known weight"):
        token_weights("mean", torch.ones(1, 1), 1, 1.0)


def test_the_gradient_of_both_parts_is_that_of_the_expected_weighted_reward(make_trainer: Any, replay: Any) -> None:
    """Closed form of weight 1 under ``token``: the sampled calibration's gradient, on average, whatever the length."""
    rubric = Rubric.from_config({"accuracy": {}, "brier": {}})
    trainer = make_trainer(rows=ROWS[:2], rubric=rubric, confidence_loss_weight=1.0, max_completion_length=12)
    replay(trainer, COMPLETIONS)
    batch = scored(trainer)
    share = trainer._completion_weights(batch) * (batch["completion_mask"] * batch["tool_mask"]).sum()
    torch.testing.assert_close(share, torch.ones(8))  # dapo: a token in as many as there are
