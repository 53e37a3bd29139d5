"""Recalibration: a map from a stated confidence to one that is right as often as it says, fitted on a split of its own.

Which can change a ranking, and with it AUROC, risk-coverage and routing at a share:

- ``temperature`` and ``platt`` with a positive slope are strictly increasing: they change no ranking, and help only
  where a threshold is read as a probability or where confidences of several models are compared.
- ``beta`` is increasing where both of its exponents are positive, which the fit holds them to.
- ``isotonic`` and ``histogram`` join confidences into ties, so that a ranking can lose detail; ``histogram`` may also
  turn neighbouring bins round.
- Any map fitted **per group** moves groups against each other and can change every ranking over groups.

Fitting uses scikit-learn (and scipy for temperature and beta); a saved map is applied with numpy alone. Fit on rows
that are not the ones reported.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators.exported import RECALIBRATION, calibration_file, read_object

FloatArray = NDArray[np.float64]

METHODS = ("temperature", "platt", "beta", "isotonic", "histogram")
CLIP = 1e-6
"""A confidence counts as at least this far from 0 and 1 where its logit is taken."""
BINS = 10
FORMAT = 1
LARGEST = sys.float_info.max


@dataclass(frozen=True, slots=True)
class Recalibration:
    """A fitted map: its method, its parameters for all rows, and for each group that has its own.

    Parameters: ``temperature`` (T,), ``platt`` (slope, intercept), ``beta`` (a, b, c); ``isotonic`` and ``histogram``
    the places and then the values there. ``rows`` is the number of rows that it was fitted on.
    """

    method: str
    parameters: tuple[float, ...]
    groups: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    rows: int = 0

    def __call__(self, confidence: ArrayLike, groups: Sequence[str] | NDArray[Any] | None = None) -> FloatArray:
        """The recalibrated confidence (N,) of ``confidence`` (N,) in [0, 1], in [0, 1].

        ``groups`` (N,) name the group of each row; a group without a map of its own has that of all rows. Raises
        ``ValueError`` for a confidence that is NaN or outside [0, 1], for groups of another length, and where the map
        was fitted per group and no groups are given.

        >>> Recalibration("temperature", (2.0,))([0.5, 0.8]).round(4).tolist()
        [0.5, 0.6667]
        """
        c = _checked(confidence)
        if self.groups and groups is None:
            raise ValueError(
                f"fitted per group ({', '.join(sorted(self.groups)[:5])}): the group of each row is needed"
            )
        recalibrated = _apply(self.method, self.parameters, c)
        if groups is not None:
            names = np.asarray(groups).astype(str)
            if names.shape != c.shape:
                raise ValueError(f"groups has shape {names.shape}, expected {c.shape}")
            for name, parameters in self.groups.items():
                inside = names == name
                recalibrated[inside] = _apply(self.method, parameters, c[inside])
        return recalibrated

    def save(self, path: str | Path) -> Path:
        """Write the map as JSON, whole or not at all; returns the path. A checkpoint keeps it in ``calibration/``."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"format": FORMAT, "method": self.method, "rows": self.rows, "parameters": list(self.parameters)}
        content["groups"] = {name: list(each) for name, each in self.groups.items()}
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(partial, path)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Recalibration:
        """Read a saved map, or that of a folder which ``candor export`` wrote, if it is still the folder of its model.

        Raises ``ValueError`` naming the file and what in it is not a map.
        """
        path = calibration_file(path, RECALIBRATION)
        content = read_object(path)
        if content.get("format") != FORMAT:
            raise ValueError(f"{path}: not a recalibration of format {FORMAT}")
        method, groups = content.get("method"), content.get("groups", {})
        if method not in METHODS:
            raise ValueError(f"{path}: method is {method!r}, expected one of {', '.join(METHODS)}")
        if not isinstance(groups, dict):
            raise ValueError(f"{path}: groups: expected an object")
        maps = {name: _parameters(f"{path}: groups.{name}", method, each) for name, each in groups.items()}
        return cls(
            method, _parameters(f"{path}: parameters", method, content.get("parameters")), maps, content.get("rows", 0)
        )


