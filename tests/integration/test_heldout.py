"""The held-out probe measures inside a run and leaves the run as it is."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from experiments.cli import main
from experiments.config.recipe import load_recipe
from experiments.probe.checkpoint import probe_checkpoint, validation_rows
from rl.heldout import HeldOutProbe
from rl.metrics import calibration_metrics
from tests.factories import Refusal, json_lines

TIMES = ("time/", "step_time", "train_", "heldout/", "total_flos")


@pytest.mark.parametrize(
    ("method", "reading"),
    [("grpo", "verbalized"), ("sft", "verbalized"), ("grpo", "expected_confidence"), ("sft", "answer_probability")],
)
def test_a_probe_in_training_measures_what_candor_probe_would_and_changes_nothing(
    method: str, reading: str, write_recipe: Callable[..., Path], tmp_path: Path, verifier: Any
) -> None:
    estimators = {} if reading == "verbalized" else {"estimators": {reading: {}}}
    recipe = write_recipe(
        method, trainer={"max_steps": 4, "save_steps": 2}, probe={"confidence": reading}, **estimators
    )
    for name, every in (("off", 0), ("on", 2)):
        out = str(tmp_path / name)
        assert main(["train", str(recipe), f"probe.every={every}", "probe.every_size=20", "--out", out]) == 0
    off, on = json_lines(tmp_path / "off" / "metrics.jsonl"), json_lines(tmp_path / "on" / "metrics.jsonl")
    files = [(tmp_path / name / "final" / "model.safetensors").read_bytes() for name in ("off", "on")]
    assert files[0] == files[1]
    for plain, measured in zip(off, on, strict=True):
        assert plain == {k: measured[k] for k in plain if not k.startswith(TIMES)} | {
            k: v for k, v in plain.items() if k.startswith(TIMES)
        }
    probed = {r["step"]: r for r in on if "heldout/brier" in r}
    assert list(probed) == [2, 4] and not any("heldout/brier" in record for record in off)

    settings = ["probe.split=validation", "probe.size=20"]
    probed_recipe = load_recipe(str(recipe), settings)
    records = probe_checkpoint(tmp_path / "on" / "final", probed_recipe, "final", verifier, confidence=reading)
    expected = calibration_metrics(records["confidence"].to_numpy(), records["correct"].to_numpy())
    expected["unparsed"] = 1 - records["parsed"].mean()
    for name, value in expected.items():
        assert probed[4][f"heldout/{name}"] == pytest.approx(None if np.isnan(value) else value), name


def test_each_rank_answers_an_equal_share_and_every_question_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(0.1 * number, float(number % 2)) for number in range(5)]
    asked: dict[int, list[int]] = {}

    def answer(model: Any, numbers: Sequence[int]) -> list[tuple[float, float]]:
        random.random(), np.random.rand(), torch.rand(1)
        model.eval()
        asked[rank] = list(numbers)
        return [answers[number] for number in numbers]

    @contextmanager
    def unwrapped(model: Any, *_: Any, **__: Any) -> Iterator[Any]:
        yield model

    monkeypatch.setattr("rl.heldout.unwrap_model_for_generation", unwrapped)
    monkeypatch.setattr("rl.heldout.gather_object", lambda own: [answers[number] for number in (0, 2, 4, 1, 3, 0)])
    model = torch.nn.Linear(1, 1)
    for rank in (0, 1):
        accelerator = SimpleNamespace(process_index=rank, num_processes=2)
        trainer = SimpleNamespace(accelerator=accelerator, model=model, model_wrapped=model, args=SimpleNamespace())
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
        measured = HeldOutProbe(trainer, answer, size=5, every=1).measure()
        assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
        assert np.random.get_state()[1].tolist() == before[2] and model.training
        assert measured == calibration_metrics(*np.array(answers).T) | {"unparsed": 0.0}
    assert asked == {0: [0, 2, 4], 1: [1, 3, 0]}


def test_questions_come_from_the_validation_split_where_there_is_one(write_recipe: Callable[..., Path]) -> None:
    recipe = load_recipe(str(write_recipe(probe={"every": 1, "every_size": 15})))
    rows = validation_rows(recipe)
    validation = {row["id"] for row in recipe.task.rows("validation", 15, seed=0)}
    assert {row["id"] for row in rows} == validation and len(rows) == 15


def test_the_section_is_checked_before_a_model_loads(
    write_recipe: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rl.checkpoint.load_policy", lambda *_, **__: pytest.fail("a model was loaded"))
    for override, message in [
        ("probe.every=-1", "probe.every: -1 is below 0"),
        ("probe.every_size=0", "probe.every_size: 0 is below 1"),
        ("probe.every_size=100000", "probe: "),
    ]:
        command = ["train", str(write_recipe()), "probe.every=1", override, "--out", str(tmp_path / "run")]
        assert main(command) == 2
        assert capsys.readouterr().err.startswith(f"candor: {message}")


def test_what_a_saved_checkpoint_alone_has_cannot_be_measured_on_the_way(
    write_recipe: Callable[..., Path], tmp_path: Path, refusal: Refusal
) -> None:
    asked = (
        "estimators.critic={}",
        "probe.confidence=critic",
        "probe.every=1",
        "probe.every_size=20",
        "--out",
        tmp_path,
    )
    assert "probe.every: critic is read off a saved checkpoint" in refusal.command("train", write_recipe("ppo"), *asked)
