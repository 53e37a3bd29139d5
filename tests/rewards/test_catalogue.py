from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.catalogue import TABLE_BEGINS, TABLE_ENDS, catalogue, markdown_table
from rewards.completion import SEGMENTS, ParseStatus
from rewards.outcomes import Outcomes
from rewards.rubric import Rubric
from rewards.terms import TERMS
from tests.factories import make_outcomes

CATALOGUE = catalogue()
BY_NAME = {entry["name"]: entry for entry in CATALOGUE}
PROBABILITIES = ("reference_probability", "reference_probability_prior", "token_f1", "step_confidence", "repetition")
README = Path(__file__).parents[2] / "rewards" / "README.md"
REWRITE = (
    "candor rewards --markdown | sed -i -e '/^<!-- reward terms/,/^<!-- end of reward terms/{' "
    "-e '/^<!-- end/r /dev/stdin' -e 'd' -e '}' rewards/README.md"
)
NEGATIVE = ("mean_log_prob", "answer_log_prob")


def random_batch(size: int, seed: int, known: bool = False) -> Outcomes:
    """A batch with every signal; without ``known``, facts and signals are missing here and there."""
    rng = np.random.default_rng(seed)
    names = {*PROBABILITIES, *NEGATIVE, *(signal for entry in CATALOGUE for signal in entry["signals"])}
    holes = 0.0 if known else 0.2

    def some(values: np.ndarray) -> np.ndarray:
        return np.where(rng.random(size) < holes, np.nan, values)

    abstained = rng.random(size) < 0.2
    return make_outcomes(
        correct=np.where(abstained, 0.0, some(rng.choice([0.0, 1.0, 0.5], size))),
        confidence=some(rng.choice([0.0, 0.3, 0.9, 1.0], size)),
        status=tuple(rng.choice(list(ParseStatus), size)),
        group=rng.integers(0, 1 + size // 3, size),
        length=rng.integers(1, 30_000, size),
        abstained=abstained,
        **{name: some(-rng.exponential(1.0, size) if name in NEGATIVE else rng.random(size)) for name in sorted(names)},
    )


@functools.cache
def rubric_of(name: str) -> Rubric:
    return Rubric.from_config({name: {}}, allow_hackable=True)


def score(name: str, outcomes: Outcomes) -> np.ndarray:
    return rubric_of(name).score(outcomes).values[:, 0]


def take(outcomes: Outcomes, rows: np.ndarray) -> Outcomes:
    return dataclasses.replace(
        outcomes,
        status=tuple(outcomes.status[row] for row in rows),
        signals={name: values[rows] for name, values in outcomes.signals.items()},
        **{name: getattr(outcomes, name)[rows] for name in ("correct", "confidence", "group", "length", "abstained")},
    )


def test_every_term_is_listed_with_plain_values() -> None:
    assert list(BY_NAME) == list(TERMS)
    assert json.loads(json.dumps(CATALOGUE, allow_nan=False)) == CATALOGUE
    for name, entry in BY_NAME.items():
        assert entry["formula"] == TERMS[name].formula
        assert entry["paper"] == "" or entry["paper"].startswith("arXiv ")
        assert set(entry["segments"]) <= set(SEGMENTS)
        assert "segments" not in entry["options"]


@pytest.mark.parametrize("name", list(TERMS))
def test_options_of_the_catalogue_build_the_term(name: str) -> None:
    entry = BY_NAME[name]
    rubric = Rubric.from_config({name: {**entry["options"], "segments": entry["segments"]}}, allow_hackable=True)
    assert rubric.terms == (TERMS[name](),)


@pytest.mark.parametrize("name", list(TERMS))
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 30))
def test_rewards_are_in_range_and_follow_the_order_of_the_batch(name: str, seed: int, size: int) -> None:
    outcomes = random_batch(size, seed)
    reward = score(name, outcomes)
    assert reward.shape == (size,)
    interval = BY_NAME[name]["range"]
    low, high = (float(end) for end in interval[1:-1].split(","))
    low, high = low - 5e-3 * abs(low) - 1e-9, high + 5e-3 * abs(high) + 1e-9  # printed with three digits
    judged = reward[~np.isnan(reward)]
    assert np.isfinite(judged).all() or np.isinf([low, high]).any()
    assert ((low <= judged) & (judged <= high)).all()
    rows = np.random.default_rng(seed).permutation(size)
    np.testing.assert_allclose(score(name, take(outcomes, rows)), reward[rows], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", list(TERMS))
def test_a_term_earns_something_where_all_is_known(name: str) -> None:
    reward = score(name, random_batch(60, seed=1, known=True))
    assert (~np.isnan(reward)).mean() > 0.5
    assert np.nanstd(reward) > 0


def test_what_the_audit_says_is_what_is_known() -> None:
    found = {name: (entry["strictly_proper"], entry["safe"]) for name, entry in BY_NAME.items()}
    assert found["accuracy"] == found["format"] == (None, True)
    assert found["brier"] == (True, True)
    assert BY_NAME["linear"]["proper"] is False
    assert BY_NAME["log"]["safe"] is False
    for name in ("intuitor", "negative_entropy", "mean_log_prob", "rlsf", "capo", "c2gspg", "rlpr", "pessimistic"):
        assert found[name] == (None, None)
    assert BY_NAME["rlsf"]["signals"] == ["answer_margin"]
    methods = {name: entry["method"] for name, entry in BY_NAME.items()}
    assert (methods["log"], methods["ternary"], methods["linear"]) == ("Rewarding Doubt", "TruthRL", "DualStake")
    assert methods["brier"].startswith("RLCR")
    assert all(methods[name] for name, entry in BY_NAME.items() if entry["paper"]), (
        "a paper's reader looks for its name"
    )
    assert BY_NAME["overlong"]["range"] == "[-1, 0]"


def test_the_table_has_a_row_of_equal_length_for_every_term() -> None:
    first, *rows, last = markdown_table().split("\n")
    assert (first, last) == (TABLE_BEGINS, TABLE_ENDS)
    cells = [row.replace(r"\|", "").strip("|").split("|") for row in rows]
    assert {len(row) for row in cells} == {10}
    assert [row[0].strip(" `") for row in cells[2:]] == list(TERMS)
    brier = next(row for row in rows if row.startswith("| `brier` |"))
    assert "| [-1, 0] | strictly | yes | confidence, analysis |" in brier
    log = next(row for row in rows if row.startswith("| `log` |"))
    assert "| clip 0.001 |" in log  # its own options, without those of every calibration term


def test_the_readme_has_the_table() -> None:
    text = README.read_text(encoding="utf-8")
    assert text.count(TABLE_BEGINS) == text.count(TABLE_ENDS) == 1
    begin, end = text.index(TABLE_BEGINS), text.index(TABLE_ENDS) + len(TABLE_ENDS)
    assert text[begin:end] == markdown_table(), f"the README is behind the terms; write its table again: {REWRITE}"
