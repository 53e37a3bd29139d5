"""Exact match and token F1 against SQuAD's own definitions, aliases, and their order of arguments."""

from __future__ import annotations

import json
import re
import string
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.verifiers.text import judge, judge_token_f1, normalised, read_gold, token_f1
from rewards.verifiers.verifier import Verdict


def squad_normalised(text: str) -> str:
    """The four steps of SQuAD's evaluation, one by one."""
    text = "".join(char for char in text.lower() if char not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad_f1(gold: str, answer: str) -> float:
    reference, stated = squad_normalised(gold).split(), squad_normalised(answer).split()
    common = sum((Counter(reference) & Counter(stated)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(stated), common / len(reference)
    return 2 * precision * recall / (precision + recall)


words = st.lists(
    st.sampled_from(
        ["the", "A", "an", "Paris", "paris!", "New", "York,", "new-york", "1,000", "...", "U.S.", "theory"]
    ),
    max_size=6,
).map(" ".join)


@settings(deadline=None, max_examples=50)
@given(words, words)
def test_agrees_with_squad(gold: str, answer: str) -> None:
    if not squad_normalised(gold) or not squad_normalised(answer):
        return  # nothing but articles and punctuation: ours keeps the articles
    assert normalised(gold) == squad_normalised(gold)
    assert token_f1(gold, answer) == pytest.approx(squad_f1(gold, answer))
    assert judge(gold, answer).correct == float(squad_normalised(gold) == squad_normalised(answer))


@settings(deadline=None, max_examples=50)
@given(words, words)
def test_f1_is_symmetric_bounded_and_one_for_the_same_words(left: str, right: str) -> None:
    f1 = token_f1(left, right)
    assert 0.0 <= f1 <= 1.0
    assert f1 == token_f1(right, left)
    assert (f1 == 1.0) == (Counter(normalised(left).split()) == Counter(normalised(right).split()) != Counter())
    assert f1 >= (judge(left, right).correct or 0.0)


@settings(deadline=None, max_examples=50)
@given(st.lists(words, min_size=1, max_size=4), words)
def test_the_best_alias_counts_in_any_order(aliases: list[str], answer: str) -> None:
    best = max(token_f1(alias, answer) for alias in aliases)
    assert token_f1(json.dumps(aliases), answer) == token_f1(json.dumps(aliases[::-1]), answer) == best


@pytest.mark.parametrize(
    ("gold", "answer", "verdict"),
    [
        ("The Eiffel Tower", "eiffel tower.", (1.0, "equal")),
        ('["NYC", "New York City"]', "new york city", (1.0, "equal")),
        ('["NYC", "New York City"]', "New York", (0.0, "different")),
        ("Paris", "Paris or Rome", (0.0, "different")),
        ("A", "the", (0.0, "different")),
        ("[sic]", "sic", (1.0, "equal")),
        ("Paris", "?!", (0.0, "unparsed")),
        ("[]", "x", (None, "bad_gold")),
        ("[1, 2]", "1", (None, "bad_gold")),
        ('["...", "?"]', "x", (None, "bad_gold")),
        ("...", "...", (None, "bad_gold")),
    ],
)
def test_exact_match(gold: str, answer: str, verdict: tuple[float | None, str]) -> None:
    assert judge(gold, answer) == verdict


@pytest.mark.parametrize(
    ("gold", "answer", "verdict"),
    [
        ("Barack Obama", "Barack Hussein Obama II", (2 / 3, "partial")),
        ("New York", "york new", (1.0, "equal")),
        ("one two", "three", (0.0, "different")),
        ("one two", "!", (0.0, "unparsed")),
        ("[1]", "1", (None, "bad_gold")),
        ("one", "one one", (2 / 3, "partial")),
    ],
)
def test_graded_correctness(gold: str, answer: str, verdict: tuple[float | None, str]) -> None:
    judged = judge_token_f1(gold, answer)
    assert judged.reason == verdict[1]
    assert judged.correct == (verdict[0] if verdict[0] is None else pytest.approx(verdict[0]))


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_gets_a_verdict(gold: str, answer: str) -> None:
    assert judge(gold, answer).reason in {"equal", "different", "unparsed", "bad_gold"}
    assert (judge(gold, answer).reason == "bad_gold") == (read_gold(gold) == ())
    assert isinstance(judge_token_f1(gold, answer), Verdict)
