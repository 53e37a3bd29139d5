"""A confidence stated before the answer in training: on its own tokens, held to the success rate of its group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rewards.completion import SEGMENTS
from rewards.rubric import Rubric
from rewards.template import AnswerTemplate
from tests.factories import character_tokenizer, tiny_model
from tests.rl.scripted import scored

LEVELS = ("0.0", "0.25", "0.5", "0.75", "1.0")
TEMPLATE = AnswerTemplate(thinking="none", levels=LEVELS, prior_confidence="required")
RUBRIC = Rubric.from_config({"accuracy": {}, "brier": {}, "prior_confidence": {"weight": 2.0}})
STATED = [("0.5", "3", "1.0"), ("1.0", "3", "0.5"), ("0.0", "4", "0.0"), (None, "3", "1.0")]
COMPLETIONS = [
    f"{f'<prior>{before}</prior>' if before else ''}<answer>{answer}</answer><confidence>{after}</confidence>"
    for before, answer, after in STATED
]
RATE = 0.75


@pytest.fixture
def make(make_trainer: Any, replay: Any) -> Any:
    def trainer_of(**config: Any) -> Any:
        torch.manual_seed(0)
        tokenizer = character_tokenizer(TEMPLATE)
        model = tiny_model(vocabulary=tokenizer, hidden=32, max_position_embeddings=64, attn_implementation="eager")
        trainer = make_trainer(
            model=model, tokenizer=tokenizer, template=TEMPLATE, rubric=RUBRIC, per_device_train_batch_size=4,
            max_completion_length=12, rows=[{"prompt": "1+2=", "answer": "3"}], **config,
        )  # fmt: skip
        replay(trainer, COMPLETIONS)
        return trainer

    return trainer_of


def rewards_before() -> np.ndarray:
    paid = [-RATE * (1 - float(c)) ** 2 - (1 - RATE) * float(c) ** 2 if c else -1.0 for c, _, _ in STATED]
    return np.array(paid)


def test_its_reward_falls_on_its_own_tokens_and_no_other_does(make: Any) -> None:
    batch = scored(make())
    paid = rewards_before()
    expected = 2.0 * (paid - paid.mean())
    advantages_BT = batch["advantages"]
    for row in range(3):  # <prior> level </prior> <answer> ...
        assert advantages_BT[row, :3].tolist() == pytest.approx([expected[row]] * 3, abs=1e-6)
        accuracy = [1.0, 1.0, 0.0][row] - RATE
        assert advantages_BT[row, 4].item() == pytest.approx(accuracy, abs=1e-6)
    assert advantages_BT[3, 1].item() == pytest.approx(1 - RATE + expected[3], abs=1e-6), (
        "leaving it out is their doing"
    )
    assert batch["prior_confidence_mask"].sum(dim=1).tolist() == [1, 1, 1, 0]


def test_the_closed_form_is_what_the_term_pays_for_each_level(make: Any) -> None:
    trainer = make(confidence_loss_weight=1.0, level_mass_coef=0.0)
    batch = scored(trainer)
    assert batch["prior_confidence_positions"].tolist() == [1, 1, 1, -1]
    assert batch["confidence_positions"].tolist() == [7, 7, 7, 4]
    assert batch["prior_confidence_targets"].flatten().tolist() == [RATE] * 4
    assert batch["confidence_targets"].flatten().tolist() == [1, 1, 0, 1]
    with trainer._reading(batch):
        ids_BT = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        logits_BTV = trainer.model(input_ids=ids_BT).logits.detach()
    _, losses_B = trainer._in_closed_form(batch)
    ids, values = trainer.processing_class.convert_tokens_to_ids(list(LEVELS)), np.array(LEVELS, dtype=float)
    start, expected = batch["prompt_ids"].size(1), np.zeros(4)
    for field, weight in (("prior_confidence", 2.0), ("confidence", 1.0)):
        for row, position in enumerate(batch[f"{field}_positions"].tolist()):
            if position >= 0:
                target = batch[f"{field}_targets"][row].item()
                shares = logits_BTV[row, start + position - 1].softmax(dim=0)[ids].numpy()
                paid = -target * (1 - values) ** 2 - (1 - target) * values**2
                expected[row] -= weight * (shares @ paid - (1 - shares.sum()))
    assert losses_B.tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert torch.cat([each.masses for each in trainer._closed_forms]).numel() == 7
    price = 2.0 * (-1.0 - rewards_before().mean())
    assert batch["advantages"][3, 0].item() == pytest.approx(1 - RATE + price, abs=1e-6), "it could not be read there"
    assert batch["advantages"][0, :3].abs().max() == 0


def test_only_the_tokens_that_state_a_confidence_are_trained_where_that_is_asked(make: Any) -> None:
    batch = scored(make(trained_tokens="confidence"))
    decided = [SEGMENTS.index(name) for name in ("prior_confidence", "confidence")]
    assert decided == [0, 4]
    assert batch["tool_mask"][:3].tolist() == [[1, 1, 1, 0, 0, 0, 1, 1, 1, 0]] * 3
    assert batch["tool_mask"][3].tolist()[:7] == [0, 0, 0, 1, 1, 1, 0]


def test_it_learns_the_success_rate_beside_the_confidence_that_learns_the_verdict(make: Any) -> None:
    trainer = make(
        confidence_loss_weight=1.0, confidence_entropy_coef=0.3, max_steps=250, learning_rate=3e-3,
        lr_scheduler_type="constant",
    )  # fmt: skip
    trainer.train()
    tokenizer, ids = trainer.processing_class, trainer.processing_class.convert_tokens_to_ids(list(LEVELS))

    def likeliest(text: str) -> str:
        with torch.no_grad():
            logits_V = trainer.model(input_ids=torch.tensor([tokenizer.encode(text)])).logits[0, -1]
        return LEVELS[int(logits_V[ids].argmax())]

    assert likeliest("1+2=<prior>") == "0.75"
    assert likeliest("1+2=<prior>0.5</prior><answer>3</answer><confidence>") == "1.0"
    assert likeliest("1+2=<prior>0.0</prior><answer>4</answer><confidence>") == "0.0"
