"""vLLM's own engine with our logits processor, against what the record of the same requests says. It needs a GPU.

    python tests/benchmarks/vllm_stops.py CHECKPOINT

Requests are written once without rules, with the log-probabilities of each token; the median of their lowest group
confidences is the threshold. Then every other one is written again under that threshold, all in one batch: it has to
end where the record of the first time says, to the token, and its neighbours, which ask for nothing, should stay what
they were (where a batch of another size rounds differently they need not). A budget has to close the thought at its
token, a misspelt option and asynchronous scheduling have to be refused.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from estimators.online.adapters.vllm import BatchStopping
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
    parser.add_argument("checkpoint")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--memory", type=float, default=0.1, help="share of the GPU for vLLM")
    options = parser.parse_args()
    print(json.dumps(compared(options.checkpoint, options.requests, options.memory), indent=2))


def compared(checkpoint: str, requests: int, memory: float) -> dict[str, Any]:
    """What agreed, as counts."""
    from vllm import LLM, SamplingParams

    settings: dict[str, Any] = {
        "model": checkpoint, "dtype": "float32", "max_model_len": 512, "gpu_memory_utilization": memory, "seed": 0,
        "enforce_eager": True, "enable_prefix_caching": False, "logprobs_mode": "raw_logprobs", "max_logprobs": TOP,
        "logits_processors": [BatchStopping],
    }  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    end, close = tokenizer.eos_token_id, tokenizer("</think>", add_special_tokens=False).input_ids
    turns = [[{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}] for number in range(requests)]
    prompts = [tokenizer.apply_chat_template(each, tokenize=False, add_generation_prompt=True) for each in turns]
    engine = LLM(**settings, async_scheduling=False)

    def write(ask: Options) -> list[Any]:
        asked = [
            SamplingParams(max_tokens=LENGTH, logprobs=TOP, seed=number, stop_token_ids=[end], extra_args=ask(number))
            for number in range(requests)
        ]
        return [each.outputs[0] for each in engine.generate(prompts, asked, use_tqdm=False)]

    plain = write(lambda number: None)
    traces = [Trace(None, confidences(each.logprobs)) for each in plain]
    threshold = float(np.median([lowest_group(each, WINDOW) for each in traces]))
    rules = {"candor_lowest_group": threshold, "candor_window": WINDOW, "candor_end_id": end}
    ruled = write(lambda number: None if number % 2 else rules)
    cuts = [cut(each, [LowestGroup(threshold, WINDOW)]) for each in traces]
    closing = {"candor_end_id": end, "candor_close_ids": close}
    budget = write(lambda number: {"candor_budget": 20 + number, **closing} if number < BUDGETS else None)[:BUDGETS]
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
        "budgets that closed the thought": sum(
            len(each.token_ids) <= 20 + number or list(each.token_ids)[20 + number :][: len(close)] == close
            for number, each in enumerate(budget)
        ),
    }
    for name, call in {
        "a misspelt option": lambda: write(lambda number: {"candor_budgt": 3}),
        "asynchronous scheduling": lambda: LLM(**settings, async_scheduling=True),
    }.items():
        try:
            call()  # type: ignore[no-untyped-call]
            found[name] = "accepted"
        except Exception as error:  # what an engine raises from its own process is of its own kind
            found[name] = f"{type(error).__name__}: {error}"[:200]
    return found


def confidences(logprobs: list[Any]) -> np.ndarray:
    """DeepConf's token confidence of each token, off the recorded log-probabilities of the likeliest."""
    best = (sorted((each.logprob for each in token.values()), reverse=True)[:TOP] for token in logprobs)
    return np.array([-np.mean(each) for each in best])


def expected(tokens: list[int], kept: int, end: int) -> list[int]:
    """What a request of these tokens is under a rule that keeps so many of them."""
    return [*tokens[:kept], end] if kept < len(tokens) else tokens


if __name__ == "__main__":
    main()
