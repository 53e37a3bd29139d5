from __future__ import annotations

import itertools
import math
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rewards.completion import SEGMENTS, ParseStatus
from rewards.template import AnswerTemplate

S = ParseStatus
PLAIN = AnswerTemplate()
ANALYSED = AnswerTemplate(analysis="optional")
FULL = AnswerTemplate(thinking="required", analysis="required")
TERSE = AnswerTemplate(thinking="none")
SILENT = AnswerTemplate(confidence="none")
LEVELS = AnswerTemplate(levels=("0.0", "0.5", "1.0"))
UNSURE = AnswerTemplate(abstain="I don't know")
STAKED = AnswerTemplate(analysis="optional", step_confidences="optional")


def tagged(answer: str = "7", confidence: str = "0.9") -> str:
    return f"<answer>{answer}</answer><confidence>{confidence}</confidence>"


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
templates = st.sampled_from([PLAIN, ANALYSED, FULL, TERSE, SILENT, LEVELS, UNSURE, STAKED])


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
    assert tuple(blocks) == SEGMENTS
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


@settings(deadline=None)
@given(
    answer=st.text(min_size=1),
    confidence=st.floats(0, 1).map(lambda c: f"{c:.6f}"),
    thinking=st.none() | st.text(),
    analysis=st.none() | st.text(),
)
def test_a_rendered_completion_reads_back(
    answer: str, confidence: str, thinking: str | None, analysis: str | None
) -> None:
    if not answer.strip(" \t\n\r\f\v"):
        with pytest.raises(ValueError, match="missing_answer"):
            ANALYSED.render(answer, confidence, thinking, analysis)
        return
    parsed = ANALYSED.parse(ANALYSED.render(answer, confidence, thinking, analysis))
    assert parsed.status is S.OK
    assert (parsed.answer, parsed.confidence) == (answer.strip(" \t\n\r\f\v"), float(confidence))
    assert ("reasoning" in parsed.spans, "analysis" in parsed.spans) == (thinking is not None, analysis is not None)


def test_thinking_may_talk_about_tags_when_rendered() -> None:
    text = PLAIN.render("7", "0.9", thinking="put it in <answer>tags</answer>")
    assert PLAIN.parse(text).answer == "7"


@pytest.mark.parametrize(
    ("template", "arguments"),
    [
        (PLAIN, {"answer": "7"}),
        (PLAIN, {"answer": " ", "confidence": "0.9"}),
        (PLAIN, {"answer": "7", "confidence": "90%"}),
        (PLAIN, {"answer": "7</answer><answer>8", "confidence": "0.9"}),
        (PLAIN, {"answer": "7", "confidence": "0.9", "thinking": "a</think>b"}),
        (PLAIN, {"answer": "7", "confidence": "0.9", "analysis": "n"}),
        (FULL, {"answer": "7", "confidence": "0.9", "thinking": "t"}),
        (LEVELS, {"answer": "7", "confidence": "0.9"}),
        (SILENT, {"answer": "7", "confidence": "0.9"}),
    ],
)
def test_what_would_not_read_back_is_not_rendered(template: AnswerTemplate, arguments: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="does not follow"):
        template.render(**arguments)


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


def test_instructions_tell_how_to_abstain_and_to_stake() -> None:
    assert UNSURE.instructions().endswith(": I don't know")
    assert "<stake>0.7</stake>" in STAKED.instructions()
    for template in (UNSURE, STAKED):
        other = {UNSURE: "stake", STAKED: "decline"}[template]
        assert other not in template.instructions()
    assert PLAIN.instructions() in UNSURE.instructions()


@pytest.mark.parametrize("template", [PLAIN, ANALYSED, FULL, TERSE, SILENT, LEVELS, UNSURE, STAKED])
def test_instructions_show_the_declared_fields_and_no_others(template: AnswerTemplate) -> None:
    text = template.instructions()
    shown = {tag for tag in ("think", "answer", "analysis", "confidence") if f"</{tag}>" in text}
    declared = {
        "think": template.thinking != "none",
        "answer": True,
        "analysis": template.analysis != "none",
        "confidence": template.confidence != "none",
    }
    assert shown == {tag for tag, there in declared.items() if there}
    assert (" 0.0, 0.5, 1.0 " in text) == (template is LEVELS)
    # A model that copies the skeleton with its own contents follows the format.
    skeleton = "\n".join(line for line in text.splitlines() if line.startswith("<"))
    expected = S.OK if template is SILENT else S.NOT_A_NUMBER
    assert template.parse(skeleton).status is expected


def test_level_values_are_the_numbers_of_the_levels() -> None:
    assert LEVELS.level_values == (0.0, 0.5, 1.0)
    assert PLAIN.level_values is None
    assert AnswerTemplate(levels=["0", "1"]) == AnswerTemplate(levels=("0", "1"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"thinking": "optionl"}, "thinking is 'optionl'.*did you mean optional"),
        ({"analysis": True}, "analysis is True"),
        ({"confidence": "optional"}, "confidence is 'optional', expected one of"),
        ({"levels": ("0.5",)}, "two or more"),
        ({"levels": ()}, "two or more"),
        ({"levels": ("0.5", "0.1")}, "increasing"),
        ({"levels": ("1", "1.0")}, "increasing"),
        ({"levels": ("0", "2")}, "'2'"),
        ({"levels": ("0", "high")}, "'high'"),
        ({"levels": ("-0", "1")}, "'-0'"),
        ({"levels": (0.0, 1.0)}, "list of strings"),
        ({"levels": "01"}, "list of strings"),
        ({"levels": ("0", "1"), "confidence": "none"}, "no confidence"),
        ({"step_confidences": "required"}, "step_confidences is 'required', expected one of "),
        (
            {"step_confidences": "optional", "thinking": "none"},
            "step_confidences is 'optional', but .* no thinking",
        ),
        ({"abstain": ""}, "abstain is '', expected a text"),
        ({"abstain": " no idea"}, "abstain is ' no idea', expected a text without space around it"),
        ({"abstain": True}, "abstain is True"),
        ({"abstain": "</answer>"}, "expected one line without tags"),
        ({"abstain": "no\nidea"}, "expected one line without tags"),
    ],
)
def test_impossible_templates_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnswerTemplate(**arguments)  # type: ignore[arg-type]
