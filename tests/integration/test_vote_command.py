"""``candor vote`` through the command line: a checkpoint or a file of samples in, a table and votes.json out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from estimators.online.thresholds import Identity, Thresholds
from experiments.cli import main
from experiments.probe.samples import read_samples
from experiments.probe.votes import FULL
from tests.factories import Refusal

SAMPLES = [
    {"question_id": str(n // 4), "answer": "7" if n % 4 else "5", "correct": int(n % 4 > 0), "confidences": [2.0] * 5}
    for n in range(16)
]


def test_recorded_samples_are_voted_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "samples.jsonl"
    source.write_text("".join(json.dumps(each) + "\n" for each in SAMPLES), encoding="utf-8")
    assert main(["vote", "--samples", str(source), "--out", str(tmp_path / "out")]) == 0
    votes = json.loads((tmp_path / "out" / "votes.json").read_text(encoding="utf-8"))
    assert votes[FULL]["accuracy"]["value"] == 1.0 and votes["single trace"]["accuracy"]["value"] == 0.0
    assert votes["cannot turn"]["tokens"]["value"] == votes[FULL]["tokens"]["value"] == 20.0
    printed = capsys.readouterr().out
    assert "deepconf online, high, fitted" in printed and "100.0 to 100.0" in printed
    assert "16 of 16 traces are shorter than the window of 2048" in printed


def test_a_checkpoint_is_sampled_and_its_thresholds_are_its_own(policy: Any, tmp_path: Path) -> None:
    task = {"name": "dataset", "path": str(tmp_path / "rows.jsonl"), "splits": {"test": "train"}}
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(each) + "\n" for each in policy.rows), encoding="utf-8")
    levels = list(policy.template.levels)
    recipe = tmp_path / "sums.yaml"
    recipe.write_text(json.dumps({
        "task": {**task, "chat": False, "instructions": False, "template": {"levels": levels}},
        "model": {"path": str(policy.path), "attn_implementation": "eager"},
        "rubric": {"accuracy": {"weight": 1.0}},
        "trainer": {"method": "sft", "max_steps": 1},
        "probe": {"size": 6, "split": "test", "max_new_tokens": 12, "samples": 3},
    }), encoding="utf-8")  # fmt: skip
    out = tmp_path / "out"
    arguments = [str(policy.path), "--recipe", str(recipe), "--window", "2", "--trials"]
    assert main(["vote", *arguments, "--out", str(out)]) == 0
    samples = pd.read_parquet(out / "samples.parquet")
    assert len(samples) == 18 and samples["question_id"].nunique() == 6
    lengths = {
        len(each.confidences_T) for question in read_samples(out / "samples.parquet") for each in question.traces
    }
    assert max(lengths) <= 12
    with pytest.raises(ValueError, match=r"fitted for model .*, not 'another'; tokenizer .*; definition 'lowest group"):
        Thresholds.load(out / "thresholds.json", Identity("another", "another", "another"))
    again = tmp_path / "again"
    assert main(["vote", *arguments, "--out", str(again)]) == 0
    assert (again / "votes.json").read_bytes() == (out / "votes.json").read_bytes()


def test_what_cannot_be_asked_for_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused = Refusal(capsys)
    out = ["--out", tmp_path / "out"]
    assert refused.command("vote", *out) == "vote: expected one of CHECKPOINT, --samples FILE"
    assert "no such file" in refused.command("vote", "--samples", tmp_path / "none.jsonl", *out)
    assert "are for a checkpoint" in refused.command("vote", "--samples", "s.jsonl", "--trials", *out)
    assert refused.command("vote", "tiny-small", "--window", "0", *out).startswith("--window is 0")
    assert "probe.samples is 0" in refused.command("vote", "tiny-small", "--recipe", "warm_start", *out)
