"""Tasks other than sums, and verifiers other than the default, from training to the probe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from experiments.cli import main
from experiments.commands.probe import checkpoint_recipe
from experiments.errors import ConfigError
from experiments.quickstart import quickstart
from experiments.tasks.rearrangement import Rearrangement


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
    for name, part in (("train", lines[:12]), ("test", lines[12:])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(part))
    sections = {
        "task": {
            "name": "dataset", "verifier": ["text"], "path": str(tmp_path), "chat": False, "instructions": False,
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


def test_a_tiny_policy_takes_a_step_on_it(policy: Any, tmp_path: Path) -> None:
    sections = {
        "task": {
            "name": "rearrangement",
            "train_size": 8,
            "max_prompt_tokens": 1000,  # more than the policy has positions, which its rotary ones bear
            "chat": False,
            "instructions": False,
            "template": {"levels": list(policy.template.levels)},
        },
        "model": {"path": str(policy.path), "attn_implementation": "eager"},
        "rubric": {"accuracy": {"weight": 1.0}, "brier": {"weight": 1.0}, "format": {"weight": 0.5}},
        "trainer": {
            "max_steps": 1, "per_device_train_batch_size": 4, "num_generations": 4, "max_completion_length": 12,
            "gradient_checkpointing": False, "use_cpu": True, "save_strategy": "no",
        },
    }  # fmt: skip
    recipe = tmp_path / "world.yaml"
    recipe.write_text(yaml.safe_dump(sections))
    assert main(["train", str(recipe), "--out", str(tmp_path / "run")]) == 0
    import pandas as pd

    table = pd.read_parquet(next((tmp_path / "run" / "completions").iterdir()))
    assert set(table["verdict"]) <= {"unparsed", "no_answer"}, "the end-state verifier judged digits"
    assert table["prompt"].str.startswith("The places: ").all()
    kept = yaml.safe_load((tmp_path / "run" / "final" / "calibration" / "recipe.yaml").read_text())
    assert kept["task"]["name"] == "rearrangement"
    assert json.loads(Rearrangement().rows("test", 1)[0]["answer"]).keys() == {"start", "goal", "places"}
