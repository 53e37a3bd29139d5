"""A confidence that is one of two marks behind the answer: what is read as one, and what is not."""

from __future__ import annotations

import time

import pytest

from rewards.marks import MARKS
from rewards.template import AnswerTemplate
from tests.rewards.templates import S

MARKED = AnswerTemplate(confidence="token")


@pytest.mark.parametrize(
    ("text", "answer", "confidence", "status"),
    [
        ("<answer>4</answer><CN>", "4", 1.0, S.OK),
        ("<think>2+2</think><answer>4</answer> <UN>\n", "4", 0.0, S.OK),
        ("<think>surely <CN></think><answer>4</answer><UN>", "4", 0.0, S.OK),
        ("<answer>4</answer>", "4", None, S.MISSING_CONFIDENCE),
        ("<answer>4<CN></answer>", "4<CN>", None, S.MISSING_CONFIDENCE),
        ("<answer>4</answer><UN><CN>", "4", None, S.DUPLICATE),
        ("<answer>4</answer><CN><CN>", "4", None, S.DUPLICATE),
        ("<CN><answer>4</answer>", "4", 1.0, S.OUT_OF_ORDER),
        ("<answer>4</answer><confidence>0.9</confidence><CN>", "4", 1.0, S.EXTRA_TEXT),
        ("<answer>4</answer><cn>", "4", None, S.MISSING_CONFIDENCE),
        ("<CN>", None, 1.0, S.MISSING_ANSWER),
    ],
)
@pytest.mark.parametrize("lenient", [False, True])
def test_a_mark_is_read_where_it_stands_alone_outside_of_the_fields(
    text: str, answer: str | None, confidence: float | None, status: S, lenient: bool
) -> None:
    parsed = MARKED.parse(text, lenient=lenient)
    assert (parsed.answer, parsed.confidence, parsed.status) == (answer, confidence, status)
    if confidence is not None:
        span = parsed.spans["confidence"]
        assert text[span.start : span.end] == MARKS[int(confidence)] and parsed.blocks["confidence"] == span


def test_what_is_rendered_is_read_back_and_asked_for() -> None:
    for value, mark in enumerate(MARKS):
        text = MARKED.render("4", mark, thinking="2+2")
        assert text == f"<think>2+2</think><answer>4</answer>{mark}"
        assert MARKED.parse(text).confidence == value
        assert mark in MARKED.instructions()
    assert MARKED.level_values == (0.0, 1.0)
    assert MARKED.tokens == ("<think>", "</think>", "<answer>", "</answer>", *MARKS)
    assert "<confidence>" not in MARKED.instructions()
    with pytest.raises(ValueError, match="does not follow"):
        MARKED.render("4")


def test_marks_may_be_others_but_must_be_two_that_can_be_told_apart() -> None:
    other = AnswerTemplate(confidence="token", levels=("[unsure]", "[sure]"))
    assert other.parse("<answer>4</answer>[unsure]").confidence == 0.0
    for levels in [("<CN>",), ("a b", "c"), ("<CN>", "<CN>"), ("sure", "unsure"), ("<answer>", "<CN>"), ("", "<CN>")]:
        with pytest.raises(ValueError, match="expected the two marks of confidence: token"):
            AnswerTemplate(confidence="token", levels=levels)


def test_a_megabyte_of_marks_takes_linear_time() -> None:
    text = "<answer>4</answer>" + "<CN>" * 250_000
    start = time.perf_counter()
    assert MARKED.parse(text).status is S.DUPLICATE
    assert time.perf_counter() - start < 2.0
