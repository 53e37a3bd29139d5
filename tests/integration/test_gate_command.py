"""``candor gate``: fitted, saved into a checkpoint, applied, refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from estimators.gate import Gate
from experiments import cli
from tests.factories import Refusal


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


def test_what_could_not_be_read_is_counted_as_it_is_decided(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, gate, out = records(tmp_path / "unread.parquet", correct=1), tmp_path / "g.json", tmp_path / "actions.jsonl"
    pd.read_parquet(path).assign(confidence=[0.0] * 400 + [None] * 100).to_parquet(path)
    assert cli.main(["gate", "fit", str(path), "--risk", "0.1", "--out", str(gate)]) == 0
    assert "answer from confidence 0: 80.0% of rows" in capsys.readouterr().out
    assert cli.main(["gate", "apply", str(gate), str(path), "--out", str(out)]) == 0
    assert "answer: 80.0% of 500 rows" in capsys.readouterr().out
    assert json.loads(out.read_text().splitlines()[-1])["confidence"] is None
    assert cli.main(["gate", "fit", str(path), "--budget", "1.1", "--cost-large", "1", "--out", str(gate)]) == 1


def test_traffic_that_nobody_has_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str], refusal: Refusal) -> None:
    judged, traffic, gate = records(tmp_path / "judged.parquet"), tmp_path / "traffic.jsonl", tmp_path / "g.json"
    pd.read_parquet(judged).drop(columns="correct").to_json(traffic, orient="records", lines=True)
    budget = ["--budget", "4", "--cost-large", "10", "--out", str(gate)]
    for fit in ([judged, "--risk", "0.2", "--out", gate], [traffic, *budget]):
        assert cli.main(["gate", "fit", *map(str, fit)]) == 0
        assert cli.main(["gate", "apply", str(gate), str(traffic)]) == 0
        said = capsys.readouterr().out
        assert "drift:" in said and "wrong among answers:" not in said
    assert "no column 'correct'" in refusal.command("gate", "fit", traffic, "--risk", "0.2")


def test_a_gate_that_can_only_escalate_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hopeless = records(tmp_path / "pair.parquet", correct=0, large_correct=1)
    assert cli.main(["gate", "fit", str(hopeless), "--tolerance", "0.01", "--out", str(tmp_path / "g.json")]) == 0
    assert "ok: only escalating everything is certainly at parity" in capsys.readouterr().out


def test_a_cascade_is_fitted_and_applied_tier_by_tier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [f"q{number}" for number in range(500)]
    small, large = records(tmp_path / "small.parquet", question_id=ids), tmp_path / "large.parquet"
    records(large, 1, question_id=ids[::-1], correct=[1] * 480 + [0] * 20)
    gate, out = tmp_path / "gate.json", tmp_path / "actions.jsonl"
    fit = ["gate", "fit", str(small), str(large), "--risk", "0.2", "--out", str(gate)]
    assert cli.main([*fit, "--otherwise", "abstain"]) == 0
    said = capsys.readouterr().out
    assert "tier 1: answer from confidence" in said and "tier 2: answer from confidence" in said
    loaded = Gate.load(gate)
    assert loaded.source == "small.parquet, method all; large.parquet, method all" and len(loaded.tiers) == 2
    assert cli.main(["gate", "apply", str(gate), str(small), str(large), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "small answers: " in said and "wrong among answers of large: " in said and "note" not in said
    actions = {each["question_id"]: each["action"] for each in map(json.loads, out.read_text().splitlines())}
    first, second = (pd.read_parquet(each).set_index("question_id")["confidence"] for each in (small, large))
    for question, action in actions.items():
        kept = [c[question] >= tier.threshold for c, tier in zip((first, second), loaded.tiers, strict=True)]
        assert action == ("answer_1" if kept[0] else "answer_2" if kept[1] else "abstain")
    assert {"answer_1", "answer_2"} <= set(actions.values())
    assert cli.main(["gate", "apply", str(gate), str(small)]) == 2
    assert "decides for 2 models" in capsys.readouterr().err


def test_the_gate_of_another_method_is_said_to_promise_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted, other = records(tmp_path / "a.parquet", method="a"), records(tmp_path / "b.parquet", 1, method="b")
    assert cli.main(["gate", "fit", str(fitted), "--risk", "0.3", "--out", str(tmp_path / "g.json")]) == 0
    capsys.readouterr()
    assert cli.main(["gate", "apply", str(tmp_path / "g.json"), str(other)]) == 0
    assert "note: fitted on a.parquet, method a; this is method b, of which it promises" in capsys.readouterr().out


def test_repeated_questions_are_not_counted_as_independent_ones(tmp_path: Path, refusal: Refusal) -> None:
    twice = records(tmp_path / "twice.parquet", question_id=[f"q{number // 2}" for number in range(500)])
    expected = f"{twice}: question 'q0' has several rows, expected one answer to a question"
    assert refusal.command("gate", "fit", twice, "--risk", "0.3") == expected
    once = records(tmp_path / "once.parquet")
    assert cli.main(["gate", "fit", str(once), "--risk", "0.3", "--out", str(tmp_path / "g.json")]) == 0
    assert cli.main(["gate", "apply", str(tmp_path / "g.json"), str(twice)]) == 0


@pytest.mark.parametrize("out", ["folder", "file.parquet/gate.json"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, refusal: Refusal, out: str) -> None:
    path = records(tmp_path / "file.parquet")
    (tmp_path / "folder").mkdir()
    assert cli.main(["gate", "fit", str(path), "--risk", "0.3", "--out", str(tmp_path / "g.json")]) == 0
    place = tmp_path / out
    for command in (["fit", path, "--risk", "0.3"], ["apply", tmp_path / "g.json", path]):
        assert refusal.command("gate", *command, "--out", place).startswith(f"--out {place}: cannot be written: ")


def test_what_cannot_be_done_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = records(tmp_path / "two.parquet", method=["a", "b"] * 250)
    unjudged = records(tmp_path / "unjudged.parquet", correct=np.nan)
    for arguments, problem in (
        (["fit", str(two), "--risk", "0.1"], "several methods"),
        (["fit", str(two), "--risk", "0.1", "--method", "c"], "no method 'c'"),
        (["fit", str(two), "--risk", "7", "--method", "a"], "--risk: 7.0 is not between 0 and 1"),
        (["fit", str(two), "--risk", "nan", "--method", "a"], "--risk: nan is not between 0 and 1"),
        (["fit", str(two), "--risk", "0.1", "--delta", "0", "--method", "a"], "--delta: 0.0 is not between 0 and 1"),
        (["fit", str(two), "--tolerance", "-1", "--method", "a"], "--tolerance: -1.0 is not from 0 to below 1"),
        (["fit", str(two), "--tolerance", "0.1", "--method", "a"], "--tolerance needs judged rows with large_correct"),
        (["fit", str(two), "--tolerance", "0.1", "--form", "holm"], "--form goes with --risk, not with --tolerance"),
        (["fit", str(two), "--risk", "0.1", "--cost-large", "3"], "--cost-large goes with --budget, not with --risk"),
        (["fit", str(two), "--budget", "2", "--method", "a"], "needs --cost-large"),
        (["fit", str(two), "--budget", "inf", "--cost-large", "3", "--method", "a"], "expected 0 <= small < budget"),
        (["fit", str(two), str(two), "--tolerance", "0.1"], "--tolerance is for the records of one model, 2 given"),
        (["fit", str(two), str(two), "--risk", "0.1"], "tiers called two, two: expected different names"),
        (["fit", str(unjudged), "--risk", "0.1"], "unjudged.parquet: no row has a verdict"),
        (["fit", str(two), "--risk", "0.1", "--checkpoint", str(tmp_path / "no")], "no: no such folder"),
        (["apply", str(two), str(two)], "not valid JSON"),
        (["apply", str(tmp_path / "none.json"), str(two)], "none.json: no such file"),
        (["fit", str(tmp_path / "none.parquet"), "--risk", "0.1"], "no such file"),
    ):
        assert cli.main(["gate", *arguments]) == 2
        assert problem in capsys.readouterr().err
