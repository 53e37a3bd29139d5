"""Which prompts are asked and which groups train: the mix is honoured, ranks agree, a resume changes nothing."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.pessimism import DIFFICULTY_BINS
from rl.config import CalibratedGRPOConfig
from rl.difficulty import STATE_FILE, UNMEASURED, DifficultySampler, checked_mix

MIX = {"hard": 1, "medium": 2, "easy": 1}
NAN = np.nan


def trained(sampler: DifficultySampler, rates: np.ndarray, batches: int, groups: int = 16, size: int = 8) -> Counter:
    """Draw, answer by the prompts' true ``rates``, record; how often each difficulty was drawn as it was known then."""
    policy, counts = np.random.default_rng(0), Counter()
    for _ in range(batches):
        drawn_G = sampler.draw(groups)
        assert len(set(drawn_G.tolist())) == groups, "no prompt twice in a batch"
        counts.update({name: share * groups for name, share in sampler.shares(drawn_G).items()})
        sampler.record(drawn_G, (policy.random((groups, size)) < rates[drawn_G][:, None]).astype(float).ravel())
    return counts


# -- the draws ---------------------------------------------------------------------------------------------------------
def test_the_first_batches_ask_what_was_not_asked_and_then_the_mix_is_honoured() -> None:
    sampler = DifficultySampler(2000, MIX, seed=3)
    rates = np.linspace(0, 1, 2000)
    first = trained(sampler, rates, 1)
    assert first == {UNMEASURED: 16, "hard": 0, "medium": 0, "easy": 0}
    trained(sampler, rates, 20)
    counts = trained(sampler, rates, 150)
    shares = {name: count / (150 * 16) for name, count in counts.items()}
    expected = {"hard": 0.75 / 4, "medium": 0.75 / 2, "easy": 0.75 / 4, UNMEASURED: 0.25}
    assert shares == pytest.approx(expected, abs=0.04)
    assert 0.25 * 150 * 16 < sampler.asked.sum() < 2000, "the set goes on being explored"


def test_a_difficulty_that_is_not_found_leaves_its_share_to_what_was_not_asked_until_all_was() -> None:
    sampler = DifficultySampler(300, {"hard": 1, "medium": 1, UNMEASURED: 0}, seed=0)
    never_medium = np.where(np.arange(300) < 150, 0.0, 1.0)
    counts = trained(sampler, never_medium, 60, groups=4)
    assert sampler.asked.mean() > 0.3, "half of each batch looks for medium ones"
    assert counts["easy"] == counts["medium"] == 0
    trained(sampler, never_medium, 400, groups=4)
    assert sampler.asked.all()
    assert trained(sampler, never_medium, 50, groups=4) == {"hard": 200, "medium": 0, "easy": 0, UNMEASURED: 0}


def test_a_batch_is_filled_with_others_where_the_mix_has_too_few() -> None:
    sampler = DifficultySampler(8, {"medium": 1, UNMEASURED: 0}, seed=0)
    sampler.solve_rates[:] = [0.5, 0.5, 1, 1, 0, NAN, 0, NAN]
    sampler.asked[:] = True
    for _ in range(20):
        drawn = set(sampler.draw(4).tolist())
        assert {0, 1} < drawn and not drawn & {5, 7}, "what could not be judged comes last"
    assert set(sampler.draw(8).tolist()) == set(range(8))
    with pytest.raises(ValueError, match="9 groups a batch for 8 training prompts"):
        sampler.draw(9)


def test_a_solve_rate_is_of_the_binary_outcome_and_follows_the_policy() -> None:
    sampler = DifficultySampler(3, MIX, seed=0)
    sampler.record(np.array([2, 0]), np.array([0.9, 0.5, 0.4, NAN, NAN, NAN, NAN, NAN]))
    np.testing.assert_array_equal(sampler.solve_rates, [NAN, NAN, 2 / 3])
    assert sampler.asked.tolist() == [True, False, True]
    sampler.record(np.array([2]), np.zeros(4))
    assert sampler.solve_rates[2] == pytest.approx(1 / 3)
    assert sampler.weights()[0] == 0 < sampler.weights()[1], "unjudged is not asked again, unmeasured is"


