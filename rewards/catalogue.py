"""Every reward term in one list: what it pays, whether that is proper and safe, and what it needs."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np

from rewards.audit import audit
from rewards.completion import SEGMENTS
from rewards.rubric import Rubric
from rewards.terms import TERMS, AccuracyTerm, Term
from rewards.terms.calibration import CalibrationTerm

TABLE_BEGINS = "<!-- reward terms: printed by candor rewards --markdown -->"
TABLE_ENDS = "<!-- end of reward terms -->"
"""The lines between which the README keeps the table."""

_SHARED = tuple(field.name for field in dataclasses.fields(CalibrationTerm))
_COLUMNS = ("term", "method", "formula", "range", "proper", "safe", "segments", "signals", "options", "paper")


def catalogue() -> list[dict[str, Any]]:
    """Return one entry of plain values for each term in ``TERMS``, with its options at their defaults.

    ``name``, ``formula``, ``range`` as an interval, ``segments`` it is credited to, ``signals`` it reads, ``options``
    with their defaults, ``paper`` and the name of the ``method`` there. ``proper``, ``strictly_proper`` and ``safe``
    are found by :func:`rewards.audit.audit` of the term with weight 1 beside accuracy with weight 1, each paid to every
    token. The first two are None for a term that does not depend on the stated confidence, ``safe`` is None for one
    that pays by signals alone: what a policy can do to those, no audit sees.

    >>> brier = next(entry for entry in catalogue() if entry["name"] == "brier")
    >>> brier["range"], brier["strictly_proper"], brier["safe"], brier["segments"]
    ('[-1, 0]', True, True, ['confidence', 'analysis'])
    """
    return [_entry(name, make()) for name, make in TERMS.items()]


def markdown_table() -> str:
    """Return the catalogue as a Markdown table between its two marker lines, without a line break at the end.

    Options that all calibration terms have are left out.
    """
    rows = [[_cell(entry, column) for column in _COLUMNS] for entry in catalogue()]
    lines = [list(_COLUMNS), ["---"] * len(_COLUMNS), *rows]
    return "\n".join([TABLE_BEGINS, *(f"| {' | '.join(line)} |" for line in lines), TABLE_ENDS])


def propriety(entry: dict[str, Any]) -> str:
    """Whether an entry of the catalogue is proper, in a word: strictly, yes, no, or a dash where it has no say."""
    return "strictly" if entry["strictly_proper"] else yes_or_no(entry["proper"])


def credited_to(entry: dict[str, Any]) -> str:
    """The parts of a completion that an entry of the catalogue is credited to, in words."""
    return "all" if set(entry["segments"]) == set(SEGMENTS) else ", ".join(entry["segments"])


def yes_or_no(value: bool | None) -> str:
    """A truth value in a word, a dash where there is none."""
    return "–" if value is None else ("yes" if value else "no")


def _entry(name: str, term: Term) -> dict[str, Any]:
    by_confidence = Rubric((term,), np.ones(1), allow_hackable=True).calibrates[0]
    found = audit(AccuracyTerm().scheme() + term.scheme())
    options = {field.name: getattr(term, field.name) for field in dataclasses.fields(term)}
    return {
        "name": name,
        "formula": term.formula,
        "range": term.reward_range,
        "proper": found.proper if by_confidence else None,
        "strictly_proper": found.strictly_proper if by_confidence else None,
        "safe": None if term.signals and not by_confidence else found.safe,
        "segments": list(term.segments),
        "signals": list(term.signals),
        "options": {
            option: list(value) if isinstance(value, tuple) else value
            for option, value in options.items()
            if option != "segments"
        },
        "paper": term.paper,
        "method": term.method,
    }


def _cell(entry: dict[str, Any], column: str) -> str:
    if column == "term":
        return f"`{entry['name']}`"
    if column == "proper":
        return propriety(entry)
    value = entry[column]
    if column == "safe":
        return yes_or_no(value)
    if column == "options":
        shared = _SHARED if issubclass(TERMS[entry["name"]], CalibrationTerm) else ()
        shown = (f"{option} {json.dumps(default)}" for option, default in value.items() if option not in shared)
        return ", ".join(shown).replace('"', "")
    if column == "segments":
        return credited_to(entry)
    if column == "formula":
        value = f"`{value}`"
    return ", ".join(value) if isinstance(value, list) else str(value).replace("|", r"\|")
