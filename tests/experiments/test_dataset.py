"""A question set of one's own: columns, splits, filters, what a row may hold, and the error that names its place."""

from __future__ import annotations

import csv
import json
import re
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments.errors import ConfigError
from experiments.tasks.dataset import Dataset
from experiments.tasks.splits import question_key, split_of
from rewards.template import AnswerTemplate
from rewards.verifiers import choice, text
from rl.sft import sft_rows

HELD_OUT = {"prompt": "Held out?", "answer": "7"}


def lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    return path


def task(folder: Path, *records: Any, **settings: Any) -> Dataset:
    """The records as a file that is read for the split test; no training questions."""
    path = lines(folder / "mine.jsonl", *records)
    settings = {"chat": False, "instructions": False, "splits": {"test": "train"}, **settings}
    return Dataset(path=str(path), **settings)


def test_a_line_becomes_a_row(tmp_path: Path) -> None:
    first, second = task(
        tmp_path,
        {"prompt": "1+1?", "answer": "2"},
        {"question": "1/2 of 3?", "answer": 1.5, "id": 7, "group": "halves", "more": [1]},
    ).rows("test")
    assert first == {
        "id": "mine-1", "prompt": "1+1?", "answer": "2", "source": "dataset", "group": None, "item": None,
        "demonstration": "2",
    }  # fmt: skip
    assert (second["id"], second["prompt"], second["group"], second["answer"]) == ("7", "1/2 of 3?", "halves", "1.5")


def test_columns_go_into_mappings_and_a_prompt_takes_any_of_them(tmp_path: Path) -> None:
    record = {"problem": "2+2?", "gold": {"value": "4"}, "level": 3, "work": "2 and 2."}
    columns = {"question": "problem", "answer": "gold.value", "group": "level", "solution": "work"}
    (row,) = task(tmp_path, record, columns=columns, prompt="Level {level}: {question} \\boxed{}").rows("test")
    assert (row["prompt"], row["answer"], row["group"]) == ("Level 3: 2+2? \\boxed{}", "4", "3")
    imitated = sft_rows([row], AnswerTemplate(confidence="none"), 0)[0]["completion"]
    assert imitated == "<think>2 and 2.</think><answer>4</answer>"


def test_any_alias_will_do(tmp_path: Path) -> None:
    row = task(tmp_path, {"prompt": "Where?", "answer": ["NYC", "New York"]}, verifier="text").rows("test")[0]
    assert [text.judge(row["answer"], answer).correct for answer in ("new york.", "nyc", "York")] == [1.0, 1.0, 0.0]
    assert row["demonstration"] == "NYC"


def test_choices_may_be_numbers(tmp_path: Path) -> None:
    row = task(tmp_path, {"prompt": "1+1?", "answer": 2, "choices": [1, 2.0]}, verifier="choice").rows("test")[0]
    assert row["prompt"] == "1+1?\nA. 1\nB. 2" and row["demonstration"] == "B"


@pytest.mark.parametrize("answer", ["b", "(B)", "a cat"])
def test_choices_stand_under_the_question_as_letters(answer: str, tmp_path: Path) -> None:
    record = {"prompt": "What purrs?", "answer": answer, "choices": ["a dog", "a cat", "a car"]}
    row = task(tmp_path, record, verifier="choice").rows("test")[0]
    assert row["prompt"] == "What purrs?\nA. a dog\nB. a cat\nC. a car"
    assert [choice.judge(row["answer"], each).correct for each in ("B", "a cat", "C. a car")] == [1.0, 1.0, 0.0]
    assert sft_rows([row], AnswerTemplate(confidence="none"), 0)[0]["completion"] == "<answer>B</answer>"


def test_a_chat_is_asked_with_the_templates_instructions(tmp_path: Path) -> None:
    template = AnswerTemplate(levels=("0.1", "0.9"))
    (row,) = task(tmp_path, {"prompt": "3?", "answer": "3"}, template=template, chat=True, instructions=True).rows(
        "test"
    )
    assert row["prompt"] == [{"role": "user", "content": f"{template.instructions()}\n\n3?"}]


