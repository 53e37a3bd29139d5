"""How far a run is, for those who watch it on a terminal and for those who read its log afterwards.

A bar redraws one line, which a terminal shows and a file keeps a thousand times over. Where standard output or standard
error is not a terminal there is no bar, and a line at every tenth of the way instead.
"""

from __future__ import annotations

import sys
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback

_SHOWN = {
    "reward": "reward",
    "calibration/accuracy": "accuracy",
    "calibration/brier": "brier",
    "calibration/auroc": "auroc",
    "parse/ok": "parsed",
    "loss": "loss",
}


def is_watched() -> bool:
    """Whether somebody watches: standard output and standard error are both a terminal."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr))


def tell(line: str) -> None:
    """Print a line of a run: above its bar on a terminal, else at once, so that a log is never behind its run."""
    if is_watched():
        tqdm.write(line)
    else:
        print(line, flush=True)


class Meter:
    """Counts up to ``total``: a bar on a terminal, else a line at every tenth. A context manager, which closes it.

    ``done`` of the total are counted already when it starts. Without a ``title`` nothing is shown.
    """

    def __init__(self, total: int, title: str | None, *, unit: str, done: int = 0) -> None:
        self.total, self.title, self.unit, self.done = total, title, unit, done
        self.bar: tqdm | None = None
        if title is not None and is_watched():
            self.bar = tqdm(total=total, initial=done, desc=title, unit=unit, disable=False)

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def reach(self, done: int, behind: str = "") -> None:
        """Show that ``done`` of the total are done, with the text ``behind`` them."""
        tenths_before, self.done, before = 10 * self.done // max(self.total, 1), done, self.done
        if self.bar is not None:
            if behind:
                self.bar.set_postfix_str(behind, refresh=False)
            self.bar.update(done - before)
        elif self.title is not None and 10 * done // max(self.total, 1) > tenths_before:
            tell(f"{self.title}: {self.unit} {done} of {self.total}{', ' * bool(behind)}{behind}")

    def close(self) -> None:
        """Leave the bar as it stands; after an interrupt too, or it would be drawn once more under the last word."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class Progress(TrainerCallback):
    """Shows the steps of a run with its leading numbers behind them, and its checkpoints in a log.

    Only the main process shows them. To be behind the callback that writes checkpoints, whose names it tells.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.meter: Meter | None = None
        self.numbers = ""

    def on_train_begin(self, args, state, control, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.meter = Meter(state.max_steps, self.title, unit="step", done=state.global_step)

    def on_step_end(self, args, state, control, **kwargs: Any) -> None:
        if self.meter is not None and not control.should_log:  # else with the numbers that are about to come
            self.meter.reach(state.global_step, self.numbers)

    def on_log(self, args, state, control, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if self.meter is not None and logs and "train_runtime" not in logs:
            shown = {label: logs[name] for name, label in _SHOWN.items() if isinstance(logs.get(name), float)}
            self.numbers = ", ".join(f"{label}={value:.3f}" for label, value in shown.items()) or self.numbers
            self.meter.reach(state.global_step, self.numbers)

    def on_save(self, args, state, control, **kwargs: Any) -> None:
        if self.meter is not None and self.meter.bar is None:
            tell(f"{self.title}: step {state.global_step}, checkpoint-{state.global_step} saved")

    def on_train_end(self, args, state, control, **kwargs: Any) -> None:
        self.close()

    def close(self) -> None:
        """End the bar where there is one."""
        if self.meter is not None:
            self.meter.close()
            self.meter = None
