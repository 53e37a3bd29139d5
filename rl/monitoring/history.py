"""What a run has logged, as far as alarms look at it: of each metric the first and the last values, and every probe."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Series:
    """The first and the last ``window`` values of one metric, with the steps of the last ones."""

    first: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    count: int = 0


@dataclass(frozen=True)
class Change:
    """Means over the first and the last window, and three standard errors of their difference."""

    before: float
    now: float
    noise: float
    since: int


class History:
    """What a run has logged so far, as far as alarms look at it."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.series: dict[str, Series] = {}
        self.probes: list[tuple[int, float, float]] = []
        """Step, held-out Brier score and mean training reward of each held-out probe."""

    def add(self, step: int, record: Mapping[str, Any]) -> None:
        """Take in one log record; what is not a finite number in it is left out."""
        for name, value in record.items():
            if isinstance(value, (int, float)) and math.isfinite(value) and _watched(name):
                series = self.series.setdefault(name, Series())
                series.count += 1
                if len(series.first) < self.window:
                    series.first.append(float(value))
                series.last = [*series.last, float(value)][-self.window :]
                series.steps = [*series.steps, step][-self.window :]
        brier, rewards = record.get("heldout/brier"), self.series.get("reward")
        if isinstance(brier, float) and rewards is not None:
            self.probes.append((step, brier, float(np.mean(rewards.last))))

    def mean(self, name: str, least: int | None = None) -> float | None:
        """Mean over the last window; None before there is a whole one, or ``least`` values of what is rarely logged."""
        series = self.series.get(name)
        least = self.window if least is None else least
        return float(np.mean(series.last)) if series and series.count >= least else None

    def first_mean(self, name: str) -> float:
        """Mean over the first window of what was logged."""
        return float(np.mean(self.series[name].first))

    def since(self, name: str) -> int:
        """First step of the last window."""
        return self.series[name].steps[0]

    def latest(self, name: str) -> int:
        """Last step of the last window."""
        return self.series[name].steps[-1]

    def change(self, name: str) -> Change | None:
        """The first window against the last; None where they overlap."""
        series = self.series.get(name)
        if series is None or series.count < 2 * self.window:
            return None
        squared_error = (np.var(series.first) + np.var(series.last)) / max(self.window - 1, 1)
        return Change(
            float(np.mean(series.first)), float(np.mean(series.last)), 3 * math.sqrt(squared_error), series.steps[0]
        )

    def state(self) -> dict[str, Any]:
        """Plain values from which :meth:`restored` makes an equal history."""
        return {
            "window": self.window,
            "series": {name: dataclasses.asdict(series) for name, series in self.series.items()},
            "probes": [list(probe) for probe in self.probes],
        }

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> History:
        """The history that was put away as ``state``."""
        history = cls(state["window"])
        history.series = {name: Series(**values) for name, values in state["series"].items()}
        history.probes = [(step, brier, reward) for step, brier, reward in state["probes"]]
        return history


def _watched(name: str) -> bool:
    return name == "reward" or name.startswith(("calibration/", "parse/", "groups/", "advantages/", "grad_norm/"))