# -- which rows ------------------------------------------------------------------------------------------------------
def test_rows_are_drawn_by_seed_each_as_likely_as_any_other(tmp_path: Path) -> None:
    mine = task(tmp_path, *({"prompt": f"Question {n}?", "answer": str(n)} for n in range(40)))
    drawn = [[row["id"] for row in mine.rows("test", 10, seed=seed)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and len(set(drawn[0])) == 10
    assert [row["answer"] for row in mine.rows("test")] == [str(n) for n in range(40)], "all of them in order"
    first = [mine.rows("test", 4, seed=seed)[0]["answer"] for seed in range(400)]
    counts = [first.count(str(n)) for n in range(40)]
    assert max(counts) < 26 and min(counts) > 0, "10 are expected of each, wherever it stands in the file"
    with pytest.raises(ValueError, match=r"mine\.jsonl has 40 questions for test, 41 were asked for"):
        mine.rows("test", 41)
    with pytest.raises(ValueError, match="'validation' is not one of test"):
        mine.rows("validation")


def test_a_question_that_is_repeated_is_drawn_no_more_often(tmp_path: Path) -> None:
    copies = [{"prompt": f"What is 1{' ' * n}?", "answer": "1"} for n in range(100)]
    mine = task(tmp_path, *({"prompt": f"Question {n}?", "answer": "0"} for n in range(100)), *copies)
    drawn = [mine.rows("test", 10, seed=seed) for seed in range(60)]
    assert all(len({row["id"] for row in rows}) == 10 for rows in drawn)
    assert 0 < sum("1" in [row["answer"] for row in rows] for rows in drawn) < 16, "6 are expected"


@pytest.mark.parametrize("size", [None, 20])
def test_the_share_of_unreadable_golds_is_that_of_those_looked_at(size: int | None, tmp_path: Path) -> None:
    mine = task(
        tmp_path, *({"prompt": f"{n}+0?", "answer": "?!" if n % 2 else str(n)} for n in range(1000)), unreadable=0.3
    )
    with pytest.raises(ValueError, match=r"mine\.jsonl:\d+: answer is '\?!', .* rows looked at, [45]\d\.\d\d%, cannot"):
        mine.read("test", size)
    found = replace(mine, unreadable=0.6).read("test", size)
    assert found.read == 1000 and 0.4 < found.unreadable / found.looked_at < 0.6
    assert (found.looked_at < 300) == (size is not None), "of a draw not every gold is looked at"


def test_questions_are_the_same_if_their_whole_prompts_are(tmp_path: Path) -> None:
    records = [{"prompt": "What is the title?", "context": f"Passage {n // 2}.", "answer": "1"} for n in range(10)]
    mine = task(tmp_path, *records, prompt="{context}\n{question}")
    assert mine.read("test").repeated == 5


def test_golds_that_are_numbers_are_written_out(tmp_path: Path) -> None:
    golds = [Decimal("5"), Decimal("0.50"), Decimal("1E+2"), Decimal("0.0000001")]
    frame = pd.DataFrame({"prompt": ["a?", "b?", "c?", "d?"], "answer": golds})
    frame.to_parquet(tmp_path / "mine.parquet")
    settings: dict[str, Any] = {"chat": False, "instructions": False, "splits": {"test": "train"}}
    read = Dataset(path=str(tmp_path / "mine.parquet"), **settings).rows("test")
    assert [float(row["answer"]) for row in read] == [5, 0.5, 100, 1e-7] and not any(
        "E" in row["answer"] for row in read
    )
    numbers = (5.0, 1e20, 1e-7, 10**400)
    asked = task(
        tmp_path, *({"prompt": f"{each}?", "answer": each} for each in numbers), filter={"answer": {"above": 0}}
    )
    assert [row["answer"] for row in asked.rows("test")] == ["5", "1" + "0" * 20, "0.0000001", "1" + "0" * 400]


def test_one_file_is_split_by_the_text_of_its_questions(tmp_path: Path) -> None:
    records = [{"prompt": f"Question {n}?", "answer": str(n)} for n in range(400)]
    again = [{"prompt": f" question {n}", "answer": str(n)} for n in range(400)]  # the same but for how it is written
    mine = task(
        tmp_path, *records, *again, splits=dict.fromkeys(("train", "validation", "test"), "train"), held_out=0.2
    )
    answers = {split: {row["answer"] for row in mine.rows(split)} for split in ("train", "validation", "test")}
    assert sum(map(len, answers.values())) == len(set.union(*answers.values())) == 400
    assert 50 < len(answers["test"]) < 110 and 50 < len(answers["validation"]) < 110
    assert mine.read("train").repeated == len(answers["train"])
    with pytest.raises(ValueError, match=r"task\.held_out: missing; train and test are one source"):
        Dataset(path=str(tmp_path / "mine.jsonl"))


def test_what_is_held_out_is_not_trained_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train = [{"prompt": f"{n}+1?", "answer": str(n + 1)} for n in range(10)]
    lines(tmp_path / "train.jsonl", *train, {"prompt": "“HELD   out”", "answer": "7"}, train[3])
    lines(tmp_path / "validation.jsonl", {"prompt": "5 + 1 ?", "answer": "6"}, HELD_OUT)
    lines(tmp_path / "test.jsonl", HELD_OUT)
    named = {split: split for split in ("train", "validation", "test")}
    mine = Dataset(path=str(tmp_path), splits=named, chat=False, instructions=False)
    found = mine.read("train")
    assert found.counts() == {
        "read": 12, "unreadable": 0, "filtered": 0, "held_out": 2, "repeated": 1, "looked_at": 9, "kept": 9,
    }  # fmt: skip
    assert "5+1?" not in [row["prompt"] for row in found.rows] and "6-1?" not in [row["prompt"] for row in found.rows]
    assert [row["prompt"] for row in mine.rows("validation")] == ["5 + 1 ?"], "nor is the test chosen by"
    assert len(mine.rows("test")) == 1
    assert "train: of 12 rows 2 held out, 1 repeated left out" in (mine.rows("train") and caplog.text)


@pytest.mark.parametrize(
    ("conditions", "kept"),
    [
        ({"level": 2}, [1]),
        ({"level": {"in": [1, 3]}}, [0, 2]),
        ({"level": {"not_in": [1, 3]}}, [1]),
        ({"rate": {"above": 0.1, "below": 0.9}}, [1]),
        ({"rate": {"at_least": 0.1, "at_most": 0.9}}, [0, 1, 2]),
        ({"answer": {"number": True}}, [0, 2]),
        ({"answer": {"number": False}, "level": 2}, [1]),
        ({"prompt": {"max_chars": 2}}, [0, 1]),
        ({"prompt": {"min_chars": 3}}, [2]),
        ({"meta.kind": "b"}, [2]),
    ],
)
def test_a_filter_keeps_what_meets_every_condition(conditions: Any, kept: list[int], tmp_path: Path) -> None:
    records = [
        {"prompt": "a?", "answer": "1", "level": 1, "rate": 0.1, "meta": {"kind": "a"}},
        {"prompt": "b?", "answer": "x", "level": 2, "rate": "0.5", "meta": {"kind": "a"}},
        {"prompt": "ccc?", "answer": "2.5", "level": 3, "rate": 0.9, "meta": {"kind": "b"}},
    ]
    found = task(tmp_path, *records, filter=conditions).read("test")
    assert [row["id"] for row in found.rows] == [f"mine-{number + 1}" for number in kept]
    assert found.filtered == 3 - len(kept)


@pytest.mark.parametrize(
    ("conditions", "kept"),
    [
        ({"level": 1}, ["1"]),
        ({"level": {"in": [1, 2.5]}}, ["1", "2"]),
        ({"level": {"not_in": [1]}}, ["2"]),
        ({"easy": True}, ["1"]),
        ({"level": "1"}, ["1"]),
    ],
)
def test_a_filter_reads_numbers_in_the_texts_of_a_csv(conditions: Any, kept: list[str], tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,answer,level,easy\na?,1,1,True\nb?,2,2.5,False\n")
    found = Dataset(path=str(path), splits={"test": "train"}, filter=conditions).read("test")
    assert sorted(row["answer"] for row in found.rows) == kept


def test_a_filter_sees_the_columns_of_the_file_and_not_what_is_read_out_of_them(tmp_path: Path) -> None:
    records = [{"prompt": f"{n}?", "answer": {"final": "4", "type": kind}} for n, kind in enumerate("xy")]
    columns = {"answer": "answer.final", "group": "answer.type"}
    for conditions in ({"answer.type": "y"}, {"group": "y"}, {"answer.type": {"in": ["y"]}, "group": "y"}):
        assert [row["id"] for row in task(tmp_path, *records, columns=columns, filter=conditions).rows("test")] == [
            "mine-2"
        ]


# -- files -----------------------------------------------------------------------------------------------------------
RECORDS = [{"prompt": f"What is {n}?", "answer": value} for n, value in enumerate(("007", "NA", "1984-04-04", "a,b"))]


def written(folder: Path, kind: str) -> str:
    """The records as files of a kind; the path that reads them."""
    import datasets
    import pandas as pd

    table = pd.DataFrame(RECORDS)
    match kind:
        case "csv":
            table.to_csv(folder / "a.csv", index=False, quoting=csv.QUOTE_NONNUMERIC)
        case "json":
            (folder / "a.json").write_text(json.dumps(RECORDS))
        case "jsonl":
            path = lines(folder / "a.jsonl", *RECORDS)
            path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\n")
        case "parquet":
            table.to_parquet(folder / "a.parquet")
        case "folder":
            (folder / "data").mkdir()
            table[:2].to_parquet(folder / "data" / "train-00000-of-00002.parquet")
            table[2:].to_parquet(folder / "data" / "train-00001-of-00002.parquet")
            table[:1].to_parquet(folder / "data" / "trainer.parquet")
            return str(folder)
        case "saved":
            datasets.DatasetDict({"train": datasets.Dataset.from_list(RECORDS)}).save_to_disk(folder / "saved")
            return str(folder / "saved")
    return str(folder / f"a.{kind}")


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "parquet", "folder", "saved"])
def test_texts_stay_what_they_are_in_every_kind_of_file(kind: str, tmp_path: Path) -> None:
    mine = Dataset(path=written(tmp_path, kind), splits={"test": "train"}, verifier="text", chat=False)
    assert [row["answer"] for row in mine.rows("test")] == [record["answer"] for record in RECORDS]


def test_several_files_are_one_split(tmp_path: Path) -> None:
    parts = [str(lines(tmp_path / f"{n}.jsonl", {"prompt": f"{n}?", "answer": "1"})) for n in range(3)]
    mine = Dataset(path={"train": parts[:2], "test": parts[2]}, chat=False, instructions=False)
    assert [row["prompt"] for row in mine.rows("train")] == ["0?", "1?"]
    assert mine.splits == {"train": "train", "test": "test"}


def test_a_split_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    lines(tmp_path / "train.jsonl", HELD_OUT)
    with pytest.raises(ValueError, match=r"has no file of split 'tset', its files are of train"):
        Dataset(path=str(tmp_path), splits={"train": "train", "test": "tset"}).rows("test")
    lines(tmp_path / "test.jsonl")
    with pytest.raises(ValueError, match=r"has no question for the split test: 0 read"):
        Dataset(path=str(tmp_path)).rows("test")


@pytest.mark.parametrize(("name", "read"), [("a.parquet", "a.parquet"), ("dataset_dict.json", ".")])
def test_a_broken_file_is_named(name: str, read: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=f"{re.escape(str(tmp_path / read))} cannot be read: "):
        Dataset(path=str(tmp_path / read), splits={"test": "train"}).rows("test")


def test_the_hub_is_not_asked_unless_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=r"the hub is not asked unless HF_HUB_OFFLINE=0 is set; task.path may name a"):
        Dataset(layout="gsm8k").rows("test", 3)


