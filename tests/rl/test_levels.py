"""Confidence levels in closed form: read or not, the mass that they have, what the rest costs, how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from estimators.expected_confidence import mean_level
from rewards.rubric import Rubric
from rewards.template import AnswerTemplate
from rl.checkpoint import add_template_tokens, read_temperature, write_calibration
from rl.losses import mass_hinge
from rl.segments import LevelTokens
from tests.factories import tiny_model
from tests.rl.scripted import COMPLETIONS, ROWS, scored

TENTHS = tuple(f"{tenth / 10:.1f}" for tenth in range(11))


# -- the mass of the levels --------------------------------------------------------------------------------------------


def test_the_hinge_pushes_the_mass_up_and_is_nothing_above_its_bound() -> None:
    logits = torch.tensor([[-6.0, -6.0, 2.0], [4.0, 4.0, -3.0]], requires_grad=True)
    for _ in range(400):
        log_mass = torch.log_softmax(logits, dim=1)[:, :2].logsumexp(dim=1)
        (gradient,) = torch.autograd.grad(mass_hinge(log_mass).sum(), logits)
        assert gradient[1].abs().max() == 0, "its levels have .999"
        assert log_mass[0].exp() >= 0.95 or ((gradient[0, :2] < 0).all() and gradient[0, 2] > 0)
        logits = (logits - 0.5 * gradient).detach().requires_grad_()
    assert log_mass[0].exp().item() == pytest.approx(0.95, abs=0.02)


def test_a_confidence_that_is_no_level_is_read_where_it_stands(make_trainer: Any, replay: Any, policy: Any) -> None:
    """Levels that the policy never writes: the loss is the price of the others, and grows weaker with their mass."""
    template = AnswerTemplate(levels=("0.25", "0.75"))
    trainer = make_trainer(rows=ROWS[:2], template=template, confidence_loss_weight=1.0, max_completion_length=12)
    replay(trainer, COMPLETIONS)
    batch = scored(trainer)
    assert batch["confidence_positions"].tolist() == [4, 4, -1, 8, 4, 4, 4, 4]
    trainer._compute_loss(trainer.model, batch)
    metrics = trainer._metrics["train"]
    assert 0 < metrics["calibration/level_mass"][0] < 1
    level_ids = LevelTokens.of(trainer.processing_class, template).ids
    trainer.args.beta = 0.0

    def mass() -> torch.Tensor:
        with trainer._reading(batch):
            trainer.model(
                input_ids=torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
                attention_mask=torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
            )
        loss, _ = trainer._in_closed_form(batch)
        return loss

    assert len(level_ids) == 2
    before, optimizer = None, torch.optim.SGD(trainer.model.parameters(), lr=0.05)
    for _ in range(30):
        optimizer.zero_grad()
        mass().backward()
        optimizer.step()
        before = before or trainer._closed_forms[0].masses.mean().item()
    assert trainer._closed_forms[0].masses.mean().item() > min(before + 0.1, 0.9)


@pytest.mark.parametrize("method", ["grpo", "ppo"])
def test_what_states_nothing_pays_the_price_by_the_policy_gradient(method: str, make_trainer: Any, replay: Any) -> None:
    rubric = Rubric.from_config({"accuracy": {}, "brier": {"weight": 0.5}})
    found = {}
    for weight in (1e-6, 2.0):
        trainer = make_trainer(
            method=method, rows=ROWS[:2] if method == "grpo" else ROWS, rubric=rubric, confidence_loss_weight=weight,
            max_completion_length=12,
        )  # fmt: skip
        replay(trainer, COMPLETIONS)
        found[weight] = scored(trainer)
    price_BT = found[2.0]["advantages"] - found[1e-6]["advantages"]
    unread_B = found[2.0]["confidence_positions"] < 0
    assert unread_B.tolist() == [False, False, True] + [False] * 5
    seen = found[2.0]["completion_mask"] == 1
    if method == "grpo":
        # Brier of .75 right, 1 wrong and .5 right, and -1 where there is none.
        expected = 2.0 * 0.5 * (-1.0 - (-0.0625 - 1.0 - 1.0 - 0.25) / 4)
        torch.testing.assert_close(
            price_BT[2][seen[2]], torch.full((int(seen[2].sum()),), expected), rtol=1e-4, atol=1e-5
        )
    assert (price_BT[2][seen[2]] < -0.1).all()
    assert price_BT[~unread_B].abs().max() < 1e-5


# -- drift of the answers ----------------------------------------------------------------------------------------------


def test_the_kl_on_answers_holds_them_and_lets_the_rest_go(make_trainer: Any, replay: Any) -> None:
    from tests.rl.test_grpo_routes import token_gradients

    trainer = make_trainer(
        rows=ROWS[:2], beta=0.5, kl_mask="answer", confidence_loss_weight=1.0, max_completion_length=12
    )
    replay(trainer, COMPLETIONS)
    batch = scored(trainer)
    batch["advantages"] = torch.zeros_like(batch["advantages"])
    batch["ref_per_token_logps"] = batch["ref_per_token_logps"] - 1.0
    _, gradients_BT = token_gradients(trainer, batch)
    answer_BT = batch["answer_mask"]
    assert (gradients_BT[answer_BT].abs() > 1e-4).all() and gradients_BT[~answer_BT].abs().max() == 0
    metrics = trainer._metrics["train"]
    assert metrics["drift/answer_log_ratio"][-1] == pytest.approx(1.0, abs=1e-4), "answers of one token"
    assert metrics["drift/answers_moved"][-1] == 1.0


# -- temperature -------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_read_at_the_temperature_of_its_rollouts(tmp_path: Path) -> None:
    template = AnswerTemplate(levels=TENTHS)
    assert read_temperature(tmp_path) == 1.0, "an old checkpoint does not say"
    write_calibration(tmp_path, template, None, {"trainer": {"temperature": 0.5}})
    assert read_temperature(tmp_path) == 0.5
    logits = torch.randn(3, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    read = mean_level(torch.log_softmax(logits, dim=1)[:, :11], template.level_values, temperature=0.5)
    trained = (logits / 0.5).softmax(dim=1)[:, :11]
    torch.testing.assert_close(
        read, (trained / trained.sum(dim=1, keepdim=True)) @ torch.tensor(template.level_values).double()
    )


# -- new tokens --------------------------------------------------------------------------------------------------------


def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    made = Tokenizer(models.BPE(byte_fallback=kind == "metaspace", unk_token="<unk>"))
    if kind == "byte_level":
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        alphabet = list("0123456789.<>/abcdefghijklmnopqrstuvwxyz ")
    trainer = BpeTrainer(vocab_size=320, special_tokens=["<unk>", "<pad>", "<eos>"], initial_alphabet=alphabet)
    made.train_from_iterator(["it costs ten of them and more", "the answer confidence"] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


@pytest.mark.parametrize("kind", ["byte_level", "metaspace"])
def test_levels_as_tokens_leave_other_numbers_as_they_were(kind: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(kind)
    numbers = ["10.5", "0.25", "30.52", "1.05", "it costs 10.5", "2.0.5x"]
    before = {each: tokenizer.encode(each, add_special_tokens=False) for each in numbers[:5]}
    template = AnswerTemplate(thinking="none", levels=TENTHS)
    new = add_template_tokens(tiny_model("llama", vocabulary=tokenizer, hidden=32), tokenizer, template)
    assert set(TENTHS) <= set(new)
    tokenizer.save_pretrained(tmp_path)
    for each in (tokenizer, PreTrainedTokenizerFast.from_pretrained(tmp_path)):
        assert {number: each.encode(number, add_special_tokens=False) for number in before} == before
        levels = LevelTokens.of(each, template)
        for level, level_id in zip(TENTHS, levels.ids, strict=True):
            ids = each.encode(f"<answer>10.5</answer><confidence>{level}</confidence>", add_special_tokens=False)
            assert ids.count(level_id) == 1
            assert sum(token in levels.ids for token in ids) == 1, "10.5 is none"


def test_levels_that_capture_numbers_all_the_same_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a tokenizer that does not keep to whole words."""
    monkeypatch.setattr("rl.checkpoint.AddedToken", lambda token, **options: token)
    template, tokenizer = AnswerTemplate(thinking="none", levels=("0.05", "0.5")), tokenizer_of("byte_level")
    with pytest.raises(
        ValueError, match=r"model\.add_template_tokens: with 0\.05, 0\.5 as tokens .* '10\.5', '30\.52'"
    ):
        add_template_tokens(tiny_model("llama", vocabulary=tokenizer, hidden=32), tokenizer, template)
