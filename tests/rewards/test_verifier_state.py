"""Claims of success against what the actions reached."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.verifiers.state import MAX_ACTIONS, World, judge, read_gold
from rewards.verifiers.verifier import Verdict

PLACES = ["table", "shelf", "top drawer"]
GOLD = json.dumps({"start": {"key": "table", "red cup": "shelf"}, "goal": {"key": "top drawer"}, "places": PLACES})
REACHED = "move key to top drawer\n"


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (REACHED + "success", (1.0, "success")),
        (REACHED + "Success.", (1.0, "success")),
        ("\n  MOVE  Key to the moon\n\nMove KEY to Top  Drawer\nSUCCESS\n\n", (1.0, "success")),
        ("move key to shelf\nmove key to top drawer\nmove red cup to table\nsuccess", (1.0, "success")),
        ("move key to shelf\nsuccess", (0.0, "false_success")),
        ("success", (0.0, "false_success")),
        (REACHED + "move key to table\nsuccess", (0.0, "false_success")),
        ("move the key to top drawer\nsuccess", (0.0, "false_success")),
        ("move key to drawer\nsuccess", (0.0, "false_success")),
        ("take key to top drawer\nsuccess", (0.0, "false_success")),
        (REACHED + "failure", (0.0, "false_failure")),
        (REACHED + "success\nfailure", (0.0, "false_failure")),
        ("failure", (0.0, "honest_failure")),
        ("move key to shelf\nfailure", (0.0, "honest_failure")),
        (REACHED, (0.0, "unparsed")),
        (REACHED + "success!", (0.0, "unparsed")),
        (REACHED + "not a success", (0.0, "unparsed")),
        ("success\n" + REACHED, (0.0, "unparsed")),
        ("", (0.0, "unparsed")),
        (REACHED * (MAX_ACTIONS + 1) + "success", (0.0, "unparsed")),
        (REACHED * MAX_ACTIONS + "success", (1.0, "success")),
    ],
)
def test_claims(answer: str, verdict: tuple[float, str]) -> None:
    assert judge(GOLD, answer) == verdict


def gold_with(**changes: object) -> str:
    return json.dumps({**json.loads(GOLD), **changes})


@pytest.mark.parametrize(
    "gold",
    [
        *("", "success", "[]", "{}", "1", "null", "[" * 20_000, GOLD[:-1]),
        gold_with(goal={}),
        gold_with(goal={"pen": "table"}),
        gold_with(goal={"key": "moon"}),
        gold_with(start={"key": "moon"}),
        gold_with(start={"key": "table", "KEY": "shelf"}),
        gold_with(start={"key": 1}),
        gold_with(start=["key"]),
        gold_with(places="table"),
        gold_with(places=[*PLACES, "Table"]),
        gold_with(places=[*PLACES, " "]),
        gold_with(places=[*PLACES, "road to nowhere"]),
    ],
)
def test_a_gold_that_is_no_world_is_unusable(gold: str) -> None:
    assert judge(gold, REACHED + "success") == Verdict(None, "bad_gold")


names = st.sampled_from(["key", "cup", "pen", "moon", "to", "", "box of tea"])
places = st.sampled_from(["table", "shelf", "drawer", "nowhere", "to", ""])
actions = st.lists(st.tuples(st.sampled_from(["move", "take", "MOVE"]), names, places), max_size=12)


@settings(deadline=None, max_examples=50)
@given(actions, st.sampled_from(["success", "failure"]))
def test_verdict_follows_a_replay_of_the_moves(steps: list[tuple[str, str, str]], claim: str) -> None:
    start = {"key": "table", "cup": "shelf", "box of tea": "drawer"}
    goal = {"key": "shelf", "box of tea": "table"}
    where = dict(start)
    for verb, name, place in steps:
        if verb.lower() == "move" and name in start and place in ("table", "shelf", "drawer"):
            where[name] = place
    reached = where["key"] == "shelf" and where["box of tea"] == "table"
    gold = json.dumps({"start": start, "goal": goal, "places": ["table", "shelf", "drawer"]})
    answer = "\n".join([*(f"{verb} {name} to {place}" for verb, name, place in steps), claim])
    expected = {
        (True, "success"): "success",
        (False, "success"): "false_success",
        (True, "failure"): "false_failure",
        (False, "failure"): "honest_failure",
    }[reached, claim]
    assert judge(gold, answer) == Verdict(float(expected == "success"), expected)


def test_only_a_true_claim_of_success_pays() -> None:
    """Failing on purpose and saying so must not earn what success earns."""
    answers = [REACHED + "success", "success", REACHED + "failure", "failure", "gibberish"]
    assert [judge(GOLD, answer).correct for answer in answers] == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_a_world_is_not_changed_by_judging() -> None:
    world = read_gold(GOLD)
    assert isinstance(world, World)
    world.after(["move key to shelf"])
    assert world.start["key"] == "table"


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=80), st.one_of(st.just(GOLD), st.text(max_size=40)))
def test_any_text_gets_a_verdict(answer: str, gold: str) -> None:
    assert judge(gold, answer).correct in (0.0, 1.0, None)
