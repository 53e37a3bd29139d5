"""A run that is watched: it stops at an alarm, can be gone on with, and its section is checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.cli import main
from rl.files import last_complete_checkpoint
from rl.monitoring.alarms import ALARMS
from tests.factories import json_lines


def test_a_run_stops_at_an_alarm_and_can_be_gone_on_with(
    write_recipe: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Four tokens are too few for a confidence.
    trainer = {"max_completion_length": 4, "max_steps": 5, "save_steps": 100}
    recipe, out = write_recipe(trainer=trainer, monitors={"window": 2, "on_alarm": "stop"}), tmp_path / "run"
    assert main(["train", str(recipe), "--out", str(out)]) == 1
    captured = capsys.readouterr()
    assert "candor: alarm truncation at step 2, since step 1" in captured.out
    last = captured.err.splitlines()[-1]
    assert (
        last.startswith("candor: monitors.on_alarm stopped the run: alarm") and "checkpoint-2 holds the policy" in last
    )
    assert last_complete_checkpoint(out) == out / "checkpoint-2" and not (out / "final").exists()
    raised = [alarm["alarm"] for alarm in json_lines(out / "alarms.jsonl")]
    assert "truncation" in raised

    assert main(["train", str(recipe), "--out", str(out), "--resume"]) in (0, 1)
    alarms = [alarm["alarm"] for alarm in json_lines(out / "alarms.jsonl")]
    assert len(alarms) == len(set(alarms)) and alarms[: len(raised)] == raised, "each once, over both parts"
    records = [record for record in json_lines(out / "metrics.jsonl") if "loss" in record]
    assert [record["step"] for record in records][:3] == [1, 2, 3]
    assert {f"alarms/{name}" for name in ALARMS} <= records[0].keys()
    assert records[2]["alarms/truncation"] == 1.0


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"on_alarm": "halt"}, "monitors.on_alarm: 'halt' is not one of warn, stop"),
        ({"windw": 3}, "monitors.windw: unknown key"),
        ({"ignore": ["truncated"]}, "monitors.ignore: 'truncated' is not one of"),
    ],
)
def test_the_section_is_checked(
    section: dict[str, Any],
    message: str,
    write_recipe: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", str(write_recipe(monitors=section)), "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err


def test_supervised_runs_have_nothing_to_watch(
    write_recipe: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe("sft", monitors={"window": 3})
    assert main(["train", str(recipe), "--out", str(tmp_path / "run")]) == 2
    assert "monitors: watch the rollouts of reinforcement learning" in capsys.readouterr().err
