"""Routers on the prompt alone: they find what a prompt gives away, and nothing where it gives nothing away."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from estimators.metrics.selective import auroc
from experiments.cli import main
from experiments.errors import DataError
from experiments.probe.measure import measure
from experiments.probe.routed import in_half
from experiments.routing.outcomes import read_outcomes, routed_records
from experiments.routing.routers import ROUTERS, MatrixFactorisation, Neighbours, TfidfVectors, Win
from tests.factories import Refusal


def pair(size: int, seed: int = 0) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Prompts of two kinds: products, which the small model gets wrong, and sums, which are shorter and it gets right.

    The large model is right on both in nine of ten.
    """
    rng = np.random.default_rng(seed)
    hard = rng.random(size) < 0.5
    prompts = [
        f"what is the product of the two numbers {a} and {b}" if each else f"what is {a} plus {b}"
        for each, (a, b) in zip(hard, rng.integers(1, 99, (size, 2)), strict=True)
    ]
    small = (rng.random(size) < np.where(hard, 0.2, 0.9)).astype(float)
    return prompts, small, (rng.random(size) < 0.9).astype(float)


@pytest.mark.parametrize("name", ROUTERS)
def test_every_router_finds_what_the_prompt_gives_away(name: str) -> None:
    router = ROUTERS[name](TfidfVectors(8))
    router.fit(*pair(400))
    prompts, small, _ = pair(400, seed=1)
    said = router(prompts)
    assert said.shape == (400,) and ((said >= 0) & (said <= 1)).all()
    value = auroc(said, small)
    assert value == pytest.approx(0.5) if name == "base_rate" else value > 0.75


@pytest.mark.parametrize("name", ROUTERS)
def test_no_router_finds_what_is_not_there(name: str) -> None:
    rng = np.random.default_rng(3)
    prompts = [f"question {number}" for number in rng.integers(0, 500, 600)]
    small, large = (rng.random((2, 600)) < 0.6).astype(float)
    router = ROUTERS[name](TfidfVectors(8))
    router.fit(prompts[:300], small[:300], large[:300])
    assert 0.4 < auroc(router(prompts[300:]), small[300:]) < 0.6


@pytest.mark.parametrize("name", ROUTERS)
@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_outcomes_of_one_kind_are_fitted(name: str, outcome: float) -> None:
    router = ROUTERS[name](TfidfVectors(8))
    same = np.full(50, outcome)
    router.fit(pair(50)[0], same, same)
    said = router(["what is 2 plus 2", ""])
    assert np.isfinite(said).all() and said[0] == pytest.approx(said[1])


def test_the_win_predictor_keeps_what_the_large_model_cannot_do_either() -> None:
    prompts, small, _ = pair(400)
    large = small.copy()  # escalation gains nothing anywhere
    win = Win(TfidfVectors(8))
    win.fit(prompts, small, large)
    assert (win(prompts) > 0.9).all()
    neighbours = Neighbours(TfidfVectors(8))
    neighbours.fit(prompts, small, large)
    assert neighbours(prompts).min() < 0.5  # predicts correctness, and would escalate in vain


def test_the_factors_are_fitted_where_the_models_differ() -> None:
    """A bilinear model of two models is linear in the embedding: scipy's own minimum of its loss says the same."""
    from scipy.optimize import minimize

    prompts, small, large = pair(300)
    router = MatrixFactorisation(TfidfVectors(3))
    router.fit(prompts, small, large)
    vectors = router._scale.transform(router.embedding(prompts))
    differ = small != large
    signs = np.where(small > large, 1.0, -1.0)[differ]

    def loss(parameters: np.ndarray) -> float:
        margin = signs * (vectors[differ] @ parameters[1:] + parameters[0])
        return float(np.logaddexp(0.0, -margin).sum() + 0.5 * parameters[1:] @ parameters[1:])

    found = minimize(loss, np.zeros(vectors.shape[1] + 1)).x
    expected = 1 / (1 + np.exp(-(vectors @ found[1:] + found[0])))
    assert router(prompts) == pytest.approx(expected, abs=5e-3)


@pytest.mark.parametrize("name", ROUTERS)
@pytest.mark.parametrize(
    "prompts",
    [[chr(0x4E00 + each) for each in range(60)], ["the same"] * 60, [""] * 60, ["?!"] * 60],
    ids=["no word repeats", "all the same", "empty", "no word"],
)
@pytest.mark.filterwarnings("error")
def test_prompts_that_tell_nothing_have_one_confidence(name: str, prompts: list[str]) -> None:
    small, large = (np.random.default_rng(0).random((2, 60)) < 0.6).astype(float)
    router = ROUTERS[name](TfidfVectors(8))
    router.fit(prompts, small, large)
    said = router(prompts)
    assert said == pytest.approx(said[0]) and 0.0 < said[0] < 1.0
    if name in ("base_rate", "neighbours"):
        assert said[0] == pytest.approx(small.mean())


def outcomes_file(folder: Path, **columns: object) -> Path:
    prompts, small, large = pair(200)
    frame = pd.DataFrame({"prompt": prompts, "weak_correct": small, "strong_correct": large, **columns})
    frame.to_parquet(folder / "outcomes.parquet")
    return folder / "outcomes.parquet"


