"""The facts of a whole global batch, as arrays: all that reward terms may look at.

Shapes: N completions of the global batch (all ranks), grouped by prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from rewards.completion import ParseStatus


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Facts per completion, gathered over all ranks before any term is scored.

    ``correct`` (N,) in [0, 1], NaN where the verifier could not judge; ``confidence`` (N,) in [0, 1], NaN where none
    was read; ``status`` N statuses; ``group`` (N,) integers, equal for completions of one prompt; ``length`` (N,)
    completion tokens; ``signals`` name -> (N,) estimator values, NaN where undefined; ``abstained`` (N,) whether the
    answer declines to answer, which nobody did where it is left out.

    Raises ValueError when the lengths differ, a value lies outside its range or a signal has the name of a fact.
    """

    correct: np.ndarray
    confidence: np.ndarray
    status: tuple[ParseStatus, ...]
    group: np.ndarray
    length: np.ndarray
    signals: Mapping[str, np.ndarray] = field(default_factory=dict)
    abstained: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))

    def __post_init__(self) -> None:
        size = len(self.status)
        if size and not self.abstained.size:
            object.__setattr__(self, "abstained", np.zeros(size, dtype=bool))
        arrays = {
            "correct": self.correct,
            "confidence": self.confidence,
            "group": self.group,
            "length": self.length,
            "abstained": self.abstained,
        }
        # The estimator of this name gives the fact itself, which is no ambiguity.
        taken = sorted(self.signals.keys() & arrays.keys() - {"length"})
        if taken:
            raise ValueError(f"Outcomes.signals must not reuse the names of facts: {', '.join(taken)}")
        for name, values in (*arrays.items(), *self.signals.items()):
            if np.shape(values) != (size,):
                raise ValueError(f"Outcomes.{name} has shape {np.shape(values)}, expected ({size},) like status")
        for name in ("correct", "confidence"):
            values = arrays[name][~np.isnan(arrays[name])]
            if values.size and (values.min() < 0 or values.max() > 1):
                raise ValueError(f"Outcomes.{name} spans [{values.min()}, {values.max()}], expected [0, 1] or NaN")

    def __len__(self) -> int:
        return len(self.status)
