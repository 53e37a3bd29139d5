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

from estimators.metrics.calibration import brier, ece
from estimators.metrics.selective import auroc
from rewards.completion import ParsedCompletion, ParseStatus
from rewards.outcomes import Outcomes
from rewards.rubric import RewardMatrix
from rewards.template import AnswerTemplate
from rewards.verifiers.verifier import Verdict, Verifier
from rl.segments import DecodedCompletion, decode_completion

_STATUSES = tuple(ParseStatus)
_LOW = 0.5
"""A confidence below it says that the answer is rather wrong than right."""
_LEVEL = 1e-6
"""Rewards of float32 closer than this to their group's mean are level with it."""


@dataclass(frozen=True)
class VerifiedRollout:
    """One rank's completions, decoded, parsed and verified; each field has one entry a completion."""

    decoded: tuple[DecodedCompletion, ...]
    parsed: tuple[ParsedCompletion, ...]
    verdicts: tuple[Verdict, ...]


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Any) -> list[int]:
    """Token ids of a prompt, a text or the messages of a chat that the model is to answer."""
    if isinstance(prompt, str):
        return tokenizer(prompt)["input_ids"]
    return tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True, return_dict=True)[
        "input_ids"
    ]


def verify_rollout(
    tokenizer: PreTrainedTokenizerBase,
    template: AnswerTemplate,
    verifier: Verifier,
    completion_ids: Sequence[Sequence[int]],
    golds: Sequence[str],
    stop_ids: Collection[int] | None = None,
) -> VerifiedRollout:
    """Decode, parse and verify completions; ``stop_ids`` as in :func:`rl.segments.decode_completion`."""
    alone: dict[int, str] = {}
    decoded = tuple(decode_completion(tokenizer, ids, stop_ids, alone) for ids in completion_ids)
    parsed = tuple(template.parse(each.text, truncated=not each.finished) for each in decoded)
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


def batch_metrics(outcomes: Outcomes) -> dict[str, float]:
    """Calibration of one global batch; an unparsed confidence counts as 0, an unjudged completion not at all.

    NaN (which TRL leaves out of its averages) where the batch does not define a metric.
    """
    judged = ~np.isnan(outcomes.correct)
    stated = outcomes.confidence[~np.isnan(outcomes.confidence)]
    low = judged & (outcomes.confidence < _LOW)
    truncated = np.array([status is ParseStatus.TRUNCATED for status in outcomes.status])
    no_answer = np.array([status is ParseStatus.MISSING_ANSWER for status in outcomes.status]) | outcomes.abstained
    right, wrong = uniform_groups(outcomes)
    groups = max(len(np.unique(outcomes.group)), 1)
    values = {
        "parse/ok": float(np.mean([status is ParseStatus.OK for status in outcomes.status])),
        "parse/unparsed_confidence": float(np.isnan(outcomes.confidence).mean()),
        "parse/truncated": float(truncated.mean()),
        "parse/truncated_unparsed": float((truncated & np.isnan(outcomes.confidence)).mean()),
        "parse/non_answer": float(no_answer.mean()),
        "verify/unjudged": float(1 - judged.mean()),
        "groups/all_right": len(np.unique(outcomes.group[right])) / groups,
        "groups/all_wrong": len(np.unique(outcomes.group[wrong])) / groups,
        "calibration/mean_confidence": float(stated.mean()) if stated.size else float("nan"),
        "calibration/confidence_std": float(stated.std()) if stated.size else float("nan"),
        "calibration/distinct_confidences": float(len(np.unique(stated))),
        "calibration/low_confidence_share": float(low.sum() / judged.sum()) if judged.any() else float("nan"),
        "calibration/low_confidence_accuracy": float(outcomes.correct[low].mean()) if low.any() else float("nan"),
    }
    if judged.any():
        measured = calibration_metrics(outcomes.confidence[judged], outcomes.correct[judged])
        values |= {f"calibration/{name}": value for name, value in measured.items()}
    return values


def calibration_metrics(confidence: np.ndarray, correct: np.ndarray) -> dict[str, float]:
    """Accuracy, Brier score, ECE and AUROC of judged answers, ``confidence`` and ``correct`` (N,), N >= 1.

    A NaN confidence counts as 0. The AUROC is NaN where all are right, all are wrong or a verdict is graded.
    """
    confidence = np.nan_to_num(confidence, nan=0.0)
    ranking = auroc(confidence, np.round(correct)) if np.isin(correct, (0, 1)).all() else None
    return {
        "accuracy": float(correct.mean()),
        "brier": brier(confidence, correct),
        "ece": ece(confidence, correct),
        "auroc": float("nan") if ranking is None else ranking,
    }


def uniform_groups(outcomes: Outcomes) -> tuple[np.ndarray, np.ndarray]:
    """Masks (N,), (N,) of the completions in groups that were all judged right, and all judged wrong."""
    right, wrong = outcomes.correct == 1, outcomes.correct == 0
    _, index = np.unique(outcomes.group, return_inverse=True)
    sizes = np.bincount(index)
    return (
        (np.bincount(index, weights=right) == sizes)[index],
        (np.bincount(index, weights=wrong) == sizes)[index],
    )


def advantage_metrics(matrix: RewardMatrix, outcomes: Outcomes, advantages: np.ndarray) -> dict[str, float]:
    """Where the gradient of a global batch comes from.

    ``advantages/TERM/zero_share``, the share of completions that a term gives no advantage, because all judged
    siblings earned the same or it could not be judged; ``advantages/uniform_group_ratio``, the mean size of
    ``advantages`` (N,) in groups that were all right or all wrong, by that over the batch, NaN without such a group.
    """
    _, index = np.unique(outcomes.group, return_inverse=True)
    values = {}
    for column, name in enumerate(matrix.names):
        reward = matrix.values[:, column]
        judged = ~np.isnan(reward)
        sums = np.bincount(index, weights=np.where(judged, reward, 0.0))
        means = sums / np.maximum(np.bincount(index, weights=judged), 1)
        level = np.abs(np.where(judged, reward, means[index]) - means[index]) < _LEVEL
        values[f"advantages/{name}/zero_share"] = float(level.mean())
    uniform, sizes = np.logical_or(*uniform_groups(outcomes)), np.abs(advantages)
    push = float("nan")
    if uniform.any():
        push = float(sizes[uniform].mean() / sizes.mean()) if sizes.any() else 0.0
    return values | {"advantages/uniform_group_ratio": push}
