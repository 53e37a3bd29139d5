"""Alarms in a run: raised once, written, logged, able to stop it; and the same after a resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from rl.monitoring.alarms import MonitorSettings, RunFacts
from rl.monitoring.monitors import Monitors
from tests.factories import json_lines

FACTS = RunFacts(("brier",), ("accuracy", "brier"), ())


def logged(monitors: Monitors, run: Path, steps: range, share: Callable[[int], float]) -> list[dict[str, float]]:
    """What the callback makes of the records of some steps, a checkpoint taken after each."""
    arguments, control = SimpleNamespace(output_dir=str(run)), SimpleNamespace(should_save=False)
    control.should_training_stop = False
    state = SimpleNamespace(is_world_process_zero=True, global_step=steps.start - 1)
    monitors.on_train_begin(arguments, state, control)
    records = []
    for state.global_step in steps:
        record = {"loss": 0.1, "parse/truncated_unparsed": share(state.global_step)}
        monitors.on_log(arguments, state, control, logs=record)
        records.append(record | {"stop": float(control.should_training_stop and control.should_save)})
        (run / f"checkpoint-{state.global_step}").mkdir(exist_ok=True)
        monitors.on_save(arguments, state, control)
    return records


def test_an_alarm_is_raised_once_and_logged_while_it_is_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = logged(
        Monitors(MonitorSettings(window=2), FACTS), tmp_path, range(1, 9), lambda step: 0.5 * (step % 5 > 1)
    )
    assert [record["alarms/truncation"] for record in records] == [0, 1, 1, 1, 1, 0, 1, 1]
    (alarm,) = json_lines(tmp_path / "alarms.jsonl")
    assert (alarm["alarm"], alarm["step"], alarm["since"]) == ("truncation", 2, 1)
    assert "25.0%" in alarm["saw"] and "trainer.max_completion_length" in alarm["remedy"]
    assert capsys.readouterr().out.count("candor: alarm truncation at step 2, since step 1: 25.0%") == 1
    assert not any(record["stop"] for record in records)


@pytest.mark.parametrize("killed_after", range(1, 6))
def test_a_resumed_run_raises_the_same_alarms_at_the_same_steps(killed_after: int, tmp_path: Path) -> None:
    def share(step: int) -> float:
        return 0.3 * (step >= 3)

    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    for run in (whole, resumed):
        run.mkdir()
    settings = MonitorSettings(window=3)
    expected = logged(Monitors(settings, FACTS), whole, range(1, 8), share)
    first = logged(Monitors(settings, FACTS), resumed, range(1, killed_after + 1), share)
    with (resumed / "alarms.jsonl").open("a") as file:
        file.write('{"alarm": "truncation", "step": 99}\n{"al')  # past the checkpoint, and cut off
    second = logged(Monitors(settings, FACTS), resumed, range(killed_after + 1, 8), share)
    assert first + second == expected
    assert (resumed / "alarms.jsonl").read_text() == (whole / "alarms.jsonl").read_text() != ""


def test_with_stop_the_first_alarm_ends_the_run_with_a_checkpoint(tmp_path: Path) -> None:
    monitors = Monitors(MonitorSettings(window=1, on_alarm="stop"), FACTS)
    records = logged(monitors, tmp_path, range(1, 4), lambda step: 0.5 * (step == 3))
    assert [record["stop"] for record in records] == [0, 0, 1]
    assert monitors.stopped_by is not None and " at step 3, " in monitors.stopped_by


def test_other_processes_do_not_watch(tmp_path: Path) -> None:
    monitors, record = Monitors(MonitorSettings(window=1), FACTS), {"loss": 1.0, "parse/truncated_unparsed": 1.0}
    arguments, state = SimpleNamespace(output_dir=str(tmp_path)), SimpleNamespace(is_world_process_zero=False)
    state.global_step = 1
    for event in (monitors.on_train_begin, monitors.on_save):
        event(arguments, state, None)
    monitors.on_log(arguments, state, None, logs=record)
    assert list(tmp_path.iterdir()) == [] and len(record) == 2
