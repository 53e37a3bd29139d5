"""A study: what is compared, at which settings, with which seeds, and the runs that this takes.

A study is a YAML file: ``variants`` (name -> ``recipe`` and what to ``set`` in it), ``cross`` (every variant once at
each combination of these values, as variants of their own), ``set`` for all of them, a ``grid`` of settings of which
each variant takes the best, ``select`` by which metric, with which seeds and by how many of the task's validation
questions the best is chosen, ``seeds`` whose results are reported, ``baseline`` the variant that differences are taken
to, and ``every`` how many steps a checkpoint is measured. Every dotted key of a recipe can be crossed and tried;
``{seed}`` in a ``model.path`` stands for the seed of the run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from experiments.ablation.planned import Run, check_checkpoints, check_measuring, measured_by
from experiments.ablation.settings import Edge, combinations, edges_of, in_a_name, leaves, undone
from experiments.config.recipe import SUFFIXES, load_recipe
from experiments.config.trainer import check_batch
from experiments.errors import ConfigError
from experiments.schema import AtLeastOne, from_mapping, one_of, parse_yaml, read_yaml
from rewards.nearest import nearest

MEASURED = ("accuracy", "brier", "ece", "auroc")
REWARD = "accuracy_less_brier"
"""RLCR's reward without its format: safe to choose by, as no answer that is wrong on purpose earns by it. By the Brier
score or the ECE alone, a setting that unlearns to answer, and says so, is best."""
RESERVED = {"trainer.seed", "trainer.data_seed", "trainer.save_steps", "trainer.save_total_limit"}
_SET_BY_STUDY = "is set by the study itself, from seeds and every"
RESULTS = ("results.parquet", "summary.json", "summary.md", "report.html", "curves.svg", "curves.png")
"""What a study leaves beside the folders of its variants; other files there have names that begin with a dot."""


@dataclass(frozen=True)
class Variant:
    """A recipe and what a study sets in it, dotted key -> value."""

    recipe: str
    set: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """How a setting is chosen: by the mean of ``metric`` over ``seeds``, whose checkpoints are asked ``size`` questions
    (None: as many as the others)."""

    metric: str = REWARD
    seeds: list[int] = field(default_factory=list)
    size: AtLeastOne | None = None


@dataclass(frozen=True)
class Study:
    """What is compared; see the module's docstring. Raises ConfigError for what cannot be run."""

    variants: dict[str, Variant]
    seeds: list[int]
    name: str = "study"
    cross: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, Any] | list[dict[str, Any]] = field(default_factory=dict)
    """Key -> the values to try, in every combination; or a list of settings, each key -> value."""
    set: dict[str, Any] = field(default_factory=dict)
    select: Selection = field(default_factory=Selection)
    baseline: str | None = None
    every: AtLeastOne = 50

    def __post_init__(self) -> None:
        if not self.variants or not self.seeds:
            raise ConfigError("study: needs at least one entry in variants and one in seeds")
        for name in self.variants:
            if not re.fullmatch(r"[\w-][\w.-]*", str(name)):
                said = "a variant names a folder, use letters, digits, _ . and -, and no . first"
                raise ConfigError(f"study.variants.{name}: {said}")
            if name in RESULTS:
                raise ConfigError(f"study.variants.{name}: a file of the study's results has this name")
        for section, values in (("grid", self.grid), ("cross", self.cross)):
            for key, tried in values.items() if isinstance(values, dict) else ():
                if not isinstance(tried, list) or not tried:
                    raise ConfigError(f"study.{section}.{key}: {tried!r} is not a list of values to try")
        for section, settings in (("grid", self.settings()), ("cross", combinations(self.cross))):
            names = [in_a_name(each) for each in settings]
            if twice := [each for each in names if names.count(each) > 1]:
                raise ConfigError(f"study.{section}: {twice[0]} stands twice")
        self._check_keys()
        if self.cross:
            object.__setattr__(self, "variants", self._crossed())
        one_of("study.select.metric", self.select.metric, (REWARD, *MEASURED))
        self._check_seeds()
        if self.baseline is not None:
            one_of("study.baseline", self.baseline, self.variants)

    def _crossed(self) -> dict[str, Variant]:
        combined = {}
        for name, variant in self.variants.items():
            for levels in combinations(self.cross):
                combined[f"{name}-{in_a_name(levels)}"] = Variant(variant.recipe, {**variant.set, **levels})
        return combined

    def _check_keys(self) -> None:
        """Raise ConfigError for keys that a study sets itself, and for values that another part would undo.

        A variant may have another value than ``set``, which is for those that have none, and so may some settings.
        """
        parts = {"set": [self.set], **{f"variants.{name}.set": [each.set] for name, each in self.variants.items()}}
        parts |= {"cross": combinations(self.cross), "grid": self.settings()}
        for where, settings in parts.items():
            for setting in settings:
                if own := RESERVED & {key for key, _ in leaves(setting)}:
                    raise ConfigError(f"study.{where}.{min(own)}: {_SET_BY_STUDY}")
                for place, key in enumerate(setting):
                    if lost := undone(dict(list(setting.items())[:place]), [key]):
                        raise ConfigError(f"study.{where}.{lost}: {key}, which stands after it, undoes it")
        for later in ("cross", "grid"):
            for where in list(parts)[: list(parts).index(later)]:
                lost = [undone(first, then) for first in parts[where] for then in parts[later]]
                if any(lost) if where != "set" else all(lost):
                    key = next(filter(None, lost))
                    raise ConfigError(
                        f"study.{where}.{key}: {later} has values of its own for it; leave one of them out"
                    )

    def _check_seeds(self) -> None:
        several = len(self.settings()) > 1
        for where, seeds in (("seeds", self.seeds), ("select.seeds", self.select.seeds)):
            if twice := [seed for seed in seeds if seeds.count(seed) > 1]:
                raise ConfigError(f"study.{where}: {twice[0]} stands twice")
        both = [seed for seed in self.select.seeds if seed in self.seeds]
        if both:
            raise ConfigError(
                f"study.select.seeds: {both[0]} is among seeds too; what is reported has to come from other seeds than "
                "the choice"
            )
        if several and not self.select.seeds:
            raise ConfigError(
                f"study.select.seeds: a grid of {len(self.settings())} settings needs seeds to choose with, which are "
                "not among seeds"
            )
        if self.select.size is not None and not self.select.seeds:
            raise ConfigError("study.select.size: there are no seeds to choose with")
        if self.select.seeds and not several:
            raise ConfigError("study.select.seeds: there is nothing to choose, the grid has one setting")

    def settings(self) -> list[dict[str, Any]]:
        """Every setting of the grid, in its order; one, empty, for an empty grid."""
        if isinstance(self.grid, list):
            return self.grid or [{}]
        return combinations(self.grid)

    def edges(self, variant: str, setting: dict[str, Any]) -> list[Edge]:
        """The values of a variant's setting that are the lowest or the highest of several numbers that were tried.

        A setting that leaves a key out has tried the value that the variant's runs have without it.
        """
        settings = self.settings()
        without = {}
        for key in setting:
            if others := [each for each in settings if key not in each]:
                planned = planned_run(self, variant, others[0], self.seeds[0], Path())
                values = dict(leaves(load_recipe(planned.recipe, planned.overrides).source))
                without |= {key: values[key]} if key in values else {}
        return edges_of(setting, settings, without)


