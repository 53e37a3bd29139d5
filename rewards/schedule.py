"""How a reward term takes part in training: what its advantages are scaled by, and when its weight comes in."""

from __future__ import annotations

from dataclasses import dataclass

from rewards.nearest import nearest

SCALINGS = ("none", "batch", "group", "leave_one_out")
"""What the advantages of a term may be scaled by; see :func:`rl.advantages.centred_rewards`."""
RAW = "raw"
"""Neither baseline nor scale: the one way to take a term that is an advantage already (``capo``)."""


@dataclass(frozen=True)
class TermSchedule:
    """How a term takes part in training: its ``scaling`` (None: the trainer's, ``raw`` for ``capo``), and the steps at
    which its weight starts, from 0, and after which it has come up to its value, in a straight line.

    Raises ValueError for an unknown scaling and negative steps.
    """

    scaling: str | None = None
    start_step: int = 0
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        if self.scaling is not None and self.scaling not in (*SCALINGS, RAW):
            hint = nearest(self.scaling, SCALINGS)
            raise ValueError(f"scaling is {self.scaling!r}; expected one of {', '.join(SCALINGS)}{hint}")
        for name in ("start_step", "warmup_steps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} is {value!r}, expected a whole number of at least 0")

    def factor(self, step: int) -> float:
        """Share of its weight that a term has at a step (counted from 0), in [0, 1].

        >>> [TermSchedule(start_step=10, warmup_steps=20).factor(step) for step in (9, 10, 20, 30, 99)]
        [0.0, 0.0, 0.5, 1.0, 1.0]
        """
        if step < self.start_step:
            return 0.0
        return min(1.0, (step - self.start_step) / self.warmup_steps) if self.warmup_steps else 1.0
