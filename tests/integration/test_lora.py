"""A recipe with ``model.lora``: one step, an adapter with its calibration folder, and a probe that reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from experiments.cli import main
from tests.factories import json_lines


def test_an_adapter_is_trained_saved_with_its_calibration_and_probed(
    policy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = {"levels": list(policy.template.levels)}
    sections = {
        "task": {"name": "arithmetic", "max_steps": 1, "max_value": 19, "train_size": 40, "template": template},
        "model": {"path": str(policy.path), "attn_implementation": "eager", "lora": {"r": 4}},
        "rubric": {"accuracy": {}, "brier": {}, "format": {"weight": 0.5}},
        "trainer": {
            "method": "grpo", "confidence_loss_weight": 1.0, "beta": 0.1, "max_steps": 2, "learning_rate": 0.1,
            "per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 10, "use_cpu": True,
            "gradient_checkpointing": False, "save_steps": 1,
        },
        "estimators": {"answer_probability": {}},
        "probe": {"size": 20, "max_new_tokens": 12, "resamples": 10, "confidence": "answer_probability"},
    }  # fmt: skip
    recipe, run = tmp_path / "lora.yaml", tmp_path / "run"
    recipe.write_text(yaml.safe_dump(sections))
    assert main(["train", str(recipe), "--out", str(run)]) == 0
    for folder in (run / "final", run / "checkpoint-2"):
        files = {path.name for path in folder.iterdir()}
        assert {"adapter_config.json", "adapter_model.safetensors", "calibration", "tokenizer.json"} <= files
        assert "model.safetensors" not in files, "the base is not copied"
        adapter = load_file(folder / "adapter_model.safetensors")
        moved = [value.abs().max() for name, value in adapter.items() if "lora_B" in name]
        assert moved and min(moved) > 0
    records = json_lines(run / "metrics.jsonl")
    assert records[0]["kl"] == pytest.approx(0.0, abs=1e-6) and records[1]["kl"] > 1e-6, "to the policy without it"

    def brier(checkpoint: Path, name: str) -> float:
        out = tmp_path / name
        assert main(["probe", str(checkpoint), "--recipe", str(recipe), "--out", str(out)]) == 0
        metrics = json.loads((out / "metrics.json").read_text())["checkpoint"]
        return float(metrics["brier"]["value"])

    assert brier(run / "final", "adapter") != brier(policy.path, "base"), "the probe reads the adapter"
    (run / "final" / "adapter_model.safetensors").write_bytes(b"")
    assert main(["probe", str(run / "final"), "--out", str(tmp_path / "broken")]) == 2
