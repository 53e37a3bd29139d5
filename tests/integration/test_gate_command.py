"""``candor gate``: fitted, saved into a checkpoint, applied, refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from estimators.gate import Gate
from experiments import cli


def records(path: Path, seed: int = 0, **columns: object) -> Path:
    rng = np.random.default_rng(seed)
    confidence = rng.beta(2, 1, 500)
    frame = {"confidence": confidence, "correct": (rng.random(500) < confidence).astype(int), **columns}
    pd.DataFrame(frame).to_parquet(path)
    return path


def test_fit_into_a_checkpoint_and_apply(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, out = tmp_path / "checkpoint", tmp_path / "actions.jsonl"
    checkpoint.mkdir()
    fitted = records(tmp_path / "calibration.parquet")
    assert cli.main(["gate", "fit", str(fitted), "--risk", "0.2", "--checkpoint", str(checkpoint)]) == 0
    said = capsys.readouterr().out
    assert "wrong among answers <= 0.2 with probability 0.9" in said and "certificate at 10% risk" in said
    gate = checkpoint / "calibration" / "gate.json"
    traffic = records(tmp_path / "traffic.parquet", 1)
    assert cli.main(["gate", "apply", str(gate), str(traffic), "--out", str(out)]) == 0
    assert "drift:" in capsys.readouterr().out
    actions = [json.loads(line) for line in out.read_text().splitlines()]
    threshold = Gate.load(gate).tiers[0].threshold
    assert threshold is not None
    assert [each["action"] for each in actions] == [
        "answer" if each["confidence"] >= threshold else "escalate" for each in actions
    ]


def test_infeasible_is_said_and_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = records(tmp_path / "bad.parquet", correct=[0, 1] * 250)
    assert cli.main(["gate", "fit", str(bad), "--risk", "0.1", "--out", str(tmp_path / "g.json")]) == 1
    said = capsys.readouterr().out
    assert "infeasible" in said and "at least 44.4%" in said and "certificate at 20% risk: none" in said


def test_parity_and_budget(tmp_path: Path) -> None:
    path = records(tmp_path / "pair.parquet", large_correct=1)
    assert cli.main(["gate", "fit", str(path), "--tolerance", "0.1", "--out", str(tmp_path / "a.json")]) == 0
    budget = ["--budget", "4", "--cost-large", "10", "--out", str(tmp_path / "b.json")]
    assert cli.main(["gate", "fit", str(path), *budget]) == 0
    assert Gate.load(tmp_path / "b.json").promise == "cost"


def test_what_cannot_be_done_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = records(tmp_path / "two.parquet", method=["a", "b"] * 250)
    for arguments, problem in (
        (["fit", str(two), "--risk", "0.1"], "several methods"),
        (["fit", str(two), "--risk", "0.1", "--method", "c"], "no method 'c'"),
        (["fit", str(two), "--risk", "7", "--method", "a"], "alpha is 7.0"),
        (["fit", str(two), "--budget", "2", "--method", "a"], "needs --cost-large"),
        (["apply", str(two), str(two)], "not valid JSON"),
        (["fit", str(tmp_path / "none.parquet"), "--risk", "0.1"], "no such file"),
    ):
        assert cli.main(["gate", *arguments]) == 2
        assert problem in capsys.readouterr().err
