"""Signals that end a run: saved first, gone on with exactly, at once by a second one, and not under nohup."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from experiments.cli import main
from experiments.errors import Stopped
from rl.monitoring.callbacks import MetricsFile
from tests.factories import json_lines


def send_at(monkeypatch: pytest.MonkeyPatch, step: int, *signals: signal.Signals) -> None:
    """This process gets the signals as the step begins."""

    def send(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == step - 1:
            for each in signals:
                os.kill(os.getpid(), each)

    monkeypatch.setattr(MetricsFile, "on_step_begin", send)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_a_signal_ends_saves_first_and_goes_on_as_if_it_had_not_ended(
    sent: signal.Signals,
    write_recipe: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe, whole, halved = (
        str(write_recipe(trainer={"max_steps": 4, "save_steps": 100})),
        tmp_path / "a",
        tmp_path / "b",
    )
    assert main(["train", recipe, "--out", str(whole)]) == 0
    with monkeypatch.context() as patch:
        send_at(patch, 2, sent)
        assert main(["train", recipe, "--out", str(halved)]) == 128 + sent
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"candor: ended by {sent.name}; the same command with --resume goes on from checkpoint-2"
    assert (halved / "checkpoint-2").is_dir() and not (halved / "final").exists()
    assert signal.getsignal(sent) == signal.SIG_DFL, "the handlers are as they were"
    assert main(["train", recipe, "--out", str(halved), "--resume"]) == 0
    expected, found = (load_file(run / "final" / "model.safetensors") for run in (whole, halved))
    assert all((expected[name] == found[name]).all() for name in expected)


def test_a_second_signal_ends_a_run_at_once(
    write_recipe: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    send_at(monkeypatch, 2, signal.SIGTERM, signal.SIGTERM)
    assert main(["train", str(write_recipe()), "--out", str(tmp_path / "run")]) == 143
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "candor: ended by SIGTERM; the same command with --resume goes on from the last checkpoint"
    assert not list((tmp_path / "run").glob("checkpoint-*"))


def test_a_hang_up_that_is_ignored_stays_ignored(
    write_recipe: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup starts a command
    try:
        send_at(monkeypatch, 2, signal.SIGHUP)
        assert main(["train", str(write_recipe()), "--out", str(tmp_path / "run")]) == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_command_without_a_run_ends_in_one_line_and_an_ablation_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def end(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("experiments.commands.probe.probe", end)
    assert main(["probe", "x", "--out", "y"]) == 143
    assert capsys.readouterr().err == "\ncandor: ended by SIGTERM\n"
    monkeypatch.setattr("experiments.ablation.study.load_study", end)
    assert main(["ablate", "x"]) == 143
    assert "ended by SIGTERM; the same command goes on with what is left" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    assert main(["ablate", "x"]) == 143 and capsys.readouterr().err == "", "of several ranks one speaks"
    assert issubclass(Stopped, KeyboardInterrupt)


# -- what those read who do not watch ----------------------------------------------------------------------------------
def test_a_log_has_a_line_at_every_tenth_and_at_each_checkpoint_and_no_bar(
    write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    """In a process of its own, as libraries read whether they may draw when they are imported; and in ASCII alone."""
    recipe, out = write_recipe(trainer={"max_steps": 30, "save_steps": 15}, monitors={"window": 1}), tmp_path / "rün"
    # The tests' own WANDB_MODE is left out, of which a library speaks.
    inherited = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}
    done = subprocess.run(
        [sys.executable, "-m", "experiments", "train", str(recipe), "--out", str(out)],
        env=inherited | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "ascii"},
        cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    lines = done.stdout.decode("ascii").splitlines()
    assert done.returncode == 0 and b"\r" not in done.stdout, lines
    steps = [int(line.split()[2]) for line in lines if " of 30, reward=" in line]
    assert steps == list(range(3, 31, 3))
    assert [line for line in lines if "saved" in line] == [
        f"short_grpo: step {step}, checkpoint-{step} saved" for step in (15, 30)
    ]
    alarms = json_lines(out / "alarms.jsonl")
    assert len([line for line in lines if line.startswith("candor: alarm ")]) == len(alarms)
    assert len(lines) == len(steps) + 2 + len(alarms) + 1, "and where the policy is"
