"""Settings of a study: dotted keys of a recipe and their values, as a grid, a cross or a variant gives them."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LONGEST = 40
"""Characters of a value in the name of a folder."""


@dataclass(frozen=True)
class Edge:
    """A chosen value at the end of the values that were tried: a better one may lie beyond."""

    key: str
    value: float
    end: str
    """``lowest`` or ``highest``."""


def edges_of(
    setting: Mapping[str, Any], settings: Sequence[Mapping[str, Any]], without: Mapping[str, Any]
) -> list[Edge]:
    """The values of a chosen setting that are the lowest or the highest of several numbers that were tried.

    ``without`` has the value of each key in the settings that leave it out, where it is known.
    """
    found = []
    for key, value in setting.items():
        tried = [each.get(key, without.get(key, value)) for each in settings]
        if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in tried):
            continue
        if min(tried) < max(tried) and value in (min(tried), max(tried)):
            found.append(Edge(key, value, "lowest" if value == min(tried) else "highest"))
    return found


def combinations(values: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of one value a key, the last key's changing fastest."""
    return [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]


def in_a_name(setting: Mapping[str, Any]) -> str:
    """A setting as the name of a folder: the last part of each key and its value, or the whole key where two share it.

    >>> in_a_name({"trainer.learning_rate": 1e-4, "trainer.credit": "segment"})
    'learning_rate=0.0001-credit=segment'
    """
    last = [key.rpartition(".")[2] for key in setting]
    parts = []
    for short, (key, value) in zip(last, setting.items(), strict=True):
        text = value if isinstance(value, str) else json.dumps(value)
        fit = re.sub(r"[^\w.+-]", "_", text)[:_LONGEST]
        if fit != text:  # so that two values never share a name
            fit += "-" + hashlib.sha256(text.encode()).hexdigest()[:6]
        parts.append(f"{short if last.count(short) == 1 else key}={fit}")
    return "-".join(parts)


def leaves(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each dotted key that is set with its value, those within mappings too.

    >>> list(leaves({"rubric.brier": {"weight": 1.0, "target": "own"}}))
    [('rubric.brier.weight', 1.0), ('rubric.brier.target', 'own')]
    """
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves({f"{key}.{name}": inner for name, inner in value.items()})
        else:
            yield key, value


def undone(first: Mapping[str, Any], then: Iterable[str]) -> str | None:
    """The key of ``first`` whose value is lost where the keys ``then`` are set after it, None where all of them stay.

    >>> undone({"rubric.brier": {"weight": 1.0}}, ["rubric.brier.weight"])
    'rubric.brier.weight'
    >>> undone({"rubric.brier": {"weight": 1.0}}, ["rubric.brier.target"])
    """
    for key, value in leaves(first):
        for later in then:
            if f"{key}.".startswith(f"{later}.") or (value != {} and later.startswith(f"{key}.")):
                return key
    return None
