"""``candor export``: what is in the folder, that it is the same model, and what is refused before a byte is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from estimators import Confidence
from estimators.confidence import FIGURES
from estimators.exported import read_manifest, weights_digest
from estimators.gate import Gate
from estimators.recalibration import Recalibration
from experiments.cli import main
from tests.experiments.conftest import Exported
from tests.factories import Refusal


def test_the_folder_has_what_an_engine_and_a_router_need(exported: Exported) -> None:
    folder = exported.folder
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    model = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    calibration = {"calibration", "template", "rubric", "sampling", "versions", "gate"}
    assert model | {f"calibration/{each}.json" for each in calibration} <= names
    assert {"README.md", "decision_config.json", "calibration/recipe.yaml", "calibration/reliability.svg"} <= names
    assert all(Path(name).suffix in (".json", ".yaml", ".safetensors", ".md", ".svg") for name in names)
    assert json.loads((folder / "decision_config.json").read_text()) == {"format_version": 1, "temperature": 0.5}
    weights = (exported.run / "final" / "model.safetensors").read_bytes()
    assert (folder / "model.safetensors").read_bytes() == weights
    assert Gate.load(folder) == Gate.load(exported.gate)


def test_the_manifest_says_what_was_measured_and_on_what(exported: Exported) -> None:
    manifest = read_manifest(exported.folder)
    metrics = json.loads((exported.probe / "metrics.json").read_text())
    assert (manifest["estimator"], manifest["temperature"]) == ("expected_confidence", 0.5)
    assert manifest["measured"]["expected_confidence"] == metrics["checkpoint"]
    assert manifest["measured"]["verbalized"] == metrics["checkpoint_verbalized"]
    assert sum(each["count"] for each in manifest["reliability"]["expected_confidence"]) == 60
    assert (manifest["data"]["task"], manifest["data"]["split"], manifest["data"]["rows"]) == ("arithmetic", "test", 60)
    reading = Confidence.load(exported.folder).of_value(0.5, "measured")
    assert reading["calibrated"] == {name: metrics["checkpoint"][name] for name in FIGURES}


def test_recorded_answers_are_decided_as_the_probe_decides(
    exported: Exported, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    records, out = exported.probe / "records.parquet", tmp_path / "actions.jsonl"
    assert main(["gate", "apply", str(exported.gate), str(records), "--method", "checkpoint", "--out", str(out)]) == 0
    capsys.readouterr()
    probed = [json.loads(line)["action"] for line in out.read_text().splitlines()]
    rows = pd.read_parquet(records)
    rows = rows[rows["method"] == "checkpoint"]
    assert (
        Gate.load(exported.folder).actions(rows["confidence"].where(rows["parsed"]).to_numpy(float)).tolist() == probed
    )
    assert set(probed) == {"answer", "escalate"}


def test_what_foreign_records_do_not_say_is_told(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records, gate, out = tmp_path / "records.parquet", tmp_path / "gate.json", tmp_path / "out"
    pd.read_parquet(exported.calibration).drop(columns=["weights", "prompt"]).to_parquet(records)
    main(["gate", "fit", str(records), "--method", "checkpoint", "--risk", "0.9", "--out", str(gate)])
    assert main(["export", str(exported.run), "--gate", str(gate), "--out", str(out)]) == 0
    for said in ("does not say which weights gave", "does not say which questions it was fitted on"):
        assert said in capsys.readouterr().out or said in (out / "README.md").read_text()
    assert "does not say" not in (exported.folder / "README.md").read_text()


def test_an_export_from_elsewhere_into_a_link(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refusal
) -> None:
    run, here, link = tmp_path / "run", tmp_path / "here", tmp_path / "link"
    shutil.copytree(exported.run, run)
    report = json.loads((run / "probe" / "report.json").read_text())
    report["meta"]["checkpoint"] = "run/final"
    (run / "probe" / "report.json").write_text(json.dumps(report))
    here.mkdir()
    (tmp_path / "real").mkdir()
    link.symlink_to("real")
    monkeypatch.chdir(here)
    assert main(["export", str(run), "--out", str(link)]) == 0
    assert link.is_symlink() and Confidence.load(link) == Confidence.load(tmp_path / "real")
    assert "the command runs in this folder" in refusal.command("export", run, "--out", ".")
    assert not list(here.iterdir())


def measured(run: Path) -> None:
    """Make a run's probe one of the weights that it has now."""
    records = run / "probe" / "records.parquet"
    pd.read_parquet(records).assign(weights=weights_digest(run / "final")).to_parquet(records)


