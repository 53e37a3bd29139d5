"""A confidence stated before the thinking and the answer, beside the one after it (CALIBER)."""

from __future__ import annotations

import pytest

from rewards.completion import SEGMENTS, ParseStatus
from rewards.template import AnswerTemplate
from tests.rewards.templates import FORESEEN, PLAIN, S, tagged

BODY = f"<think>2 + 5</think>{tagged()}"


@pytest.mark.parametrize(
    ("before", "value", "status"),
    [
        ("<prior>0.4</prior>", 0.4, S.OK),
        (" <prior>\n.4 </prior>\n", 0.4, S.OK),
        ("<prior>1</prior>", 1.0, S.OK),
        ("", None, S.UNREAD_PRIOR),
        ("<prior></prior>", None, S.UNREAD_PRIOR),
        ("<prior>40%</prior>", None, S.UNREAD_PRIOR),
        ("<prior>nan</prior>", None, S.UNREAD_PRIOR),
        ("<prior>1.5</prior>", None, S.UNREAD_PRIOR),
        ("<prior>0.4", None, S.UNREAD_PRIOR),
        ("<Prior>0.4</Prior>", None, S.UNREAD_PRIOR),
        ("<prior>0.4</prior><prior>0.4</prior>", None, S.DUPLICATE),
        ("<prior>0.4<prior></prior></prior>", None, S.DUPLICATE),
        ("I guess <prior>0.4</prior>", 0.4, S.EXTRA_TEXT),
    ],
)
def test_it_is_read_as_strictly_as_the_one_after_it(before: str, value: float | None, status: ParseStatus) -> None:
    parsed = FORESEEN.parse(before + BODY)
    assert (parsed.prior_confidence, parsed.status) == (value, status)
    assert (parsed.answer, parsed.confidence) == ("7", 0.9), "which it does not disturb"


@pytest.mark.parametrize(
    "text",
    [
        f"<think>2 + 5</think><prior>0.4</prior>{tagged()}",
        f"<think>2 + 5</think>{tagged()}<prior>0.4</prior>",
        f"<think>2 + 5 <prior>0.4</prior></think>{tagged()}",
        "<answer>7 <prior>0.4</prior></answer><confidence>0.9</confidence>",
        f"<answer>7 <prior>0.4</prior></answer>{tagged()}",
    ],
)
@pytest.mark.parametrize("lenient", [False, True])
def test_what_is_stated_behind_any_of_the_rest_is_no_confidence_before_it(text: str, lenient: bool) -> None:
    parsed = FORESEEN.parse(text, lenient=lenient)
    assert parsed.prior_confidence is None
    assert parsed.status in (S.UNREAD_PRIOR, S.DUPLICATE)


def test_a_thought_without_its_beginning_begins_with_the_text() -> None:
    text = f"<prior>0.4</prior>2 + 5</think>{tagged()}"
    assert (FORESEEN.parse(text).prior_confidence, FORESEEN.parse(text).status) == (None, S.UNREAD_PRIOR)
    assert FORESEEN.parse(text, lenient=True).prior_confidence == 0.4


def test_a_completion_that_was_cut_off_has_stated_it() -> None:
    parsed = FORESEEN.parse("<prior>0.4</prior><think>2 + 5 <answer>7", truncated=True)
    assert (parsed.prior_confidence, parsed.status, parsed.answer) == (0.4, S.TRUNCATED, None)
    assert FORESEEN.parse("<prior>0.4", truncated=True, lenient=True).prior_confidence is None, "0.45, perhaps"


@pytest.mark.parametrize(
    ("before", "value"),
    [
        ("<Prior >40%</ prior>", 0.4),
        ("&lt;prior&gt;0.4&lt;/prior&gt;", 0.4),
        ("<prior>0.4<prior>", 0.4),
        ("<prior>0.4", 0.4),
        ("<prior>about 40%</prior>", 0.4),
        ("<prior>high</prior>", None),
        ("I would say 40%", None),
    ],
)
def test_the_lenient_reading_takes_other_spellings(before: str, value: float | None) -> None:
    parsed = FORESEEN.parse(before + BODY, lenient=True)
    assert parsed.prior_confidence == value
    assert (parsed.answer, parsed.confidence) == ("7", 0.9)
    assert parsed.lenient is (value is not None)
    assert PLAIN.parse(before + BODY, lenient=True).prior_confidence is None, "of a template that declares it"


def test_levels_are_those_of_both_and_either_may_stand_alone() -> None:
    levels = AnswerTemplate(prior_confidence="required", levels=("0.0", "0.5", "1.0"))
    assert levels.parse(f"<prior>0.5</prior>{tagged(confidence='1.0')}").prior_confidence == 0.5
    assert levels.parse(f"<prior>0.4</prior>{tagged(confidence='1.0')}").status is S.UNREAD_PRIOR
    alone = AnswerTemplate(confidence="none", prior_confidence="required", levels=("0.0", "0.5", "1.0"))
    parsed = alone.parse("<prior>0.5</prior><answer>7</answer>")
    assert (parsed.status, parsed.prior_confidence, parsed.confidence) == (S.OK, 0.5, None)
    with pytest.raises(ValueError, match="prior_confidence is 'required', a decimal in tags, but the confidence is a"):
        AnswerTemplate(confidence="token", prior_confidence="required")
    with pytest.raises(ValueError, match=r"prior_confidence is 'requird'.*did you mean required"):
        AnswerTemplate(prior_confidence="requird")


def test_it_is_asked_for_and_written_before_all_else() -> None:
    lines = FORESEEN.instructions().splitlines()
    assert lines[1].startswith("<prior> the probability that you will answer this correctly, before you begin")
    assert lines[2].startswith("<think>")
    text = FORESEEN.render("7", "0.9", "2 + 5", prior="0.4")
    assert text == f"<prior>0.4</prior>{BODY}"
    assert next(iter(FORESEEN.parse(text).spans)) == SEGMENTS[0] == "prior_confidence"
    assert FORESEEN.tokens[:2] == ("<prior>", "</prior>")
    with pytest.raises(ValueError, match="reads as unread_prior"):
        FORESEEN.render("7", "0.9", "2 + 5")
    with pytest.raises(ValueError, match="reads as extra_text"):
        PLAIN.render("7", "0.9", "2 + 5", prior="0.4")
