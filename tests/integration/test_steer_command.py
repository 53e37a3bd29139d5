"""``candor steer``: a vector from a shipped policy, its controls side by side, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from experiments.cli import main
from tests.factories import Refusal

WORKED = ["--recipe", "rlvr", "--prefix", "<think>", "probe.max_new_tokens=48", "probe.batch_size=20"]


@pytest.fixture(scope="module")
def vector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("steering")
    extract = ["steer", "extract", "tiny-small", *WORKED, "--temperature", "1", "--questions", "60", "--out", str(out)]
    assert main([*extract, "--labels", "words", "--lexicon", "?", "--position", "separator"]) == 0
    return out


def test_a_vector_is_extracted_and_steers_beside_its_controls(vector: Path, tmp_path: Path, capsys) -> None:
    facts = json.loads((vector / "steering.json").read_text())
    assert (facts["labels"], facts["lexicon"], facts["definition"]["position"]) == ("words", ["?"], "separator")
    assert set(facts["fits"]) == {"1", "2", "3"} and facts["over"] + facts["under"] == facts["steps"]
    run = ["steer", "run", "tiny-small", *WORKED, "--steering", str(vector), "--out", str(tmp_path), "probe.size=20"]
    assert main([*run, "--coefficients=0,3", "--controls", "constant,random", "probe.resamples=20"]) == 0
    assert "tokens a second against those without steering" in capsys.readouterr().out
    records = pd.read_parquet(tmp_path / "records.parquet")
    told = json.loads((tmp_path / "steering.json").read_text())["methods"]
    names = ["unsteered", *(f"{control}_{each}" for control in ("constant", "random") for each in (0, 3))]
    assert list(told) == list(records["method"].unique()) == names
    written = {name: rows["completion"].tolist() for name, rows in records.groupby("method")}
    assert all(len(each) == 20 and each[0].startswith("<think>") for each in written.values())
    for control in ("constant", "random"):
        assert written[f"{control}_0"] == written["unsteered"]  # a coefficient of 0 is no steering
        assert told[f"{control}_0"]["moved"]["value"] == 0
    assert told["constant_3"]["moved"]["value"] > 0 and written["constant_3"] != written["unsteered"]
    mean = records[records["method"] == "constant_3"]["completion_tokens"].mean()
    assert told["constant_3"]["tokens"]["value"] == pytest.approx(mean)


def test_what_cannot_be_done_is_refused(vector: Path, tmp_path: Path, capsys) -> None:
    refusal = Refusal(capsys)
    run = ["steer", "run", "tiny-large", *WORKED, "--out", tmp_path / "r", "--steering"]
    assert "fitted for model" in refusal.command(*run, vector)
    assert "holds no steering vector" in refusal.command(*run, tmp_path / "absent")
    own = ["steer", "run", "tiny-small", *WORKED, "--out", tmp_path / "r", "--steering", vector]
    assert "definition" in refusal.command(*own, 'task.template.step_separators=["="]')
    assert "did you mean constant?" in refusal.command(*own, "--controls", "constnat")
    assert "--controls: 'random,random', expected some of" in refusal.command(*own, "--controls", "random, random")
    assert "--coefficients" in refusal.command(*own, "--coefficients", "1,1")
    extract = ["steer", "extract", "tiny-small", *WORKED, "--out", tmp_path / "v", "--questions", "20"]
    assert "layer" in refusal.command(*extract, "--layers", "0")
    assert "--layers: 3,-1 has layer -1 twice" in refusal.command(*extract, "--layers", "3,-1")
    assert "--layers: 9 is missing" in refusal.command(*extract, "--layers", "9")
    assert "expected at least 20" in refusal.command(*extract, 'task.template.step_separators=["zz"]')
    assert "--quantiles" in refusal.command(*extract, "--quantiles", "0.9,0.1")
    assert "--lexicon" in refusal.command(*extract, "--lexicon", "wait")
    assert "--temperature is -1.0" in refusal.command(*extract, "--temperature", "-1")
