"""The hint that an error gives after a name that is not known: which of the allowed names was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_LEAST_SIMILARITY = 0.5
"""Ratio of :class:`difflib.SequenceMatcher` from which a name counts as near."""


def nearest(name: object, allowed: Iterable[str]) -> str:
    """`` (did you mean X?)``, to stand at the end of an error, for the closest allowed name; nothing if none is near.

    >>> nearest("brir", ["accuracy", "brier"])
    ' (did you mean brier?)'
    >>> nearest("xyz", ["accuracy", "brier"])
    ''
    """
    close = closest(name, allowed)
    return f" (did you mean {close}?)" if close else ""


def closest(name: object, allowed: Iterable[str], similarity: float = _LEAST_SIMILARITY) -> str | None:
    """The allowed name that is closest to ``name``, of at least that ratio in [0, 1]; None if none is.

    Case, and whether spaces, ``_`` or ``-`` stand between words, do not count.

    >>> closest("confidense", ["correct", "confidence"], 0.85), closest("Question ID", ["question_id"], 1.0)
    ('confidence', 'question_id')
    """
    plain = {_plain(each): each for each in reversed(list(allowed))}
    close = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=similarity)
    return plain[close[0]] if close else None


def _plain(name: object) -> str:
    return re.sub(r"[\s_-]+", "_", str(name).strip().casefold())
