from __future__ import annotations

import random
import time

import pytest

from rewards.completion import ParseStatus
from rewards.markup import scan_tags, trimmed
from rewards.template import AnswerTemplate

HOSTILE = [
    "<answer>", "</answer>", "<think>", "</think>", "<answer></answer>", "<confidence>0", "<think><answer></think>",
    "</confidence><confidence>", "<", "\\boxed{", "0.5 per cent ", "9", "\\", " ", "&lt;answer a='", "<answer a=1 ",
    "\\%", "1. ", "x<|im_end|>",
]  # fmt: skip
WORDED = [
    "Answer:", "Answer:\n", "the answer is ", "Confidence: 5\n", "confidence of being ", "my confidence is ",
    "90% sure ", "#### ", " \n", "probability (", "with 9% ",
]  # fmt: skip


def test_only_exact_tags_are_markup_unless_a_lenient_scan_is_asked_for() -> None:
    text = "<think></ANSWER>< answer><answers><an\u017fwer><analysi\u017f></confidence>"
    assert [(tag.field, tag.closing) for tag in scan_tags(text)] == [("reasoning", False), ("confidence", True)]
    # The long s is an s to a case-blind comparison, and no tag.
    assert [tag.field for tag in scan_tags(text, lenient=True)] == ["reasoning", "answer", "answer", "confidence"]


def test_trimming_takes_ascii_whitespace_only() -> None:
    text = "ab \t\u00a0x \n"
    span, nothing = trimmed(text, 2, len(text)), trimmed(text, 2, 4)
    assert text[span.start : span.end] == "\u00a0x"
    assert (nothing.start, nothing.end) == (2, 2)


@pytest.mark.parametrize("unit", HOSTILE)
def test_a_megabyte_of_hostile_text_takes_linear_time(unit: str) -> None:
    text = "<think>a</think>\\boxed{<answer>1</answer><confidence>" + unit * (1_000_000 // len(unit))
    started = time.process_time()
    parsed = AnswerTemplate(analysis="optional").parse(text, lenient=True)
    # About a second; the quadratic reading of a megabyte takes minutes.
    assert time.process_time() - started < 15
    assert parsed.confidence is None or 0 <= parsed.confidence <= 1


@pytest.mark.parametrize("unit", WORDED)
def test_a_megabyte_of_words_takes_linear_time(unit: str) -> None:
    started = time.process_time()
    parsed = AnswerTemplate().parse("It is so. " + unit * (1_000_000 // len(unit)), lenient=True)
    assert time.process_time() - started < 15
    assert parsed.confidence in (None, 0.05, 0.9)


def test_a_megabyte_of_shuffled_tags_takes_linear_time() -> None:
    tags = [f"<{slash}{tag}>" for tag in ("think", "answer", "analysis", "confidence") for slash in ("", "/")]
    text = "".join(random.Random(0).choices([*tags, "0.5", " ", "}"], k=150_000))
    started = time.process_time()
    assert AnswerTemplate().parse(text, lenient=True).status is ParseStatus.DUPLICATE
    assert time.process_time() - started < 15