def test_routers_are_measured_on_questions_that_they_were_not_fitted_on(tmp_path: Path) -> None:
    outcomes = read_outcomes(outcomes_file(tmp_path, confidence=np.linspace(0, 1, 200)))
    records = routed_records(outcomes, TfidfVectors, test_share=0.4, seed=5)
    expected = [each for each in map(str, range(200)) if in_half(each, 0.4, 5)]
    assert list(dict.fromkeys(records["method"])) == [*ROUTERS, "recorded"]
    for _, rows in records.groupby("method"):
        assert rows["question_id"].tolist() == expected
    again = routed_records(outcomes, TfidfVectors, test_share=0.4, seed=5)
    assert again.equals(records)


def test_a_confidence_of_other_completions_is_no_rival(tmp_path: Path, refusal: Refusal) -> None:
    prompts, small, large = pair(100)
    rows = [
        {"question_id": f"q{n}", "prompt": prompts[n], "large_correct": large[n], "method": method,
         "correct": small[n] if method != "other" else 1 - small[n], "confidence": 0.5}
        for method in ("stated", "computed", "other") for n in range(100)
    ]  # fmt: skip
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    records = routed_records(read_outcomes(path, "computed"), TfidfVectors)
    assert set(records["method"]) == {*ROUTERS, "stated", "computed"}
    assert set(read_outcomes(path, "other")["method"]) == {"other"}
    unclear = refusal.command("route", path, "--out", tmp_path / "out")
    assert unclear.endswith("has answers of several policies, name a method by --method: stated, computed, other")
    unknown = refusal.command("route", path, "--method", "statd", "--out", tmp_path / "out")
    assert unknown == "--method: 'statd' is not one of stated, computed, other (did you mean stated?)"


def test_a_confidence_that_could_not_be_read_counts_on_the_same_questions(tmp_path: Path) -> None:
    """It is null in somebody's outcomes, and 0 with ``parsed`` false in the records of a probe."""
    confidence = np.where(np.arange(200) % 3 == 0, np.nan, 0.5)
    path = outcomes_file(tmp_path, confidence=confidence)
    given = routed_records(read_outcomes(path), TfidfVectors)
    pd.read_parquet(path).assign(confidence=np.nan_to_num(confidence), parsed=confidence > 0).to_parquet(path)
    assert routed_records(read_outcomes(path), TfidfVectors).equals(given)
    found = measure(given, resamples=5)
    assert found["recorded"]["accuracy"] == found["tfidf"]["accuracy"]
    rows = given[given["method"] == "recorded"]
    assert found["recorded"]["unparsed"]["value"] == pytest.approx((~rows["parsed"]).mean()) != 0
    assert (rows.loc[~rows["parsed"], "confidence"] == 0.0).all()


def test_ranks_stay_ranks(tmp_path: Path) -> None:
    path = outcomes_file(tmp_path, confidence=np.linspace(0, 1, 200), confidence_source="ranked")
    assert "brier" not in measure(routed_records(read_outcomes(path), TfidfVectors), resamples=5)["recorded"]


def test_costs_are_those_of_the_named_method_and_of_the_one_model_that_a_router_asks(tmp_path: Path) -> None:
    path = outcomes_file(tmp_path, cost=2.0, large_cost=10.0, confidence=np.linspace(0, 1, 200), method="stated")
    frame = pd.read_parquet(path)
    pd.concat([frame.assign(method="sampled", cost=16.0), frame]).to_parquet(path)
    with_ids = pd.read_parquet(path).assign(question_id=np.tile(np.arange(200), 2).astype(str))
    with_ids.to_parquet(path)
    found = measure(routed_records(read_outcomes(path, "stated"), TfidfVectors), resamples=5)
    assert found["tfidf"]["cost"]["value"] == 2.0 and found["sampled"]["cost"]["value"] == 16.0
    assert found["tfidf"]["aiq"]["value"] > found["base_rate"]["aiq"]["value"]
    for name, own in (("tfidf", 0.0), ("stated", 2.0)):  # what an escalated question has cost besides
        rate = found[name]["deployed_rate"]["value"]
        assert found[name]["deployed_cost"]["value"] == pytest.approx((1 - rate) * 2 + rate * (10 + own))


def test_what_cannot_be_routed_is_refused(tmp_path: Path, refusal: Refusal) -> None:
    path = outcomes_file(tmp_path)
    out = ["--out", tmp_path / "out"]
    assert refusal.command("route", path, "--test-share", "1", *out) == "--test-share: 1.0 is not between 0 and 1"
    few = refusal.command("route", path, "--test-share", "0.01", *out)
    assert "to measure on found, expected at least 20 of each" in few
    pd.DataFrame({"prompt": ["a"], "correct": [1]}).to_parquet(path)
    with pytest.raises(DataError, match=r"no column 'large_correct' or 'strong_correct'"):
        read_outcomes(path)
    pd.DataFrame({"prompt": ["a"], "correct": [1], "large_correct": [1], "method": ["length"]}).to_parquet(path)
    with pytest.raises(DataError, match=r"column 'method' has 'length', which is what a router is called"):
        read_outcomes(path)


def test_the_command_leaves_what_a_probe_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["route", str(outcomes_file(tmp_path)), "--out", str(tmp_path / "out")]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(metrics) == list(ROUTERS)
    assert all("deployed_accuracy" in entries for entries in metrics.values())
    assert metrics["tfidf"]["auroc"]["value"] > 0.7
    assert (
        metrics["tfidf"]["escalation_rate_to_parity"]["value"]
        < metrics["base_rate"]["escalation_rate_to_parity"]["value"]
    )
    assert "report.html" in capsys.readouterr().out
