"""Learning is a test: stated confidences move to the known P(correct) under a proper rule, and away under the trap."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from rewards.completion import ParseStatus
from rewards.outcomes import Outcomes
from rewards.rubric import Rubric
from rl.advantages import centred_rewards
from rl.losses import expected_reward_loss

LEVELS = torch.linspace(0.0, 1.0, 11)
RUBRIC = Rubric.from_config({"accuracy": {"weight": 1.0}, "brier": {"weight": 1.0}})
TRUTHS = torch.tensor([0.1, 0.3, 0.6, 0.9])
"""P(correct) of four questions, each with a distribution over the levels of its own: the policy."""
GROUP, GROUPS, STEPS = 8, 64, 300


def brier_of(confidence: torch.Tensor, correct: torch.Tensor) -> torch.Tensor:
    size = len(confidence)
    outcomes = Outcomes(
        correct.double().numpy(), confidence.double().numpy(), (ParseStatus.OK,) * size, np.zeros(size), np.ones(size)
    )
    return torch.tensor(RUBRIC.score(outcomes).values[:, 1], dtype=torch.float32)


def draw_outcomes(generator: torch.Generator, shared: bool) -> torch.Tensor:
    """Correctness (Q, GROUPS, GROUP): of each completion on its own, or ``shared`` by the group as in a forecast."""
    shape = (len(TRUTHS), GROUPS, 1 if shared else GROUP)
    drawn = torch.rand(shape, generator=generator) < TRUTHS.view(-1, 1, 1)
    return drawn.float().expand(len(TRUTHS), GROUPS, GROUP)


def learn(objective: str, *, shared: bool = False, seed: int = 0) -> torch.Tensor:
    """Mean stated confidence (Q,) after training by a scaling of the policy gradient, or by the closed form."""
    generator = torch.Generator().manual_seed(seed)
    scheme, values = RUBRIC.calibration_scheme(), LEVELS.double().numpy()
    right, wrong = (torch.tensor(each(values), dtype=torch.float32) for each in (scheme.right, scheme.wrong))
    logits_QL = torch.zeros(len(TRUTHS), len(LEVELS), requires_grad=True)
    optimizer = torch.optim.Adam([logits_QL], lr=0.05)
    for _ in range(STEPS):
        outcomes = draw_outcomes(generator, shared)
        log_probs_QL = logits_QL.log_softmax(dim=1)
        if objective == "closed_form":
            probabilities = log_probs_QL.exp().repeat_interleave(GROUPS * GROUP, dim=0)
            loss = expected_reward_loss(probabilities, right, wrong, -1.0, outcomes.flatten()).mean()
        else:
            stated = torch.multinomial(log_probs_QL.exp(), GROUPS * GROUP, replacement=True, generator=generator)
            rewards = brier_of(LEVELS[stated.flatten()], outcomes.flatten())
            advantages = centred_rewards(rewards.unsqueeze(1), GROUP, objective)
            loss = -(advantages.view_as(stated) * log_probs_QL.gather(1, stated)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return logits_QL.detach().softmax(dim=1) @ LEVELS


@pytest.mark.parametrize("objective", ["none", "leave_one_out", "batch", "closed_form"])
@pytest.mark.parametrize("shared", [False, True])
def test_confidence_moves_to_the_probability_of_being_right(objective: str, shared: bool) -> None:
    torch.testing.assert_close(learn(objective, shared=shared), TRUTHS, atol=0.08, rtol=0)


def test_under_group_scaling_confidence_moves_to_the_endpoints() -> None:
    """The known bias where a group shares its outcome: only the sign of the rule survives (arXiv 2508.11800)."""
    stated = learn("group", shared=True)
    assert (stated[:2] < 0.05).all() and (stated[3:] > 0.95).all()
    assert stated[2] > 0.7
    own = learn("group", shared=False)
    assert (own - TRUTHS)[[1, 3]].abs().max() > 0.08, "biased also where siblings differ"


@pytest.fixture(scope="module")
def one_answer(policy: Any) -> Any:
    """A policy that answers ``2+2=`` with 4, at any level of confidence."""
    model, tokenizer = policy.load()
    levels = policy.template.levels
    ids_BT = tokenizer(
        [f"2+2={policy.template.render('4', each)}<eos>" for each in levels], return_tensors="pt"
    ).input_ids
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        model(input_ids=ids_BT, labels=ids_BT.masked_fill(torch.arange(ids_BT.size(1)) < 4, -100)).loss.backward()
        optimizer.step()
    return model, tokenizer


@pytest.mark.parametrize("truth", [0.25, 0.75])
def test_a_trained_policy_states_how_often_it_is_right(truth: float, make_trainer: Any, one_answer: Any) -> None:
    """The real trainer, on a question whose gold is what the policy answers in a known share of the rows."""
    model, tokenizer = copy.deepcopy(one_answer[0]), one_answer[1]
    rows = [{"prompt": "2+2=", "answer": "4" if row < truth * 16 else "1234"} for row in range(16)]
    trainer = make_trainer(
        model=model, tokenizer=tokenizer, rows=rows, confidence_loss_weight=1.0, learning_rate=2e-3,
        lr_scheduler_type="constant", max_steps=40, per_device_train_batch_size=32, max_completion_length=8,
    )  # fmt: skip
    level_ids = tokenizer.convert_tokens_to_ids(list(trainer.template.levels))

    def mean_confidence() -> float:
        ids = tokenizer("2+2=<answer>4</answer><confidence>", return_tensors="pt")
        with torch.no_grad():
            probabilities = trainer.model.eval()(**ids).logits[0, -1].softmax(dim=0)[level_ids]
        assert probabilities.sum() > 0.95
        return (probabilities @ torch.tensor([float(level) for level in trainer.template.levels])).item()

    assert abs(mean_confidence() - 0.5) < 0.05
    trainer.train()
    assert mean_confidence() == pytest.approx(truth, abs=0.1)
    first, *_, last = (record for record in trainer.state.log_history if "loss" in record)
    assert last["confidence_loss"] < first["confidence_loss"]
    assert min(first["parse/ok"], last["parse/ok"]) > 0.8
