from __future__ import annotations

import pickle

import numpy as np
import pytest

from rewards.completion import SEGMENTS, ParsedCompletion, ParseStatus, Span
from rewards.outcomes import Outcomes

FACTS = {
    "correct": np.array([1.0, np.nan]),
    "confidence": np.array([np.nan, 0.5]),
    "status": (ParseStatus.MISSING_CONFIDENCE, ParseStatus.OK),
    "group": np.array([0, 0]),
    "length": np.array([5, 7]),
}


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 2)])
def test_a_span_runs_forward_from_zero(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="half-open"):
        Span(start, end)


def test_segments_are_in_template_order() -> None:
    assert SEGMENTS == ("prior_confidence", "reasoning", "answer", "analysis", "confidence")


def test_parsed_completion_survives_the_gather_between_ranks() -> None:
    parsed = ParsedCompletion("4", 0.9, ParseStatus.OK, {"answer": Span(8, 9)}, {"answer": Span(0, 18)})
    assert pickle.loads(pickle.dumps(parsed)) == parsed


def test_statuses_read_as_plain_strings() -> None:
    assert ParseStatus("out_of_range") is ParseStatus.OUT_OF_RANGE
    assert f"{ParseStatus.OK}" == "ok"


def test_outcomes_accept_what_could_not_be_judged_or_read() -> None:
    assert len(Outcomes(**FACTS, signals={"entropy": np.array([2.5, np.nan])})) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"correct": np.array([1.0])}, r"correct has shape \(1,\), expected \(2,\)"),
        ({"group": np.zeros((2, 1))}, r"group has shape \(2, 1\)"),
        ({"signals": {"entropy": np.zeros(3)}}, "entropy has shape"),
        ({"confidence": np.array([0.5, 1.01])}, "confidence spans"),
        ({"confidence": np.array([0.5, np.inf])}, "confidence spans"),
        ({"correct": np.array([-0.1, 1.0])}, "correct spans"),
        ({"signals": {"correct": np.zeros(2)}}, "reuse the names of facts: correct"),
    ],
)
def test_outcomes_refuse_facts_that_cannot_be(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Outcomes(**{**FACTS, **changes})
