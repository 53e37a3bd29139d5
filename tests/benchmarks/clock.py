"""The clock of the benchmarks that compare two things on a processor or on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch


def timed(function: Callable[[], Any], device: str = "cpu") -> tuple[float, Any]:
    """Seconds that a call takes, and what it returns.

    On a CPU they are those of the processor that the process was given, on a GPU those that pass until all that was
    asked of it is done.
    """
    if device == "cpu":
        started = time.process_time()
        result = function()
        return time.process_time() - started, result
    torch.accelerator.synchronize()
    started = time.perf_counter()
    result = function()
    torch.accelerator.synchronize()
    return time.perf_counter() - started, result
