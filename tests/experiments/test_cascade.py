"""``candor cascade``: thresholds from one half of the questions, figures from the other, money from tokens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments import cli
from experiments.errors import ConfigError
from experiments.probe.records import as_records, read_records, write_records
from experiments.probe.routed import EVERYTHING, in_half
from experiments.report.cascades import read_cascades, write_cascades
from experiments.report.html import write_report
from experiments.routing.cascade import plan_cascade, read_price, read_priced

PRICES = [(0.05, 0.2), (0.15, 0.6), (2.5, 10.0)]


def tier(folder: Path, name: str, share: float, seed: int = 0, count: int = 400, **columns: Any) -> Path:
    """Records of a model that is right on the easier ``share`` of the questions, and mostly knows it."""
    rng = np.random.default_rng(seed)
    hard = np.random.default_rng(99).random(count)
    given = {
        "question_id": [f"q{each}" for each in range(count)],
        "correct": (hard < share).astype(float),
        "confidence": np.clip(np.round(share - hard + 0.5 + rng.normal(0, 0.1, count), 2), 0, 1),
        "prompt_tokens": 100,
        "completion_tokens": rng.integers(50, 150, count),
        "prompt": "What?",
    }
    write_records(as_records(pd.DataFrame(given | columns)), folder / name / "records.parquet")
    return folder / name / "records.parquet"


def three(folder: Path, **columns: Any) -> list[Path]:
    shares = {"small": 0.5, "medium": 0.75, "large": 0.9}
    return [tier(folder, name, share, seed, **columns) for seed, (name, share) in enumerate(shares.items())]


def test_every_figure_is_of_the_questions_that_did_not_choose(tmp_path: Path) -> None:
    tiers = read_priced(three(tmp_path), prices=PRICES)
    planned = plan_cascade(tiers, resamples=50)
    ids = set(planned.records["question_id"])
    assert ids == {each for each in tiers[0].records["question_id"] if not in_half(each)}
    assert list(planned.metrics) == ["small", "medium", "large", "cascade", "best pair"]
    for name in ("cascade", "best pair"):
        plan = planned.plans["chosen"][name]
        tables = {each.name: each.records.loc[[q for q in each.records.index if q in ids]] for each in tiers}
        correct, spent = [], []
        for question in tables["small"].index:
            cost = 0.0
            for number, model in enumerate(plan["models"]):
                row = tables[model].loc[question]
                cost += (100 * PRICES[list(tables).index(model)][0]) / 1e6
                cost += row["completion_tokens"] * PRICES[list(tables).index(model)][1] / 1e6
                if number == len(plan["models"]) - 1 or row["confidence"] >= plan["thresholds"][number]:
                    break
            correct.append(row["correct"])
            spent.append(cost)
        entries = planned.metrics[name]
        assert entries["accuracy"]["value"] == pytest.approx(np.mean(correct)) == pytest.approx(plan["accuracy"])
        assert entries["cost"]["value"] == pytest.approx(np.mean(spent)) == pytest.approx(plan["cost"])
        alone = planned.metrics["large"]
        assert entries["cascade_cost_saved"]["value"] == pytest.approx(1 - np.mean(spent) / alone["cost"]["value"])
        against = np.mean(correct) - alone["accuracy"]["value"]
        assert entries["cascade_against_last"]["value"] == pytest.approx(against)
        assert entries["cascade_over_random"]["low"] > 0.0
    cascade, pair = planned.metrics["cascade"], planned.metrics["best pair"]
    assert cascade["cascade_over_pair"]["value"] == pytest.approx(
        cascade["accuracy"]["value"] - pair["accuracy"]["value"]
    )
    saved = 1 - cascade["cost"]["value"] / pair["cost"]["value"]
    assert cascade["cascade_saved_on_pair"]["value"] == pytest.approx(saved)
    assert "cascade_over_pair" not in pair


def test_plans_do_not_look_at_the_half_that_they_are_measured_on(tmp_path: Path) -> None:
    tiers = read_priced(three(tmp_path), prices=PRICES)
    before = plan_cascade(tiers, resamples=5).plans["chosen"]
    for each in tiers:
        unseen = [not in_half(question) for question in each.records["question_id"]]
        each.records.loc[unseen, "correct"] = 1.0 - each.records.loc[unseen, "correct"]
    after = plan_cascade(tiers, resamples=5).plans["chosen"]
    assert [each["thresholds"] for each in before.values()] == [each["thresholds"] for each in after.values()]


def test_a_budget_is_kept_where_it_was_planned_and_one_that_buys_nothing_is_refused(tmp_path: Path) -> None:
    tiers = read_priced(three(tmp_path), prices=PRICES)
    few, more = (plan_cascade(tiers, budget=each, resamples=5).plans["chosen"]["cascade"] for each in (0.0002, 0.0006))
    assert few["cost"] < 0.0003 < more["cost"] and few["accuracy"] < more["accuracy"]
    with pytest.raises(ConfigError, match=r"the cheapest cascade costs 2\.5"):
        plan_cascade(tiers, budget=1e-6)


def test_a_chain_whose_confidence_says_nothing_asks_the_last_model_and_the_pair_does_it_alone(tmp_path: Path) -> None:
    planned = plan_cascade(read_priced(three(tmp_path, confidence=0.5), prices=PRICES), resamples=5)
    assert planned.plans["chosen"]["cascade"]["thresholds"] == [EVERYTHING, EVERYTHING]
    assert planned.plans["chosen"]["best pair"]["models"] == ["large"]
    assert planned.metrics["cascade"]["cascade_saved_on_pair"]["high"] < 0.0


def test_the_command_writes_what_the_page_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths, out = [str(each) for each in three(tmp_path, count=100)], tmp_path / "out"
    prices = [word for each in PRICES for word in ("--price", f"{each[0]}/{each[1]}")]
    assert cli.main(["cascade", *paths, *prices, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "best pair" in said and "for the least cost at the last model's accuracy" in said
    plans = json.loads((out / "cascade.json").read_text())
    for frontier in plans["frontiers"].values():
        assert all(len(each["models"]) == len(each["thresholds"]) + 1 for each in frontier)
    page = (out / "report.html").read_text()
    assert "What does a cascade cost?" in page and "Over the best pair" in page
    assert page == write_report(out).read_text()
    assert set(read_records(out / "records.parquet")["method"]) == {"small", "medium", "large", "cascade", "best pair"}
    (out / "cascade.json").write_text("{}")
    assert cli.main(["report", str(out)]) == 2
    assert "cascade.json: not the plans of a cascade" in capsys.readouterr().err


def test_a_report_over_several_runs_keeps_their_plans(tmp_path: Path) -> None:
    paths, one, two = [str(each) for each in three(tmp_path, count=100)], tmp_path / "one", tmp_path / "two"
    prices = [word for each in PRICES for word in ("--price", f"{each[0]}/{each[1]}")]
    assert cli.main(["cascade", *paths, *prices, "--out", str(one)]) == 0
    shutil.copytree(one, two)
    for folder, runs, names in (
        ("both", (one, two), ["one", "two"]),
        ("all", (tmp_path / "both", two), ["both: one", "both: two", "two"]),
    ):
        assert cli.main(["report", *map(str, runs), "--out", str(tmp_path / folder)]) == 0
        page = (tmp_path / folder / "report.html").read_text()
        assert page.count("What does a cascade cost?") == 1 and page.count("planned on") == len(names)
        assert all(f"<strong>{name}</strong><span>plans of one half" in page for name in names)
    write_cascades({}, tmp_path / "all")
    assert read_cascades(tmp_path / "all") == {}, "those of an earlier report are gone"
    (two / "cascade.json").write_text('{"runs": 3}')
    assert cli.main(["report", str(one), str(two), "--out", str(tmp_path / "both")]) == 2


def test_two_models_need_no_pair_beside_them_and_costs_may_be_recorded(tmp_path: Path) -> None:
    small, large = tier(tmp_path, "a", 0.5, cost=1.0), tier(tmp_path, "b", 0.9, 1, cost=30.0)
    planned = plan_cascade(read_priced([small, large]), resamples=5)
    assert list(planned.metrics) == ["a", "b", "cascade"]
    assert 1.0 < planned.metrics["cascade"]["cost"]["value"] < 31.0


def test_what_cannot_be_done_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(each) for each in three(tmp_path)]
    twice = str(tier(tmp_path, "twice", 0.5, question_id="same"))
    other = str(tier(tmp_path, "other", 0.5, question_id=[f"o{each}" for each in range(400)]))
    silent = str(tier(tmp_path, "silent", 0.5, prompt_tokens=None))
    for arguments, problem in (
        (paths[:1], "1 tier, expected at least two"),
        ([*paths, "--price", "1/2"], "--price: given 1 times for 3 files, expected 3"),
        ([*paths[:2], *["--price", "a/2"] * 2], "--price a/2: expected IN/OUT"),
        ([*paths[:2], *["--price", "-1"] * 2], "--price -1: expected IN/OUT"),
        (paths, "cost is not known of 400 rows; or give each tier a --price"),
        ([paths[0], silent, *["--price", "1/2"] * 2], "prompt_tokens is not known of 400 rows"),
        ([paths[0], paths[0], *["--price", "1"] * 2], "expected different names"),
        ([paths[0], twice, *["--price", "1"] * 2], "question 'same' has several rows"),
        ([paths[0], other, *["--price", "1"] * 2], "0 questions have a verdict in all of"),
        ([*paths, "--method", "b"], "no method 'b', only all"),
        ([*paths, "--tolerance", "2"], "--tolerance: 2.0 is not from 0 to 1"),
        ([*paths, "--budget", "nan"], "--budget: nan is not 0 or more"),
    ):
        assert cli.main(["cascade", *arguments, "--out", str(tmp_path / "out")]) == 2
        assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert read_price("2") == (0.0, 2.0)
