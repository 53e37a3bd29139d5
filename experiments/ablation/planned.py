"""One training of a study: where it is, what it has left there, and the recipes by which it is measured."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.config.recipe import Recipe, load_recipe
from experiments.errors import ConfigError

CURVE_SIZE = 1000
"""Validation questions at each measured checkpoint, where ``select.size`` does not say otherwise."""
MEASURES, FAILURE = "measures.json", "failure.json"


@dataclass(frozen=True)
class Run:
    """One training of a study and where it is."""

    study: str
    variant: str
    setting: dict[str, Any]
    seed: int
    recipe: str
    overrides: tuple[str, ...]
    folder: Path
    curve_size: int | None = None
    """Validation questions at each checkpoint, None for ``CURVE_SIZE`` but no more than the probe has."""

    @property
    def measures(self) -> list[dict[str, Any]]:
        """One entry a measured checkpoint, by step, then one for each way to read the final policy's confidence.

        The first of these has the ``method`` of those before it, the recipe's.
        """
        return json.loads((self.folder / MEASURES).read_text(encoding="utf-8"))

    @property
    def curve(self) -> list[dict[str, Any]]:
        """The entries of the checkpoints, by step."""
        return self._own()[:-1]

    @property
    def final(self) -> dict[str, dict[str, Any]]:
        """Method -> the entry of the final policy, with ``split`` test, the recipe's method first."""
        measures = self.measures
        return {entry["method"]: entry for entry in measures[measures.index(self._own()[-1]) :]}

    def _own(self) -> list[dict[str, Any]]:
        measures = self.measures
        return [entry for entry in measures if entry["method"] == measures[0]["method"]]

    @property
    def done(self) -> bool:
        """Whether it has been trained and measured, on as many questions as the study asks now."""
        if not (self.folder / MEASURES).exists():
            return False
        return self.curve_size is None or self.measures[0].get("size") == self.curve_size

    @property
    def failure(self) -> str | None:
        """Why it failed when it was last tried, None where it has not."""
        kept = self.folder / FAILURE
        return json.loads(kept.read_text(encoding="utf-8"))["error"] if kept.exists() else None


def measured_by(run: Run) -> tuple[Recipe, Recipe]:
    """The recipe of a run, and the same for checkpoints on the way.

    Those are asked fewer questions, of the validation split, and no map is fitted to their confidences.
    """
    on_test = load_recipe(run.recipe, run.overrides)
    validation = "validation" if "validation" in on_test.task.splits else on_test.probe.split
    size = run.curve_size or min(CURVE_SIZE, on_test.probe.size)
    on_the_way = [f"probe.split={validation}", f"probe.size={size}", "probe.recalibrate=null"]
    return on_test, load_recipe(run.recipe, [*run.overrides, *on_the_way])


def check_measuring(recipe: Recipe) -> None:
    """Raise ConfigError where the probe of a recipe cannot be made, before anything is trained."""
    from experiments.probe.checkpoint import probe_rows
    from experiments.routing.large import check_large

    recipe.task.require_binary()
    probe_rows(recipe)
    check_large(recipe)


def check_checkpoints(recipe: Recipe, variant: str) -> None:
    """Raise ConfigError where a run would not leave a checkpoint at the steps at which it is to be measured."""
    strategy, rounds = recipe.trainer.get("save_strategy", "steps"), recipe.trainer.get("rounds", 1)
    if strategy != "steps":
        said = "only 'steps' is allowed in a study, which measures a checkpoint every so many"
        raise ConfigError(f"trainer.save_strategy: {strategy!r} in variant {variant}, {said}")
    if rounds > 1:
        said = "only 1 is allowed in a study, which measures the checkpoints of one training"
        raise ConfigError(f"trainer.rounds: {rounds} in variant {variant}, {said}")
