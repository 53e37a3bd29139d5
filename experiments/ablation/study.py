"""A study: what is compared, at which settings, with which seeds, and the runs that this takes.

A study is a YAML file: ``variants`` (name -> ``recipe`` and what to ``set`` in it), ``set`` for all of them, a ``grid``
of settings of which each variant takes the best by ``select`` (trained with the first seed, measured on the task's
validation questions), ``seeds``, and ``every`` how many steps a checkpoint is measured.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from experiments.config.recipe import SUFFIXES, Recipe, load_recipe
from experiments.errors import ConfigError
from experiments.schema import AtLeastOne, from_mapping, one_of, parse_yaml, read_yaml
from rewards.nearest import nearest

MEASURED = ("accuracy", "brier", "ece", "auroc")
CURVE_SIZE = 1000
"""Validation questions at each measured checkpoint."""
MEASURES = "measures.json"


@dataclass(frozen=True)
class Variant:
    """A recipe and what a study sets in it, dotted key -> value."""

    recipe: str
    set: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """What is compared; see the module's docstring. Raises ConfigError for what cannot be run."""

    variants: dict[str, Variant]
    seeds: list[int]
    grid: dict[str, Any] = field(default_factory=dict)
    set: dict[str, Any] = field(default_factory=dict)
    select: str = "brier"
    every: AtLeastOne = 50

    def __post_init__(self) -> None:
        if not self.variants or not self.seeds:
            raise ConfigError("study: needs at least one entry in variants and one in seeds")
        for name in self.variants:
            if not re.fullmatch(r"[\w.-]+", str(name)):
                raise ConfigError(f"study.variants.{name}: a variant names a folder, use letters, digits, _ . and -")
        for key, values in self.grid.items():
            if not isinstance(values, list) or not values:
                raise ConfigError(f"study.grid.{key}: {values!r} is not a list of values to try")
        one_of("study.select", self.select, MEASURED)

    def settings(self) -> list[dict[str, Any]]:
        """Every combination of the grid."""
        return [
            dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())
        ]  # one, empty, for an empty grid


@dataclass(frozen=True)
class Run:
    """One training of a study and where it is."""

    variant: str
    setting: dict[str, Any]
    seed: int
    recipe: str
    overrides: tuple[str, ...]
    folder: Path

    @property
    def measures(self) -> list[dict[str, Any]]:
        """One entry a measured checkpoint, by step; the last one, with ``split`` test, is the final policy."""
        return json.loads((self.folder / MEASURES).read_text(encoding="utf-8"))


def study_names() -> list[str]:
    """Names of the shipped studies."""
    folder = resources.files("experiments") / "studies"
    return sorted(each.name.removesuffix(".yaml") for each in folder.iterdir() if each.name.endswith(".yaml"))


def load_study(name: str, overrides: Sequence[str] = ()) -> Study:
    """A shipped study or a YAML file; ``overrides`` are recipe keys set in every variant. Raises ConfigError."""
    path = Path(name)
    if path.suffix not in SUFFIXES:
        if name not in study_names():
            raise ConfigError(f"study {name!r} is not one of {', '.join(study_names())}{nearest(name, study_names())}")
        path = Path(str(resources.files("experiments") / "studies" / f"{name}.yaml"))
    study: Study = from_mapping(Study, read_yaml(path, "study "), "study")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ConfigError(f"override {override!r}: expected SECTION.KEY=VALUE")
        study.set[key] = parse_yaml(value, f"override {override!r}")
    for variant in study.variants:  # every recipe is checked before the first one is trained
        for setting in study.settings():
            check_measuring(*measured_by(planned_run(study, variant, setting, study.seeds[0], Path())))
    return study


def planned_run(study: Study, variant: str, setting: dict[str, Any], seed: int, out: Path) -> Run:
    """The run of one variant at one setting of the grid with one seed, below the folder ``out``."""
    chosen = study.variants[variant]
    values = {**study.set, **chosen.set, **setting}
    values |= {"trainer.seed": seed, "trainer.save_steps": study.every, "trainer.save_total_limit": 100_000}
    overrides = tuple(f"{key}={json.dumps(value)}" for key, value in values.items())
    folder = "-".join(f"{key.rpartition('.')[2]}={value}" for key, value in setting.items()) or "only"
    return Run(variant, setting, seed, chosen.recipe, overrides, out / variant / folder / f"seed-{seed}")


def measured_by(run: Run) -> tuple[Recipe, Recipe]:
    """The recipe of a run, and the same for checkpoints on the way: fewer questions, of the validation split."""
    on_test = load_recipe(run.recipe, run.overrides)
    validation = "validation" if "validation" in on_test.task.splits else on_test.probe.split
    size = min(CURVE_SIZE, on_test.probe.size)
    return on_test, load_recipe(run.recipe, [*run.overrides, f"probe.split={validation}", f"probe.size={size}"])


def check_measuring(*recipes: Recipe) -> None:
    """Raise ConfigError where the probe of a recipe cannot be made, before anything is trained."""
    from experiments.probe.checkpoint import probe_rows
    from experiments.routing.large import check_large

    for recipe in recipes:
        recipe.task.require_binary()
        probe_rows(recipe)
        check_large(recipe)
