"""Sign and NaN of the advantage, for every term by every scaling and credit, over random groups."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rewards.completion import SEGMENTS, ParseStatus
from rewards.schedule import RAW, SCALINGS
from rewards.terms import TERMS
from rl.advantages import TRAINER_SCALINGS
from rl.credit import Credit, credited_advantages
from tests.factories import make_outcomes

GROUP, GROUPS = 4, 12
NAN = float("nan")


def rewards_of(name: str, rng: np.random.Generator) -> np.ndarray:
    """Rewards (N,) of a term on random completions: right, wrong and unjudged, with and without a confidence."""
    term, size = TERMS[name](), GROUP * GROUPS
    correct = rng.choice([0.0, 1.0, NAN], size, p=[0.45, 0.4, 0.15])
    statuses = [ParseStatus.OK, ParseStatus.TRUNCATED, ParseStatus.MISSING_CONFIDENCE]
    status = [statuses[index] for index in rng.choice(3, size, p=[0.8, 0.1, 0.1])]
    confidence = np.where([each is ParseStatus.OK for each in status], rng.choice(11, size) / 10, NAN)
    signals = {each: np.where(rng.random(size) < 0.1, NAN, rng.random(size)) for each in term.signals}
    signals = {each: -values if each.endswith("log_prob") else values for each, values in signals.items()}
    signals.pop("confidence", None)
    outcomes = make_outcomes(
        correct,
        confidence,
        status,
        group=np.repeat(np.arange(GROUPS), GROUP),
        length=rng.integers(1, 30, size),
        **signals,
    )
    return np.asarray(term(outcomes))


def advantages_of(rewards_NK: np.ndarray, scaling: str, credit: str, own: str | None) -> torch.Tensor:
    """Advantage (N, T) of terms of weight 1, of a token a segment; ``own`` is the first one's scaling."""
    terms, size = rewards_NK.shape[1], len(rewards_NK)
    inside = "group" if scaling == "gdpo" else None  # as in the trainer
    credit_KS = torch.ones(terms, len(SEGMENTS)).double()
    how = Credit(credit, "token", scaling, [own or inside] + [inside] * (terms - 1), GROUP, credit_KS)
    masks_BST = torch.eye(len(SEGMENTS)).double().repeat(size, 1, 1)
    calibrates_K = torch.zeros(terms, dtype=torch.bool)
    parts, _ = credited_advantages(
        how, torch.tensor(rewards_NK), masks_BST, torch.ones(terms, dtype=torch.float64), calibrates_K, slice(0, size)
    )
    return parts.sum(dim=1)


def scalings_of(name: str) -> list[tuple[str, str | None]]:
    """The trainer's scaling and the term's own: a term that is an advantage already takes ``raw`` alone."""
    raw = getattr(TERMS[name], "is_advantage", False) or name == "capo"
    return [("none", RAW)] if raw else [(each, None) for each in TRAINER_SCALINGS]


@pytest.mark.parametrize("credit", ["sequence", "segment"])
@pytest.mark.parametrize("name", TERMS)
def test_better_than_the_siblings_is_pushed_up_and_what_is_not_judged_is_left(name: str, credit: str) -> None:
    rng = np.random.default_rng(len(name))
    rewards_N = rewards_of(name, rng)
    judged = ~np.isnan(rewards_N)
    grouped = rewards_N.reshape(GROUPS, GROUP)
    known = judged.reshape(GROUPS, GROUP)
    counts = known.sum(axis=1, keepdims=True)
    means = np.where(known, grouped, 0).sum(axis=1, keepdims=True) / np.maximum(counts, 1)
    ahead_N = np.where(known & (counts > 1), grouped - means, 0).ravel()
    ahead_N[np.abs(ahead_N) < 1e-9] = 0
    for scaling, own in scalings_of(name):
        advantages_N = advantages_of(rewards_N[:, None], scaling, credit, own)[:, 0].numpy()
        assert np.isfinite(advantages_N).all()
        expected_N = rewards_N if own == RAW else ahead_N
        signs = np.sign(np.where(np.abs(advantages_N) < 1e-9, 0, advantages_N))
        assert (signs[judged] == np.sign(expected_N[judged])).all(), scaling
        if own != RAW:  # which gives what is not judged the mean of its siblings, neither better nor worse
            assert np.abs(advantages_N[~judged]).max(initial=0) < 1e-9, scaling


@pytest.mark.parametrize("credit", ["sequence", "segment"])
@pytest.mark.parametrize("name", TERMS)
def test_a_term_that_could_not_be_judged_adds_nothing_to_another(name: str, credit: str) -> None:
    rng = np.random.default_rng(len(name))
    rewards_N = rewards_of(name, rng)
    rewards_N[rng.random(len(rewards_N)) < 0.2] = NAN
    form_N = rng.choice([0.0, 1.0], len(rewards_N))
    _, own = scalings_of(name)[0]
    for scaling in ("none", "leave_one_out"):
        both = advantages_of(np.stack([rewards_N, form_N], axis=1), scaling, credit, own)
        alone = advantages_of(form_N[:, None], scaling, credit, None)
        unjudged = np.isnan(rewards_N) & (own != RAW)
        torch.testing.assert_close(both[unjudged], alone[unjudged])


def test_every_scaling_is_there() -> None:
    assert set(SCALINGS) < set(TRAINER_SCALINGS)