def test_a_long_file_is_drawn_from_in_flat_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(size: int) -> Iterator[Any]:
        return (("long.jsonl", n, {"prompt": f"Question {n}?", "answer": "1"}) for n in range(size))

    mine = task(tmp_path, HELD_OUT)
    peaks = []
    for size in (400, 4_000):
        monkeypatch.setattr("experiments.tasks.dataset.read_source", lambda *_, size=size, **__: rows(size))
        tracemalloc.start()
        assert len(mine.rows("test", 40)) == 40
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0], peaks


# -- what cannot be used ---------------------------------------------------------------------------------------------
WORLD = {"start": {"key": "box"}, "goal": {"key": "bag"}, "places": ["box", "bag"]}


@pytest.mark.parametrize(
    ("record", "verifier", "reason"),
    [
        ([1], "math", "expected an object"),
        ({"answer": "1"}, "math", "no column 'question', there are answer"),
        ({"prompt": "a", "question": "b", "answer": "1"}, "math", "prompt and question found"),
        ({"prompt": 3.5, "anser": "1"}, "math", "no column 'answer', there are prompt, anser (did you mean anser?)"),
        ({"prompt": True, "answer": "1"}, "math", "question is True, expected text"),
        ({"prompt": "a"}, "math", "no column 'answer'"),
        ({"prompt": "a", "answer": None}, "math", "answer is None, expected text"),
        ({"prompt": "a", "answer": " "}, "math", "answer is ' ', expected text that is not empty"),
        ({"prompt": "a", "answer": "\\int_0^1"}, "math", "which the verifier math cannot use"),
        ({"prompt": "a", "answer": ["1", "2"]}, "math", "which the verifier math does not take"),
        ({"prompt": "a", "answer": ["1", "2"]}, ("text", "math"), "which the verifier math does not take"),
        ({"prompt": "a", "answer": []}, "text", "answer is [], which the verifier text cannot use"),
        ({"prompt": "a", "answer": ["x", 1]}, "token_f1", "which the verifier token_f1 cannot use"),
        ({"prompt": "a", "answer": "a cat"}, "choice", "answer is 'a cat', which the verifier choice cannot use"),
        ({"prompt": "a", "answer": "B", "choices": ["x", "y"]}, "math", "choices need task.verifier: choice"),
        ({"prompt": "a", "answer": "C", "choices": ["x", "y"]}, "choice", "which the verifier choice cannot use"),
        ({"prompt": "a", "answer": "A", "choices": 3}, "choice", "choices is 3, expected a list"),
        ({"prompt": "a", "answer": "A", "choices": ["x", None]}, "choice", "choices[1] is None, expected text"),
        ({"prompt": "a", "answer": "A", "choices": [["x"], ["y"]]}, "choice", "choices[0] is ['x'], expected text"),
        ({"prompt": "a", "answer": "A", "choices": [{"text": "x"}, {}]}, "choice", "choices[0] is {'text': 'x'}, exp"),
        ({"prompt": "a", "answer": [[1]]}, "text", "answer is [[1]], which the verifier text cannot use"),
        ({"prompt": "a", "answer": "1", "solution": ["x"]}, "math", "solution is ['x'], expected text"),
        ({"prompt": "a", "answer": "A", "choices": ["x"]}, "choice", "choices has 1 options, expected from 2 to 26"),
        ({"prompt": "a", "answer": json.dumps(WORLD | {"places": ["box"]})}, "state", "the verifier state cannot use"),
        ({"prompt": "a", "answer": "1", "group": [1.5]}, "math", "group is [1.5], expected text"),
    ],
)
def test_the_error_names_file_and_line_and_the_share(record: Any, verifier: Any, reason: str, tmp_path: Path) -> None:
    fine = {
        "choice": {"prompt": "fine", "answer": "A"},
        "state": {"prompt": "fine", "answer": json.dumps(WORLD)},
    }.get(verifier, {"prompt": "fine", "answer": "1"})
    with pytest.raises(
        ValueError, match=rf"mine\.jsonl:2: .*{re.escape(reason)}.*1 of 2 rows.*, 50.00%, cannot be used"
    ):
        task(tmp_path, fine, record, verifier=verifier).rows("test")
    lenient = task(tmp_path, fine, record, verifier=verifier, unreadable=0.5)
    assert len(lenient.rows("test")) == 1 and lenient.read("test").unreadable == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"question": "How', "not JSON"),
        ('{"question": "\udcff", "answer": "1"}', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("7", "expected an object"),
    ],
)
def test_a_broken_line_is_told_by_its_number(line: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_bytes(f"{json.dumps(HELD_OUT)}\n\n{line}\n".encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=rf"mine\.jsonl:3: {reason}"):
        Dataset(path=str(tmp_path / "mine.jsonl"), splits={"test": "train"}).rows("test")


def test_a_row_of_csv_that_does_not_suit_its_header_is_told_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('prompt,answer\n"two\nlines?",1\nthree?,1,2\n')
    with pytest.raises(ValueError, match=r"a\.csv:4: 3 cells do not suit the header prompt, answer"):
        Dataset(path=str(tmp_path / "a.csv"), splits={"test": "train"}).rows("test")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"layout": "gsm9k"}, "task.layout: 'gsm9k' is not one of gsm8k, .* .did you mean gsm8k"),
        ({"layout": "gsm8k", "columns": {"answer": "a"}}, "task.columns: the layout gsm8k says where they are"),
        ({"path": None}, "task.path: missing"),
        ({"path": "absent.jsonl"}, "task.path: absent.jsonl is not a file or folder here"),
        ({"path": "x" * 5000}, "is not a file or folder here, nor a hub name"),
        ({"path": {"tran": "a/b"}}, "task.(splits|path): 'tran' is not one of train, validation, test"),
        ({"columns": {"gold": "a"}}, "task.columns: 'gold' is not one of question, answer"),
        ({"filter": {"level": {"abov": 1}}}, r"task.filter.level.abov: unknown condition.*did you mean above"),
        ({"filter": {"level": {"above": "1"}}}, "task.filter.level.above: '1' is not a number"),
        ({"prompt": "Solve {question"}, r"task.prompt: 'Solve {question' has no {column}, expected one at least"),
        ({"held_out": 0.7}, "task.held_out: 0.7 is not above 0 and below .5"),
        ({"unreadable": 1.0}, "task.unreadable: 1.0 is not from 0"),
        ({"train_size": 0}, "task.train_size: 0 is below 1"),
        ({"max_prompt_tokens": 0}, "task.max_prompt_tokens: 0 is below 1"),
        ({"verifier": "maths"}, "did you mean math"),
    ],
)
def test_a_section_that_cannot_be_read_is_refused(settings: Any, said: str) -> None:
    with pytest.raises((ValueError, ConfigError), match=said):
        Dataset(**{"path": "some/set", **settings})


