"""Self-REF's measurements: routing at quantiles against a plain count, and questions that have no answer."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from experiments.routing.self_ref import (
    at_quantiles,
    by_methods,
    deployed,
    least_rate,
    rejection,
    rejection_questions,
    shortened,
    without_operand,
)
from experiments.tasks import Arithmetic

ROWS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=80)


@given(ROWS)
def test_points_are_what_the_paper_counts(rows: list[tuple[float, int, int]]) -> None:
    c, small, large = (np.array(each, dtype=float) for each in zip(*rows, strict=True))
    points = at_quantiles(c, small, large)
    assert len(points) == 21 and points[0].rate == 0.0 and points[0].accuracy == pytest.approx(small.mean())
    for step, point in enumerate(points):
        threshold = np.percentile(c, 5 * step, method="lower")
        right = [one if mine >= threshold else other for mine, one, other in rows]
        assert point.accuracy == pytest.approx(np.mean(right))
        assert point.rate == pytest.approx(np.mean([mine < threshold for mine, *_ in rows]))
    assert [each.rate for each in points] == sorted(each.rate for each in points)
    assert points[-1].rate < 1.0, "the surest are never sent"
    for tolerance in (0.0, 0.1):
        enough = [each.rate for each in points if each.accuracy >= large.mean() - tolerance - 1e-12]
        assert least_rate(points, large.mean(), tolerance) == min(enough, default=None)


def test_a_deployed_threshold_is_measured_where_it_was_not_chosen() -> None:
    generator = np.random.default_rng(0)
    chance = generator.random(4000)
    small, large = (generator.random(4000) < chance).astype(float), (generator.random(4000) < 0.8).astype(float)
    found = deployed(chance, small, large, tolerance=0.01)
    assert found is not None and 0.2 < found.rate < 0.95
    assert found.accuracy == pytest.approx(large.mean(), abs=0.05)
    assert deployed(chance, np.zeros(4000), np.ones(4000)) is None, "without the surest it never gets there"


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=4, max_size=60))
def test_rejection_is_what_scikit_learn_says(rows: list[tuple[int, bool]]) -> None:
    c, whole = np.array([each / 20 for each, _ in rows]), np.array([each for _, each in rows])
    if whole.all() or not whole.any():
        return
    found = rejection(c, whole)
    assert found["auroc"] == pytest.approx(roc_auc_score(whole, c))
    for share in (0.05, 0.1):
        best = max((c[~whole] < t).mean() for t in [*c, 2.0, -1.0] if (c[whole] < t).mean() <= share)
        assert found[f"rejected_at_{share:g}"] == pytest.approx(best)


def test_half_of_the_questions_lose_a_number_and_the_others_an_operation() -> None:
    rows = Arithmetic().rows("test", 200)
    long = [row["prompt"] for row in rows if row["difficulty"] > 1]
    asked = rejection_questions(rows)
    assert len(asked) == len(long) and abs(sum(whole for _, whole in asked) * 2 - len(asked)) <= 1
    for before, (prompt, whole) in zip(long, asked, strict=True):
        signs = sum(prompt.count(sign) for sign in "+-*")
        numbers = len(prompt.rstrip("=").replace("-", "+").replace("*", "+").split("+"))
        assert len(prompt) < len(before)
        if whole:
            assert signs == sum(before.count(sign) for sign in "+-*") - 1 and "" not in prompt[:-1].replace("-", "+").replace("*", "+").split("+")  # fmt: skip  # noqa: E501
        else:
            assert "" in prompt[:-1].replace("-", "+").replace("*", "+").split("+") and numbers > signs
    assert asked == rejection_questions(rows) != rejection_questions(rows, seed=1)
    assert (
        without_operand("12+3=", random.Random(1)) in ("+3=", "12+=") and shortened("12+3=", random.Random(1)) == "12="
    )


def test_methods_are_multiplied_on_the_same_answers_alone() -> None:
    rows = [
        {"method": method, "question_id": number, "completion": text, "confidence": confidence, "correct": number % 2}
        for method, text, values in (("marks", "a", (0.5, 0.2)), ("tokens", "a", (0.4, 1.0)), ("other", "b", (1, 1)))
        for number, confidence in enumerate(values)
    ]
    records = pd.DataFrame(rows)
    assert by_methods(records, ["marks"])["confidence"].tolist() == [0.5, 0.2]
    both = by_methods(records.iloc[::-1], ["marks", "tokens"])
    assert both["confidence"].round(9).to_dict() == {0: 0.2, 1: 0.2} and both["correct"].to_dict() == {0: 0, 1: 1}
    with pytest.raises(ValueError, match="'other' is of other answers than 'marks'"):
        by_methods(records, ["marks", "other"])
    with pytest.raises(ValueError, match="no method 'mark', only marks, tokens, other"):
        by_methods(records, ["marks", "mark"])
