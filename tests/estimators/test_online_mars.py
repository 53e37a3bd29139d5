"""MARS over trial answers: a model of changes that is calibrated, and stops that keep the full vote."""

from __future__ import annotations

import numpy as np
import pytest

from estimators.online.mars import Mars, SwitchModel, switch_features
from estimators.online.sampling import FullVote, Trace, Trial, recorded


def trace(answers: list[str], confidences: list[float], final: str) -> Trace:
    """Steps of five tokens, a trial of two at the end of each but the last."""
    trials = [Trial(5 * n, each, c, 2) for n, (each, c) in enumerate(zip(answers, confidences, strict=True), 1)]
    return Trace(final, np.ones(5 * (len(answers) + 1)), trials=trials)


def drawn_trace(rng: np.random.Generator) -> Trace:
    """Sure trial answers stay, unsure ones change half of the time."""
    confidences = rng.choice([0.5, 0.99], size=int(rng.integers(1, 6)))
    final = "7" if rng.random() < 0.75 else str(rng.integers(3))
    answers = [final if c > 0.9 or rng.random() < 0.5 else str(rng.integers(4, 6)) for c in confidences]
    return trace(answers, confidences.tolist(), final)


def test_features_are_of_the_trials_so_far() -> None:
    whole = trace(["1", "2", "2", "3"], [0.5, 0.25, 0.75, 1.0], "3")
    assert switch_features(whole, 1) == [0.0, 0.5, 0.0, 1.0, 0.0]
    assert switch_features(whole, 3) == [pytest.approx(np.log(3)), 0.75, 1.0, 2.0, 0.5]
    assert switch_features(whole, 4)[2:4] == [2.0, 1.0]


def test_answers_that_mean_the_same_do_not_change() -> None:
    def same(one: str, other: str) -> bool:
        return {one, other} <= {"1/2", "0.5"}

    whole = trace(["1/2", "0.5", "1/2"], [0.5, 0.5, 0.5], "0.5")
    assert switch_features(whole, 3)[2:4] == [2.0, 1.0] and switch_features(whole, 3, same)[2:4] == [0.0, 3.0]
    strings, meanings = SwitchModel.fit([whole] * 9), SwitchModel.fit([whole] * 9, same)
    assert meanings([0.0] * 5) == pytest.approx(1 / 28) and strings(switch_features(whole, 1)) > 0.3
    streaks = SwitchModel((0.0, 0.0, 0.0, -9.0, 0.0), 14.0)  # sure to change before two equal answers
    assert Mars(streaks)(recorded([whole] * 3), 3).reason == "budget"
    assert Mars(streaks)(recorded([whole] * 3), 3, same).reason == "decided"


def test_a_fitted_model_says_how_often_answers_change() -> None:
    rng = np.random.default_rng(0)
    model = SwitchModel.fit([drawn_trace(rng) for _ in range(600)])
    fresh = [drawn_trace(rng) for _ in range(600)]
    for sure in (0.5, 0.99):
        at = [(each, n + 1) for each in fresh for n, trial in enumerate(each.trials) if trial.confidence == sure]
        changed = np.mean([each.trials[n - 1].answer != each.answer for each, n in at])
        assert np.mean([model(switch_features(each, n)) for each, n in at]) == pytest.approx(changed, abs=0.06)


def test_answers_that_never_change_are_all_but_sure() -> None:
    model = SwitchModel.fit([trace(["7"], [0.9], "7")] * 9)
    assert model([0.0] * 5) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="1 traces without a trial answer"):
        SwitchModel.fit([trace([], [], "7")])


@pytest.mark.parametrize("delta", [None, 0.1])
def test_stops_keep_the_full_vote_for_fewer_steps(delta: float | None) -> None:
    rng = np.random.default_rng(1)
    model = SwitchModel.fit([drawn_trace(rng) for _ in range(600)])
    kept, decided, written = [], [], []
    for _ in range(150):
        given = [drawn_trace(rng) for _ in range(12)]
        full, mars = FullVote()(recorded(given), 12), Mars(model, delta, looks=5)(recorded(given), 12)
        kept.append(mars.vote.answer == full.vote.answer)
        decided.append(mars.reason == "decided")
        written.append(sum(len(each.confidences_T) for each in mars.traces) / full.tokens)
    assert np.mean(kept) >= 0.95
    assert np.mean(decided) > 0.2 and np.mean(written) < 1


def test_trial_answers_cost_what_they_cost() -> None:
    given = [trace(["7"], [0.99], "7")] * 3
    never = Mars(SwitchModel((0.0,) * 5, 20.0))(recorded(given), 3)
    assert (never.reason, never.tokens) == ("budget", 3 * (10 + 2))
    at_once = Mars(SwitchModel((0.0,) * 5, -20.0))(recorded(given), 3)
    assert (at_once.reason, at_once.tokens, at_once.vote.answer) == ("decided", 3 * (5 + 2), "7")
    assert Mars(SwitchModel((0.0,) * 5, -20.0))(recorded([trace([], [], "7")] * 2), 2).tokens == 10
