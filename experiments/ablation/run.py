"""An ablation: variants of a recipe, each at the best of a grid of settings, over seeds, on held-out questions.

    candor ablate credit --out runs/credit --jobs 2

Each run of a study is a job of its own in ``OUT/VARIANT/SETTING/seed-N``; a finished one is not run again, an
interrupted one goes on. One that fails leaves ``failure.json`` and ends no other; it is tried again where that is asked
for. Leaves ``results.parquet`` (one row a measured value), ``summary.json``, ``summary.md``, ``report.html`` and
``curves.svg|png``.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.ablation.page import write_page
from experiments.ablation.planned import FAILURE, MEASURES, Run, measured_by
from experiments.ablation.plots import save_curves
from experiments.ablation.results import chosen_setting, write_results
from experiments.ablation.study import MEASURED, Study, planned_run
from experiments.ablation.summary import SHOWN, summarize
from experiments.ablation.tables import markdown_summary
from experiments.ablation.trackers import publish, tracked_as, trackers_of
from experiments.config.models import find_model
from experiments.config.recipe import Recipe, load_recipe
from experiments.errors import RunError
from experiments.files import without_nan, writable
from experiments.launch.jobs import UNSUBMITTED, open_executor, run_jobs
from experiments.probe.checkpoint import other_estimators, probe_checkpoint
from experiments.probe.measure import measure
from experiments.probe.records import write_records
from experiments.report.html import RECORDS
from experiments.routing.large import large_answers, with_large
from experiments.train import KEPT_RECIPE, check_folder, train
from rewards.verifiers.verifier import Verifier
from rl.files import write_json, write_text

_LOG, _JOBS = "log.txt", ".jobs"
_METHOD = "probe"


def ablate(
    study: Study,
    out: str | Path,
    *,
    jobs: int = 1,
    cluster: str = "local",
    request: Mapping[str, Any] | None = None,
    retry_failed: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Run a study in ``out``, ``jobs`` trainings at a time, and return its summary, see ``summarize``.

    For ``cluster`` and ``request`` see :func:`experiments.launch.jobs.open_executor`. Runs that failed are named in the
    summary's ``failures`` and stay as they are unless ``retry_failed``. Raises ConfigError for a folder that cannot be
    written and a policy that is not there, RunError where a job could not be submitted and where a tracker refused the
    summary.
    """
    _check_models(study)
    out = writable(out)
    executor = open_executor(cluster, request or {}, out / _JOBS)
    tried = {
        name: [[planned_run(study, name, each, seed, out) for seed in study.select.seeds] for each in study.settings()]
        for name in study.variants
    }
    selecting = [run for settings in tried.values() for runs in settings for run in runs]
    _run_all(executor, selecting, jobs, retry_failed, say)
    chosen = {name: chosen_setting(study, settings) for name, settings in tried.items()}
    reporting = {
        name: [] if setting is None else [planned_run(study, name, setting, seed, out) for seed in study.seeds]
        for name, setting in chosen.items()
    }
    reported = [run for runs in reporting.values() for run in runs]
    _run_all(executor, reported, jobs, retry_failed, say)
    write_results({"selection": selecting, "reporting": reported}, out / "results.parquet")
    summary = without_nan(summarize(study, chosen, reporting, [*selecting, *reported]))
    write_json(out / "summary.json", summary)
    write_text(out / "summary.md", markdown_summary(summary))
    curves = {name: [run.curve for run in runs if run.done] for name, runs in reporting.items()}
    curves = {name: each for name, each in curves.items() if each}
    if curves:
        for path in save_curves(curves, MEASURED, out):
            say(str(path))
    say(str(write_page(study.name, summary, out)))
    recipes = [load_recipe(run.recipe, run.overrides) for runs in reporting.values() for run in runs[:1]]
    publish(study.name, summary, out, sorted({name for recipe in recipes for name in trackers_of(recipe)}))
    return summary


