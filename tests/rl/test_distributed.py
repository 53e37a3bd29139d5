"""Two ranks see what one sees: the same rollouts give the same signals, advantages, losses and weights.

Side by side (DDP), and where DeepSpeed splits the optimizer and the gradients (ZeRO-2) or every weight (ZeRO-3) over
the ranks. This file is its own launched script, which runs every case in one launch:
``torchrun --nproc-per-node 2 tests/rl/test_distributed.py POLICY OUT``.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Case:
    """One run, made by one rank and by two. Groups of four: with two completions a rank each group is split, with six
    the second of three is."""

    method: str = "grpo"
    rubric: Any = None
    per_rank: int = 6
    credit: str = "segment"
    scaling: str = "none"
    closed_form: float = 0.0
    lora: bool = False
    stage: int = 0
    """Of DeepSpeed's ZeRO, on two ranks; 0 is DDP."""
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        return 5 if self.stage else 3

    @property
    def tolerance(self) -> float:
        return 1e-4 if self.stage else 1e-5


CASES = {
    "segment": Case(rubric=PLAIN, per_rank=2),
    "closed_form": Case(rubric=PLAIN, per_rank=2, scaling="leave_one_out", closed_form=1.0),
    "sequence": Case(rubric=PLAIN, per_rank=2, credit="sequence", scaling="group"),
    "batch": Case(rubric=PLAIN, scaling="batch", closed_form=1.0),
    "gdpo": Case(rubric=PLAIN, scaling="gdpo"),
    "siblings": Case(rubric=SIBLINGS, per_rank=2),
    "siblings_closed_form": Case(rubric=SIBLINGS, closed_form=1.0),
    "difficulty": Case(
        rubric=PLAIN, more={"difficulty_mix": {"hard": 1, "medium": 2, "easy": 1}, "group_filter": "mixed"}
    ),
    "ppo": Case("ppo", rubric=PLAIN, closed_form=1.0),
    "ppo_zero2": Case("ppo", rubric=PLAIN, closed_form=1.0, stage=2),
    "ppo_zero3": Case("ppo", rubric=PLAIN, closed_form=1.0, stage=3),
    "grpo_zero2": Case(rubric=SIBLINGS, closed_form=1.0, stage=2),
    "grpo_zero3": Case(rubric=SIBLINGS, closed_form=1.0, stage=3),
    "lora_zero2": Case(rubric=PLAIN, closed_form=1.0, lora=True, stage=2),
    "sft": Case("sft"),
    "sft_zero2": Case("sft", stage=2),
    "sft_zero3": Case("sft", stage=3),
}
GROUP = 4
DEEPSPEED = {
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "zero_allow_untested_optimizer": True,
}
ZERO3 = {"stage3_param_persistence_threshold": 0, "stage3_gather_16bit_weights_on_model_save": True}
ANSWERS = ["3", "3", "4", "3", "5", "3", "3", "3", "0", "1", "3", "2"]
LEVELS = ["0.75", "1.0", "1.0", "0.5", "0.25", None, "0.75", "0.0", "1.0", "0.5", "0.25", "0.0"]


def run(policy: Path, out: Path, name: str, processes: int) -> tuple[list[dict[str, Any]], Any]:
    """Train a case, save what it ends with in the folder ``<name>-<processes>``; its log records and the model."""
    from transformers import PrinterCallback

    from rewards.template import AnswerTemplate
    from rewards.verifiers.pool import VerifierPool
    from rl.checkpoint import load_policy

    case, folder = CASES[name], out / f"{name}-{processes}"
    settings: dict[str, Any] = {
        "output_dir": str(folder), "per_device_train_batch_size": 2 * case.per_rank // processes,
        "max_steps": case.steps, "learning_rate": 0.05, "optim": "sgd", "lr_scheduler_type": "constant",
        "logging_steps": 1, "report_to": "none", "use_cpu": True, "bf16": False, "gradient_checkpointing": False,
        "disable_tqdm": True, "save_strategy": "no",
    }  # fmt: skip
    if case.stage and processes > 1:
        settings["deepspeed"] = {
            **DEEPSPEED, "zero_optimization": {"stage": case.stage, **(ZERO3 if case.stage == 3 else {})}
        }  # fmt: skip
    template = AnswerTemplate(levels=("0.0", "0.25", "0.5", "0.75", "1.0"))
    with VerifierPool() as verifier:
        trainer = TRAINERS[case.method](case, settings, lambda: load_policy(policy, attn_implementation="eager"),
                                        template, verifier)  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        assert trainer.accelerator.num_processes == processes
        assert bool(trainer.is_deepspeed_enabled) == bool(case.stage and processes > 1)
        trainer.save_model(str(folder))
        return trainer.state.log_history, trainer.accelerator.unwrap_model(trainer.model)


