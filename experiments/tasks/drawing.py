"""Which questions of a stream are kept: all that differ, or some of them, drawn in the memory of what is drawn."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from experiments.tasks.sources import Record

Row = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """A row that can be asked: its fields, its key, and where it stands."""

    fields: dict[str, Any]
    record: Record
    key: int
    name: str


@dataclass
class Unusable:
    """How many there are of a kind that cannot be used, and why the first of them is one."""

    count: int = 0
    first: str = ""

    def add(self, name: str, error: ValueError) -> None:
        """Count what stands in the place ``name``."""
        self.count += 1
        self.first = self.first or f"{name}: {error}"


@dataclass
class Reading:
    """Rows of a split, and what became of the others."""

    rows: list[Row] = field(default_factory=list)
    read: int = 0
    looked_at: int = 0
    """Rows whose gold was looked at: of a draw, those alone that were drawn for the time being."""
    broken: Unusable = field(default_factory=Unusable)
    """Rows that no question could be made of."""
    golds: Unusable = field(default_factory=Unusable)
    """Rows looked at whose gold the verifier cannot read."""
    filtered: int = 0
    held_out: int = 0
    """Rows that ask what a held-out split asks."""
    repeated: int = 0
    """Rows that ask what a kept row asks; of a draw, a row that was kept when they were read."""

    @property
    def unreadable(self) -> int:
        """Rows that are broken or have a gold that cannot be read."""
        return self.broken.count + self.golds.count

    def counts(self) -> dict[str, int]:
        """What was read, left out for each reason, looked at and kept."""
        names = ("read", "unreadable", "filtered", "held_out", "repeated", "looked_at")
        return {name: getattr(self, name) for name in names} | {"kept": len(self.rows)}

    def check_unreadable(self, allowed: float) -> None:
        """Raise ValueError where more than a share ``allowed`` is broken of the rows, or unreadable of the golds."""
        for found, of, what in ((self.broken, self.read, "rows"), (self.golds, self.looked_at, "rows looked at")):
            if found.count > allowed * of:
                raise ValueError(
                    f"{found.first} ({found.count:,} of {of:,} {what}, {found.count / of:.2%}, cannot be used; "
                    f"task.unreadable allows {allowed:.2%})"
                )


class Draw:
    """``size`` different questions of a stream, each as likely as any other, however often it is repeated.

    A question's place in the draw is a hash of ``seed`` and its key, and the first ``size`` are kept. ``size`` None
    keeps all, in the order of the stream.
    """

    def __init__(self, size: int | None, seed: str) -> None:
        self.size, self.seed = size, seed
        self._rows: dict[int, Row] = {}
        self._last_first: list[tuple[int, int]] = []
        """A heap of the places kept, negated, with their keys."""

    def take(self, asked: Asked, row_of: Callable[[Asked], Row], found: Reading) -> None:
        """Keep a question if it is drawn so far, as ``row_of`` makes a row of it; what it is else counts in ``found``.

        A row for which ``row_of`` raises ValueError has an unreadable gold, and leaves its place to others.
        """
        if asked.key in self._rows:
            found.repeated += 1
            return
        place = 0 if self.size is None else self._place(asked.key)
        if len(self._rows) == self.size and place > -self._last_first[0][0]:
            return
        found.looked_at += 1
        try:
            self._rows[asked.key] = row_of(asked)
        except ValueError as error:
            found.golds.add(asked.name, error)
            return
        if self.size is not None:
            heapq.heappush(self._last_first, (-place, asked.key))
            if len(self._rows) > self.size:
                del self._rows[heapq.heappop(self._last_first)[1]]

    def rows(self) -> list[Row]:
        """The rows drawn, in the order of their places."""
        if self.size is None:
            return list(self._rows.values())
        return [self._rows[key] for _, key in sorted(self._last_first, reverse=True)]

    def _place(self, key: int) -> int:
        return int.from_bytes(hashlib.blake2b(f"{self.seed}/{key}".encode(), digest_size=8).digest(), "big")
