"""Callbacks of every run that write its files: the metrics, and whole checkpoints."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import TrainerCallback

from rewards.rubric import Rubric
from rewards.template import AnswerTemplate
from rl.checkpoint import write_calibration
from rl.files import keep_last_checkpoints, keep_lines_up_to, mark_complete, writing

METRICS_FILE = "metrics.jsonl"
_OF_THE_PROCESS = frozenset({"train_loss"})
"""What the last record says of the steps since this process started, which a resumed run would say otherwise."""


class MetricsFile(TrainerCallback):
    """Appends every log record to ``metrics.jsonl`` as it comes; a resumed run first drops what lies past its step."""

    def on_train_begin(self, args, state, control, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            keep_lines_up_to(Path(args.output_dir) / METRICS_FILE, state.global_step)

    def on_log(self, args, state, control, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if state.is_world_process_zero and logs:
            kept = {name: _json_number(value) for name, value in logs.items() if name not in _OF_THE_PROCESS}
            record = {"step": state.global_step} | kept
            with (Path(args.output_dir) / METRICS_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, allow_nan=False) + "\n")


class WholeCheckpoints(TrainerCallback):
    """Puts the calibration folder beside each checkpoint's weights, then the mark that it is complete.

    Only then the checkpoints beyond the newest ``limit`` go: rotation is taken over from transformers, whose
    ``save_total_limit`` is to be None. To be the last callback that writes into a checkpoint. Raises CheckpointError
    where it cannot write.
    """

    def __init__(
        self, template: AnswerTemplate, rubric: Rubric | None, recipe: dict[str, Any], limit: int | None = None
    ) -> None:
        self.template, self.rubric, self.recipe, self.limit = template, rubric, recipe, limit

    def on_step_end(self, args, state, control, **kwargs: Any) -> None:
        # Averages over several steps do not survive a kill: they end where a checkpoint is taken.
        control.should_log |= control.should_save

    def on_save(self, args, state, control, **kwargs: Any) -> None:
        PartialState().wait_for_everyone()  # other ranks write their share of the optimizer and random states
        if state.is_world_process_zero:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            with writing(checkpoint):
                tokenizer = kwargs.get("processing_class")
                write_calibration(checkpoint, self.template, self.rubric, self.recipe, tokenizer)
                mark_complete(checkpoint, state.global_step)
            keep_last_checkpoints(args.output_dir, self.limit)


def _json_number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
