"""RLSF's parts: which answers are preferred to which, tokens as they were written, a reward model made and asked."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, OPTConfig

from rewards.template import AnswerTemplate
from rl.own_answers_config import SelfFeedbackDPOConfig, SelfFeedbackRewardConfig
from rl.reward_model import RewardModel, as_reward_model
from rl.self_feedback import SelfFeedbackDPOTrainer, SelfFeedbackRewardTrainer, preference_pairs
from tests.factories import character_tokenizer, tiny_model

ANSWERS = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(["4", "5", None]), st.sampled_from([0.0, 1.0, None])), max_size=7
)
CONFIG = {
    "use_cpu": True, "bf16": False, "report_to": "none", "per_device_train_batch_size": 4, "save_strategy": "no",
    "gradient_checkpointing": False, "disable_tqdm": True, "answers_per_question": 4,
}  # fmt: skip


# -- pairs -------------------------------------------------------------------------------------------------------------
@given(ANSWERS, st.sampled_from(["different", "equally_right", "all"]), st.floats(0, 1), st.floats(0, 0.5))
def test_a_pair_is_two_answers_of_which_one_is_surer(
    answers: list[tuple[float, str | None, float | None]], among: str, least: float, lead: float
) -> None:
    confidences, given_, correct = (list(each) for each in zip(*answers, strict=True)) if answers else ([], [], [])
    pairs = preference_pairs(confidences, given_, correct, among=among, least_confidence=least, least_lead=lead)
    expected = 0
    for one in range(len(answers)):
        for other in range(len(answers)):
            surer = confidences[one] - confidences[other] > lead and confidences[one] >= least
            compared = {
                "all": True,
                "different": given_[one] != given_[other],
                "equally_right": correct[one] is not None and correct[one] == correct[other],
            }[among]
            expected += surer and compared and given_[one] is not None
    assert len(pairs) == expected == len({(each.chosen, each.rejected) for each in pairs})
    margins = [each.margin for each in pairs]
    assert margins == sorted(margins, reverse=True) and all(each >= 1.0 for each in margins)
    for each in pairs:
        assert each.margin == pytest.approx(math.exp(confidences[each.chosen] - confidences[each.rejected]))
    assert (
        preference_pairs(confidences, given_, correct, among=among, least_lead=lead, most=2)
        == preference_pairs(confidences, given_, correct, among=among, least_lead=lead)[:2]
    )


def test_no_pair_reads_a_verdict_unless_asked() -> None:
    arguments = [0.9, 0.4, 0.1], ["4", "5", "5"]
    for among in ("different", "all"):
        pairs = {str(preference_pairs(*arguments, verdicts, among=among)) for verdicts in ([1, 0, 0], [0, 1, 1], [None] * 3)}  # fmt: skip  # noqa: E501
        assert len(pairs) == 1
    assert [(each.chosen, each.rejected) for each in preference_pairs(*arguments, [0, 1, 1], among="equally_right")] == [(1, 2)]  # fmt: skip  # noqa: E501


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers_per_question": 1}, "trainer.answers_per_question: 1 is below 2"),
        ({"answers_decoding": "beams"}, "trainer.answers_decoding: 'beams' is not one of sampled, branches"),
        ({"answers_decoding": "sampled"}, "trainer.answers_temperature: 0 samples the same answer again and again"),
        ({"answers_temperature": 1.0}, "trainer.answers_temperature: 1.0 has no effect on branches"),
        ({"pairs_among": "none"}, "trainer.pairs_among: 'none' is not one of different, equally_right, all"),
        ({"feedback": "verdict", "pairs_among": "equally_right"}, "leaves no pairs to feedback: verdict"),
        ({"pairs_per_question": 0}, "trainer.pairs_per_question: 0 is below 1"),
        ({"least_confidence": 1.5}, "trainer.least_confidence: 1.5 is not in"),
        ({"rounds": 0}, "trainer.rounds: 0 is below 1"),
    ],
)
def test_what_makes_no_pairs_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        SelfFeedbackDPOConfig(output_dir=str(tmp_path), **{**CONFIG, **changes})


# -- training ----------------------------------------------------------------------------------------------------------
def test_dpo_trains_on_the_tokens_that_were_written(policy: Any, tmp_path: Path) -> None:
    """Not on a text encoded again; the chosen tokens become likelier against the rejected ones."""
    model, tokenizer = policy.load()
    reference, _ = policy.load()
    rows = [{"prompt_ids": [5, 6, 7], "chosen_ids": [8, 9, 1], "rejected_ids": [9, 8, 1]}] * 4
    arguments = SelfFeedbackDPOConfig(output_dir=str(tmp_path), max_steps=20, learning_rate=3e-3, **CONFIG)
    trainer = SelfFeedbackDPOTrainer(
        model, ref_model=reference, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    assert trainer.train_dataset[0] == rows[0]
    before = _lead(reference, rows[0])
    trainer.train()
    assert _lead(model, rows[0]) > before + 1.0
    assert _lead(reference, rows[0]) == before, "the reference stays as it was"


def _lead(model: Any, row: dict[str, list[int]]) -> float:
    """By how much the chosen tokens are likelier than the rejected ones, in nats."""
    sums = []
    for side in ("chosen_ids", "rejected_ids"):
        ids = torch.tensor([[*row["prompt_ids"], *row[side]]])
        with torch.no_grad():
            log_probs = model(ids).logits[0].log_softmax(dim=-1)
        first = len(row["prompt_ids"])
        sums.append(sum(log_probs[place - 1, ids[0, place]].item() for place in range(first, ids.size(1))))
    return sums[0] - sums[1]


def test_a_reward_model_is_the_policys_trunk_with_a_head_and_learns_what_is_preferred(
    policy: Any, tmp_path: Path
) -> None:
    model, tokenizer = policy.load()
    made = as_reward_model(model, tokenizer, seed=0)
    for name, weight in model.model.state_dict().items():
        assert torch.equal(made.model.state_dict()[name], weight)
    assert torch.equal(made.score.weight, as_reward_model(model, tokenizer, seed=0).score.weight)
    assert not torch.equal(made.score.weight, as_reward_model(model, tokenizer, seed=1).score.weight)
    rows = [
        {"chosen_ids": [5, 6, 8, 1], "rejected_ids": [5, 6, 9, 1], "margin": 1.5},
        {"chosen_ids": [5, 8, 1], "rejected_ids": [5, 7, 9, 9, 1], "margin": 1.0},
    ]
    arguments = SelfFeedbackRewardConfig(output_dir=str(tmp_path / "run"), max_steps=30, learning_rate=3e-3, **CONFIG)
    trainer = SelfFeedbackRewardTrainer(
        made, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "final"))
    read = RewardModel.load(tmp_path / "final", tokenizer, batch_size=3)
    prompts, chosen, rejected = [[5, 6], [5]], [[8, 1], [8, 1]], [[9, 1], [7, 9, 9, 1]]
    rewards = read(prompts * 2, [*chosen, *rejected])
    leads = rewards[:2] - rewards[2:]
    assert (leads > torch.tensor([1.5, 1.0])).all(), "beyond the margin"
    alone = torch.cat([read([prompt], [ids]) for prompt, ids in zip(prompts * 2, [*chosen, *rejected], strict=True)])
    torch.testing.assert_close(rewards, alone, atol=1e-5, rtol=1e-5)


def test_what_is_no_reward_model_for_the_policy_is_refused(policy: Any, tmp_path: Path) -> None:
    model, tokenizer = policy.load()
    with pytest.raises(ValueError, match="is no reward model: it gives 2 numbers, expected one"):
        RewardModel.load(policy.path, tokenizer)
    made = as_reward_model(model, tokenizer, seed=0)
    made.save_pretrained(tmp_path)
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(tmp_path)
    _, own = policy.load()
    with pytest.raises(ValueError, match="its tokenizer is another one than the policy's"):
        RewardModel.load(tmp_path, own)


def test_another_architecture_makes_a_reward_model_too() -> None:
    tokenizer = character_tokenizer(AnswerTemplate())
    made = as_reward_model(tiny_model("gpt2", vocabulary=tokenizer), tokenizer, seed=0)
    assert RewardModel(made)([[5, 6]], [[7, 1]]).shape == (1,)


def test_a_reward_model_is_made_of_a_policy_whose_configuration_names_no_range() -> None:
    shape = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 16}
    policy = AutoModelForCausalLM.from_config(OPTConfig(**shape, word_embed_proj_dim=16, max_position_embeddings=16))
    model = as_reward_model(policy, SimpleNamespace(pad_token_id=1), seed=0)  # type: ignore[arg-type]
    copied, own = policy.base_model.state_dict(), getattr(model, model.base_model_prefix).state_dict()
    assert all(torch.equal(values, own[name]) for name, values in copied.items())
    assert model.score.weight.abs().max() > 0
