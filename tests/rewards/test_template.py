"""A completion is read strictly or leniently, and every text is read."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rewards.completion import SEGMENTS, ParseStatus
from rewards.template import AnswerTemplate
from tests.rewards.templates import ANALYSED, FORESEEN, FULL, LEVELS, PLAIN, SILENT, STAKED, TERSE, UNSURE, S, tagged

# (template, completion, status, answer, confidence), all read strictly
STRICT = [
    # what a good completion looks like
    (PLAIN, "<think>3+4</think><answer>7</answer><confidence>0.9</confidence>", S.OK, "7", 0.9),
    (PLAIN, "  <think> 3+4 </think>\n\n<answer> 7 </answer>\t\n<confidence> 0.9\n</confidence>\n", S.OK, "7", 0.9),
    (PLAIN, tagged(), S.OK, "7", 0.9),
    (PLAIN, "3+4</think>" + tagged(), S.OK, "7", 0.9),
    (PLAIN, "<think></think>" + tagged(), S.OK, "7", 0.9),
    (PLAIN, tagged(answer="a < b and b > c"), S.OK, "a < b and b > c", 0.9),
    (PLAIN, tagged(answer="\\boxed{7}\n\u20ac \u6f22 \U00010348"), S.OK, "\\boxed{7}\n\u20ac \u6f22 \U00010348", 0.9),
    (FULL, "<think>t</think><answer>7</answer><analysis>n</analysis><confidence>0.9</confidence>", S.OK, "7", 0.9),
    (ANALYSED, "<answer>7</answer> <analysis>n</analysis> <confidence>1</confidence>", S.OK, "7", 1.0),
    (ANALYSED, tagged(), S.OK, "7", 0.9),
    (SILENT, "<think>t</think><answer>7</answer>", S.OK, "7", None),
    # talk about the format while thinking
    (PLAIN, "<think>write <answer>1</answer><confidence>0.1</confidence></think>" + tagged(), S.OK, "7", 0.9),
    (PLAIN, "so <answer> goes here</think>" + tagged(), S.OK, "7", 0.9),
    (PLAIN, "<think>" + tagged() + "</think>", S.MISSING_ANSWER, None, None),
    (PLAIN, tagged() + "</think>", S.MISSING_ANSWER, None, None),
    (PLAIN, "<think>in <think> tags</think>" + tagged(), S.DUPLICATE, "7", 0.9),
    (PLAIN, "<think>a</think><think>b</think>" + tagged(), S.DUPLICATE, "7", 0.9),
    (PLAIN, "<think>a</think><answer>1</answer></think>" + tagged(), S.DUPLICATE, "7", 0.9),
    (PLAIN, "<think>a</think>" + tagged() + "<think>b</think>", S.DUPLICATE, None, None),
    (PLAIN, "<think>a</think>" + tagged() + "<think>", S.DUPLICATE, "7", 0.9),
    (PLAIN, "a</think>" + tagged() + "<think>b", S.DUPLICATE, "7", 0.9),
    # thinking that never ends
    (PLAIN, "<think>3+4 " + tagged(), S.EXTRA_TEXT, "7", 0.9),
    (FULL, "<think>3+4 " + tagged(), S.MISSING_FIELD, "7", 0.9),
    # repeated and nested fields
    (PLAIN, "<answer>6</answer>" + tagged(), S.DUPLICATE, None, 0.9),
    (PLAIN, tagged() + "<confidence>0.1</confidence>", S.DUPLICATE, "7", None),
    (PLAIN, "<answer>7</answer></answer><confidence>0.9</confidence>", S.DUPLICATE, None, 0.9),
    (PLAIN, "<answer><answer>7</answer><confidence>0.9</confidence>", S.DUPLICATE, None, 0.9),
    (PLAIN, "<answer>7<confidence>0.9</confidence></answer>", S.DUPLICATE, None, None),
    (PLAIN, "<answer>7<confidence></answer>0.9</confidence>", S.DUPLICATE, None, None),
    (PLAIN, "<answer><think>t</think>7</answer><confidence>0.9</confidence>", S.DUPLICATE, None, 0.9),
    (ANALYSED, "<answer>7</answer><analysis><confidence>1</confidence></analysis>", S.DUPLICATE, "7", None),
    (ANALYSED, "<answer>7</answer><analysis></analysis></analysis><confidence>1</confidence>", S.DUPLICATE, "7", 1.0),
    # missing and empty fields
    (PLAIN, "", S.MISSING_ANSWER, None, None),
    (PLAIN, "seven", S.MISSING_ANSWER, None, None),
    (PLAIN, "<answer> </answer><confidence>0.9</confidence>", S.MISSING_ANSWER, None, 0.9),
    (PLAIN, "<answer>7 <confidence>0.9</confidence>", S.MISSING_ANSWER, None, 0.9),
    (PLAIN, "</answer>7<answer><confidence>0.9</confidence>", S.MISSING_ANSWER, None, 0.9),
    (PLAIN, "<Answer>7</Answer><confidence>0.9</confidence>", S.MISSING_ANSWER, None, 0.9),
    (PLAIN, "<answer >7</answer><confidence>0.9</confidence>", S.MISSING_ANSWER, None, 0.9),
    (PLAIN, "\uff1canswer\uff1e7\uff1c/answer\uff1e<confidence>0.9</confidence>", S.MISSING_ANSWER, None, 0.9),
    (PLAIN, "<confidence>0.9</confidence>", S.MISSING_ANSWER, None, 0.9),
    (PLAIN, "<answer>7</answer>", S.MISSING_CONFIDENCE, "7", None),
    (PLAIN, "<answer>7</answer><confidence>0.9", S.MISSING_CONFIDENCE, "7", None),
    (PLAIN, "<answer>7</answer><confidence></confidence>", S.MISSING_CONFIDENCE, "7", None),
    (FORESEEN, tagged(), S.UNREAD_PRIOR, "7", 0.9),
    (FULL, "<answer>7</answer><analysis>n</analysis><confidence>0.9</confidence>", S.MISSING_FIELD, "7", 0.9),
    (FULL, "<think>t</think><answer>7</answer><analysis> </analysis><confidence>1</confidence>",
     S.MISSING_FIELD, "7", 1.0),
    (FULL, "<think>t</think>" + tagged(), S.MISSING_FIELD, "7", 0.9),
    # confidences
    *((PLAIN, tagged(confidence=c), S.OK, "7", value) for c, value in [
        ("0", 0.0), ("1", 1.0), ("1.", 1.0), (".5", 0.5), ("00.5", 0.5), ("-0", 0.0), ("0." + "3" * 400, 1 / 3),
    ]),
    *((PLAIN, tagged(confidence=c), S.NOT_A_NUMBER, "7", None) for c in [
        "nan", "NaN", "inf", "-inf", "1e-1", "+0.5", "85%", "0,5", "0.5.", ".", "-", "0x1", "1_0", "\u0661",
        "\uff10.\uff15", "\u00bd", "high", "0.5 0.6", "about 0.5", "0.5\u00a0", "\u22120.5", "True", "[0.5]",
        "0.\n5", "0.5\x00",
    ]),
    *((PLAIN, tagged(confidence=c), S.OUT_OF_RANGE, "7", None) for c in [
        "1.0000001", "85", "100.", "-0.1", "-1", "9" * 5000,
    ]),
    (LEVELS, tagged(confidence=" 0.5 "), S.OK, "7", 0.5),
    (LEVELS, tagged(confidence="0.50"), S.NOT_A_LEVEL, "7", None),
    (LEVELS, tagged(confidence="1"), S.NOT_A_LEVEL, "7", None),
    (LEVELS, tagged(confidence="2"), S.OUT_OF_RANGE, "7", None),
    (LEVELS, tagged(confidence="half"), S.NOT_A_NUMBER, "7", None),
    # order and other text
    (PLAIN, "<confidence>0.9</confidence><answer>7</answer>", S.OUT_OF_ORDER, "7", 0.9),
    (PLAIN, tagged() + "<think>t</think>", S.OUT_OF_ORDER, "7", 0.9),
    (ANALYSED, tagged() + "<analysis>n</analysis>", S.OUT_OF_ORDER, "7", 0.9),
    (PLAIN, "Sure! " + tagged(), S.EXTRA_TEXT, "7", 0.9),
    (PLAIN, "Sure! <think>t</think>" + tagged(), S.EXTRA_TEXT, "7", 0.9),
    (PLAIN, "<answer>7</answer>, so <confidence>0.9</confidence>", S.EXTRA_TEXT, "7", 0.9),
    (PLAIN, tagged() + "<|im_end|>", S.EXTRA_TEXT, "7", 0.9),
    (PLAIN, tagged() + "\u00a0", S.EXTRA_TEXT, "7", 0.9),
    (PLAIN, tagged() + "\u200b", S.EXTRA_TEXT, "7", 0.9),
    (PLAIN, "<answer>7</answer><analysis>n</analysis><confidence>0.9</confidence>", S.EXTRA_TEXT, "7", 0.9),
    (TERSE, "<think>t</think>" + tagged(), S.EXTRA_TEXT, "7", 0.9),
    (TERSE, "<think>" + tagged("1") + "</think>" + tagged(), S.EXTRA_TEXT, "7", 0.9),
    (SILENT, tagged(), S.EXTRA_TEXT, "7", None),
    (STAKED, "<think>a <stake>0.7</stake></think><stake>0.7</stake>" + tagged(), S.EXTRA_TEXT, "7", 0.9),
    (STAKED, "<think>a</think>" + tagged() + "</stake>", S.EXTRA_TEXT, "7", 0.9),
    (STAKED, "<answer>7 <stake>1</stake></answer><confidence>0.9</confidence>",
     S.EXTRA_TEXT, "7 <stake>1</stake>", 0.9),
    (STAKED, "<think>a <stake>high</stake> <stake></think>" + tagged(), S.OK, "7", 0.9),
    (PLAIN, "<answer>7 <stake>1</stake></answer><confidence>0.9</confidence>", S.OK, "7 <stake>1</stake>", 0.9),
]  # fmt: skip


fragments = st.lists(
    st.sampled_from(
        [
            f"<{slash}{tag}>"
            for tag in ("think", "answer", "analysis", "confidence", "ANSWER", "stake")
            for slash in ("", "/")
        ]
        + ["0.9", "85%", "7", " ", "\n", "nan", "\\boxed{", "}", "é", "\ud800", "<", "about ", "I don't know"]
        + [
            "Answer: ",
            "The answer is ",
            "Confidence: ",
            "I am 85% sure",
            "<|im_end|>",
            "&lt;answer&gt;",
            "<answer x=1>",
            ".",
        ]
    ),
    max_size=14,
).map("".join)


templates = st.sampled_from([PLAIN, ANALYSED, FORESEEN, FULL, TERSE, SILENT, LEVELS, UNSURE, STAKED])


@pytest.mark.parametrize(("template", "text", "status", "answer", "confidence"), STRICT)
def test_strict_reading(
    template: AnswerTemplate, text: str, status: ParseStatus, answer: str | None, confidence: float | None
) -> None:
    parsed = template.parse(text)
    assert (parsed.status, parsed.answer, parsed.confidence) == (status, answer, confidence)
    assert not parsed.lenient


def test_the_table_shows_every_status_but_truncation() -> None:
    assert {row[2] for row in STRICT} == set(ParseStatus) - {S.TRUNCATED}


def test_no_confidence_is_negative_zero() -> None:
    confidence = PLAIN.parse(tagged(confidence="-0.0")).confidence
    assert confidence is not None
    assert math.copysign(1.0, confidence) == 1.0


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize(
    ("text", "answer", "confidence"),
    [
        ("<think>t</think>" + tagged(), "7", 0.9),
        ("<think>t</think><answer>7</answer><confi", "7", None),
        ("<think>t</think><answer>7</answer><confidence>0.8", "7", None),
        ("<think>say <answer>6</answer> <confidence>0.5</confidence> or \\boxed{6}", None, None),
        (tagged() + "<think>or <answer>6</answer>", "7", 0.9),
    ],
)
def test_a_truncated_completion_keeps_its_finished_fields(
    text: str, answer: str | None, confidence: float | None, lenient: bool
) -> None:
    parsed = PLAIN.parse(text, truncated=True, lenient=lenient)
    assert (parsed.status, parsed.answer, parsed.confidence) == (S.TRUNCATED, answer, confidence)


def test_spans_and_blocks_are_the_characters_of_each_field() -> None:
    text = "<think> t\n</think> <answer> 7 </answer><analysis>né</analysis>\n<confidence>\t0.9</confidence>"
    parsed = FULL.parse(text)
    contents = {name: text[span.start : span.end] for name, span in parsed.spans.items()}
    blocks = {name: text[span.start : span.end] for name, span in parsed.blocks.items()}
    assert contents == {"reasoning": "t", "answer": "7", "analysis": "né", "confidence": "0.9"}
    assert tuple(blocks) == SEGMENTS[1:]
    assert blocks["reasoning"] == "<think> t\n</think>"
    assert blocks["confidence"] == "<confidence>\t0.9</confidence>"


def test_reasoning_opened_by_the_prompt_starts_with_the_text() -> None:
    parsed = PLAIN.parse(" 3+4 </think>" + tagged())
    assert (parsed.blocks["reasoning"].start, parsed.blocks["reasoning"].end) == (0, 13)
    assert (parsed.spans["reasoning"].start, parsed.spans["reasoning"].end) == (1, 4)


def test_an_unreadable_confidence_still_has_a_span_and_an_ambiguous_or_undeclared_field_has_none() -> None:
    assert "confidence" in PLAIN.parse(tagged(confidence="high")).spans
    assert PLAIN.parse(tagged() + "<confidence>1</confidence>").spans.keys() == {"answer"}
    assert TERSE.parse("<think>t</think>" + tagged()).spans.keys() == {"answer", "confidence"}


@settings(deadline=None)
@given(text=st.one_of(st.text(), fragments), template=templates, truncated=st.booleans(), lenient=st.booleans())
@example(text="</think><think>", template=PLAIN, truncated=True, lenient=True)
@example(text="\\boxed{\\boxed{}", template=PLAIN, truncated=True, lenient=True)
def test_any_text_is_read_without_raising(text: str, template: AnswerTemplate, truncated: bool, lenient: bool) -> None:
    parsed = template.parse(text, truncated=truncated, lenient=lenient)
    assert parsed.confidence is None or (math.isfinite(parsed.confidence) and 0 <= parsed.confidence <= 1)
    assert (parsed.status is S.TRUNCATED) == truncated
    assert parsed.spans.keys() == parsed.blocks.keys() <= set(SEGMENTS)
    for name, span in parsed.spans.items():
        block = parsed.blocks[name]
        assert 0 <= block.start <= span.start <= span.end <= block.end <= len(text)
    if parsed.answer is not None:
        span = parsed.spans["answer"]
        assert text[span.start : span.end] == parsed.answer != ""
    assert parsed.abstained == (template.abstain is not None and parsed.answer == template.abstain)
    assert not parsed.step_confidences or (template.step_confidences == "optional" and "reasoning" in parsed.spans)
    for value, span in parsed.step_confidences:
        thought = parsed.spans["reasoning"]
        assert thought.start < span.start <= span.end < thought.end
        assert value is None or (0 <= value <= 1 and float(text[span.start : span.end]) == value)
    starts = [span.start for _, span in parsed.step_confidences]
    assert starts == sorted(set(starts))
    strict = template.parse(text, truncated=truncated)
    assert parsed.lenient == ((strict.answer, strict.confidence) != (parsed.answer, parsed.confidence))


@settings(deadline=None)
@given(text=fragments, template=templates)
def test_strict_fields_do_not_overlap(text: str, template: AnswerTemplate) -> None:
    blocks = sorted((b.start, b.end) for b in template.parse(text).blocks.values())
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(blocks))