@pytest.mark.parametrize(
    "wordings",
    [
        ("What is x^2?", "what is  X^2 ", "What is x²."),
        ("Held out?", "“HELD   out”", "'held out'", "``Held'' out..."),
        ("What is 5?", "what is '5'", "What is 5?!"),
        ("What is (n!)?", "what is ( n! ) ?", 'What is "(n!)"'),
        ("Don't stop! Is it 1, 2 or 3?", "don’t stop: is it 1,2 or 3"),
        ("5 + 1 ?\nAnswer.", "5+1?\nanswer"),
    ],
)
def test_keys_are_the_same_for_wordings_of_a_question(wordings: tuple[str, ...]) -> None:
    assert len({question_key(each) for each in wordings}) == 1


@pytest.mark.parametrize(
    "different",
    [
        ("3 - 4", "3 + 4", "3 / 4", "34", "3^4", r"\frac{3}{4}", "(3) 4"),
        ("5?", "5!?", ".5?", "5!!?", "5'?", '5"?', "-5?"),
        ("1:2", "1.2", "1,2", "12"),
        ("find f(2)", "find f'(2)", "find f''(2)"),
        ("find f at 2", "find f' at 2", "find f'' at 2"),
        ("x = 3", "x != 3", "x := 3"),
        ("5 ? 3 = 8", "5 3 = 8"),
        ("1, 2, ..., 9", "1, 2, 9"),
        ("5²", "52", "5₂^"),
        ("2½", "21/2"),
        ("p and q", "p and !q"),
    ],
)
def test_keys_keep_what_changes_a_question(different: tuple[str, ...]) -> None:
    assert len({question_key(each) for each in different}) == len(different)


@pytest.mark.parametrize(
    ("question", "split"), [("3+8", "train"), ("4+8", "test"), ("1+5", "warmup"), ("1-3", "validation")]
)
def test_splits_that_embedded_policies_were_trained_on_stay(question: str, split: str) -> None:
    assert split_of(question) == split


def test_keys_do_not_depend_on_the_order_of_choices() -> None:
    same = {question_key("Which?", each) for each in (["a", "B"], ["b", "A"], ["B.", "a"])}
    assert len(same) == 1 and not same & {question_key("Which?", ["a", "c"]), question_key("Which?")}
