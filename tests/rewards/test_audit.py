from __future__ import annotations

import math

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.audit import audit, expected_reward_curve
from rewards.scoring_rules import (
    Scheme,
    brier_log_scheme,
    brier_scheme,
    constant_scheme,
    linear_scheme,
    log_scheme,
    overconfidence_scheme,
    spherical_scheme,
    threshold_prior_scheme,
    threshold_scheme,
    underconfidence_scheme,
)

ACCURACY = constant_scheme(1.0, 0.0)
LINEAR = Scheme(lambda c: c - 1, lambda c: -c)
LIMIT = 1 / math.log(202)  # the weight at which the log rule clipped at 1/203 is just safe

# name, scheme, low, high, proper, strictly proper, safe, bounded
FAMILIES = [
    ("correctness only", ACCURACY, 0.0, 1.0, True, False, True, True),
    ("pure brier", brier_scheme(), 0.0, 1.0, True, True, False, True),
    ("brier-1/2", ACCURACY + brier_scheme(0.5), 0.0, 1.0, True, True, True, True),
    ("brier-1, rlcr", ACCURACY + brier_scheme(), 0.0, 1.0, True, True, True, True),
    ("brier-1.01", ACCURACY + brier_scheme(1.01), 0.0, 1.0, True, True, False, True),
    ("brier-2", ACCURACY + brier_scheme(2), 0.0, 1.0, True, True, False, True),
    ("brier-2 above one half", ACCURACY + brier_scheme(2), 0.25, 1.0, True, True, True, True),
    ("pure log", log_scheme(), 0.0, 1.0, True, True, False, False),
    ("log-1", ACCURACY + log_scheme(), 0.0, 1.0, True, True, False, False),
    ("log-1/10", ACCURACY + 0.1 * log_scheme(), 0.0, 1.0, True, True, False, False),
    ("log-1/ln 202 on (1/203, 1 - 1/203)", ACCURACY + LIMIT * log_scheme(), 1 / 203, 1 - 1 / 203,
     True, True, True, True),
    ("log-1/ln 202, clipped to it", ACCURACY + LIMIT * log_scheme(1 / 203), 0.0, 1.0, True, False, True, True),
    ("log-1/ln 202 on (0, 1)", ACCURACY + LIMIT * log_scheme(), 0.0, 1.0, True, True, False, False),
    ("log-1/ln 202, clipped too far out", ACCURACY + LIMIT * log_scheme(), 1 / 400, 1.0, True, True, False, False),
    ("spherical", ACCURACY + spherical_scheme(), 0.0, 1.0, True, True, True, True),
    ("pure spherical", spherical_scheme(), 0.0, 1.0, True, True, False, True),
    ("hybrid", ACCURACY + brier_log_scheme(), 0.0, 1.0, True, True, True, False),
    *((f"overconfidence-{k:g}", ACCURACY + overconfidence_scheme(k), 0.0, 1.0, True, True, True, True)
      for k in (0.01, 0.5, 1, 4, 20, 1e3, 1e6)),
    *((f"underconfidence-{k:g}", ACCURACY + underconfidence_scheme(k), 0.0, 1.0, True, True, True, True)
      for k in (0.01, 0.5, 1, 4, 20, 1e3, 1e6)),
    ("threshold", ACCURACY + threshold_scheme(0.8), 0.0, 1.0, True, False, True, True),
    ("threshold prior", ACCURACY + threshold_prior_scheme(2.0, 2.0), 0.0, 1.0, True, True, True, True),
    ("linear", linear_scheme(), 0.0, 1.0, False, False, False, True),
    ("accuracy and linear", ACCURACY + linear_scheme(), 0.0, 1.0, False, False, True, True),
    ("linear-1", ACCURACY + LINEAR, 0.0, 1.0, False, False, False, True),
    ("linear-1/2", 2.0 * ACCURACY + LINEAR, 0.0, 1.0, False, False, True, True),
    ("paid to be wrong", constant_scheme(0.0, 1.0), 0.0, 1.0, True, False, False, True),
]  # fmt: skip


@pytest.mark.parametrize(("scheme", "low", "high", "expected"), [(s, a, b, tuple(e)) for _, s, a, b, *e in FAMILIES],
                         ids=[row[0] for row in FAMILIES])  # fmt: skip
def test_audit_knows_the_published_families(
    scheme: Scheme, low: float, high: float, expected: tuple[bool, bool, bool, bool]
) -> None:
    found = audit(scheme, low, high)
    assert (found.proper, found.strictly_proper, found.safe, found.bounded) == expected
    assert found.safe == (found.hackable_range is None and found.decreasing_range is None) == (found.shortfall == 0.0)


