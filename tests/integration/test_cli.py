"""The command: what it prints, the statuses it ends with, and that an interrupted run can be gone on with."""

from __future__ import annotations

import json
import os
import runpy
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

from experiments.cli import main
from experiments.config.recipe import recipe_names
from tests.factories import Refusal, json_lines

COMMANDS = (
    *("quickstart", "train", "probe", "ablate", "report", "build-tiny", "recipes", "audit", "rewards"),
    *("replay", "metrics", "memory", "vote"),
)


@pytest.fixture
def usage(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command line that argparse turns down and returns its reason, without the summary of options."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        return capsys.readouterr().err.splitlines()[-1]

    return run


# -- help and listings -----------------------------------------------------------------------------------------------
def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert set(COMMANDS) <= set(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: candor {command}" in capsys.readouterr().out


def test_recipes_are_listed_as_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["recipes"]) == 0
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    sizes = {name.rpartition("/")[0] for name in recipe_names()}
    assert sum(line[:2] == ["recipe", "task"] for line in printed) == len(sizes)
    lines = [line for line in printed if line and line[0] in recipe_names()]
    assert sorted(line[0] for line in lines) == sorted(recipe_names())
    (candor,) = [line for line in lines if line[0] == "candor"]
    assert {"arithmetic", "tiny-small", "grpo", "spherical"} <= set(candor)


def test_recipes_are_listed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in listed] == recipe_names()
    assert set(listed[0]) == {"name", "size", "task", "model", "method", "rubric", "path"}


def test_listings_and_usage_errors_answer_at_once() -> None:
    slow = {"torch", "transformers", "trl", "datasets", "pandas", "sympy", "matplotlib"}
    program = "import sys; from experiments.cli import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    for arguments in (
        ["recipes", "--json"],
        ["rewards"],
        ["audit", "candor", "rubric.brier.weight=2"],
        ["train", "absent"],
        ["train", "rlvr", "probe.split=tset"],
    ):
        ended = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
        assert slow.isdisjoint(ended.stderr.split())


# -- statuses --------------------------------------------------------------------------------------------------------
def test_the_command_line_itself_is_checked(usage: Callable[..., str]) -> None:
    assert "required: COMMAND" in usage()
    assert "invalid choice: 'trian'" in usage("trian", "rlvr")
    assert "required: RECIPE" in usage("train")
    assert "required: --out" in usage("probe", "--records", "a.jsonl")
    assert "unrecognized arguments: --ot x" in usage("train", "rlvr", "--ot", "x", "trainer.max_steps=1")
    assert usage("train", "rlvr", "--max_steps=3").endswith("unrecognized arguments: --max_steps=3")
    assert usage("recipes", "trainer.max_steps=1").endswith("unrecognized arguments: trainer.max_steps=1")
    assert "'x' is not a whole number" in usage("quickstart", "--seed", "x")


@pytest.mark.parametrize(
    "arguments",
    [
        ("trainer.max_stps=1", "--out", "OUT"),
        ("--out", "OUT", "trainer.max_stps=1"),
        ("--resume", "trainer.max_steps=5", "--out", "OUT", "trainer.max_stps=1"),
    ],
)
def test_overrides_may_stand_anywhere(arguments: tuple[str, ...], tmp_path: Path, refusal: Refusal) -> None:
    given = [str(tmp_path / "run") if each == "OUT" else each for each in arguments]
    assert refusal.command("train", "rlvr", *given).startswith("trainer.max_stps: unknown key")


