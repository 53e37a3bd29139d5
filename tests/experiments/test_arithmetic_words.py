"""Arithmetic in English words: numbers that are read back, disjoint splits, kinds in their shares."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from experiments.tasks import ArithmeticWords
from experiments.tasks.arithmetic_words import SPLITS, kinds_of, number_in_words, questions


def parts(row: dict) -> tuple[int, str, int]:
    left, operator, right = re.fullmatch(r"(\d+)([-+*])(\d+)", row["id"]).groups()
    return int(left), operator, int(right)


def twin(row: dict) -> tuple[str, tuple[int, ...]]:
    left, operator, right = parts(row)
    return operator, (left, right) if operator == "-" else tuple(sorted((left, right)))


def test_no_question_nor_its_commuted_twin_is_in_two_splits() -> None:
    seen = {split: {twin(row) for row in questions(split, 1500)} for split in SPLITS}
    for one in SPLITS:
        for other in SPLITS:
            assert one == other or seen[one].isdisjoint(seen[other])


@pytest.mark.parametrize(("split", "share"), [("validation", 0.10), ("test", 0.20)])
def test_splits_to_measure_on_hold_their_share_of_all_questions(split: str, share: float) -> None:
    with pytest.raises(ValueError, match="distinct questions, 9999 were asked for") as refused:
        list(questions(split, 9999, max_digits=2))
    there_are = 100 * 100 + 100 * 101 // 2 + 100 * 100  # sums, differences that are not negative, products
    assert int(re.search(r"only (\d+)", str(refused.value))[1]) / there_are == pytest.approx(share, abs=0.01)


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


def test_questions_are_read_back_and_answers_are_right() -> None:
    names = {"plus": "+", "minus": "-", "times": "*"}
    for split in SPLITS:
        for row in questions(split, 100):
            left, name, right = re.fullmatch(r"What is (.+) (plus|minus|times) (.+)\?", row["question"]).groups()
            one, operator, other = parts(row)
            assert (value_of(left), names[name], value_of(right)) == (one, operator, other)
            assert row["answer"] == str({"+": one + other, "-": one - other, "*": one * other}[operator])
            assert int(row["answer"]) >= 0


def test_what_is_asked_wrongly_is_refused() -> None:
    with pytest.raises(ValueError, match="'tset' is not one of warmup, train, validation, test, shifted"):
        list(questions("tset", 1))
    with pytest.raises(ValueError, match="only 42 distinct questions, 43 were asked for"):
        list(questions("test", 43, max_digits=1))
    assert len(list(questions("test", 42, max_digits=1))) == 42
    for wrong in ({"train_size": 0}, {"max_digits": 0}, {"max_digits": 6}):
        with pytest.raises(ValueError, match=rf"task\.{next(iter(wrong))}: {next(iter(wrong.values()))} is"):
            ArithmeticWords(**wrong)


def test_the_task_gives_prompts_of_the_split_it_is_told() -> None:
    rows = ArithmeticWords(train_split="warmup", train_size=5).rows("train")
    assert [row["id"] for row in rows] == [row["id"] for row in questions("warmup", 5)]
    assert all(row["prompt"].startswith("What is ") for row in rows)
