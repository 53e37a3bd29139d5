"""``candor memory``: what it prints, and sizes that it refuses."""

from __future__ import annotations

import json

import pytest

from experiments.cli import main
from experiments.launch.memory import GIB, SIZES, memory, update_seconds


def test_the_command_prints_what_it_calculates(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", "--parameters", "7e9", "--launch", "zero3", "--num-processes", "64", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    states = memory(7e9, "zero3", 64)
    assert found["update_gib"] == round(states.update / GIB, 2)
    assert found["peak_gib"] == round(states.peak / GIB, 2)
    assert found["update_seconds"] == pytest.approx(update_seconds(7e9, 512 * 1024, 64), abs=1e-3)
    assert main(["memory", "--parameters", "7e9", "--critic", "--reference"]) == 0
    assert "peak_gib" in capsys.readouterr().out
    assert main(["memory", "--markdown"]) == 0
    header, rule, *rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 3 * len(SIZES)
    assert {line.count("|") for line in (header, rule, *rows)} == {header.count("|")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--parameters: missing"),
        (["--parameters", "0"], "--parameters: 0 is below 1"),
        (["--parameters", "nan"], "--parameters: nan is below 1"),
        (["--parameters", "7e9", "--launch", "zero4"], "--launch: 'zero4' is not one of ddp, zero2, zero3"),
        (["--parameters", "7e9", "--num-processes", "0"], "--num-processes: 0"),
        (["--parameters", "7e9", "--tokens", "0"], "--completions 512 of --tokens 0"),
    ],
)
def test_sizes_that_are_none_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["memory", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"candor: {message}")
