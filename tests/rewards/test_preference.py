from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from rewards.outcomes import Outcomes
from rewards.rubric import Rubric
from rewards.terms.preference import CAPOTerm, RLSFTerm
from tests.factories import make_outcomes

NAN = np.nan
SIGNALS = st.lists(st.sampled_from([-3.0, -1.0, -0.5, 0.0, 0.25, 2.0, NAN]), min_size=1, max_size=12)


def ranked(signal: ArrayLike, correct: ArrayLike = 0.0, group: ArrayLike = 0) -> Outcomes:
    """What RLSF ranks by and what CAPO ranks by, alike."""
    return make_outcomes(correct, group=group, answer_margin=signal, mean_log_prob=signal)


def drawn(seed: int, size: int) -> Outcomes:
    rng = np.random.default_rng(seed)
    signal = rng.choice([-2.0, -1.0, -0.3, 0.0, 0.7, NAN], size)
    return ranked(signal, rng.choice([0.0, 1.0, NAN], size), rng.integers(0, 3, size))


def win_rate(signal: np.ndarray, rivals: list[list[int]]) -> list[float]:
    """The definition, one pair at a time."""
    rates = []
    for i, others in enumerate(rivals):
        wins = [1.0 if signal[i] > signal[j] else 0.5 if signal[i] == signal[j] else 0.0 for j in others]
        rates.append(sum(wins) / len(wins) if wins else NAN)
    return rates


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 14), among=st.sampled_from(["all", "equally_correct"]))
def test_win_rate_is_the_share_of_comparable_siblings_beaten(seed: int, size: int, among: str) -> None:
    outcomes = drawn(seed, size)
    signal, y, group = outcomes.signals["answer_margin"], outcomes.correct, outcomes.group
    rivals = [
        [
            j
            for j in range(size)
            if j != i and group[i] == group[j] and not np.isnan([signal[i], signal[j]]).any()
            if among == "all" or y[i] == y[j]
        ]
        for i in range(size)
    ]
    np.testing.assert_allclose(RLSFTerm(form="win_rate", among=among)(outcomes), win_rate(signal, rivals))


