"""The main job on the embedded default: warm start, control and candor, trained, probed and compared.

Every stage leaves its result in the run's folder and is skipped when it is found there, so that an interrupted run
goes on with ``--resume``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from experiments.config.recipe import Recipe, load_recipe
from experiments.errors import ConfigError, RunError
from experiments.files import locked
from experiments.launch.jobs import followed, open_executor, run_jobs
from experiments.probe.checkpoint import other_estimators, probe_checkpoint
from experiments.probe.measure import Metrics, measure, write_metrics
from experiments.probe.records import read_records, write_records
from experiments.report.html import write_report
from experiments.routing.large import large_answers, with_large
from experiments.train import FINAL, check_folder, train
from rl.files import is_complete, replacing

CONTROL, CALIBRATED, LARGE = "rlvr", "candor", "large"
CHEAP_CONTROL = "probe.recalibrate={answer_probability: [temperature, isotonic]}"
"""What needs no training of the confidence: probabilities of the answers, mapped by those of validation questions."""


def quickstart(
    out: str | Path,
    overrides: Sequence[str] = (),
    *,
    seed: int = 0,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> Metrics:
    """Train both recipes side by side for the same steps, probe three checkpoints, and write the report.

    ``overrides`` change both recipes.

    Leaves in ``out``: ``report.html``, ``metrics.json`` (``checkpoints`` -> checkpoint -> metric), ``records.parquet``
    and a folder for each training. Returns the metrics by method. Raises ConfigError for a folder that will not do.
    """
    out = Path(out)
    started, overrides = time.perf_counter(), (f"trainer.seed={seed}", CHEAP_CONTROL, *overrides)
    recipes = {name: load_recipe(name, overrides) for name in (CONTROL, CALIBRATED)}
    calibrated = recipes[CALIBRATED]
    calibrated.task.require_binary()
    if any((out / name).exists() for name in (*recipes, "records.parquet")) and not resume:
        raise ConfigError(f"--out {out}: holds a run already; add --resume to go on with it, or choose another")
    with locked(out):
        for name, recipe in recipes.items():
            check_folder(out / name, recipe, resume=resume)
            say(f"training {name}: {recipe.trainer['max_steps']} steps, seed {seed}")
        left = [name for name in recipes if not is_complete(out / name / FINAL)]
        trainings = [_Training(name, overrides, out / f"{name}.log", out / name, resume) for name in left]
        _run_all(trainings, out, tuple(f"{name}: " for name in left), say)
        return _probe_and_report(out, recipes, overrides, started, say)


@dataclass(frozen=True)
class _Job:
    """A training or a probe, for a process of its own; what it prints is kept in ``log``."""

    recipe: str
    overrides: tuple[str, ...]
    log: Path
    made: Path
    """The folder of the run, or the file of records."""


@dataclass(frozen=True)
class _Training(_Job):
    resume: bool

    def __call__(self) -> None:
        train(load_recipe(self.recipe, self.overrides), self.made, resume=self.resume)


@dataclass(frozen=True)
class _Probing(_Job):
    method: str
    checkpoint: str | Path | None
    """None for the model that questions are escalated to."""
    every_estimator: bool = True

    def __call__(self) -> None:
        recipe = load_recipe(self.recipe, self.overrides)
        with recipe.task.open_verifier() as verifier:
            if self.checkpoint is None:
                with replacing(self.made) as partial:
                    large_answers(recipe, verifier).to_parquet(partial, index=False)
                return
            records = probe_checkpoint(
                self.checkpoint,
                recipe,
                self.method,
                verifier,
                confidence=recipe.probe.confidence,
                others=other_estimators(recipe) if self.every_estimator else (),
            )
            write_records(records, self.made)


def _run_all(
    jobs: Sequence[_Training | _Probing], out: Path, said: str | tuple[str, ...], say: Callable[[str], None]
) -> None:
    """Run jobs side by side where there is a processor for each; of their logs, say what begins with ``said``."""
    if not jobs:
        return
    executor = open_executor("local", {}, out / ".jobs")

    def tell(line: str) -> None:
        if line.startswith(said):  # libraries print there too
            say(line)

    with followed([each.log for each in jobs], tell):
        ended = list(run_jobs(executor, _run, jobs, jobs=min(len(jobs), os.cpu_count() or 1)))
    for job, error in ended:
        if error is not None:
            raise RunError(f"{job.made} failed: {error}; its log is {job.log}")


def _run(job: _Training | _Probing) -> None:
    with job.log.open("a", encoding="utf-8", buffering=1) as log, redirect_stdout(log):
        job()


def _probe_and_report(
    out: Path, recipes: dict[str, Recipe], overrides: tuple[str, ...], started: float, say: Callable[[str], None]
) -> Metrics:
    calibrated = recipes[CALIBRATED]
    folder = out / "probe"
    folder.mkdir(exist_ok=True)

    def probing(recipe: str, method: str, checkpoint: str | Path | None, every_estimator: bool = True) -> _Probing:
        log, made = folder / f"{method}.log", folder / f"{method}.parquet"
        return _Probing(recipe, overrides, log, made, method, checkpoint, every_estimator)

    jobs = [
        *(probing(name, name, out / name / FINAL) for name in recipes),
        # The warm start is read as the control is.
        probing(CONTROL, "warm_start", calibrated.model.path, every_estimator=False),
        probing(CALIBRATED, LARGE, None),
    ]
    _run_all([job for job in jobs if not job.made.exists()], out, "probe ", say)
    large = pd.read_parquet(folder / f"{LARGE}.parquet")
    frames = [with_large(read_records(folder / f"{name}.parquet"), large) for name in ("warm_start", *recipes)]
    records = pd.concat(frames, ignore_index=True)
    write_records(records, out / "records.parquet")
    metrics = measure(records, resamples=calibrated.probe.resamples, seed=calibrated.trainer["seed"])
    write_metrics({"checkpoints": metrics}, out / "metrics.json")
    meta = {
        "task": "arithmetic, held-out questions",
        "questions": calibrated.probe.size,
        "seed": calibrated.trainer["seed"],
        "training steps": calibrated.trainer["max_steps"],
        "escalation target": calibrated.probe.escalate_to,
        "date": datetime.now(UTC).date().isoformat(),
    }
    report = write_report(out, title="candor quickstart", meta=meta)
    say(f"{report} written after {(time.perf_counter() - started) / 60:.1f} minutes")
    return metrics