def study_names() -> list[str]:
    """Names of the shipped studies."""
    folder = resources.files("experiments") / "studies"
    return sorted(each.name.removesuffix(".yaml") for each in folder.iterdir() if each.name.endswith(".yaml"))


def load_study(name: str, overrides: Sequence[str] = ()) -> Study:
    """A shipped study or a YAML file; ``overrides`` are recipe keys set in every variant.

    Raises ConfigError, for an override too whose value a variant or the grid would undo.
    """
    path = Path(name)
    if path.suffix not in SUFFIXES:
        if name not in study_names():
            raise ConfigError(f"study {name!r} is not one of {', '.join(study_names())}{nearest(name, study_names())}")
        path = Path(str(resources.files("experiments") / "studies" / f"{name}.yaml"))
    source = read_yaml(path, "study ")
    named = {"name": path.stem, **source} if isinstance(source, dict) else source
    study: Study = from_mapping(Study, named, "study")
    for override in overrides:
        _override(study, override)
    known: set[str] = set()
    for variant in study.variants:  # every recipe is checked before the first one is trained
        for setting in study.settings():
            for seed in (*study.select.seeds[:1], study.seeds[0]):
                on_test, on_validation = measured_by(planned_run(study, variant, setting, seed, Path()))
                if study.select.seeds and on_validation.probe.split != "validation":
                    raise ConfigError(f"study.grid: the task of {variant} has no validation questions to choose by")
                check_checkpoints(on_test, variant)
                check_batch(on_test.trainer, on_test.method)
                for recipe in (on_test, on_validation):
                    asked = json.dumps([recipe.source.get("task"), recipe.source.get("probe")], default=str)
                    if asked not in known:  # most variants ask the same questions, which take time to draw
                        check_measuring(recipe)
                    known.add(asked)
    return study


def _override(study: Study, override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise ConfigError(f"override {override!r}: expected SECTION.KEY=VALUE")
    asked = {key: parse_yaml(value, f"override {override!r}")}
    if RESERVED & {each for each, _ in leaves(asked)}:
        raise ConfigError(f"override {override!r}: {_SET_BY_STUDY}")
    parts = [(f"variant {name}", variant.set) for name, variant in study.variants.items()]
    parts += [("the grid", setting) for setting in study.settings()]
    for where, values in parts:
        if lost := undone(asked, values):
            raise ConfigError(f"override {override!r}: {where} has a value of its own for {lost}; change the study")
    study.set.pop(key, None)
    study.set[key] = asked[key]


def planned_run(study: Study, variant: str, setting: dict[str, Any], seed: int, out: Path) -> Run:
    """The run of one variant at one setting of the grid with one seed, below the folder ``out``."""
    chosen = study.variants[variant]
    values = {**study.set, **chosen.set, **setting}
    if isinstance(start := values.get("model.path"), str):  # a policy that an earlier study trained with the same seed
        values["model.path"] = start.replace("{seed}", str(seed))
    values |= {"trainer.seed": seed, "trainer.save_steps": study.every, "trainer.save_total_limit": 100_000}
    overrides = tuple(f"{key}={json.dumps(value)}" for key, value in values.items())
    folder = out / variant / (in_a_name(setting) or "only") / f"seed-{seed}"
    size = study.select.size if seed in study.select.seeds else None
    return Run(study.name, variant, setting, seed, chosen.recipe, overrides, folder, size)