def fit(
    method: str,
    confidence: ArrayLike,
    correct: ArrayLike,
    groups: Sequence[str] | NDArray[Any] | None = None,
    *,
    fewest: int = 50,
) -> Recalibration:
    """Fit ``method`` on a calibration split: ``confidence`` (N,) in [0, 1] and ``correct`` (N,), 0 or 1.

    With ``groups`` (N,) each group of at least ``fewest`` rows with both outcomes gets a map of its own beside that of
    all rows. Where all answers are right or all are wrong there is nothing to fit: the map is the identity of its
    method (``temperature`` 1), except that ``isotonic`` and ``histogram`` say what they saw.

    Raises ``ValueError`` for an unknown method, no rows, or columns that will not do.

    >>> fit("histogram", [0.95, 0.95, 0.95, 0.95], [1, 1, 1, 0])([0.9]).tolist()
    [0.75]
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, expected one of {', '.join(METHODS)}")
    c, y = _checked(confidence), np.asarray(correct, dtype=np.float64)
    if y.shape != c.shape or not len(c):
        raise ValueError(f"correct has shape {y.shape}, confidence {c.shape}: expected the same, and at least one row")
    if not ((y == 0.0) | (y == 1.0)).all():
        raise ValueError(f"correct[{np.flatnonzero((y != 0.0) & (y != 1.0))[0]}] is neither 0 nor 1")
    maps = {}
    if groups is not None:
        names = np.asarray(groups).astype(str)
        if names.shape != c.shape:
            raise ValueError(f"groups has shape {names.shape}, expected {c.shape}")
        for name in np.unique(names):
            inside = names == name
            if inside.sum() >= fewest and 0 < y[inside].sum() < inside.sum():
                maps[str(name)] = _fitted(method, c[inside], y[inside])
    return Recalibration(method, _fitted(method, c, y), maps, len(c))


def _fitted(method: str, c: FloatArray, y: FloatArray) -> tuple[float, ...]:
    if method == "histogram":
        index = np.minimum((c + 1e-7) * BINS, BINS - 1).astype(np.intp)
        counts, rights = np.bincount(index, minlength=BINS), np.bincount(index, y, BINS)
        centres = (np.arange(BINS) + 0.5) / BINS
        values = np.divide(rights, counts, out=centres.copy(), where=counts > 0)  # an empty bin keeps its centre
        return tuple((np.arange(BINS) / BINS).tolist() + values.tolist())
    if method == "isotonic":
        from sklearn.isotonic import IsotonicRegression

        fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(c, y)
        return tuple(fitted.X_thresholds_.tolist() + fitted.y_thresholds_.tolist())
    if len(np.unique(y)) == 1:
        return {"temperature": (1.0,), "platt": (1.0, 0.0), "beta": (1.0, 1.0, 0.0)}[method]
    if method == "platt":
        from sklearn.linear_model import LogisticRegression

        line = LogisticRegression(C=np.inf, max_iter=1000).fit(_logit(c)[:, None], y)
        return float(line.coef_[0, 0]), float(line.intercept_[0])
    from scipy.optimize import minimize

    if method == "temperature":
        logit = _logit(c)
        best = minimize(lambda t: _log_loss(logit * np.exp(-t[0]), y), [0.0], method="Nelder-Mead", bounds=[(-6, 6)])
        return (float(np.exp(best.x[0])),)
    clipped = np.clip(c, CLIP, 1.0 - CLIP)
    columns = np.stack([np.log(clipped), -np.log1p(-clipped), np.ones_like(clipped)])

    def loss(w: FloatArray) -> tuple[float, FloatArray]:
        z = w @ columns
        return _log_loss(z, y), columns @ (_sigmoid(z) - y) / len(y)

    best = minimize(loss, np.array([1.0, 1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0, 50), (0, 50), (-50, 50)])
    return tuple(float(each) for each in best.x)


def _apply(method: str, parameters: Sequence[float], c: FloatArray) -> FloatArray:
    if method == "temperature":
        return _sigmoid(_logit(c) / parameters[0])
    if method == "platt":
        return _sigmoid(parameters[0] * _logit(c) + parameters[1])
    if method == "beta":
        clipped = np.clip(c, CLIP, 1.0 - CLIP)
        a, b, offset = parameters
        return _sigmoid(a * np.log(clipped) - b * np.log1p(-clipped) + offset)
    half = len(parameters) // 2
    places, values = np.array(parameters[:half]), np.array(parameters[half:])
    if method == "isotonic":
        between: FloatArray = np.interp(c, places, values)
        return between
    found: FloatArray = values[np.clip(np.searchsorted(places, c + 1e-7, side="right") - 1, 0, half - 1)]
    return found


def _parameters(where: str, method: str, given: Any) -> tuple[float, ...]:
    """Checked parameters of a saved map; raises ``ValueError`` naming what is wrong with them."""
    if not isinstance(given, list) or not all(isinstance(each, int | float) and abs(each) <= LARGEST for each in given):
        raise ValueError(f"{where}: expected a list of numbers")
    length = {"temperature": 1, "platt": 2, "beta": 3}.get(method)
    if (length is not None and len(given) != length) or not given or (length is None and len(given) % 2):
        raise ValueError(f"{where}: {len(given)} numbers do not make a map by {method}")
    if method == "temperature" and given[0] <= 0:
        raise ValueError(f"{where}: temperature is {given[0]}, expected a number above 0")
    if length is None:
        places, values = given[: len(given) // 2], given[len(given) // 2 :]
        if sorted(places) != places or not all(0 <= each <= 1 for each in values):
            raise ValueError(f"{where}: expected rising places and values in [0, 1]")
    return tuple(float(each) for each in given)


def _checked(confidence: ArrayLike) -> FloatArray:
    c = np.array(confidence, dtype=np.float64)
    if c.ndim != 1:
        raise ValueError(f"confidence has shape {c.shape}, expected one dimension")
    outside = np.flatnonzero(~((c >= 0.0) & (c <= 1.0)))
    if outside.size:
        raise ValueError(f"confidence[{outside[0]}] is {c[outside[0]]}, expected a number in [0, 1]")
    return c


def _logit(c: FloatArray) -> FloatArray:
    clipped = np.clip(c, CLIP, 1.0 - CLIP)
    return np.log(clipped) - np.log1p(-clipped)


def _sigmoid(z: FloatArray) -> FloatArray:
    spread: FloatArray = 0.5 * (1.0 + np.tanh(0.5 * z))
    return spread


def _log_loss(z: FloatArray, y: FloatArray) -> float:
    return float(np.mean(np.logaddexp(0.0, z) - y * z))
