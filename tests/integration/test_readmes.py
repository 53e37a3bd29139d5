"""What the READMEs tell a user to type is understood as it stands, and what they print is what the commands print."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments import cli
from experiments.config.recipe import load_recipe
from experiments.launch.launcher import launch_file, process_count

ROOT = Path(__file__).resolve().parents[2]
READMES = [ROOT / "README.md", *(ROOT / name / "README.md" for name in ("rewards", "estimators", "rl", "experiments"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
OUTSIDE = ("make", "sbatch")
"""What is started through other programs."""


def typed(language: str) -> list[str]:
    """Every line of the fenced blocks in a language, without its comment, continuation lines joined."""
    found = []
    for readme in READMES:
        for kind, block in FENCED.findall(readme.read_text(encoding="utf-8")):
            if kind == language:
                lines = block.replace("\\\n", " ").splitlines()
                found += [line.split("  #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]
    return found


COMMANDS = list(dict.fromkeys(typed("sh")))


def test_the_main_readme_is_short_and_there_is_one_for_each_room() -> None:
    assert all(readme.is_file() for readme in READMES)
    assert len(READMES[0].read_text(encoding="utf-8").splitlines()) <= 200
    assert len(COMMANDS) >= 15
    assert not any("@@" in readme.read_text(encoding="utf-8") for readme in READMES), "a place that was to be filled"
    promised = READMES[0].read_text(encoding="utf-8").partition("Expect this")[2].partition("## ")[0]
    measured = ("accuracy", "brier", "ece", "auroc", "escalation_rate_to_parity")
    assert all(f"| `{metric}` |" in promised for metric in measured)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options are parsed, recipes and launch files are checked with the changes that the line makes in them."""
    words = shlex.split(command)
    while "=" in words[0]:  # variables of the environment
        words = words[1:]
    if words[:2] == ["accelerate", "launch"]:
        assert (ROOT / words[words.index("--config_file") + 1]).is_file()
        words = ["candor", *words[words.index("experiments") + 1 :]]
    if words[0] in OUTSIDE:
        target = words[1] if words[0] == "make" else next(word for word in words if word.endswith(".sh"))
        known = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert target in known or (ROOT / target).is_file()
        return
    if words[0] == "python":
        assert (ROOT / words[1]).is_file()
        return
    assert words[0] == "candor", "a command of another program"
    options = cli._parse(words[1:])
    if words[1] in ("train", "audit", "show") and options.recipe:
        (tmp_path / "gsm8k").mkdir()  # a user's own files
        (tmp_path / "mine.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
        monkeypatch.chdir(tmp_path)
        load_recipe(options.recipe, options.overrides)
    if getattr(options, "launch", None):
        assert process_count(launch_file(options.launch), options.num_processes) >= 2


@pytest.mark.parametrize("listing", ["recipes", "rewards", "estimators", "metrics"])
def test_listings_run(listing: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([listing]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 5


def test_estimators_are_listed_with_their_names_whole(capsys: pytest.CaptureFixture[str]) -> None:
    from estimators import ESTIMATORS

    assert cli.main(["estimators"]) == 0
    assert set(ESTIMATORS) <= set(capsys.readouterr().out.splitlines())


def test_the_table_of_estimators_is_the_listing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["estimators", "--markdown"]) == 0
    table = capsys.readouterr().out.strip()
    assert table in (ROOT / "estimators" / "README.md").read_text(encoding="utf-8")


def test_the_table_of_memory_is_the_listing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["memory", "--markdown"]) == 0
    table = capsys.readouterr().out.strip()
    assert table in (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("program", [block for readme in READMES for kind, block in FENCED.findall(readme.read_text("utf-8")) if kind == "python"])  # fmt: skip  # noqa: E501
def test_every_program_runs(program: str) -> None:
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()


def test_every_verb_is_in_the_list_of_commands() -> None:
    text = READMES[0].read_text(encoding="utf-8")
    commands = text[text.index("## Commands") :].partition("## ")[2].partition("\n## ")[0]
    missing: list[Any] = [verb for verb in cli.COMMANDS if verb not in commands]
    assert missing == []
