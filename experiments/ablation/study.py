"""A study: what is compared, at which settings, with which seeds, and the runs that this takes.

A study is a YAML file: ``variants`` (name -> ``recipe`` and what to ``set`` in it), ``cross`` (every variant once at
each combination of these values, as variants of their own), ``set`` for all of them, a ``grid`` of settings of which
each variant takes the best, ``select`` by which metric, with which seeds and by how many of the task's validation
questions the best is chosen, ``seeds`` whose results are reported, ``baseline`` the variant that differences are taken
to, and ``every`` how many steps a checkpoint is measured. Every dotted key of a recipe can be crossed and tried;
``{seed}`` in a ``model.path`` stands for the seed of the run.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from experiments.config.recipe import SUFFIXES, Recipe, load_recipe
from experiments.config.trainer import check_batch
from experiments.errors import ConfigError
from experiments.schema import AtLeastOne, from_mapping, one_of, parse_yaml, read_yaml
from rewards.nearest import nearest

MEASURED = ("accuracy", "brier", "ece", "auroc")
REWARD = "accuracy_less_brier"
"""RLCR's reward without its format: safe to choose by, as no answer that is wrong on purpose earns by it. By the Brier
score or the ECE alone, a setting that unlearns to answer, and says so, is best."""
CURVE_SIZE = 1000
"""Validation questions at each measured checkpoint, where ``select.size`` does not say otherwise."""
MEASURES, FAILURE = "measures.json", "failure.json"
RESERVED = {"trainer.seed", "trainer.data_seed", "trainer.save_steps", "trainer.save_total_limit"}
_LONGEST = 40
"""Characters of a value in the name of a folder."""


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
class Edge:
    """A chosen value at the end of the values that were tried: a better one may lie beyond."""

    key: str
    value: float
    end: str
    """``lowest`` or ``highest``."""


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
            if not re.fullmatch(r"[\w.-]+", str(name)):
                raise ConfigError(f"study.variants.{name}: a variant names a folder, use letters, digits, _ . and -")
        for section, values in (("grid", self.grid), ("cross", self.cross)):
            for key, tried in values.items() if isinstance(values, dict) else ():
                if not isinstance(tried, list) or not tried:
                    raise ConfigError(f"study.{section}.{key}: {tried!r} is not a list of values to try")
        if self.cross:
            object.__setattr__(self, "variants", self._crossed())
        for where, values in self._places():
            for key in RESERVED & values.keys():
                raise ConfigError(f"study.{where}.{key}: is set by the study itself, from seeds and every")
        tried_names = [in_a_name(each) for each in self.settings()]
        if twice := [each for each in tried_names if tried_names.count(each) > 1]:
            raise ConfigError(f"study.grid: {twice[0]} stands twice")
        one_of("study.select.metric", self.select.metric, (REWARD, *MEASURED))
        self._check_seeds()
        if self.baseline is not None:
            one_of("study.baseline", self.baseline, self.variants)

    def _crossed(self) -> dict[str, Variant]:
        combined = {}
        for name, variant in self.variants.items():
            for levels in _combinations(self.cross):
                combined[f"{name}-{in_a_name(levels)}"] = Variant(variant.recipe, {**variant.set, **levels})
        return combined

    def _places(self) -> list[tuple[str, dict[str, Any]]]:
        places = [("set", self.set), *((f"variants.{name}.set", each.set) for name, each in self.variants.items())]
        return places + [("grid", setting) for setting in self.settings()]

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
        return _combinations(self.grid)

    def edges(self, setting: dict[str, Any]) -> list[Edge]:
        """The values of a chosen setting that are the lowest or the highest of several numbers that were tried."""
        found = []
        for key, value in setting.items():
            tried = [each[key] for each in self.settings() if key in each]
            if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in tried):
                continue
            if min(tried) < max(tried) and value in (min(tried), max(tried)):
                found.append(Edge(key, value, "lowest" if value == min(tried) else "highest"))
        return found


def _combinations(values: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]


def in_a_name(setting: dict[str, Any]) -> str:
    """A setting as the name of a folder: the last part of each key and its value, or the whole key where two share it.

    >>> in_a_name({"trainer.learning_rate": 1e-4, "trainer.credit": "segment"})
    'learning_rate=0.0001-credit=segment'
    """
    last = [key.rpartition(".")[2] for key in setting]
    parts = []
    for short, (key, value) in zip(last, setting.items(), strict=True):
        text = value if isinstance(value, str) else json.dumps(value)
        fit = re.sub(r"[^\w.+-]", "_", text)[:_LONGEST]
        if fit != text:  # so that two values never share a name
            fit += "-" + hashlib.sha256(text.encode()).hexdigest()[:6]
        parts.append(f"{short if last.count(short) == 1 else key}={fit}")
    return "-".join(parts)


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
    source = read_yaml(path, "study ")
    named = {"name": path.stem, **source} if isinstance(source, dict) else source
    study: Study = from_mapping(Study, named, "study")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ConfigError(f"override {override!r}: expected SECTION.KEY=VALUE")
        if key in RESERVED:
            raise ConfigError(f"override {override!r}: is set by the study itself, from seeds and every")
        study.set[key] = parse_yaml(value, f"override {override!r}")
    known: set[str] = set()
    for variant in study.variants:  # every recipe is checked before the first one is trained
        for setting in study.settings():
            for seed in (*study.select.seeds[:1], study.seeds[0]):
                on_test, on_validation = measured_by(planned_run(study, variant, setting, seed, Path()))
                if study.select.seeds and on_validation.probe.split != "validation":
                    raise ConfigError(f"study.grid: the task of {variant} has no validation questions to choose by")
                check_batch(on_test.trainer, on_test.method)
                for recipe in (on_test, on_validation):
                    asked = json.dumps([recipe.source.get("task"), recipe.source.get("probe")], default=str)
                    if asked not in known:  # most variants ask the same questions, which take time to draw
                        check_measuring(recipe)
                    known.add(asked)
    return study


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
