"""Where a run's metrics go: metrics.jsonl, TensorBoard, wandb offline; and that the glossary knows each of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.cli import main
from experiments.report.training_metrics import TRAINING_METRICS, markdown_table
from tests.factories import json_lines

OURS = ("calibration/brier", "rewards/brier/mean", "alarms/truncation", "time/score", "advantages/brier/zero_share")


@pytest.fixture(scope="module")
def run(write_recipe: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run with everything on, logged to both trackers."""
    out = tmp_path_factory.mktemp("everything") / "run"
    trainer = {
        "max_steps": 3,
        "beta": 0.1,
        "entropy_coef": 0.01,
        "report_to": ["tensorboard", "wandb"],
        "num_iterations": 2,
        "confidence_entropy_coef": 0.01,
    }
    rubric = {"rlsf": {"weight": 0.1, "signal": "mean_log_prob"}, "truncated": {}}
    recipe = write_recipe(trainer=trainer, rubric=rubric, probe={"every": 2, "every_size": 10}, monitors={"window": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("WANDB_DIR", str(out.parent))
        assert main(["train", str(recipe), "--out", str(out)]) == 0
    return out


def unknown(records: list[dict[str, Any]]) -> list[str]:
    keys = {key for record in records for key in record}
    return sorted(key for key in keys if sum(metric.matches(key) for metric in TRAINING_METRICS) != 1)


def test_every_logged_key_has_one_entry_in_the_glossary(
    run: Path, write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    records = json_lines(run / "metrics.jsonl")
    assert set(OURS) <= records[0].keys() and "heldout/brier" in records[1]
    assert unknown(records) == []
    supervised = write_recipe("sft", trainer={"max_steps": 1})
    assert main(["train", str(supervised), "--out", str(tmp_path / "sft")]) == 0
    assert unknown(json_lines(tmp_path / "sft" / "metrics.jsonl")) == []


def test_the_glossary_is_printed_in_each_form(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["key"] for entry in listed] == [metric.key for metric in TRAINING_METRICS]
    assert main(["metrics", "--markdown"]) == 0
    assert capsys.readouterr().out.strip() == markdown_table()
    assert main(["metrics"]) == 0
    assert "rewards/TERM/mean" in capsys.readouterr().out


def test_seconds_of_a_step_add_up(run: Path) -> None:
    for record in json_lines(run / "metrics.jsonl")[:3]:
        parts = {name: record[f"time/{name}"] for name in ("generate", "score", "update")}
        assert sum(parts.values()) == pytest.approx(record["step_time"], rel=0.2)
        sampled = record["step"] != 2  # the second update is on the first one's rollout
        assert (parts["generate"] > 0) == (parts["score"] > 0) == sampled and parts["update"] > 0


def test_tensorboard_has_the_metrics(run: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = run.rglob("events.out.tfevents.*")
    read = EventAccumulator(str(events.parent))
    read.Reload()
    expected = {
        record["step"]: record["calibration/brier"]
        for record in json_lines(run / "metrics.jsonl")
        if "reward" in record
    }
    scalars = {event.step: event.value for event in read.Scalars("train/calibration/brier")}
    assert scalars == pytest.approx(expected)
    for name in OURS:
        assert f"train/{name}" in read.Tags()["scalars"]


def test_wandb_keeps_the_metrics_offline(run: Path) -> None:
    (log,) = (run.parent / "wandb").glob("offline-run-*/*.wandb")
    content = log.read_bytes()
    for name in OURS:
        assert f"train/{name}".encode() in content


def test_wandb_has_a_picture_and_a_table_at_every_held_out_probe(run: Path) -> None:
    (media,) = (run.parent / "wandb").glob("offline-run-*/files/media")
    (picture,) = (media / "images" / "heldout").glob("reliability_*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    (table,) = (media / "table" / "heldout").glob("completions_*.table.json")
    content = json.loads(table.read_text())
    assert content["columns"] == ["confidence", "correct", "prompt", "completion"] and len(content["data"]) == 10
    assert any("reward" in each or "brier" in each for each in _columns(media / "table")), "and the reward parts"


def _columns(folder: Path) -> list[list[str]]:
    return [json.loads(path.read_text())["columns"] for path in folder.glob("completions_*.table.json")]


def test_the_readme_holds_the_glossary() -> None:
    text = (Path(__file__).parents[2] / "rl" / "README.md").read_text(encoding="utf-8")
    assert markdown_table() in text, "the README's table differs from what candor metrics --markdown prints"
