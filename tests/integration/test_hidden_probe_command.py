"""``candor hidden-probe`` and ``candor corpus``: fit and build, then read as a column of a probe's records."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments.cli import main
from tests.factories import Refusal


@pytest.fixture(scope="module")
def probed(
    policy: Any, write_recipe: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A recipe, and the folder of a probe of the policy by it."""
    recipe = write_recipe(probe={"size": 60, "max_new_tokens": 10, "resamples": 20})
    out = tmp_path_factory.mktemp("probed")
    assert main(["probe", str(policy.path), "--recipe", str(recipe), "--out", str(out)]) == 0
    return recipe, out / "records.parquet"


def balanced(records: Path, folder: Path) -> Path:
    """The same records, every other one right, so that there is something to fit."""
    frame = pd.read_parquet(records)
    path = folder / "records.parquet"
    frame.assign(correct=[float(row % 2) for row in range(len(frame))]).to_parquet(path)
    return path


def test_a_probe_is_fitted_to_records_and_is_a_column_of_the_next(
    policy: Any, probed: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, records = probed
    asked = ["--recipe", recipe, "--position", "prompt", "--layers", "1,-1", "--kind", "mlp", "--out", tmp_path / "hp"]
    arguments = ["hidden-probe", "fit", policy.path, "--records", balanced(records, tmp_path), *asked]
    assert main([str(each) for each in arguments]) == 0
    assert "mlp on prompt, layers 1, 2: 60 records;" in capsys.readouterr().out
    facts = json.loads((tmp_path / "hp" / "hidden_probe.json").read_text())
    assert facts["features"] == 64 and facts["records"] == 60
    use = ["probe", str(policy.path), f"estimators.hidden_probe.path={tmp_path / 'hp'}", "--recipe", str(recipe)]
    assert main([*use, "--out", str(tmp_path / "out")]) == 0
    frame = pd.read_parquet(tmp_path / "out" / "records.parquet")
    read = frame[frame["method"] == "checkpoint_hidden_probe"]
    assert len(read) == 60 and read["parsed"].all() and read["confidence"].between(0, 1).all()
    assert read["confidence"].nunique() > 1 and set(read["confidence_source"]) == {"computed"}


def test_what_cannot_be_fitted_or_used_is_refused_in_one_line(
    policy: Any, untrained: Any, probed: tuple[Path, Path], tmp_path: Path, refusal: Refusal
) -> None:
    recipe, records = probed
    start = ["hidden-probe", "fit", policy.path, "--records", records, "--recipe", recipe, "--out", tmp_path / "hp"]
    assert "--position: 'anwser'" in refusal.command(*start, "--position", "anwser")
    assert "--layers: 7 is missing, the model has 0 to 2" in refusal.command(*start, "--layers", "7")
    assert "--layers: 'x' is not a number" in refusal.command(*start, "--layers", "x")
    start[4] = balanced(records, tmp_path)
    assert main([str(each) for each in start]) == 0
    use = ["probe", untrained.path, "--recipe", recipe, "--out", tmp_path / "out"]
    assert "was fitted to another model" in refusal.command(*use, f"estimators.hidden_probe.path={tmp_path / 'hp'}")
    assert "holds no hidden probe" in refusal.command(*use, f"estimators.hidden_probe.path={tmp_path / 'absent'}")
    assert "estimators.hidden_probe.path" in refusal.command(*use, "estimators.hidden_probe={}")


def test_an_index_is_built_asked_and_read_by_a_probe(
    policy: Any, probed: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], refusal: Refusal
) -> None:
    (tmp_path / "corpus.txt").write_text(
        "Ada Brook was born in Vienna.\n\nIda Marsh lives in Oslo.\n", encoding="utf-8"
    )
    assert main(["corpus", "build", str(tmp_path / "corpus.txt"), "--out", str(tmp_path / "index")]) == 0
    assert "files 1, documents 2, words 11" in capsys.readouterr().out
    assert main(["corpus", "count", str(tmp_path / "index"), "ada brook", "vienna"]) == 0
    assert capsys.readouterr().out == "1 of 2 documents\n"
    assert "holds no word" in refusal.command("corpus", "count", tmp_path / "index", "?")
    assert "holds no corpus index" in refusal.command("corpus", "count", tmp_path, "Ada")
    assert "absent.txt: cannot be read" in refusal.command(
        "corpus", "build", tmp_path / "absent.txt", "--out", tmp_path
    )
    use = ["probe", policy.path, "--recipe", probed[0], "--out", tmp_path / "out"]
    assert "holds no corpus index" in refusal.command(*use, f"estimators.corpus_pair.index={tmp_path}")
    assert main([str(each) for each in [*use, f"estimators.corpus_pair.index={tmp_path / 'index'}"]]) == 0
    frame = pd.read_parquet(tmp_path / "out" / "records.parquet")
    read = frame[frame["method"] == "checkpoint_corpus_pair"]
    assert len(read) == 60 and not read["parsed"].any()  # sums name nobody


def test_the_corpus_of_the_task_facts_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corpus", "facts", "--out", str(tmp_path / "facts.jsonl")]) == 0
    lines = (tmp_path / "facts.jsonl").read_text(encoding="utf-8").splitlines()
    assert capsys.readouterr().out.strip().endswith(f"{len(lines)} documents") and len(lines) > 10_000
    assert json.loads(lines[0])["text"].endswith(" .")