def grpo(case: Case, settings: dict[str, Any], load: Callable[[], Any], template: Any, verifier: Any) -> Any:
    """A trainer whose completions are dictated, token by token, to the model's own generation."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig

    from rewards.rubric import Rubric
    from rl.config import CalibratedGRPOConfig
    from rl.grpo import CalibratedGRPOTrainer
    from rl.ppo import CalibratedPPOTrainer
    from rl.ppo_config import CalibratedPPOConfig

    configuration, kind, own = CalibratedGRPOConfig, CalibratedGRPOTrainer, {"num_generations": GROUP}
    if case.method == "ppo":
        configuration, kind = CalibratedPPOConfig, CalibratedPPOTrainer
        own = {"whiten_advantages": True, "beta": 0.1, "kl_in_reward": True, "value_trains_policy": True}
    # Gradient norms of the parts are of a micro-batch, which is another one on two ranks.
    arguments = configuration(
        **settings, credit=case.credit, scaling=case.scaling, confidence_loss_weight=case.closed_form,
        **own, max_completion_length=8, gradient_norm_steps=0, **case.more,
    )  # fmt: skip
    model, tokenizer = load()  # after the arguments, by which ZeRO-3 splits it while it loads
    completions = [
        f"<answer>{answer}</answer>" + (f"<confidence>{level}</confidence>" if level else "")
        for answer, level in zip(ANSWERS, LEVELS, strict=True)
    ]
    ids = [[*tokenizer.encode(each, add_special_tokens=False), tokenizer.eos_token_id] for each in completions]
    rows = [{"prompt": prompt, "answer": "3"} for prompt in ("1+2=", "3=", "1+1+1=", "3+0=")] * 4
    torch.manual_seed(0)  # of what an adapter starts with
    trainer = kind(
        model,
        rubric=Rubric.from_config(case.rubric),
        template=template,
        verifier=verifier,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=4, task_type="CAUSAL_LM") if case.lora else None,
    )
    generate, pad = model.generate, tokenizer.pad_token_id

    def dictated(**given: Any) -> Any:
        size, start = given["input_ids"].shape
        assert size == settings["per_device_train_batch_size"]
        first = trainer.accelerator.process_index * size + trainer.state.global_step
        written = [ids[(first + row) % len(ids)] for row in range(size)]

        def allowed(row: int, sequence: Any) -> list[int]:
            return [[*written[row], *[pad] * 8][len(sequence) - start]]

        return generate(**given, prefix_allowed_tokens_fn=allowed)

    model.generate = dictated  # as it would be sampled, with its hooks
    return trainer


def sft(case: Case, settings: dict[str, Any], load: Callable[[], Any], template: Any, verifier: Any) -> Any:
    from datasets import Dataset

    from rl.config import CalibratedSFTConfig
    from rl.sft import CalibratedSFTTrainer, sft_rows

    arguments = CalibratedSFTConfig(**settings, max_length=32)
    model, tokenizer = load()
    golds = [{"prompt": f"{left}+{right}=", "answer": str(left + right)} for left in range(9) for right in range(9)]
    rows = Dataset.from_list(sft_rows(golds, template, seed=0))
    return CalibratedSFTTrainer(model, args=arguments, train_dataset=rows, processing_class=tokenizer)


TRAINERS = {"grpo": grpo, "ppo": grpo, "sft": sft}


def launched(policy: Path, out: Path) -> None:
    """What each rank does: every case, then the signals of a split policy; the results are left in files."""
    import torch
    from accelerate.state import AcceleratorState, GradientState, PartialState
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    from rl.deepspeed import reduce_through_gloo

    reduce_through_gloo()
    for name, case in CASES.items():
        history, model = run(policy, out, name, processes=2)
        state = PartialState()
        with whole(model, case.stage):
            weights = {key: value.detach().clone() for key, value in model.named_parameters()}
        save_file(weights, out / f"{name}-rank{state.process_index}.safetensors")
        if state.is_main_process:
            (out / f"{name}.json").write_text(json.dumps(history))
        # The next case is another run: nothing of this one's may reach it.
        unset_hf_deepspeed_config()
        os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)
        GradientState._reset_state()
        AcceleratorState._reset_state(reset_partial_state=True)
    signals_of_a_split_policy(policy, out)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def whole(model: Any, stage: int) -> Any:
    """Inside, the weights are whole where ZeRO-3 has split them."""
    if stage < 3:
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(list(model.parameters()))


# -- signals of a policy that is split over the ranks ------------------------------------------------------------------
PROMPT, GOLD = "1+2=", "3"
# Of each rank; so long that one rank has more thousands of tokens to read than the other.
LONG = [
    ["<think>" + "1+2=" * 12 + "</think><answer>3</answer>", "<think>1+2</think><answer>12</answer>"] * 25,
    ["<answer>4</answer><confidence>0.5</confidence>", "<confidence>0.5</confidence>"] * 25,
]


SPLIT = {
    "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
    "train_micro_batch_size_per_gpu": 50,
    "gradient_accumulation_steps": 1,
    "zero_allow_untested_optimizer": True,
}


def signals_of_a_split_policy(policy: Path, out: Path) -> None:
    """Read the signals off the whole model, then off the split one, before and after a step."""
    import deepspeed
    import torch
    from transformers.integrations import HfDeepSpeedConfig

    from rewards.template import AnswerTemplate
    from rewards.verifiers.verifier import EQUAL
    from rl.checkpoint import load_policy
    from rl.reward_model import RewardModel, as_reward_model
    from rl.rollout import VerifiedRollout
    from rl.segments import decode_completion
    from rl.signals import SIGNALS, SignalReader

    rank = torch.distributed.get_rank()
    unsplit, tokenizer = load_policy(policy, attn_implementation="eager")
    preferring = RewardModel(as_reward_model(unsplit, tokenizer, seed=0))
    template = AnswerTemplate(levels=("0.0", "0.25", "0.5", "0.75", "1.0"), prior_confidence="required")
    texts = LONG[rank]
    ids = [[*tokenizer.encode(each, add_special_tokens=False), tokenizer.eos_token_id] for each in texts]
    decoded = tuple(decode_completion(tokenizer, each) for each in ids)
    rollout = VerifiedRollout(decoded, tuple(template.parse(each.text) for each in decoded), (EQUAL,) * len(ids))
    prompts = [tokenizer.encode(PROMPT, add_special_tokens=False)] * len(ids)
    width = max(map(len, ids))
    rows = [[*prompts[0], *each, *[tokenizer.pad_token_id] * (width - len(each))] for each in ids]
    batch = {"input_ids": torch.tensor(rows)}
    batch["attention_mask"] = (batch["input_ids"] != tokenizer.pad_token_id).long()

    def read(model: Any, score: Any) -> dict[str, list[float]]:
        reader = SignalReader(SIGNALS, model, tokenizer, template, generates=False, reward_model=preferring)
        written = batch["input_ids"][:, -width:], batch["attention_mask"][:, -width:]
        with reader.watching():
            with torch.no_grad(), reader.scoring(*written):
                score(**batch)
            read = reader.read(rollout, prompts, ids, [GOLD] * len(ids))
        return {name: values.tolist() for name, values in read.items()}

    results = {"whole": read(unsplit, unsplit)}
    split = HfDeepSpeedConfig(SPLIT)  # alive while the model loads, which splits it
    model, _ = load_policy(policy, attn_implementation="eager")
    assert model.get_output_embeddings().weight.numel() == 0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine, *_ = deepspeed.initialize(model=model, config=split.config, optimizer=optimizer)
    results["split"] = read(engine.module, engine)
    engine.backward(engine(**batch, labels=batch["input_ids"]).loss)
    engine.step()
    results["trained"] = read(engine.module, engine)
    (out / f"signals{rank}.json").write_text(json.dumps(results))


# -- what the ranks have found against what one process finds ----------------------------------------------------------
@pytest.fixture(scope="module")
def two_ranks(policy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the launched script has left its results."""
    pytest.importorskip("deepspeed")
    out = tmp_path_factory.mktemp("two_ranks")
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
        "DS_ACCELERATOR": "cpu",
    }  # fmt: skip
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
    done = subprocess.run(
        [*command, str(policy.path), str(out)], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return out


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:trainer.scaling. group")
def test_two_ranks_train_as_one_does(name: str, two_ranks: Path, policy: Any, tmp_path: Path) -> None:
    case = CASES[name]
    history, model = run(policy.path, tmp_path, name, processes=1)
    theirs = json.loads((two_ranks / f"{name}.json").read_text())
    steps = [[record for record in each if "loss" in record] for each in (history, theirs)]
    assert len(steps[0]) == len(steps[1]) == case.steps
    for one, two in zip(*steps, strict=True):
        assert one.keys() == two.keys()
        for key in one.keys() - TIMES:
            values = [math.nan if each[key] is None else each[key] for each in (one, two)]
            assert values[1] == pytest.approx(values[0], rel=case.tolerance, abs=1e-5, nan_ok=True), (key, one["step"])
        assert one["grad_norm"] > 1e-3
    first, second = (load_file(two_ranks / f"{name}-rank{rank}.safetensors") for rank in range(2))
    start, _ = policy.load()
    before = dict(start.named_parameters())
    trained = {key: value.detach() for key, value in model.named_parameters() if value.requires_grad}
    assert any("lora_B" in key for key in trained) == case.lora
    for key, value in trained.items():
        assert (first[key] == second[key]).all(), f"{key} differs between the ranks"
        assert (first[key] - value).abs().max() < 1e-5, key
        assert (value != before.get(key, 0)).any(), f"{key} was not trained"  # an adapter's second half starts at 0


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.stage])
def test_what_deepspeed_saves_is_whole_and_loads_on_one_process(name: str, two_ranks: Path) -> None:
    from rl.checkpoint import load_policy

    assert not list((two_ranks / f"{name}-2").glob("*.bin.index.json"))
    saved, _ = load_policy(two_ranks / f"{name}-2")
    ranks = load_file(two_ranks / f"{name}-rank0.safetensors")
    assert (two_ranks / f"{name}-2" / "adapter_config.json").exists() == CASES[name].lora
    for key, value in saved.named_parameters():
        theirs = ranks[f"base_model.model.{key}" if CASES[name].lora else key]
        assert value.shape == theirs.shape and (value.detach() == theirs).all(), key


@pytest.mark.parametrize("rank", range(2))
def test_a_policy_that_is_split_over_the_ranks_is_read_as_a_whole_one(rank: int, two_ranks: Path) -> None:
    results = json.loads((two_ranks / f"signals{rank}.json").read_text())
    for name, values in results["whole"].items():
        assert results["split"][name] == pytest.approx(values, rel=1e-4, abs=1e-6, nan_ok=True), name
    assert results["trained"]["entropy"] != pytest.approx(results["split"]["entropy"], rel=1e-3)


if __name__ == "__main__":
    launched(Path(sys.argv[1]), Path(sys.argv[2]))
