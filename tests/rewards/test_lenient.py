from __future__ import annotations

import pytest

from rewards.completion import ParseStatus
from rewards.spelling import lenient_probability
from rewards.template import AnswerTemplate

S = ParseStatus
PLAIN = AnswerTemplate()
SILENT = AnswerTemplate(confidence="none")
LEVELS = AnswerTemplate(levels=("0.0", "0.5", "1.0"))


def tagged(answer: str = "7", confidence: str = "0.9") -> str:
    return f"<answer>{answer}</answer><confidence>{confidence}</confidence>"


# (completion, answer, confidence) read leniently by PLAIN; the strict reading yields less
LENIENT = [
    (tagged(confidence="85%"), "7", 0.85),
    (tagged(confidence="85 percent"), "7", 0.85),
    (tagged(confidence="100."), "7", 1.0),
    (tagged(confidence="0.5%"), "7", 0.005),
    (tagged(confidence="about 0.8"), "7", 0.8),
    (tagged(confidence="I am 90% confident in this answer."), "7", 0.9),
    (tagged(confidence="0.9 (90%)"), "7", 0.9),
    ("<answer>6</answer><confidence>0.1</confidence>" + tagged(), "7", 0.9),
    ("<answer><answer>7</answer><confidence>0.9</confidence></answer>", "7", 0.9),
    ("<answer>7 <confidence>0.9</confidence></answer>", "7", 0.9),
    ("<answer>7</answer><confidence>90. <confidence> 0.9 </confidence></confidence>", "7", 0.9),
    ("<ANSWER>7</Answer><Confidence>0.9</CONFIDENCE>", "7", 0.9),
    ("<answer>7</answer><confidence>0.9", "7", 0.9),
    ("<answer>7</answer><confidence>90%\n", "7", 0.9),
    ("so \\boxed{6} no, \\boxed{\\frac{7}{\\}1}} <confidence>0.9</confidence>", "\\frac{7}{\\}1}", 0.9),
    ("<think>\\boxed{6}</think> it is \\boxed{7} <confidence>0.9</confidence>", "7", 0.9),
    ("<Answer>7</Answer><Confidence>0.9</Confidence><think>or " + tagged("6", "0.1") + "</think>", "7", 0.9),
    ("<think>it is \\boxed{7}</think> <confidence>0.9</confidence>", "7", 0.9),
    ("<think>" + tagged() + "</think>", "7", 0.9),
    ("<think><answer>6</answer></think><answer>7</answer></answer><confidence>0.9</confidence>", "7", 0.9),
]


@pytest.mark.parametrize(("text", "answer", "confidence"), LENIENT)
def test_lenient_reading(text: str, answer: str, confidence: float) -> None:
    strict, lenient = PLAIN.parse(text), PLAIN.parse(text, lenient=True)
    assert (lenient.answer, lenient.confidence) == (answer, confidence)
    assert lenient.lenient
    assert lenient.status is strict.status is not S.OK
    assert None in (strict.answer, strict.confidence)


@pytest.mark.parametrize(
    "content",
    ["8/10", "9 out of 10", "level 3", "0.7-0.8", "0.8 or 0.9", "-0.5", "-5", "\u22120.5", "101", "150%", "nan", "inf",
     "0,85", "1,000", "\uff10.\uff18", "0.\u0668", "\u00bd", "0.8 \u00b1 0.1", "high", "", "minus", "%"],
)  # fmt: skip
def test_lenient_reading_does_not_guess(content: str) -> None:
    assert lenient_probability(content) is None
    parsed = PLAIN.parse(tagged(confidence=content), lenient=True)
    assert (parsed.answer, parsed.confidence, parsed.lenient) == ("7", None, False)


def test_lenient_reading_leaves_what_was_read_strictly() -> None:
    text = "<think><answer>6</answer></think>Sure. " + tagged() + " <Confidence>0.1</Confidence>"
    assert PLAIN.parse(text, lenient=True) == PLAIN.parse(text)
    assert SILENT.parse("<answer>7</answer><confidence>85%</confidence>", lenient=True).confidence is None


def test_a_level_off_the_grid_is_read_leniently() -> None:
    parsed = LEVELS.parse(tagged(confidence="0.85"), lenient=True)
    assert (parsed.status, parsed.confidence, parsed.lenient) == (S.NOT_A_LEVEL, 0.85, True)
