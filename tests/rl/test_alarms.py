"""Each alarm sees what it is for, from the right step on, and nothing in a healthy run."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from collections.abc import Callable, Mapping

import pytest

from rewards.rubric import Rubric
from rl.monitoring.alarms import ALARMS, Alarm, MonitorSettings, RunFacts, check
from rl.monitoring.history import History

WINDOW = 5
SETTINGS = MonitorSettings(window=WINDOW)
RUBRIC = Rubric.from_config({"accuracy": {"weight": 1.0}, "brier": {"weight": 1.0}, "format": {"weight": 0.5}})
FACTS = RunFacts.of(RUBRIC, "group", closed_form=False)
Record = dict[str, float]


def healthy(step: int) -> Record:
    """A run whose confidences spread out and whose format term comes to be met by all."""
    progress, noise = min(step / 40, 1.0), random.Random(step).gauss(0, 0.02)
    return {
        "reward": 0.3 + 0.5 * progress + noise,
        "calibration/accuracy": 0.64 + noise,
        "calibration/brier": 0.35 - 0.25 * progress,
        "calibration/confidence_std": 0.2 + 0.25 * progress,
        "calibration/distinct_confidences": 9 - 7 * progress,
        "calibration/confidence_entropy": 1.2 * (1 - progress),
        "calibration/low_confidence_share": 0.2 + 0.2 * progress,
        "calibration/low_confidence_accuracy": 0.6 - 0.55 * progress,
        "parse/non_answer": 0.05 * (1 - progress),
        "parse/truncated_unparsed": 0.02,
        "groups/all_right": 0.4,
        "groups/all_wrong": 0.2,
        "advantages/uniform_group_ratio": 0.2,
        "advantages/accuracy/zero_share": 0.6,
        "advantages/brier/zero_share": 0.1,
        "advantages/format/zero_share": progress,
    }


def history_of(records: Mapping[int, Record]) -> History:
    history = History(WINDOW)
    for step, record in records.items():
        history.add(step, record)
    return history


def seen(change: Callable[[int], Record], steps: int = 60) -> dict[str, tuple[int, str]]:
    """What is seen at the end of a run that is healthy but for what ``change`` says."""
    found = check(history_of({step: healthy(step) | change(step) for step in range(1, steps + 1)}), SETTINGS, FACTS)
    return {name: finding for name, finding in found.items() if finding is not None}


def test_a_healthy_run_raises_nothing_at_any_step() -> None:
    history = History(WINDOW)
    for step in range(1, 121):
        history.add(step, healthy(step) | ({"heldout/brier": 0.35 - step / 600} if step % 10 == 0 else {}))
        assert [name for name, finding in check(history, SETTINGS, FACTS).items() if finding] == []


@pytest.mark.parametrize(
    ("alarm", "change", "numbers"),
    [
        ("confidence_collapse", lambda step: {"calibration/confidence_std": 0.01 if step > 30 else 0.3}, ["0.010"]),
        (
            "confidence_collapse",
            lambda step: {"calibration/confidence_entropy": 0.002, "calibration/brier": 0.3},
            ["0.002", "0.300"],
        ),
        (
            "wrong_on_purpose",
            lambda step: {
                "calibration/accuracy": 0.64 if step < 30 else 0.4,
                "calibration/low_confidence_accuracy": 0.5 if step < 30 else 0.1,
            },
            ["0.640 to 0.400", "0.500 to 0.100", "0.400"],
        ),
        ("non_answers", lambda step: {"parse/non_answer": step / 100}, ["0.030 to 0.580"]),
        ("normalisation", lambda step: {"advantages/uniform_group_ratio": 0.9}, ["brier", "40%", "20%", "0.90"]),
        ("truncation", lambda step: {"parse/truncated_unparsed": 0.25}, ["25.0%"]),
        ("zero_advantage", lambda step: {"advantages/accuracy/zero_share": 0.99}, ["accuracy gave 99.0%"]),
        (
            "heldout_drift",
            lambda step: {"heldout/brier": 0.1 if step < 40 else 0.2} if step % 10 == 0 else {},
            ["0.100", "0.200"],
        ),
    ],
)
def test_each_alarm_sees_what_it_is_for(alarm: str, change: Callable[[int], Record], numbers: list[str]) -> None:
    found = seen(change)
    assert list(found) == [alarm]
    since, saw = found[alarm]
    assert all(number in saw for number in numbers), saw
    assert since == (50 if alarm == "heldout_drift" else 56), "the first of the last window, or of two worse probes"


@pytest.mark.parametrize(
    ("alarm", "change"),
    [
        # Low-confidence answers become wrong because confidence learns to tell, which is what it is for.
        ("wrong_on_purpose", lambda step: {"calibration/low_confidence_accuracy": 0.0 if step > 30 else 0.6}),
        ("wrong_on_purpose", lambda step: {"calibration/accuracy": 0.64 - 0.04 * (step > 30)}),
        # So noisy that the fall says nothing.
        ("wrong_on_purpose", lambda step: {"calibration/accuracy": (step % 2) * (0.9 if step < 30 else 0.6)}),
        ("zero_advantage", lambda step: {"advantages/format/zero_share": 1.0}),
        ("heldout_drift", lambda step: {"heldout/brier": 0.2 if step == 60 else 0.1} if step % 10 == 0 else {}),
        (
            "heldout_drift",
            lambda step: {"reward": 1 - step / 100} | ({"heldout/brier": step / 100} if step % 10 == 0 else {}),
        ),
    ],
)
def test_what_looks_like_it_is_not_taken_for_it(alarm: str, change: Callable[[int], Record]) -> None:
    assert alarm not in seen(change)


def test_one_confidence_from_the_start_is_given_time_and_a_lost_spread_is_not() -> None:
    def alarmed(spread: Callable[[int], float], steps: int) -> bool:
        return "confidence_collapse" in seen(lambda step: {"calibration/confidence_std": spread(step)}, steps)

    patience = SETTINGS.confidence_patience
    assert [alarmed(lambda step: 0.01, steps) for steps in (WINDOW, patience - 1, patience)] == [False, False, True]
    assert not any(alarmed(lambda step: 0.01 if step <= WINDOW else 0.1, steps) for steps in range(1, patience + 20))
    assert alarmed(lambda step: 0.3 if step <= WINDOW else 0.01, 2 * WINDOW) and patience > 2 * WINDOW
    hasty = dataclasses.replace(SETTINGS, confidence_patience=0)
    start = history_of({step: healthy(step) | {"calibration/confidence_std": 0.01} for step in range(1, WINDOW + 1)})
    assert check(start, hasty, FACTS)["confidence_collapse"] is not None


def test_nothing_is_seen_before_there_is_a_whole_window() -> None:
    assert seen(lambda step: {"parse/truncated_unparsed": 1.0}, steps=WINDOW - 1) == {}
    assert list(seen(lambda step: {"parse/truncated_unparsed": 1.0}, steps=WINDOW)) == ["truncation"]
    assert "non_answers" not in seen(lambda step: {"parse/non_answer": step / 10}, steps=2 * WINDOW - 1)


def test_the_facts_of_a_run_are_read_off_the_rubric() -> None:
    assert RunFacts(("brier",), ("accuracy", "brier"), ("brier",)) == FACTS
    assert RunFacts.of(RUBRIC, "group", closed_form=True) == RunFacts(("brier",), ("accuracy",), ())
    assert RunFacts.of(RUBRIC, "none", closed_form=False).scaled_by_group == ()
    own = {"accuracy": {}, "brier": {"scaling": "group"}, "spherical": {"weight": 0.0}}
    own = Rubric.from_config(own, allow_hackable=True)
    assert RunFacts.of(own, "none", closed_form=False) == RunFacts(("brier",), ("accuracy", "brier"), ("brier",))
    control = RunFacts.of(Rubric.from_config({"accuracy": {}}), "group", closed_form=False)
    collapsed = history_of({step: {"calibration/confidence_std": 0.0} for step in range(20)})
    assert check(collapsed, SETTINGS, control)["confidence_collapse"] is None, "nobody asked it for confidences"


def test_ignored_alarms_are_not_looked_at_and_settings_are_checked() -> None:
    history = history_of({step: {"parse/truncated_unparsed": 1.0} for step in range(20)})
    assert "truncation" not in check(history, MonitorSettings(window=WINDOW, ignore=("truncation",)), FACTS)
    for options, message in [
        ({"ignore": ("truncated",)}, "ignore: 'truncated' is not one of .*did you mean truncation"),
        ({"window": 0}, "window: 0 is below 1"),
        ({"max_zero_share": -0.1}, "max_zero_share: -0.1 is below 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            MonitorSettings(**options)


def test_a_history_put_away_goes_on_as_if_it_had_not_been() -> None:
    records = {step: healthy(step) | ({"heldout/brier": 0.1} if step % 7 == 0 else {}) for step in range(1, 41)}
    records[3]["calibration/auroc"] = math.nan
    whole, half = history_of(records), history_of({step: records[step] for step in range(1, 18)})
    half = History.restored(json.loads(json.dumps(half.state())))
    for step in range(18, 41):
        half.add(step, records[step])
    assert half.state() == whole.state()


def test_every_alarm_says_which_key_to_change() -> None:
    sections = ("trainer.", "rubric.", "task ")
    assert all(any(section in change for section in sections) for _, change in ALARMS.values())
    assert str(Alarm("truncation", 9, 5, "this", "Do that")) == (
        "alarm truncation at step 9, since step 5: this. Do that"
    )
