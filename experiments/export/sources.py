"""What an export is made of: a checkpoint, the probe that measured it, its gate and a recalibration, held together.

All of it is checked before anything is written: that the probe is of this checkpoint's weights and has the estimator,
that gate and recalibration were fitted on that estimator's confidences of these weights, and that what is reported was
not fitted on. What files of others do not say is told.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from estimators.confidence import READABLE
from estimators.exported import weights_digest
from estimators.gate import Gate
from estimators.gate_fitting import data_hash
from estimators.metrics.summary import summarize
from estimators.recalibration import METHODS, Recalibration, fit
from experiments.config.models import find_model
from experiments.config.recipe import VERBALIZED, Recipe, load_recipe
from experiments.errors import ConfigError
from experiments.probe.records import read_records
from experiments.report.html import META, METRICS, RECORDS, read_meta, read_metrics
from experiments.schema import one_of
from rewards.nearest import nearest

if TYPE_CHECKING:
    import pandas as pd

METHOD = "checkpoint"
"""What a probe calls the checkpoint by the estimator that its recipe measures it by."""


@dataclass(frozen=True)
class Sources:
    """A checkpoint's folder and recipe, the estimator that is to be read, and what was measured and fitted."""

    checkpoint: Path
    recipe: Recipe
    estimator: str
    records: pd.DataFrame
    """Rows of the probe by that estimator."""
    metrics: dict[str, dict[str, Any]]
    """Estimator -> metric -> value and bounds, of those that can be read off one reply."""
    meta: dict[str, Any]
    gate: Gate | None
    recalibration: Recalibration | None
    probe: Path
    unknown: tuple[str, ...] = ()
    """What could not be held against the checkpoint and the probe, a sentence each."""

    @property
    def temperature(self) -> float:
        """That by which levels are read: of the rollouts which the checkpoint was trained on."""
        from rl.checkpoint import read_temperature

        return read_temperature(self.checkpoint)

    @property
    def figures(self) -> dict[str, dict[str, Any]]:
        """The metrics, and with a recalibration those of the rows after it, as "recalibrated"."""
        if self.recalibration is None:
            return self.metrics
        confidence, correct = judged(self.records)
        mapped = summarize(self.recalibration(confidence), correct)
        return self.metrics | {"recalibrated": {name: dataclasses.asdict(each) for name, each in mapped.items()}}

    @property
    def options(self) -> dict[str, Any]:
        """The estimator's options, as the recipe has them."""
        if self.estimator == VERBALIZED:
            return {}
        return dataclasses.asdict(self.recipe.estimators[self.estimator])  # type: ignore[call-overload]


def read_sources(
    run: str | Path,
    *,
    probe: Path | None = None,
    estimator: str | None = None,
    gate: Path | None = None,
    recalibrate: str | None = None,
    calibration: Path | None = None,
) -> Sources:
    """Read and check what is to be exported. ``run`` is a run's folder or a checkpoint's.

    Left out, ``probe`` is the folder ``probe`` of the run, ``estimator`` the one that the recipe measures by and
    ``gate`` the checkpoint's own, if it has one. ``recalibrate`` fits a map to the records ``calibration``. Raises
    ConfigError for what does not go together, DataError for files that cannot be read.
    """
    run = Path(run)
    checkpoint = Path(find_model(run / "final" if (run / "final").is_dir() else run, "export"))
    recipe = _recipe(checkpoint)
    _check_temperature(checkpoint)
    probe = run / "probe" if probe is None else probe
    if not (probe / RECORDS).is_file():
        raise ConfigError(
            f"export: {probe} holds no {RECORDS}; what is exported is measured first: candor probe {checkpoint} --out "
            f"{run / 'probe'}"
        )
    meta = read_meta(probe / META)
    if not meta.get("checkpoint"):
        raise ConfigError(f"export: {probe} is no probe of a checkpoint; expected one by candor probe {checkpoint}")
    known = [VERBALIZED, *recipe.estimators]
    name = one_of("--estimator", estimator or recipe.probe.confidence, [each for each in READABLE if each in known])
    metrics = read_metrics(probe / METRICS)
    read = {
        each: metrics[method] for each in known if each in READABLE and (method := _method(recipe, each)) in metrics
    }
    if name not in read:
        raise ConfigError(f"export: {probe} has no method {_method(recipe, name)!r}, only {', '.join(metrics)}")
    weights = weights_digest(checkpoint) or ""
    records = _rows(probe / RECORDS, _method(recipe, name))
    if set(records["weights"].fillna("")) != {weights}:
        raise ConfigError(
            f"export: {probe} measured other weights than those of {checkpoint}, or does not say which; measure these: "
            f"candor probe {checkpoint} --out {probe}"
        )
    found = checkpoint / "calibration" / "gate.json"
    loaded = _gate(gate or (found if found.is_file() else None), _method(recipe, name), records, weights)
    fitted, unknown = _recalibration(recalibrate, calibration, _method(recipe, name), records, weights)
    if loaded is not None and not loaded.weights:
        unknown.append("The gate does not say which weights gave the confidences that it was fitted on.")
    if loaded is not None and not loaded.questions:
        unknown.append("The gate does not say which questions it was fitted on; the probe may have asked them too.")
    return Sources(checkpoint, recipe, name, records, read, meta, loaded, fitted, probe, tuple(unknown))


