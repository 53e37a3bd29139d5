from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.scoring_rules import (
    SCHEMES,
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
from rewards.terms import TERMS

ACCURACY = constant_scheme(1.0, 0.0)
P = np.linspace(0, 1, 101)
Q = np.linspace(0, 1, 1001)

STRICTLY_PROPER = {
    "brier": brier_scheme(),
    "accuracy and brier-1/2": ACCURACY + 0.5 * brier_scheme(),
    "accuracy and brier-3": ACCURACY + brier_scheme(3.0),
    "log": log_scheme(),
    "spherical": spherical_scheme(),
    "brier_log": brier_log_scheme(),
    **{f"overconfidence-{k:g}": overconfidence_scheme(k) for k in (0.01, 0.5, 4, 100)},
    **{f"underconfidence-{k:g}": underconfidence_scheme(k) for k in (0.01, 0.5, 4, 100)},
    **{f"threshold_prior({a:g}, {b:g})": threshold_prior_scheme(a, b) for a, b in [(1, 1), (0.5, 0.5), (3, 1), (2, 3)]},
    "all at once": brier_scheme() + 0.2 * spherical_scheme() + 3.0 * threshold_prior_scheme(2.0, 1.0),
}


@pytest.mark.parametrize("scheme", STRICTLY_PROPER.values(), ids=STRICTLY_PROPER.keys())
def test_a_strictly_proper_rule_pays_most_at_the_true_probability(scheme: Scheme) -> None:
    expected_PQ = scheme.expected(P[:, None], Q[None, :])
    np.testing.assert_array_equal(expected_PQ.argmax(axis=1), np.arange(0, 1001, 10))
    others_PQ = np.where(P[:, None] == Q[None, ::10], -np.inf, expected_PQ[:, ::10])
    assert (others_PQ.max(axis=1) < expected_PQ.max(axis=1)).all()


@pytest.mark.parametrize("scheme", [log_scheme(0.01), brier_log_scheme(0.01)])
def test_a_clipped_rule_is_strictly_proper_between_its_clips_and_flat_beyond(scheme: Scheme) -> None:
    expected_PQ = scheme.expected(P[1:-1, None], Q[None, :])
    np.testing.assert_array_equal(expected_PQ[1:-1].argmax(axis=1), np.arange(20, 990, 10))
    assert np.ptp(scheme.right(Q[990:])) == np.ptp(scheme.wrong(Q[990:])) == 0.0


@settings(max_examples=25, deadline=None)
@given(threshold=st.floats(0.02, 0.98))
def test_the_threshold_rule_pays_most_on_the_right_side_of_the_threshold(threshold: float) -> None:
    expected_PQ = threshold_scheme(threshold).expected(P[:, None], Q[None, :])
    best_P = expected_PQ.max(axis=1)
    np.testing.assert_allclose(np.diagonal(expected_PQ[:, ::10]), best_P, atol=1e-15)  # proper
    # ... but at no probability strictly: every confidence on the same side does as well.
    same_side_PQ = (P[:, None] >= threshold) == (Q[None, :] >= threshold)
    np.testing.assert_allclose(np.where(same_side_PQ, expected_PQ - best_P[:, None], 0.0), 0.0, atol=1e-15)
    far = np.abs(P - threshold) > 1e-9
    assert (np.where(same_side_PQ, -np.inf, expected_PQ).max(axis=1) < best_P)[far].all()


@pytest.mark.parametrize("scheme", [linear_scheme(), linear_scheme(0.0, 1.0), ACCURACY + linear_scheme(0.3, 0.6)])
def test_an_improper_rule_pays_most_at_an_endpoint(scheme: Scheme) -> None:
    expected_PQ = scheme.expected(P[:, None], Q[None, :])
    ends_P = np.maximum(expected_PQ[:, 0], expected_PQ[:, -1])
    np.testing.assert_allclose(expected_PQ.max(axis=1), ends_P, rtol=0, atol=1e-15)
    unsure = (P > 0.305) & (P < 0.595) & (np.abs(P - 0.5) > 1e-9)
    assert (scheme.expected(P, P)[unsure] < ends_P[unsure] - 1e-4).all()


@pytest.mark.parametrize("name", list(SCHEMES))
def test_a_rule_pays_nothing_at_its_best_except_the_stake_rule(name: str) -> None:
    scheme = SCHEMES[name]()
    with np.errstate(divide="ignore"):
        right, wrong = scheme.right(Q), scheme.wrong(Q)
    assert (np.diff(right) >= 0).all() and (np.diff(wrong[np.isfinite(wrong)]) <= 0).all()
    if name == "linear":
        assert (right[-1], wrong[0]) == (0.9, -0.1)
    else:
        assert (right[-1], wrong[0]) == pytest.approx((0.0, 0.0), abs=1e-15)


@pytest.mark.parametrize("clip", [1e-6, 1 / 203, 0.1, 0.4])
def test_a_clipped_rule_pays_nothing_at_its_best(clip: float) -> None:
    for scheme in (log_scheme(clip), brier_log_scheme(clip)):
        assert (scheme.right(Q)[-1], scheme.wrong(Q)[0]) == pytest.approx((0.0, 0.0), abs=1e-15)


# Table 1 of arXiv 2607.04332 with correctness of weight 1, as printed there.
def brier_k(k: float) -> Scheme:
    return Scheme(lambda c: 1 - k * (1 - c) ** 2, lambda c: -k * c**2)


def log_k(k: float) -> Scheme:
    return Scheme(lambda c: 1 + k * np.log(c), lambda c: k * np.log(1 - c))


def overconfidence_k(k: float) -> Scheme:
    scale = (k + 1) * np.log(k + 1) - k
    return Scheme(
        lambda c: ((k + 1) * np.log(c * k + 1) - c * k) / scale, lambda c: (np.log(c * k + 1) - c * k) / scale
    )


def underconfidence_k(k: float) -> Scheme:
    scale = k - np.log(1 + k)
    return Scheme(
        lambda c: (k * c + np.log(1 - k * c / (1 + k))) / scale,
        lambda c: (k * c + (k + 1) * np.log(1 - k * c / (1 + k))) / scale,
    )


PUBLISHED = [
    (brier_scheme(0.5), brier_k(0.5)),
    (2.0 * brier_scheme(), brier_k(2)),
    (log_scheme(), log_k(1.0)),
    (1 / np.log(202) * log_scheme(), log_k(1 / np.log(202))),
    (brier_log_scheme(), Scheme(lambda c: c, lambda c: c + np.log(1 - c))),
    *((overconfidence_scheme(k), overconfidence_k(k)) for k in (0.5, 1, 4, 20)),
    *((underconfidence_scheme(k), underconfidence_k(k)) for k in (0.5, 1, 4, 20)),
]


@pytest.mark.parametrize(("rule", "published"), PUBLISHED)
def test_beside_accuracy_a_rule_is_the_published_scheme(rule: Scheme, published: Scheme) -> None:
    c = Q[1:-1]
    np.testing.assert_allclose((ACCURACY + rule).right(c), published.right(c), atol=1e-13)
    np.testing.assert_allclose((ACCURACY + rule).wrong(c), published.wrong(c), atol=1e-13)


def test_the_clipped_log_rule_is_the_published_one_but_for_a_constant() -> None:
    clip, k = 1 / 203, 1 / np.log(202)
    c = np.linspace(clip, 1 - clip, 101)
    ours, published = ACCURACY + k * log_scheme(clip), log_k(k)
    shift = -k * np.log(1 - clip)
    np.testing.assert_allclose(ours.right(c) - published.right(c), shift, atol=1e-13)
    np.testing.assert_allclose(ours.wrong(c) - published.wrong(c), shift, atol=1e-13)


def overconfidence_density(k: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda c: k**2 / (1 + c * k) / ((k + 1) * math.log1p(k) - k)


def underconfidence_density(k: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda c: k**2 / (1 + k - k * c) / (k - math.log1p(k))


def beta_density(a: float, b: float) -> Callable[[np.ndarray], np.ndarray]:
    scale = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b))
    return lambda c: scale * c ** (a - 1) * (1 - c) ** (b - 1)


@pytest.mark.parametrize(
    ("scheme", "density"),
    [
        (brier_scheme(), lambda c: 2 + 0 * c),
        (log_scheme(), lambda c: 1 / (c * (1 - c))),
        (spherical_scheme(), lambda c: (c**2 + (1 - c) ** 2) ** -1.5),
        (brier_log_scheme(), lambda c: 1 / (1 - c)),
        *((overconfidence_scheme(k), overconfidence_density(k)) for k in (0.1, 1, 4, 100)),
        *((underconfidence_scheme(k), underconfidence_density(k)) for k in (0.1, 1, 4, 100)),
        *((threshold_prior_scheme(a, b), beta_density(a, b)) for a in (0.5, 1, 3) for b in (0.5, 1, 3)),
    ],
)
def test_each_rule_has_the_density_that_it_names(scheme: Scheme, density: Callable[[np.ndarray], np.ndarray]) -> None:
    c, step = np.linspace(0.05, 0.95, 19), 1e-5
    slope_right = (scheme.right(c + step) - scheme.right(c - step)) / (2 * step)
    slope_wrong = (scheme.wrong(c + step) - scheme.wrong(c - step)) / (2 * step)
    np.testing.assert_allclose(slope_right, (1 - c) * density(c), rtol=1e-5)
    np.testing.assert_allclose(slope_wrong, -c * density(c), rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(a=st.floats(1, 8), b=st.floats(1, 8))
def test_a_prior_over_the_threshold_is_the_mixture_of_threshold_rules(a: float, b: float) -> None:
    threshold = (np.arange(4000) + 0.5) / 4000
    density = threshold ** (a - 1) * (1 - threshold) ** (b - 1)
    density /= density.sum()
    c = np.linspace(0, 1, 21)
    rules = [threshold_scheme(t) for t in threshold.tolist()]
    right = sum(share * rule.right(c) for share, rule in zip(density, rules, strict=True))
    wrong = sum(share * rule.wrong(c) for share, rule in zip(density, rules, strict=True))
    np.testing.assert_allclose(threshold_prior_scheme(a, b).right(c), right, atol=2e-3)
    np.testing.assert_allclose(threshold_prior_scheme(a, b).wrong(c), wrong, atol=2e-3)


def test_families_meet_where_their_parameter_ends() -> None:
    c = np.linspace(0, 0.95, 20)
    for limit, near, tolerance in [
        (0.5 * brier_scheme(), threshold_prior_scheme(1.0, 1.0), 1e-14),
        (brier_scheme(), overconfidence_scheme(0.01), 1e-2),
        (brier_scheme(), underconfidence_scheme(0.01), 1e-2),
        (brier_log_scheme(), underconfidence_scheme(1e6), 1e-4),
        (log_scheme(), log_scheme(1e-9), 1e-8),
        (brier_log_scheme(), brier_log_scheme(1e-9), 1e-8),
    ]:
        np.testing.assert_allclose(near.right(c[1:]), limit.right(c[1:]), atol=tolerance)
        np.testing.assert_allclose(near.wrong(c), limit.wrong(c), atol=tolerance)


def test_expected_reward_of_rlcr_is_the_square_of_the_probability() -> None:
    p = np.linspace(0, 1, 11)
    np.testing.assert_allclose((ACCURACY + brier_scheme()).expected(p, p), p**2, atol=1e-15)


def test_schemes_add_and_scale_like_rewards() -> None:
    c = np.array([0.0, 0.25, 1.0])
    scheme = 2.0 * ACCURACY + 0.5 * brier_scheme() + constant_scheme(0.1, 0.2)
    np.testing.assert_allclose(scheme.right(c), 2.1 - 0.5 * (1 - c) ** 2)
    np.testing.assert_allclose(scheme.wrong(c), 0.2 - 0.5 * c**2)
    np.testing.assert_allclose(brier_scheme(0.5).wrong(c), (0.5 * brier_scheme()).wrong(c))


def test_every_rule_is_a_term_of_the_same_name() -> None:
    assert SCHEMES.keys() <= TERMS.keys()
    c = np.linspace(0.01, 0.99, 9)
    for name in SCHEMES.keys() - {"log", "brier_log"}:  # the terms are clipped, the rules are not
        np.testing.assert_array_equal(TERMS[name]().scheme().right(c), SCHEMES[name]().right(c))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("log", {"clip": 0.5}, r"clip is 0.5, expected a number in \[0, 0.5\)"),
        ("log", {"clip": -0.1}, "clip is -0.1"),
        ("brier_log", {"clip": math.nan}, "clip is nan"),
        ("overconfidence", {"k": 0}, r"k is 0, expected a number in \[0.01, 1e\+06\]"),
        ("underconfidence", {"k": math.inf}, "k is inf"),
        ("underconfidence", {"k": "4"}, "k is '4'"),
        ("threshold", {"threshold": 1.0}, r"threshold is 1.0, expected a number in \(0, 1\)"),
        ("threshold", {"threshold": 0}, "threshold is 0"),
        ("threshold_prior", {"a": 0}, r"a is 0, expected a number in \[0.1, 100\]"),
        ("threshold_prior", {"b": True}, "b is True"),
        ("linear", {"low": -0.1}, r"low is -0.1, expected a number in \[0, 1\)"),
        ("linear", {"low": 0.5, "high": 0.5}, r"high is 0.5, expected a number in \(0.5, 1\]"),
    ],
)
def test_an_impossible_parameter_is_named(name: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SCHEMES[name](**options)
