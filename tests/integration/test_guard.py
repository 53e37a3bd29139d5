"""An update that must not be made ends the run, and can be made again from what it leaves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from experiments.cli import main
from experiments.replay import replay
from rl.saved_batches import MicroBatch, random_states, read_micro_batches, write_batches, write_micro_batches
from tests.factories import json_lines

METHODS = ("grpo", "sft")


def run(recipe: Path, out: Path, *overrides: str) -> int:
    return main(["train", str(recipe), *overrides, "--out", str(out)])


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("method", METHODS)
def test_an_exploding_gradient_ends_the_run_and_replays_to_the_same_numbers(
    method: str, write_recipe: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], policy: Any
) -> None:
    recipe = write_recipe(method, trainer={"gradient_accumulation_steps": 2, "exploding_grad_norm": 1e-9})
    assert run(recipe, tmp_path / "run") == 1
    folder = tmp_path / "run" / "failed_batch"
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("candor: step 1: the gradient norm ") and f"candor replay {folder}" in line
    assert not any(path.suffix in (".bin", ".pt", ".pth", ".pkl") for path in folder.rglob("*")), "nothing pickled"
    start = load_file(policy.path / "model.safetensors")
    kept = load_file(folder / "model.safetensors")
    assert all((kept[name] == weights).all() for name, weights in start.items()), "no step was made"

    again = replay(folder)
    recorded = json.loads((folder / "update.json").read_text())
    assert again.grad_norm == pytest.approx(recorded["grad_norm"], rel=1e-5)
    assert again.loss == pytest.approx(sum(recorded["loss"]), rel=1e-5, abs=1e-7)
    assert math.sqrt(sum(norm**2 for norm in again.gradients.values())) == pytest.approx(again.grad_norm, rel=1e-4)
    assert len(again.completions) == 16
    assert main(["replay", str(folder)]) == 0
    assert "0 of " in capsys.readouterr().out


def test_a_loss_that_is_no_number_ends_the_run_and_replay_names_the_completion(
    write_recipe: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from rl.grpo import CalibratedGRPOTrainer

    credit = CalibratedGRPOTrainer._credit

    def poisoned(self: Any, output: Any, *arguments: Any) -> Any:
        advantages_BT, advantages_N = credit(self, output, *arguments)
        if self.state.global_step == 1:
            advantages_BT[2] = math.nan
        return advantages_BT, advantages_N

    monkeypatch.setattr(CalibratedGRPOTrainer, "_credit", poisoned)
    assert run(write_recipe(), tmp_path / "run") == 1
    folder = tmp_path / "run" / "failed_batch"
    assert capsys.readouterr().err.splitlines()[-1].startswith("candor: step 2: the loss is nan")
    assert [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()] == [1]
    again = replay(folder)
    assert math.isnan(again.loss) and math.isnan(again.grad_norm)
    assert sum(math.isnan(loss) for _, loss in again.completions) == 1
    main(["replay", str(folder)])
    shown = capsys.readouterr().out
    assert "loss nan, recorded nan" in shown and shown[shown.index("loss alone") :].splitlines()[1].startswith(" nan")


@pytest.mark.parametrize("method", METHODS)
def test_any_update_can_be_saved_and_saving_changes_nothing(
    method: str, write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    recipe = write_recipe(method)
    assert run(recipe, tmp_path / "plain") == 0
    assert run(recipe, tmp_path / "saved", "trainer.save_batch_at=[2, 5]") == 0
    assert files_in(tmp_path / "saved" / "batches") == {"step-2", "step-5"}
    weights = [(tmp_path / name / "final" / "model.safetensors").read_bytes() for name in ("plain", "saved")]
    assert weights[0] == weights[1]
    records = json_lines(tmp_path / "plain" / "metrics.jsonl")
    again = replay(tmp_path / "saved" / "batches" / "step-5")
    assert again.grad_norm == pytest.approx(records[4]["grad_norm"], rel=1e-5)
    assert again.loss == pytest.approx(records[4]["loss"], rel=1e-5, abs=1e-7)


def test_what_is_no_saved_update_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(tmp_path)]) == 2
    assert "holds no update.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.exploding_grad_norm=-1", "trainer.exploding_grad_norm: -1.0 is below 0"),
        ("trainer.save_batch_at=[0]", "trainer.save_batch_at: 0 is not a step"),
    ],
)
def test_fields_of_the_guard_are_checked(
    override: str, message: str, write_recipe: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(write_recipe(), tmp_path / "run", override) == 2
    assert message in capsys.readouterr().err


def test_batches_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    rollout = torch.arange(12.0).view(4, 3)
    inputs = {"ids": rollout[:2], "same": rollout, "none": None, "count": torch.tensor(7), "texts": ["a", "é"]}
    written = [MicroBatch(inputs, None, random_states()), MicroBatch(inputs, torch.tensor(3), random_states())]
    write_micro_batches(tmp_path, 1, written)
    for before, after in zip(written, read_micro_batches(tmp_path, 1), strict=True):
        assert after.inputs.keys() == before.inputs.keys()
        assert all(torch.equal(after.inputs[name], inputs[name]) for name in ("ids", "same", "count"))
        assert (after.inputs["none"], after.inputs["texts"]) == (None, ["a", "é"])
        assert torch.equal(after.random_states["cpu"], before.random_states["cpu"])
    assert read_micro_batches(tmp_path, 1)[0].num_items is None
    with pytest.raises(TypeError, match="neither a tensor nor plain JSON"):
        write_batches(tmp_path, 0, [{"odd": object()}])
