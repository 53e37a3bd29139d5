"""Confidences as the strict reading takes them: one decimal, and those that are staked on steps of a thought.

Used by :mod:`rewards.template` only.
"""

from __future__ import annotations

import itertools
import re

from rewards.completion import ParseStatus, Span
from rewards.markup import Block, trimmed

Stakes = tuple[tuple[float | None, Span], ...]
"""Confidences in [0, 1] in order, each with its characters; None for one that could not be read."""
STAKE = re.compile(r"<(/?)stake>")
"""The tags of a stake."""
_DECIMAL = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")


def read_decimal(stated: str) -> tuple[float | None, ParseStatus | None]:
    """Return the confidence in [0, 1] that an ASCII decimal states, or None and why it states none.

    >>> read_decimal(".5"), read_decimal("50%")[1].value, read_decimal("1.5")[1].value
    ((0.5, None), 'not_a_number', 'out_of_range')
    """
    if not _DECIMAL.fullmatch(stated):
        return None, ParseStatus.NOT_A_NUMBER
    value = float(stated) + 0.0  # adding zero turns -0.0 into 0.0
    return (value, None) if 0.0 <= value <= 1.0 else (None, ParseStatus.OUT_OF_RANGE)


def read_stakes(text: str, thought: Block | None) -> tuple[Stakes, bool]:
    """Return the stakes in a closed thought (None: there is none), and whether tags of stakes stand elsewhere."""
    tags = list(STAKE.finditer(text))
    start, end = (0, 0) if thought is None else (thought.inner.start, thought.inner.end)
    inside = [tag for tag in tags if start <= tag.start() and tag.end() <= end]
    stated = []
    for opening, closing in itertools.pairwise(inside):
        if not opening[1] and closing[1]:
            span = trimmed(text, opening.end(), closing.start())
            stated.append((read_decimal(text[span.start : span.end])[0], span))
    return tuple(stated), len(inside) < len(tags)