OUTCOMES = st.lists(st.sampled_from([0.0, 1.0, NAN]), min_size=6, max_size=6)


@settings(deadline=None, max_examples=25)
@given(batches=st.lists(OUTCOMES, max_size=6), stop=st.integers(0, 5))
def test_draws_follow_from_seed_and_outcomes_alone_so_that_ranks_and_resumes_agree(
    batches: list[list[float]], stop: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One sampler draws on; another rank's, and one restored from a checkpoint somewhere, draw the same."""
    folder = tmp_path_factory.mktemp("checkpoint")
    one, other = (DifficultySampler(9, MIX, seed=7) for _ in range(2))
    restored = None
    for step, outcomes in enumerate(batches):
        if step == min(stop, len(batches) - 1):
            one.save(folder)
            restored = DifficultySampler(9, MIX, seed=7)
            restored.load(folder)
        samplers = [one, other] + ([restored] if restored else [])
        draws = [sampler.draw(3) for sampler in samplers]
        for sampler, drawn in zip(samplers, draws, strict=True):
            np.testing.assert_array_equal(drawn, draws[0])
            sampler.record(drawn, np.array(outcomes))
    if batches:
        np.testing.assert_array_equal(restored.solve_rates, one.solve_rates)
    another = DifficultySampler(10**6, MIX, seed=8).draw(8).tolist()
    assert another != DifficultySampler(10**6, MIX, seed=7).draw(8).tolist()


def test_a_state_that_is_missing_or_of_other_prompts_is_refused(tmp_path: Path) -> None:
    sampler = DifficultySampler(4, MIX, seed=0)
    with pytest.raises(ValueError, match=f"{STATE_FILE} is missing: .*without trainer.difficulty_mix"):
        sampler.load(tmp_path)
    sampler.save(tmp_path)
    with pytest.raises(ValueError, match="is of 4 training prompts, there are 5"):
        DifficultySampler(5, MIX, seed=0).load(tmp_path)


# -- the configuration -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"difficulty_mix": {"hrad": 1}}, r"trainer.difficulty_mix.hrad: unknown difficulty, .*did you mean hard"),
        ({"difficulty_mix": {"hard": -1}}, r"trainer.difficulty_mix.hard: -1 is not a finite number of at least 0"),
        ({"difficulty_mix": {"hard": "much"}}, r"trainer.difficulty_mix.hard: 'much' is not a finite number"),
        ({"difficulty_mix": {"hard": 0, "unmeasured": 1}}, r"trainer.difficulty_mix: .* gives no share to any of hard"),
        ({"difficulty_mix": {}}, r"trainer.difficulty_mix: \{\} gives no share"),
        ({"group_filter": "mixd"}, r"trainer.group_filter: 'mixd' is not one of none, mixed"),
    ],
)
def test_a_wrong_choice_is_refused(choice: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        CalibratedGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **choice)


def test_shares_add_up_to_one() -> None:
    assert checked_mix({"easy": 3, UNMEASURED: 1}) == {"easy": 0.75, UNMEASURED: 0.25}
    assert sum(checked_mix(MIX).values()) == pytest.approx(1)
    assert set(MIX) == set(DIFFICULTY_BINS)


# -- in training -------------------------------------------------------------------------------------------------------
def weights_of(trainer: Any) -> torch.Tensor:
    model = trainer.accelerator.unwrap_model(trainer.model)
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.fixture
def run(make_trainer: Any, policy: Any) -> Any:
    """Trains the tiny policy on six prompts with the mix; the trainer, and the prompts of each of its generations."""

    def train(checkpoint: Path | None = None) -> tuple[Any, list[list[str]]]:
        trainer = make_trainer(
            rows=policy.rows[:6], difficulty_mix=MIX, confidence_loss_weight=1.0, max_steps=5, save_strategy="steps",
            save_steps=3,
        )  # fmt: skip
        asked: list[list[str]] = []
        score = trainer._calculate_rewards

        def listen(inputs: Any, *arguments: Any) -> Any:
            asked.append([row["prompt"] for row in inputs])
            return score(inputs, *arguments)

        trainer._calculate_rewards = listen
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        return trainer, asked

    return train


