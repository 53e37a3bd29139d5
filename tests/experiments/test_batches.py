"""A batch is made of whole groups over all processes, as TRL has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.config.recipe import load_recipe
from experiments.config.trainer import check_batch
from experiments.errors import ConfigError
from rl.config import CalibratedGRPOConfig

pytestmark = pytest.mark.usefixtures("no_model_is_loaded")


# -- batches ---------------------------------------------------------------------------------------------------------
def batch_refusal(monkeypatch: pytest.MonkeyPatch, processes: int | None, **trainer: Any) -> str | None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if processes is not None:
        monkeypatch.setenv("WORLD_SIZE", str(processes))
    try:
        check_batch(trainer)
    except ConfigError as error:
        return str(error)
    return None


def test_a_batch_is_made_of_whole_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    assert batch_refusal(monkeypatch, None, per_device_train_batch_size=16, num_generations=8) is None
    assert batch_refusal(monkeypatch, None, per_device_train_batch_size=12, num_generations=8) == (
        "trainer.num_generations: 8 does not divide the generation batch of 12 completions, "
        "12 a device x 1 processes x 1 steps a generation; use a batch of 8 or 16"
    )
    below_one_group = batch_refusal(monkeypatch, None, per_device_train_batch_size=4, num_generations=8)
    assert below_one_group is not None
    assert below_one_group.endswith("use a batch of 8")


def test_what_is_generated_at_once_is_whole_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = {"per_device_train_batch_size": 8, "num_generations": 4}
    assert batch_refusal(monkeypatch, 2, generation_batch_size=32, **usual) is None
    assert batch_refusal(monkeypatch, 2, generation_batch_size=24, **usual) == (
        "trainer.generation_batch_size: 24 is no multiple of 16, 8 a device x 2 processes; use 16 or 32"
    )
    assert str(batch_refusal(monkeypatch, None, generation_batch_size=4, **usual)).endswith("; use 8")


def test_all_processes_of_the_launch_make_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert batch_refusal(monkeypatch, 2, per_device_train_batch_size=4, num_generations=8) is None
    refused = batch_refusal(monkeypatch, 3, per_device_train_batch_size=4, num_generations=8)
    assert refused is not None
    assert "batch of 12 completions, 4 a device x 3 processes" in refused


def test_accumulation_and_an_explicit_generation_batch_count(monkeypatch: pytest.MonkeyPatch) -> None:
    few: dict[str, Any] = {"per_device_train_batch_size": 2, "num_generations": 8}
    assert batch_refusal(monkeypatch, None, **few, gradient_accumulation_steps=4) is None
    assert batch_refusal(monkeypatch, None, **few, gradient_accumulation_steps=3) is not None
    assert batch_refusal(monkeypatch, None, **few, gradient_accumulation_steps=3, steps_per_generation=4) is None
    assert batch_refusal(monkeypatch, None, **few, generation_batch_size=24) is None
    assert batch_refusal(monkeypatch, None, **few, generation_batch_size=20) is not None


def test_groups_of_one_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = batch_refusal(monkeypatch, None, num_generations=1)
    assert alone is not None
    assert alone.startswith("trainer.num_generations: 1 is below 2")


def test_ppo_takes_completions_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    check_batch({"per_device_train_batch_size": 5}, "ppo")
    check_batch({"num_generations": 1}, "ppo")
    with pytest.raises(ConfigError, match="4 does not divide the generation batch of 6 completions"):
        check_batch({"per_device_train_batch_size": 6, "num_generations": 4}, "ppo")
    with pytest.raises(ConfigError, match=r"trainer\.num_generations: 0 is below 1"):
        check_batch({"num_generations": 0}, "ppo")


@pytest.mark.parametrize("per_device", [3, 8, 12, 16])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_trl_agrees_on_which_batches_are_made_of_whole_groups(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, per_device: int, accumulation: int
) -> None:
    settings = {"per_device_train_batch_size": per_device, "gradient_accumulation_steps": accumulation}
    refused = batch_refusal(monkeypatch, None, **settings)
    try:
        CalibratedGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", **settings)
    except ValueError:
        assert refused is not None
    else:
        assert refused is None


def test_a_recipe_for_many_processes_can_be_read_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert load_recipe("rlvr", ["trainer.per_device_train_batch_size=1"]).trainer["num_generations"] == 4
