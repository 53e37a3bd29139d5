"""Recipes: one YAML file a run, read, overridden and checked whole before a model loads.

A recipe has the sections ``task model rubric estimators trainer monitors probe`` and may say ``extends: OTHER`` (a
shipped recipe, or a file beside it), whose sections it then changes key by key; of several, ``extends: [METHOD,
SIZE]``, each changes those before it. On the command line ``trainer.learning_rate=3e-4`` changes one key; the value is
read as YAML, and ``null`` takes the key away. The ``trainer`` section takes any field of TRL's configuration by its own
name. Every error names the key, the value, what was allowed and the nearest right name.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estimators import ESTIMATORS, recalibration
from experiments.config.facts import recipe_facts
from experiments.config.methods import DEFAULT_METHOD, METHODS
from experiments.config.models import check_lora, lora_config
from experiments.config.sections import ModelSection, ProbeSection
from experiments.config.trainer import check_trainer
from experiments.errors import ConfigError
from experiments.schema import DEEPEST, from_mapping, known_keys, one_of, parse_yaml, read_yaml
from experiments.tasks import TASKS, Task
from rewards.nearest import nearest
from rewards.rubric import Rubric
from rewards.template import AnswerTemplate
from rewards.terms.preference import REWARD_MODEL
from rl.monitoring.alarms import MonitorSettings

if TYPE_CHECKING:
    from estimators.estimator import Estimator

SECTIONS = ("task", "model", "rubric", "estimators", "trainer", "monitors", "probe")
SUFFIXES = (".yaml", ".yml")


EMBEDDED = "embedded, or from a package"
"""What recipes are grouped under that stand behind no size."""
VERBALIZED = "verbalized"
"""The estimator that every recipe has: what the policy states."""


@dataclass(frozen=True)
class Recipe:
    """A validated recipe; ``trainer`` holds fields of the method's configuration, checked by name and type."""

    name: str
    task: Task
    model: ModelSection
    rubric: Rubric
    estimators: dict[str, Estimator]
    method: str
    trainer: dict[str, Any]
    monitors: MonitorSettings
    probe: ProbeSection
    source: dict[str, Any] = field(repr=False)
    """The recipe as it was read, overrides applied: what a checkpoint keeps."""

    @property
    def template(self) -> AnswerTemplate:
        return self.task.template

    @property
    def adds_marks(self) -> bool:
        """Whether the marks of the template are added to the policy's vocabulary."""
        return METHODS[self.method].adds_marks and self.template.confidence == "token"


def recipe_names() -> list[str]:
    """Names of the shipped recipes, those of a size behind it: ``7b/rlcr``. What others extend alone begins with _."""
    folder = _shipped()
    files = [path for pattern in ("*.yaml", "*/*.yaml") for path in folder.glob(pattern) if path.name[0] != "_"]
    return sorted(
        (str(path.relative_to(folder).with_suffix("")) for path in files), key=lambda name: ("/" in name, name)
    )


def _shipped() -> Path:
    return Path(str(resources.files("experiments"))) / "recipes"


def describe_recipes() -> list[dict[str, Any]]:
    """What each shipped recipe trains, in plain values, for listings."""
    described = []
    for name in recipe_names():
        source = _read(name)
        rubric = {term: options for term, options in source["rubric"].items() if isinstance(options, dict)}
        terms = {term: options.get("weight", 1.0) for term, options in rubric.items()}
        described.append(
            {
                "name": name,
                "size": name.rpartition("/")[0] or EMBEDDED,
                "task": source["task"].get("layout") or source["task"].get("path") or source["task"]["name"],
                "model": source["model"]["path"],
                "method": source["trainer"].get("method", DEFAULT_METHOD),
                "rubric": terms,
                "path": str(recipe_path(name)),
            }
        )
    return described