@settings(deadline=None, max_examples=50)
@given(signal=SIGNALS)
def test_rank_is_the_centred_average_rank_and_twice_the_win_rate_less_one(signal: list[float]) -> None:
    reward = RLSFTerm(form="rank")(ranked(signal))
    known = ~np.isnan(signal)
    np.testing.assert_array_equal(np.isnan(reward), ~known if known.sum() > 1 else np.ones(len(signal), bool))
    np.testing.assert_allclose(reward, 2 * RLSFTerm(form="win_rate")(ranked(signal)) - 1)
    if known.sum() > 1:
        ranks = rankdata(np.array(signal)[known], method="average")
        np.testing.assert_allclose(reward[known], (ranks - ranks.mean()) / ((known.sum() - 1) / 2), atol=1e-12)
        assert np.nansum(reward) == pytest.approx(0.0, abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(signal=SIGNALS, temperature=st.sampled_from([0.1, 1.0, 7.0]))
def test_bradley_terry_is_the_mean_log_probability_of_winning(signal: list[float], temperature: float) -> None:
    reward = RLSFTerm(form="bradley_terry", temperature=temperature)(ranked(signal))
    for i, mine in enumerate(signal):
        others = [s for j, s in enumerate(signal) if j != i and not np.isnan(s)]
        if np.isnan(mine) or not others:
            assert np.isnan(reward[i])
        else:
            expected = np.mean([-np.log(1 + np.exp(-(mine - s) / temperature)) for s in others])
            assert reward[i] == pytest.approx(expected)
            assert reward[i] <= 0


@pytest.mark.parametrize("form", ["rank", "win_rate", "bradley_terry"])
@settings(deadline=None, max_examples=30)
@given(signal=st.lists(st.floats(-5, 5), min_size=2, max_size=8), gain=st.floats(0.01, 3))
def test_a_surer_completion_never_earns_less_nor_its_siblings_more(form: str, signal: list[float], gain: float) -> None:
    before = RLSFTerm(form=form)(ranked(signal))
    after = RLSFTerm(form=form)(ranked([signal[0] + gain, *signal[1:]]))
    assert after[0] >= before[0] - 1e-12
    assert (after[1:] <= before[1:] + 1e-12).all()


def test_only_bradley_terry_sees_by_how_much() -> None:
    near, far = ranked([0.0, 0.1]), ranked([0.0, 3.0])
    for form in ("rank", "win_rate"):
        np.testing.assert_array_equal(RLSFTerm(form=form)(near), RLSFTerm(form=form)(far))
    term = RLSFTerm(form="bradley_terry")
    assert term(far)[1] > term(near)[1]


def test_far_apart_signals_stay_finite() -> None:
    reward = RLSFTerm(form="bradley_terry", temperature=1e-3)(ranked([-1e6, 1e6]))
    assert reward.tolist() == [-2e9, 0.0]
    pull = CAPOTerm(tau=1e-3)(ranked([-1e6, 1e6], [1.0, 0.0]))
    np.testing.assert_allclose(pull, [1000.0, -1000.0])


def test_the_order_among_the_equally_correct_never_contradicts_accuracy() -> None:
    # The wrong one is the surest of all, which counts among all, but not against a right one.
    outcomes = ranked([0.1, 0.2, 0.9, NAN, 0.5], [1.0, 1.0, 0.0, 1.0, NAN])
    assert RLSFTerm(form="win_rate")(outcomes)[2] == 1.0
    np.testing.assert_array_equal(
        RLSFTerm(form="win_rate", among="equally_correct")(outcomes), [0.0, 1.0, NAN, NAN, NAN]
    )


def test_the_stated_confidence_may_be_what_ranks() -> None:
    base = ranked([0.0, 0.0, 0.0])
    outcomes = make_outcomes(base.correct, [0.2, 0.9, NAN])
    term = RLSFTerm(signal="confidence")
    assert term.signals == ()
    np.testing.assert_array_equal(term(outcomes), [-1.0, 1.0, NAN])
    assert RLSFTerm().signals == ("answer_margin",)


def pairwise_loss(signal: np.ndarray, correct: np.ndarray, tau: float) -> float:
    right, wrong = np.flatnonzero(correct == 1), np.flatnonzero(correct == 0)
    pairs = itertools.product(right, wrong)
    return float(sum(np.log(1 + np.exp(-(signal[i] - signal[j]) / tau)) for i, j in pairs))


@settings(deadline=None, max_examples=50)
@given(
    pairs=st.lists(st.tuples(st.floats(-3, 0), st.sampled_from([0.0, 1.0])), min_size=1, max_size=8),
    tau=st.sampled_from([0.3, 0.5, 2.0]),
)
def test_capo_descends_the_pairwise_logistic_loss(pairs: list[tuple[float, float]], tau: float) -> None:
    signal, correct = (np.array(column) for column in zip(*pairs, strict=True))
    pull = CAPOTerm(tau=tau)(ranked(signal, correct.tolist()))
    for i in range(len(signal)):
        step = np.zeros(len(signal))
        step[i] = 1e-5
        up, down = (pairwise_loss(signal + sign * step, correct, tau) for sign in (1, -1))
        opposite = max(int((correct != correct[i]).sum()), 1)
        assert pull[i] * opposite == pytest.approx(-(up - down) / 2e-5, abs=1e-6)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 14))
def test_capo_raises_the_right_as_much_as_it_lowers_the_wrong(seed: int, size: int) -> None:
    outcomes = drawn(seed, size)
    pull, known = CAPOTerm()(outcomes), ~np.isnan(outcomes.signals["mean_log_prob"] + outcomes.correct)
    np.testing.assert_array_equal(np.isnan(pull), ~known)
    for group in np.unique(outcomes.group):
        right, wrong = (known & (outcomes.group == group) & (outcomes.correct == y) for y in (1.0, 0.0))
        if right.any() and wrong.any():
            assert pull[right].mean() == pytest.approx(-pull[wrong].mean())
            assert (pull[right] > 0).all()
            assert (pull[wrong] < 0).all()
        else:
            assert (pull[right | wrong] == 0).all()


