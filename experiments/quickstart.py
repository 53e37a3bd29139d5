"""The main job on the embedded default: warm start, control and candor, trained, probed and compared.

Every stage leaves its result in the run's folder and is skipped when it is found there, so that an interrupted run
goes on with ``--resume``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from experiments.config.recipe import Recipe, load_recipe
from experiments.errors import ConfigError
from experiments.files import locked
from experiments.probe.checkpoint import other_estimators, probe_checkpoint
from experiments.probe.measure import Metrics, measure, write_metrics
from experiments.probe.records import read_records, write_records
from experiments.report.html import write_report
from experiments.routing.large import large_answers, with_large
from experiments.train import train

CONTROL, RECOMMENDED = "rlvr", "candor"


def quickstart(
    out: str | Path,
    overrides: Sequence[str] = (),
    *,
    seed: int = 0,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> Metrics:
    """Train both recipes for the same steps, probe three checkpoints, and write the report.

    ``overrides`` change both recipes.

    Leaves in ``out``: ``report.html``, ``metrics.json`` (``checkpoints`` -> checkpoint -> metric), ``records.parquet``
    and a folder for each training. Returns the metrics by method. Raises ConfigError for a folder that will not do.
    """
    out = Path(out)
    recipes = {name: load_recipe(name, [f"trainer.seed={seed}", *overrides]) for name in (CONTROL, RECOMMENDED)}
    recommended = recipes[RECOMMENDED]
    recommended.task.require_binary()
    if any((out / name).exists() for name in (*recipes, "records.parquet")) and not resume:
        raise ConfigError(f"--out {out}: holds a run already; add --resume to go on with it, or choose another")
    with locked(out):
        return _quickstart(out, recipes, seed, resume, say)


def _quickstart(out: Path, recipes: dict[str, Recipe], seed: int, resume: bool, say: Callable[[str], None]) -> Metrics:
    started, recommended = time.perf_counter(), recipes[RECOMMENDED]
    policies: dict[str, str | Path] = {"warm_start": recommended.model.path}
    for name, recipe in recipes.items():
        say(f"training {name}: {recipe.trainer['max_steps']} steps, seed {seed}")
        policies[name] = train(recipe, out / name, resume=resume)

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
