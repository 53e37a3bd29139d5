"""Every reward term, named as in a recipe, takes part in a real training step."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from rewards.completion import ParseStatus
from rewards.outcomes import Outcomes
from rewards.rubric import Rubric
from rewards.template import AnswerTemplate
from rewards.terms import TERMS
from rewards.terms.preference import REWARD_MODEL
from tests.factories import character_tokenizer, make_outcomes, tiny_model
from tests.rl.written import preferring

TEMPLATE = AnswerTemplate(levels=("0.0", "0.25", "0.5", "0.75", "1.0"), abstain="=", step_confidences="optional")
GROUP, LENGTH = 4, 24
# Right, wrong, declined, doubtful; then one without an answer, one that repeats itself into the length limit.
COMPLETIONS = [
    "<think>1<stake>0.5</stake></think><answer>3</answer><confidence>0.75</confidence>",
    "<think>2<stake>0.25</stake>+1</think><answer>4</answer><confidence>1.0</confidence>",
    "<answer>=</answer><confidence>0.5</confidence>",
    "<answer>3</answer><confidence>0.0</confidence>",
    "<answer>3</answer><confidence>1.0</confidence>",
    "<confidence>0.25</confidence>",
    "<think>" + "1+2=" * 6,
    "<think>21<stake>1.0</stake></think><answer>12</answer><confidence>0.25</confidence>",
]
OPTIONS: dict[str, dict[str, Any]] = {
    "overlong": {"max_length": LENGTH, "buffer": 20},
    "rlpr": {"std_filter": 0.0},
    "rlsf": {"signal": "mean_log_prob"},
    "brier": {"target": "leave_one_out"},
    "linear": {"target": "soft", "soft_signal": "token_f1"},
}
ROW = {"prompt": "1+2=", "answer": "3"}
SHAPE = {"hidden": 32, "initializer_range": 0.2, "attn_implementation": "eager"}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return character_tokenizer(TEMPLATE)


def outcomes_of(table: pd.DataFrame, lengths: list[int]) -> Outcomes:
    """The facts as the completions table has them."""
    return make_outcomes(
        table["correct"].to_numpy(float),
        table["confidence"].to_numpy(float),
        [ParseStatus(each) for each in table["status"]],
        group=np.arange(len(table)) // GROUP,
        length=np.array(lengths, dtype=float),
        abstained=(table["answer"] == TEMPLATE.abstain).to_numpy(),
        **{name.removeprefix("signals/"): table[name].to_numpy(float) for name in table if name.startswith("signals/")},
    )


@pytest.mark.parametrize("name", TERMS)
def test_a_step_is_trained_with_the_term_and_its_breakdown_is_written(
    name: str, make_trainer: Any, dictate: Any, tokenizer: Any
) -> None:
    template, completions = TEMPLATE, COMPLETIONS
    if name == "prior_confidence":
        template = replace(TEMPLATE, prior_confidence="required")
        priors = itertools.cycle(template.levels or ())
        completions = [f"<prior>{prior}</prior>{text}" for prior, text in zip(priors, COMPLETIONS, strict=False)]
        tokenizer = character_tokenizer(template)
    config = {name: {"weight": 0.5, **OPTIONS.get(name, {})}}
    rubric = Rubric.from_config({"accuracy": {}, **config}, allow_hackable=True)
    term = rubric.terms[rubric.names.index(name)]
    trainer = make_trainer(
        rubric=rubric, template=template, model=tiny_model(vocabulary=tokenizer, **SHAPE),
        tokenizer=tokenizer, rows=[ROW] * 8,
        reward_model=preferring(tiny_model(vocabulary=tokenizer, **SHAPE), tokenizer) if name == REWARD_MODEL else None,
        max_steps=1, num_generations=GROUP, max_completion_length=LENGTH, credit="segment", log_completions=True,
        num_completions_to_print=0, learning_rate=0.1, optim="sgd",
    )  # fmt: skip
    ids = [[*tokenizer.encode(each, add_special_tokens=False), tokenizer.eos_token_id] for each in completions]
    ids = [each[:LENGTH] for each in ids]
    dictate(trainer.model, ids)
    batches, score = [], trainer._generate_and_score_completions

    def keep(inputs: Any) -> Any:
        batches.append(score(inputs))
        return batches[-1]

    trainer._generate_and_score_completions = keep
    before = torch.cat([each.detach().flatten().clone() for each in trainer.model.parameters()])
    trainer.train()
    after = torch.cat([each.detach().flatten() for each in trainer.model.parameters()])
    (record,) = (each for each in trainer.state.log_history if "loss" in each)
    assert math.isfinite(record["loss"]) and 0 < record["grad_norm"] < math.inf
    assert torch.isfinite(after).all() and (after != before).any()

    table = pd.read_parquet(Path(trainer.args.output_dir) / "completions" / "completions_00001.parquet")
    assert {each for each in table if each.startswith("signals/")} == {f"signals/{each}" for each in term.signals}
    expected_N = term(outcomes_of(table, [len(each) for each in ids]))
    np.testing.assert_allclose(table[name], expected_N, atol=1e-6)
    assert record[f"rewards/{name}/mean"] == pytest.approx(np.nanmean(expected_N), abs=1e-5)
    assert len(set(expected_N[~np.isnan(expected_N)])) > 1, "a term that pays all alike would train nothing"

    # The advantages of the batch are those of accuracy and of this term, each on its own segments.
    rewards_NK = np.stack([{"accuracy": table["accuracy"], name: expected_N}[each] for each in rubric.names], axis=1)
    grouped = rewards_NK.reshape(-1, GROUP, len(rubric.names))
    baseline = np.nanmean(grouped, axis=1, keepdims=True) * [each.scaling != "raw" for each in rubric.schedules]
    centred_NK = np.nan_to_num(grouped - baseline).reshape(rewards_NK.shape)
    np.testing.assert_allclose(table["advantage"], centred_NK @ rubric.weights, atol=1e-5)
    (batch,) = batches
    for row, segment, token in itertools.product((0, 1, 4), ("answer", "confidence"), TEMPLATE.tokens):
        if token in (f"<{segment}>", f"</{segment}>"):
            column = ids[row].index(tokenizer.convert_tokens_to_ids(token))
            credited_K = [segment in each for each in rubric.segments]
            expected = centred_NK[row] @ (rubric.weights * credited_K)
            assert batch["advantages"][row, column].item() == pytest.approx(expected, abs=1e-5), (row, token)


def test_the_completions_are_what_they_are_meant_to_be(tokenizer: Any) -> None:
    parsed = [TEMPLATE.parse(each, truncated=index == 6) for index, each in enumerate(COMPLETIONS)]
    assert [each.status.value for each in parsed] == ["ok"] * 5 + ["missing_answer", "truncated", "ok"]
    assert [each.abstained for each in parsed] == [False, False, True, *[False] * 5]
    assert [len(each.step_confidences) for each in parsed] == [1, 1, 0, 0, 0, 0, 0, 1]
    assert set(OPTIONS) <= set(TERMS)


def test_a_signal_and_a_term_of_one_name_are_two_columns(make_trainer: Any, dictate: Any, tokenizer: Any) -> None:
    """The term is minus the signal."""
    trainer = make_trainer(
        rubric=Rubric.from_config({"accuracy": {}, "repetition": {}}), template=TEMPLATE,
        model=tiny_model(vocabulary=tokenizer, **SHAPE),
        tokenizer=tokenizer, rows=[ROW] * 8, max_completion_length=LENGTH,
    )  # fmt: skip
    ids = [[*tokenizer.encode(each, add_special_tokens=False), tokenizer.eos_token_id] for each in COMPLETIONS]
    dictate(trainer.model, [each[:LENGTH] for each in ids])
    trainer.model.train()
    trainer._generate_and_score_completions([dict(ROW)] * 8)
    logs = trainer._logs
    reward, signal = (np.array(each) for each in (logs["rewards"]["repetition"], logs["extra"]["signals/repetition"]))
    np.testing.assert_allclose(reward, -signal, atol=1e-6)
    assert signal.max() > 0.5
    assert not set(logs["rewards"]) & set(logs["extra"])
