"""A run that is killed and resumed ends as the run that was not."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from experiments.cli import main
from experiments.files import LOCK
from rl.files import last_complete_checkpoint
from rl.monitoring.callbacks import MetricsFile
from rl.monitoring.progress import Progress
from tests.integration.runs import TIMES, files_in, records_in, same_run, steps_in

ROOT = Path(__file__).parents[2]
STEPS, SAVE = 24, 3


@pytest.fixture(scope="module")
def recipe(policy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "short.yaml"
    sections = {
        "task": {
            "name": "arithmetic",
            "max_steps": 1,
            "max_value": 19,
            "train_size": 200,
            "template": {"levels": list(policy.template.levels)},
        },
        "model": {"path": str(policy.path), "attn_implementation": "eager"},
        "rubric": {"accuracy": {"weight": 1.0}, "brier": {"weight": 1.0}, "format": {"weight": 0.5}},
        "trainer": {
            "method": "grpo",
            "confidence_loss_weight": 1.0,
            "max_steps": STEPS,
            "save_steps": SAVE,
            "learning_rate": 1e-3,
            "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 2,
            "num_generations": 4,
            "max_completion_length": 10,
            "gradient_checkpointing": False,
            "use_cpu": True,
        },
    }
    path.write_text(yaml.safe_dump(sections))
    return path


@pytest.fixture(scope="module")
def uninterrupted(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert main(["train", str(recipe), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def killed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was killed some steps after a checkpoint."""
    out = tmp_path_factory.mktemp("killed") / "run"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-m", "experiments", "train", str(recipe), "--out", str(out)]
    with (out.parent / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        try:
            deadline = time.monotonic() + 240
            while not any(step > 2 * SAVE for step in steps_in(out)):
                assert process.poll() is None, (out.parent / "log").read_text()[-4000:]
                assert time.monotonic() < deadline, "the run does not get on"
                time.sleep(0.005)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
    assert not (out / "final").exists(), "it was killed before its end"
    return out


CASES: dict[str, dict[str, Any]] = {
    "grpo": {
        "trainer": {"gradient_accumulation_steps": 2, "logging_steps": 2, "log_completions_rows": 3},
        "monitors": {"window": 2, "max_truncated_unparsed": 0.0},
        "probe": {"every": 2, "every_size": 8},
    },
    # Six updates on each rollout, so that a checkpoint at the third is in the middle of it.
    "grpo_iterations": {"trainer": {"num_iterations": 3, "steps_per_generation": 2, "per_device_train_batch_size": 4}},
    # Neither number divides the other: a pass is four batches in two updates, of three and of one, so that step 3 is in
    # the middle of a rollout, at the seventh batch and not at the ninth.
    "grpo_uneven": {
        "trainer": {"gradient_accumulation_steps": 3, "steps_per_generation": 4, "per_device_train_batch_size": 2},
        "task": {"train_size": 2},
    },
    # Two steps are a pass over all questions, so that step 3 is in the middle of the second.
    "grpo_passes": {"task": {"train_size": 4}},
    "ppo_passes": {"task": {"train_size": 16}},
    "sft_passes": {"task": {"train_size": 16}},
    "ppo": {"trainer": {"num_iterations": 2, "critic_learning_rate": 0.01}, "probe": {"every": 2, "every_size": 8}},
    "ppo_separate": {"trainer": {"value_model": "separate"}},
    "sft": {"probe": {"every": 2, "every_size": 8}},
}
"""What to change in a recipe of six steps with a checkpoint after the third; the method is the name's first part."""
KILLED_AFTER = 4


@pytest.mark.parametrize("case", CASES)
def test_every_method_goes_on_as_if_it_had_not_been_interrupted(
    case: str, write_recipe: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = str(write_recipe(case.partition("_")[0], **CASES[case]))
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    assert main(["train", recipe, "--out", str(whole)]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "on_step_end", interrupt_after_step)
        assert main(["train", recipe, "--out", str(resumed)]) == 130
    assert last_complete_checkpoint(resumed) == resumed / f"checkpoint-{SAVE}"
    assert main(["train", recipe, "--out", str(resumed), "--resume"]) == 0
    same_run(whole, resumed)


@pytest.mark.parametrize("key", ["processes", "trainer.gradient_accumulation_steps", "trainer.steps_per_generation"])
def test_a_run_is_not_resumed_with_its_batches_split_in_another_way(
    key: str, write_recipe: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = str(write_recipe(trainer={"max_steps": 4})), tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "on_step_end", interrupt_after_step)
        assert main(["train", recipe, "--out", str(out)]) == 130
    path = out / f"checkpoint-{SAVE}" / "progress.json"
    progress = json.loads(path.read_text())
    assert progress["layout"][key] == 1
    path.write_text(json.dumps({**progress, "layout": {**progress["layout"], key: 2}}))
    before = steps_in(out)
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.train.open_weights", lambda *_: pytest.fail("weights were loaded before"))
        assert main(["train", recipe, "--out", str(out), "--resume"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"checkpoint-{SAVE} cannot be gone on from with {key}: 1, it was written with {key}: 2" in line
    assert steps_in(out) == before and not (out / "final").exists()


def test_a_run_is_not_resumed_from_a_part_of_its_state(
    write_recipe: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # transformers goes on without a file that it does not find, to other weights.
    recipe, out = str(write_recipe(trainer={"max_steps": 4})), tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "on_step_end", interrupt_after_step)
        assert main(["train", recipe, "--out", str(out)]) == 130
    checkpoint = out / f"checkpoint-{SAVE}"
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"):
        (checkpoint / name).rename(out / name)
        capsys.readouterr()
        assert main(["train", recipe, "--out", str(out), "--resume"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line == f"candor: --resume: {checkpoint} cannot be gone on from: its {name} is gone"
        (out / name).rename(checkpoint / name)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("method", ["grpo", "ppo", "sft"])
def test_a_run_killed_at_ten_random_times_ends_as_one_that_was_not(
    method: str, write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    """Each kill falls some way into a step drawn at random: an update, the sampling, the probe or a checkpoint."""
    monitors = {"monitors": {"window": 3}} if method != "sft" else {}
    recipe = write_recipe(method, trainer={"max_steps": 100}, probe={"every": 4, "every_size": 8}, **monitors)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed, draw = tmp_path / "killed", random.Random(0)
    command = [sys.executable, "-m", "experiments", "train", str(recipe), "--resume", "--out", str(killed)]
    for step in sorted(draw.sample(range(1, 80), 10)):
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                command, env=environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )
            try:
                while max(steps_in(killed), default=0) < step:
                    assert process.poll() is None, (tmp_path / "log").read_text()[-4000:]
                    time.sleep(0.002)
                time.sleep(draw.uniform(0.0, 0.1))
                assert process.poll() is None, "it was killed before its end"
            finally:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(30)
    assert main(["train", str(recipe), "--out", str(killed), "--resume"]) == 0
    assert main(["train", str(recipe), "--out", str(tmp_path / "whole")]) == 0
    same_run(tmp_path / "whole", killed)


def interrupt_after_step(self: Progress, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
    if state.global_step == KILLED_AFTER:
        raise KeyboardInterrupt


def test_a_killed_run_goes_on_to_the_same_weights_and_metrics(
    recipe: Path, uninterrupted: Path, killed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(killed, out)
    complete = last_complete_checkpoint(out)
    assert complete is not None and 2 * SAVE <= int(complete.name.split("-")[1]) < STEPS
    half_written = out / f"checkpoint-{int(complete.name.split('-')[1]) + SAVE}"
    shutil.rmtree(half_written, ignore_errors=True)
    half_written.mkdir()
    (half_written / "model.safetensors").write_bytes((complete / "model.safetensors").read_bytes()[:1000])
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 23, "loss": 0.1}\n{"step": 24, "lo')  # logged past the checkpoint, and cut off

    assert main(["train", str(recipe), "--out", str(out), "--resume"]) == 0

    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (out / "final" / name).read_bytes() == (uninterrupted / "final" / name).read_bytes(), name
    assert steps_in(out) == steps_in(uninterrupted) == list(range(1, STEPS + 1))
    for ours, theirs in zip(records_in(out), records_in(uninterrupted), strict=True):
        if "loss" in ours:
            assert {k: v for k, v in ours.items() if k not in TIMES} == {
                k: v for k, v in theirs.items() if k not in TIMES
            }
    assert files_in(out / "completions") == files_in(uninterrupted / "completions")
    assert last_complete_checkpoint(out) == out / f"checkpoint-{STEPS}"


def test_a_run_changes_its_weights_on_the_way(uninterrupted: Path, policy: Any) -> None:
    """Else the comparison above would say nothing."""
    final = (uninterrupted / "final" / "model.safetensors").read_bytes()
    assert final != (policy.path / "model.safetensors").read_bytes()
    checkpoints = {path.name for path in uninterrupted.glob("checkpoint-*")}
    assert checkpoints == {f"checkpoint-{STEPS - SAVE}", f"checkpoint-{STEPS}"}, "two are kept"
    losses = [record["confidence_loss"] for record in records_in(uninterrupted) if "loss" in record]
    assert len(set(losses)) == STEPS


def test_a_finished_run_is_left_as_it_is(recipe: Path, uninterrupted: Path) -> None:
    def state() -> dict[str, int]:
        files = [path for path in uninterrupted.rglob("*") if path.is_file() and path.name != LOCK]
        return {str(path): path.stat().st_mtime_ns for path in files}

    before = state()
    assert main(["train", str(recipe), "--out", str(uninterrupted), "--resume"]) == 0
    assert state() == before


def test_a_run_is_not_overwritten_nor_resumed_as_another(
    recipe: Path, killed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_in(killed)
    assert main(["train", str(recipe), "--out", str(killed)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["train", str(recipe), "trainer.learning_rate=1e-4", "--out", str(killed), "--resume"]) == 2
    assert "differs" in capsys.readouterr().err
    assert files_in(killed) == before


@pytest.mark.parametrize("step", [0, 2])
def test_the_metrics_file_keeps_what_lies_before_the_step_resumed_from(step: int, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {n}, "loss": {n}.5}}\n' for n in range(1, 5)) + '{"step": 5, "lo')
    arguments = SimpleNamespace(output_dir=str(tmp_path))
    state = SimpleNamespace(is_world_process_zero=True, global_step=step)
    MetricsFile().on_train_begin(arguments, state, None)
    assert steps_in(tmp_path) == list(range(1, step + 1))
    state.global_step = step + 1
    MetricsFile().on_log(arguments, state, None, logs={"loss": 1.0, "calibration/auroc": float("nan")})
    assert records_in(tmp_path)[-1] == {"step": step + 1, "loss": 1.0, "calibration/auroc": None}
    assert max(Counter(steps_in(tmp_path)).values()) == 1


def test_other_processes_leave_the_metrics_file_alone(tmp_path: Path) -> None:
    arguments = SimpleNamespace(output_dir=str(tmp_path))
    state = SimpleNamespace(is_world_process_zero=False, global_step=1)
    MetricsFile().on_train_begin(arguments, state, None)
    MetricsFile().on_log(arguments, state, None, logs={"loss": 1.0})
    assert files_in(tmp_path) == set()
