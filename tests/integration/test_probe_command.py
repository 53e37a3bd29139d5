"""``candor probe`` and ``candor report`` through the command line: three sources in, one set of files out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from experiments.cli import main
from experiments.probe.records import COLUMNS
from tests.factories import Refusal


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def records_rows(count: int = 60, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    confidence = rng.integers(0, 11, count) / 10
    correct = rng.random(count) < confidence
    return [
        {"question_id": f"q{n}", "method": "ab"[n % 2], "confidence": float(confidence[n]), "correct": int(correct[n])}
        for n in range(count)
    ]


COMPLETIONS = [
    {"prompt": "2+2?", "gold": "4", "completion": "<answer>4</answer><confidence>0.9</confidence>"},
    {"prompt": "2+3?", "gold": "5", "completion": "<answer>6</answer><confidence>0.8</confidence>"},
    {"prompt": "1/2?", "gold": "0.5", "completion": r"<answer>\frac{1}{2}</answer><confidence>1</confidence>"},
    {"prompt": "3+3?", "gold": "6", "completion": "<answer>6</answer><confidence>95%</confidence>"},
    {"prompt": "3+4?", "gold": "7", "completion": "I do not know."},
    {"prompt": "8?", "gold": "", "completion": "<answer>8</answer><confidence>0.5</confidence>"},
]


def check_files(out: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """The three files of a probe, each in its form; returns the metrics."""
    assert {path.name for path in out.iterdir()} == {"records.parquet", "metrics.json", "report.json", "report.html"}
    assert list(pd.read_parquet(out / "records.parquet").columns) == list(COLUMNS)
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    for method in metrics.values():
        assert {"accuracy", "brier", "ece", "auroc", "confident_error_rate", "unparsed", "unjudged"} <= set(method)
        for entry in method.values():
            assert set(entry) == {"value", "low", "high", "n"}
            assert entry["value"] is None or entry["low"] is None or entry["low"] <= entry["value"] <= entry["high"]
    assert "<html" in (out / "report.html").read_text(encoding="utf-8")
    return metrics


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_recorded_outcomes_are_measured(
    tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    rows = records_rows()
    source = write(tmp_path / f"outcomes{suffix}", rows)
    assert main(["probe", "--records", str(source), "--out", str(tmp_path / "out"), "--seed", "3"]) == 0
    metrics = check_files(tmp_path / "out")
    assert list(metrics) == ["a", "b"]
    for method in metrics:
        mine = [row for row in rows if row["method"] == method]
        assert metrics[method]["accuracy"]["value"] == pytest.approx(np.mean([row["correct"] for row in mine]))
        assert metrics[method]["accuracy"]["n"] == 30
        squares = [(row["confidence"] - row["correct"]) ** 2 for row in mine]
        assert metrics[method]["brier"]["value"] == pytest.approx(np.mean(squares))
    shown = capsys.readouterr().out
    assert "Accuracy" in shown
    assert shown.splitlines()[-1] == str(tmp_path / "out" / "report.html")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_completions_are_parsed_judged_and_measured(tmp_path: Path, suffix: str) -> None:
    source = write(tmp_path / f"answers{suffix}", COMPLETIONS)
    assert main(["probe", "--completions", str(source), "--out", str(tmp_path / "out")]) == 0
    metrics = check_files(tmp_path / "out")["all"]
    records = pd.read_parquet(tmp_path / "out" / "records.parquet")
    assert records["correct"].fillna(-1).tolist() == [1, 0, 1, 1, 0, -1]
    assert records["confidence"].tolist() == [0.9, 0.8, 1.0, 0.95, 0.0, 0.5]
    assert records["lenient"].tolist() == [False, False, False, True, False, False]
    assert metrics["accuracy"]["value"] == pytest.approx(3 / 5)
    assert metrics["unparsed"]["value"] == pytest.approx(1 / 5)
    assert metrics["unjudged"]["value"] == pytest.approx(1 / 6)


def test_the_report_is_written_again_from_the_files_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write(tmp_path / "outcomes.jsonl", records_rows()), tmp_path / "out"
    assert main(["probe", "--records", str(source), "--out", str(out)]) == 0
    page = (out / "report.html").read_bytes()
    assert b"outcomes.jsonl" in page
    source.unlink()
    (out / "report.html").unlink()
    capsys.readouterr()
    assert main(["report", str(out)]) == 0
    assert (out / "report.html").read_bytes() == page
    assert capsys.readouterr().out == f"{out}/report.html\n"


def test_one_report_over_several_runs_keeps_their_numbers(tmp_path: Path) -> None:
    for seed in (0, 1):
        source = write(tmp_path / f"{seed}.jsonl", records_rows(seed=seed))
        assert main(["probe", "--records", str(source), "--out", str(tmp_path / f"run{seed}")]) == 0
    runs = [str(tmp_path / "run0"), str(tmp_path / "run1")]
    assert main(["report", *runs, "--out", str(tmp_path / "both")]) == 0
    together = check_files(tmp_path / "both")
    alone = json.loads((tmp_path / "run1" / "metrics.json").read_text())
    assert list(together) == ["run0: a", "run0: b", "run1: a", "run1: b"]
    assert together["run1: b"] == alone["b"]


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    source = write(tmp_path / "outcomes.jsonl", records_rows())
    written = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert main(["probe", "--records", str(source), "--out", str(tmp_path / name), "--seed", str(seed)]) == 0
        written.append((tmp_path / name / "metrics.json").read_text())
    assert written[0] == written[1] != written[2]


def test_outcomes_are_measured_without_torch(tmp_path: Path) -> None:
    source = write(tmp_path / "outcomes.jsonl", records_rows(20))
    program = (
        "import sys; from experiments.cli import main; status = main(sys.argv[1:]);"
        "sys.exit(status or 10 * bool({'torch', 'transformers', 'trl'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, "probe", "--records", str(source), "--out", str(tmp_path / "out")]
    assert subprocess.run(command, capture_output=True).returncode == 0


# -- what is refused -------------------------------------------------------------------------------------------------
def test_exactly_one_source_is_measured(tmp_path: Path, refusal: Refusal) -> None:
    expected = "probe: expected one of CHECKPOINT, --completions FILE, --records FILE, --logs PATH; got "
    assert refusal.command("probe", "--out", tmp_path / "out") == f"{expected}none of them"
    given = ["--records", "a.jsonl", "--completions", "b.jsonl"]
    assert refusal.command("probe", *given, "--out", tmp_path / "out") == f"{expected}--completions and --records"
    both = refusal.command("probe", "tiny-small", "--records", "a.jsonl", "--out", tmp_path / "out")
    assert both == f"{expected}CHECKPOINT and --records"
    assert not (tmp_path / "out").exists()


def test_a_recipe_is_for_a_checkpoint(tmp_path: Path, refusal: Refusal) -> None:
    source = write(tmp_path / "outcomes.jsonl", records_rows(4))
    message = refusal.command("probe", "--records", source, "--recipe", "rlvr", "--out", tmp_path / "out")
    assert message == "probe: --recipe and key=value are for a checkpoint, not for --records"
    assert refusal.command("probe", "--records", source, "probe.size=3", "--out", tmp_path / "out") == message
    nothing = refusal.command("probe", "probe.size=3", "--out", tmp_path / "out")
    assert nothing.endswith("--logs PATH; got none of them")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path, suffix: str, refusal: Refusal) -> None:
    rows = [{name: value for name, value in row.items() if name != "gold"} | {"golds": "4"} for row in COMPLETIONS]
    source = write(tmp_path / f"answers{suffix}", rows)
    message = refusal.command("probe", "--completions", source, "--out", tmp_path / "out")
    assert message.startswith(f"{source}: no column 'gold' ('golds' is there; did you mean 'gold'?), only 'prompt', ")
    assert "no column 'confidence'" in refusal.command("probe", "--records", source, "--out", tmp_path / "out")


def test_a_broken_line_is_named_by_its_number(tmp_path: Path, refusal: Refusal) -> None:
    source = write(tmp_path / "outcomes.jsonl", records_rows(3))
    source.write_text(source.read_text() + '\n{"confidence": 0.5,\n')
    message = refusal.command("probe", "--records", source, "--out", tmp_path / "out")
    assert message.startswith(f"{source}:5: not valid JSON: ")
    write(source, [*records_rows(3), {"confidence": 1.5, "correct": 1, "method": "a", "question_id": "x"}])
    message = refusal.command("probe", "--records", source, "--out", tmp_path / "out")
    assert message == f"{source}, line 4, column 'confidence': 1.5 found, expected a number from 0 to 1"


def test_json_that_is_not_one_object_a_line_says_so(tmp_path: Path, refusal: Refusal) -> None:
    source = tmp_path / "pretty.jsonl"
    source.write_text('[\n{"confidence": 0.5, "correct": 1}\n]\n')
    message = refusal.command("probe", "--records", source, "--out", tmp_path / "out")
    assert message == f"{source}:1: not valid JSON: Expecting value at column 1; expected one whole object a line"


def test_a_folder_and_an_empty_file_are_told_from_a_missing_one(tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "parts.parquet").mkdir()
    (tmp_path / "empty.jsonl").touch()
    for name, problem in (
        ("parts.parquet", "is a folder, expected a file"),
        ("empty.jsonl", "the file is empty"),
        ("absent.jsonl", "no such file"),
    ):
        for command in (["probe", "--records"], ["abstain", "measure", "--records"]):
            assert refusal.command(*command, tmp_path / name, "--out", tmp_path / "out") == (
                f"{tmp_path / name}: {problem}"
            )
    for name, problem in (("empty.jsonl", "the file is empty"), ("absent.jsonl", "no such file")):
        problems = refusal.command("abstain", "pairs", tmp_path / name, "--out", tmp_path / "pairs.jsonl")
        asked = ["abstain", "options", "tiny-facts", "--recipe", "facts", "--out", tmp_path / "out"]
        assert problems == refusal.command(*asked, "--questions", tmp_path / name) == f"{tmp_path / name}: {problem}"


def test_rows_without_a_verdict_are_said_to_measure_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    rows = [{"confidence": 0.5, "correct": None, "method": "quiet"}] * 3 + [
        {"confidence": 0.5, "correct": 1, "method": "said"}
    ]
    source = write(tmp_path / "outcomes.jsonl", rows)
    assert main(["probe", "--records", str(source), "--out", str(tmp_path / "out")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "quiet: none of 3 rows has a verdict (correct), so nothing is measured of them" in said
    assert "said: none" not in said


@pytest.mark.parametrize("option", ["--records", "--completions"])
def test_a_missing_file_is_named(tmp_path: Path, option: str, refusal: Refusal) -> None:
    message = refusal.command("probe", option, tmp_path / "absent.jsonl", "--out", tmp_path / "out")
    assert message == f"{tmp_path}/absent.jsonl: no such file"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, refusal: Refusal) -> None:
    source = write(tmp_path / "outcomes.jsonl", records_rows(4))
    message = refusal.command("probe", "--records", source, "--out", source / "out")
    assert message == f"--out {source}/out: cannot be written: Not a directory"
    message = refusal.command("report", tmp_path, "--out", source / "out")
    assert message == f"--out {source}/out: cannot be written: Not a directory"


def test_a_report_needs_the_files_of_a_run(tmp_path: Path, refusal: Refusal) -> None:
    assert refusal.command("report", tmp_path) == f"{tmp_path}/records.parquet: no such file"
    assert refusal.command("report", tmp_path / "absent") == f"{tmp_path}/absent/records.parquet: no such file"
    assert not (tmp_path / "absent").exists()


def test_a_report_names_the_figure_that_is_none(tmp_path: Path, refusal: Refusal) -> None:
    source, out = write(tmp_path / "outcomes.jsonl", records_rows()), tmp_path / "out"
    assert main(["probe", "--records", str(source), "--out", str(out)]) == 0
    entry = {"value": "high", "low": None, "high": None, "n": 3}
    (out / "metrics.json").write_text(json.dumps({"a": {"accuracy": entry}}))
    expected = f"{out}/metrics.json: 'a': 'accuracy': value is 'high', expected a number or null"
    assert refusal.command("report", out) == expected
    assert main(["probe", "--records", str(source), "--out", str(out)]) == 0
    (out / "report.json").write_text('{"meta": [1]}')
    assert refusal.command("report", out) == f"{out}/report.json: meta is [1], expected an object"


# -- checkpoints -----------------------------------------------------------------------------------------------------
@pytest.fixture
def recipe(policy: Any, tmp_path: Path) -> Path:
    """A recipe that probes the trained policy on one-digit arithmetic and escalates to that same policy."""
    source = {
        "task": {
            "name": "arithmetic",
            "max_steps": 1,
            "max_value": 19,
            "template": {"levels": list(policy.template.levels)},
        },
        "model": {"path": str(policy.path), "attn_implementation": "eager"},
        "rubric": {"accuracy": {"weight": 1.0}},
        "estimators": {"answer_probability": {"reduction": "mean"}},
        "trainer": {"method": "grpo"},
        "probe": {
            "size": 30,
            "batch_size": 8,
            "max_new_tokens": 12,
            "resamples": 30,
            "escalate_to": str(policy.path),
        },
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(source))
    return path


@pytest.fixture
def checkpoint(policy: Any, recipe: Path, tmp_path: Path) -> Path:
    """The trained policy as training leaves it: the recipe and the template beside the weights."""
    from rl.checkpoint import write_calibration

    folder = Path(shutil.copytree(policy.path, tmp_path / "final"))
    write_calibration(folder, policy.template, None, yaml.safe_load(recipe.read_text()))
    return folder


def test_a_checkpoint_is_probed_by_the_recipe_beside_its_weights(checkpoint: Path, tmp_path: Path) -> None:
    assert main(["probe", str(checkpoint), "--out", str(tmp_path / "out"), "probe.size=25"]) == 0
    metrics = check_files(tmp_path / "out")
    assert list(metrics) == ["checkpoint", "checkpoint_answer_probability"]
    records = pd.read_parquet(tmp_path / "out" / "records.parquet")
    stated, computed = (frame.reset_index() for _, frame in records.groupby("method", sort=False))
    assert len(stated) == len(computed) == 25
    assert (stated["status"] == "ok").mean() > 0.5
    assert 0 < stated["correct"].mean() < 1
    # The same completions, judged once; only the confidence is another.
    for column in ("question_id", "completion", "answer", "correct", "large_correct"):
        assert stated[column].equals(computed[column])
    assert computed["confidence"].nunique() > stated["confidence"].nunique()
    assert set(computed["confidence_source"]) <= {"computed", "unparsed"}
    # Escalated to itself, a policy gains nothing.
    assert stated["large_correct"].equals(stated["correct"])
    assert metrics["checkpoint"]["escalation_rate_to_parity"]["value"] in (0.0, None)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "arithmetic" in page
    assert str(checkpoint) in page


def test_questions_are_sampled_beside_the_greedy_answers(policy: Any, recipe: Path, tmp_path: Path) -> None:
    out, asked = tmp_path / "out", ["estimators=null", "probe.size=10", "probe.samples=3", "probe.sampled_size=4"]
    assert main(["probe", str(policy.path), "--recipe", str(recipe), "--out", str(out), *asked]) == 0
    records = pd.read_parquet(out / "records.parquet")
    greedy, sampled = (records[records["method"] == name] for name in ("checkpoint", "checkpoint_sampled"))
    assert (len(greedy), len(sampled)) == (10, 12)
    assert sampled["question_id"].tolist() == greedy["question_id"].head(4).repeat(3).tolist()
    assert sampled["large_correct"].tolist() == greedy["large_correct"].head(4).repeat(3).tolist()
    assert "solve rate strictly between" in (out / "report.html").read_text()


def test_a_policy_without_a_recipe_is_probed_by_the_one_named(policy: Any, recipe: Path, tmp_path: Path) -> None:
    command = ["probe", str(policy.path), "--recipe", str(recipe), "--out", str(tmp_path / "out")]
    assert main([*command, "probe.escalate_to=null", "estimators=null", "probe.size=10"]) == 0
    metrics = check_files(tmp_path / "out")
    assert list(metrics) == ["checkpoint"]
    assert "escalation_rate_to_parity" not in metrics["checkpoint"]
    assert metrics["checkpoint"]["accuracy"]["n"] == 10


def test_the_template_beside_the_weights_is_the_one_read_by(checkpoint: Path, recipe: Path, tmp_path: Path) -> None:
    other = recipe.with_name("other.yaml")
    other.write_text(yaml.safe_dump({"extends": recipe.name, "task": {"template": {"levels": ["0.33", "0.66"]}}}))
    out = tmp_path / "out"
    assert main(["probe", str(checkpoint), "--recipe", str(other), "--out", str(out), "probe.size=10"]) == 0
    assert "not_a_level" not in set(pd.read_parquet(out / "records.parquet")["status"])


@pytest.fixture
def no_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl.checkpoint.load_policy", lambda *_, **__: pytest.fail("a model was loaded first"))


@pytest.mark.usefixtures("no_model_is_loaded")
def test_what_is_wrong_with_a_checkpoint_is_known_before_a_model_loads(
    checkpoint: Path, policy: Any, recipe: Path, tmp_path: Path, refusal: Refusal
) -> None:
    out = ["--out", str(tmp_path / "out")]
    absent = refusal.command("probe", "./absent", *out)
    assert absent.startswith("probe: ./absent: no such folder; expected one, tiny-small, tiny-large")
    bare = refusal.command("probe", policy.path, *out)
    say = "; a recipe has to say which task to probe: --recipe RECIPE"
    assert bare == f"probe: {policy.path} carries no calibration/recipe.yaml{say}"
    assert refusal.command("probe", "org/model", *out) == f"probe: org/model is not a folder here{say}"
    run = refusal.command("probe", tmp_path, *out)
    assert run == f"probe: {tmp_path} holds no model, there is no config.json in it (did you mean {checkpoint}?)"
    assert "recipe 'absent' is not one of" in refusal.command("probe", checkpoint, "--recipe", "absent", *out)
    split = refusal.command("probe", checkpoint, "probe.split=tets", *out)
    assert split.startswith("probe.split: 'tets' is not one of warmup, train, validation, test, shifted (did you mean")
    large = refusal.command("probe", checkpoint, "probe.escalate_to=./absent", *out)
    assert large.startswith("probe.escalate_to: ./absent: no such folder")
    assert not (tmp_path / "out").exists()
    size = refusal.command("probe", checkpoint, "probe.size=30000", *out)
    assert size.startswith("probe: split 'test' has only ") and size.endswith("questions, 30000 were asked for")


def test_a_hub_name_that_cannot_be_reached_is_one_line(recipe: Path, tmp_path: Path, refusal: Refusal) -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    override = "probe.escalate_to=null"
    message = refusal.command("probe", "org/model", "--recipe", recipe, override, "--out", tmp_path / "out")
    assert message.startswith("probe checkpoint: org/model is not a folder here and was not found in the hub's cache")


def test_completions_are_judged_by_the_verifier_asked_for(tmp_path: Path, refusal: Refusal) -> None:
    completion = "<answer>Option B which is a planet</answer><confidence>0.9</confidence>"
    file = write(tmp_path / "choices.jsonl", [{"prompt": "?", "gold": "B", "completion": completion}])
    for verifier, correct in (("choice", 1.0), ("text", 0.0)):
        out = tmp_path / verifier
        assert main(["probe", "--completions", str(file), "--verifier", verifier, "--out", str(out)]) == 0
        assert json.loads((out / "metrics.json").read_text())["all"]["accuracy"]["value"] == correct
    wrong = refusal.command("probe", "--completions", file, "--verifier", "choise", "--out", tmp_path / "no")
    assert "choise" in wrong and "did you mean choice?" in wrong
    assert "--verifier is for --completions" in refusal.command(
        "probe", "--records", file, "--verifier", "choice", "--out", tmp_path / "no"
    )
