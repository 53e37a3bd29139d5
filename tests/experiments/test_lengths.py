"""Prompts too long for a run are left out by key, or refused, before the weights load."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments.config.lengths import fitting_prompts
from experiments.config.recipe import load_recipe
from experiments.errors import ConfigError
from experiments.probe.own_answers import to_short_prompts
from experiments.probe.self_training import PREPARATIONS
from experiments.train import train
from tests.factories import Refusal


@pytest.fixture
def asked(policy: Any, tmp_path: Path) -> tuple[str, ...]:
    """Overrides of `rlvr` that ask sums of one to twenty digits, a token a digit, of the policy with 64 positions."""
    for split, first in (("train", 1), ("test", 0)):
        rows = [{"question": "+".join(str((n + first) % 10) * n) + "=", "answer": "1"} for n in range(first, 21, 2)]
        rows = [row for row in rows if len(row["question"]) > 1]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {"name": "dataset", "path": str(tmp_path), "chat": False, "instructions": False}
    levels = json.dumps(list(policy.template.levels))
    return (f"task={json.dumps(task)}", f"task.template={{levels: {levels}}}", f"model.path={policy.path}")


def test_longer_ones_are_left_out_and_counted(
    asked: tuple[str, ...], policy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    from datasets import Dataset

    recipe = load_recipe("rlvr", [*asked, "task.max_prompt_tokens=20"])
    tokenizer = policy.load()[1]
    rows = Dataset.from_list(recipe.task.rows("train"))
    left = fitting_prompts(recipe, rows, tokenizer, 10, 64)
    assert max(len(tokenizer.encode(prompt)) for prompt in left["prompt"]) == 18 and len(left) == 5
    assert "5 of 10 prompts have more than 20 tokens and are left out" in caplog.text


@pytest.mark.parametrize("recipe", ["warm_start", "self_ref"])
def test_methods_without_rollouts_leave_out_longer_ones_too(
    recipe: str, asked: tuple[str, ...], tmp_path: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_on = []

    def rows(*arguments: Any) -> list[Any]:
        trained_on.extend(question["prompt"] for question in arguments[-1])
        return []

    def build_trainer(*arguments: Any) -> None:
        trained_on.extend(arguments[4]["prompt"])
        raise ConfigError("not trained")

    monkeypatch.setitem(PREPARATIONS, "self_ref", replace(PREPARATIONS["self_ref"], rows=rows))
    monkeypatch.setattr("experiments.train.build_trainer", build_trainer)
    template = ["task.template={confidence: token}"] if recipe == "self_ref" else []
    run = load_recipe(recipe, [*asked, *template, "task.max_prompt_tokens=20"])
    refusal.of(train, run, tmp_path / "run")
    assert len(trained_on) == 5 and max(map(len, trained_on)) <= 20
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", None)
    said = refusal.of(train, load_recipe(recipe, [*asked, *template, "task.max_prompt_tokens=1"]), tmp_path / "other")
    assert said == "task.max_prompt_tokens: 1 leaves no prompt, the shortest has 2 tokens"


def test_answers_of_another_run_are_left_out_by_their_prompts() -> None:
    frame = pd.DataFrame({"prompt_ids": [[1] * 3, [1] * 5], "completion": ["a", "b"]})
    assert to_short_prompts(frame, 4)["completion"].tolist() == ["a"] and len(to_short_prompts(frame, None)) == 2
    with pytest.raises(ConfigError, match=r"task\.max_prompt_tokens: 2 leaves no prompt, the shortest has 3 tokens"):
        to_short_prompts(frame, 2)


def test_without_the_key_what_does_not_fit_the_model_is_refused(
    asked: tuple[str, ...], tmp_path: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", None)  # weights would be loaded by it
    said = refusal.of(train, load_recipe("rlvr", asked), tmp_path / "run")
    assert said.startswith(
        "task.max_prompt_tokens: missing; 8 of 10 prompts leave less than trainer.max_completion_len"
    )
    assert "(56) of the 64 positions" in said and said.endswith("the longest has 38 tokens; at most 8 would be left in")
    said = refusal.of(train, load_recipe("rlvr", [*asked, "task.max_prompt_tokens=1"]), tmp_path / "run")
    assert said == "task.max_prompt_tokens: 1 leaves no prompt, the shortest has 2 tokens"
