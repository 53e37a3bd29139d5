"""Abstentions, and confidences staked on the steps of a thought."""

from __future__ import annotations

import time

import pytest

from rewards.template import AnswerTemplate
from tests.rewards.templates import PLAIN, STAKED, UNSURE, S, tagged


@pytest.mark.parametrize(
    ("answer", "abstained"),
    [
        ("I don't know", True),
        (" \n I don't know\t", True),
        ("I don't know.", False),
        ("i don't know", False),
        ("I don\u2019t know", False),
        ("\u00a0I don't know", False),
        ("7, or I don't know", False),
        ("", False),
    ],
)
def test_an_abstention_is_the_declared_text_and_no_other(answer: str, abstained: bool) -> None:
    assert UNSURE.parse(tagged(answer)).abstained is abstained
    assert not PLAIN.parse(tagged(answer)).abstained


def test_an_abstention_is_an_answer_that_is_read() -> None:
    parsed = UNSURE.parse(UNSURE.render("I don't know", "0.1"))
    assert (parsed.status, parsed.answer, parsed.confidence) == (S.OK, "I don't know", 0.1)
    assert not UNSURE.parse("<answer>7</answer>" + tagged("I don't know")).abstained
    assert not UNSURE.parse("<think><answer>I don't know</answer></think>" + tagged()).abstained
    assert UNSURE.parse("\\boxed{I don't know}", lenient=True).abstained


# thinking -> what is staked in it, by STAKED
STAKES = [
    ("a", []),
    ("a <stake>0.7</stake> b <stake> .5\n</stake>", [0.7, 0.5]),
    ("<stake>0</stake><stake>1</stake><stake>1.</stake><stake>-0</stake>", [0.0, 1.0, 1.0, 0.0]),
    ("<stake>high</stake> <stake>70%</stake> <stake>nan</stake> <stake>1e-1</stake> <stake></stake>", [None] * 5),
    ("<stake>1.01</stake> <stake>-0.1</stake> <stake>+0.5</stake> <stake>0.\u0661</stake>", [None] * 4),
    ("<stake><answer>0.5</answer></stake>", [None]),
    ("<stake>0.1 <stake>0.7</stake> 0.9</stake>", [0.7]),
    ("</stake>0.7<stake>", []),
    ("<STAKE>0.7</STAKE> <stake >0.7</stake>", []),
    ("<stake>0.2</stake> <stake>0.7", [0.2]),
]


@pytest.mark.parametrize(("thinking", "values"), STAKES)
@pytest.mark.parametrize("opening", ["<think>", ""])
def test_stakes_are_read_in_a_closed_thought(thinking: str, values: list[float | None], opening: str) -> None:
    text = f"{opening}{thinking}</think>{tagged()}"
    parsed = STAKED.parse(text)
    assert [value for value, _ in parsed.step_confidences] == values
    assert parsed.status is S.OK
    assert PLAIN.parse(text).step_confidences == ()
    assert STAKED.parse(text, truncated=True).step_confidences == parsed.step_confidences


def test_the_span_of_a_stake_is_its_number() -> None:
    text = "<think>né <stake> 0.7\n</stake> <stake> </stake></think>" + tagged()
    (value, span), (unparsed, empty) = STAKED.parse(text).step_confidences
    assert (value, text[span.start : span.end]) == (0.7, "0.7")
    assert (unparsed, text[empty.start : empty.end]) == (None, "")


@pytest.mark.parametrize(
    "text",
    [
        "<think>a <stake>0.7</stake> " + tagged(),
        "<think>a <stake>0.7</stake></think><think>b</think>" + tagged(),
        tagged() + "<stake>0.7</stake>",
        "<answer><stake>0.7</stake></answer><confidence>0.9</confidence>",
    ],
)
@pytest.mark.parametrize("truncated", [False, True])
def test_nothing_is_staked_outside_a_closed_thought(text: str, truncated: bool) -> None:
    parsed = STAKED.parse(text, truncated=truncated)
    assert parsed.step_confidences == ()
    assert parsed.status is not S.OK


@pytest.mark.parametrize("unit", ["<stake>", "</stake>", "<stake>0.5</stake>", "<stake>0", "<stake>9</stake> ", "9"])
def test_a_megabyte_of_stakes_takes_linear_time(unit: str) -> None:
    text = "<think><stake>" + unit * (1_000_000 // len(unit)) + "</think>" + tagged()
    started = time.process_time()
    parsed = STAKED.parse(text, lenient=True)
    assert time.process_time() - started < 15
    assert parsed.answer == "7"


def test_tags_of_stakes_may_be_tokens_too() -> None:
    thinking = ("<think>", "</think>", "<answer>", "</answer>")
    assert AnswerTemplate(confidence="none", step_confidences="optional").tokens == (*thinking, "<stake>", "</stake>")
    assert AnswerTemplate(confidence="none").tokens == thinking
