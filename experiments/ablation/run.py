"""An ablation: variants of a recipe, each at the best of a grid of settings, over seeds, on held-out questions.

    candor ablate credit --out runs/credit --jobs 2

Each run of a study is a job of its own in ``OUT/VARIANT/SETTING/seed-N``; a finished one is not run again, an
interrupted one goes on. Leaves ``curves.jsonl`` (one line a measured checkpoint), ``summary.json``, ``summary.md`` and
``curves.svg|png``.
"""

from __future__ import annotations

import itertools
import json
import math
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from experiments.ablation.plots import save_curves
from experiments.ablation.study import MEASURED, MEASURES, Run, Study, measured_by, planned_run
from experiments.ablation.summary import ROUTED, markdown_summary, over_seeds
from experiments.config.recipe import load_recipe
from experiments.errors import RunError
from experiments.files import without_nan, writable
from experiments.launch.jobs import open_executor, run_jobs
from experiments.report.glossary import METRICS
from experiments.train import KEPT_RECIPE, check_folder, train
from rl.files import write_json, write_text

_LOG, _JOBS = "log.txt", ".jobs"


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
    settings = study.settings()
    tried = {name: [planned_run(study, name, each, first, out) for each in settings] for name in study.variants}
    _run_all(executor, list(itertools.chain(*tried.values())), jobs, say)
    best = {name: min(runs, key=lambda run: _loss(study.select, run)) for name, runs in tried.items()}
    chosen = {
        name: [run, *(planned_run(study, name, run.setting, seed, out) for seed in rest)] for name, run in best.items()
    }
    _run_all(executor, list(itertools.chain(*chosen.values())), jobs, say)
    with (out / "curves.jsonl").open("w", encoding="utf-8") as file:
        for run in {run.folder: run for runs in [*tried.values(), *chosen.values()] for run in runs}.values():
            for entry in run.measures:
                line = {"variant": run.variant, "setting": run.setting, "seed": run.seed, **entry}
                file.write(json.dumps(line) + "\n")
    summary = {
        name: {"setting": best[name].setting}
        | {metric: over_seeds(metric, runs) for metric in (*MEASURED, ROUTED) if metric in best[name].measures[-1]}
        for name, runs in chosen.items()
    }
    write_json(out / "summary.json", without_nan(summary))
    write_text(out / "summary.md", markdown_summary(summary))
    curves = {
        name: [[e for e in run.measures if e["split"] != "test"] for run in runs] for name, runs in chosen.items()
    }
    for path in save_curves(curves, MEASURED, out):
        say(str(path))
    return summary


def _loss(metric: str, run: Run) -> float:
    """What is lowest for the best setting: the metric of the last checkpoint on validation questions."""
    last = [entry for entry in run.measures if entry["split"] != "test"][-1][metric]
    if last is None:  # undefined, as the AUROC of one class
        return math.inf
    higher = next(each.better for each in METRICS if each.key == metric) == "higher"
    return -last if higher else last


def _run_all(executor: Any, runs: list[Run], jobs: int, say: Callable[[str], None]) -> None:
    for run in runs:  # what is there may be of other settings
        if run.folder.exists():
            check_folder(run.folder, load_recipe(run.recipe, run.overrides), resume=True)
    left = [run for run in runs if not (run.folder / MEASURES).exists()]
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
    write_json(run.folder / MEASURES, measures)


def _measure_checkpoints(run: Run, final: Path) -> list[dict[str, Any]]:
    from experiments.probe.checkpoint import probe_checkpoint
    from experiments.probe.measure import measure
    from experiments.routing.large import large_answers, with_large

    on_test, on_validation = measured_by(run)
    checkpoints = sorted(run.folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    places: list[tuple[int, str | Path, Any]] = [(0, on_test.model.path, on_validation)]
    places += [(int(path.name.rpartition("-")[2]), path, on_validation) for path in checkpoints]
    places.append((places[-1][0], final, on_test))
    measures = []
    with on_test.task.open_verifier() as verifier:
        large = large_answers(on_test, verifier) if on_test.probe.escalate_to is not None else None
        for step, path, recipe in places:
            last = recipe is on_test
            records = probe_checkpoint(
                path,
                recipe,
                "probe",
                verifier,
                confidence=recipe.probe.confidence,
            )
            if last and large is not None:
                records = with_large(records, large)
            found = measure(records, resamples=2)["probe"]
            entry = {"step": step, "split": "test" if last else recipe.probe.split}
            measures.append(entry | {key: found[key]["value"] for key in (*MEASURED, ROUTED) if key in found})
    return measures
