"""Confidences mapped after the fact are methods of their own, fitted on other questions than those reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from estimators import recalibration
from experiments.config.recipe import load_recipe
from experiments.errors import ConfigError
from experiments.probe.recalibrated import SOURCE, with_recalibrations


def records(confidence, correct) -> pd.DataFrame:
    frame = pd.DataFrame({"confidence": np.array(confidence, dtype=float), "correct": np.array(correct, dtype=float)})
    return frame.assign(parsed=True, confidence_source="computed")


def recipe(**maps):
    return load_recipe("rlvr", [f"probe.recalibrate={ {name: list(each) for name, each in maps.items()} }"])


def test_each_map_is_that_of_the_calibration_answers() -> None:
    rng = np.random.default_rng(0)
    calibration = records(rng.random(400), rng.random(400) < 0.3)
    calibration.loc[:9, "correct"] = np.nan  # could not be judged
    calibration.loc[10:19, ["confidence", "parsed"]] = 0.0, False
    probed = records(rng.random(50), rng.random(50) < 0.3)
    probed.loc[3, ["confidence", "parsed", "confidence_source"]] = 0.0, False, "unparsed"
    asked: list[tuple[str, ...]] = []

    def answered(names):
        asked.append(tuple(names))
        return dict.fromkeys(names, calibration)

    wanted = recipe(answer_probability=["temperature", "isotonic"], verbalized=["platt"])
    mapped = with_recalibrations(wanted, {"answer_probability": probed}, answered)
    assert asked == [("answer_probability",)]  # what the probe does not read is not asked for
    assert list(mapped) == ["answer_probability_temperature", "answer_probability_isotonic"]
    used = calibration[20:]
    for method in ("temperature", "isotonic"):
        fitted = recalibration.fit(method, used["confidence"], used["correct"])
        given = mapped[f"answer_probability_{method}"]
        read = probed["parsed"].to_numpy(dtype=bool)
        assert given["confidence"][read].tolist() == fitted(probed["confidence"][read]).tolist()
        assert set(given["confidence_source"][read]) == {SOURCE}
        assert given.loc[3, ["confidence", "confidence_source"]].tolist() == [0.0, "unparsed"]
        assert given["correct"].equals(probed["correct"])


def test_nothing_asked_asks_nothing() -> None:
    assert with_recalibrations(recipe(), {"verbalized": records([0.5], [1])}, lambda names: 1 / 0) == {}


def test_unread_calibration_answers_are_an_error() -> None:
    unread = records([0.0, 0.0], [1, 0]).assign(parsed=False)
    wanted = recipe(verbalized=["temperature"])
    with pytest.raises(ConfigError, match="verbalized could be read on none of 2 questions"):
        with_recalibrations(wanted, {"verbalized": records([0.5], [1])}, lambda names: {"verbalized": unread})


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("probe.recalibrate={answer_probabilty: [temperature]}", "did you mean answer_probability"),
        ("probe.recalibrate={answer_probability: [isotonik]}", "did you mean isotonic"),
        ("probe.recalibrate={answer_probability: isotonic}", "probe.recalibrate"),
        ("probe.recalibration_size=0", "probe.recalibration_size"),
    ],
)
def test_what_cannot_be_fitted_is_refused(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_recipe("rlvr", [override])


def test_a_task_without_validation_questions_is_refused(tmp_path) -> None:
    files = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "test")}
    for file in files.values():
        Path(file).write_text('{"question": "1+1?", "answer": "2"}\n' * 4)
    maps = "probe.recalibrate={answer_probability: [isotonic]}"
    with pytest.raises(ConfigError, match="has no such split"):
        load_recipe("rlvr", ["task.name=dataset", f"task.path={files}", maps])
