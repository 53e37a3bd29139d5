"""Recipes: one YAML file a run, read, overridden and checked whole before a model loads.

A recipe has the sections ``task model rubric estimators trainer probe`` and may say ``extends: OTHER``, whose
sections it then changes key by key. On the command line ``trainer.learning_rate=3e-4`` changes one key; the value is
read as YAML, and ``null`` takes the key away. The ``trainer`` section takes any field of TRL's configuration by its
own name. Every error names the key, the value, what was allowed and the nearest right name.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from experiments.tasks import TASKS, Task
from rewards.rubric import Rubric
from rewards.template import AnswerTemplate

SECTIONS = ("task", "model", "rubric", "estimators", "trainer", "probe")
METHODS = ("grpo", "sft")


class ConfigError(ValueError):
    """A recipe or an override that cannot be run; the message says what was expected."""


@dataclass(frozen=True)
class ModelSection:
    """Which weights a run starts from."""

    path: str
    """``tiny-small`` or ``tiny-large`` (shipped), a local folder, or a hub name."""
    gguf_file: str | None = None
    """File of that folder to read instead of safetensors."""
    dtype: str = "float32"
    attn_implementation: str | None = None
    add_template_tokens: bool = False
    """Make each tag and confidence level of the template one new token; for supervised warm starts."""
    lora: dict[str, Any] | None = None
    """Fields of peft's ``LoraConfig``."""


@dataclass(frozen=True)
class ProbeSection:
    """The held-out measurement of a checkpoint."""

    split: str = "test"
    size: int = 2000
    seed: int = 0
    batch_size: int = 250
    max_new_tokens: int = 16
    escalate_to: str | None = None
    """Model that questions are escalated to; None leaves the routing metrics out."""
    resamples: int = 1000


@dataclass(frozen=True)
class AnswerProbability:
    """Confidence read off the tokens of the answer instead of being asked for."""

    reduction: str = "product"


ESTIMATORS = {"answer_probability": AnswerProbability}


@dataclass(frozen=True)
class Recipe:
    """A validated recipe; ``trainer`` holds fields of the method's configuration, checked by name and type."""

    name: str
    task: Task
    model: ModelSection
    rubric: Rubric
    estimators: dict[str, Any]
    method: str
    trainer: dict[str, Any]
    probe: ProbeSection
    source: dict[str, Any] = field(repr=False)
    """The recipe as it was read, overrides applied: what a checkpoint keeps."""

    @property
    def template(self) -> AnswerTemplate:
        return self.task.template


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    folder = resources.files("experiments") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def describe_recipes() -> list[dict[str, Any]]:
    """What each shipped recipe trains, in plain values, for listings."""
    described = []
    for name in recipe_names():
        source = _read(name)
        terms = {term: options.get("weight", 1.0) for term, options in source["rubric"].items()}
        described.append(
            {
                "name": name,
                "task": source["task"]["name"],
                "model": source["model"]["path"],
                "method": source["trainer"].get("method", "grpo"),
                "rubric": terms,
                "path": str(recipe_path(name)),
            }
        )
    return described


def recipe_path(name: str) -> Path:
    """Path of a shipped recipe's YAML, or of a file given as one. Raises ConfigError where there is neither."""
    shipped = resources.files("experiments") / "recipes" / f"{name}.yaml"
    if "/" not in name and shipped.is_file():
        return Path(str(shipped))
    if Path(name).suffix in (".yaml", ".yml"):
        if Path(name).is_file():
            return Path(name)
        raise ConfigError(f"recipe {name}: no such file")
    raise ConfigError(f"recipe {name!r} is not one of {', '.join(recipe_names())}{nearest(name, recipe_names())}")


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and check a recipe. Raises ConfigError; nothing is loaded but the configuration itself."""
    source = _read(name)
    for override in overrides:
        _override(source, override)
    return _check(Path(name).stem, source)


def nearest(name: str, allowed: Iterable[str]) -> str:
    """`` (did you mean X?)`` for the closest allowed name, or nothing.

    >>> nearest("brir", ["accuracy", "brier"])
    ' (did you mean brier?)'
    """
    close = difflib.get_close_matches(str(name), list(allowed), n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


def from_mapping(kind: type, values: Any, key: str) -> Any:
    """Build a dataclass from a mapping whose keys are its fields. Raises ConfigError naming the dotted key."""
    if not isinstance(values, dict):
        raise ConfigError(f"{key}: expected a mapping, got {values!r}")
    fields = {each.name: each for each in dataclasses.fields(kind) if each.init}
    hints = typing.get_type_hints(kind)
    for name in values:
        if name not in fields:
            raise ConfigError(f"{key}.{name}: unknown key, allowed: {', '.join(fields)}{nearest(name, fields)}")
    missing = [
        name
        for name, each in fields.items()
        if name not in values and each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{key}.{missing[0]}: missing, and it has no default")
    converted = {name: convert(value, hints[name], f"{key}.{name}") for name, value in values.items()}
    try:
        return kind(**converted)
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        message = str(error)
        raise ConfigError(message if message.startswith(key) else f"{key}: {message}") from error


def convert(value: Any, hint: Any, key: str) -> Any:
    """``value`` as the annotated type; YAML reads ``1e-6`` as text, so text that is a number will do for one."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return value
    for option in options:
        kind = typing.get_origin(option) or option
        if dataclasses.is_dataclass(kind) and isinstance(value, dict):
            return from_mapping(kind, value, key)
        if kind is typing.Literal and value in typing.get_args(option):
            return value
        if kind is tuple and isinstance(value, list):
            return tuple(str(each) for each in value)
        if kind is float and not isinstance(value, bool):
            try:
                return float(value)
            except (TypeError, ValueError):
                continue
        if kind is typing.Any or (isinstance(kind, type) and isinstance(value, kind) and not _bool_as_int(value, kind)):
            return value
    expected = " or ".join(
        " | ".join(map(repr, typing.get_args(option)))
        if typing.get_origin(option) is typing.Literal
        else getattr(option, "__name__", str(option))
        for option in options
    )
    raise ConfigError(f"{key}: {value!r} is no {expected}")


