"""Two ranks see what one sees: the same rollouts give the same signals, advantages, losses and weights.

This file is its own launched script: ``torchrun --nproc-per-node 2 tests/rl/test_distributed.py POLICY OUT``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).parents[2]
TIMES = {"step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second"}
TIMES |= {"time/generate", "time/score", "time/update"}
PLAIN = {"accuracy": {"weight": 1.0}, "brier": {"weight": 1.0}, "format": {"weight": 0.5}}
# Rewards that look at siblings, two of them through what the policy thought as it wrote. None is by rank, of which
# rounding decides where siblings are level.
SIBLINGS = {
    "accuracy": {"weight": 1.0},
    "brier": {"weight": 1.0, "target": "leave_one_out"},
    "rlsf": {"weight": 0.5, "signal": "mean_log_prob", "form": "bradley_terry", "temperature": 0.1},
    "capo": {"weight": 0.5},
}
# Rubric, completions of a rank, credit, scaling, closed form. Groups of four: with two completions a rank each group is
# split; with six the second of three is.
CASES = {
    "segment": (PLAIN, 2, "segment", "none", 0.0),
    "closed_form": (PLAIN, 2, "segment", "leave_one_out", 1.0),
    "sequence": (PLAIN, 2, "sequence", "group", 0.0),
    "batch": (PLAIN, 6, "segment", "batch", 1.0),
    "gdpo": (PLAIN, 6, "segment", "gdpo", 0.0),
    "siblings": (SIBLINGS, 2, "segment", "none", 0.0),
    "siblings_closed_form": (SIBLINGS, 6, "segment", "none", 1.0),
    "difficulty": (PLAIN, 6, "segment", "none", 0.0),
    "ppo": (PLAIN, 6, "segment", "none", 1.0),
}
MORE = {"difficulty": {"difficulty_mix": {"hard": 1, "medium": 2, "easy": 1}, "group_filter": "mixed"}}
STEPS, GROUP = 3, 4
ANSWERS = ["3", "3", "4", "3", "5", "3", "3", "3", "0", "1", "3", "2"]
LEVELS = ["0.75", "1.0", "1.0", "0.5", "0.25", None, "0.75", "0.0", "1.0", "0.5", "0.25", "0.0"]


def run(policy: Path, out: Path, case: str, processes: int) -> tuple[list[dict[str, Any]], Any]:
    """Train a case on replayed rollouts; its log records and the trained model."""
    from datasets import Dataset
    from transformers import PrinterCallback

    from rewards.rubric import Rubric
    from rewards.template import AnswerTemplate
    from rewards.verifiers.pool import VerifierPool
    from rl.checkpoint import load_policy
    from rl.grpo import CalibratedGRPOConfig, CalibratedGRPOTrainer
    from rl.ppo import CalibratedPPOTrainer
    from rl.ppo_config import CalibratedPPOConfig

    configuration, kind, own = CalibratedGRPOConfig, CalibratedGRPOTrainer, {"num_generations": GROUP}
    if case == "ppo":
        configuration, kind = CalibratedPPOConfig, CalibratedPPOTrainer
        own = {"whiten_advantages": True, "beta": 0.1, "kl_in_reward": True, "value_trains_policy": True}
    rubric, per_rank, credit, scaling, weight = CASES[case]
    model, tokenizer = load_policy(policy, attn_implementation="eager")
    completions = [
        f"<answer>{answer}</answer>" + (f"<confidence>{level}</confidence>" if level else "")
        for answer, level in zip(ANSWERS, LEVELS, strict=True)
    ]
    ids = [[*tokenizer.encode(each, add_special_tokens=False), tokenizer.eos_token_id] for each in completions]
    settings = configuration(
        output_dir=str(out / f"{case}-{processes}"), credit=credit, scaling=scaling, confidence_loss_weight=weight,
        **own, per_device_train_batch_size=2 * per_rank // processes, max_steps=STEPS,
        max_completion_length=8, learning_rate=0.05, optim="sgd", lr_scheduler_type="constant", logging_steps=1,
        report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True, save_strategy="no",
        **MORE.get(case, {}),
    )  # fmt: skip
    rows = [{"prompt": prompt, "answer": "3"} for prompt in ("1+2=", "3=", "1+1+1=", "3+0=")] * 4
    with VerifierPool() as verifier:
        trainer = kind(
            model,
            rubric=Rubric.from_config(rubric),
            template=AnswerTemplate(levels=("0.0", "0.25", "0.5", "0.75", "1.0")),
            verifier=verifier,
            args=settings,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        trainer.remove_callback(PrinterCallback)

        generate, pad = model.generate, tokenizer.pad_token_id

        def dictated(**arguments: Any) -> Any:
            size, start = arguments["input_ids"].shape
            assert size == 2 * per_rank // processes
            first = trainer.accelerator.process_index * size + trainer.state.global_step
            written = [ids[(first + row) % len(ids)] for row in range(size)]

            def allowed(row: int, sequence: Any) -> list[int]:
                return [[*written[row], *[pad] * 8][len(sequence) - start]]

            return generate(**arguments, prefix_allowed_tokens_fn=allowed)

        model.generate = dictated  # as it would be sampled, with its hooks
        trainer.train()
        assert trainer.accelerator.num_processes == processes
        return trainer.state.log_history, trainer.accelerator.unwrap_model(trainer.model)


def launched(policy: Path, out: Path) -> None:
    """What each rank does; the first one leaves the results."""
    from accelerate import PartialState

    state = PartialState(cpu=True)
    for case in CASES:
        history, model = run(policy, out, case, processes=2)
        weights = {name: value.detach().clone() for name, value in model.named_parameters()}
        save_file(weights, out / f"{case}-rank{state.process_index}.safetensors")
        if state.is_main_process:
            (out / f"{case}.json").write_text(json.dumps(history))
    state.wait_for_everyone()
    state.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(policy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the launched script has left its results."""
    out = tmp_path_factory.mktemp("two_ranks")
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
        "ACCELERATE_USE_CPU": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
    done = subprocess.run(
        [*command, str(policy.path), str(out)], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return out


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:trainer.scaling. group")
def test_two_ranks_train_as_one_does(case: str, two_ranks: Path, policy: Any, tmp_path: Path) -> None:
    history, model = run(policy.path, tmp_path, case, processes=1)
    theirs = json.loads((two_ranks / f"{case}.json").read_text())
    steps = [[record for record in each if "loss" in record] for each in (history, theirs)]
    assert len(steps[0]) == len(steps[1]) == STEPS
    for one, two in zip(*steps, strict=True):
        assert one.keys() == two.keys()
        for name in one.keys() - TIMES:
            assert two[name] == pytest.approx(one[name], rel=1e-5, abs=1e-5), (name, one["step"])
        assert one["grad_norm"] > 1e-3
    first, second = (load_file(two_ranks / f"{case}-rank{rank}.safetensors") for rank in range(2))
    start = dict(policy.load()[0].named_parameters())
    for name, value in model.named_parameters():
        assert (first[name] == second[name]).all(), f"{name} differs between the ranks"
        assert (first[name] - value.detach()).abs().max() < 1e-5, name
        assert (value != start.get(name, 0.0)).any(), f"{name} was not trained"  # a critic's head starts at 0


if __name__ == "__main__":
    launched(Path(sys.argv[1]), Path(sys.argv[2]))
