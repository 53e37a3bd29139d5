"""Options of the learning rate's schedule are those that the schedule takes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from experiments.config.recipe import load_recipe
from tests.factories import Refusal

pytestmark = pytest.mark.usefixtures("no_model_is_loaded")


# -- the learning rate's schedule --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("schedule", "options", "message"),
    [
        (
            "cosine",
            "{num_cycle: 2}",
            "trainer.lr_scheduler_kwargs.num_cycle: unknown key, allowed: num_cycles (did you mean num_cycles?)",
        ),
        ("cosine", "{optimizer: sgd}", "trainer.lr_scheduler_kwargs.optimizer: unknown key, allowed: num_cycles"),
        ("cosine", "{num_cycles: many}", "trainer.lr_scheduler_kwargs: {'num_cycles': 'many'} does not suit "),
        (
            "linear",
            "{power: 2}",
            "trainer.lr_scheduler_kwargs.power: unknown key, allowed: none, linear takes no options",
        ),
        ("reduce_lr_on_plateau", "{factr: 0.5}", "does not suit lr_scheduler_type reduce_lr_on_plateau: "),
        ("polynomial", "{lr_end: 1.0}", "does not suit lr_scheduler_type polynomial: "),
        ("cosine_with_min_lr", "{num_cycles: 0.5}", "does not suit lr_scheduler_type cosine_with_min_lr: "),
        ("cosine", "'{num_cycles'", "trainer.lr_scheduler_kwargs: '{num_cycles' is neither a mapping nor JSON"),
        ("cosine", "'[1]'", "trainer.lr_scheduler_kwargs: [1] is not a mapping"),
        ("cosine", "[1]", "trainer.lr_scheduler_kwargs: [1] is not a mapping or text or null"),
    ],
)
def test_options_that_the_schedule_does_not_take_are_refused(
    schedule: str, options: str, message: str, refusal: Refusal
) -> None:
    chosen = [f"trainer.lr_scheduler_type={schedule}", f"trainer.lr_scheduler_kwargs={options}"]
    for recipe in ("rlvr", "warm_start"):
        assert message in refusal.recipe(recipe, *chosen)


@pytest.mark.parametrize(
    ("schedule", "options"),
    [
        ("cosine", {"num_cycles": 2}),
        ("cosine_with_restarts", {"num_cycles": 2}),
        ("polynomial", {"power": 2.0, "lr_end": 1e-7}),
        ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
        ("warmup_stable_decay", {"num_decay_steps": 10, "decay_type": "cosine"}),
        ("inverse_sqrt", {"timescale": 100}),
        ("reduce_lr_on_plateau", {"factor": 0.5}),
        ("linear", {}),
    ],
)
def test_options_that_the_schedule_takes_are_taken(schedule: str, options: dict[str, Any]) -> None:
    chosen = [f"trainer.lr_scheduler_type={schedule}", f"trainer.lr_scheduler_kwargs={json.dumps(options)}"]
    assert load_recipe("rlvr", chosen).trainer["lr_scheduler_kwargs"] == options
