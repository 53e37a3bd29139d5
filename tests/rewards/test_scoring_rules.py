from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.scoring_rules import Scheme, audit, brier_scheme, constant_scheme

ACCURACY = constant_scheme(1.0, 0.0)
LOG = Scheme(np.log, lambda c: np.log1p(-c))
SPHERICAL = Scheme(lambda c: c / np.hypot(c, 1 - c), lambda c: (1 - c) / np.hypot(c, 1 - c))
LINEAR = Scheme(lambda c: c - 1, lambda c: -c)
BRIER_LOG_HYBRID = Scheme(lambda c: c, lambda c: c + np.log1p(-c))  # arXiv 2607.04332, Table 1


def overconfidence(k: float) -> Scheme:
    """Overconfidence-k of arXiv 2607.04332, Table 1."""
    scale = (k + 1) * np.log(k + 1) - k
    return Scheme(
        lambda c: ((k + 1) * np.log(c * k + 1) - c * k) / scale,
        lambda c: (np.log(c * k + 1) - c * k) / scale,
    )


def underconfidence(k: float) -> Scheme:
    """Underconfidence-k of arXiv 2607.04332, Table 1."""
    scale = k - np.log(1 + k)
    return Scheme(
        lambda c: (k * c + np.log(1 - k * c / (1 + k))) / scale,
        lambda c: (k * c + (k + 1) * np.log(1 - k * c / (1 + k))) / scale,
    )


@pytest.mark.parametrize("scheme", [brier_scheme(), ACCURACY + 0.5 * brier_scheme(), ACCURACY + brier_scheme(3.0)])
def test_brier_pays_most_at_the_true_probability(scheme: Scheme) -> None:
    grid = np.linspace(0, 1, 1001)
    expected = scheme.expected(grid[:, None], grid[None, :])
    np.testing.assert_array_equal(expected.argmax(axis=1), np.arange(1001))


def test_expected_reward_of_rlcr_is_the_square_of_the_probability() -> None:
    p = np.linspace(0, 1, 11)
    np.testing.assert_allclose((ACCURACY + brier_scheme()).expected(p, p), p**2, atol=1e-15)


def test_schemes_add_and_scale_like_rewards() -> None:
    c = np.array([0.0, 0.25, 1.0])
    scheme = 2.0 * ACCURACY + 0.5 * brier_scheme() + constant_scheme(0.1, 0.2)
    np.testing.assert_allclose(scheme.right(c), 2.1 - 0.5 * (1 - c) ** 2)
    np.testing.assert_allclose(scheme.wrong(c), 0.2 - 0.5 * c**2)
    np.testing.assert_allclose(brier_scheme(0.5).wrong(c), (0.5 * brier_scheme()).wrong(c))


# name, scheme, low, high, proper, strictly proper, safe, bounded
FAMILIES = [
    ("correctness only", ACCURACY, 0.0, 1.0, True, False, True, True),
    ("brier only", brier_scheme(), 0.0, 1.0, True, True, False, True),
    ("rlcr", ACCURACY + brier_scheme(), 0.0, 1.0, True, True, True, True),
    ("brier-2", ACCURACY + brier_scheme(2), 0.0, 1.0, True, True, False, True),
    ("brier-2 above one half", ACCURACY + brier_scheme(2), 0.25, 1.0, True, True, True, True),
    ("log only", LOG, 0.0, 1.0, True, True, False, False),
    ("log-1", ACCURACY + LOG, 0.0, 1.0, True, True, False, False),
    ("log-1/ln 202, clipped", ACCURACY + 1 / np.log(202) * LOG, 1 / 203, 1 - 1 / 203, True, True, True, True),
    ("log-1/ln 202, clipped too far out", ACCURACY + 1 / np.log(202) * LOG, 1 / 400, 1.0, True, True, False, False),
    ("spherical", ACCURACY + SPHERICAL, 0.0, 1.0, True, True, True, True),
    ("hybrid", BRIER_LOG_HYBRID, 0.0, 1.0, True, True, True, False),
    ("overconfidence-4", overconfidence(4), 0.0, 1.0, True, True, True, True),
    ("underconfidence-4", underconfidence(4), 0.0, 1.0, True, True, True, True),
    ("linear-1", ACCURACY + LINEAR, 0.0, 1.0, False, False, False, True),
    ("linear-1/2", 2.0 * ACCURACY + LINEAR, 0.0, 1.0, False, False, True, True),
    ("paid to be wrong", constant_scheme(0.0, 1.0), 0.0, 1.0, True, False, False, True),
]


