"""Chains: solutions whose every step is right, disjoint splits that never change, manners in their shares."""

from __future__ import annotations

import hashlib
import itertools
import json
import operator
import os
import random
import re
import subprocess
import sys
from collections import Counter

import pytest

from experiments.errors import ConfigError
from experiments.tasks import Arithmetic
from experiments.tasks.arithmetic import (
    MANNERS,
    RECHECK,
    SEPARATOR,
    SPLITS,
    Chain,
    draw_chain,
    questions,
    written_solution,
)
from experiments.tasks.prompts import build_prompt
from rewards.template import AnswerTemplate

GOLDEN: dict[str, tuple[list[str], str]] = {
    "warmup": (["9*8+3+4-20", "24+1+18-36+35", "11-9"], "d0e4d87c29580994"),
    "train": (["8*2", "2*5-3*3-1", "17-16-1+12"], "d361af7289267748"),
    "validation": (["9*4", "2*5-1+3*5", "5-5+15-10-3+11"], "65d5652661840284"),
    "test": (["16-11-1-1", "9*3-20-3*2+11", "1-1+37-20+47-64"], "ecf8664d478b846e"),
    "shifted": (["3*7+4*2-10-7*2+14", "45+4*8-12+2+5*2", "22+4-7-17-2+5*4-18"], "71156dbb1c843097"),
}
"""First ids and a hash of 200 rows of each split, seed 0: every published number rests on these questions."""
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def value_of(text: str) -> int:
    """Computes a chain by itself: products first, then the rest as signed terms."""
    total = 0
    for sign, term in re.findall(r"([-+]?)([^-+]+)", text):
        product = 1
        for factor in term.split("*"):
            product *= int(factor)
        total += -product if sign == "-" else product
    return total


def fingerprint(split: str) -> tuple[list[str], str]:
    rows = list(questions(split, 200, seed=0))
    return [row["id"] for row in rows[:3]], hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]


@pytest.mark.parametrize("split", SPLITS)
def test_the_questions_never_change(split: str) -> None:
    assert fingerprint(split) == GOLDEN[split]


def test_the_questions_are_the_same_in_another_process() -> None:
    program = "from experiments.tasks.arithmetic import questions; print(*[r['id'] for r in questions('test', 3)])"
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    told = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.split() == GOLDEN["test"][0]


def test_no_question_nor_its_commuted_twin_is_in_two_splits() -> None:
    seen = {}
    for split in SPLITS:
        rows = questions(split, 1500, max_steps=2)
        seen[split] = {"+".join(sorted(row["id"].split("+"))) if row["difficulty"] == 1 else row["id"] for row in rows}
    for one in SPLITS:
        for other in SPLITS:
            assert one == other or seen[one].isdisjoint(seen[other])
    assert Chain("8+3", 11, ("8+3=11",)).twin == Chain("3+8", 11, ("3+8=11",)).twin
    assert Chain("8-3", 5, ("8-3=5",)).twin != Chain("3-8", -5, ("3-8=-5",)).twin


def test_questions_to_measure_on_are_distinct_and_end_while_those_to_train_on_repeat() -> None:
    assert len({row["id"] for row in questions("test", 1000)}) == 1000
    with pytest.raises(ValueError, match=r"split 'test' has only \d+ distinct questions, 999 were asked for"):
        list(questions("test", 999, max_steps=1, max_value=19))
    ids = [row["id"] for row in questions("train", 500, max_steps=1, max_value=9)]
    assert len(set(ids)) < len(ids) == 500


@pytest.mark.parametrize("split", SPLITS)
def test_every_step_of_a_solution_is_right_and_leads_to_the_answer(split: str) -> None:
    for row in questions(split, 300):
        asked = row["id"]
        assert row["answer"] == str(value_of(asked))
        steps = row["solution"].split(SEPARATOR)
        assert len(steps) == row["difficulty"] == len(re.findall(r"[-+*]", asked))
        for step in steps:
            left, sign, right, result = re.fullmatch(r"(\d+)([-+*])(\d+)=(\d+)", step).groups()
            assert OPERATIONS[sign](int(left), int(right)) == int(result)
            assert max(int(left), int(right), int(result)) <= 79
        assert steps[-1].endswith(f"={row['answer']}")
        assert row["question"] == f"{asked}="


def test_lengths_and_limits_are_graded_and_the_shifted_split_is_longer() -> None:
    rows = list(questions("warmup", 6000))
    groups = Counter(row["group"] for row in rows)
    assert set(groups) == {"1 step", *(f"{steps} steps" for steps in range(2, 6))}
    assert all(count == pytest.approx(1200, abs=160) for count in groups.values())
    # Of a fifth whose numbers may exceed 49, some do.
    largest = [max(map(int, re.findall(r"\d+", row["id"]))) for row in rows]
    assert sum(each > 49 for each in largest) / 6000 == pytest.approx(0.08, abs=0.03)
    assert {row["difficulty"] for row in questions("shifted", 200)} == {6, 7}
    assert {row["group"] for row in questions("test", 50, max_steps=1, max_value=29)} == {"1 step"}


