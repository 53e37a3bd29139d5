"""A recipe chooses what judges its answers, and that choice is what training, checkpoint and probe go by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from experiments.cli import main
from experiments.commands.probe import checkpoint_recipe
from experiments.config.recipe import load_recipe
from experiments.errors import ConfigError
from experiments.quickstart import quickstart
from experiments.tasks import TASKS, Arithmetic
from rewards.verifiers.pessimistic import PessimisticPool
from rewards.verifiers.pool import VERIFIERS, VerifierPool


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load_recipe("rlvr", overrides)
    return str(refused.value)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        (["task.verifier=maths"], ["task.verifier: 'maths' is not one of math, text, token_f1", "did you mean math?"]),
        (["task.verifier=choice"], ["task.verifier: 'choice' is not one of"]),
        (["task.verifier=[math, txt]"], ["task.verifier: 'txt' is not one of", "did you mean text?"]),
        (["task.verifier=[math, math]"], ["task.verifier: math, math names one twice"]),
        (["task.verifier=[]"], ["task.verifier: names none", "allowed: math, text, token_f1"]),
        (["task.verifier=3"], ["task.verifier: 3 is no text or list"]),
        (["task.verifer=math"], ["task.verifer: unknown key", "did you mean verifier?"]),
        (["task.verifier=[math, text]", "task.verifier_beta=-1"], ["task.verifier_beta: -1.0 is not from 0 up"]),
        (["task.verifier_beta=0.5"], ["task.verifier_beta: 0.5 has no effect with one verifier"]),
    ],
)
def test_a_wrong_choice_is_told_from_a_right_one(override: list[str], parts: list[str]) -> None:
    message = refusal(*override)
    assert all(part in message for part in parts), message


def test_every_task_names_verifiers_that_there_are_and_defaults_to_one_of_them() -> None:
    for kind in TASKS.values():
        assert set(kind.verifiers) <= VERIFIERS.keys()
        assert kind.__dataclass_fields__["verifier"].default in kind.verifiers


@pytest.mark.parametrize(
    ("choice", "kind", "graded"),
    [
        ({}, VerifierPool, False),
        ({"verifier": ("text",)}, VerifierPool, False),
        ({"verifier": ("math", "text")}, PessimisticPool, False),
        ({"verifier": ("math", "text"), "verifier_beta": 0.1}, PessimisticPool, True),
        ({"verifier": "token_f1"}, VerifierPool, True),
        ({"verifier": ("math", "token_f1")}, PessimisticPool, True),
    ],
)
def test_one_verifier_is_a_pool_and_several_are_combined(choice: dict[str, Any], kind: type, graded: bool) -> None:
    task = Arithmetic(**choice)
    assert task.graded == graded
    with task.open_verifier() as verifier:
        assert type(verifier) is kind
        right, respelled = verifier.verify(golds=["10", "10"], answers=["10", "20/2"])
    assert right.correct == 1.0
    by_value = task.verifier_names == ("math",)
    assert respelled.correct == (1.0 if by_value else pytest.approx(0.069, abs=1e-3) if task.verifier_beta else 0.0)


def test_a_probe_refuses_verdicts_that_its_metrics_cannot_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for overrides in (["task.verifier=token_f1"], ["task.verifier=[math, text]", "task.verifier_beta=0.5"]):
        with pytest.raises(ConfigError, match=r"grades answers, .* set task.verifier to some of math, text"):
            checkpoint_recipe("tiny-small", "rlvr", overrides)
    assert checkpoint_recipe("tiny-small", "rlvr", ["task.verifier=[math, text]"]).task.verifier == ("math", "text")
    with pytest.raises(ConfigError, match="token_f1 grades answers"):
        quickstart(tmp_path / "run", ["task.verifier=token_f1"])
    file = tmp_path / "completions.jsonl"
    file.write_text('{"prompt": "p", "gold": "x", "completion": "y"}\n')
    command = ["probe", "--completions", str(file), "--verifier", "token_f1", "--out", str(tmp_path / "probe")]
    assert main(command) == 2
    assert "--verifier: 'token_f1' is not one of math, choice, text, state" in capsys.readouterr().err


def test_training_checkpoint_and_probe_go_by_the_recipe(policy: Any, tmp_path: Path) -> None:
    """Golds that only the verifier asked for can read: lists of aliases, in which every answer of the policy is."""
    aliases = [str(number) for number in range(100)]
    lines = [json.dumps({"prompt": row["prompt"], "answer": aliases}) for row in policy.rows]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    sections = {
        "task": {
            "name": "jsonl", "verifier": ["text"], "train_path": str(tmp_path / "mine.jsonl"), "chat": False,
            "test_path": str(tmp_path / "mine.jsonl"), "instructions": False,
            "template": {"levels": list(policy.template.levels)},
        },
        "model": {"path": str(policy.path), "attn_implementation": "eager"},
        "rubric": {"accuracy": {"weight": 1.0}, "brier": {"weight": 1.0}},
        "trainer": {
            "max_steps": 1, "per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 10,
            "gradient_checkpointing": False, "use_cpu": True, "save_strategy": "no",
        },
        "probe": {"size": 10, "resamples": 20},
    }  # fmt: skip
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(yaml.safe_dump(sections))
    assert main(["train", str(recipe), "--out", str(tmp_path / "run")]) == 0
    table = pd.read_parquet(next((tmp_path / "run" / "completions").iterdir()))
    answered = table[table["answer"].notna() & table["answer"].str.isdigit()]
    assert len(answered) >= 4 and (answered["correct"] == 1.0).all()
    assert main(["probe", str(tmp_path / "run" / "final"), "--out", str(tmp_path / "probe")]) == 0
    records = pd.read_parquet(tmp_path / "probe" / "records.parquet")
    answered = records[records["answer"].str.isdigit().fillna(False)]
    assert len(answered) >= 5 and (answered["correct"] == 1.0).all() and (answered["verdict"] == "equal").all()
