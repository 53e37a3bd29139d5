"""An ablation: variants of a recipe, each at the best of a grid of settings, over seeds, on held-out questions.

    candor ablate learning_curves --out runs/learning_curves --jobs 2

A study is a YAML file: ``variants`` (name -> ``recipe`` and what to ``set`` in it), ``set`` for all of them, a ``grid``
of settings of which each variant takes the best by ``select`` (trained with the first seed, measured on the task's
validation questions), ``seeds``, and ``every`` how many steps a checkpoint is measured. Each run is a job of its own
in ``OUT/VARIANT/SETTING/seed-N``; a finished one is not run again, an interrupted one goes on.

Leaves ``curves.jsonl`` (one line a measured checkpoint), ``summary.json``, ``summary.md`` and ``curves.svg|png``.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from estimators.metrics.resampling import student
from experiments.ablation.plots import save_curves
from experiments.config.models import find_model
from experiments.config.recipe import SUFFIXES, Recipe, load_recipe
from experiments.errors import ConfigError, RunError
from experiments.files import writable
from experiments.launch.jobs import open_executor, run_jobs
from experiments.report.glossary import METRICS
from experiments.schema import from_mapping, nearest, one_of
from experiments.train import KEPT_RECIPE, check_folder, train

MEASURED = ("accuracy", "brier", "ece", "auroc")
ROUTED = "escalation_rate_to_parity"
"""Measured of the final policies too, where the recipe names a model to escalate to."""
CURVE_SIZE = 1000
"""Validation questions at each measured checkpoint."""
_MEASURES, _LOG, _JOBS = "measures.json", "log.txt", ".jobs"


@dataclass(frozen=True)
class Variant:
    """A recipe and what a study sets in it, dotted key -> value."""

    recipe: str
    set: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """What is compared; see the module's docstring. Raises ConfigError for what cannot be run."""

    variants: dict[str, Any]
    seeds: list[int]
    grid: dict[str, Any] = field(default_factory=dict)
    set: dict[str, Any] = field(default_factory=dict)
    select: str = "brier"
    every: int = 50

    def __post_init__(self) -> None:
        if not self.variants or not self.seeds:
            raise ConfigError("study: needs at least one entry in variants and one in seeds")
        for name, values in self.variants.items():
            if not re.fullmatch(r"[\w.-]+", str(name)):
                raise ConfigError(f"study.variants.{name}: a variant names a folder, use letters, digits, _ . and -")
            self.variants[name] = from_mapping(Variant, values, f"study.variants.{name}")
        for key, values in self.grid.items():
            if not isinstance(values, list) or not values:
                raise ConfigError(f"study.grid.{key}: {values!r} is no list of values to try")
        one_of("study.select", self.select, MEASURED)
        if self.every < 1:
            raise ConfigError(f"study.every: {self.every} is below 1")

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
        return json.loads((self.folder / _MEASURES).read_text(encoding="utf-8"))


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
    try:
        source = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"study {name}: {' '.join(str(error).split())}") from error
    study: Study = from_mapping(Study, source, "study")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ConfigError(f"override {override!r}: expected SECTION.KEY=VALUE")
        study.set[key] = yaml.safe_load(value)
    for variant in study.variants:  # every recipe is checked before the first one is trained
        for setting in study.settings():
            _check_measuring(*_measured_by(_run(study, variant, setting, study.seeds[0], Path())))
    return study


