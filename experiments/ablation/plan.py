"""What a study will take before it is started: runs, hours, disk."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from experiments.ablation.study import Study, planned_run
from experiments.config.methods import METHODS
from experiments.config.recipe import load_recipe
from experiments.launch.shapes import UnknownShape, shape_of

BYTES = {"weights": 4, "optimizer": 8}
"""Of a parameter in a checkpoint: float32 weights, and Adam's two averages."""


@dataclass(frozen=True)
class Plan:
    """Runs of a study: ``tuning`` choose a setting, ``reporting`` are the reported seeds at the chosen one."""

    tuning: int
    reporting: int
    done: int
    """Runs that are finished in the folder; of those that report, where they are at any setting."""
    failed: int
    """Runs that are not tried again unless that is asked for."""
    hours: float | None
    """Of one after another what is left, by the mean of the finished ones; None where there are none."""
    disk: float | None
    """Bytes of all checkpoints together, which are kept; None where the size of a policy is not known."""


def plan(study: Study, out: Path) -> Plan:
    """Count what a study will run in ``out``, and what is done there already."""
    settings = study.settings()
    tuning = len(settings) * len(study.select.seeds) * len(study.variants)
    reporting = len(study.seeds) * len(study.variants)
    done, failed = 0, 0
    sizes: list[float | None] = []
    seconds: list[float] = []
    for variant in study.variants:
        sizes.append(_size_of_a_run(study, variant, out))
        for setting in settings:
            for seed in (*study.select.seeds, *study.seeds):
                run = planned_run(study, variant, setting, seed, out)
                failed += run.failure is not None
                if run.done:
                    done += 1
                    seconds += _seconds(run.folder)
    left = max(tuning + reporting - done, 0)
    hours = left * sum(seconds) / len(seconds) / 3600 if seconds else None
    known = [size for size in sizes if size is not None]
    disk = sum(known) * (tuning + reporting) / len(sizes) if len(known) == len(sizes) else None
    return Plan(tuning, reporting, done, failed, hours, disk)


def _size_of_a_run(study: Study, variant: str, out: Path) -> float | None:
    """Bytes of the checkpoints of one run, None for a model of unknown size."""
    run = planned_run(study, variant, study.settings()[0], study.seeds[0], out)
    recipe = load_recipe(run.recipe, run.overrides)
    try:
        parameters = shape_of(recipe.model.path)[0].parameters
    except UnknownShape:
        return None
    default = METHODS[recipe.method].configuration().max_steps
    checkpoints = max(recipe.trainer.get("max_steps", default), 0) // study.every
    return parameters * (checkpoints * sum(BYTES.values()) + BYTES["weights"])


def _seconds(folder: Path) -> list[float]:
    """Seconds that a finished run trained, as its last record says; measuring its checkpoints comes on top."""
    records = folder / "metrics.jsonl"
    if not records.exists():
        return []
    last = json.loads(records.read_text(encoding="utf-8").splitlines()[-1])
    return [last["train_runtime"]] if "train_runtime" in last else []


def in_words(found: Plan) -> str:
    """The plan in one line each for runs, hours and disk."""
    hours = "not known until a run of it is done" if found.hours is None else f"{found.hours:.1f}, one after another"
    disk = (
        "not known, as the size of a policy is not"
        if found.disk is None
        else f"{found.disk / 2**30:.2f} GiB of checkpoints"
    )
    failed = f", {found.failed} failed" if found.failed else ""
    return (
        f"runs: {found.tuning + found.reporting}, {found.tuning} to choose settings and {found.reporting} to report; "
        f"{found.done} done{failed}\nhours: {hours}\ndisk: {disk}"
    )