def judged(records: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Confidence, 0 where none was read, and correctness, each (N,), of the rows that somebody could judge."""
    rows = records[records["correct"].notna()]
    return rows["confidence"].to_numpy(float), rows["correct"].to_numpy(float)


def _recipe(checkpoint: Path) -> Recipe:
    saved = checkpoint / "calibration" / "recipe.yaml"
    if not saved.is_file():
        raise ConfigError(f"export: {checkpoint} carries no calibration/recipe.yaml; expected a checkpoint of candor")
    return load_recipe(str(saved), [])


def _check_temperature(checkpoint: Path) -> None:
    from rl.checkpoint import read_temperature

    try:
        read_temperature(checkpoint)
    except ValueError as error:
        raise ConfigError(f"export: {error}") from error


def _method(recipe: Recipe, estimator: str) -> str:
    return METHOD if estimator == recipe.probe.confidence else f"{METHOD}_{estimator}"


def _rows(path: Path, method: str) -> pd.DataFrame:
    records = read_records(path)
    rows = records[records["method"] == method]
    if rows.empty:
        methods = records["method"].unique().tolist()
        known = ", ".join(methods) + nearest(method, methods)
        raise ConfigError(f"export: {path} has no method {method!r}, only {known}")
    if not rows["correct"].notna().any():
        raise ConfigError(f"export: {path}: none of the {len(rows):,} rows of method {method!r} could be judged")
    return rows


def _gate(path: Path | None, method: str, reported: pd.DataFrame, weights: str) -> Gate | None:
    if path is None:
        return None
    try:
        gate = Gate.load(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--gate: {error}") from error
    if len(gate.tiers) > 1:
        raise ConfigError(f"--gate {path}: a cascade of {len(gate.tiers)} tiers; expected the gate of one model")
    if not gate.source.endswith(f"method {method}"):
        raise ConfigError(f"--gate {path}: was fitted on {gate.source!r}; expected the confidences of method {method}")
    if gate.weights and gate.weights != weights:
        raise ConfigError(f"--gate {path}: was fitted on the confidences of other weights than those of the checkpoint")
    shared = gate.shared(reported["prompt"].dropna())
    if shared:
        raise ConfigError(
            f"--gate {path}: {shared:,} of its questions are among those that the probe reports; fit it on others"
        )
    confidence, correct = judged(reported)
    if gate.data_hash == data_hash([confidence], [correct]):
        raise ConfigError(f"--gate {path}: was fitted on the very rows that the probe reports; fit it on others")
    return gate


def _recalibration(
    method: str | None, path: Path | None, of_records: str, reported: pd.DataFrame, weights: str
) -> tuple[Recalibration | None, list[str]]:
    """The map, and what is not known of it."""
    if (method is None) != (path is None):
        raise ConfigError("export: --recalibrate METHOD and --calibration RECORDS go together")
    if method is None or path is None:
        return None, []
    one_of("--recalibrate", method, METHODS)
    rows = _rows(path, of_records)
    others = set(rows["weights"].dropna()) - {weights}
    if others:
        raise ConfigError(f"--calibration {path}: holds confidences of other weights than those of the checkpoint")
    if rows["prompt"].isna().any():
        raise ConfigError(
            f"--calibration {path}: holds no prompts, so that nobody can tell whether the probe asks them"
        )
    confidence, correct = judged(rows)
    if len(set(correct)) < 2:
        raise ConfigError(f"--calibration {path}: its {len(correct):,} rows are all right or all wrong; fit on others")
    shared = set(rows["prompt"]) & set(reported["prompt"].dropna())
    if shared:
        raise ConfigError(
            f"--calibration {path}: {len(shared):,} of its questions are among those that the probe reports; fit on "
            "others"
        )
    said = not rows["weights"].isna().any()
    return fit(method, confidence, correct), [] if said else [
        "The records of the recalibration do not say which weights gave their confidences."
    ]
