"""Parse, verify and gather: from sampled token ids to the facts of the global batch.

Per-completion facts are computed on the rank that owns the completion and gathered before any reward is given,
because a group may be split over ranks and a reward may look at siblings.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from transformers import PreTrainedTokenizerBase

from rewards.completion import ParsedCompletion, ParseStatus
from rewards.outcomes import Outcomes
from rewards.rubric import RewardMatrix
from rewards.template import AnswerTemplate
from rewards.verifiers.verifier import Verdict, Verifier
from rl.segments import DecodedCompletion, decode_completion

_STATUSES = tuple(ParseStatus)
ReadCompletions = dict[tuple[int, ...], tuple[DecodedCompletion, ParsedCompletion]]
"""Token ids of completions -> what they say."""


@dataclass(frozen=True)
class VerifiedRollout:
    """One rank's completions, decoded, parsed and verified; each field has one entry a completion."""

    decoded: tuple[DecodedCompletion, ...]
    parsed: tuple[ParsedCompletion, ...]
    verdicts: tuple[Verdict, ...]

    def columns(self, signals: Mapping[str, torch.Tensor]) -> dict[str, list[Any]]:
        """What the completions table says of them, name -> one value a completion, ``signals`` (B,) among it."""
        return {
            "answer": [each.answer for each in self.parsed],
            "confidence": [each.confidence for each in self.parsed],
            "correct": [each.correct for each in self.verdicts],
            "verdict": [each.reason for each in self.verdicts],
            "status": [str(each.status) for each in self.parsed],
            # A term may have the signal's name.
            **{f"signals/{name}": values.tolist() for name, values in signals.items()},
        }


@dataclass(frozen=True)
class Scored:
    """A scored batch: what this rank has verified, and the outcomes and rewards of the global batch."""

    rollout: VerifiedRollout
    outcomes: Outcomes
    matrix: RewardMatrix


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Any) -> list[int]:
    """Token ids of a prompt, a text or the messages of a chat that the model is to answer."""
    if isinstance(prompt, str):
        return tokenizer(prompt)["input_ids"]
    return tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True, return_dict=True)[
        "input_ids"
    ]


def read_completions(
    tokenizer: PreTrainedTokenizerBase,
    template: AnswerTemplate,
    completion_ids: Sequence[Sequence[int]],
    stop_ids: Collection[int] | None = None,
    known: ReadCompletions | None = None,
) -> tuple[tuple[DecodedCompletion, ...], tuple[ParsedCompletion, ...]]:
    """Decode and parse completions; ``stop_ids`` as in :func:`rl.segments.decode_completion`.

    What ``known`` holds already is not read again, and what is read is added to it.
    """
    known = {} if known is None else known
    alone: dict[int, str] = {}
    for ids in map(tuple, completion_ids):
        if ids not in known:
            decoded = decode_completion(tokenizer, ids, stop_ids, alone)
            known[ids] = decoded, template.parse(decoded.text, truncated=not decoded.finished)
    read = [known[tuple(ids)] for ids in completion_ids]
    return tuple(decoded for decoded, _ in read), tuple(parsed for _, parsed in read)


def verify_rollout(
    tokenizer: PreTrainedTokenizerBase,
    template: AnswerTemplate,
    verifier: Verifier,
    completion_ids: Sequence[Sequence[int]],
    golds: Sequence[str],
    stop_ids: Collection[int] | None = None,
    known: ReadCompletions | None = None,
) -> VerifiedRollout:
    """Decode, parse and verify completions; ``stop_ids`` and ``known`` as in :func:`read_completions`."""
    decoded, parsed = read_completions(tokenizer, template, completion_ids, stop_ids, known)
    verdicts = tuple(verifier.verify(golds=golds, answers=[each.answer for each in parsed]))
    return VerifiedRollout(decoded, parsed, verdicts)


def gather_outcomes(
    rollout: VerifiedRollout,
    group_size: int,
    accelerator: Accelerator,
    signals: Mapping[str, torch.Tensor] | None = None,
) -> Outcomes:
    """Outcomes of the global batch, the same on every rank, in rank order (siblings adjacent).

    ``signals`` are this rank's, each one value a completion, in the same order of names on every rank.
    """
    signals = signals or {}
    facts = torch.tensor(
        [
            (
                float("nan") if verdict.correct is None else verdict.correct,
                float("nan") if parsed.confidence is None else parsed.confidence,
                float(_STATUSES.index(parsed.status)),
                float(len(decoded.ends)),
                float(parsed.abstained),
            )
            for decoded, parsed, verdict in zip(rollout.decoded, rollout.parsed, rollout.verdicts, strict=True)
        ],
        dtype=torch.float64,
    )
    columns = [values.double().cpu().unsqueeze(1) for values in signals.values()]
    gathered = accelerator.gather(torch.cat([facts, *columns], dim=1).to(accelerator.device)).cpu().numpy()
    return Outcomes(
        correct=gathered[:, 0],
        confidence=gathered[:, 1],
        status=tuple(_STATUSES[int(code)] for code in gathered[:, 2]),
        group=np.arange(len(gathered)) // group_size,
        length=gathered[:, 3],
        signals={name: gathered[:, facts.size(1) + index] for index, name in enumerate(signals)},
        abstained=gathered[:, 4] > 0,
    )


class TermName:
    """Gives TRL a reward term's name for its logs; its value comes from the rubric, over the gathered batch."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, **arguments: Any) -> list[float]:
        raise RuntimeError(f"reward term {self.__name__} is scored by the rubric on the gathered batch")
