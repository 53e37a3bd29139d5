"""What a study will take before it is started: runs, hours, disk."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.ablation.study import Study, planned_run
from experiments.config.recipe import load_recipe
from experiments.launch.estimate import facts_of
from experiments.launch.shapes import UnknownShape


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
    """Bytes of all checkpoints together, which are kept; None where the size of a policy or its steps are not known.

    The runs that report are taken to be as large as those at a setting of the grid are on average.
    """


def plan(study: Study, out: Path) -> Plan:
    """Count what a study will run in ``out``, and what is done there already."""
    settings = study.settings()
    tuning = len(settings) * len(study.select.seeds) * len(study.variants)
    reporting = len(study.seeds) * len(study.variants)
    done, failed = 0, 0
    disk: float | None = 0.0
    seconds: list[float] = []
    for variant in study.variants:
        for setting in settings:
            size = _size_of_a_run(study, variant, setting, out)
            runs = len(study.select.seeds) + len(study.seeds) / len(settings)
            disk = None if disk is None or size is None else disk + size * runs
            for seed in (*study.select.seeds, *study.seeds):
                run = planned_run(study, variant, setting, seed, out)
                failed += run.failure is not None
                if run.done:
                    done += 1
                    seconds += _seconds(run.folder)
    left = max(tuning + reporting - done, 0)
    hours = left * sum(seconds) / len(seconds) / 3600 if seconds else None
    return Plan(tuning, reporting, done, failed, hours, disk)


def _size_of_a_run(study: Study, variant: str, setting: dict[str, Any], out: Path) -> float | None:
    """Bytes of the checkpoints of one run, None for a model of unknown size and for steps that its data decide.

    A checkpoint has what is trained, whole or as float32 adapters, a separate critic, and Adam's two averages of both;
    there is one every so many steps and one at the last. ``final`` has no averages.
    """
    run = planned_run(study, variant, setting, study.seeds[0], out)
    try:
        facts = facts_of(load_recipe(run.recipe, run.overrides))
    except UnknownShape:
        return None
    if facts.max_steps < 1:
        return None
    whole = facts.shape.parameters
    weights = facts.width * whole if facts.trained == whole else 4 * facts.trained
    weights += facts.width * whole * facts.critic
    return weights * (3 * -(-facts.max_steps // study.every) + 1)


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
        "not known, as the size of a policy or the number of its steps is not"
        if found.disk is None
        else f"{found.disk / 2**30:.2f} GiB of checkpoints"
    )
    failed = f", {found.failed} failed" if found.failed else ""
    return (
        f"runs: {found.tuning + found.reporting}, {found.tuning} to choose settings and {found.reporting} to report; "
        f"{found.done} done{failed}\nhours: {hours}\ndisk: {disk}"
    )
