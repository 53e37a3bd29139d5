"""A study's summary: means over seeds, paired differences to the baseline, main effects, edges and failures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

import numpy as np

from estimators.metrics.resampling import student
from experiments.ablation.planned import Run
from experiments.ablation.study import MEASURED, Study

ROUTED = "escalation_rate_to_parity"
"""Measured of the final policies too, where the recipe names a model to escalate to."""
SHOWN = (*MEASURED, ROUTED)
_AS_IT_IS = "as the recipe has it"
BySeed = Mapping[int, float | None]


def summarize(
    study: Study,
    chosen: Mapping[str, dict[str, Any] | None],
    reporting: Mapping[str, Sequence[Run]],
    runs: Sequence[Run],
) -> dict[str, Any]:
    """The summary of a study, as ``summary.json`` has it; all values are of final policies on test questions.

    ``variants``: name -> ``setting``, its ``edges``, and for each metric ``value``, the mean over the reporting seeds,
    ``low`` and ``high``, its 95% t-interval (None for one seed), ``median`` and ``seeds`` (seed -> value).
    ``differences``: name -> metric -> the same of its differences to the ``baseline``, seed by seed. ``readings``: name
    -> method -> metric -> the same, for each other way in which the final policies' confidence was read; ``controls``:
    such a method -> name -> metric -> the differences of the variant's own reading to the baseline's by that method.
    ``effects``: key -> its value -> metric -> the same of the mean over the variants with that value.
    ``failures``: the runs among ``runs`` that failed, and why.
    """
    measured = {name: _by_metric(each) for name, each in reporting.items()}
    variants: dict[str, Any] = {}
    for name, setting in chosen.items():
        edges = [] if setting is None else [asdict(edge) for edge in study.edges(name, setting)]
        variants[name] = {"setting": setting, "edges": edges, **_over_seeds(measured[name])}
    reference = measured.get(study.baseline or "", {})
    differences = {
        name: _differences(values, reference)
        for name, values in measured.items()
        if reference and name != study.baseline
    }
    readings = {name: _other_readings(each) for name, each in reporting.items()}
    controls = {
        method: {name: _differences(values, control) for name, values in measured.items() if name != study.baseline}
        for method, control in readings.get(study.baseline or "", {}).items()
    }
    failures = [
        {
            "variant": run.variant,
            "setting": run.folder.parent.name,
            "seed": run.seed,
            "folder": str(run.folder),
            "error": run.failure,
        }
        for run in runs
        if run.failure is not None
    ]
    return {
        "study": study.name,
        "baseline": study.baseline,
        "variants": variants,
        "differences": differences,
        "readings": {
            name: {method: _over_seeds(values) for method, values in methods.items()}
            for name, methods in readings.items()
        },
        "controls": controls,
        "effects": main_effects(study, measured),
        "failures": failures,
    }


def _by_metric(runs: Sequence[Run]) -> dict[str, dict[int, float | None]]:
    return _of_entries({run.seed: next(iter(run.final.values())) for run in runs if run.done})


def _other_readings(runs: Sequence[Run]) -> dict[str, dict[str, dict[int, float | None]]]:
    """Method -> metric -> seed -> value, for the methods by which all the runs were read besides the recipe's own."""
    finals = {run.seed: run.final for run in runs if run.done}
    methods = list(next(iter(finals.values()), {}))[1:]
    return {
        method: _of_entries({seed: final[method] for seed, final in finals.items()})
        for method in methods
        if all(method in final for final in finals.values())
    }


def _of_entries(ends: Mapping[int, Mapping[str, Any]]) -> dict[str, dict[int, float | None]]:
    return {
        metric: {seed: end[metric] for seed, end in ends.items()}
        for metric in SHOWN
        if ends and all(metric in end for end in ends.values())
    }


def _over_seeds(values: Mapping[str, BySeed]) -> dict[str, Any]:
    return {metric: over_seeds(by_seed) for metric, by_seed in values.items()}


def _differences(values: Mapping[str, BySeed], reference: Mapping[str, BySeed]) -> dict[str, Any]:
    return {metric: paired(values[metric], reference[metric]) for metric in values if metric in reference}


def over_seeds(values: BySeed, bounds: tuple[float, float] = (0.0, 1.0)) -> dict[str, Any]:
    """Mean, 95% t-interval, median and single values of what is defined of the values of each seed.

    >>> over_seeds({0: 0.25, 1: 0.75, 2: None})["value"]
    0.5
    """
    defined = [value for value in values.values() if value is not None]
    mean = student(defined, bounds=bounds)
    median = float(np.median(defined)) if defined else None
    ends = {"low": mean.low, "high": mean.high}
    return {"value": mean.value, **ends, "median": median, "seeds": dict(values)}


def paired(values: BySeed, reference: BySeed) -> dict[str, Any]:
    """:func:`over_seeds` of the differences at the seeds that both have; what a seed does to both cancels.

    >>> paired({0: 0.5, 1: 0.75, 2: 0.9}, {0: 0.25, 1: 0.5})["value"]
    0.25
    """
    differences: dict[int, float | None] = {}
    for seed, value in values.items():
        other = reference.get(seed)
        if value is not None and other is not None:
            differences[seed] = value - other
    return over_seeds(differences, (-1.0, 1.0))


def main_effects(study: Study, measured: Mapping[str, Mapping[str, BySeed]]) -> dict[str, Any]:
    """Key -> value -> metric -> :func:`over_seeds` of the mean over the variants with that value, seed by seed.

    The keys are those that any variant sets, and ``recipe``, where there are several values. Only seeds at which
    all of a value's variants are measured count. It is the effect of the key alone where the others are balanced.
    """
    keys = dict.fromkeys(["recipe", *(key for variant in study.variants.values() for key in variant.set)])
    effects: dict[str, Any] = {}
    for key in keys:
        sharing: dict[str, list[str]] = {}
        for name, variant in study.variants.items():
            if measured.get(name):
                level = variant.recipe if key == "recipe" else _level(variant.set, key)
                sharing.setdefault(level, []).append(name)
        if len(sharing) > 1:
            effects[key] = {level: _mean_of([measured[name] for name in names]) for level, names in sharing.items()}
    return effects


def _level(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return _AS_IT_IS
    return values[key] if isinstance(values[key], str) else json.dumps(values[key])


def _mean_of(variants: Sequence[Mapping[str, BySeed]]) -> dict[str, Any]:
    found = {}
    for metric in [metric for metric in variants[0] if all(metric in each for each in variants)]:
        means: dict[int, float | None] = {}
        for seed in variants[0][metric]:
            at_seed = [each[metric].get(seed) for each in variants]
            defined = [value for value in at_seed if value is not None]
            if len(defined) == len(variants):
                means[seed] = fmean(defined)
        found[metric] = over_seeds(means)
    return found
