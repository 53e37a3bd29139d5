"""Reward for following the answer template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rewards.completion import SEGMENTS, ParseStatus
from rewards.outcomes import Outcomes
from rewards.scoring_rules import Scheme, constant_scheme


@dataclass(frozen=True)
class FormatTerm:
    """One for a completion that follows its template in full, zero for any other; credited to all of it.

    Returns (N,) float, 0 or 1, never NaN: the parser always has a verdict.

    By parse status: OK earns 1, every other status 0. There is no partial credit: a half-followed format paid for on
    its own is a plateau to rest on, and the fields that can be read are paid by the other terms already.
    """

    name: ClassVar[str] = "format"
    formula: ClassVar[str] = "1[status = ok]"
    paper: ClassVar[str] = ""
    needs_group: ClassVar[bool] = False
    method: ClassVar[str] = ""
    signals: ClassVar[tuple[str, ...]] = ()
    reward_range: ClassVar[str] = "[0, 1]"
    segments: tuple[str, ...] = SEGMENTS

    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        return np.array([status == ParseStatus.OK for status in outcomes.status], dtype=float)

    def scheme(self) -> Scheme:
        """What the term pays at each confidence: 1, right or wrong, since any stated confidence is well-formed."""
        return constant_scheme(1.0, 1.0)
