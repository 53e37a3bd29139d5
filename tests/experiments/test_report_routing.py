"""What the page says of routing: risk, gap, cost, and the gate, each against the metrics that it is made from."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from estimators.gate import Gate
from estimators.gate_fitting import fit_cost, fit_error
from estimators.metrics.cost import cost_curve
from estimators.metrics.routing import routing_curve
from estimators.metrics.selective import risk_at_coverage
from experiments.commands import report as report_command
from experiments.probe.measure import measure, write_metrics
from experiments.probe.records import as_records, write_records
from experiments.probe.tables import DataError
from experiments.report import gates, routes
from experiments.report.figures import BLUE, on_page
from experiments.report.html import report_runs, write_report


def table(method: str = "a", count: int = 200, seed: int = 0, **columns: Any) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    confidence = rng.integers(0, 21, count) / 20
    given = {
        "method": method,
        "confidence": confidence,
        "correct": (rng.random(count) < confidence).astype(float),
        "large_correct": (rng.random(count) < 0.95).astype(float),
        "cost": 1.0,
        "large_cost": 10.0,
    }
    return as_records(pd.DataFrame(given | columns, index=range(count)))


def columns(frame: pd.DataFrame, *names: str) -> list[np.ndarray]:
    return [frame[name].to_numpy(dtype=float) for name in names]


def run_folder(folder: Path, *tables: pd.DataFrame) -> Path:
    records = pd.concat(tables)
    write_records(records, folder / "records.parquet")
    write_metrics(measure(records, resamples=20), folder / "metrics.json")
    return folder


def fitted(frame: pd.DataFrame, method: str = "a", alpha: float = 0.3, **settings: Any) -> Gate:
    stated, right = columns(frame, "confidence", "correct")
    return fit_error([stated], [right], alpha=alpha, source=f"val.parquet, method {method}", **settings)


def test_risk_notes_are_the_risk_at_coverage() -> None:
    frame = pd.concat([table(), table("b", seed=1)])
    figures = routes.risks(frame, measure(frame, resamples=5))
    assert [figure["method"] for figure in figures] == ["a", "b"]
    stated, right = columns(table(), "confidence", "correct")
    half, most = (100 * risk_at_coverage(stated, right, share) for share in (0.5, 0.8))
    assert figures[0]["note"] == f"wrong: {half:.1f}% of the surest half, {most:.1f}% of the surest 80%"
    assert routes.risks(table(correct=np.nan), {}) == []


def test_a_curve_has_its_band() -> None:
    frame = table()
    metrics = measure(frame, resamples=5)
    for figure in (*routes.risks(frame, metrics), *routes.routings(frame, metrics), *routes.spendings(frame, metrics)):
        assert figure["svg"].count("PolyCollection") == 1
    alone = table(count=1)
    (figure,) = routes.routings(alone, measure(alone, resamples=5))
    assert "PolyCollection" not in figure["svg"]


def test_an_unparsed_confidence_is_kept_last() -> None:
    frame = table(count=4, confidence=[0.9, 0.8, 0.7, 0.95], parsed=[True, True, True, False], correct=[1, 1, 1, 0])
    (figure,) = routes.risks(frame, measure(frame, resamples=5))
    assert figure["note"].startswith("wrong: 0.0% of the surest half")


def test_costs_are_shares_of_the_large_models() -> None:
    frame = table()
    metrics = measure(frame, resamples=5)
    (figure,) = routes.spendings(frame, metrics)
    assert routes.pair_costs([figure])["columns"][1:] == [
        "Small alone",
        *("10% escalated", "20% escalated", "30% escalated", "50% escalated", "At parity"),
    ]
    ((_, shares),) = routes.pair_costs([figure])["rows"]
    assert shares[:5] == ["10.0%", "20.0%", "30.0%", "40.0%", "60.0%"]
    stated, small, large, own, other = columns(frame, "confidence", "correct", "large_correct", "cost", "large_cost")
    curve = routing_curve(stated, small, large)
    rate = metrics["a"]["escalation_rate_to_parity"]["value"]
    spent = float(np.interp(rate, curve.rate, cost_curve(stated, small, large, own, other).cost)) / 10
    assert shares[5] == f"{100 * spent:.1f}%"
    assert figure["note"] == f"parity at {100 * spent:.0f}% of the large model's cost"


def test_unknown_costs_are_not_drawn() -> None:
    for frame in (table(large_cost=None), table(cost=None), table(large_correct=None), table(large_cost=0.0)):
        assert routes.spendings(frame, measure(frame, resamples=5)) == []


def test_a_router_on_the_prompt_pays_one_model() -> None:
    frame = table(confidence_source="prompt")
    (figure,) = routes.spendings(frame, measure(frame, resamples=5))
    assert figure["pair"]["escalated_0.5"] == pytest.approx(0.55) and figure["svg"].count("PolyCollection") == 1
    cheap = table(confidence_source="prompt", large_cost=1.0)
    assert routes.spendings(cheap, measure(cheap, resamples=5)) == []


def test_the_gap_table_has_the_metrics_with_their_intervals() -> None:
    frame = table()
    metrics = measure(frame, resamples=20)
    found = routes.gap_table(metrics)
    assert found is not None
    ((_, cells),) = found["rows"]
    apgr = metrics["a"]["apgr"]
    assert cells[0] == f"{apgr['value']:.3f} ({apgr['low']:.3f}\N{EN DASH}{apgr['high']:.3f})"
    assert [column.split()[0] for column in found["columns"][1:]] == ["APGR", "CPT", "CPT", "Gain", "AIQ"]
    assert routes.gap_table(measure(table(large_correct=None), resamples=5)) is None


def test_only_the_leading_methods_stand_behind_a_curve() -> None:
    frame = pd.concat(table(name, seed=seed) for seed, name in enumerate("abcdefgh"))
    figures = routes.risks(frame, measure(frame, resamples=5))
    assert len(figures) == 8
    faint = [figure["svg"].lower().count("stroke: #c9d0d6") for figure in figures]
    assert sorted(faint) == [2] * 3 + [3] * 5


def test_the_gate_says_what_it_does_here(tmp_path: Path) -> None:
    here, there = table(seed=1), table(count=400)
    gate = fitted(there)
    found = gates.gate_section(gate.save(tmp_path / "gate.json"), pd.concat([here, table("b", seed=2)]))
    assert found is not None
    assert "promise: wrong among answers <= 0.3 with probability 0.9" in found["lines"]
    assert found["fitted"] == "400 rows (val.parquet, method a), form multi_start"
    ((name, cells),) = found["rows"]
    shown = dict(zip(found["columns"][1:], cells, strict=True))
    stated, right, large = columns(here, "confidence", "correct", "large_correct")
    kept = stated >= (gate.tiers[0].threshold or np.inf)
    assert name == "a" and 0 < kept.sum() < 200
    assert shown["Answered"].startswith(f"{100 * kept.mean():.1f}% (")
    assert shown["Escalated"] == f"{(~kept).sum()} of 200"
    assert shown["Wrong among answered"].startswith(f"{100 * (1 - right[kept]).mean():.1f}% (")
    assert shown["Wrong among answered"].endswith(f" of {kept.sum()}")
    assert shown["Pair right"] == f"{100 * np.where(kept, right, large).mean():.1f}%"
    assert shown["Large alone"] == f"{100 * large.mean():.1f}%"
    assert shown["Traffic"].startswith("no drift seen")
    assert found["notes"] == []


def test_the_gate_warns_of_what_it_must_not_be_read_as(tmp_path: Path) -> None:
    frame = table(count=400)
    path = fitted(frame).save(tmp_path / "gate.json")
    (note,) = gates.gate_section(path, frame)["notes"]  # type: ignore[index]
    assert note.startswith("It was fitted on questions of these")
    stated = frame["confidence"].to_numpy(float)
    by_cost = fit_cost(stated, small=1, large=10, budget=5, source="x, method a").save(tmp_path / "cost.json")
    assert gates.gate_section(by_cost, frame)["notes"] == [note]  # type: ignore[index]
    other = gates.gate_section(path, table("b"))
    assert other is not None and other["rows"] == []
    assert other["notes"] == ["It reads the confidence of a, not one of these."]
    run = gates.gate_section(path, table("first: a", seed=3))
    assert run is not None and [name for name, _ in run["rows"]] == ["first: a"]
    worse = gates.gate_section(path, table(seed=3, correct=0.0, confidence=1.0))
    assert worse is not None
    assert "more than promised" in worse["rows"][0][1][2] and worse["rows"][0][1][-1].startswith("has drifted")


def test_a_gate_that_answers_nothing_is_shown_as_such(tmp_path: Path) -> None:
    gate = fitted(table(correct=0.0), otherwise="abstain")
    found = gates.gate_section(gate.save(tmp_path / "gate.json"), table(seed=1))
    assert found is not None and not gate.feasible
    assert any(line.startswith("infeasible") for line in found["lines"])
    shown = dict(zip(found["columns"][1:], found["rows"][0][1], strict=True))
    assert shown["Abstained"] == "200 of 200" and shown["Wrong among answered"] == "nothing answered"
    assert shown["Pair right"] == "n/a"


def test_a_gate_is_found_beside_the_records_or_given(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", table(seed=1))

    def source() -> str:
        return (run / "report.html").read_text(encoding="utf-8")

    write_report(run)
    assert "The gate" not in source()
    fitted(table(count=400)).save(run / "calibration" / "gate.json")
    write_report(run)
    assert "What it does on these records" in source()
    fitted(table(count=400), alpha=0.35).save(run / "gate.json")
    write_report(run)
    assert "wrong among answers &lt;= 0.35" in source()
    fitted(table(count=400), alpha=0.25).save(tmp_path / "elsewhere" / "gate.json")
    for given in (tmp_path / "elsewhere", tmp_path / "elsewhere" / "gate.json"):
        report_runs([run], gate=given)
        assert "wrong among answers &lt;= 0.25" in source()
    with pytest.raises(DataError, match=r"--gate .*nowhere: no such file"):
        write_report(run, gate=tmp_path / "nowhere")
    (run / "gate.json").write_text("{}")
    with pytest.raises(DataError, match="not a gate"):
        write_report(run)


def test_the_command_takes_a_gate(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", table(seed=1))
    gate = fitted(table(count=400)).save(tmp_path / "other.json")
    parser = argparse.ArgumentParser()
    report_command.add_options(parser)
    assert report_command.run(parser.parse_args([str(run), "--gate", str(gate)])) == 0
    assert "other.json" in (run / "report.html").read_text(encoding="utf-8")


def test_figures_take_the_colours_of_the_page() -> None:
    frame = table()
    (figure,) = routes.risks(frame, measure(frame, resamples=5))
    shown = on_page(figure["svg"])
    assert f"stroke: var(--fig-blue, {BLUE.lower()})" in shown
    assert set(re.findall(r"(?<=: )#[0-9a-f]{6}", shown)) == set()


def test_the_dark_page_and_the_printed_one_are_styled(tmp_path: Path) -> None:
    """Every colour of a figure has one for the dark, and neither dark nor narrow rules reach paper."""
    source = write_report(run_folder(tmp_path / "run", table())).read_text(encoding="utf-8")
    dark = source.split("@media screen and (prefers-color-scheme: dark)")[1].split("@media")[0]
    used = set(re.findall(r"var\((--fig-[a-z]+), ", source))
    assert len(used) > 8 and used <= set(re.findall(r"(--fig-[a-z]+):", dark))
    assert all(query.startswith(("screen", "print")) for query in re.findall(r"@media ([^{]*)", source))
