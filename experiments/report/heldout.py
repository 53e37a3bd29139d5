"""What a held-out probe in training leaves: a table in the run's folder, and in its trackers a picture beside it."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.report.figures import reliability_png
from rl.files import replacing
from rl.heldout import Answer

FOLDER = "heldout"
ROWS = 64
"""Questions of the table in a tracker, the first ones, so that they are the same at every probe."""


class HeldOutTables:
    """Called with a step and the answers of its probe, writes ``heldout/heldout_STEP.parquet`` into the run's folder.

    Where ``trackers`` names wandb or trackio, a reliability diagram and the first rows of the table go there as
    ``heldout/reliability`` and ``heldout/completions``, at the same step as the probe's metrics.
    """

    def __init__(self, run: Path, trackers: Collection[str]) -> None:
        self.run, self.trackers = run, [name for name in ("wandb", "trackio") if name in trackers]

    def __call__(self, step: int, answers: Sequence[Answer]) -> None:
        """Write the table of one probe."""
        table = pd.DataFrame(answers, columns=list(Answer._fields))
        table = table.astype(dict(zip(Answer._fields, ("float64", "float64", "string", "string"), strict=True)))
        with replacing(self.run / FOLDER / f"heldout_{step:05d}.parquet") as partial:
            table.to_parquet(partial, index=False)
        picture = _picture(table) if self.trackers else None
        for name in self.trackers:
            _log(name, step, table.head(ROWS), picture)


def tables(run: str | Path) -> list[Path]:
    """The tables of a run, in the order of their steps."""
    return sorted((Path(run) / FOLDER).glob("heldout_*.parquet"))


def judged(table: pd.DataFrame) -> tuple[Any, Any, Any]:
    """Confidence, 0 where none was read, correctness and whether one was read, each (N,), of the judged rows."""
    rows = table[table["correct"].notna()]
    parsed = rows["confidence"].notna()
    return rows["confidence"].fillna(0.0).to_numpy(float), rows["correct"].to_numpy(float), parsed.to_numpy(bool)


def _picture(table: pd.DataFrame) -> Any:
    from PIL import Image

    columns = judged(table)
    return Image.open(io.BytesIO(reliability_png(*columns))).convert("RGB") if len(columns[0]) else None


def _log(name: str, step: int, table: pd.DataFrame, picture: Any) -> None:
    """Log to a tracker whose run transformers has opened; without one there is nothing to log to."""
    if name == "wandb":
        import wandb as tracker

        if tracker.run is None:
            return
    else:
        import trackio as tracker
    content: dict[str, Any] = {"heldout/completions": tracker.Table(dataframe=table.astype(object))}
    if picture is not None:
        content["heldout/reliability"] = tracker.Image(picture)
    tracker.log(content | {"train/global_step": step})