def test_what_cannot_be_run_ends_with_2_and_one_line(tmp_path: Path, refusal: Refusal) -> None:
    out = ("--out", tmp_path / "run")
    assert refusal.command("train", "cander", *out).endswith("(did you mean candor?)")
    assert refusal.command("train", "rlvr", "trainer.max_steps", *out).startswith(
        "override 'trainer.max_steps': expected "
    )
    assert "hackable" in refusal.command("train", "rlcr", "rubric.brier.weight=2", *out)
    assert "use a batch of 4 or 8" in refusal.command("train", "rlvr", "trainer.per_device_train_batch_size=6", *out)
    assert refusal.command("train", "rlvr", "model.path=./absent", *out).startswith(
        "model.path: ./absent: no such folder"
    )
    assert refusal.command("report", tmp_path).endswith("records.parquet: no such file")
    (tmp_path / "file").write_text("")
    twice = refusal.command("build-tiny", "tiny-small", "tiny-small", "--out", tmp_path / "policies")
    assert "'tiny-small,tiny-small', expected some of tiny-small, tiny-large, tiny-facts, each once" in twice
    assert "cannot be written" in refusal.command("build-tiny", "--out", tmp_path / "file" / "policies")
    assert "cannot be written" in refusal.command("train", "rlvr", "--out", tmp_path / "file" / "run")


