"""A run that is told to end by a signal saves a checkpoint first, as a job of Slurm or Kubernetes can expect."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import TrainerCallback

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Signals by which schedulers and a lost connection end a process."""


class StopOnSignal(TrainerCallback):
    """Ends a run after the step under way, with a checkpoint, once a process of it has got SIGTERM or SIGHUP.

    Signals are heard while :meth:`listening` is open. A second one is treated as it was before, which ends the process
    at once; one of several ranks ignores it, because its launcher passes on what it may have got by itself already. A
    signal that was ignored before, as SIGHUP is under nohup, stays ignored.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        """The signal that ends the run, on every rank, or None."""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Context manager: signals are heard within it. Changes nothing on another thread than the main one."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.getsignal(each) for each in ENDING}
        heard = {each: handler for each, handler in before.items() if handler not in (signal.SIG_IGN, None)}
        alone = int(os.environ.get("WORLD_SIZE", "1")) == 1

        def hear(number: int, _: Any) -> None:
            self.received = number
            for each, handler in heard.items():
                signal.signal(each, handler if alone else signal.SIG_IGN)

        for each in heard:
            signal.signal(each, hear)
        try:
            yield
        finally:
            for each, handler in heard.items():
                signal.signal(each, handler)

    def on_step_end(self, args, state, control, **kwargs: Any) -> None:
        if PartialState().num_processes > 1:
            told = [each for each in gather_object([self.received]) if each is not None]
            self.received = told[0] if told else None
        if self.received is not None:
            control.should_save = control.should_training_stop = True
