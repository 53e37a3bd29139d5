"""Signals where DeepSpeed has split every weight over two ranks are those of the whole model.

This file is its own launched script: ``torchrun --nproc-per-node 2 tests/rl/test_zero3.py POLICY OUT``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROMPT, GOLD = "1+2=", "3"
# Of each rank; so long that one rank has more thousands of tokens to read than the other.
COMPLETIONS = [
    ["<think>" + "1+2=" * 12 + "</think><answer>3</answer>", "<think>1+2</think><answer>12</answer>"] * 25,
    ["<answer>4</answer><confidence>0.5</confidence>", "<confidence>0.5</confidence>"] * 25,
]
CONFIG = {
    "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
    "train_micro_batch_size_per_gpu": 50,
    "gradient_accumulation_steps": 1,
    "zero_allow_untested_optimizer": True,
}


def launched(policy: Path, out: Path) -> None:
    """What each rank does: reads the signals off the whole model, then off the split one, before and after a step."""
    import deepspeed
    import torch
    from transformers.integrations import HfDeepSpeedConfig

    from rewards.template import AnswerTemplate
    from rewards.verifiers.verdict import EQUAL
    from rl.checkpoint import load_policy
    from rl.rollout import JudgedRollout
    from rl.segments import decode_completion
    from rl.signals import SIGNALS, SignalReader

    deepspeed.init_distributed(dist_backend="gloo")
    rank = torch.distributed.get_rank()
    whole, tokenizer = load_policy(policy, attn_implementation="eager")
    template = AnswerTemplate(levels=("0.0", "0.25", "0.5", "0.75", "1.0"))
    texts = COMPLETIONS[rank]
    ids = [[*tokenizer.encode(each, add_special_tokens=False), tokenizer.eos_token_id] for each in texts]
    decoded = tuple(decode_completion(tokenizer, each) for each in ids)
    rollout = JudgedRollout(decoded, tuple(template.parse(each.text) for each in decoded), (EQUAL,) * len(ids))
    prompts = [tokenizer.encode(PROMPT, add_special_tokens=False)] * len(ids)
    width = max(map(len, ids))
    rows = [[*prompts[0], *each, *[tokenizer.pad_token_id] * (width - len(each))] for each in ids]
    batch = {"input_ids": torch.tensor(rows)}
    batch["attention_mask"] = (batch["input_ids"] != tokenizer.pad_token_id).long()

    def read(model: Any, score: Any) -> dict[str, list[float]]:
        reader = SignalReader(SIGNALS, model, tokenizer, generates=False)
        with reader.watching():
            with torch.no_grad():
                score(**batch)
            read = reader.read(rollout, prompts, ids, [GOLD] * len(ids))
        return {name: values.tolist() for name, values in read.items()}

    results = {"whole": read(whole, whole)}
    split = HfDeepSpeedConfig(CONFIG)  # alive while the model loads, which splits it
    model, _ = load_policy(policy, attn_implementation="eager")
    assert model.get_output_embeddings().weight.numel() == 0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine, *_ = deepspeed.initialize(model=model, config=split.config, optimizer=optimizer)
    results["split"] = read(engine.module, engine)
    engine.backward(engine(**batch, labels=batch["input_ids"]).loss)
    engine.step()
    results["trained"] = read(engine.module, engine)
    (out / f"rank{rank}.json").write_text(json.dumps(results))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_a_policy_that_is_split_over_the_ranks_is_read_as_a_whole_one(policy: Any, tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
        "DS_ACCELERATOR": "cpu",
    }  # fmt: skip
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
    done = subprocess.run(
        [*command, str(policy.path), str(tmp_path)], env=environment, cwd=ROOT, capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    for rank in range(2):
        results = json.loads((tmp_path / f"rank{rank}.json").read_text())
        for name, values in results["whole"].items():
            assert results["split"][name] == pytest.approx(values, rel=1e-4, abs=1e-6, nan_ok=True), (rank, name)
        assert results["trained"]["entropy"] != pytest.approx(results["split"]["entropy"], rel=1e-3)


if __name__ == "__main__":
    launched(Path(sys.argv[1]), Path(sys.argv[2]))