def test_a_launcher_runs_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["experiments", "train", "rlvr", "trainer.max_stps=1", "--out", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("experiments", run_name="__main__")
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("candor: trainer.max_stps: unknown key")


@pytest.mark.parametrize(("arguments", "resumable"), [(["probe", "x", "--out", "y"], False), (["train", "rlvr"], True)])
def test_an_interrupt_ends_with_130_and_says_how_to_go_on(
    arguments: list[str], resumable: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.commands.probe.probe", interrupt)
    monkeypatch.setattr("experiments.config.recipe.load_recipe", interrupt)
    assert main(arguments) == 130
    (line,) = capsys.readouterr().err.split("\n")[1:-1]
    assert line.startswith("candor: interrupted")
    assert ("--resume" in line) == resumable


def test_the_environment_of_the_caller_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY")
    main(["recipes", "--json"])
    assert os.environ["HF_HUB_OFFLINE"] == "0"
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"


def test_an_interrupt_while_the_command_loads_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    class Interrupt:
        def find_spec(self, name: str, *_: Any) -> None:
            if name == "experiments.cli":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "experiments.cli")
    monkeypatch.delattr("experiments.cli")
    monkeypatch.setattr(sys, "meta_path", [Interrupt(), *sys.meta_path])
    from experiments.__main__ import main as as_installed

    assert as_installed() == 130
    assert capsys.readouterr().err == "\ncandor: interrupted\n"


@pytest.mark.parametrize("seed", ["-1", "x", "1.5", "", str(2**32)])
def test_a_seed_that_no_generator_takes_is_refused(usage: Callable[..., str], seed: str, tmp_path: Path) -> None:
    for command in (["probe", "--records", "a.jsonl"], ["cascade", "a.jsonl", "b.jsonl"], ["abstain", "measure"]):
        last = usage(*command, "--out", str(tmp_path), f"--seed={seed}")
        assert last.endswith(f"argument --seed: {seed!r} is not a whole number from 0 to {2**32 - 1}")


def test_a_path_that_the_system_refuses_is_named(tmp_path: Path, refusal: Refusal) -> None:
    source = tmp_path / "outcomes.jsonl"
    source.write_text('{"confidence": 0.5, "correct": 1}\n')
    out = tmp_path / "out"
    (out / "report.html").mkdir(parents=True)
    assert refusal.command("probe", "--records", source, "--out", out) == f"{out}/report.html: Is a directory"
    long = tmp_path / f"{'x' * 300}.jsonl"
    assert refusal.command("probe", "--records", long, "--out", tmp_path / "b") == f"{long}: File name too long"


# -- the whole way: interrupted, gone on with, probed ----------------------------------------------------------------
@pytest.fixture(scope="module")
def small_recipe(policy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of a second's training on one-digit arithmetic, with a checkpoint at every third step."""
    template = {"levels": list(policy.template.levels)}
    source = {
        "task": {"name": "arithmetic", "max_steps": 1, "max_value": 19, "train_size": 64, "template": template},
        "model": {"path": str(policy.path), "attn_implementation": "eager"},
        "rubric": {"accuracy": {"weight": 1.0}, "brier": {"weight": 1.0}, "format": {"weight": 0.2}},
        "trainer": {
            "confidence_loss_weight": 1.0,
            "max_steps": 60,
            "save_steps": 3,
            "per_device_train_batch_size": 8,
            "num_generations": 4,
            "max_completion_length": 10,
            "gradient_checkpointing": False,
        },
        "probe": {"size": 20, "max_new_tokens": 10, "resamples": 20},
    }
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(yaml.safe_dump(source))
    return path


@pytest.fixture(scope="module")
def interrupted(small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """Folder, exit status and error output of a training that got an interrupt after its first whole checkpoint."""
    out = tmp_path_factory.mktemp("interrupted") / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments", "train", str(small_recipe), "--out", str(out)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 240
        while not any(out.glob("checkpoint-*/candor_complete.json")):
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(process.communicate(timeout=5)[1])
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: workers get it too
        errors = process.communicate(timeout=60)[1]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return out, process.returncode, errors


def test_an_interrupted_training_ends_with_130_and_one_line(interrupted: tuple[Path, int, str]) -> None:
    out, status, errors = interrupted
    assert status == 130
    assert "Traceback" not in errors
    last = errors.splitlines()[-1]
    assert last == "candor: interrupted; the same command with --resume goes on from the last checkpoint"
    assert not (out / "final").exists()


def test_the_same_command_with_resume_goes_on_to_the_end_and_can_be_probed(
    interrupted: tuple[Path, int, str], small_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = interrupted[0]
    command = ["train", str(small_recipe), "--out", str(out)]
    assert main(command) == 2
    assert "holds a run already; add --resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"{out}/final holds the trained policy; measure it with: candor probe {out}/final --out {out}/probe"
    )
    steps = json_lines(out / "metrics.jsonl")
    rewarded = [record["step"] for record in steps if "reward" in record]
    assert rewarded == list(range(1, 61))  # each step once, before and after the interrupt
    assert {path.name for path in (out / "final" / "calibration").iterdir()} == {
        "template.json",
        "rubric.json",
        "recipe.yaml",
        "sampling.json",
        "versions.json",
    }
    assert yaml.safe_load((out / "recipe.yaml").read_text()) == yaml.safe_load(small_recipe.read_text())

    assert main(["probe", f"{out}/final", "--out", str(tmp_path / "probe")]) == 0
    assert len(pd.read_parquet(tmp_path / "probe" / "records.parquet")) == 20
    metrics = json.loads((tmp_path / "probe" / "metrics.json").read_text())
    assert 0 <= metrics["checkpoint"]["accuracy"]["value"] <= 1


def test_a_finished_training_is_not_done_again(
    interrupted: tuple[Path, int, str], small_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = interrupted[0]
    if not (out / "final").is_dir():
        pytest.skip("the run has not been finished by the test before")
    monkeypatch.setattr("rl.checkpoint.load_policy", lambda *_, **__: pytest.fail("trained again"))
    assert main(["train", str(small_recipe), "--out", str(out), "--resume"]) == 0


def test_a_closed_output_changes_no_status() -> None:
    """``candor audit candor >&-``, whose status says whether the rubric is safe."""
    candor = f"{sys.executable} -m experiments audit"
    shell = f"{candor} candor >&-; echo $?; {candor} rlcr rubric.brier.weight=2 >&- 2>&-; echo $?"
    done = subprocess.run(["bash", "-c", shell], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (["0", "1"], "")


@pytest.mark.parametrize("command", [["recipes", "--json"], ["audit", "candor"]])
def test_a_reader_who_leaves_ends_the_command_quietly(command: list[str]) -> None:
    """As ``candor audit candor | head -3`` does, once it has its three lines."""
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    with process.stderr as errors:
        assert errors.read() == b""
    assert process.wait() == 141
