"""One record a training method, asked in place of its name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import experiments
from experiments.config.methods import METHODS
from experiments.config.trainer import check_batch
from tests.factories import Refusal

pytestmark = pytest.mark.usefixtures("no_model_is_loaded")


# -- methods -----------------------------------------------------------------------------------------------------------
def test_a_method_without_rollouts_takes_any_batch(refusal: Refusal) -> None:
    check_batch({"per_device_train_batch_size": 0}, "sft")
    assert refusal.recipe("warm_start", "monitors.window=3") == (
        "monitors: watch the rollouts of reinforcement learning, method sft has none"
    )


@pytest.mark.parametrize("path", sorted(Path(experiments.__file__).parent.rglob("*.py")), ids=lambda path: path.stem)
def test_no_module_asks_a_method_for_its_name(path: Path) -> None:
    compared = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare)
        and any(isinstance(each, ast.Constant) and each.value in METHODS for each in ast.walk(node))
    ]
    assert compared == []


def test_each_method_has_a_configuration() -> None:
    assert {name: method.configuration().__name__ for name, method in METHODS.items()} == {
        "grpo": "CalibratedGRPOConfig",
        "ppo": "CalibratedPPOConfig",
        "sft": "CalibratedSFTConfig",
        "self_ref": "SelfRefConfig",
        "recalibrate": "RecalibrateConfig",
        "rlsf_dpo": "SelfFeedbackDPOConfig",
        "rlsf_reward": "SelfFeedbackRewardConfig",
    }