def recipe_path(name: str) -> Path:
    """Path of a shipped recipe's YAML, or of a file given as one. Raises ConfigError where there is neither."""
    shipped = _shipped() / f"{name}.yaml"
    if ".." not in name and not name.startswith("/") and os.path.isfile(shipped):
        return shipped
    if Path(name).suffix in SUFFIXES:
        if os.path.isfile(name):  # false, where Path.is_file raises, for a name that no file can have
            return Path(name)
        raise ConfigError(f"recipe {name}: no such file")
    raise ConfigError(f"recipe {name!r} is not one of {', '.join(recipe_names())}{nearest(name, recipe_names())}")


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and check a recipe. Raises ConfigError; nothing is loaded but the configuration itself."""
    stem = Path(name).stem if Path(name).suffix in SUFFIXES else name
    return _check(stem, _overridden(name, overrides))


def load_rubric(name: str, overrides: Sequence[str] = ()) -> Rubric:
    """The rubric of a recipe, hackable or not, for the audit. Raises ConfigError; other sections are hardly checked."""
    return _rubric(_overridden(name, overrides), hackable=True)


def _overridden(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    source = _read(name)
    for override in overrides:
        _override(source, override)
    return source


def _read(name: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    path = recipe_path(name)
    source = read_yaml(path)
    if not isinstance(source, dict):
        raise ConfigError(f"{path}: expected sections {', '.join(SECTIONS)}, got {type(source).__name__}")
    parent = source.pop("extends", None)
    for section in source:
        if section not in SECTIONS:
            raise ConfigError(
                f"{path}: unknown section {section!r}, allowed: extends, {', '.join(SECTIONS)}"
                f"{nearest(section, SECTIONS)}"
            )
    if parent is None:
        return source
    parents = parent if isinstance(parent, list) and parent else [parent]
    merged: dict[str, Any] = {}
    for each in parents:
        if not isinstance(each, str):
            raise ConfigError(f"{path}: extends: {each!r} is not a text, expected the name of a recipe or a YAML file")
        file = str(path.parent / each) if Path(each).suffix in SUFFIXES else each
        if file in seen:
            raise ConfigError(f"{path}: extends goes round in a circle: {' -> '.join((*seen, file))}")
        merged = _merge(merged, _read(file, (*seen, file)))
    return _merge(merged, source)


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(base)
    for name, value in changes.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict) and isinstance(merged.get(name), dict):
            merged[name] = _merge(merged[name], value)
        else:
            merged[name] = copy.deepcopy(value)
    return merged


def _override(source: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    path = key.split(".")
    if not equals or not all(path):
        raise ConfigError(f"override {override!r}: expected SECTION.KEY=VALUE")
    if path[0] not in SECTIONS:
        raise ConfigError(
            f"override {override!r}: unknown section {path[0]!r}, allowed: {', '.join(SECTIONS)}"
            f"{nearest(path[0], SECTIONS)}"
        )
    if len(path) > DEEPEST:
        raise ConfigError(f"override {override!r}: nested more than {DEEPEST} deep")
    value = parse_yaml(text, f"override {override!r}")
    place = source
    for depth, part in enumerate(path[:-1]):
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise ConfigError(f"override {override!r}: {'.'.join(path[: depth + 1])} holds {place!r}, not a mapping")
    if value is None:
        place.pop(path[-1], None)
    else:
        place[path[-1]] = value


def _check(name: str, source: dict[str, Any]) -> Recipe:
    task_source = _section(source, "task")
    task = TASKS[one_of("task.name", task_source.pop("name", None), TASKS)]
    trainer = _section(source, "trainer")
    method = one_of("trainer.method", trainer.pop("method", DEFAULT_METHOD), METHODS)
    asked = _section(source, "estimators", required=False)
    known_keys("estimators", asked, ESTIMATORS)
    monitors = _section(source, "monitors", required=False)
    if monitors and not METHODS[method].rollouts:
        raise ConfigError(f"monitors: watch the rollouts of reinforcement learning, method {method} has none")
    recipe = Recipe(
        name=name,
        task=from_mapping(task, task_source, "task"),
        model=from_mapping(ModelSection, _section(source, "model"), "model"),
        rubric=_rubric(source),
        estimators={},
        method=method,
        trainer=trainer,
        monitors=from_mapping(MonitorSettings, monitors, "monitors"),
        probe=from_mapping(ProbeSection, _section(source, "probe", required=False), "probe"),
        source=source,
    )
    one_of("probe.split", recipe.probe.split, recipe.task.splits)
    if recipe.model.lora is not None:
        check_lora(recipe.model)
    if recipe.model.critic_path and not (METHODS[method].critic and trainer.get("value_model") == "separate"):
        raise ConfigError(
            "model.critic_path: has no effect without a separate critic, set trainer.method: ppo and "
            "trainer.value_model: separate"
        )
    reads = METHODS[method].rollouts and REWARD_MODEL in recipe.rubric.signals
    if reads and recipe.model.reward_path is None:
        raise ConfigError(
            "model.reward_path: missing; rubric.reward_model pays what a reward model says, name one's final folder"
        )
    if recipe.model.reward_path is not None and not reads:
        raise ConfigError("model.reward_path: has no effect, no term of the rubric reads it; add rubric.reward_model")
    if METHODS[method].own_answers:
        recipe.task.require_binary()
    if recipe.model.lora is not None and not METHODS[method].adapters:
        raise ConfigError(f"model.lora: method {method} trains a model of its own, whole; leave it out")
    if recipe.probe.every and not METHODS[method].is_policy:
        raise ConfigError(f"probe.every: {recipe.probe.every} has no effect, method {method} trains no policy")
    checked = check_trainer(method, trainer, recipe.template, recipe.rubric)
    # After all that needs no torch, which adapters and estimators do.
    lora_config(recipe.model)
    estimators = {
        each: from_mapping(ESTIMATORS[each], {} if values is None else values, f"estimators.{each}")
        for each, values in asked.items()
    }
    _check_estimators(recipe, estimators)
    return dataclasses.replace(recipe, trainer=checked, estimators=estimators)


def _check_estimators(recipe: Recipe, estimators: dict[str, Estimator]) -> None:
    """Raise ConfigError where a template lacks what an estimator needs, or a probe would read no probability."""
    from estimators.estimator import CRITIC, HIDDEN_STATES, LEVELS, PRIOR, SAMPLES, TEXT, TOKEN_STATISTICS

    signals = [name for name in recipe.rubric.signals if name in ESTIMATORS]
    for name in dict.fromkeys((*estimators, *signals)):
        needs = ESTIMATORS[name].needs
        if LEVELS in needs and recipe.template.levels is None:
            raise ConfigError(f"estimators.{name}: needs task.template.levels, a known set of confidences")
        if PRIOR in needs and recipe.template.prior_confidence == "none":
            raise ConfigError(f"estimators.{name}: needs task.template.prior_confidence, set it to 'required'")
        of_probe = set() if name in signals else {TEXT, HIDDEN_STATES, CRITIC}
        of_probe |= {SAMPLES} if of_probe and recipe.probe.samples and not ESTIMATORS[name].is_probability else set()
        if beyond := needs - {TOKEN_STATISTICS, LEVELS, PRIOR} - of_probe:
            raise ConfigError(f"estimators.{name}: needs {', '.join(sorted(beyond))}, which a recipe does not give")
    readable = list(dict.fromkeys((VERBALIZED, *(name for name, each in estimators.items() if each.is_probability))))
    one_of("probe.confidence", recipe.probe.confidence, readable)
    known_keys("probe.recalibrate", recipe.probe.recalibrate, readable)
    for name, maps in recipe.probe.recalibrate.items():
        for each in maps:
            one_of(f"probe.recalibrate.{name}", each, recalibration.METHODS)
    if any(recipe.probe.recalibrate.values()) and "validation" not in recipe.task.splits:
        raise ConfigError(
            f"probe.recalibrate: is fitted on validation questions, and this task has no such split, but "
            f"{', '.join(recipe.task.splits)}"
        )


def _rubric(source: dict[str, Any], *, hackable: bool = False) -> Rubric:
    terms = _section(source, "rubric")
    allowed = terms.pop("allow_hackable", False)
    if not isinstance(allowed, bool):
        raise ConfigError(f"rubric.allow_hackable: {allowed!r} is not true or false")
    try:
        return Rubric.from_config(terms, allow_hackable=allowed or hackable, facts=recipe_facts(source))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _section(source: dict[str, Any], name: str, *, required: bool = True) -> dict[str, Any]:
    if required and source.get(name) is None:
        raise ConfigError(f"{name}: this section is missing from the recipe")
    values = source.get(name) or {}
    if not isinstance(values, dict):
        raise ConfigError(f"{name}: expected a mapping, got {values!r}")
    return dict(values)
