"""The main job from end to end on the shipped policies, with few steps and few questions."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from experiments.errors import ConfigError
from experiments.quickstart import quickstart

OVERRIDES = (
    "trainer.max_steps=2",
    "trainer.per_device_train_batch_size=16",
    "task.train_size=64",
    "probe.size=60",
    "probe.resamples=50",
    "probe.samples=2",
    "probe.recalibration_size=60",
)
RECALIBRATED = {
    name: [f"{name}_answer_probability_{each}" for each in ("temperature", "isotonic")] for name in ("rlvr", "candor")
}
METRICS = {"accuracy", "brier", "ece", "auroc", "confident_error_rate", "unparsed", "escalation_rate_to_parity"}


def test_quickstart_trains_probes_and_reports_and_resumes(tmp_path):
    out = tmp_path / "run"
    said: list[str] = []
    quickstart(out, OVERRIDES, say=said.append)
    checkpoints = json.loads((out / "metrics.json").read_text())["checkpoints"]
    assert list(checkpoints) == [
        *("warm_start", "warm_start_sampled"),
        *("rlvr", "rlvr_answer_probability", "rlvr_expected_confidence", *RECALIBRATED["rlvr"], "rlvr_sampled"),
        *("candor", "candor_verbalized", "candor_answer_probability", *RECALIBRATED["candor"], "candor_sampled"),
    ]
    for name in ("warm_start", "rlvr", "candor"):
        assert checkpoints[name].keys() >= METRICS
        assert all({"value", "low", "high"} <= entry.keys() for entry in checkpoints[name].values())
    # The shipped warm start is what the quickstart says it is: mostly wrong, and sure of everything.
    warm = {name: checkpoints["warm_start"][name]["value"] for name in METRICS}
    assert 0.1 < warm["accuracy"] < 0.4
    assert warm["ece"] > 0.5
    assert warm["unparsed"] < 0.05
    # The answer-token probability is another confidence of the same answers.
    assert checkpoints["rlvr_answer_probability"]["accuracy"] == checkpoints["rlvr"]["accuracy"]
    assert checkpoints["rlvr_answer_probability"]["brier"] != checkpoints["rlvr"]["brier"]
    # candor is read by its distribution over the levels, and what it states stands beside that.
    assert checkpoints["candor_verbalized"]["accuracy"] == checkpoints["candor"]["accuracy"]
    assert checkpoints["candor_verbalized"]["brier"] != checkpoints["candor"]["brier"]

    records = pd.read_parquet(out / "records.parquet")
    assert records.groupby("method").size().to_dict() == {
        name: 120 if name.endswith("sampled") else 60 for name in checkpoints
    }
    assert records["large_correct"].notna().all()
    page = (out / "report.html").read_text()
    assert "candor quickstart" in page
    assert "<script" not in page
    assert (out / "candor" / "final" / "calibration" / "template.json").is_file()

    with pytest.raises(ConfigError, match="--resume"):
        quickstart(out, OVERRIDES, say=said.append)

    # What is there is kept, what is missing is made again: the same records from the same checkpoints.
    weights = (out / "candor" / "final" / "model.safetensors").stat().st_mtime_ns
    (out / "probe" / "candor.parquet").unlink()
    quickstart(out, OVERRIDES, resume=True, say=said.append)
    assert (out / "candor" / "final" / "model.safetensors").stat().st_mtime_ns == weights
    pd.testing.assert_frame_equal(pd.read_parquet(out / "records.parquet"), records)