def test_a_resumed_run_asks_the_same_prompts_and_ends_with_the_same_weights(
    run: Any, policy: Any, tmp_path: Path
) -> None:
    whole, prompts = run()
    assert len(prompts) == 5
    assert all(batch == [batch[0]] * 4 + [batch[4]] * 4 and batch[0] != batch[4] for batch in prompts)
    records = [record for record in whole.state.log_history if "loss" in record]
    assert records[0]["difficulty/unmeasured"] == 1.0
    assert all(sum(record[f"difficulty/{name}"] for name in (*MIX, UNMEASURED)) == 1 for record in records)

    kept, fresh = tmp_path / "kept" / "checkpoint-3", tmp_path / "fresh" / "checkpoint-3"
    for folder in (kept, fresh):
        shutil.copytree(Path(whole.args.output_dir) / "checkpoint-3", folder)
    state = DifficultySampler(6, MIX, seed=0)
    state.load(kept)
    rows = [row["prompt"] for row in policy.rows]
    assert {rows[index] for index in np.flatnonzero(state.asked)} == {each for batch in prompts[:3] for each in batch}
    resumed, again = run(kept)
    assert again == prompts[3:]
    assert torch.equal(weights_of(resumed), weights_of(whole))

    # Without its state it would ask others: else the comparison above would say nothing of it.
    DifficultySampler(6, MIX, seed=whole.args.seed).save(fresh)
    assert run(fresh)[1] != prompts[3:]


COMPLETIONS = ["<answer>{}</answer><confidence>{}</confidence>".format(*each) for each in [
    ("3", "0.5"), ("3", "1.0"), ("3", "0.0"), ("3", "0.75"), ("4", "0.5"), ("3", "1.0"), ("5", "0.0"), ("3", "0.25"),
]]  # fmt: skip


@pytest.mark.parametrize("credit", ["segment", "sequence"])
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_group_that_is_all_right_gives_no_policy_gradient_but_a_confidence_loss(
    credit: str, weight: float, make_trainer: Any, replay: Any
) -> None:
    rows = [{"prompt": "1+2=", "answer": "3"}, {"prompt": "3=", "answer": "3"}] * 4
    outputs = {}
    for choice in ("none", "mixed"):
        trainer = make_trainer(group_filter=choice, credit=credit, confidence_loss_weight=weight, rows=rows)
        replay(trainer, COMPLETIONS)
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        inputs = [dict(trainer.train_dataset[group]) for group in (0, 1) for _ in range(4)]
        outputs[choice] = trainer._generate_and_score_completions(inputs)
        kept = trainer._metrics["train"].get("filter/kept", [])
        assert kept == ([0.5] if choice == "mixed" else [])
        assert [value == 0 for value in trainer._logs["advantages"]][:4] == [choice == "mixed" or bool(weight)] * 4
    before, after = (outputs[choice]["advantages"] for choice in ("none", "mixed"))
    assert before[:4].any() == (weight == 0), "calibration tells right ones apart, unless it is in closed form"
    assert not after[:4].any()
    assert torch.equal(after[4:], before[4:]) and after[4:].any()
    if weight:
        for name in ("confidence_positions", "confidence_targets"):
            assert torch.equal(outputs["mixed"][name], outputs["none"][name])
        assert (outputs["mixed"]["confidence_positions"] >= 0).all()


def test_a_filtered_run_logs_what_it_kept(make_trainer: Any) -> None:
    trainer = make_trainer(group_filter="mixed", difficulty_mix=MIX)
    trainer.train()
    kept = [record["filter/kept"] for record in trainer.state.log_history if "loss" in record]
    assert len(kept) == 2 and set(kept) <= {0.0, 0.5, 1.0}
    assert trainer._difficulty.asked.sum() >= 2