def ablate(
    study: Study,
    out: str | Path,
    *,
    jobs: int = 1,
    cluster: str = "local",
    request: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Run a study in ``out``, ``jobs`` trainings at a time, and return its summary: variant -> metric -> value, bounds.

    For ``cluster`` and ``request`` see :func:`experiments.launch.jobs.open_executor`.

    ``value`` is the mean over seeds on the test questions, ``low`` and ``high`` its 95% t-interval, None for one seed,
    ``median`` and ``seeds`` what there was. Raises ConfigError for a folder that cannot be written, RunError naming the
    log of a run that failed.
    """
    out = writable(out)
    executor = open_executor(cluster, request or {}, out / _JOBS)
    first, rest = study.seeds[0], study.seeds[1:]
    tried = {name: [_run(study, name, each, first, out) for each in study.settings()] for name in study.variants}
    _run_all(executor, list(itertools.chain(*tried.values())), jobs, say)
    best = {name: min(runs, key=lambda run: _loss(study.select, run)) for name, runs in tried.items()}
    chosen = {name: [run, *(_run(study, name, run.setting, seed, out) for seed in rest)] for name, run in best.items()}
    _run_all(executor, list(itertools.chain(*chosen.values())), jobs, say)
    with (out / "curves.jsonl").open("w", encoding="utf-8") as file:
        for run in {run.folder: run for runs in [*tried.values(), *chosen.values()] for run in runs}.values():
            for entry in run.measures:
                line = {"variant": run.variant, "setting": run.setting, "seed": run.seed, **entry}
                file.write(json.dumps(line) + "\n")
    summary = {
        name: {"setting": best[name].setting}
        | {metric: _over_seeds(metric, runs) for metric in (*MEASURED, ROUTED) if metric in best[name].measures[-1]}
        for name, runs in chosen.items()
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    (out / "summary.md").write_text(markdown_summary(summary), encoding="utf-8")
    curves = {
        name: [[e for e in run.measures if e["split"] != "test"] for run in runs] for name, runs in chosen.items()
    }
    for path in save_curves(curves, MEASURED, out):
        say(str(path))
    return summary


def markdown_summary(summary: dict[str, Any]) -> str:
    """The summary as a table: mean over seeds and 95% t-interval of each metric, and the setting that was best."""
    metrics = [metric for metric in (*MEASURED, ROUTED) if any(metric in row for row in summary.values())]
    lines = [f"| variant | setting | {' | '.join(metrics)} |", f"| --- | --- |{' --- |' * len(metrics)}"]
    for name, row in summary.items():
        setting = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in row["setting"].items()) or "–"
        cells = [_cell(row[each]) if each in row else "–" for each in metrics]
        lines.append(f"| `{name}` | {setting} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(found: dict[str, Any]) -> str:
    ends = "" if found["low"] is None else f" ({found['low']:.3f}-{found['high']:.3f})"
    return f"{found['value']:.3f}{ends}"


def _over_seeds(metric: str, runs: Iterable[Run]) -> dict[str, Any]:
    values = np.array([run.measures[-1][metric] for run in runs], dtype=float)
    mean = student(values)
    ends = {"low": mean.low, "high": mean.high}
    return {"value": mean.value, **ends, "median": float(np.median(values)), "seeds": values.tolist()}


def _loss(metric: str, run: Run) -> float:
    """What is lowest for the best setting: the metric of the last checkpoint on validation questions."""
    last = [entry for entry in run.measures if entry["split"] != "test"][-1][metric]
    if last is None:  # undefined, as the AUROC of one class
        return math.inf
    higher = next(each.better for each in METRICS if each.key == metric) == "higher"
    return -last if higher else last


def _run(study: Study, variant: str, setting: dict[str, Any], seed: int, out: Path) -> Run:
    chosen: Variant = study.variants[variant]
    values = {**study.set, **chosen.set, **setting}
    values |= {"trainer.seed": seed, "trainer.save_steps": study.every, "trainer.save_total_limit": 100_000}
    overrides = tuple(f"{key}={json.dumps(value)}" for key, value in values.items())
    folder = "-".join(f"{key.rpartition('.')[2]}={value}" for key, value in setting.items()) or "only"
    return Run(variant, setting, seed, chosen.recipe, overrides, out / variant / folder / f"seed-{seed}")


def _run_all(executor: Any, runs: list[Run], jobs: int, say: Callable[[str], None]) -> None:
    for run in runs:  # what is there may be of other settings
        if run.folder.exists():
            check_folder(run.folder, load_recipe(run.recipe, run.overrides), resume=True)
    left = [run for run in runs if not (run.folder / _MEASURES).exists()]
    failed = None
    for count, (run, error) in enumerate(run_jobs(executor, _train_and_measure, left, jobs=jobs), 1):
        ended = f"done, {len(left) - count} to go" if error is None else "failed; those that run go on to their end"
        say(f"{run.variant} {run.folder.parent.name} seed {run.seed} {ended}")
        if error is not None and failed is None:
            log = run.folder / _LOG
            failed = RunError(f"{run.folder} failed: {error}" + f"; its log is {log}" * log.exists())
    if failed is not None:
        raise failed


def _train_and_measure(run: Run) -> None:
    """One run in a job of its own: train it, then measure its checkpoints in order and its final policy."""
    run.folder.mkdir(parents=True, exist_ok=True)
    with (run.folder / _LOG).open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        try:
            recipe = load_recipe(run.recipe, run.overrides)
            final = train(recipe, run.folder, resume=(run.folder / KEPT_RECIPE).exists())
            measures = _measure_checkpoints(run, final)
        except Exception:
            traceback.print_exc()
            raise
    partial = run.folder / f".{_MEASURES}"
    partial.write_text(json.dumps(measures, indent=1) + "\n", encoding="utf-8")
    partial.replace(run.folder / _MEASURES)


def _measured_by(run: Run) -> tuple[Recipe, Recipe]:
    """The recipe of a run, and the same for checkpoints on the way: fewer questions, of the validation split."""
    on_test = load_recipe(run.recipe, run.overrides)
    validation = "validation" if "validation" in on_test.task.splits else on_test.probe.split
    size = min(CURVE_SIZE, on_test.probe.size)
    return on_test, load_recipe(run.recipe, [*run.overrides, f"probe.split={validation}", f"probe.size={size}"])


def _check_measuring(*recipes: Recipe) -> None:
    from experiments.probe.checkpoint import probe_rows

    for recipe in recipes:
        recipe.task.require_binary()
        probe_rows(recipe)
        if recipe.probe.escalate_to is not None:
            find_model(recipe.probe.escalate_to, "probe.escalate_to")


def _measure_checkpoints(run: Run, final: Path) -> list[dict[str, Any]]:
    from experiments.probe.checkpoint import large_verdicts, probe_checkpoint
    from experiments.probe.measure import measure

    on_test, on_validation = _measured_by(run)
    checkpoints = sorted(run.folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    places: list[tuple[int, str | Path, Any]] = [(0, on_test.model.path, on_validation)]
    places += [(int(path.name.rpartition("-")[2]), path, on_validation) for path in checkpoints]
    places.append((places[-1][0], final, on_test))
    measures = []
    with on_test.task.open_verifier() as verifier:
        large = large_verdicts(on_test, verifier) if on_test.probe.escalate_to is not None else None
        for step, path, recipe in places:
            last = recipe is on_test
            records = probe_checkpoint(
                path,
                recipe,
                "probe",
                verifier,
                confidence=recipe.probe.confidence,
                large_correct=large if last else None,
            )
            found = measure(records, resamples=2)["probe"]
            entry = {"step": step, "split": "test" if last else recipe.probe.split}
            measures.append(entry | {key: found[key]["value"] for key in (*MEASURED, ROUTED) if key in found})
    return measures
