"""What tests of runs read from their folders, and what makes two of them the same run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from rl.files import last_complete_checkpoint

TIMES = {"step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second"}
TIMES |= {"time/generate", "time/score", "time/update"}


def same_run(whole: Path, resumed: Path) -> None:
    """Weights, optimizer, schedule, random state, data order, monitors and metrics are the same; bytes where it can."""
    last = last_complete_checkpoint(whole)
    assert last is not None
    ours, theirs = resumed / last.name, last
    critic = ("critic/critic.safetensors",) if (whole / "final" / "critic").is_dir() else ()
    for name in ("model.safetensors", "tokenizer.json", "config.json", *critic):
        assert (resumed / "final" / name).read_bytes() == (whole / "final" / name).read_bytes(), name
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        loaded = [torch.load(run / name, weights_only=name != "rng_state.pth") for run in (ours, theirs)]
        assert equal(*loaded), name
    assert files_in(ours) == files_in(theirs)
    if (whole / "alarms.jsonl").exists():
        assert (resumed / "alarms.jsonl").read_text() == (whole / "alarms.jsonl").read_text()
        assert (ours / "monitors.json").read_text() == (theirs / "monitors.json").read_text()
    assert timeless(records_in(resumed)) == timeless(records_in(whole))
    # At a step without a rollout of its own TRL writes the last one's table again, unless it was before the resume.
    for step in [record["step"] for record in records_in(whole) if "reward" in record]:
        tables = [pd.read_parquet(run / "completions" / f"completions_{step:05d}.parquet") for run in (resumed, whole)]
        pd.testing.assert_frame_equal(*tables)


def timeless(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in record.items() if name not in TIMES} for record in records]


def equal(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor) or hasattr(left, "shape"):
        return bool((left == right).all())
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(equal, left, right))
    return bool(left == right)


def records_in(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def steps_in(run: Path) -> list[int]:
    return [record["step"] for record in records_in(run) if "loss" in record]


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
