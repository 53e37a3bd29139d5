"""Tables made by others, read with errors that name the file, the line or row, the column, the value and the cure.

JSON-lines files are addressed by line, counted from 1 as in an editor; parquet files by row, counted from 0 as in
pandas.
"""

from __future__ import annotations

import datetime
import decimal
import json
import math
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.errors import DataError
from experiments.tasks.columns import plain_number
from rewards.nearest import closest

SUFFIXES = (".parquet", ".jsonl")
FLOAT_NOISE = 1e-5
"""A number this little outside of a range counts as being on its edge: sums of float32 probabilities exceed 1."""
MISSPELT = 0.85
"""Similarity from which an unknown column counts as a misspelling of an optional one."""


@dataclass(frozen=True)
class Table:
    """Rows of one file as they were found in ``frame``; ``places`` says where in the file each of them stands."""

    path: Path
    frame: pd.DataFrame
    places: Sequence[str]

    def error(self, row: int, column: str, problem: str) -> DataError:
        return DataError(f"{self.path}, {self.places[row]}, column {column!r}: {problem}")

    def require(self, required: Sequence[str | tuple[str, ...]], optional: Sequence[str] = ()) -> None:
        """Raise DataError for a required column that is absent and for an optional one that seems misspelt.

        A tuple among ``required`` names alternatives, of which one has to be there. Other columns are left alone.
        """
        alternatives = [(names,) if isinstance(names, str) else names for names in required]
        known = {name for names in alternatives for name in names} | set(optional)
        unknown = [column for column in self.frame.columns if column not in known]
        for names in alternatives:
            if not any(name in self.frame.columns for name in names):
                near = [(column, name) for name in names if (column := closest(name, unknown))]
                hint = f" ({near[0][0]!r} is there; did you mean {near[0][1]!r}?)" if near else ""
                found = ", ".join(map(repr, self.frame.columns))
                raise DataError(f"{self.path}: no column {_either(names)}{hint}, only {found}")
        absent = [name for name in optional if name not in self.frame.columns]
        for column in unknown:
            meant = closest(column, absent, MISSPELT)
            if meant:
                raise DataError(f"{self.path}: unknown column {column!r}; did you mean {meant!r}?")

    def text(self, column: str, *, nullable: bool = False) -> pd.Series:
        """A column of text; numbers, dates and times are taken as they are written, nulls only if ``nullable``."""
        values = self.frame[column]
        if isinstance(values.dtype, pd.StringDtype) and (nullable or not values.isna().any()):
            # Only text that can be encoded reaches such a column of a parquet file, whose text is UTF-8.
            return values.astype("string") if self.path.suffix == ".parquet" else self._plain(column, nullable)
        if isinstance(values.dtype, np.dtype) and values.dtype.kind in "iu":
            return values.astype("string")
        return self._plain(column, nullable)

    def _plain(self, column: str, nullable: bool) -> pd.Series:
        return self._column(column, _text, "text", nullable).astype("string")

    def number(self, column: str, low: float, high: float, *, nullable: bool = False) -> pd.Series:
        """A column of float64 in [low, high]; NaN where null. What lies outside by FLOAT_NOISE is on the edge."""

        def convert(value: Any) -> float:
            if _is_number(value) and low - FLOAT_NOISE <= float(value) <= high + FLOAT_NOISE:
                return min(max(float(value), low), high)
            raise ValueError

        floats = self._floats(column, low, high, nullable)
        if floats is not None:
            return pd.Series(floats, index=self.frame.index)
        return self._column(column, convert, f"a number from {low:g} to {high:g}", nullable).astype("float64")

    def binary(self, column: str, *, nullable: bool = False) -> pd.Series:
        """A column of float64, 0.0 or 1.0; true and false count as 1 and 0; NaN where null."""

        def convert(value: Any) -> float:
            if isinstance(value, bool | np.bool_) or _is_number(value):
                nearest = 1.0 if float(value) > 0.5 else 0.0
                if abs(float(value) - nearest) <= FLOAT_NOISE:
                    return nearest
            raise ValueError

        if self.frame[column].dtype == np.dtype(bool):
            return self.frame[column].astype("float64")
        floats = self._floats(column, 0.0, 1.0, nullable)
        if floats is not None:
            nearest = np.round(floats)
            if (np.isnan(floats) | (np.abs(floats - nearest) <= FLOAT_NOISE)).all():
                return pd.Series(nearest, index=self.frame.index)
        return self._column(column, convert, "0 or 1", nullable).astype("float64")

    def count(self, column: str, *, nullable: bool = False) -> pd.Series:
        """A column of whole numbers from 0, as Int64; NA where null."""

        def convert(value: Any) -> int:
            if _is_number(value) and math.isfinite(value) and 0 <= value < 2**63 and value == int(value):
                return int(value)
            raise ValueError

        values = self.frame[column]
        if isinstance(values.dtype, np.dtype) and values.dtype.kind in "iu" and (values >= 0).all():
            return values.astype("Int64")
        return self._column(column, convert, "a whole number of 0 or more", nullable).astype("Int64")

    def boolean(self, column: str) -> pd.Series:
        """A column of bool."""

        def convert(value: Any) -> bool:
            if isinstance(value, bool | np.bool_):
                return bool(value)
            raise ValueError

        if self.frame[column].dtype == np.dtype(bool):
            return self.frame[column].copy()
        return self._column(column, convert, "true or false", False).astype("bool")

    def _floats(self, column: str, low: float, high: float, nullable: bool) -> np.ndarray | None:
        """A column of numbers by its type, all of them in range, cut to it, as float64 (N,); None where not, unread.

        What :meth:`_column` would say of each cell, for the whole column at once; any doubt is left to it.
        """
        values = self.frame[column]
        if not isinstance(values.dtype, np.dtype) or values.dtype.kind not in "iuf":
            return None
        floats = values.to_numpy(dtype=np.float64, copy=True)
        null = np.isnan(floats)
        if (null.any() and not nullable) or np.isinf(floats).any():
            return None
        if not (null | ((floats >= low - FLOAT_NOISE) & (floats <= high + FLOAT_NOISE))).all():
            return None
        cut: np.ndarray = np.clip(floats, low, high)
        return cut

    def _column(self, column: str, convert: Callable[[Any], Any], expected: str, nullable: bool) -> pd.Series:
        converted: list[Any] = []
        for row, value in enumerate(self.frame[column].tolist()):
            if is_null(value):
                if not nullable:
                    raise self.error(row, column, f"no value, expected {expected}")
                converted.append(None)
                continue
            try:
                converted.append(convert(value))
            except (ValueError, OverflowError, decimal.InvalidOperation):
                raise self.error(row, column, f"{_shown(value)} found, expected {expected}") from None
        return pd.Series(converted, index=self.frame.index, dtype="object")


