"""The question sets known by name, from small files with the columns that they have on the hub."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from experiments.tasks.dataset import Dataset
from experiments.tasks.layouts import LAYOUTS
from rewards.verifiers import choice, text
from rewards.verifiers.math import math
from tests.experiments.layout_files import HOTPOT, ROWS, TITLES, files

JUDGES = {"math": math.judge, "choice": choice.judge, "text": text.judge}


def test_every_layout_has_a_row_here() -> None:
    assert ROWS.keys() == LAYOUTS.keys()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_row_of_each_is_asked_and_judged(layout: str, tmp_path: Path) -> None:
    row, right, wrong = ROWS[layout]
    known = LAYOUTS[layout]
    others = {"held_out": 0.4999} if known.held_out else {}
    rows = [row] if not others else [{**row, "problem": f"What of {n}?"} for n in range(20)]
    task = Dataset(layout=layout, path=files(tmp_path, layout, rows), chat=False, instructions=False, **others)
    assert task.verifier == known.verifier and task.splits == dict(known.splits)
    found = task.rows("test")
    judge = JUDGES[known.verifier]
    for asked in found:
        assert judge(asked["answer"], right).correct == 1.0 and judge(asked["answer"], wrong).correct == 0.0
        assert judge(asked["answer"], asked["demonstration"]).correct == 1.0, "what a warm start imitates is right"
        assert asked["source"] == layout
        assert asked["group"] != "None"
    if "train" in known.splits:
        assert task.rows("train"), "and it can be trained on"
    assert all(getattr(known, name) for name in ("licence", "gold", "hub", "verifier"))


def test_options_are_lettered_in_the_order_of_the_set(tmp_path: Path) -> None:
    row = ROWS["medqa"][0]
    task = Dataset(layout="medqa", path=files(tmp_path, "medqa", [row]), chat=False, instructions=False)
    assert task.rows("test")[0]["prompt"] == "A man has?\nA. Water\nB. Ibuprofen"


def test_the_right_option_of_gpqa_stands_anywhere_and_stays_there(tmp_path: Path) -> None:
    rows = [{**ROWS["gpqa"][0], "Question": f"Which {n}?", "Record ID": f"r{n}"} for n in range(200)]
    path = files(tmp_path, "gpqa", rows)
    letters = [json.loads(row["answer"])["answer"] for row in Dataset(layout="gpqa", path=path).rows("test")]
    assert all(30 < letters.count(letter) < 72 for letter in "ABCD")
    assert letters == [json.loads(row["answer"])["answer"] for row in Dataset(layout="gpqa", path=path).rows("test")]


def test_two_passages_of_hotpotqa_are_missing_none_one_or_two_of_them_supporting(tmp_path: Path) -> None:
    rows = [{"id": f"q{n}", **HOTPOT, "question": f"Question {n}?"} for n in range(120)]
    task = Dataset(layout="hotpotqa", path=files(tmp_path, "hotpotqa", rows), chat=False, instructions=False)
    counts: dict[str, int] = {}
    for row in task.rows("test"):
        shown = set(re.findall(r"^(Title \d): About", row["prompt"], re.MULTILINE))
        assert len(shown) == 8 and row["prompt"].endswith("?")
        missing = len({"Title 2", "Title 7"} - shown)
        assert row["group"] == f"{missing} missing"
        counts[row["group"]] = counts.get(row["group"], 0) + 1
    assert len(counts) == 3 and min(counts.values()) > 20, "a third of each"


def test_long_passages_of_hotpotqa_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    context = {"title": TITLES, "sentences": [["x" * 800] for _ in range(10)]}
    path = files(
        tmp_path, "hotpotqa", [{"id": "a", **HOTPOT}, {"id": "b", **HOTPOT, "question": "B?", "context": context}]
    )
    assert len(Dataset(layout="hotpotqa", path=path).rows("test")) == 1
    assert len(Dataset(layout="hotpotqa", path=path, filter={"context": None}).rows("test")) == 2


def test_big_math_takes_numbers_that_are_solved_at_times(tmp_path: Path) -> None:
    rows = [
        {"problem": f"{n}?", "answer": answer, "source": "amc", "llama8b_solve_rate": rate}
        for n, (answer, rate) in enumerate([("1", 0.5), ("x", 0.5), ("2", 0.0), ("3", 0.75), ("4.5", 0.7), ("6", None)])
    ]
    path = files(tmp_path, "big_math_digits", rows)
    task = Dataset(layout="big_math_digits", path=path, splits={"test": "train"})
    assert [row["answer"] for row in task.rows("test")] == ["1", "4.5"]


@pytest.mark.parametrize(
    ("layout", "change", "said"),
    [
        ("gsm8k", {"answer": "four"}, "the answer does not end in '#### number'"),
        ("gsm8k", {"answer": "It is ####  "}, "'#### number'"),
        ("math", {"solution": r"\boxed{1"}, "that is closed"),
        ("math", {"solution": "1"}, "holds no"),
        ("commonsenseqa", {"answerKey": ""}, "answerKey is '', which is none of A, B, C"),
        ("mmlu", {"answer": 4}, "answer is 4, expected the number of one of 4 choices"),
        ("medqa", {"answer_idx": "E"}, "answer_idx is 'E', which is none of A, B"),
    ],
)
def test_a_row_that_is_not_of_the_layout_is_told(
    layout: str, change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = files(tmp_path, layout, [ROWS[layout][0] | change])
    with pytest.raises(ValueError, match=re.escape(said)):
        Dataset(layout=layout, path=path).rows("test")
