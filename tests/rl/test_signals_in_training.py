"""A trainer reads the signals of its policy as it is, at temperature one but for what is trained at its own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from peft import LoraConfig

from rewards.rubric import Rubric
from rl.signals import (
    SIGNALS,
)
from tests.rl.scripted import ROWS
from tests.rl.written import ELSEWHERE, Written, by_hand, encode, hooks, ids_of, preferring

# -- in the trainer ----------------------------------------------------------------------------------------------------

READ = [name for name in SIGNALS if name != "prior_confidence"]  # which needs a template that asks for it
ALL = {"accuracy": {"weight": 1.0}, "pessimistic": {"weight": 0.0, "signals": READ}}


CHARACTERS: list[Written] = [
    ("<answer>", "3", "</answer><confidence>0.75</confidence>", "3", True),
    ("<answer>", "40-1", "</answer><confidence>1.0</confidence>", "3", True),
    ("<confidence>0.5</confidence>", None, "", "3", True),
    ("<think>2+1+0+0+0+</think><answer>3 ", None, "", "3", False),  # fifteen tokens, cut off in the answer
    ("<answer>", "12", "</answer><confidence>0.25</confidence>", "3", True),
    ("<think>1+1+1+1+1</think><answer>", "5", "</answer>", "3", True),
    ("<answer>", "3", "</answer><confidence>1.0</confidence>", "3", True),
    ("<answer>", "7", "</answer><confidence>0.0</confidence>", "3", True),
]


def write_by(dictate: Any, trainer: Any) -> list[list[int]]:
    """Makes the trainer's own generation write :data:`CHARACTERS`; their token ids."""
    ids = [ids_of(trainer.processing_class, each) for each in CHARACTERS]
    dictate(trainer.accelerator.unwrap_model(trainer.model), ids)
    return ids


def logged(trainer: Any) -> dict[str, list[float]]:
    return {
        name.removeprefix("signals/"): list(values)
        for name, values in trainer._logs["extra"].items()
        if name.startswith("signals/")
    }


@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"temperature": 0.6, "pad_to_multiple_of": 16},
        {"temperature": 1.7, "credit": "sequence", "beta": 0.1},
        {"gradient_checkpointing": True},
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}},
        {"lora": True},
        {"lora": True, "beta": 0.1, "gradient_checkpointing": True},
        # The generation is used for more than one step, so that TRL scores it once more with the policy.
        {"per_device_train_batch_size": 2, "steps_per_generation": 4, "gradient_accumulation_steps": 2},
    ],
    ids=str,
)
def test_a_trainer_reads_what_its_policy_thought_at_temperature_one(
    choice: dict[str, Any], make_trainer: Any, dictate: Any, policy: Any
) -> None:
    choice = dict(choice)
    lora = LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False) if choice.pop("lora", False) else None
    trainer = make_trainer(
        rows=ROWS, rubric=Rubric.from_config(ALL), reward_model=preferring(*policy.load()), max_completion_length=15,
        peft_config=lora, **choice,
    )  # fmt: skip
    ids = write_by(dictate, trainer)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    rows = [dict(trainer.train_dataset[group]) for group in (0, 1) for _ in range(4)]
    batch = trainer._generate_and_score_completions(rows)
    made = zip(batch["completion_ids"], batch["completion_mask"], strict=True)
    assert [row[mask == 1].tolist() for row, mask in made] == ids
    assert trainer.model.training
    read = logged(trainer)
    assert set(read) == set(READ)

    model, tokenizer = trainer.accelerator.unwrap_model(trainer.model).eval(), trainer.processing_class
    expected = [
        by_hand(
            model, tokenizer, encode(tokenizer, row["prompt"]), written, trainer.template.levels, trainer.temperature
        )
        for row, written in zip(rows, CHARACTERS, strict=True)
    ]
    for name in set(READ).difference(ELSEWHERE):
        np.testing.assert_allclose(
            read[name], [each[name] for each in expected], rtol=2e-4, atol=1e-6, err_msg=f"{name} under {choice}"
        )
    asked = [encode(tokenizer, row["prompt"]) for row in rows]
    preferred = preferring(*policy.load())(asked, ids)
    np.testing.assert_allclose(read["reward_model"], preferred, rtol=2e-4, atol=1e-6)
    assert math.isnan(read["answer_margin"][2]) and math.isnan(read["answer_margin"][3]), "unfinished, unparsed"


