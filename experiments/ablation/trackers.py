"""A study in wandb and trackio, where its recipes log to them: runs as one group, table and pictures beside them.

Nothing here needs a network: wandb keeps its runs offline with ``WANDB_MODE=offline``, to be sent later by
``wandb sync``, and trackio keeps them on this machine.
"""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.ablation.planned import Run
from experiments.ablation.plots import trade_figure
from experiments.ablation.summary import ROUTED
from experiments.ablation.tables import setting_in_words, shown_metrics
from experiments.config.recipe import Recipe
from experiments.errors import RunError

TRACKERS = ("wandb", "trackio")


def trackers_of(recipe: Recipe) -> list[str]:
    """Those of the trackers that a recipe logs to."""
    named = recipe.trainer.get("report_to", "none")
    return [each for each in TRACKERS if each in ([named] if isinstance(named, str) else named)]


def tracked_as(run: Run, recipe: Recipe) -> dict[str, str]:
    """Variables under which a run is logged: in wandb its study is the group and its variant the type, in trackio its
    study is the project. None for a run that is not logged."""
    name = f"{run.variant} {run.folder.parent.name} seed {run.seed}"
    variables = {
        "wandb": {"WANDB_RUN_GROUP": run.study, "WANDB_JOB_TYPE": run.variant, "WANDB_NAME": name},
        "trackio": {"TRACKIO_PROJECT": run.study, "TRACKIO_RUN_NAME": name},
    }
    return {key: value for each in trackers_of(recipe) for key, value in variables[each].items()}


def publish(study: str, summary: Mapping[str, Any], out: Path, trackers: Collection[str]) -> None:
    """Log the table of a summary and the study's pictures as a run of its own, ``summary``, in each of the trackers.

    Raises RunError where a tracker refuses; what the study measured is in its folder already.
    """
    for name in trackers:
        try:
            _publish(name, study, summary, out)
        except Exception as error:  # of whatever kind a tracker has: a missing login, a network, a full disk
            raise RunError(f"{out}: the summary is written, but {name} did not take it: {error}") from error


def _publish(name: str, study: str, summary: Mapping[str, Any], out: Path) -> None:
    if name == "wandb":
        import wandb as tracker

        run = tracker.init(
            project=os.environ.get("WANDB_PROJECT", "huggingface"), group=study, job_type="summary", name="summary"
        )
    else:
        import trackio as tracker

        run = tracker.init(project=study, name="summary", resume="allow", auto_log_cpu=False, auto_log_gpu=False)
    content: dict[str, Any] = {"study/variants": tracker.Table(dataframe=_table(summary))}
    content |= {f"study/{each}": tracker.Image(picture) for each, picture in _pictures(summary, out).items()}
    run.log(content)
    run.finish()


def _table(summary: Mapping[str, Any]) -> pd.DataFrame:
    """One row a variant: its setting, and of every metric the mean over seeds and its interval's ends."""
    rows = []
    for variant, row in summary["variants"].items():
        found = {metric: row.get(metric) or {} for metric in shown_metrics(summary["variants"])}
        values = {
            metric + ending: each.get(key)
            for metric, each in found.items()
            for ending, key in (("", "value"), ("_low", "low"), ("_high", "high"))
        }
        rows.append({"variant": variant, "setting": setting_in_words(row), **values})
    return pd.DataFrame(rows).astype(object)


def _pictures(summary: Mapping[str, Any], out: Path) -> dict[str, Any]:
    from PIL import Image

    pictures = {}
    if (out / "curves.png").exists():
        pictures["curves"] = Image.open(out / "curves.png").convert("RGB")
    for metric in ("brier", ROUTED):
        if metric in shown_metrics(summary["variants"]):
            drawn = trade_figure(summary["variants"], metric, form="png")
            pictures[f"accuracy_against_{metric}"] = Image.open(io.BytesIO(drawn)).convert("RGB")
    return pictures
