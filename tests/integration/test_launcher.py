"""``candor train --launch``: what is refused before a process starts, and runs on two ranks that end, fail and stop."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file

from experiments.config.recipe import load_recipe
from experiments.launch.launcher import launch_file, launch_names, process_count
from experiments.replay import replay
from tests.factories import Refusal

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "experiments" / "launch"
TIMES = {"step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second"}
TIMES |= {"time/generate", "time/score", "time/update"}


@pytest.fixture(scope="module")
def recipe(policy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Groups of four, two completions on each of two ranks: every group is split."""
    path = tmp_path_factory.mktemp("recipe") / "split.yaml"
    template = {"levels": list(policy.template.levels)}
    sections = {
        "task": {"name": "arithmetic", "max_steps": 1, "max_value": 19, "train_size": 200, "template": template},
        "model": {"path": str(policy.path), "attn_implementation": "eager"},
        "rubric": {"accuracy": {}, "brier": {}, "format": {"weight": 0.5}},
        "trainer": {
            "method": "grpo", "confidence_loss_weight": 1.0, "max_steps": 4, "save_steps": 2, "save_total_limit": 3,
            "learning_rate": 1e-3, "per_device_train_batch_size": 2, "num_generations": 4, "max_completion_length": 10,
            "gradient_checkpointing": False,
        },
    }  # fmt: skip
    path.write_text(yaml.safe_dump(sections))
    return path