C = sympy.Symbol("c", positive=True)
_OVER = {k: (k + 1) * sympy.log(k + 1) - k for k in (1, 4, 30)}
_UNDER = {k: k - sympy.log(1 + k) for k in (1, 4, 30)}
_NORM = sympy.sqrt(C**2 + (1 - C) ** 2)


def _brier(k: sympy.Expr) -> tuple[sympy.Expr, sympy.Expr]:
    return 1 - k * (1 - C) ** 2, -k * C**2


def _log(k: sympy.Expr) -> tuple[sympy.Expr, sympy.Expr]:
    return 1 + k * sympy.log(C), k * sympy.log(1 - C)


def _prior(k: sympy.Expr, a: int, b: int) -> tuple[sympy.Expr, sympy.Expr]:
    """A mixture of threshold rules by exact integration, correctness of weight 1 beside it."""
    t = sympy.Symbol("t", positive=True)
    density = sympy.expand(t ** (a - 1) * (1 - t) ** (b - 1) / sympy.beta(a, b).rewrite(sympy.gamma).simplify())
    missed = sympy.integrate(sympy.expand((1 - t) * density), (t, C, 1))
    return 1 - k * missed, -k * sympy.integrate(sympy.expand(t * density), (t, 0, C))


R = sympy.Rational
# name, (f, g) with correctness inside, low, high, our scheme
CLOSED_FORMS = [
    ("correctness only", (sympy.Integer(1), sympy.Integer(0)), 0, 1, ACCURACY),
    *((f"brier-{k}", _brier(k), 0, 1, ACCURACY + brier_scheme(float(k)))
      for k in (R(1, 2), R(1), R(101, 100), R(2))),
    ("brier-2 above one quarter", _brier(R(2)), R(1, 4), 1, ACCURACY + brier_scheme(2.0)),
    ("pure brier", (-((1 - C) ** 2), -(C**2)), 0, 1, brier_scheme()),
    ("pure log", (sympy.log(C), sympy.log(1 - C)), 0, 1, log_scheme()),
    *((f"log-{k}", _log(k), 0, 1, ACCURACY + float(k) * log_scheme()) for k in (R(1, 10), R(1))),
    ("log-1/ln 202", _log(1 / sympy.log(202)), R(1, 203), R(202, 203), ACCURACY + LIMIT * log_scheme()),
    ("log-1/ln 202, too far out", _log(1 / sympy.log(202)), R(1, 204), R(203, 204), ACCURACY + LIMIT * log_scheme()),
    ("spherical", (C / _NORM, (1 - C) / _NORM - 1), 0, 1, ACCURACY + spherical_scheme()),
    ("spherical-2", (2 * C / _NORM - 1, 2 * (1 - C) / _NORM - 2), 0, 1, ACCURACY + 2.0 * spherical_scheme()),
    ("hybrid", (C, C + sympy.log(1 - C)), 0, 1, ACCURACY + brier_log_scheme()),
    *((f"overconfidence-{k}",
       (((k + 1) * sympy.log(C * k + 1) - C * k) / s, (sympy.log(C * k + 1) - C * k) / s), 0, 1,
       ACCURACY + overconfidence_scheme(float(k))) for k, s in _OVER.items()),
    *((f"underconfidence-{k}",
       ((k * C + sympy.log(1 - k * C / (1 + k))) / s, (k * C + (k + 1) * sympy.log(1 - k * C / (1 + k))) / s), 0, 1,
       ACCURACY + underconfidence_scheme(float(k))) for k, s in _UNDER.items()),
    ("prior (2, 3), weight 5/3", _prior(R(5, 3), 2, 3), 0, 1, ACCURACY + 5 / 3 * threshold_prior_scheme(2.0, 3.0)),
    ("prior (2, 3), weight 2", _prior(R(2), 2, 3), 0, 1, ACCURACY + 2.0 * threshold_prior_scheme(2.0, 3.0)),
    ("linear", (2 + C - 1, -C), 0, 1, 2.0 * ACCURACY + LINEAR),
]  # fmt: skip


@pytest.mark.parametrize(("forms", "low", "high", "scheme"), [row[1:] for row in CLOSED_FORMS],
                         ids=[row[0] for row in CLOSED_FORMS])  # fmt: skip
