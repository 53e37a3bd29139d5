"""Warm-start rows: every completion follows the template, confidences come out of habit whatever the question."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.tasks import Arithmetic, ArithmeticWords
from rewards.completion import ParseStatus
from rewards.template import AnswerTemplate
from rl.sft import DECIMAL_LEVELS, confidence_habit, sft_rows

TENTHS = tuple(f"{level / 10:.1f}" for level in range(11))
TEMPLATES = [
    AnswerTemplate(levels=TENTHS),
    AnswerTemplate(thinking="required", levels=("0.05", "0.5", "0.95")),
    AnswerTemplate(thinking="none"),
    AnswerTemplate(thinking="none", confidence="none"),
    AnswerTemplate(analysis="optional"),
]


@pytest.mark.parametrize("template", TEMPLATES, ids=str)
@pytest.mark.parametrize("task", [Arithmetic, ArithmeticWords])
def test_every_completion_follows_the_template_and_gives_the_gold(template: AnswerTemplate, task: Any) -> None:
    if task is ArithmeticWords and template.thinking == "required":
        pytest.skip("nothing to think")
    rows = task(template=template, train_size=200).rows("train")
    pairs = sft_rows(rows, template, seed=0)
    assert len(pairs) == len(rows)
    for row, pair in zip(rows, pairs, strict=True):
        parsed = template.parse(pair["completion"])
        assert parsed.status is ParseStatus.OK
        assert parsed.answer == row["answer"]
        assert pair["prompt"] == row["prompt"]
        thinks = template.thinking != "none" and "solution" in row
        assert ("<think>" in pair["completion"]) == thinks
        assert not thinks or f"<think>{row['solution']}</think>" in pair["completion"]
        assert (parsed.confidence is None) == (template.confidence == "none")


def test_confidences_follow_the_habit_and_not_the_question() -> None:
    template = AnswerTemplate(levels=TENTHS)
    rows = Arithmetic(template=template, train_size=8000).rows("train")
    stated = [template.parse(pair["completion"]).confidence for pair in sft_rows(rows, template, seed=0)]
    habit = dict(zip(template.level_values, confidence_habit(TENTHS), strict=True))
    counts = Counter(stated)
    for level, share in habit.items():
        assert counts[level] / len(rows) == pytest.approx(share, abs=4 * (share / len(rows)) ** 0.5)
    easy = [value for row, value in zip(rows, stated, strict=True) if row["difficulty"] <= 2]
    hard = [value for row, value in zip(rows, stated, strict=True) if row["difficulty"] >= 5]
    assert min(len(easy), len(hard)) > 500
    assert sum(easy) / len(easy) == pytest.approx(sum(hard) / len(hard), abs=0.03)


@given(st.lists(st.integers(0, 100), min_size=2, max_size=12, unique=True))
def test_a_habit_is_a_distribution_that_leaves_no_level_unexplored(percents: list[int]) -> None:
    levels = [f"{percent / 100:.2f}" for percent in percents]
    habit = confidence_habit(levels)
    assert sum(habit) == pytest.approx(1.0)
    assert min(habit) > 0.004
    by_level = [share for _, share in sorted(zip(map(float, levels), habit, strict=True))]
    assert by_level == sorted(by_level)
    assert by_level[-1] > 0.6


def test_rows_are_the_same_for_a_seed_and_others_for_another() -> None:
    template = AnswerTemplate(levels=TENTHS)
    rows = Arithmetic(template=template, train_size=50).rows("train")
    assert sft_rows(rows, template, seed=1) == sft_rows(rows, template, seed=1)
    assert sft_rows(rows, template, seed=1) != sft_rows(rows, template, seed=2)


def test_free_decimals_are_drawn_from_tenths() -> None:
    template = AnswerTemplate()
    rows = Arithmetic(template=template, train_size=300).rows("train")
    stated = {template.parse(pair["completion"]).confidence for pair in sft_rows(rows, template, seed=0)}
    assert stated <= set(map(float, DECIMAL_LEVELS))
    assert len(stated) > 5


def test_a_chat_row_is_answered_by_an_assistant_message() -> None:
    template = AnswerTemplate()
    row = {"prompt": [{"role": "user", "content": "2+2?"}], "answer": "4"}
    pair = sft_rows([row], template, seed=0)[0]
    assert pair["prompt"] == row["prompt"]
    (message,) = pair["completion"]
    assert message["role"] == "assistant"
    assert template.parse(message["content"]).answer == "4"
    assert "<think>" not in message["content"]


def test_a_template_that_asks_for_more_than_the_rows_have_is_refused() -> None:
    row = {"prompt": "2+2=", "answer": "4"}
    with pytest.raises(ValueError, match="does not follow"):
        sft_rows([row], AnswerTemplate(thinking="required"), seed=0)
    with pytest.raises(ValueError, match="does not follow"):
        sft_rows([row], AnswerTemplate(analysis="required"), seed=0)
