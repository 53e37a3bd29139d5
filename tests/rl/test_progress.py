"""The meter of a run: a bar for who watches, a line at each tenth for a log, nothing without a title."""

from __future__ import annotations

import io
import sys

import pytest

from rl.monitoring.progress import Meter, is_watched


class Screen(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("total", "pace"), [(300, 1), (7, 1), (64, 8), (1, 1), (25, 4)])
def test_a_log_has_ten_lines_at_most_and_the_last_one_is_the_end(
    total: int, pace: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with Meter(total, "probe", unit="question") as meter:
        for done in [*range(pace, total, pace), total]:
            meter.reach(done, "loss=1")
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert 1 <= len(lines) <= 10 and err == "" and "\r" not in out
    assert lines[-1] == f"probe: question {total} of {total}, loss=1"


def test_a_resumed_run_does_not_tell_what_was_told(capsys: pytest.CaptureFixture[str]) -> None:
    meter = Meter(100, "run", unit="step", done=50)
    for step in range(51, 71):
        meter.reach(step)
    assert capsys.readouterr().out.splitlines() == ["run: step 60 of 100", "run: step 70 of 100"]


def test_without_a_title_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    Meter(2, None, unit="question").reach(2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("unwatched", ["stdout", "stderr", None])
def test_a_bar_is_drawn_where_both_streams_are_a_terminal(
    unwatched: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = {name: io.StringIO() if name == unwatched else Screen() for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    assert is_watched() == (unwatched is None)
    with Meter(4, "run", unit="step") as meter:
        for step in range(1, 5):
            meter.reach(step)
    drawn = "\r" in streams["stderr"].getvalue()
    assert drawn == (unwatched is None) and ("step 4 of 4" in streams["stdout"].getvalue()) != drawn
