"""Samples that agree: clusters of equivalent answers, the share of one of them, and the entropy over all."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators.agreement import Agreement, SemanticEntropy, answer_clusters
from estimators.token_statistics import TokenStatistics
from tests.factories import make_completions

numbers = st.lists(st.integers(-1, 30), min_size=1, max_size=12)


def of(clusters: list[list[int]], log_probs: list[list[float]] | None = None):
    return make_completions(
        torch.zeros(len(clusters), 0, dtype=torch.bool),
        clusters_BN=torch.tensor(clusters),
        sample_log_probs_BN=None if log_probs is None else torch.tensor(log_probs),
    ), TokenStatistics.empty((len(clusters), 0))


@settings(max_examples=50, deadline=None)
@given(numbers)
def test_clusters_are_those_of_the_equivalence(answers: list[int]) -> None:
    texts = [None if each < 0 else str(each) for each in answers]
    clusters = answer_clusters(texts, lambda a, b: int(a) % 5 == int(b) % 5)
    for left, first in zip(texts, clusters, strict=True):
        assert (first == -1) == (left is None)
        for right, second in zip(texts, clusters, strict=True):
            if left is not None and right is not None:
                assert (first == second) == (int(left) % 5 == int(right) % 5)
    assert sorted(set(clusters) - {-1}) == list(range(max(clusters) + 1)), "numbers in the order of their first answers"


def test_equal_texts_are_compared_once_and_either_direction_counts() -> None:
    seen: list[tuple[str, str]] = []

    def same(gold: str, answer: str) -> bool:
        seen.append((gold, answer))
        return (gold, answer) == ("0.5", "1/2")  # a verifier that reads the fraction as an answer only

    assert answer_clusters(["1/2", "1/2", "0.5", "1/2", "0.5"], same) == [0] * 5
    assert len(seen) <= 2


def test_agreement_is_the_share_of_all_samples_with_or_without_an_answer() -> None:
    estimate = Agreement()(*of([[0, 0, 1, -1], [0, 0, 0, 0], [-1, 0, 0, 0], [0, 1, 2, 3]]))
    assert estimate.values_B.tolist() == pytest.approx([0.5, 1.0, math.nan, 0.25], nan_ok=True)
    assert estimate.valid_B.tolist() == [True, True, False, True]


def test_semantic_entropy_by_hand_and_weighted() -> None:
    clusters = [[0, 0, 1, -1], [0, 0, 0, 0], [-1] * 4, [0, 1, 2, 3]]
    third = -(2 / 3) * math.log(2 / 3) - (1 / 3) * math.log(1 / 3)
    even = [[-3.0] * 4] * 4
    for estimator, given_ in ((SemanticEntropy(), None), (SemanticEntropy(weighted=True), even)):
        estimate = estimator(*of(clusters, given_))
        assert estimate.values_B.tolist() == pytest.approx([third, 0.0, math.nan, math.log(4)], nan_ok=True)
    weighted = SemanticEntropy(weighted=True)(
        *of([[0, 1, 0, -1]], [[math.log(0.1), math.log(0.4), math.log(0.3), 9.0]])
    )
    assert weighted.values_B.item() == pytest.approx(math.log(2))  # .1 + .3 against .4
    none = SemanticEntropy(weighted=True)(
        *of([[0, 1, 2, 3], [0, 1, 2, -1]], [[-math.inf] * 4, [-math.inf] * 3 + [-1.0]])
    )
    assert not none.valid_B.any(), "of answers that cannot be it says nothing"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-1, 3), min_size=1, max_size=10), st.randoms())
def test_the_order_of_samples_and_the_names_of_clusters_do_not_matter(clusters: list[int], random) -> None:
    before = SemanticEntropy()(*of([clusters])).values_B.item()
    renamed = [each if each < 0 else 3 - each for each in clusters]
    random.shuffle(renamed)
    assert SemanticEntropy()(*of([renamed])).values_B.item() == pytest.approx(before, nan_ok=True)
    assert math.isnan(before) or 0 <= before <= math.log(len(clusters)) + 1e-9


def test_without_samples_there_is_nothing_to_agree() -> None:
    completions = make_completions(torch.ones(1, 2, dtype=torch.bool))
    empty = TokenStatistics.empty((1, 2))
    for estimator, name in ((Agreement(), "agreement"), (SemanticEntropy(), "semantic_entropy")):
        with pytest.raises(ValueError, match=f"{name} needs further samples"):
            estimator(completions, empty)
    with pytest.raises(ValueError, match="weighted, needs the log-probability of each sample"):
        SemanticEntropy(weighted=True)(*of([[0, 1]]))
