"""What every metric accepts: equally long columns of numbers in [0, 1], checked once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

EDGE_TOLERANCE = 1e-7
"""A confidence this close below a bin edge or a threshold counts as being on it.

``3 * 0.1`` and ``0.3``, or 0.9 stored in single precision, must not fall on different sides of an edge.
"""


def columns(**values: ArrayLike) -> tuple[FloatArray, ...]:
    """The named columns as float arrays of one common length (N,).

    Raises:
        ValueError: a column is not one-dimensional, differs in length from the first, or holds a value that is NaN or
            outside [0, 1]; the message names the column, the index and the value.

    >>> columns(confidence=[0.2, 1.2])
    Traceback (most recent call last):
    ...
    ValueError: confidence[1] is 1.2, expected a number in [0, 1]
    """
    arrays: list[FloatArray] = []
    for name, given in values.items():
        array = np.asarray(given, dtype=np.float64)
        if array.ndim != 1:
            raise ValueError(f"{name} has shape {array.shape}, expected one dimension")
        if array.size and not (array.min() >= 0.0 and array.max() <= 1.0):  # a NaN is the minimum where there is one
            outside = np.flatnonzero(~((array >= 0.0) & (array <= 1.0)))
            raise ValueError(f"{name}[{outside[0]}] is {array[outside[0]]}, expected a number in [0, 1]")
        if arrays and len(array) != len(arrays[0]):
            raise ValueError(f"{name} has {len(array)} values, {next(iter(values))} has {len(arrays[0])}")
        arrays.append(array)
    return tuple(arrays)


def is_binary(array: FloatArray) -> bool:
    """Whether every value of ``array`` (N,) is 0 or 1."""
    return bool(((array == 0.0) | (array == 1.0)).all())


def require_binary(name: str, array: FloatArray) -> None:
    """Raise ``ValueError`` naming the first value of ``array`` (N,) that is neither 0 nor 1."""
    if not is_binary(array):
        graded = np.flatnonzero((array != 0.0) & (array != 1.0))
        raise ValueError(f"{name}[{graded[0]}] is {array[graded[0]]}, expected 0 or 1: binarise a graded value first")


def require_rows(array: FloatArray) -> None:
    """Raise ``ValueError`` where there is nothing to take a mean over."""
    if not len(array):
        raise ValueError("no rows: the metric is undefined on empty columns")
