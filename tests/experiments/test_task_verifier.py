"""A recipe chooses what judges its answers, and that choice is what training, checkpoint and probe go by."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.tasks import TASKS, Arithmetic
from rewards.verifiers.pessimistic import PessimisticPool
from rewards.verifiers.pool import VERIFIERS, VerifierPool
from tests.factories import Refusal


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        (["task.verifier=maths"], ["task.verifier: 'maths' is not one of math, text, token_f1", "did you mean math?"]),
        (["task.verifier=choice"], ["task.verifier: 'choice' is not one of"]),
        (["task.verifier=[math, txt]"], ["task.verifier: 'txt' is not one of", "did you mean text?"]),
        (["task.verifier=[math, math]"], ["task.verifier: math, math names one twice"]),
        (["task.verifier=[]"], ["task.verifier: names none", "allowed: math, text, token_f1"]),
        (["task.verifier=3"], ["task.verifier: 3 is not a text or list"]),
        (["task.verifer=math"], ["task.verifer: unknown key", "did you mean verifier?"]),
        (["task.verifier=[math, text]", "task.verifier_beta=-1"], ["task.verifier_beta: -1.0 is not from 0 up"]),
        (["task.verifier_beta=0.5"], ["task.verifier_beta: 0.5 has no effect with one verifier"]),
    ],
)
def test_a_wrong_choice_is_told_from_a_right_one(override: list[str], parts: list[str], refusal: Refusal) -> None:
    message = refusal.recipe("rlvr", *override)
    assert all(part in message for part in parts), message


def test_every_task_names_verifiers_that_there_are_and_defaults_to_one_of_them_or_to_its_datas() -> None:
    for kind in TASKS.values():
        assert set(kind.verifiers) <= VERIFIERS.keys()
        assert kind.__dataclass_fields__["verifier"].default in (None, *kind.verifiers)


@pytest.mark.parametrize(
    ("choice", "kind", "graded"),
    [
        ({}, VerifierPool, False),
        ({"verifier": ("text",)}, VerifierPool, False),
        ({"verifier": ("math", "text")}, PessimisticPool, False),
        ({"verifier": ("math", "text"), "verifier_beta": 0.1}, PessimisticPool, True),
        ({"verifier": "token_f1"}, VerifierPool, True),
        ({"verifier": ("math", "token_f1")}, PessimisticPool, True),
    ],
)
def test_one_verifier_is_a_pool_and_several_are_combined(choice: dict[str, Any], kind: type, graded: bool) -> None:
    task = Arithmetic(**choice)
    assert task.graded == graded
    with task.open_verifier() as verifier:
        assert type(verifier) is kind
        right, respelled = verifier.verify(golds=["10", "10"], answers=["10", "20/2"])
    assert right.correct == 1.0
    by_value = task.verifier_names == ("math",)
    assert respelled.correct == (1.0 if by_value else pytest.approx(0.069, abs=1e-3) if task.verifier_beta else 0.0)
