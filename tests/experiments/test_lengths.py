"""Prompts too long for a run are left out by key, or refused, before the weights load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.config.lengths import fitting_prompts
from experiments.config.recipe import load_recipe
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
