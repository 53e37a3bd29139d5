from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from rl.metrics import Stopwatch


def test_a_part_inside_another_stops_the_clock_of_the_outer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("rl.metrics.time.perf_counter", lambda: now[0])
    stopwatch = Stopwatch()
    with stopwatch.running("update"):
        now[0] += 1
        with stopwatch.running("generate"):
            now[0] += 10
            with stopwatch.running("score"):
                now[0] += 100
        with stopwatch.running("generate"):
            now[0] += 20
        now[0] += 2
    with stopwatch.running("update"):
        now[0] += 4
    assert stopwatch.lap() == {"generate": 30.0, "score": 100.0, "update": 7.0}
    assert stopwatch.lap() == {"generate": 0.0, "score": 0.0, "update": 0.0}


@pytest.mark.parametrize("options", [{}, {"credit": "sequence"}, {"confidence_loss_weight": 1.0}])
def test_the_entropy_at_the_confidence_token_is_that_of_the_policy(
    options: dict[str, Any], make_trainer: Any, replay: Any, policy: Any
) -> None:
    texts = ["<answer>3</answer><confidence>0.5</confidence>", "<answer>3</answer>"] * 4
    trainer = make_trainer(rows=[{"prompt": "1+2=", "answer": "3"}] * 8, max_steps=1, temperature=0.7, **options)
    replay(trainer, texts)
    trainer.train()
    model, tokenizer = policy.load()
    ids = tokenizer.encode("1+2=" + texts[0], add_special_tokens=False)
    logits = model(torch.tensor([ids])).logits[0, ids.index(tokenizer.convert_tokens_to_ids("0.5")) - 1]
    expected = torch.distributions.Categorical(logits=logits / 0.7).entropy().item()
    logged = trainer.state.log_history[0]["calibration/confidence_entropy"]
    assert logged == pytest.approx(expected, rel=1e-4) and 0 < logged < math.log(len(tokenizer))


def test_without_a_confidence_there_is_no_entropy_to_log(make_trainer: Any, replay: Any) -> None:
    trainer = make_trainer(max_steps=1)
    replay(trainer, ["<answer>3</answer>"] * 8)
    trainer.train()
    assert trainer.state.log_history[0]["calibration/confidence_entropy"] is None