@pytest.fixture
def start(recipe: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts a command of the recipe on two ranks, ``OUT`` being the run's folder; its output goes to files."""

    def begin(module: str, *arguments: object) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        given = [str(recipe) if each == "RECIPE" else str(each) for each in arguments]
        with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
            return subprocess.Popen(
                [sys.executable, "-m", module, *given], env=environment, cwd=tmp_path, stdout=out, stderr=err
            )

    return begin


def said(folder: Path) -> list[str]:
    """What a run has written on standard error, without its progress bars, of which a line holds several."""
    lines = [line.rpartition("\r")[2] for line in (folder / "err").read_text().splitlines()]
    return [line for line in lines if line and "it/s]" not in line and "step/s" not in line]


def records(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [json.loads(line) for line in lines if line.endswith("}")]
    return [{name: record[name] for name in record.keys() - TIMES} for record in kept if "loss" in record]


def wait_for_step(run: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 200
    while not any(record["step"] >= step for record in records(run)):
        assert process.poll() is None and time.monotonic() < deadline, "the run does not get on"
        time.sleep(0.05)


def ranks_of(process: subprocess.Popen[bytes]) -> dict[int, int]:
    """Process id of each rank of a launch."""
    found = {}
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        variables = dict(each.partition("=")[::2] for each in Path(f"/proc/{child}/environ").read_text().split("\0"))
        if "RANK" in variables:
            found[int(variables["RANK"])] = int(child)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# -- before a process starts -------------------------------------------------------------------------------------------


def test_what_cannot_be_launched_is_refused(recipe: Path, tmp_path: Path, refusal: Refusal) -> None:
    train = ("train", recipe, "--out", tmp_path / "run")
    assert refusal.command(*train, "--launch", "zero4").startswith(
        "--launch 'zero4' is not one of cpu2, ddp, zero2, zero3, zero3_offload (did you mean zero"
    )
    assert refusal.command(*train, "--launch", "zero4.yaml") == "--launch zero4.yaml: no such file"
    assert "expected one process for each GPU" in refusal.command(*train, "--launch", "zero3")
    assert "0 is below 1" in refusal.command(*train, "--launch", "zero3", "--num-processes", 0)
    assert "1 is below 2" in refusal.command(*train, "--launch", "ddp", "--num-processes", 1)
    assert refusal.command(*train, "--num-processes", 2).startswith("--num-processes: has no effect without --launch")
    batch = refusal.command(*train, "--launch", "ddp", "--num-processes", 3)
    assert "6 completions, 2 a device x 3 processes x 1 steps a generation; use a batch of 4 or 8" in batch
    absent = refusal.command(*train, "model.path=./absent", "--launch", "cpu2")
    assert absent.startswith("model.path: ./absent: no such folder")
    assert not (tmp_path / "run" / "logs").exists(), "nothing was started"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("distributed_type: MULTI_CPU", "distributed_type: 'MULTI_CPU' is not one of MULTI_GPU, DEEPSPEED, FSDP"),
        ("num_processes: 2", "distributed_type: None is not one of"),
        ("{distributed_type: MULTI_GPU, num_machines: 2}", "num_machines: 2 is not 1; many machines are started by"),
        ("[", "not YAML"),
    ],
)
def test_a_launch_file_that_starts_nothing_here_is_refused(
    text: str, message: str, tmp_path: Path, refusal: Refusal
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    message_read = refusal.of(lambda: process_count(launch_file(str(path)), 2))
    assert message_read.startswith(f"--launch {path}: {message}")


def test_the_shipped_files_are_accelerates_and_leave_the_number_of_processes_open() -> None:
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

    assert launch_names() == ["cpu2", "ddp", "zero2", "zero3", "zero3_offload"]
    for name in launch_names():
        settings = load_config_from_file(str(launch_file(name)))
        assert isinstance(settings, ClusterConfig)
        assert settings.num_processes == (2 if name == "cpu2" else -1)
        assert process_count(launch_file(name), 7) == 7
        assert not name.startswith("zero") or process_count(launch_file(name), 1) == 1, "states of one GPU may move too"
        stage = {"zero2": 2, "zero3": 3, "zero3_offload": 3}.get(name)
        assert settings.deepspeed_config.get("zero_stage") == stage
        # Anything else starts many nodes over ssh.
        assert stage is None or settings.deepspeed_config["deepspeed_multinode_launcher"] == "standard"


# -- two ranks ---------------------------------------------------------------------------------------------------------
def await_end(ranks: dict[int, int]) -> None:
    """Wait until no rank is left: the system takes a moment to end the last of them."""
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in ranks.values()):
        assert time.monotonic() < deadline, "ranks outlive their launcher"
        time.sleep(0.1)


def test_an_interrupt_ends_every_rank_and_tells_how_to_go_on(start: Any, tmp_path: Path) -> None:
    process = start("experiments", "train", "RECIPE", "--launch", "cpu2", "--out", "run")
    while len(ranks := ranks_of(process)) < 2:
        assert process.poll() is None, said(tmp_path)
        time.sleep(0.05)
    assert set(ranks) == {0, 1}
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    await_end(ranks)
    assert said(tmp_path) == ["candor: interrupted; the same command with --resume goes on from the last checkpoint"]


@pytest.mark.slow
def test_a_termination_saves_first_and_a_killed_launcher_takes_its_ranks_along(start: Any, tmp_path: Path) -> None:
    command = ("experiments", "train", "RECIPE", "trainer.max_steps=10000", "trainer.save_steps=5000")
    command += ("--launch", "cpu2", "--out", "run")
    process = start(*command)
    wait_for_step(tmp_path / "run", 1, process)
    ranks = ranks_of(process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143 and len(ranks) == 2
    await_end(ranks)
    assert said(tmp_path) == [
        "candor: ended by SIGTERM; the same command with --resume goes on from the last checkpoint"
    ]
    (saved,) = (tmp_path / "run").glob("checkpoint-*")
    assert (saved / "candor_complete.json").is_file()

    before = len(records(tmp_path / "run"))
    process = start(*command, "--resume")
    wait_for_step(tmp_path / "run", before + 2, process)
    ranks = ranks_of(process)
    process.kill()
    await_end(ranks)


def test_a_rank_that_is_killed_ends_the_run_and_is_named(start: Any, tmp_path: Path) -> None:
    process = start("experiments", "train", "RECIPE", "trainer.max_steps=10000", "--launch", "cpu2", "--out", "run")
    wait_for_step(tmp_path / "run", 1, process)
    ranks = ranks_of(process)
    os.kill(ranks[1], signal.SIGKILL)
    assert process.wait(60) == 1
    await_end(ranks)
    errors = [line for line in said(tmp_path) if "candor:" in line]
    assert errors == ["candor: rank 1 was ended by SIGKILL, which is what the system does when memory runs out"]
    assert "Traceback" not in (tmp_path / "err").read_text()


def test_what_every_rank_refuses_is_said_once(start: Any, policy: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(policy.path, broken)
    (broken / "model.safetensors").write_bytes(b"not weights")
    process = start("experiments", "train", "RECIPE", f"model.path={broken}", "--launch", "cpu2", "--out", "run")
    assert process.wait(120) == 2
    (line,) = said(tmp_path)
    assert line.startswith(f"candor: model.path: {broken} cannot be loaded: ")


def test_under_zero_2_a_launch_by_hand_resumed_by_the_command_equals_one_that_was_not_stopped(
    start: Any, tmp_path: Path
) -> None:
    by_hand = ("--config_file", LAUNCH / "zero2.yaml", "--num_processes", 2, "-m", "experiments", "train")
    process = start("accelerate.commands.launch", *by_hand, "RECIPE", "--out", "whole")
    assert process.wait(280) == 0, (tmp_path / "err").read_text()[-4000:]
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    shutil.copytree(whole, halved, ignore=shutil.ignore_patterns("checkpoint-4", "final"))
    process = start(
        "experiments", "train", "RECIPE", "--launch", "zero2", "--num-processes", 2, "--out", halved, "--resume"
    )
    assert process.wait(200) == 0, (tmp_path / "err").read_text()[-4000:]
    for folder in ("checkpoint-4", "final"):
        weights, resumed = (load_file(run / folder / "model.safetensors") for run in (whole, halved))
        assert all((weights[name] == resumed[name]).all() for name in weights)
    start_weights = load_file(whole / "checkpoint-2" / "model.safetensors")
    assert any((weights[name] != start_weights[name]).any() for name in weights), "they moved after the checkpoint"
    assert records(halved) == records(whole)
    assert (tmp_path / "out").read_text().count("holds the trained policy") == 1, "rank 0 alone has the terminal"
    assert len(list(halved.glob("logs/*/*/1/stderr.log"))) == 1, "the other rank's output is kept"
    assert [record["step"] for record in records(whole)] == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grpo", "ppo", "sft"])
def test_under_zero_2_the_other_methods_go_on_as_if_they_had_not_stopped(
    method: str, write_recipe: Callable[..., Path], start: Any, tmp_path: Path
) -> None:
    # Two steps are a pass over the questions, so that step 3 is in the middle of the second.
    recipe = write_recipe(method, task={"train_size": 8 if method == "grpo" else 32})
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    for out, more in ((whole, ()), (halved, ("--resume",))):
        if more:
            shutil.copytree(whole, halved, ignore=shutil.ignore_patterns("checkpoint-6", "final"))
        process = start("experiments", "train", recipe, "--launch", "zero2", "--num-processes", 2, "--out", out, *more)
        assert process.wait(280) == 0, (tmp_path / "err").read_text()[-4000:]
    names = ["model.safetensors", *(["critic/critic.safetensors"] if method == "ppo" else [])]
    for name in names:
        weights, resumed = (load_file(run / "final" / name) for run in (whole, halved))
        assert all((weights[key] == resumed[key]).all() for key in weights)
        before = load_file(whole / "checkpoint-3" / name)
        assert any((weights[key] != before[key]).any() for key in weights), "they moved after the checkpoint"
    assert records(halved) == records(whole)


@pytest.mark.slow
@pytest.mark.parametrize("launch", ["cpu2", "zero3"])
@pytest.mark.parametrize("method", ["self_ref", "recalibrate", "rlsf_dpo", "rlsf_reward"])
def test_two_ranks_share_the_questions_and_learn_what_one_process_learns(
    method: str, launch: str, write_recipe: Callable[..., Path], start: Any, tmp_path: Path
) -> None:
    rounds = {"rounds": 2} if method == "rlsf_dpo" else {}
    sections: dict[str, Any] = {"task": {"train_size": 60}}
    if method == "self_ref":
        sections = {
            "task": {"train_size": 60, "template": {"confidence": "token"}},
            "estimators": {"confidence_token": {}, "answer_probability": {}},
            "probe": {"confidence": "confidence_token"},
        }
    one = write_recipe(method, **sections, trainer=rounds)
    # What is sampled depends on the number of processes: it is answered once.
    given = {"own_answers": str(tmp_path / "one" / "own_answers.parquet")} if method == "recalibrate" else {}
    two = write_recipe(method, **sections, trainer={**rounds, **given, "per_device_train_batch_size": 4})
    for recipe, out, more in ((one, "one", ()), (two, "two", ("--launch", launch, "--num-processes", 2))):
        process = start("experiments", "train", recipe, "--out", out, *more)
        assert process.wait(280) == 0, (tmp_path / "err").read_text()[-4000:]
    for folder in ("round-1", "round-2") if rounds else (".",):
        alone, both = (tmp_path / out / folder for out in ("one", "two"))
        tables = {each.name for each in alone.glob("*.parquet")} - ({"own_answers.parquet"} if given else set())
        assert tables
        for table in tables:
            pd.testing.assert_frame_equal(*(pd.read_parquet(run / table) for run in (alone, both)))
        losses = [[record["loss"] for record in records(run)] for run in (alone, both)]
        assert len(losses[0]) == 6 and losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.slow
def test_deepspeed_may_have_one_process(start: Any, tmp_path: Path) -> None:
    process = start(
        "experiments", "train", "RECIPE", "trainer.per_device_train_batch_size=4", "trainer.max_steps=2",
        "--launch", "zero3", "--num-processes", 1, "--out", "run",
    )  # fmt: skip
    assert process.wait(200) == 0, (tmp_path / "err").read_text()[-4000:]
    assert [record["step"] for record in records(tmp_path / "run")] == [1, 2]
    assert (tmp_path / "run" / "final" / "model.safetensors").is_file()


@pytest.mark.slow
def test_an_update_of_two_ranks_is_made_again_on_one(recipe: Path, start: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(
        "experiments", "train", "RECIPE", "trainer.save_batch_at=[3]",
        "--launch", "cpu2", "--num-processes", 2, "--out", run,
    )  # fmt: skip
    assert process.wait(200) == 0, (tmp_path / "err").read_text()[-4000:]
    logged = records(run)[2]
    again = replay(run / "batches" / "step-3")
    assert again.loss == pytest.approx(logged["loss"], rel=1e-4, abs=1e-6)
    assert again.grad_norm == pytest.approx(logged["grad_norm"], rel=1e-4)
    assert sum(again.recorded["loss"]) == pytest.approx(logged["loss"], rel=1e-4, abs=1e-6)


# -- many nodes --------------------------------------------------------------------------------------------------------
STUBS = {
    "scontrol": 'echo node-a; echo node-b; test "$*" = "show hostnames node-[a-b]"',
    # What Slurm does on the second node, after its own options.
    "srun": 'while [[ $1 == --* ]]; do echo "srun $1"; shift; done; SLURM_NODEID=1 exec "$@"',
    "python": 'printf "%s\\n" "$@"',
}


def test_the_slurm_script_starts_accelerate_on_every_node(tmp_path: Path) -> None:
    script = LAUNCH / "multinode_slurm.sh"
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    for name, body in STUBS.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHON": str(tmp_path / "python"), "CANDOR": str(ROOT),
        "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "node-[a-b]", "GPUS_PER_NODE": "4", "MASTER_PORT": "2345",
    }  # fmt: skip

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", str(script), *arguments]
        return subprocess.run(command, env={**environment, **variables}, capture_output=True, text=True, check=False)

    given = ["candor", "trainer.max_steps=5", "rubric.accuracy={weight: 2}", "--out", "a folder", "--resume"]
    done = run(*given, LAUNCH="zero2")
    assert done.returncode == 0, done.stderr
    options = [line for line in done.stdout.splitlines() if line.startswith("srun ")]
    assert options == ["srun --nodes=2", "srun --ntasks-per-node=1", "srun --kill-on-bad-exit=1"]
    expected = ["-m", "accelerate.commands.launch", "--machine_rank", "1", "--config_file", str(LAUNCH / "zero2.yaml")]
    expected += ["--num_machines", "2", "--num_processes", "8", "--main_process_ip", "node-a"]
    expected += ["--main_process_port", "2345", "-m", "experiments", "train", *given]
    assert done.stdout.splitlines()[len(options) :] == expected

    from accelerate.commands.launch import launch_command_parser

    parsed = launch_command_parser().parse_args(expected[2:])
    assert (parsed.machine_rank, parsed.num_processes, parsed.training_script) == (1, 8, "experiments")
    assert parsed.module and parsed.training_script_args == ["train", *given]
    assert run().returncode == 2, "no recipe"
    assert "own.yaml: no such file" in run("candor", LAUNCH="own.yaml").stderr
    assert load_recipe(given[0], given[1:2]).trainer["max_steps"] == 5
