"""Tasks: disjoint splits that never change, answers that are right, files whose errors name the line."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from experiments.tasks import TASKS, Arithmetic, Gsm8k
from experiments.tasks.arithmetic import SPLITS, kinds_of, number_in_words, questions
from experiments.tasks.prompts import build_prompt
from rewards.template import AnswerTemplate

GOLDEN = {
    "warmup": (["5+634", "4*79", "822*166", "248+69"], "a67fbc7c50bd3a58"),
    "train": (["850*819", "46*24", "470*126", "90-39"], "6a0b4825a2287f0b"),
    "validation": (["670-139", "214*3", "51*98", "19*405"], "513d88be2bd283f5"),
    "test": (["79*88", "788*597", "696+61", "7+74"], "60d7e4e773d49662"),
    "shifted": (["2729*90", "2310*74", "9321*46", "9842*6517"], "622b49eeefbd6281"),
}
"""First ids and a hash of 200 rows of each split, seed 0: every published number rests on these questions."""


def parts(row: dict) -> tuple[int, str, int]:
    left, operator, right = re.fullmatch(r"(\d+)([-+*])(\d+)", row["id"]).groups()
    return int(left), operator, int(right)


def twin(row: dict) -> tuple[str, tuple[int, ...]]:
    left, operator, right = parts(row)
    return operator, (left, right) if operator == "-" else tuple(sorted((left, right)))


def fingerprint(split: str) -> tuple[list[str], str]:
    rows = list(questions(split, 200, seed=0))
    return [row["id"] for row in rows[:4]], hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]


@pytest.mark.parametrize("split", SPLITS)
def test_the_questions_never_change(split: str) -> None:
    assert fingerprint(split) == GOLDEN[split]


def test_the_questions_are_the_same_in_another_process() -> None:
    program = "from experiments.tasks.arithmetic import questions; print(*[r['id'] for r in questions('test', 4)])"
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        told = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert told.stdout.split() == GOLDEN["test"][0]


def test_no_question_nor_its_commuted_twin_is_in_two_splits() -> None:
    seen = {split: {twin(row) for row in questions(split, 2500)} for split in SPLITS}
    for one in SPLITS:
        for other in SPLITS:
            assert one == other or seen[one].isdisjoint(seen[other])
    # The same questions under another seed are still the split's own.
    assert {twin(row) for row in questions("train", 2500, seed=9)}.isdisjoint(seen["test"] | seen["warmup"])


@pytest.mark.parametrize(("split", "share"), [("validation", 0.10), ("test", 0.20)])
def test_splits_to_measure_on_hold_their_share_of_all_questions(split: str, share: float) -> None:
    with pytest.raises(ValueError, match="distinct questions, 9999 were asked for") as refused:
        list(questions(split, 9999, max_digits=2))
    there_are = 100 * 100 + 100 * 101 // 2 + 100 * 100  # sums, differences that are not negative, products
    assert int(re.search(r"only (\d+)", str(refused.value))[1]) / there_are == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("split", ["validation", "test", "shifted"])
def test_questions_to_measure_on_are_distinct(split: str) -> None:
    ids = [row["id"] for row in questions(split, 3000)]
    assert len(set(ids)) == 3000


def test_questions_to_train_on_may_repeat_and_never_run_out() -> None:
    ids = [row["id"] for row in questions("train", 500, max_digits=1)]
    assert len(set(ids)) < len(ids) == 500


@pytest.mark.parametrize("split", SPLITS)
def test_answers_are_right_and_groups_name_the_kind(split: str) -> None:
    for row in questions(split, 500):
        left, operator, right = parts(row)
        value = left + right if operator == "+" else left - right if operator == "-" else left * right
        assert row["answer"] == str(value)
        assert value >= 0
        assert row["solution"] == "".join(reversed(str(value)))
        assert row["group"] == f"{len(str(left))}{operator}{len(str(right))}" or operator == "-"
        assert row["source"] == "arithmetic"


def test_operators_and_kinds_have_their_shares() -> None:
    rows = list(questions("warmup", 12_000))
    operators = Counter(parts(row)[1] for row in rows)
    shares = {operator: count / len(rows) for operator, count in operators.items()}
    assert shares == pytest.approx({"+": 1 / 6, "-": 1 / 6, "*": 2 / 3}, abs=0.02)
    products = Counter(row["group"] for row in rows if "*" in row["group"])
    assert set(products) == {f"{left}*{right}" for left in (1, 2, 3) for right in (1, 2, 3)}
    total = sum(products.values())
    for group, count in products.items():  # an operand is as often three digits long as shorter
        longest = group.count("3")
        assert count / total == pytest.approx(0.25 ** (2 - longest) * 0.5**longest, abs=0.02)


def test_difficulty_covers_easy_to_hopeless_and_orders_kinds() -> None:
    difficulties = Counter(row["difficulty"] for row in questions("test", 3000))
    assert set(difficulties) == {2, 3, 4, 5, 6, 8, 12, 18}
    assert all(count > 30 for difficulty, count in difficulties.items() if difficulty != 2)
    kinds = {str(kind): kind.difficulty for group in kinds_of(3).values() for kind in group}
    assert kinds["3+3"] == 6 < kinds["2*2"] == 8 < kinds["3*3"] == 18
    assert kinds["1*3"] == kinds["3*1"]


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_shifted_operands_are_one_digit_longer_than_any_other(digits: int) -> None:
    longest = max(
        len(str(operand)) for row in questions("train", 500, max_digits=digits) for operand in parts(row)[::2]
    )
    shifted = [
        max(len(str(operand)) for operand in parts(row)[::2]) for row in questions("shifted", 500, max_digits=digits)
    ]
    assert longest == digits
    assert set(shifted) == {digits + 1}


def test_a_seed_draws_other_questions_of_the_same_split() -> None:
    first, second = ([row["id"] for row in questions("test", 50, seed=seed)] for seed in (0, 1))
    assert first != second


def test_symbols_are_padded_to_one_width() -> None:
    rows = list(questions("test", 300))
    assert {len(row["question"]) for row in rows} == {8}
    assert {len(row["question"]) for row in questions("shifted", 50)} == {10}
    for row in rows:
        left, operator, right = parts(row)
        assert row["question"] == f"{left:03d}{operator}{right:03d}="


UNITS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen"""
SMALL = {word: value for value, word in enumerate(UNITS.split())}
TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}


