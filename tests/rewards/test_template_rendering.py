"""What a template writes reads back, its instructions show its fields, and impossible templates are refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.template import AnswerTemplate
from tests.rewards.templates import ANALYSED, FULL, LEVELS, PLAIN, SILENT, STAKED, TERSE, UNSURE, S


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
