"""Several models on the same questions, cheapest first: what cascades are planned on and their gates are fitted to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from experiments.errors import ConfigError, DataError
from experiments.probe.records import read_method


@dataclasses.dataclass(frozen=True)
class Tier:
    """A model of a cascade: its name, the method whose confidence is read, and its records, one a question."""

    name: str
    method: str
    records: pd.DataFrame


def read_tiers(
    paths: Sequence[Path], methods: Sequence[str] = (), *, judged: bool = True, repeated: bool = False
) -> list[Tier]:
    """The tiers of these records files, cheapest first, on the questions that all of them have, in one order.

    ``methods`` is one for all files or one for each. A tier is called after its file, or after the folder of a
    ``records.parquet``. With ``judged`` questions without a verdict are left out; without it ``correct`` may be
    missing. Raises ConfigError for numbers and names that do not fit, DataError for a question with several rows, which
    a promise about independent questions cannot count, unless they are allowed by ``repeated``, for a single file.
    """
    if len(methods) not in (0, 1, len(paths)):
        expected = " or ".join(map(str, sorted({1, len(paths)})))
        raise ConfigError(f"--method: given {len(methods)} times for {len(paths)} files, expected {expected}")
    names = [tier_name(path) for path in paths]
    if len(set(names)) < len(names):
        raise ConfigError(f"tiers called {', '.join(names)}: expected different names, of their files or folders")
    chosen = [None] * len(paths) if not methods else list(methods) * (len(paths) if len(methods) == 1 else 1)
    tables = []
    for path, method in zip(paths, chosen, strict=True):
        rows = read_method(path, method, judged=judged).set_index("question_id", drop=False)
        if rows.index.has_duplicates and not repeated:
            twice = rows.index[rows.index.duplicated()][0]
            raise DataError(f"{path}: question {twice!r} has several rows, expected one answer to a question")
        tables.append((str(rows["method"].iloc[0]), rows[rows["correct"].notna()] if judged else rows))
    common = tables[0][1].index
    for _, rows in tables[1:]:
        common = common[common.isin(rows.index)]
    if len(tables) > 1:
        tables = [(method, rows.loc[common]) for method, rows in tables]
    return [Tier(name, method, rows) for name, (method, rows) in zip(names, tables, strict=True)]


def tier_name(path: Path) -> str:
    """A file's name without its ending, or the name of the folder that a ``records.parquet`` lies in."""
    return path.resolve().parent.name if path.name == "records.parquet" else path.stem