@pytest.mark.parametrize(("scheme", "low", "high", "expected"), [(s, a, b, tuple(e)) for _, s, a, b, *e in FAMILIES],
                         ids=[row[0] for row in FAMILIES])  # fmt: skip
def test_audit_knows_the_published_families(
    scheme: Scheme, low: float, high: float, expected: tuple[bool, bool, bool, bool]
) -> None:
    found = audit(scheme, low, high)
    assert (found.proper, found.strictly_proper, found.safe, found.bounded) == expected
    assert found.safe == (found.hackable_range is None and found.decreasing_range is None) == (found.shortfall == 0.0)


@settings(max_examples=25, deadline=None)
@given(k=st.floats(1.001, 50), scale=st.floats(1e-3, 1e3))
def test_hackable_range_of_brier_k_is_the_closed_form(k: float, scale: float) -> None:
    found = audit(scale * (ACCURACY + brier_scheme(k)))
    assert not found.safe
    assert found.hackable_range == pytest.approx((0.0, (k - 1) / k), abs=1e-8)
    # R_max(c) = c - k c (1 - c) falls as far as (k - 1) / 2k.
    assert found.decreasing_range == pytest.approx((0.0, (k - 1) / (2 * k)), abs=2e-3)
    assert found.shortfall == pytest.approx(scale * (k - 1), rel=1e-3)


@settings(max_examples=25, deadline=None)
@given(k=st.floats(0, 1), scale=st.floats(1e-3, 1e3))
def test_brier_no_heavier_than_accuracy_is_safe(k: float, scale: float) -> None:
    assert audit(scale * (ACCURACY + brier_scheme(k))).safe


@pytest.mark.parametrize("excess", [1e-5, 1e-4, 1e-3])
def test_a_brier_weight_just_over_one_is_found_out(excess: float) -> None:
    assert not audit(ACCURACY + brier_scheme(1 + excess)).safe


@pytest.mark.parametrize("k", [1.5, 2.0, 7.0])
def test_paying_the_shortfall_makes_a_scheme_safe(k: float) -> None:
    scheme = ACCURACY + brier_scheme(k)
    shortfall = audit(scheme).shortfall
    assert audit(scheme + constant_scheme(shortfall + 1e-6, 0.0)).safe
    assert not audit(scheme + constant_scheme(shortfall - 1e-3, 0.0)).safe


def test_no_finite_payment_makes_the_unclipped_log_rule_safe() -> None:
    found = audit(ACCURACY + LOG)
    assert found.shortfall == np.inf
    # Wrong on purpose pays 0 and honesty p + p ln p + (1 - p) ln(1 - p): equal where p is its own entropy.
    low, high = found.hackable_range or (np.nan, np.nan)
    assert low == pytest.approx(0.0, abs=1e-9)
    assert high + high * np.log(high) + (1 - high) * np.log1p(-high) == pytest.approx(0.0, abs=1e-8)
    assert 0 < audit(ACCURACY + LOG, 0.01).shortfall < np.inf


def test_linear_rule_is_unsafe_although_it_never_pays_for_a_wrong_answer() -> None:
    found = audit(ACCURACY + LINEAR)
    assert (found.proper, found.safe, found.hackable_range) == (False, False, None)
    assert found.decreasing_range == pytest.approx((0.0, 0.25), abs=1e-3)


def test_the_true_probability_may_lie_below_every_allowed_confidence() -> None:
    # With p < 0.2 the best honest confidence is 0.2; equal pay at p - 2 p (1 - p) = g(0.2) = -0.08, so p = 0.4.
    found = audit(ACCURACY + brier_scheme(2.0), low=0.2)
    assert found.hackable_range == pytest.approx((0.0, 0.4), abs=1e-8)


def test_audit_reports_the_range_of_rewards() -> None:
    found = audit(ACCURACY + brier_scheme(0.5))
    assert (found.lowest, found.highest) == (-0.5, 1.0)
    assert audit(ACCURACY + LOG).lowest == -np.inf


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (-0.1, 1.0), (0.0, 1.1), (0.9, 0.1), (np.nan, 1.0)])
def test_audit_refuses_an_impossible_range(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="expected 0 <= low < high <= 1"):
        audit(ACCURACY, low, high)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_audit_refuses_a_scheme_without_a_value(value: float) -> None:
    with pytest.raises(ValueError, match=r"Scheme.wrong is NaN or \+inf at confidence 0.0"):
        audit(Scheme(lambda c: c, lambda c: np.where(c == 0, value, c)))
