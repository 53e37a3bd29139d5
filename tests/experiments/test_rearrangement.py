"""The embedded world for the end-state verifier: right answers are right, splits disjoint, a policy trains on it."""

from __future__ import annotations

import pytest

from experiments.tasks.rearrangement import KINDS, Rearrangement, worlds
from experiments.tasks.splits import SPLITS
from rewards.template import AnswerTemplate
from rewards.verifiers.state import judge, read_gold


@pytest.mark.parametrize("split", SPLITS)
def test_every_demonstration_reaches_its_goal_in_the_fewest_moves(split: str) -> None:
    rows = list(worlds(split, 150))
    assert {row["group"] for row in rows} == set(KINDS)
    for row in rows:
        *moves, claim = row["demonstration"].splitlines()
        assert len(moves) == row["difficulty"] >= 1
        judged = {
            "success": [*moves, claim],
            "false_failure": [*moves, "failure"],
            "false_success": [*moves[1:], "success"],
            "honest_failure": ["failure"],
        }
        for reason, lines in judged.items():
            verdict = judge(row["answer"], "\n".join(lines))
            assert verdict == (float(reason == "success"), reason)


def test_the_wish_says_what_the_gold_asks_for() -> None:
    for row in worlds("train", 300, seed=2):
        world = read_gold(row["answer"])
        assert world is not None
        places, *objects, wish, _ = row["question"].splitlines()
        assert {line.split()[1]: line.split()[-1].strip(".") for line in objects} == world.start
        assert set(places.removeprefix("The places: ").strip(".").split(", ")) == world.places
        words = wish.replace(",", "").split()
        expected = dict(world.start)
        if row["group"] == "swap":
            left, right = words[4], words[7]
            expected |= {left: world.start[right], right: world.start[left]}
        elif row["group"] == "beside":
            expected[words[4]] = world.start[words[7]]
        elif row["group"] == "gather":
            source, target = words[8], words[11]
            expected |= {name: target for name, place in world.start.items() if place == source}
        else:
            expected |= {words[at + 2]: words[at + 5] for at, word in enumerate(words) if word == "put"}
        assert expected == world.goal


def test_splits_share_no_world_and_those_to_measure_on_no_row() -> None:
    drawn = {split: [row["answer"] for row in worlds(split, 400, max_objects=3, max_places=3)] for split in SPLITS}
    for split in SPLITS:
        others = {gold for other in SPLITS if other != split for gold in drawn[other]}
        assert others.isdisjoint(drawn[split])
    assert len(set(drawn["test"])) == 400
    assert list(worlds("test", 5, seed=1)) == list(worlds("test", 5, seed=1)) != list(worlds("test", 5))
    with pytest.raises(ValueError, match="distinct questions, more were asked for"):
        list(worlds("validation", 2000, max_objects=2, max_places=2))


def test_the_task_asks_with_instructions_and_refuses_what_makes_no_world() -> None:
    task = Rearrangement(train_size=4, template=AnswerTemplate(thinking="none"))
    row = task.rows("train")[0]
    assert row["prompt"][0]["content"].startswith(task.template.instructions())
    assert [each["id"] for each in task.rows("train")] == [each["id"] for each in worlds("train", 4)]
    warmup = Rearrangement(train_split="warmup", train_size=4)
    assert [each["id"] for each in warmup.rows("train")] == [each["id"] for each in worlds("warmup", 4)]
    for wrong in ({"max_objects": 1}, {"max_places": 9}, {"train_size": 0}):
        with pytest.raises(ValueError, match=rf"task\.{next(iter(wrong))}: "):
            Rearrangement(**wrong)
