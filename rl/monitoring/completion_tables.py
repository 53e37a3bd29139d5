"""The tables of sampled completions that TRL writes, ``completions/completions_STEP.parquet``, kept to a size."""

from __future__ import annotations

import random
from collections.abc import MutableSequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

FOLDER = "completions"


class CompletionTables(TrainerCallback):
    """Leaves a sample of rows in each table, and the newest tables; a resumed run first drops those past its step.

    ``trainer.log_completions_rows`` completions are drawn by the run's seed and the step, so that a resumed run writes
    the same tables; ``trainer.log_completions_files`` tables are kept. None is all, of either.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            for path in tables(args.output_dir):
                if step_of(path) > state.global_step:
                    path.unlink()

    def on_log(self, args, state, control, **kwargs: Any) -> None:
        # TRL writes the table after this, of what its logs hold then.
        written, rows = len(self.trainer._logs["prompt"]), args.log_completions_rows
        if rows is not None and rows < written:
            drawn = sorted(random.Random(f"{args.seed} {state.global_step}").sample(range(written), rows))
            _keep(self.trainer._logs, drawn)

    def on_step_begin(self, args, state, control, **kwargs: Any) -> None:
        self._drop_old(args, state)

    def on_train_end(self, args, state, control, **kwargs: Any) -> None:
        self._drop_old(args, state)

    def _drop_old(self, args: Any, state: Any) -> None:
        if state.is_world_process_zero and args.log_completions_files is not None:
            for path in tables(args.output_dir)[: -args.log_completions_files]:
                path.unlink()


def tables(run: str | Path) -> list[Path]:
    """The tables of a run, in the order of their steps."""
    return sorted((Path(run) / FOLDER).glob("completions_*.parquet"), key=step_of)


def step_of(table: Path) -> int:
    """The step at which a table was written."""
    return int(table.stem.rpartition("_")[2])


def _keep(columns: dict[str, Any], rows: list[int]) -> None:
    """Keep these rows of every column that is not empty; a column may be a mapping of columns."""
    for column in columns.values():
        if isinstance(column, dict):
            _keep(column, rows)
        elif isinstance(column, MutableSequence) and column:
            kept = [column[row] for row in rows]
            column.clear()
            column.extend(kept)
