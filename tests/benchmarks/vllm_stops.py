"""vLLM's own engine with our logits processors, against what the record of the same requests says.

    python tests/benchmarks/vllm_stops.py --checkpoint CHECKPOINT
    VLLM_USE_V2_MODEL_RUNNER=1 TRITON_INTERPRET=1 python tests/benchmarks/vllm_stops.py --runner 2 --blocks 12

Requests are written once without rules, with the log-probabilities of each token; the median of their lowest group
confidences is the threshold. Then every other one is written again under that threshold, all in one batch: it has to
end where the record of the first time says, to the token, and its neighbours, which ask for nothing, should stay what
they were (where a batch of another size rounds differently they need not). A budget has to close the thought at its
token and once, a misspelt option has to be refused, and so has asynchronous scheduling by the first runner, which a GPU
has and a CPU ignores. With few ``--blocks`` of the cache requests are preempted and come back: a budget has to hold
then too; a window begins anew, so that stops may come later than the record says.

Without a GPU: vLLM's build for CPUs, and for the second runner a Triton for CPUs or ``TRITON_INTERPRET=1``, which is
slow: take few requests, and no checkpoint, which is a model of two layers with random weights and a token a character.
A checkpoint needs a chat template.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from estimators.online.adapters.vllm import BatchStopping, SlotStopping
from estimators.online.sampling import Trace, cut, lowest_group
from estimators.online.stopping import LowestGroup

QUESTIONS = (
    "Explain why the sky is blue.",
    "Write a short story about a robot.",
    "What is the capital of Australia and why?",
    "List five uses of salt.",
    "How do I cook rice?",
    "Who wrote Hamlet, and when?",
    "Describe photosynthesis.",
    "What is 17 times 23? Think step by step.",
)
WINDOW, TOP, LENGTH, BUDGETS = 16, 20, 200, 16
Options = Callable[[int], Mapping[str, Any] | None]


def main() -> None:
    """Write, write again under rules, compare, and print what came out as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="a folder; without it a small model with random weights")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--runner", type=int, choices=(1, 2), default=1, help="vLLM's model runner")
    parser.add_argument("--blocks", type=int, help="blocks in the cache, of 32 tokens, few enough to preempt")
    parser.add_argument("--memory", type=float, help="share of the GPU for vLLM")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(compared(options, options.checkpoint or random_policy(folder)), indent=2))


def random_policy(folder: str) -> str:
    """Write a model with wide random weights, the same each time, and a tokenizer of characters; returns the folder."""
    core = Tokenizer(models.WordLevel({**{chr(32 + each): each for each in range(95)}, "<eos>": 95}, unk_token=" "))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Split(Regex("."), "isolated"), decoders.Fuse()
    core.add_tokens([AddedToken("</think>", special=False, normalized=False)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", unk_token=" ", pad_token="<eos>")
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=512, initializer_range=0.3, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def compared(options: argparse.Namespace, checkpoint: str) -> dict[str, Any]:
    """What agreed, as counts."""
    from vllm import LLM, SamplingParams

    requests = options.requests
    settings: dict[str, Any] = {
        "model": checkpoint, "dtype": "float32", "max_model_len": 320, "seed": 0, "enforce_eager": True,
        "enable_prefix_caching": False, "logprobs_mode": "raw_logprobs", "max_logprobs": TOP,
        "logits_processors": [BatchStopping if options.runner == 1 else SlotStopping], "disable_log_stats": False,
    }  # fmt: skip
    settings |= {} if options.blocks is None else {"num_gpu_blocks_override": options.blocks, "block_size": 32}
    settings |= {} if options.memory is None else {"gpu_memory_utilization": options.memory}
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    end, close = tokenizer.eos_token_id, tokenizer("</think>", add_special_tokens=False).input_ids
    turns = [[{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}] for number in range(requests)]
    prompts = [tokenizer.apply_chat_template(each, tokenize=False, add_generation_prompt=True) for each in turns]
    engine = LLM(**settings, **({"async_scheduling": False} if options.runner == 1 else {}))

    def write(ask: Options, bias: dict[int, float] | None = None) -> list[Any]:
        settings = {"max_tokens": LENGTH, "logprobs": TOP, "stop_token_ids": [end], "logit_bias": bias}
        asked = [SamplingParams(**settings, seed=number, extra_args=ask(number)) for number in range(requests)]
        return [each.outputs[0] for each in engine.generate(prompts, asked, use_tqdm=False)]

    plain = write(lambda number: None)
    traces = [Trace(None, confidences(each.logprobs)) for each in plain]
    threshold = float(np.median([lowest_group(each, WINDOW) for each in traces]))
    rules = {"candor_lowest_group": threshold, "candor_window": WINDOW, "candor_end_id": end}
    ruled = write(lambda number: None if number % 2 else rules)
    cuts = [cut(each, [LowestGroup(threshold, WINDOW)]) for each in traces]
    closing = {"candor_end_id": end, "candor_close_ids": close}
    never = {close[0]: -100.0}  # the model closes no thought by itself
    budget = write(lambda number: {"candor_budget": 20 + number, **closing}, never)[:BUDGETS]
    found: dict[str, Any] = {
        "threshold": threshold,
        "requests under rules": len(plain[::2]),
        "stopped by the record": sum(each.stop is not None for each in cuts[::2]),
        "the engine wrote what the record says": sum(
            list(written.token_ids) == expected(list(first.token_ids), len(each.confidences_T), end)
            for first, written, each in list(zip(plain, ruled, cuts, strict=True))[::2]
        ),
        "neighbours without rules": len(plain[1::2]),
        "of them unchanged": sum(
            list(a.token_ids) == list(b.token_ids) for a, b in zip(plain[1::2], ruled[1::2], strict=True)
        ),
        "tokens without and under rules": [sum(len(each.token_ids) for each in part[::2]) for part in (plain, ruled)],
        "budgets": len(budget),
        "of them reached": sum(len(each.token_ids) > 20 + number for number, each in enumerate(budget)),
        "that closed the thought there and once": sum(
            places(list(each.token_ids), close) == [20 + number] for number, each in enumerate(budget)
        ),
        "preemptions": next((int(each.value) for each in engine.get_metrics() if "preemptions" in each.name), None),
    }
    calls: dict[str, Callable[[], Any]] = {"a misspelt option": lambda: write(lambda number: {"candor_budgt": 3})}
    if options.runner == 1:
        calls["asynchronous scheduling"] = lambda: LLM(**settings, async_scheduling=True)
    for name, call in calls.items():
        try:
            call()
            found[name] = "accepted"
        except Exception as error:  # what an engine raises from its own process is of its own kind
            found[name] = f"{type(error).__name__}: {error}"[:200]
    return found


def confidences(logprobs: list[Any]) -> np.ndarray:
    """DeepConf's token confidence of each token, off the recorded log-probabilities of the likeliest."""
    best = (sorted((each.logprob for each in token.values()), reverse=True)[:TOP] for token in logprobs)
    return np.array([-np.mean(each) for each in best])


def places(tokens: list[int], part: list[int]) -> list[int]:
    """Where the part stands among the tokens."""
    return [place for place in range(len(tokens)) if tokens[place : place + len(part)] == part]


def expected(tokens: list[int], kept: int, end: int) -> list[int]:
    """What a request of these tokens is under a rule that keeps so many of them."""
    return [*tokens[:kept], end] if kept < len(tokens) else tokens


if __name__ == "__main__":
    main()