def test_capo_pulls_hardest_on_what_is_ranked_worst() -> None:
    pull = CAPOTerm()(ranked([-2.0, -0.1, -1.0], [1.0, 1.0, 0.0]))
    assert pull[0] > pull[1] > 0 > pull[2]


def test_partial_credit_counts_as_right_from_one_half() -> None:
    assert (np.sign(CAPOTerm()(ranked([0.0, 0.0], [0.5, 0.49]))) == [1, -1]).all()


@pytest.mark.parametrize("term", [RLSFTerm(), RLSFTerm(form="bradley_terry", among="equally_correct"), CAPOTerm()])
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_only_siblings_count_and_in_no_order(term: RLSFTerm | CAPOTerm, seed: int) -> None:
    outcomes = drawn(seed, 12)
    whole = term(outcomes)
    rows = np.random.default_rng(seed).permutation(12)
    groups = [np.flatnonzero(outcomes.group == group) for group in np.unique(outcomes.group)]
    for part in [rows, *groups]:
        taken = ranked(
            outcomes.signals["answer_margin"][part], outcomes.correct[part].tolist(), outcomes.group[part].tolist()
        )
        np.testing.assert_allclose(term(taken), whole[part])


def test_capo_is_an_advantage_and_takes_no_other_scaling() -> None:
    rubric = Rubric.from_config({"accuracy": {}, "capo": {}})
    assert [each.scaling for each in rubric.schedules] == [None, "raw"]
    assert Rubric.from_config(rubric.to_config()).schedules == rubric.schedules
    with pytest.raises(ValueError, match=r"rubric\.capo\.scaling is 'none', expected raw"):
        Rubric.from_config({"accuracy": {}, "capo": {"scaling": "none"}})
    with pytest.raises(ValueError, match=r"rubric\.accuracy\.scaling is 'raw', which only an advantage may be"):
        Rubric.from_config({"accuracy": {"scaling": "raw"}})


@pytest.mark.parametrize("term", [RLSFTerm(), RLSFTerm(form="bradley_terry"), CAPOTerm()])
def test_a_large_batch_takes_no_longer_than_its_groups_are_large(term: RLSFTerm | CAPOTerm) -> None:
    """65,536 completions in groups of 8 and in any order: by the pass over all groups it took .45 s."""
    size = 2**16
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat(np.arange(size // 8), 8)).tolist()
    outcomes = ranked(rng.normal(size=size), rng.choice([0.0, 1.0], size).tolist(), group)
    term(outcomes)
    started = time.perf_counter()
    term(outcomes)
    assert time.perf_counter() - started < 0.3  # .02 s on a slow core
    few = np.isin(outcomes.group, [1, 5, 77])
    taken = ranked(outcomes.signals["answer_margin"][few], outcomes.correct[few].tolist(), outcomes.group[few].tolist())
    np.testing.assert_allclose(term(taken), term(outcomes)[few])


def test_a_single_large_group_is_ranked_by_sorting() -> None:
    signal = np.random.default_rng(0).integers(0, 1000, 20_000).astype(float)
    ranks = rankdata(signal, method="average")
    np.testing.assert_allclose(RLSFTerm()(ranked(signal)), (2 * ranks - 20_001) / 19_999, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (RLSFTerm, {"form": "ranks"}, "rubric.rlsf.form is 'ranks', expected one of rank, win_rate, bradley_terry"),
        (RLSFTerm, {"among": "right"}, "rubric.rlsf.among is 'right', expected one of all, equally_correct"),
        (RLSFTerm, {"temperature": 0.0}, r"rubric.rlsf.temperature is 0.0, expected a number in \(0, inf\)"),
        (RLSFTerm, {"signal": ["entropy"]}, "rubric.rlsf.signal is"),
        (CAPOTerm, {"tau": np.inf}, "rubric.capo.tau is inf"),
        (CAPOTerm, {"signal": ""}, "rubric.capo.signal is ''"),
    ],
)
def test_impossible_options_are_refused(make: type, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_a_signal_that_nobody_read_is_named() -> None:
    message = "term rlsf reads the signal 'answer_entropy', the outcomes have confidence, answer_margin, mean_log_prob"
    with pytest.raises(ValueError, match=message):
        RLSFTerm(signal="answer_entropy")(ranked([0.0]))
