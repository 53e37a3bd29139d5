"""A question set of one's own: what a line may hold, and the error that names the line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from experiments.tasks.jsonl import JsonLines
from rewards.template import AnswerTemplate
from rewards.verifiers import choice, text
from rl.sft import sft_rows


def task(folder: Path, *records: Any, **settings: Any) -> JsonLines:
    path = folder / "mine.jsonl"
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    settings = {"chat": False, "instructions": False, **settings}
    return JsonLines(str(path), str(path), **settings)


def test_a_line_becomes_a_row(tmp_path: Path) -> None:
    first, second = task(
        tmp_path,
        {"prompt": "1+1?", "answer": "2"},
        {"question": "1/2 of 3?", "answer": "1.5", "id": 7, "group": "halves", "more": [1]},
    ).rows("test")
    assert first == {
        "id": "mine-1", "prompt": "1+1?", "answer": "2", "source": "jsonl", "group": None, "item": None,
        "demonstration": "2",
    }  # fmt: skip
    assert (second["id"], second["prompt"], second["group"]) == ("7", "1/2 of 3?", "halves")


def test_a_byte_order_mark_is_not_part_of_the_first_line(tmp_path: Path) -> None:
    marked = task(tmp_path, {"prompt": "1+1?", "answer": "2"})
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [row["answer"] for row in marked.rows("train")] == ["2"]


def test_any_alias_will_do(tmp_path: Path) -> None:
    row = task(tmp_path, {"prompt": "Where?", "answer": ["NYC", "New York"]}, verifier="text").rows("train")[0]
    assert [text.judge(row["answer"], answer).correct for answer in ("new york.", "nyc", "York")] == [1.0, 1.0, 0.0]
    assert row["demonstration"] == "NYC"


@pytest.mark.parametrize("answer", ["b", "(B)", "a cat"])
def test_choices_stand_under_the_question_as_letters(answer: str, tmp_path: Path) -> None:
    record = {"prompt": "What purrs?", "answer": answer, "choices": ["a dog", "a cat", "a car"]}
    row = task(tmp_path, record, verifier="choice").rows("test")[0]
    assert row["prompt"] == "What purrs?\nA. a dog\nB. a cat\nC. a car"
    assert [choice.judge(row["answer"], each).correct for each in ("B", "a cat", "C. a car")] == [1.0, 1.0, 0.0]
    assert row["demonstration"] == "B"


def test_a_prompt_that_lists_its_options_itself(tmp_path: Path) -> None:
    row = task(tmp_path, {"prompt": "A or B?", "answer": "B"}, verifier="choice").rows("test")[0]
    assert row["prompt"] == "A or B?" and choice.judge(row["answer"], "(b)").correct == 1.0


def test_a_demonstration_is_what_supervision_teaches(tmp_path: Path) -> None:
    record = {"prompt": "What purrs?", "answer": "a cat", "choices": ["a dog", "a cat"]}
    rows = task(tmp_path, record, verifier="choice").rows("train")
    template = AnswerTemplate(confidence="none")
    assert sft_rows(rows, template, 0)[0]["completion"] == "<answer>B</answer>"


def test_rows_are_drawn_and_asked_like_those_of_gsm8k(tmp_path: Path) -> None:
    template = AnswerTemplate(levels=("0.1", "0.9"))
    records = [{"prompt": f"{n}?", "answer": str(n)} for n in range(20)]
    mine = task(tmp_path, *records, template=template, chat=True, instructions=True, train_size=5)
    assert len(mine.rows("train")) == 5 and mine.rows("test", 9, seed=1) == mine.rows("test", 9, seed=1)
    assert mine.rows("test")[3]["prompt"] == [{"role": "user", "content": f"{template.instructions()}\n\n3?"}]


WORLD = {"start": {"key": "box"}, "goal": {"key": "bag"}, "places": ["box", "bag"]}


@pytest.mark.parametrize(
    ("record", "verifier", "reason"),
    [
        ([1], "math", "expected an object"),
        ({"answer": "1"}, "math", "neither prompt nor question found"),
        ({"prompt": "a", "question": "b", "answer": "1"}, "math", "prompt and question found"),
        ({"prompt": 3, "answer": "1"}, "math", "prompt is 3, expected text"),
        ({"prompt": "a"}, "math", "answer is None, expected text"),
        ({"prompt": "a", "answer": 1}, "math", "answer is 1, expected text"),
        ({"prompt": "a", "answer": " "}, "math", "answer is ' ', which the verifier math cannot use"),
        ({"prompt": "a", "answer": ["1", "2"]}, "math", "which the verifier math does not take"),
        ({"prompt": "a", "answer": ["1", "2"]}, ("text", "math"), "which the verifier math does not take"),
        ({"prompt": "a", "answer": []}, "text", "answer is [], which the verifier text cannot use"),
        ({"prompt": "a", "answer": ["x", 1]}, "token_f1", "which the verifier token_f1 cannot use"),
        ({"prompt": "a", "answer": "a cat"}, "choice", "answer is 'a cat', which the verifier choice cannot use"),
        ({"prompt": "a", "answer": "B", "choices": ["x", "y"]}, "math", "choices need task.verifier: choice"),
        ({"prompt": "a", "answer": "C", "choices": ["x", "y"]}, "choice", "which the verifier choice cannot use"),
        ({"prompt": "a", "answer": "A", "choices": ["x"]}, "choice", "choices has 1 options, expected from 2 to 26"),
        ({"prompt": "a", "answer": "A", "choices": "xy"}, "choice", "choices are 'xy', expected a list"),
        ({"prompt": "a", "answer": json.dumps(WORLD | {"places": ["box"]})}, "state", "the verifier state cannot use"),
        ({"prompt": "a", "answer": "1", "group": 1.5}, "math", "group is 1.5, expected text or a whole number"),
    ],
)
def test_the_error_names_file_and_line(record: Any, verifier: Any, reason: str, tmp_path: Path) -> None:
    fine = {
        "choice": {"prompt": "a", "answer": "A"},
        "state": {"prompt": "a", "answer": json.dumps(WORLD)},
    }.get(verifier, {"prompt": "a", "answer": "1"})
    with pytest.raises(ValueError, match=rf"mine\.jsonl:2: .*{re.escape(reason)}"):
        task(tmp_path, fine, record, verifier=verifier).rows("train")
