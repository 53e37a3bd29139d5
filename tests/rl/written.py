"""Completions with their parts told apart, a policy that wrote them, and its signals once more by hand."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model

from rewards.template import AnswerTemplate
from rewards.verifiers.verifier import EQUAL
from rl.reward_model import RewardModel, as_reward_model
from rl.rollout import VerifiedRollout
from rl.segments import decode_completion
from rl.signals import (
    ESTIMATED,
    MODEL_SIGNALS,
)
from tests.factories import tiny_model

ANSWER_SIGNALS = tuple(name for name in ESTIMATED if name.startswith("answer_"))
STATED_BEFORE = ("step_confidence", "prior_confidence")


# What stands before the answer, the answer, what stands behind it; the gold; whether it ends by itself.
Written = tuple[str, str | None, str, str, bool]


def policy_of(name: str, tokenizer: Any) -> Any:
    """A model with random weights, large enough that its distributions differ from place to place."""
    model = tiny_model(
        name if name in ("gemma2", "granite") else "llama",
        vocabulary=tokenizer,
        hidden=32,
        tie_word_embeddings=name == "tokens",
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    adapters = {
        "lora": LoraConfig(init_lora_weights=False),
        "lora_head": LoraConfig(init_lora_weights=False, target_modules=["q_proj", "lm_head"]),
        "saved_head": LoraConfig(init_lora_weights=False, modules_to_save=["lm_head"]),
        "tokens": LoraConfig(
            init_lora_weights=False, trainable_token_indices=tokenizer.encode("4271", add_special_tokens=False)
        ),
    }
    if name in adapters:
        adapters[name].task_type = "CAUSAL_LM"
        model = get_peft_model(model, adapters[name])
        if name in ("saved_head", "tokens"):
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.requires_grad:
                        parameter += torch.randn_like(parameter)
    return model


ELSEWHERE = (
    "mean_step_confidence", "lowest_step_confidence", "step_confidence_variance", "trace_confidence",
    "lowest_group_confidence", "bottom_group_confidence", "tail_confidence", "head_confidence", "base_rate",
    *MODEL_SIGNALS,
)  # fmt: skip
"""Signals that :func:`by_hand` does not know: their definitions have tests beside those of the estimators."""


def preferring(model: Any, tokenizer: Any) -> RewardModel:
    """A reward model of the policy's architecture that nothing taught what to prefer."""
    return RewardModel(as_reward_model(model, tokenizer, seed=0))


def encode(tokenizer: Any, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def ids_of(tokenizer: Any, written: Written) -> list[int]:
    before, answer, after, _, ends = written
    ids = [token for text in (before, answer or "", after) for token in encode(tokenizer, text)]
    return [*ids, tokenizer.eos_token_id] if ends else ids


def judged(tokenizer: Any, completion_ids: Sequence[list[int]], template: AnswerTemplate) -> VerifiedRollout:
    decoded = tuple(decode_completion(tokenizer, ids) for ids in completion_ids)
    parsed = tuple(template.parse(each.text, truncated=not each.finished) for each in decoded)
    return VerifiedRollout(decoded, parsed, (EQUAL,) * len(decoded))


# -- the same once more, one completion at a time, by hand -------------------------------------------------------------


def log_probs_after(model: Any, prompt: list[int], completion: list[int]) -> torch.Tensor:
    """Log-probabilities (T, V) of the next token at each of a completion's tokens: no padding, no cache."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + completion])).logits[0].double()
    logits = logits[len(prompt) - 1 : len(prompt) + len(completion) - 1]
    return logits - logits.exp().sum(dim=1, keepdim=True).log()


def by_hand(
    model: Any,
    tokenizer: Any,
    prompt: list[int],
    written: Written,
    levels: Sequence[str] = (),
    temperature: float = 1.0,
) -> dict[str, float]:
    before, answer, after, gold, _ = written
    ids = ids_of(tokenizer, written)
    log_p = log_probs_after(model, prompt, ids).numpy()
    p, size = np.exp(log_p), log_p.shape[1]
    chosen = log_p[np.arange(len(ids)), ids]
    entropy = -(p * log_p).sum(axis=1)
    certainty = (1 / size * (np.log(1 / size) - log_p)).sum(axis=1)
    ranked = np.sort(p, axis=1)
    values = {
        "length": len(ids),
        "mean_log_prob": chosen.mean(),
        "entropy": entropy.mean(),
        "self_certainty": certainty.mean(),
        "mean_max_probability": ranked[:, -1].mean(),
    }
    values |= dict.fromkeys(
        [*ANSWER_SIGNALS, *STATED_BEFORE, "expected_confidence", "confidence_token", "verbalized"], math.nan
    )
    stated = re.search(r"<confidence>([\d.]+)</confidence>", before + (answer or "") + after)
    if stated is not None:
        values["verbalized"] = float(stated[1])
    if stated is not None and levels:
        at = ids.index(tokenizer.convert_tokens_to_ids(stated[1]))
        shares = p[at, tokenizer.convert_tokens_to_ids(list(levels))] ** (1 / temperature)
        values["expected_confidence"] = float(shares @ np.array(levels, dtype=float) / shares.sum())
        least, most = (choose(range(len(levels)), key=lambda level: float(levels[level])) for choose in (min, max))
        values["confidence_token"] = float(shares[most] / (shares[least] + shares[most]))
    if answer is not None:
        first = len(encode(tokenizer, before))
        at = slice(first, first + len(encode(tokenizer, answer)))
        values |= {
            "answer_log_prob": chosen[at].mean(),
            "answer_entropy": entropy[at].mean(),
            "answer_self_certainty": certainty[at].mean(),
            "answer_max_probability": ranked[at, -1].mean(),
            "answer_margin": (ranked[at, -1] - ranked[at, -2]).mean(),
            "answer_probability": np.prod(np.exp(chosen[at])),
            "answer_min_probability": np.exp(chosen[at]).min(),
        }

    def gold_after(text: str) -> float:
        if not gold.strip():
            return math.nan
        after = prompt + encode(tokenizer, text)
        tokens = encode(tokenizer, gold)
        log_p = log_probs_after(model, after, tokens)
        return float(log_p[range(len(tokens)), tokens].exp().mean())

    values["reference_probability_prior"] = gold_after("<answer>")
    values["reference_probability"] = gold_after(before)
    if answer is None and gold.strip():
        values["reference_probability"] = 0.0
    stakes = [float(each.split("</stake>")[0]) for each in before.split("</think>")[0].split("<stake>")[1:]]
    if "</think>" in before and stakes:
        values["step_confidence"] = sum(stakes) / len(stakes)
    if prior := re.match(r"<prior>(.*)</prior>", before):
        values["prior_confidence"] = float(prior[1])
    ngrams = Counter(tuple(ids[i : i + 4]) for i in range(len(ids) - 3))
    values["repetition"] = sum(count - 1 for count in ngrams.values()) / max(1, ngrams.total())
    stated, wanted = ([word for word in (text or "").split() if word != "the"] for text in (answer, gold))
    common = (Counter(stated) & Counter(wanted)).total()
    values["token_f1"] = 2 * common / max(1, len(stated) + len(wanted))
    return values


def hooks(model: Any) -> int:
    """Hooks on a model's trunk and head."""
    head = model.get_output_embeddings()
    return sum(map(len, (model.base_model._forward_hooks, model.base_model._forward_pre_hooks, head._forward_hooks)))
