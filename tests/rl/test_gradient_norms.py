"""How large the parts of a gradient are: measured right, without a trace in the run, and an alarm where one drowns."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from rewards.rubric import Rubric
from rl.gradient_norms import PARTS
from rl.monitoring.alarms import MonitorSettings, RunFacts, drowned_gradient, unread_confidence
from rl.monitoring.history import History
from tests.rl.scripted import COMPLETIONS, ROWS, scored, steps

FACTS = RunFacts.of(Rubric.from_config({"accuracy": {}, "brier": {}}), "none", closed_form=True)


def weights_after(make_trainer: Any, replay: Any, every: int, **choice: Any) -> tuple[list[dict[str, float]], Any]:
    trainer = make_trainer(
        rows=ROWS, max_completion_length=12, max_steps=3, beta=0.1, gradient_norm_steps=every,
        per_device_train_batch_size=4, gradient_accumulation_steps=2, **choice,
    )  # fmt: skip
    replay(trainer, COMPLETIONS, COMPLETIONS[::-1], COMPLETIONS)
    history = steps(trainer)
    return history, [parameter.detach().clone() for parameter in trainer.model.parameters()]


def _kept(record: dict[str, float]) -> dict[str, float]:
    """What a record says beside norms and times."""
    others = ("grad_norm/", "time/", "step_time")
    return {name: value for name, value in sorted(record.items()) if not name.startswith(others)}


@pytest.mark.parametrize(
    "choice",
    [
        {"confidence_loss_weight": 1.0, "lora_dropout": True},
        {"credit": "sequence", "entropy_coef": 0.01},
        {"method": "ppo", "confidence_loss_weight": 1.0},
    ],
)
def test_a_run_that_is_looked_at_ends_with_the_same_bits(
    choice: dict[str, Any], make_trainer: Any, replay: Any
) -> None:
    if choice.pop("lora_dropout", False):
        from peft import LoraConfig

        choice["peft_config"] = LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.5)
        choice["disable_dropout"] = False
    results = []
    for every in (0, 2):
        torch.manual_seed(0)
        results.append(weights_after(make_trainer, replay, every, **choice))
    (plain, before), (looked, after) = results
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    measured = [{name for name in record if name.startswith("grad_norm/")} for record in looked]
    assert measured == [{f"grad_norm/{part}" for part in PARTS}, set(), {f"grad_norm/{part}" for part in PARTS}]
    for one, other in zip(plain, looked, strict=True):
        assert repr(_kept(one)) == repr(_kept(other)), "NaN is NaN"
    assert looked[0]["grad_norm/kl"] == pytest.approx(0, abs=1e-5) and looked[2]["grad_norm/kl"] > 1e-6
    assert looked[0]["grad_norm/correctness"] > 1e-4 and looked[0]["grad_norm/calibration"] > 1e-4


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_the_parts_are_the_gradients_that_the_whole_is_made_of(weight: float, make_trainer: Any, replay: Any) -> None:
    rubric = Rubric.from_config({"accuracy": {}, "brier": {"weight": 0.5}})
    trainer = make_trainer(rows=ROWS[:2], rubric=rubric, confidence_loss_weight=weight, max_completion_length=12)
    replay(trainer, COMPLETIONS)
    batch = scored(trainer)
    trainer.look_at(trainer.model, batch)
    norms = {name: trainer._metrics["train"][f"grad_norm/{name}"] for name in ("correctness", "calibration")}
    parts = batch["part_advantages"]
    torch.testing.assert_close(parts.sum(dim=1), batch["advantages"])
    gradients = []
    for index in range(2):
        trainer.model.zero_grad()
        trainer.args.confidence_loss_weight = weight * index
        trainer._compute_loss(trainer.model, {**batch, "advantages": parts[:, index]}).backward()
        found = [each.grad.flatten() for each in trainer.model.parameters() if each.grad is not None]
        gradients.append(torch.cat(found))
    assert norms["correctness"] == [pytest.approx(gradients[0].norm().item(), rel=1e-4)]
    assert norms["calibration"] == [pytest.approx(gradients[1].norm().item(), rel=1e-4)]


def test_what_cannot_be_told_apart_is_not_measured_and_says_so(
    make_trainer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        trainer = make_trainer(credit="sequence", scaling="batch")
    assert trainer._norm_steps == 0
    assert "gradient_norm_steps: nothing is measured, the terms are scaled as one sum" in caplog.text


@pytest.mark.parametrize(
    ("norms", "drowned"),
    [
        (
            {"correctness": 0.04, "calibration": 385.0, "kl": 0.0},
            "gradient norm of correctness 0.04, of calibration 385",
        ),
        ({"correctness": 0.04, "calibration": 3.9, "kl": 0.0}, None),
        ({"correctness": 1.0, "calibration": 1.0, "kl": 1e-9}, None),
        ({"correctness": 1.0, "calibration": 1.0, "kl": 150.0}, "correctness 1 and of calibration 1, of kl 150"),
        ({"correctness": 1.0, "calibration": 0.0}, "of calibration 0, of correctness 1"),
    ],
)
def test_a_part_below_a_hundredth_of_another_raises_the_alarm(norms: dict[str, float], drowned: str | None) -> None:
    history, settings = History(10), MonitorSettings()
    for step in (1, 51):
        assert drowned_gradient(history, settings, FACTS) is None, "one measurement is not enough"
        history.add(step, {f"grad_norm/{name}": value for name, value in norms.items()})
    found = drowned_gradient(history, settings, FACTS)
    assert (found is None) == (drowned is None)
    assert found is None or (found[0] == 1 and drowned is not None and drowned in found[1])


def test_levels_that_are_never_written_raise_the_alarm() -> None:
    for record, seen in (
        ({"calibration/level_mass": 0.2, "parse/unparsed_confidence": 0.0}, "together have a probability of 0.2"),
        ({"parse/unparsed_confidence": 1.0}, "100.0% of confidences could not be read"),
        ({"calibration/level_mass": 0.99, "parse/unparsed_confidence": 0.1}, None),
    ):
        history = History(3)
        for step in range(3):
            history.add(step, record)
        found = unread_confidence(history, MonitorSettings(window=3), FACTS)
        assert (found is None) == (seen is None) and (found is None or seen in found[1])
