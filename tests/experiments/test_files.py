"""A folder is tried before the work is done, and left without a trace of the trial."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from experiments.errors import ConfigError
from experiments.files import writable


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


def test_a_folder_without_permission_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:  # permissions mean nothing to root, which may be running this
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(ConfigError, match="cannot be written: Permission denied"):
        writable(tmp_path)
