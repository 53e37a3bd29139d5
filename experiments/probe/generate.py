"""From a checkpoint to completions: the rollout stage of a probe, without any training machinery."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from estimators.critic import KeptCritic
from estimators.forward_passes import is_split
from estimators.metrics.cost import flops
from experiments.probe.records import from_completions
from rewards.template import AnswerTemplate
from rewards.verifiers.verifier import Verifier
from rl.monitoring.progress import Meter
from rl.rollout import encode_prompt
from rl.segments import DecodedCompletion, decode_completion


@dataclass(frozen=True)
class Policy:
    """A model with its tokenizer, the template it answers in and the temperature its confidence was trained at."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    template: AnswerTemplate
    temperature: float = 1.0
    critic: KeptCritic | None = None
    """The critic kept with the checkpoint, where an estimator asks for it."""

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer, as in training: the tokenizer's own, and those that the model declares."""
        declared = self.model.generation_config.eos_token_id
        more = [declared] if isinstance(declared, int) else declared or []
        return tuple(dict.fromkeys([self.tokenizer.eos_token_id, *more]))


@dataclass(frozen=True)
class Generation:
    """Token ids of one prompt and of what the policy answered to it, with the answer's text."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    decoded: DecodedCompletion


class Hooks(Protocol):
    """What follows generation, a batch at a time."""

    def arguments(self) -> dict[str, Any]:
        """More arguments of the model's ``generate`` for the next batch."""

    def took(self, rows: Sequence[int]) -> None:
        """A batch has been generated, of the prompts of these numbers."""


def generate(
    policy: Policy,
    prompts: Sequence[Any],
    *,
    max_new_tokens: int,
    batch_size: int,
    title: str | None = "probe",
    temperature: float = 0.0,
    seed: int = 0,
    begun: Sequence[Sequence[int]] | None = None,
    hooks: Hooks | None = None,
) -> list[Generation]:
    """Answer every prompt in batches of similar length; results in the order of ``prompts``.

    At ``temperature`` 0 the answers are greedy; above it they are sampled, from ``seed``, over the whole vocabulary.
    ``title`` is that of the progress shown; None shows none. ``begun`` has the tokens that each answer begins with, the
    same number for all, which count as its own and among ``max_new_tokens``; ``hooks`` follow each batch.
    """
    begun = [()] * len(prompts) if begun is None else begun
    with torch.random.fork_rng(enabled=temperature > 0):
        if temperature > 0:
            torch.manual_seed(seed)
        return _generate(policy, prompts, begun, max_new_tokens, batch_size, title, temperature, hooks)


def first_tokens(policy: Policy, prompts: Sequence[Any], count: int, *, batch_size: int) -> list[list[int]]:
    """The ``count`` likeliest tokens to begin an answer to each prompt, the likeliest first; none ends an answer."""
    policy.model.eval()
    encoded = [encode_prompt(policy.tokenizer, prompt) for prompt in prompts]
    found: list[list[int]] = []
    for first in range(0, len(encoded), batch_size):
        ids, mask = left_padded(encoded[first : first + batch_size], policy.tokenizer.pad_token_id)
        with torch.no_grad():
            logits = policy.model(
                input_ids=ids.to(policy.model.device),
                attention_mask=mask.to(policy.model.device),
                position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0).to(policy.model.device),
            ).logits[:, -1]
        logits[:, [*policy.end_ids, policy.tokenizer.pad_token_id]] = -torch.inf
        found += logits.topk(count).indices.tolist()
    return found


def left_padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, each (B, T), of rows that end together; ``pad`` stands before the shorter ones."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
    return ids, torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])


def _generate(
    policy: Policy,
    prompts: Sequence[Any],
    begun: Sequence[Sequence[int]],
    max_new_tokens: int,
    batch_size: int,
    title: str | None,
    temperature: float,
    hooks: Hooks | None,
) -> list[Generation]:
    decoding = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if temperature > 0:
        decoding = {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0}
    encoded = [encode_prompt(policy.tokenizer, prompt) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda index: len(encoded[index]))
    results: list[Generation | None] = [None] * len(prompts)
    pad = policy.tokenizer.pad_token_id
    policy.model.eval()
    with Meter(len(prompts), title, unit="question") as meter:
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            ids, mask = left_padded([[*encoded[row], *begun[row]] for row in rows], pad)
            with torch.no_grad():  # not inference_mode: a policy in training goes on with the buffers made here
                sampled = policy.model.generate(
                    input_ids=ids.to(policy.model.device),
                    attention_mask=mask.to(policy.model.device),
                    max_new_tokens=max_new_tokens - len(begun[rows[0]]),
                    **decoding,
                    repetition_penalty=1.0,  # chat models bring their own, which is not how they were trained here
                    pad_token_id=pad,
                    eos_token_id=list(policy.end_ids),
                    synced_gpus=is_split(policy.model),  # ranks with whole weights do not wait for each other
                    **(hooks.arguments() if hooks is not None else {}),
                )
            if hooks is not None:
                hooks.took(rows)
            for row, written in zip(rows, sampled[:, ids.size(1) :].tolist(), strict=True):
                tokens = [*begun[row], *written]
                decoded = decode_completion(policy.tokenizer, tokens, (*policy.end_ids, pad))
                results[row] = Generation(tuple(encoded[row]), tuple(tokens[: len(decoded.ends)]), decoded)
            meter.reach(first + len(rows))
    return [each for each in results if each is not None]


def verify_generations(
    policy: Policy,
    rows: Sequence[dict[str, Any]],
    generations: Sequence[Generation],
    method: str,
    verifier: Verifier,
    manner: Callable[[str], str | None],
) -> pd.DataFrame:
    """Records of one method whose confidence is the stated one; ``manner`` names that of a completion.

    ``cost`` is in floating-point operations.
    """
    parameters = sum(each.numel() for each in policy.model.parameters())
    frame = pd.DataFrame(
        {
            "method": method,
            "question_id": [row["id"] for row in rows],
            "prompt": [prompt_text(row["prompt"]) for row in rows],
            "gold": [row["answer"] for row in rows],
            "completion": [each.decoded.text for each in generations],
            "truncated": [not each.decoded.finished for each in generations],
            "group": [row["group"] for row in rows],
            "manner": [manner(each.decoded.text) for each in generations],
            "item": [row.get("item") for row in rows],
            "completion_tokens": [len(each.completion_ids) for each in generations],
            "prompt_tokens": [len(each.prompt_ids) for each in generations],
            "cost": flops(parameters, [len(each.prompt_ids) + len(each.completion_ids) for each in generations]),
        }
    )
    return from_completions(frame, policy.template, verifier)


def prompt_text(prompt: Any) -> str:
    """A prompt as one text: itself, or its messages one after another."""
    return prompt if isinstance(prompt, str) else "\n".join(f"{each['role']}: {each['content']}" for each in prompt)