def value_of(words: str) -> int:
    """Reads English number words from left to right, the way a person adds them up."""
    sign, total, part = 1, 0, 0
    for word in words.replace("-", " ").split():
        if word == "minus":
            sign = -1
        elif word == "hundred":
            part *= 100
        elif word == "thousand":
            total, part = total + part * 1000, 0
        else:
            part += SMALL[word] if word in SMALL else TENS[word]
    return sign * (total + part)


def test_numbers_in_words_are_read_back() -> None:
    for value in [*range(10_000), 10_000, 19_019, 100_000, 340_900, 999_999]:
        words = number_in_words(value)
        assert value_of(words) == value, words
        assert value == 0 or "zero" not in words
        assert re.fullmatch(r"[a-z]+([ -][a-z]+)*", words)
    assert number_in_words(-21) == "minus twenty-one"
    assert len({number_in_words(value) for value in range(10_000)}) == 10_000


def test_questions_in_words_are_the_same_questions() -> None:
    names = {"plus": "+", "minus": "-", "times": "*"}
    symbols, words = (list(questions("test", 200, style=style)) for style in ("symbols", "words"))
    assert [row["id"] for row in symbols] == [row["id"] for row in words]
    for row in words:
        left, name, right = re.fullmatch(r"What is (.+) (plus|minus|times) (.+)\?", row["question"]).groups()
        assert (value_of(left), names[name], value_of(right)) == parts(row)


def test_what_is_asked_wrongly_is_refused() -> None:
    with pytest.raises(ValueError, match="'tset' is not one of warmup, train, validation, test, shifted"):
        list(questions("tset", 1))
    with pytest.raises(ValueError, match="'roman' is not one of symbols, words"):
        list(questions("test", 1, style="roman"))
    with pytest.raises(ValueError, match="only 42 distinct questions, 43 were asked for"):
        list(questions("test", 43, max_digits=1))
    assert len(list(questions("test", 42, max_digits=1))) == 42
    for wrong in ({"train_size": 0}, {"max_digits": 0}, {"max_digits": 6}):
        with pytest.raises(ValueError, match=rf"task\.{next(iter(wrong))}: {next(iter(wrong.values()))} is"):
            Arithmetic(**wrong)


def test_the_task_trains_on_the_split_it_is_told() -> None:
    warmup, reinforced = Arithmetic(train_split="warmup", train_size=20), Arithmetic(train_size=20)
    assert [row["id"] for row in warmup.rows("train")] == [row["id"] for row in questions("warmup", 20)]
    assert [row["id"] for row in reinforced.rows("train")] == [row["id"] for row in questions("train", 20)]
    assert len(reinforced.rows("test", 7)) == 7
    assert Arithmetic(train_size=5, seed=3).rows("train") == Arithmetic(train_size=5).rows("train", seed=3)


def test_prompts_take_the_asked_form() -> None:
    template = AnswerTemplate(levels=("0.1", "0.9"))
    plain = Arithmetic(template=template).rows("test", 1)[0]
    assert plain["prompt"] == "079*088="
    assert "question" not in plain
    told = Arithmetic(template=template, instructions=True).rows("test", 1)[0]["prompt"]
    assert told == f"{template.instructions()}\n\n079*088="
    assert build_prompt("Q", template, chat=True, instructions=False) == [{"role": "user", "content": "Q"}]
    assert Arithmetic(template=template, chat=True, instructions=True).rows("test", 1)[0]["prompt"] == [
        {"role": "user", "content": told}
    ]


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