def test_the_card_has_the_figures_their_intervals_and_the_limits(exported: Exported) -> None:
    card = (exported.folder / "README.md").read_text()
    entry = json.loads((exported.probe / "metrics.json").read_text())["checkpoint"]["brier"]
    assert f"{entry['value']:.3f} ({entry['low']:.3f}\N{EN DASH}{entry['high']:.3f})" in card
    assert "library_name: transformers" in card and "calibration/reliability.svg" in card
    for heading in ("Gate", "Intended use", "What it was not tested on", "Provenance"):
        assert f"## {heading}\n" in card
    assert "60 held-out questions of the task `arithmetic`, split `test`" in card
    assert (exported.folder / "calibration" / "reliability.svg").read_text().startswith("<svg")


def test_the_exported_model_is_probed_as_the_checkpoint_was(exported: Exported, tmp_path: Path) -> None:
    assert main(["probe", str(exported.folder), "--out", str(tmp_path)]) == 0
    probed, again = (pd.read_parquet(path / "records.parquet") for path in (exported.probe, tmp_path))
    pd.testing.assert_frame_equal(probed, again)


def test_a_recalibration_is_fitted_on_its_own_records(exported: Exported, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fitted = ["--recalibrate", "temperature", "--calibration", str(exported.calibration)]
    assert main(["export", str(exported.run), "--out", str(out), *fitted]) == 0
    recalibration, manifest = Recalibration.load(out), read_manifest(out)
    assert recalibration.method == "temperature" and recalibration.rows > 0
    assert manifest["measured"]["recalibrated"]["brier"]["value"] is not None
    reading = Confidence.load(out).of_value(0.6, "measured")
    assert reading["confidence"] == pytest.approx(recalibration([0.6])[0]) != 0.6
    assert "| recalibrated |" in (out / "README.md").read_text()
    # An earlier export is replaced, whole.
    assert main(["export", str(exported.run), "--out", str(out), "--estimator", "verbalized"]) == 0
    assert read_manifest(out)["estimator"] == "verbalized" and not (out / "calibration" / "recalibration.json").exists()
    assert not (out / "decision_config.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.usefixtures("no_model_is_loaded")
def test_what_does_not_go_together_is_refused(exported: Exported, refusal: Refusal, tmp_path: Path) -> None:
    run, out = exported.run, tmp_path / "out"

    def refused(*arguments: object) -> str:
        message = refusal.command("export", *arguments)
        assert not out.exists()
        return message

    assert "holds no records.parquet" in refused(run, "--out", out, "--probe", tmp_path)
    assert "holds no model" in refused(tmp_path, "--out", out)
    assert "did you mean verbalized?" in refused(run, "--out", out, "--estimator", "verbalised")
    assert "agreement" in refused(run, "--out", out, "--estimator", "agreement")
    assert "go together" in refused(run, "--out", out, "--recalibrate", "platt")
    own = exported.probe / "records.parquet"
    assert "60 of its questions" in refused(run, "--out", out, "--recalibrate", "platt", "--calibration", own)
    assert "did you mean platt?" in refused(run, "--out", out, "--recalibrate", "plat", "--calibration", own)
    assert "adapters" in refused(run, "--out", out, "--adapters", "merged")
    assert "HF_HUB_OFFLINE=0" in refused(run, "--out", out, "--push", "me/model")
    gate = tmp_path / "gate.json"
    probed, records = pd.read_parquet(own), tmp_path / "records.parquet"
    foreign, part = "other weights than those of the checkpoint", probed["question_id"] != probed["question_id"][0]
    for rows, method, problem in (
        (probed, "checkpoint_verbalized", "the confidences of method"),
        (probed, "checkpoint", "60 of its questions are among those that the probe reports"),
        (probed[part], "checkpoint", "59 of its questions are among those that the probe reports"),
        (probed.assign(prompt=None), "checkpoint", "the very rows"),
        (probed.assign(weights="others", prompt="another"), "checkpoint", foreign),
    ):
        rows.to_parquet(records)
        main(["gate", "fit", str(records), "--method", method, "--risk", "0.9", "--out", str(gate)])
        assert problem in refused(run, "--out", out, "--gate", gate)
    assert foreign in refused(run, "--out", out, "--recalibrate", "platt", "--calibration", records).replace(
        "holds confidences of ", ""
    )
    gate.write_text("{}")
    assert "not a gate" in refused(run, "--out", out, "--gate", gate)
    other = tmp_path / "other"
    shutil.copytree(run, other)
    for weights in ("others", None):
        probed.assign(weights=weights).to_parquet(other / "probe" / "records.parquet")
        assert f"measured other weights than those of {other / 'final'}" in refused(other, "--out", out)
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("years of work")
    assert "is not empty" in refusal.command("export", run, "--out", full)
    assert (full / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"correct": None}, "could be judged"),
        ({"correct": 1.0}, "all right or all wrong"),
        ({"prompt": None}, "holds no prompts"),
    ],
)
def test_a_recalibration_is_not_fitted_on_what_cannot_teach_one(
    exported: Exported, refusal: Refusal, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    records = tmp_path / "records.parquet"
    pd.read_parquet(exported.calibration).assign(**changes).to_parquet(records)
    fitted = ["--recalibrate", "platt", "--calibration", records]
    assert said in refusal.command("export", exported.run, "--out", tmp_path / "out", *fitted)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.json", None, "would not be read again"),
        ("tokenizer.json", b"{}", "would not be read again"),
        ("config.json", b"{}", "would not be read again"),
        ("calibration/template.json", None, "no calibration/template.json"),
        ("calibration/template.json", b"{", "is not a template"),
        ("calibration/template.json", b'{"levels": 3}', "is not a template"),
        ("calibration/sampling.json", b"[]", "holds no temperature"),
        ("model.safetensors", b"weights", "header"),
    ],
)
def test_a_checkpoint_that_could_not_be_read_again_is_refused(
    exported: Exported, refusal: Refusal, tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    path = exported.run / "final" / name
    kept = path.read_bytes()
    try:
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        measured(exported.run)
        assert said in refusal.command("export", exported.run, "--out", tmp_path / "out")
        assert not list(tmp_path.iterdir())
    finally:
        path.write_bytes(kept)
        measured(exported.run)


def test_weights_that_are_not_numbers_are_refused(exported: Exported, refusal: Refusal, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = exported.run / "final" / "model.safetensors"
    kept = path.read_bytes()
    try:
        tensors = load_file(path)
        tensors[next(iter(tensors))][0] = np.nan
        save_file(tensors, path)
        measured(exported.run)
        assert "not finite" in refusal.command("export", exported.run, "--out", tmp_path / "out")
    finally:
        path.write_bytes(kept)
        measured(exported.run)
    assert not (tmp_path / "out").exists() and not list(tmp_path.iterdir())


@pytest.mark.parametrize("adapters", ["merge", "keep"])
def test_an_adapter_is_merged_or_kept(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refusal, adapters: str
) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from rl.checkpoint import load_policy

    run = tmp_path / "run"
    shutil.copytree(exported.run, run)
    shutil.copytree(exported.run / "final", tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    base, _ = load_policy("base")
    adapted = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=2, init_lora_weights=False))
    (run / "final" / "model.safetensors").unlink()
    (run / "final" / "config.json").unlink()
    adapted.save_pretrained(run / "final")
    assert json.loads((run / "final" / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"
    measured(run)
    out = tmp_path / "out"
    assert main(["export", str(run), "--out", str(out), "--adapters", adapters]) == 0
    monkeypatch.chdir(exported.run)
    names = {path.name for path in out.iterdir()}
    assert ("model.safetensors" in names) == (adapters == "merge") != ("adapter_model.safetensors" in names)
    loaded: Any = AutoModelForCausalLM.from_pretrained(out)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.allclose(loaded.eval()(ids).logits, adapted.eval()(ids).logits, atol=1e-5)
    assert Confidence.load(out).estimator == "expected_confidence"
    if adapters == "keep":
        (tmp_path / "base" / "model.safetensors").write_bytes(b"weights of another model")
        with pytest.raises(ValueError, match="is not the base of its adapter that was measured"):
            Confidence.load(out)
        shutil.rmtree(tmp_path / "base")
        assert Confidence.load(out).gate is None, "a router needs no weights"
        assert "is no folder with weights here" in refusal.command("export", run, "--out", out, "--adapters", adapters)


def test_a_push_uploads_the_folder_and_nothing_else(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[dict[str, Any]] = []

    class Hub:
        def create_repo(self, name: str, **options: Any) -> str:
            calls.append({"name": name, **options})
            return f"https://hub/{name}"

        def upload_folder(self, **options: Any) -> None:
            calls.append(options)

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert main(["export", str(exported.run), "--out", str(tmp_path / "out"), "--push", "me/model"]) == 0
    assert calls[0] == {"name": "me/model", "private": True, "exist_ok": True}
    assert calls[1]["repo_id"] == "me/model" and calls[1]["folder_path"] == str(tmp_path / "out")
    assert "https://hub/me/model" in capsys.readouterr().out


def test_a_push_that_fails_is_one_line_and_the_folder_stays(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hub's real client, and nobody at the address."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    run = [str(exported.run), "--out", str(tmp_path / "out")]
    assert main(["export", *run, "--push", "me/model"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("candor: --push: me/model was not uploaded (") and said.count("\n") == 1
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert main(["export", str(exported.run), "--out", str(tmp_path / "no"), "--push", "me/bad name"]) == 2
    assert "--push: Repo id must use" in capsys.readouterr().err and not (tmp_path / "no").exists()