@pytest.mark.parametrize("limit", [9, 29, 99])
def test_chains_of_any_length_stay_within_their_limit(limit: int) -> None:
    generator = random.Random(0)
    for operations in range(1, 13):
        for _ in range(50):
            chain = draw_chain(generator, operations, limit)
            assert len(chain.steps) == operations
            assert all(int(number) <= limit for number in re.findall(r"\d+", " ".join((chain.text, *chain.steps))))


def test_a_recheck_repeats_the_step_before_it() -> None:
    chain = Chain("72-4-5*5", 43, ("72-4=68", "5*5=25", "68-25=43"))
    generator = random.Random(0)
    assert written_solution(chain, "direct", generator) is None
    assert written_solution(chain, "worked", generator) == "72-4=68;5*5=25;68-25=43"
    rechecks = Counter()
    for _ in range(50):
        steps = written_solution(chain, "checked", generator).split(SEPARATOR)
        for before, step in itertools.pairwise(steps):
            assert not step.startswith(RECHECK) or step == RECHECK + before
        assert [step for step in steps if not step.startswith(RECHECK)] == list(chain.steps)
        rechecks[len(steps) - 3] += 1
    assert set(rechecks) == {1, 2}


def test_demonstrations_come_in_the_shares_of_their_manners() -> None:
    task = Arithmetic(manners={"direct": 0.6, "worked": 0.3, "checked": 0.1}, train_split="warmup", train_size=4000)
    seen = Counter(
        "direct" if row["solution"] is None else "checked" if RECHECK in row["solution"] else "worked"
        for row in task.rows("train")
    )
    assert {manner: count / 4000 for manner, count in seen.items()} == pytest.approx(
        {"direct": 0.6, "worked": 0.3, "checked": 0.1}, abs=0.03
    )


def test_the_manner_of_a_completion_is_that_of_its_demonstration() -> None:
    template = AnswerTemplate(confidence="none")
    chain = Chain("7-4", 3, ("7-4=3",))
    for manner in MANNERS:
        thinking = written_solution(chain, manner, random.Random(0))
        assert Arithmetic(template=template).manner(template.render("3", thinking=thinking)) == manner


def test_what_is_asked_wrongly_is_refused() -> None:
    with pytest.raises(ValueError, match="'tset' is not one of warmup, train, validation, test, shifted"):
        list(questions("tset", 1))
    for wrong in ({"train_size": 0}, {"max_steps": 0}, {"max_steps": 13}, {"max_value": 8}, {"max_value": 100}):
        with pytest.raises(ValueError, match=rf"task\.{next(iter(wrong))}: {next(iter(wrong.values()))} is"):
            Arithmetic(**wrong)
    with pytest.raises(ConfigError, match=r"task\.manners\.work: unknown key, allowed: direct, worked, checked \(did"):
        Arithmetic(manners={"work": 1.0})
    for shares in ({"worked": -1.0, "direct": 2.0}, {"worked": 0.0}, {}):
        with pytest.raises(ValueError, match=r"task\.manners: .* are not shares"):
            Arithmetic(manners=shares)


def test_the_task_trains_on_the_split_it_is_told() -> None:
    warmup, reinforced = Arithmetic(train_split="warmup", train_size=20), Arithmetic(train_size=20)
    assert [row["id"] for row in warmup.rows("train")] == [row["id"] for row in questions("warmup", 20)]
    assert [row["id"] for row in reinforced.rows("train")] == [row["id"] for row in questions("train", 20)]
    assert len(reinforced.rows("test", 7)) == 7
    assert Arithmetic(train_size=5, seed=3).rows("train") == Arithmetic(train_size=5).rows("train", seed=3)


def test_prompts_take_the_asked_form() -> None:
    template = AnswerTemplate(levels=("0.1", "0.9"))
    asked = GOLDEN["test"][0][0] + "="
    plain = Arithmetic(template=template).rows("test", 1)[0]
    assert plain["prompt"] == asked
    assert "question" not in plain
    told = Arithmetic(template=template, instructions=True).rows("test", 1)[0]["prompt"]
    assert told == f"{template.instructions()}\n\n{asked}"
    assert Arithmetic(template=template, chat=True, instructions=True).rows("test", 1)[0]["prompt"] == [
        {"role": "user", "content": told}
    ]
    assert build_prompt("Q", template, chat=True, instructions=False) == [{"role": "user", "content": "Q"}]
