"""What calibration adds to a training step: candor's trainer against TRL's own, step by step in one run.

    python tests/benchmarks/training_overhead.py [--model tiny-small | smollm2-135m-instruct] [--steps 40] [--json]

Both trainers start from the same weights and take turns, a step each, so that what else the machine does falls on both.
Each pair of steps starts from the same random state and the learning rate is nearly 0, so that both see the same
prompts and write the same completions. TRL's has one reward, whether the answer is the gold as text; candor's has
accuracy, brier and format, one estimator signal (RLSF's answer margin), segment credit and its verifier. Prints the
median seconds a step of each, and the median over pairs of their ratio with a 95% bootstrap interval.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback, set_seed
from transformers.trainer_callback import ProgressCallback
from trl import GRPOConfig, GRPOTrainer

from estimators.metrics.resampling import bootstrap
from experiments.cli import _quiet
from experiments.config.models import open_policy
from experiments.tasks import Arithmetic, ArithmeticWords
from rewards.rubric import Rubric
from rewards.template import AnswerTemplate
from rewards.verifiers.pool import VerifierPool
from rl.config import CalibratedGRPOConfig
from rl.grpo import CalibratedGRPOTrainer

RUBRIC: dict[str, Any] = {
    "accuracy": {"weight": 1.0},
    "brier": {"weight": 1.0},
    "format": {"weight": 0.2},
    "rlsf": {"weight": 0.1, "signal": "answer_margin"},
}
WARM_UP = 3
SETTINGS: dict[str, dict[str, Any]] = {
    "tiny-small": {"per_device_train_batch_size": 128, "num_generations": 8, "max_completion_length": 72},
    "smollm2-135m-instruct": {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 32},
}


class TakingTurns(TrainerCallback):
    """Lets one of two trainers make a step while the other waits, and keeps how long each step took."""

    def __init__(self, mine: threading.Semaphore, other: threading.Semaphore) -> None:
        self.mine, self.other = mine, other
        self.seconds: list[float] = []

    def on_step_begin(self, args, state, control, **kwargs: Any) -> None:
        self.mine.acquire()
        set_seed(state.global_step)
        self.started = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs: Any) -> None:
        self.seconds.append(time.perf_counter() - self.started)
        self.other.release()


def accuracy_as_text(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
    """Whether the text between the answer's tags is the gold: the cheapest accuracy reward there is."""
    texts = [each if isinstance(each, str) else each[0]["content"] for each in completions]
    found = [re.search(r"<answer>(.*?)</answer>", text) for text in texts]
    return [float(match is not None and match[1] == gold) for match, gold in zip(found, answer, strict=True)]


def overhead(model: str, steps: int) -> dict[str, Any]:
    """Median seconds a step of both trainers and the median ratio of pairs, {value, low, high}."""
    chat = model != "tiny-small"
    template = AnswerTemplate() if chat else AnswerTemplate(levels=tuple(f"{level / 10:.1f}" for level in range(11)))
    kind = ArithmeticWords if chat else Arithmetic
    task = kind(chat=chat, instructions=chat, train_size=2000, template=template)
    rows = Dataset.from_list([{"prompt": row["prompt"], "answer": row["answer"]} for row in task.rows("train")])
    common: dict[str, Any] = {
        "max_steps": steps + WARM_UP, "learning_rate": 1e-12, "report_to": "none", "use_cpu": True, "bf16": False,
        "gradient_checkpointing": False, "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True,
        "scale_rewards": "none", **SETTINGS[model],
    }  # fmt: skip
    turns = [threading.Semaphore(1), threading.Semaphore(0)]
    clocks = [TakingTurns(turns[0], turns[1]), TakingTurns(turns[1], turns[0])]
    with VerifierPool() as verifier, tempfile.TemporaryDirectory() as scratch:
        policies = [open_policy(model, "--model", attn_implementation=None if chat else "eager") for _ in clocks]
        trainers = [
            GRPOTrainer(
                policies[0][0], accuracy_as_text, GRPOConfig(output_dir=f"{scratch}/trl", **common), rows,
                processing_class=policies[0][1], callbacks=[clocks[0]],
            ),
            CalibratedGRPOTrainer(
                policies[1][0], rubric=Rubric.from_config(RUBRIC), template=template, verifier=verifier,
                args=CalibratedGRPOConfig(output_dir=f"{scratch}/candor", credit="segment", **common),
                train_dataset=rows, processing_class=policies[1][1], callbacks=[clocks[1]],
            ),
        ]  # fmt: skip
        for trainer in trainers:
            trainer.remove_callback(PrinterCallback)
            trainer.remove_callback(ProgressCallback)
        threads = [threading.Thread(target=trainer.train) for trainer in trainers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    seconds = np.array([clock.seconds[WARM_UP:] for clock in clocks])
    lengths = [
        [each["completions/mean_length"] for each in trainer.state.log_history if "completions/mean_length" in each]
        for trainer in trainers
    ]
    assert np.allclose(*lengths), "the trainers wrote different completions"
    ratio = bootstrap(lambda values: float(np.median(values)), seconds[1] / seconds[0])
    return {
        "model": model, "steps": steps, "tokens": float(np.mean(lengths)),
        "trl_seconds": float(np.median(seconds[0])), "candor_seconds": float(np.median(seconds[1])),
        "ratio": {"value": ratio.value, "low": ratio.low, "high": ratio.high},
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", choices=list(SETTINGS), default="tiny-small")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    _quiet()
    found = overhead(options.model, options.steps)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        ratio = found["ratio"]
        print(
            f"{found['model']}: {found['steps']} pairs of steps, {found['tokens']:.1f} tokens a completion; "
            f"TRL {found['trl_seconds']:.3f} s, candor {found['candor_seconds']:.3f} s a step; "
            f"ratio {ratio['value']:.3f} ({ratio['low']:.3f}-{ratio['high']:.3f})"
        )
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    torch.set_num_threads(2)
    sys.exit(main())
