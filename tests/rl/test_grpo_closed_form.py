"""The closed form of the calibration loss in a GRPO trainer: whose probabilities, on which tokens, with what target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig

from rewards.rubric import Rubric
from rewards.template import AnswerTemplate
from rewards.terms import BrierTerm
from rl import closed_form
from rl.closed_form import level_token_ids
from tests.factories import make_outcomes, tiny_model
from tests.rl.scripted import COMPLETIONS, ROWS, scored

# -- the closed form ---------------------------------------------------------------------------------------------------


@pytest.fixture
def read_off(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Collects the level probabilities that the closed-form loss is given."""
    seen: list[torch.Tensor] = []

    def record(probabilities_BL: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append(probabilities_BL.detach())
        return expected_reward_loss(probabilities_BL, *rest)

    expected_reward_loss = closed_form.expected_reward_loss
    monkeypatch.setattr(closed_form, "expected_reward_loss", record)
    return seen


@pytest.mark.parametrize("architecture", ["llama", "lora", "gemma2", "granite", "cohere"])
def test_level_probabilities_are_those_of_a_plain_forward(
    architecture: str, make_trainer: Any, replay: Any, policy: Any, read_off: list[torch.Tensor]
) -> None:
    """At the position before the confidence token, at temperature 1, with prompts of several lengths, padded left."""
    model, tokenizer = policy.load()
    if architecture in ("gemma2", "granite", "cohere"):
        model = tiny_model(architecture, vocabulary=tokenizer, hidden=32)
    trainer = make_trainer(
        model=model, tokenizer=tokenizer, rows=ROWS, confidence_loss_weight=1.0, temperature=0.7, num_generations=2,
        max_completion_length=12, peft_config=LoraConfig(task_type="CAUSAL_LM") if architecture == "lora" else None,
    )  # fmt: skip
    replay(trainer, COMPLETIONS)
    batch = scored(trainer)
    assert batch["prompt_mask"].sum(dim=1).unique().numel() == 3, "some prompts are padded"
    trainer._compute_loss(trainer.model, batch)
    (probabilities_BL,) = read_off

    level_ids = [tokenizer.convert_tokens_to_ids(level) for level in policy.template.levels]
    input_ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    attention_mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    with torch.no_grad():
        logits_BTV = trainer.model(input_ids=input_ids, attention_mask=attention_mask).logits
    compared = 0
    for row, ids in enumerate(input_ids.tolist()):
        places = [column for column, token in enumerate(ids) if token in level_ids]
        if places:
            expected = logits_BTV[row, places[0] - 1].softmax(dim=0)[level_ids]
            torch.testing.assert_close(probabilities_BL[row], expected, rtol=1e-5, atol=1e-7)
            compared += 1
    assert compared == 7
    assert (probabilities_BL.std(dim=0) > 1e-4).any(), "they differ between completions"


@pytest.mark.parametrize("levels", [("0.0", "0.25", "0.5", "0.75", "1.0"), ("0.25", "0.5", "0.75")])
def test_the_loss_is_the_expected_reward_over_all_tokens_that_could_be_sampled(
    levels: tuple[str, ...], make_trainer: Any, replay: Any, policy: Any
) -> None:
    rubric = Rubric.from_config({"accuracy": {"weight": 2.0}, "brier": {"weight": 1.5}})
    model, tokenizer = policy.load()
    completions = [f"<answer>{3 + row % 2}</answer><confidence>0.5</confidence>" for row in range(8)]
    trainer = make_trainer(
        model=model, tokenizer=tokenizer, rows=ROWS, rubric=rubric, template=AnswerTemplate(levels=levels),
        confidence_loss_weight=0.5, loss_type="luspo",
    )  # fmt: skip
    replay(trainer, completions)
    batch = scored(trainer)
    with torch.no_grad():
        policy_loss = super(type(trainer), trainer)._compute_loss(trainer.model, batch)
        loss = trainer._compute_loss(trainer.model, batch)
        input_ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        attention_mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        logits_BTV = trainer.model(input_ids=input_ids, attention_mask=attention_mask).logits
    at = batch["prompt_ids"].size(1) + 4  # <answer> 3 </answer> <confidence> come first
    probabilities_BV = logits_BTV[:, at - 1].softmax(dim=1).double().numpy()
    stated_V = np.full(len(tokenizer), np.nan)
    for level in levels:
        stated_V[tokenizer.convert_tokens_to_ids(level)] = float(level)
    expected = []
    for row, probabilities_V in enumerate(probabilities_BV):
        could_be = make_outcomes(float(row % 2 == 0), stated_V)
        expected.append(-1.5 * (probabilities_V @ BrierTerm()(could_be)))
    assert (loss - policy_loss).item() == pytest.approx(0.5 * np.mean(expected), rel=1e-4)


def test_the_calibration_terms_leave_the_policy_gradient(make_trainer: Any, replay: Any) -> None:
    trainer = make_trainer(rows=ROWS, confidence_loss_weight=1.0, max_completion_length=12)
    replay(trainer, COMPLETIONS)
    advantages_BT = scored(trainer)["advantages"]
    accuracy, form = torch.tensor([0.25, -0.75, 0.25, 0.25]), torch.tensor([0.125, 0.125, -0.375, 0.125])
    torch.testing.assert_close(advantages_BT[:4, 0], accuracy + form)
    torch.testing.assert_close(advantages_BT[[0, 1], 4], form[:2])  # the confidence tokens


def test_where_the_confidence_token_is_and_what_it_should_have_been(
    make_trainer: Any, replay: Any, policy: Any
) -> None:
    _, tokenizer = policy.load()
    level, character = tokenizer.convert_tokens_to_ids("0.5"), tokenizer.convert_tokens_to_ids
    stated = tokenizer.encode(COMPLETIONS[5], add_special_tokens=False)
    spelled = [token for each in stated for token in (map(character, "0.5") if each == level else [each])]
    unfinished = tokenizer.encode("<answer>3</answer><confidence>1.0</confidence>+", add_special_tokens=False)
    completions = [*COMPLETIONS[:4], [*spelled, tokenizer.eos_token_id], unfinished, *COMPLETIONS[6:]]
    for masked in (False, True):
        trainer = make_trainer(
            rows=ROWS, confidence_loss_weight=1.0, max_completion_length=12, mask_truncated_completions=masked
        )
        replay(trainer, completions)
        batch = scored(trainer)
        # Nothing is read of the third; of the fifth a level is read, but not off one token.
        assert batch["confidence_positions"].tolist() == [4, 4, -1, 8, -1, -1 if masked else 4, 4, 4]
        assert batch["confidence_targets"].tolist() == [[1], [0], [1], [1], [0], [1], [1], [0]]


def test_a_gold_that_cannot_be_used_has_no_target(make_trainer: Any, replay: Any) -> None:
    trainer = make_trainer(
        rows=[{"prompt": "1+2=", "answer": "3"}, {"prompt": "1+1=", "answer": " "}], confidence_loss_weight=1.0
    )
    replay(trainer, [COMPLETIONS[0], *COMPLETIONS[4:7]] * 2)
    batch = scored(trainer)
    assert batch["confidence_positions"].tolist() == [4] * 4 + [-1] * 4
    assert batch["confidence_targets"].isnan().flatten().tolist() == [False] * 4 + [True] * 4
    assert batch["advantages"][4:].abs().max() == 0
    assert torch.isfinite(trainer._compute_loss(trainer.model, batch))


def test_the_closed_form_needs_levels_of_one_token_each(make_trainer: Any) -> None:
    with pytest.raises(ValueError, match=r"confidence_loss_weight: the closed form needs task\.template\.levels"):
        make_trainer(confidence_loss_weight=1.0, template=AnswerTemplate())
    with pytest.raises(ValueError, match=r"levels: 0\.1, 0\.90 are not single tokens of this tokenizer"):
        make_trainer(confidence_loss_weight=1.0, template=AnswerTemplate(levels=("0.1", "0.5", "0.90")))
    make_trainer(template=AnswerTemplate())  # without the closed form any decimal will do


def test_levels_that_a_tokenizer_cannot_tell_apart_are_refused() -> None:
    class OneToken:
        unk_token_id = 0

        def __init__(self, token: int) -> None:
            self.token = token

        def encode(self, level: str, add_special_tokens: bool) -> list[int]:
            return [self.token]

    for token in (0, 7):
        with pytest.raises(ValueError, match=r"0, 1 are not distinct tokens"):
            level_token_ids(OneToken(token), ("0", "1"))