def read_table(path: str | Path) -> Table:
    """Read a parquet or JSON-lines file of at least one row.

    Raises DataError when the file is missing, of another kind, broken or empty.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path}: unsupported suffix {path.suffix!r}, expected {' or '.join(SUFFIXES)}")
    _require_file(path)
    if path.suffix == ".jsonl":
        rows, places = read_jsonl(path)
        frame = pd.DataFrame(rows, dtype="object")
    else:
        try:
            frame = pd.read_parquet(path)
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{path}: not a readable parquet file: {error}") from error
        frame = _with_index_as_columns(path, frame)
        places = _Rows(len(frame))
    if frame.empty:
        raise DataError(f"{path}: the file holds no rows")
    return Table(path, frame, places)


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path}: {'is a folder, expected a file' if path.is_dir() else 'no such file'}")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")


class _Rows(Sequence[str]):
    """The names of the rows of a parquet file, made when one is asked for."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: Any) -> Any:
        return f"row {row}"


def _with_index_as_columns(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the named levels of its index as columns; numbers without a name only count the rows.

    Raises DataError for a level of texts or dates without a name, which says something, but not what.
    """
    for level, name in enumerate(frame.index.names):
        values = frame.index.get_level_values(level)
        if name is None and len(values) and not pd.api.types.is_numeric_dtype(values.dtype):
            raise DataError(
                f"{path}: its index holds values such as {_shown(values[0])} and has no name; give it the name of a "
                "column (rename_axis), such as question_id, or drop it (reset_index(drop=True))"
            )
    named = [name for name in frame.index.names if name is not None]
    twice = [name for name in named if name in frame.columns]
    if twice:
        raise DataError(f"{path}: {twice[0]!r} is both a column and a level of the index; rename one of them")
    frame = frame.reset_index(level=named).reset_index(drop=True)
    return frame.set_axis([str(name) for name in frame.columns], axis="columns")


def read_jsonl(path: Path, *, constants: bool = False) -> tuple[list[dict[str, Any]], list[str]]:
    """The objects of a JSON-lines file, and the line that each stands in.

    ``constants`` says that NaN and Infinity, which Python writes and JSON does not have, are read as numbers. Raises
    DataError for a file that is missing or empty, and, naming file and line, for a line that is not a JSON object.
    """
    _require_file(path)
    rows: list[dict[str, Any]] = []
    places: list[str] = []
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                text = line.decode("utf-8-sig")  # some programs put a byte order mark first
                if not text.strip():
                    continue
                row = json.loads(text, parse_constant=float if constants else _refuse_constant)
            except json.JSONDecodeError as error:
                problem = f"{error.msg} at column {error.colno}"
                if number == 1 and error.lineno > 1:
                    problem += "; expected one whole object a line"
                raise DataError(f"{path}:{number}: not valid JSON: {problem}") from error
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}:{number}: not valid JSON: {error}") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}:{number}: expected one JSON object a line, found {_shown(row)}")
            rows.append(row)
            places.append(f"line {number}")
    return rows, places


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number; write null where there is no value")


def is_null(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN or pandas' NA and NaT."""
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    return isinstance(value, float | np.floating | decimal.Decimal) and math.isnan(value)


def plain_text(text: str) -> str:
    """Text that can be written as UTF-8: lone surrogates, which JSON escapes can smuggle in, become a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return plain_text(value)
    if _is_number(value) and math.isfinite(value):
        return plain_number(value)
    if isinstance(value, datetime.date | datetime.time | datetime.timedelta | uuid.UUID):
        return str(value)
    raise ValueError


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float | np.integer | np.floating | decimal.Decimal)
    return number and not isinstance(value, bool)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _either(names: Sequence[str]) -> str:
    return " or ".join(map(repr, names))
