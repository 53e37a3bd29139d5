"""A disk that fills up under a run: it ends in one line, and what was written before is whole and gone on from."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import safetensors.torch
import torch

from experiments.cli import main
from rl.files import last_complete_checkpoint
from rl.monitoring.callbacks import MetricsFile
from tests.integration.runs import records_in, same_run, steps_in

SAVE = 3


class Full:
    """A disk that fills up in the middle of writing the second checkpoint, at a file of a given name."""

    def __init__(self, name: str) -> None:
        self.name, self.save, self.save_file = name, torch.save, safetensors.torch.save_file

    def torch_save(self, content: Any, path: Any, *arguments: Any, **options: Any) -> None:
        if f"checkpoint-{2 * SAVE}/{self.name}" in str(path):
            Path(path).write_bytes(b"half")
            raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")
        self.save(content, path, *arguments, **options)

    def weights(self, tensors: Any, path: Any, *arguments: Any, **options: Any) -> None:
        if f"checkpoint-{2 * SAVE}/{self.name}" in str(path):
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        self.save_file(tensors, path, *arguments, **options)

    def text(self, path: Path, text: str) -> None:
        if f"checkpoint-{2 * SAVE}/{self.name}" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        path.write_text(text)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "candor_complete.json"])
def test_a_full_disk_leaves_the_checkpoint_before_usable(
    name: str,
    write_recipe: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # One checkpoint is kept: the last whole one must not go before the new one is whole.
    recipe, out = str(write_recipe(trainer={"save_total_limit": 1})), tmp_path / "run"
    full = Full(name)
    with monkeypatch.context() as patch:
        patch.setattr("torch.save", full.torch_save)
        patch.setattr("transformers.modeling_utils.safe_save_file", full.weights)
        patch.setattr("rl.files.write_text", full.text)
        assert main(["train", recipe, "--out", str(out)]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"candor: {out}/checkpoint-{2 * SAVE} could not be written (")
    assert line.endswith(f"make room, and the same command with --resume goes on from checkpoint-{SAVE}")
    assert last_complete_checkpoint(out) == out / f"checkpoint-{SAVE}" and not (out / "final").exists()
    assert main(["train", recipe, "--out", str(out), "--resume"]) == 0
    assert steps_in(out) == list(range(1, 2 * SAVE + 1))
    assert [path.name for path in out.glob("checkpoint-*")] == [f"checkpoint-{2 * SAVE}"]


class HalfLine:
    """A file on a disk that has room for half of the next line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> HalfLine:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, line: str) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(line[: len(line) // 2])
        raise OSError(errno.ENOSPC, "No space left on device", str(self.path))


@pytest.mark.parametrize("name", ["metrics.jsonl", f"completions_{SAVE + 2:05d}.parquet"])
def test_a_disk_that_fills_up_under_a_log_ends_the_run_in_one_line_and_loses_nothing(
    name: str,
    write_recipe: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe, whole, out = str(write_recipe()), tmp_path / "whole", tmp_path / "run"
    assert main(["train", recipe, "--out", str(whole)]) == 0
    opened, to_parquet = Path.open, pd.DataFrame.to_parquet

    def open_full(path: Path, mode: str = "r", **options: Any) -> Any:
        full = path == out / name and mode == "a" and len(steps_in(out)) > SAVE
        return HalfLine(path) if full else opened(path, mode, **options)

    def to_parquet_full(table: pd.DataFrame, path: Any, **options: Any) -> None:
        to_parquet(table, path, **options)
        if Path(path) == out / "completions" / name:
            Path(path).write_bytes(Path(path).read_bytes()[:100])
            # As pyarrow says it, without the file.
            raise OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28] No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_full)
        patch.setattr(pd.DataFrame, "to_parquet", to_parquet_full)
        assert main(["train", recipe, "--out", str(out)]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"candor: {out} could not be written (") and "No space left on device; make room" in line
    assert (f"{out / name}: " in line) == (name == "metrics.jsonl")
    assert line.endswith(f"make room, and the same command with --resume goes on from checkpoint-{SAVE}")
    assert not (out / "final").exists() and all("step" in each for each in records_in(out))
    assert main(["train", recipe, "--out", str(out), "--resume"]) == 0
    same_run(whole, out)


def test_any_command_ends_in_one_line_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "records.parquet")

    monkeypatch.setattr("experiments.commands.probe.probe", full)
    assert main(["probe", "x", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "candor: records.parquet could not be written: No space left on device\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no device that is always full")
def test_metrics_on_a_device_that_is_full_end_the_run(
    write_recipe: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    begin = MetricsFile.on_train_begin

    def onto_the_full_device(self: MetricsFile, args: Any, *rest: Any, **kwargs: Any) -> None:
        begin(self, args, *rest, **kwargs)
        (Path(args.output_dir) / "metrics.jsonl").unlink()
        (Path(args.output_dir) / "metrics.jsonl").symlink_to("/dev/full")

    monkeypatch.setattr(MetricsFile, "on_train_begin", onto_the_full_device)
    assert main(["train", str(write_recipe()), "--out", str(tmp_path / "run")]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device" in line and line.endswith("with --resume starts again")
