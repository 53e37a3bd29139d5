"""Two methods on the same questions: differences as they are and at matched accuracy."""

from __future__ import annotations

import numpy as np
import pytest

from estimators.metrics.calibration import brier, ece
from estimators.metrics.comparison import COMPARED, compare
from estimators.metrics.selective import auroc


def methods(seed: int = 0, n: int = 300) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """One that is right on 0.85 of the questions, one on 0.6, both calibrated; and the second sees less."""
    rng = np.random.default_rng(seed)
    c, other = rng.integers(14, 21, n) / 20, rng.integers(10, 15, n) / 20
    luck = rng.random(n)
    return (c, (luck < c).astype(float)), (other, (luck < other).astype(float))


def test_differences_are_those_of_the_metrics() -> None:
    first, second = methods()
    found = compare(first, second, resamples=20)
    for name, metric in (("accuracy", lambda c, y: y.mean()), ("brier", brier), ("ece", ece), ("auroc", auroc)):
        assert found[name].value == pytest.approx(metric(*first) - metric(*second)), name
        assert found[name].low <= found[name].value <= found[name].high
        turned = compare(second, first, resamples=20)[name]
        assert turned.value == pytest.approx(-found[name].value)


def test_at_matched_accuracy_both_are_right_on_as_many_of_the_same_questions() -> None:
    """The second is never right alone, so that what is kept are the questions of one verdict."""
    (c, y), (other_c, other_y) = methods()
    agreed = y == other_y
    found = compare((c, y), (other_c, other_y), resamples=20)
    assert (y >= other_y).all() and found["accuracy"].value > 0.1
    assert found["matched_accuracy"].value == pytest.approx(y[agreed].mean())
    assert found["matched_share"].value == pytest.approx(agreed.mean())
    assert found["matched_brier"].value == pytest.approx(
        brier(c[agreed], y[agreed]) - brier(other_c[agreed], other_y[agreed])
    )


def test_matched_weights_are_as_many_of_either_kind() -> None:
    y, other = np.array([1, 1, 1, 1, 0, 1, 0, 0.0]), np.array([0, 0, 0, 0, 1, 1, 0, 1.0])
    found = compare((np.full(8, 0.5), y), (np.full(8, 0.9), other), resamples=5)
    assert found["matched_share"].value == pytest.approx(6 / 8)  # four of the first alone weigh two
    assert found["matched_accuracy"].value == pytest.approx(3 / 6)
    assert found["matched_brier"].value == pytest.approx(0.25 - (0.01 + 0.81) / 2)


def test_methods_that_differ_in_nothing_but_accuracy_are_alike_when_matched() -> None:
    """Both always say 0.7: the more accurate one has the better Brier score, and nothing of it is calibration."""
    (_, y), (_, other) = methods(n=600)
    found = compare((np.full(600, 0.7), y), (np.full(600, 0.7), other))
    assert found["brier"].high < 0.0
    assert found["matched_brier"].value == pytest.approx(0.0)
    assert found["auroc"].value == 0.0


def test_order_does_not_matter_and_questions_are_drawn_together() -> None:
    (c, y), (other_c, other_y) = methods(n=60)
    moved = np.random.default_rng(1).permutation(60)
    assert compare((c, y), (other_c, other_y)) == compare((c[moved], y[moved]), (other_c[moved], other_y[moved]))
    nine = [(np.tile(a, 9), np.tile(b, 9)) for a, b in ((c, y), (other_c, other_y))]
    once, again = compare((c, y), (other_c, other_y)), compare(*nine, groups=np.tile(np.arange(60), 9))
    for name in COMPARED:
        assert again[name].value == pytest.approx(once[name].value)
        assert again[name].high - again[name].low == pytest.approx(once[name].high - once[name].low, rel=0.35)


def test_the_edges_are_undefined_and_bad_columns_are_named() -> None:
    opposite = compare(([0.5, 0.5], [1, 1]), ([0.5, 0.5], [0, 0]), resamples=5)
    assert opposite["accuracy"].value == 1.0 and opposite["auroc"].value is None
    assert opposite["matched_share"].value == 0.0 and opposite["matched_brier"].value is None
    assert all(each.value is None and each.n == 0 for each in compare(([], []), ([], [])).values())
    with pytest.raises(ValueError, match=r"other_correct\[0\] is 0.5, expected 0 or 1"):
        compare(([0.5], [1]), ([0.5], [0.5]))
    with pytest.raises(ValueError, match="other_confidence has 2 values, confidence has 1"):
        compare(([0.5], [1]), ([0.5, 0.5], [1, 1]))
