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
from rl.files import is_complete

CONTROL, RECOMMENDED = "rlvr", "candor"
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
    recipes = {name: load_recipe(name, overrides) for name in (CONTROL, RECOMMENDED)}
    recommended = recipes[RECOMMENDED]
    recommended.task.require_binary()
    if any((out / name).exists() for name in (*recipes, "records.parquet")) and not resume:
        raise ConfigError(f"--out {out}: holds a run already; add --resume to go on with it, or choose another")
    with locked(out):
        for name, recipe in recipes.items():
            check_folder(out / name, recipe, resume=resume)
            say(f"training {name}: {recipe.trainer['max_steps']} steps, seed {seed}")
        left = [name for name in recipes if not is_complete(out / name / FINAL)]
        _train_all([_Training(name, overrides, out / name, resume) for name in left], out, say)
        return _probe_and_report(out, recipes, seed, started, say)


@dataclass(frozen=True)
class _Training:
    """One of the trainings, for a process of its own."""

    recipe: str
    overrides: tuple[str, ...]
    folder: Path
    resume: bool

    @property
    def log(self) -> Path:
        """Where it prints."""
        return self.folder.with_name(f"{self.folder.name}.log")


def _train_all(trainings: Sequence[_Training], out: Path, say: Callable[[str], None]) -> None:
    """Train side by side, each in a process of its own, where there is a processor for each."""
    if not trainings:
        return
    executor = open_executor("local", {}, out / ".jobs")
    names = tuple(f"{each.recipe}: " for each in trainings)

    def tell(line: str) -> None:
        if line.startswith(names):  # libraries print there too
            say(line)

    with followed([each.log for each in trainings], tell):
        ended = list(run_jobs(executor, _train, trainings, jobs=min(len(trainings), os.cpu_count() or 1)))
    for training, error in ended:
        if error is not None:
            raise RunError(f"{training.folder} failed: {error}; its log is {training.log}")


def _train(training: _Training) -> None:
    with training.log.open("a", encoding="utf-8", buffering=1) as log, redirect_stdout(log):
        train(load_recipe(training.recipe, training.overrides), training.folder, resume=training.resume)


def _probe_and_report(
    out: Path, recipes: dict[str, Recipe], seed: int, started: float, say: Callable[[str], None]
) -> Metrics:
    recommended = recipes[RECOMMENDED]
    policies: dict[str, str | Path] = {"warm_start": recommended.model.path}
    policies |= {name: out / name / FINAL for name in recipes}
    folder = out / "probe"
    folder.mkdir(exist_ok=True)
    frames = []
    with recommended.task.open_verifier() as verifier:
        large: pd.DataFrame | None = None
        for method, path in policies.items():
            kept = folder / f"{method}.parquet"
            if not kept.exists():
                if large is None:
                    large = large_answers(recommended, verifier)
                recipe = recipes.get(method, recipes[CONTROL])  # the warm start is read as the control is
                records = probe_checkpoint(
                    path,
                    recipe,
                    method,
                    verifier,
                    confidence=recipe.probe.confidence,
                    others=other_estimators(recipe) if method in recipes else (),
                )
                write_records(with_large(records, large), kept)
            frames.append(read_records(kept))
    records = pd.concat(frames, ignore_index=True)
    write_records(records, out / "records.parquet")
    metrics = measure(records, resamples=recommended.probe.resamples, seed=seed)
    write_metrics({"checkpoints": metrics}, out / "metrics.json")
    meta = {
        "task": "arithmetic, held-out questions",
        "questions": recommended.probe.size,
        "seed": seed,
        "training steps": recommended.trainer["max_steps"],
        "escalation target": recommended.probe.escalate_to,
        "date": datetime.now(UTC).date().isoformat(),
    }
    report = write_report(out, title="candor quickstart", meta=meta)
    say(f"{report} written after {(time.perf_counter() - started) / 60:.1f} minutes")
    return metrics
