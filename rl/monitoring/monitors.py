"""The alarms of a run as a callback: each is raised once, shown, written down and logged, and may end the run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback

from rl.files import keep_lines_up_to, write_json, writing
from rl.monitoring.alarms import ALARMS, Alarm, MonitorSettings, RunFacts, check
from rl.monitoring.history import History
from rl.monitoring.progress import tell

ALARMS_FILE, STATE_FILE = "alarms.jsonl", "monitors.json"


class Monitors(TrainerCallback):
    """Watches the logged metrics of a run and raises each alarm once, at the first record in which it is seen.

    An alarm is one line of ``alarms.jsonl`` (``alarm step since saw remedy``) and one on the terminal; ``alarms/NAME``
    in the metrics says at each record whether it is seen. With ``on_alarm: stop`` the first one ends the run, with a
    checkpoint. What has been seen is part of each checkpoint, so that a resumed run raises the same alarms at the same
    steps. To be the first callback: what it adds to a record, the loggers behind it write. Only the main process
    watches; where it stops, all do.
    """

    def __init__(self, settings: MonitorSettings, facts: RunFacts) -> None:
        self.settings, self.facts = settings, facts
        self.history = History(settings.window)
        self.raised: list[str] = []
        self.stopped_by: str | None = None
        """The alarm that ended the run, on every process."""

    def on_train_begin(self, args, state, control, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        keep_lines_up_to(Path(args.output_dir) / ALARMS_FILE, state.global_step)
        kept = Path(args.output_dir) / f"checkpoint-{state.global_step}" / STATE_FILE
        if state.global_step and kept.is_file():
            stored = json.loads(kept.read_text(encoding="utf-8"))
            self.history, self.raised = History.restored(stored["history"]), stored["raised"]

    def on_log(self, args, state, control, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if state.is_world_process_zero and logs and "loss" in logs:  # not the summary at the end
            self.history.add(state.global_step, logs)
            for name, finding in check(self.history, self.settings, self.facts).items():
                logs[f"alarms/{name}"] = float(finding is not None)
                if finding is not None and name not in self.raised:
                    self._raise(Path(args.output_dir), Alarm(name, state.global_step, *finding, ALARMS[name][1]))
        if self.settings.on_alarm == "stop":
            stopped_by = [self.stopped_by]
            if PartialState().num_processes > 1:
                broadcast_object_list(stopped_by)
            self.stopped_by = stopped_by[0]
            control.should_training_stop |= self.stopped_by is not None
            control.should_save |= self.stopped_by is not None

    def on_save(self, args, state, control, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            with writing(checkpoint):
                write_json(checkpoint / STATE_FILE, {"history": self.history.state(), "raised": self.raised})

    def _raise(self, run: Path, alarm: Alarm) -> None:
        self.raised.append(alarm.alarm)
        if self.settings.on_alarm == "stop":
            self.stopped_by = self.stopped_by or str(alarm)
        with (run / ALARMS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(alarm)) + "\n")
        tell(f"candor: {alarm}")
