"""What training refuses before it loads a model or writes a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from experiments.config.recipe import load_recipe
from experiments.files import LOCK
from experiments.train import train
from rl.files import mark_complete
from tests.factories import Refusal, gsm8k_lines

pytestmark = pytest.mark.usefixtures("no_model_is_loaded")


@pytest.fixture
def training_refusal(refusal: Refusal) -> Callable[..., str]:
    """Why training with a recipe and its overrides into a folder is refused."""

    def of(out: Path, name: str, *overrides: str, resume: bool = False) -> str:
        return refusal.of(train, load_recipe(name, overrides), out, resume=resume)

    return of


def test_a_path_that_no_file_can_have_is_refused_in_one_line(
    tmp_path: Path, training_refusal: Callable[..., str], refusal: Refusal
) -> None:
    assert "is not a file or folder here" in refusal.recipe("smollm2_gsm8k", f"task.path={'x' * 5000}")
    message = training_refusal(tmp_path / "run", "rlvr", f"model.path={'x/' * 3000}y")
    assert "no such folder" in message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.per_device_train_batch_size=14", "4 does not divide the generation batch of 14 completions"),
        ("trainer.scale_rewards=group", "trainer.scale_rewards: 'group' has no effect here, set trainer.scaling"),
        ("trainer.credit=segmnt", "trainer.credit: 'segmnt' is not one of sequence, segment"),
        ("trainer.scaling=std", "trainer.scaling: 'std' is not one of none, "),
        ("trainer.confidence_entropy_end=-1", "trainer.confidence_entropy_end: -1.0 is below 0"),
        ("trainer.confidence_loss_weight=0", "trainer.confidence_entropy_coef: has no effect without the closed form"),
        ("trainer.confidence_loss_weight=-1", "trainer.confidence_loss_weight: -1.0 is below 0"),
        ("trainer.auto_find_batch_size=true", "trainer: auto_find_batch_size is not supported by GRPO"),
        ("model.path=./absent", "model.path: ./absent: no such folder"),
    ],
)
def test_training_refuses_before_it_loads_or_writes(
    tmp_path: Path, override: str, message: str, training_refusal: Callable[..., str]
) -> None:
    assert message in training_refusal(tmp_path / "run", "candor", override)
    # The folder is as good as new: the same command with the value put right is not told that a run is there.
    assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK]


def test_a_critic_that_is_not_there_is_named_before_the_policy_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training_refusal: Callable[..., str]
) -> None:
    monkeypatch.setattr("experiments.config.models.open_policy", None)
    separate = ("trainer.value_model=separate", "model.critic_path=./absent", "task.train_size=200")
    message = training_refusal(tmp_path / "run", "candor_ppo", *separate)
    assert message.startswith("model.critic_path: ./absent: no such folder")


def test_broken_training_data_names_file_and_line(tmp_path: Path, training_refusal: Callable[..., str]) -> None:
    paths = gsm8k_lines(tmp_path, '{"question": "2+2?", "answer": "#### 4"}', '{"question": "2+3?"')
    message = training_refusal(tmp_path / "run", "smollm2_gsm8k", *paths)
    assert f"task: {tmp_path}/train.jsonl:2: not JSON: " in message


def test_more_training_data_than_there_is_is_refused(tmp_path: Path, training_refusal: Callable[..., str]) -> None:
    message = training_refusal(tmp_path / "run", "smollm2_gsm8k", *gsm8k_lines(tmp_path), "task.train_size=5")
    assert message.endswith("train.jsonl has 1 questions for train, 5 were asked for")


def test_a_warm_start_cannot_write_what_its_rows_do_not_have(
    tmp_path: Path, training_refusal: Callable[..., str]
) -> None:
    message = training_refusal(tmp_path / "run", "warm_start", "task.template.analysis=required", "task.train_size=5")
    assert message.startswith("task: a completion with ")
    assert "missing_field" in message


def kept_run(out: Path, *overrides: str) -> None:
    out.mkdir()
    (out / "recipe.yaml").write_text(yaml.safe_dump(load_recipe("rlvr", overrides).source, sort_keys=False))


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path, training_refusal: Callable[..., str]) -> None:
    kept_run(tmp_path / "run")
    message = training_refusal(tmp_path / "run", "rlvr")
    assert message == f"--out {tmp_path}/run: holds a run already; add --resume to go on with it, or choose another"


def test_a_run_is_not_resumed_with_another_recipe(tmp_path: Path, training_refusal: Callable[..., str]) -> None:
    kept_run(tmp_path / "run", "trainer.max_steps=3")
    message = training_refusal(tmp_path / "run", "rlvr", "trainer.max_steps=4", resume=True)
    differs = f"--resume {tmp_path}/run: its recipe.yaml differs from the recipe asked for in"
    assert message == f"{differs} trainer.max_steps (there 3, here 4)"
    message = training_refusal(tmp_path / "run", "rlvr", "trainer.max_steps=3", "trainer.top_k=7", resume=True)
    assert message == f"{differs} trainer.top_k (there nothing, here 7)"


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    kept_run(tmp_path / "run")
    (tmp_path / "run" / "final").mkdir()
    mark_complete(tmp_path / "run" / "final", 300)
    assert train(load_recipe("rlvr"), tmp_path / "run", resume=True) == tmp_path / "run" / "final"


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, training_refusal: Callable[..., str]) -> None:
    (tmp_path / "file").write_text("")
    message = training_refusal(tmp_path / "file" / "run", "rlvr")
    assert message == f"--out {tmp_path}/file/run: cannot be written: Not a directory"


def test_only_the_main_process_looks_at_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training_refusal: Callable[..., str]
) -> None:
    kept_run(tmp_path / "run")
    monkeypatch.setenv("RANK", "1")
    # It gets as far as the model: its folder is the main process's business.
    assert "model.path" in training_refusal(tmp_path / "run", "rlvr", "model.path=./absent")


def test_a_mix_needs_as_many_prompts_as_a_batch_has_groups(
    tmp_path: Path, training_refusal: Callable[..., str]
) -> None:
    mix = "trainer.difficulty_mix={hard: 1, easy: 1}"
    message = training_refusal(tmp_path / "run", "rlvr", mix, "task.train_size=8")
    assert message == "trainer.difficulty_mix: a batch asks 32 different prompts and the task has 8 to train on"


def test_ppo_trains_all_tokens(tmp_path: Path, training_refusal: Callable[..., str]) -> None:
    message = training_refusal(tmp_path / "run", "candor_ppo", "trainer.trained_tokens=confidence")
    assert message.startswith("trainer.trained_tokens: 'confidence' leaves rewards of answers without a token")