def _check_models(study: Study) -> None:
    """Raise ConfigError where a policy to train is not there, before the first job is started."""
    for variant in study.variants:
        for setting in study.settings():
            for seed in (*study.select.seeds, *study.seeds):
                run = planned_run(study, variant, setting, seed, Path())
                model = load_recipe(run.recipe, run.overrides).model
                find_model(model.path, "model.path", model.gguf_file)


def _run_all(executor: Any, runs: list[Run], jobs: int, retry_failed: bool, say: Callable[[str], None]) -> None:
    for run in runs:  # what is there may be of other settings
        if run.folder.exists():
            check_folder(run.folder, load_recipe(run.recipe, run.overrides), resume=True)
        if retry_failed:
            (run.folder / FAILURE).unlink(missing_ok=True)
    left = [run for run in runs if not run.done and run.failure is None]
    unsubmitted = None
    ended = run_jobs(executor, _train_and_measure, left, jobs=jobs, go_on=True)
    for count, (run, error) in enumerate(ended, 1):
        said = f"done, {len(left) - count} to go" if error is None else f"failed, {len(left) - count} to go: {error}"
        say(f"{run.variant} {run.folder.parent.name} seed {run.seed} {said}")
        if error is not None and error.startswith(UNSUBMITTED):
            unsubmitted = unsubmitted or RunError(f"{run.folder} {error}")
        elif error is not None:
            log = run.folder / _LOG
            run.folder.mkdir(parents=True, exist_ok=True)
            write_json(run.folder / FAILURE, {"error": error + f"; its log is {log}" * log.exists()})
    if unsubmitted is not None:
        raise unsubmitted


def _train_and_measure(run: Run) -> None:
    """One run in a job of its own: train it, then measure its checkpoints in order and its final policy."""
    run.folder.mkdir(parents=True, exist_ok=True)
    with (run.folder / _LOG).open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        try:
            recipe = load_recipe(run.recipe, run.overrides)
            os.environ.update(tracked_as(run, recipe))
            final = train(recipe, run.folder, resume=(run.folder / KEPT_RECIPE).exists())
            measures = _measure_checkpoints(run, final)
        except Exception:
            traceback.print_exc()
            raise
    write_json(run.folder / MEASURES, measures)


def _measure_checkpoints(run: Run, final: Path) -> list[dict[str, Any]]:
    """The recipe's confidence at every checkpoint, by step, then all that can be read off the final policy.

    Its answers to the test questions, with each of their confidences, are kept in the run's folder.
    """
    on_test, on_validation = measured_by(run)
    checkpoints = sorted(run.folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    places: list[tuple[int, str | Path]] = [(0, on_test.model.path)]
    places += [(int(path.name.rpartition("-")[2]), path) for path in checkpoints]
    with on_test.task.open_verifier() as verifier:
        large = large_answers(on_test, verifier) if on_test.probe.escalate_to is not None else None
        measures = []
        for step, path in places:
            measures += _measured(step, _probed(path, on_validation, verifier), on_validation)
        records = _probed(final, on_test, verifier, others=other_estimators(on_test))
    if large is not None:
        records = with_large(records, large)
    write_records(records, run.folder / RECORDS)
    return measures + _measured(places[-1][0], records, on_test)


def _probed(path: str | Path, recipe: Recipe, verifier: Verifier, others: Sequence[str] = ()) -> pd.DataFrame:
    confidence = recipe.probe.confidence
    return probe_checkpoint(path, recipe, _METHOD, verifier, confidence=confidence, others=others, sampled=False)


def _measured(step: int, records: pd.DataFrame, recipe: Recipe) -> list[dict[str, Any]]:
    """An entry for each way in which the completions' confidence was read, that of the recipe first."""
    return [
        {
            "step": step,
            "split": recipe.probe.split,
            "size": recipe.probe.size,
            "method": method.removeprefix(f"{_METHOD}_") if method != _METHOD else recipe.probe.confidence,
            **{key: found[key]["value"] for key in SHOWN if key in found},
        }
        for method, found in measure(records, resamples=2).items()
    ]
