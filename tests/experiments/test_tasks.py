"""Tasks: the splits that they name, and GSM8K's files, whose errors name the line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from experiments.tasks import TASKS, Gsm8k
from experiments.tasks.arithmetic import SPLITS
from rewards.template import AnswerTemplate


def test_every_task_names_its_splits() -> None:
    assert TASKS["arithmetic"].splits == SPLITS
    assert {"train", "test"} <= set(TASKS["gsm8k"].splits)


# -- GSM8K ---------------------------------------------------------------------------------------------------------
def line(question: str = "How many?", answer: str = "Two and two are four.\n#### 4", **more: object) -> str:
    return json.dumps({"question": question, "answer": answer} | more, ensure_ascii=False)


def gsm8k(folder: Path, lines: list[str], **settings: object) -> Gsm8k:
    for name in ("train", "test"):
        (folder / f"{name}.jsonl").write_bytes(("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))
    return Gsm8k(str(folder / "train.jsonl"), str(folder / "test.jsonl"), **settings)


def test_gsm8k_reads_question_and_final_number(tmp_path: Path) -> None:
    lines = [line(), "", line("A line\u2028separator, d\u00e9j\u00e0 vu?", "a #### b\n####  -1,250 ")]
    rows = gsm8k(tmp_path, lines, chat=False, instructions=False).rows("test")
    assert [(row["id"], row["answer"]) for row in rows] == [("test-1", "4"), ("test-3", "-1,250")]
    assert rows[1]["prompt"] == "A line\u2028separator, d\u00e9j\u00e0 vu?"
    assert {row["source"] for row in rows} == {"gsm8k"}


def test_gsm8k_asks_a_chat_model_with_instructions(tmp_path: Path) -> None:
    template = AnswerTemplate(analysis="required")
    prompt = gsm8k(tmp_path, [line()], template=template).rows("train")[0]["prompt"]
    assert prompt == [{"role": "user", "content": f"{template.instructions()}\n\nHow many?"}]


def test_gsm8k_draws_distinct_rows_by_seed(tmp_path: Path) -> None:
    task = gsm8k(tmp_path, [line(f"Question {n}?", f"#### {n}") for n in range(40)], train_size=15)
    drawn = [[row["id"] for row in task.rows("test", 10, seed=seed)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 10
    assert len(task.rows("test")) == 40
    assert len(task.rows("train")) == 15
    with pytest.raises(ValueError, match=r"test\.jsonl has 40 questions, 41 were asked for"):
        task.rows("test", 41)
    with pytest.raises(ValueError, match="'validation' is not one of train, test"):
        task.rows("validation")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ('{"question": "How', "not JSON"),
        ("[1, 2]", "expected an object"),
        ("7", "expected an object"),
        ('{"question": "Q"}', "answer is None"),
        ('{"answer": "#### 1"}', "question is None"),
        ('{"question": "Q", "answer": 4}', "answer is 4"),
        (line(answer="four"), "'#### number'"),
        (line(answer="It is ####  "), "'#### number'"),
        ('{"question": "\udcff", "answer": "#### 1"}', "not JSON"),
    ],
)
def test_gsm8k_names_file_and_line_of_what_is_broken(tmp_path: Path, broken: str, reason: str) -> None:
    task = gsm8k(tmp_path, [line(), "", broken])
    with pytest.raises(ValueError, match=rf"train\.jsonl:3: .*{re.escape(reason)}"):
        task.rows("train")


def test_gsm8k_names_the_file_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(line())
    with pytest.raises(ValueError, match=r"task\.test_path: .*absent\.jsonl is not a file"):
        Gsm8k(str(tmp_path / "train.jsonl"), str(tmp_path / "absent.jsonl"))
    with pytest.raises(ValueError, match=r"task\.train_size: 0 is below 1"):
        Gsm8k(str(tmp_path / "train.jsonl"), str(tmp_path / "train.jsonl"), train_size=0)