def test_audit_agrees_with_the_closed_form(
    forms: tuple[sympy.Expr, sympy.Expr], low: sympy.Expr, high: sympy.Expr, scheme: Scheme
) -> None:
    """arXiv 2607.04332: non-hackable iff some h <= 0 has f' = (c - 1) h, g' = c h, and f >= g at the lowest confidence.

    For a proper scheme the second half says that R_max, whose slope is f - g, does not fall.
    """
    right, wrong = forms
    inside = [low + (high - low) * R(step, 40) for step in range(1, 40)]
    h_right, h_wrong = sympy.diff(right, C) / (C - 1), sympy.diff(wrong, C) / C
    proper = sympy.simplify(h_right - h_wrong) == 0 and all(h_wrong.subs(C, c).evalf(30) <= 0 for c in inside)
    reward = C * right + (1 - C) * wrong
    rising = all(sympy.diff(reward, C).subs(C, c).evalf(30) >= 0 for c in inside)
    never_falls = rising and sympy.limit(right - wrong, C, low, "+").evalf(30) >= -1e-25
    found = audit(scheme, float(low), float(high))
    assert found.proper == proper
    assert found.safe == (never_falls if proper else rising)


# A rule, and the largest weight beside accuracy at which its docstring calls it safe.
SAFE_WEIGHTS = [
    (brier_scheme(), 1.0),
    *((log_scheme(clip), 1 / math.log((1 - clip) / clip)) for clip in (1e-6, 0.001, 1 / 203, 0.1)),
    (spherical_scheme(), 1.0),
    *((brier_log_scheme(clip), 1 / (1 - clip)) for clip in (0.0, 0.001, 0.3)),
    *((overconfidence_scheme(k), 1.0) for k in (0.01, 1.0, 4.0, 1e4)),
    *((underconfidence_scheme(k), 1.0) for k in (0.01, 1.0, 4.0, 1e4)),
    *((threshold_scheme(t), 1 / (1 - t)) for t in (0.01, 0.3, 0.5, 0.99)),
    *((threshold_prior_scheme(a, b), (a + b) / b) for a, b in [(1, 1), (2, 1), (1, 5), (5, 2), (0.5, 0.5)]),
    (linear_scheme(), 1 / (1 - 4 * 0.1)),
    (linear_scheme(0.0, 1.0), 1.0),
]


@pytest.mark.parametrize(("rule", "weight"), SAFE_WEIGHTS)
def test_each_rule_is_safe_up_to_the_weight_it_states(rule: Scheme, weight: float) -> None:
    assert audit(ACCURACY + weight * rule).safe
    assert audit(ACCURACY + 0.3 * weight * rule).safe
    assert not audit(ACCURACY + 1.01 * weight * rule).safe
    assert not audit(rule).safe


@settings(max_examples=15, deadline=None)
@given(points=st.integers(2, 300), k=st.floats(0, 3))
def test_curve_of_a_brier_rule(points: int, k: float) -> None:
    p, honest, wrong = expected_reward_curve(ACCURACY + brier_scheme(k), points)
    assert p.shape == honest.shape == wrong.shape == (points,)
    assert (p[0], p[-1]) == (0.0, 1.0)
    np.testing.assert_allclose(honest, p - k * p * (1 - p), atol=1e-15)
    np.testing.assert_array_equal(wrong, 0.0)


def test_curve_of_an_unbounded_rule_is_finite_where_the_expectation_is() -> None:
    p, honest, wrong = expected_reward_curve(ACCURACY + log_scheme())
    assert np.isfinite(honest).all()
    np.testing.assert_array_equal(wrong, 0.0)
    found = audit(ACCURACY + log_scheme()).hackable_range
    assert found is not None
    np.testing.assert_array_equal((honest < wrong)[1:-1], ((p > found[0]) & (p < found[1]))[1:-1])
    with pytest.raises(ValueError, match="a curve of 1 points, expected at least 2"):
        expected_reward_curve(ACCURACY, 1)


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
    found = audit(ACCURACY + log_scheme())
    assert found.shortfall == np.inf
    # Wrong on purpose pays 0 and honesty p + p ln p + (1 - p) ln(1 - p): equal where p is its own entropy.
    low, high = found.hackable_range or (np.nan, np.nan)
    assert low == pytest.approx(0.0, abs=1e-9)
    assert high + high * np.log(high) + (1 - high) * np.log1p(-high) == pytest.approx(0.0, abs=1e-8)
    assert 0 < audit(ACCURACY + log_scheme(), 0.01).shortfall < np.inf


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
    assert audit(ACCURACY + log_scheme()).lowest == -np.inf


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (-0.1, 1.0), (0.0, 1.1), (0.9, 0.1), (np.nan, 1.0)])
def test_audit_refuses_an_impossible_range(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="expected 0 <= low < high <= 1"):
        audit(ACCURACY, low, high)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_audit_refuses_a_scheme_without_a_value(value: float) -> None:
    with pytest.raises(ValueError, match=r"Scheme.wrong is NaN or \+inf at confidence 0.0"):
        audit(Scheme(lambda c: c, lambda c: np.where(c == 0, value, c)))
