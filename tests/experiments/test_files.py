"""A folder is tried before the work is done, left without a trace of the trial, and locked while it is written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from experiments.errors import ConfigError
from experiments.files import locked, writable, writable_file

ROOT = Path(__file__).parents[2]


def test_a_folder_is_made_with_its_parents_and_left_empty(tmp_path: Path) -> None:
    assert writable(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert writable(str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_what_lies_under_a_file_or_is_one_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(ConfigError, match=r"^--out .*file/run: cannot be written: Not a directory$"):
        writable(tmp_path / "file" / "run")
    with pytest.raises(ConfigError, match=r"^--out .*file: cannot be written: File exists$"):
        writable(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"


def test_a_file_is_tried_by_its_folder_and_is_not_made(tmp_path: Path) -> None:
    assert writable_file(tmp_path / "a" / "gate.json") == tmp_path / "a" / "gate.json"
    assert list((tmp_path / "a").iterdir()) == []
    with pytest.raises(ConfigError, match=r"^--out .*a: cannot be written: it is a folder, expected the name of a fi"):
        writable_file(tmp_path / "a")
    (tmp_path / "file").write_text("kept")
    with pytest.raises(ConfigError, match=r"^--out .*file/gate\.json: cannot be written: File exists$"):
        writable_file(tmp_path / "file" / "gate.json")


def test_a_folder_without_permission_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:  # permissions mean nothing to root, which may be running this
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(ConfigError, match="cannot be written: Permission denied"):
        writable(tmp_path)


def other(out: Path, body: str) -> list[str]:
    """A command of another process, which tries to lock the folder and does ``body`` when it has."""
    code = f"from experiments.files import locked\nwith locked({str(out)!r}):\n    {body}"
    return [sys.executable, "-c", code]


def test_a_folder_that_another_process_writes_is_refused_and_both_are_named(tmp_path: Path) -> None:
    with locked(tmp_path):
        refused = subprocess.run(other(tmp_path, "pass"), capture_output=True, text=True, cwd=ROOT, check=False)
    last = refused.stderr.splitlines()[-1]
    assert (
        f"ConfigError: --out {tmp_path}: is being written by process {os.getpid()} on " in last
        and "choose another" in last
    )
    assert subprocess.run(other(tmp_path, "pass"), cwd=ROOT, check=False).returncode == 0, "it is free again"


def test_the_lock_of_a_killed_process_is_free_though_a_child_of_it_lives(tmp_path: Path) -> None:
    body = "import os, time; child = os.fork(); print(child or '', flush=True) if child else None; time.sleep(60)"
    with subprocess.Popen(other(tmp_path, body), stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        with pytest.raises(ConfigError, match=f"process {process.pid} "), locked(tmp_path):
            pass
        process.kill()
        process.wait()
        try:
            os.kill(child, 0)
            with locked(tmp_path):
                pass
        finally:
            os.kill(child, signal.SIGKILL)