def _bool_as_int(value: Any, kind: type) -> bool:
    return isinstance(value, bool) and kind is int


def _read(name: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    path = recipe_path(name)
    try:
        source = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error
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
    if parent in seen:
        raise ConfigError(f"{path}: extends goes round in a circle: {' -> '.join((*seen, parent))}")
    return _merge(_read(parent, (*seen, parent)), source)


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
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: {text!r} is not YAML") from error
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
    for section in ("task", "model", "rubric", "trainer"):
        if section not in source:
            raise ConfigError(f"{section}: this section is missing from the recipe")
    task_source = dict(source["task"]) if isinstance(source["task"], dict) else {}
    task_name = task_source.pop("name", None)
    if task_name not in TASKS:
        raise ConfigError(f"task.name: {task_name!r} is not one of {', '.join(TASKS)}{nearest(task_name, TASKS)}")
    trainer = dict(source["trainer"]) if isinstance(source["trainer"], dict) else {}
    method = trainer.pop("method", "grpo")
    if method not in METHODS:
        raise ConfigError(f"trainer.method: {method!r} is not one of {', '.join(METHODS)}{nearest(method, METHODS)}")
    estimators = {}
    for estimator, options in (source.get("estimators") or {}).items():
        if estimator not in ESTIMATORS:
            raise ConfigError(
                f"estimators.{estimator}: unknown estimator, allowed: {', '.join(ESTIMATORS)}"
                f"{nearest(estimator, ESTIMATORS)}"
            )
        estimators[estimator] = from_mapping(ESTIMATORS[estimator], options or {}, f"estimators.{estimator}")
    rubric_source = dict(source["rubric"])
    allow_hackable = rubric_source.pop("allow_hackable", False)
    try:
        rubric = Rubric.from_config(rubric_source, allow_hackable=allow_hackable)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    recipe = Recipe(
        name=name,
        task=from_mapping(TASKS[task_name], task_source, "task"),
        model=from_mapping(ModelSection, source["model"], "model"),
        rubric=rubric,
        estimators=estimators,
        method=method,
        trainer=_check_trainer(method, trainer),
        probe=from_mapping(ProbeSection, source.get("probe") or {}, "probe"),
        source=source,
    )
    if recipe.trainer.get("confidence_loss_weight") and recipe.template.levels is None:
        raise ConfigError(
            "trainer.confidence_loss_weight: the closed form needs task.template.levels, a known set of confidences"
        )
    return recipe


def _check_trainer(method: str, values: dict[str, Any]) -> dict[str, Any]:
    # Imported here: TRL takes seconds to import, and listing recipes needs none of it.
    if method == "sft":
        from trl import SFTConfig as kind
    else:
        from rl.grpo import CalibratedGRPOConfig as kind
    fields = {each.name for each in dataclasses.fields(kind) if each.init}
    hints = typing.get_type_hints(kind)
    for name in values:
        if name not in fields:
            raise ConfigError(
                f"trainer.{name}: unknown key for method {method}; allowed are the fields of TRL's configuration"
                f"{nearest(name, fields)}"
            )
        if name == "output_dir":
            raise ConfigError("trainer.output_dir: the run's folder is given by --out")
    checked = {name: convert(value, hints[name], f"trainer.{name}") for name, value in values.items()}
    if method == "grpo":
        _check_batch(checked)
    return checked


def _check_batch(trainer: dict[str, Any], processes: int = 1) -> None:
    group = trainer.get("num_generations", 8)
    per_device = trainer.get("per_device_train_batch_size", 8)
    accumulation = trainer.get("gradient_accumulation_steps", 1)
    batch = trainer.get("generation_batch_size") or per_device * processes * (
        trainer.get("steps_per_generation") or accumulation
    )
    if group < 2:
        raise ConfigError(f"trainer.num_generations: {group} is below 2, a group needs siblings to compare with")
    if batch % group:
        below, above = batch // group * group, -(-batch // group) * group
        allowed = f"{below} or {above}" if below else f"{above}"
        raise ConfigError(
            f"trainer.num_generations: {group} does not divide the generation batch of {batch} completions "
            f"(per_device_train_batch_size x processes x steps_per_generation); use a batch of {allowed}"
        )
