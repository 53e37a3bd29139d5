"""The question sets known by name, from small files with the columns that they have on the hub."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments.tasks.dataset import Dataset
from experiments.tasks.layouts import LAYOUTS
from rewards.verifiers import choice, text
from rewards.verifiers.math import math
from tests.experiments.layout_files import CHOICES, HOTPOT, ROWS, TITLES, files

MANY = {"choices": {"label": [str(n) for n in range(30)], "text": [f"o{n}" for n in range(30)]}, "answerKey": "29"}
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
    assert len(Dataset(layout="hotpotqa", path=path, filter={"passages": None}).rows("test")) == 2


def test_big_math_takes_numbers_that_are_solved_at_times(tmp_path: Path) -> None:
    rows = [
        {"problem": f"{n}?", "answer": answer, "source": "amc", "llama8b_solve_rate": rate}
        for n, (answer, rate) in enumerate([("1", 0.5), ("x", 0.5), ("2", 0.0), ("3", 0.75), ("4.5", 0.7), ("6", None)])
    ]
    path = files(tmp_path, "big_math_digits", rows)
    task = Dataset(layout="big_math_digits", path=path, splits={"test": "train"})
    assert [row["answer"] for row in task.rows("test")] == ["1", "4.5"]


@pytest.mark.parametrize(
    ("layout", "subset", "name", "split"),
    [
        ("medqa", None, "phrases_no_exclude_train.jsonl", "train"),
        ("medqa", None, "phrases_no_exclude_test.jsonl", "test"),
        ("gpqa", None, "gpqa_diamond.csv", "test"),
        ("gpqa", "gpqa_main", "gpqa_main.csv", "test"),
        ("simpleqa", None, "simple_qa_test_set.csv", "test"),
    ],
)
def test_a_copy_of_the_hubs_repository_is_read(
    layout: str, subset: str | None, name: str, split: str, tmp_path: Path
) -> None:
    written = pd.DataFrame([ROWS[layout][0]])
    other = "gpqa_extended.csv" if layout == "gpqa" else "other.csv"
    written.to_csv(tmp_path / other, index=False)
    if name.endswith("csv"):
        written.to_csv(tmp_path / name, index=False)
    else:
        written.to_json(tmp_path / name, orient="records", lines=True)
    task = Dataset(layout=layout, path=str(tmp_path), subset=subset, splits={split: LAYOUTS[layout].splits[split]})
    assert [row["source"] for row in task.rows(split)] == [layout]
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=f"has no file of split '{task.splits[split]}' and no {name}, its files are"):
        task.rows(split)


@pytest.mark.parametrize(
    ("layout", "conditions", "kept"),
    [
        ("triviaqa", {"answer.value": "New York"}, 1),
        ("triviaqa", {"answer.value": "York"}, 0),
        ("mmlu", {"answer": 3}, 1),
        ("mmlu", {"answer": 2}, 0),
        ("hotpotqa", {"context.title": {"min_chars": 3}}, 1),
        ("hotpotqa", {"passages": {"min_chars": 6001}}, 0),
    ],
)
def test_a_filter_sees_the_columns_of_the_set(layout: str, conditions: Any, kept: int, tmp_path: Path) -> None:
    path = files(tmp_path, layout, [ROWS[layout][0]])
    split = LAYOUTS[layout].splits["test"]
    task = Dataset(layout=layout, path=path, splits={"test": split}, filter=conditions)
    if kept:
        assert len(task.rows("test")) == kept
    else:
        with pytest.raises(ValueError, match="1 filtered"):
            task.rows("test")


def test_options_that_parquet_filled_up_and_those_that_are_numbers_are_read(tmp_path: Path) -> None:
    options = [{"A": "Water", "B": "Ibuprofen"}, {"A": "1", "B": "2", "C": "3", "D": "4", "E": "5"}]
    pd.DataFrame(
        [{**ROWS["medqa"][0], "question": f"{n}?", "options": each} for n, each in enumerate(options)]
    ).to_parquet(tmp_path / "test.parquet")
    task = Dataset(layout="medqa", path=str(tmp_path), splits={"test": "test"}, chat=False, instructions=False)
    assert [row["prompt"].count("\n") for row in task.rows("test")] == [2, 5]
    numbers = [{**ROWS["commonsenseqa"][0], "choices": CHOICES | {"text": [1, 2, 3]}}]
    (row,) = Dataset(
        layout="commonsenseqa", path=files(tmp_path, "commonsenseqa", numbers), chat=False, instructions=False
    ).rows("test")
    assert row["prompt"] == "Where?\nA. 1\nB. 2\nC. 3"


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
        ("medqa", {"options": {"A": "Water", "B": None}}, "answer_idx is 'B', which is none of A"),
        ("medqa", {"options": None}, "options is None, expected a mapping"),
        ("medqa", {"options": ["Water"]}, "options is ['Water'], expected a mapping"),
        ("commonsenseqa", {"choices": {"label": None, "text": ["a"]}}, "choices.label is None, expected a list"),
        (
            "commonsenseqa",
            {"choices": CHOICES | {"text": ["a"]}},
            "choices.text has 1 and choices.label 3, expected as",
        ),
        ("openbookqa", MANY, "the right option is number 30, expected one of the first 26"),
        ("mmlu", {"choices": None}, "choices is None, expected a list"),
        ("triviaqa", {"answer": {"value": "York", "aliases": "NYC"}}, "answer.aliases is 'NYC', expected a list"),
        ("hotpotqa", {"context": {"title": None, "sentences": None}}, "context.title is None, expected a list"),
        (
            "hotpotqa",
            {"context": {"title": ["a", "b"], "sentences": [["c"]]}},
            "context.sentences has 1 and context.ti",
        ),
        ("hotpotqa", {"context": {"title": ["a"], "sentences": [[1]]}}, "context.sentences holds what is not text"),
    ],
)
def test_a_row_that_is_not_of_the_layout_is_told(
    layout: str, change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = files(tmp_path, layout, [ROWS[layout][0] | change])
    with pytest.raises(ValueError, match=re.escape(said)):
        Dataset(layout=layout, path=path).rows("test")