def test_signals_follow_the_policy_as_it_learns(make_trainer: Any, dictate: Any, policy: Any) -> None:
    trainer = make_trainer(
        rows=ROWS, rubric=Rubric.from_config(ALL), max_completion_length=15, max_steps=3, learning_rate=0.01,
        log_completions=True, num_completions_to_print=0, shuffle_dataset=False,
        reward_model=preferring(*policy.load()),
    )  # fmt: skip
    write_by(dictate, trainer)
    trainer.train()
    tables = [pd.read_parquet(each) for each in sorted((Path(trainer.args.output_dir) / "completions").iterdir())]
    first, *_, last = (table["signals/mean_log_prob"].to_numpy() for table in tables)
    assert np.abs(first - last).max() > 1e-3
    assert np.isfinite(first).all() and np.isfinite(last).all()


def test_a_chat_is_asked_for_the_gold_as_it_was_asked_to_answer(make_trainer: Any, policy: Any, dictate: Any) -> None:
    """With the trainer's own chat template and its arguments."""
    _, tokenizer = policy.load()
    tokenizer.chat_template = (
        "{% for each in messages %}{{ each.content }}{% endfor %}"
        "{% if brief %}={% else %}-0={% endif %}{% if add_generation_prompt %}{% endif %}"
    )
    rows = [{"prompt": [{"role": "user", "content": row["prompt"].rstrip("=")}], "answer": "3"} for row in ROWS]
    read = {}
    for brief in (False, True):
        trainer = make_trainer(
            model=policy.load()[0], tokenizer=tokenizer, rows=rows, max_completion_length=15,
            chat_template_kwargs={"brief": brief}, rubric=Rubric.from_config({"accuracy": {}, "rlpr": {}}),
        )  # fmt: skip
        write_by(dictate, trainer)
        trainer.model.train()
        trainer._generate_and_score_completions([dict(rows[0]) for _ in range(8)])
        read[brief] = logged(trainer)["reference_probability_prior"]
        asked = encode(tokenizer, "1+2=" if brief else "1+2-0=")
        expected = by_hand(trainer.model, tokenizer, asked, CHARACTERS[0])["reference_probability_prior"]
        assert read[brief] == pytest.approx([expected] * 8, rel=1e-4)
    assert read[False] != pytest.approx(read[True], rel=1e-3)


@pytest.mark.parametrize("rubric", [{"accuracy": {}}, {"accuracy": {}, "repetition": {}}, {"accuracy": {}, "rlpr": {}}])
def test_a_rubric_that_needs_no_pass_hooks_nothing(rubric: dict[str, Any], make_trainer: Any, replay: Any) -> None:
    trainer = make_trainer(rubric=Rubric.from_config(rubric), max_steps=1)
    assert not hooks(trainer.accelerator.unwrap_model(trainer.model))
    replay(trainer, ["<answer>3</answer><confidence>0.75</confidence>"] * 8)
    trainer.train()


def test_generation_that_shows_no_statistics_is_refused(make_trainer: Any) -> None:
    rubric = Rubric.from_config({"accuracy": {}, "intuitor": {}})
    message = r"use_transformers_continuous_batching: true shows no token statistics.* for self_certainty"
    with pytest.raises(ValueError, match=message):
        make_trainer(rubric=rubric, use_transformers_continuous_batching=True)
    make_trainer(rubric=Rubric.from_config({"accuracy": {}, "rlpr": {}}), use_transformers_continuous_batching=True)
