"""A checkpoint that was probed, gated and exported once, for the tests of exports and of serving."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments.cli import main
from tests.conftest import TinyPolicy


@dataclass(frozen=True)
class Exported:
    """A run, its probe, the gate that sends about half of the questions on, and the folder exported from them."""

    run: Path
    probe: Path
    calibration: Path
    gate: Path
    folder: Path


@pytest.fixture(scope="session")
def exported(
    policy: TinyPolicy, write_recipe: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    from experiments.config.recipe import load_recipe
    from rl.checkpoint import load_policy, write_calibration

    work = tmp_path_factory.mktemp("exported")
    run, folder = work / "run", work / "folder"
    shutil.copytree(policy.path, run / "final")
    estimators: dict[str, Any] = {"expected_confidence": {}, "answer_probability": {}}
    settings = {"size": 60, "max_new_tokens": 12, "resamples": 20, "confidence": "expected_confidence"}
    recipe = load_recipe(str(write_recipe(estimators=estimators, probe=settings, trainer={"temperature": 0.5})), [])
    _, tokenizer = load_policy(run / "final")
    write_calibration(run / "final", recipe.template, recipe.rubric, recipe.source, tokenizer)
    assert main(["probe", str(run / "final"), "--out", str(run / "probe")]) == 0
    gate, calibration = work / "gate.json", work / "fitted.parquet"
    rows = pd.read_parquet(run / "probe" / "records.parquet")
    rows["prompt"] = "another " + rows["prompt"]
    rows.loc[0, "confidence"] *= 0.999  # other rows than the probe's
    rows.to_parquet(calibration)
    budget = ["--budget", "1.5", "--cost-large", "1", "--delta", "0.2"]
    assert main(["gate", "fit", str(calibration), "--method", "checkpoint", *budget, "--out", str(gate)]) == 0
    assert main(["export", str(run), "--gate", str(gate), "--out", str(folder)]) == 0
    return Exported(run, run / "probe", calibration, gate, folder)
