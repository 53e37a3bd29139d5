"""RLSF (arXiv 2507.21931): a policy's own answers, ranked by how sure it was of each, are its preferences; no labels.

Kept: several answers to a question, by CoT-decoding or sampled; the confidence of the answer's tokens (the margin of
the two likeliest, unless another estimator is named), 0 where there is no answer; a pair for each two answers of which
one is surer, with the margin exp(c_i - c_j) of the published code in the reward model's loss; DPO, or a reward model
and then GRPO or PPO against it with a KL (recipe ``rlsf_grpo``). Changed: pairs are by default of different answers
alone, so that surer wording of one answer is nothing to learn; at most ``pairs_per_question``; tokens are those that
the policy wrote. Dropped: the paper's search for the answer's span in a text continued by " So the answer is": the
template says where the answer is.

Nothing ties the feedback to the truth: it sharpens. What it does to calibration is to be measured.

Overrides of TRL's ``DPOTrainer``, beside those of :mod:`rl.trainer`: ``_prepare_dataset``.

Launch: ``candor train rlsf_dpo``, or ``candor train rlsf_reward`` and then ``candor train rlsf_grpo``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from trl import DPOTrainer, RewardTrainer

from rl.sft import SetEpochCallback
from rl.trainer import GuardedTrainer


@dataclass(frozen=True, slots=True)
class Pair:
    """Places of two answers to one question, the preferred one first, and exp of how much surer it is."""

    chosen: int
    rejected: int
    margin: float


def preference_pairs(
    confidences: Sequence[float],
    answers: Sequence[str | None],
    correct: Sequence[float | None],
    *,
    among: str = "different",
    least_confidence: float = 0.0,
    least_lead: float = 0.0,
    most: int | None = None,
) -> list[Pair]:
    """Pairs of the answers to one question: each that is surer than another, by more than ``least_lead``.

    ``confidences`` are in [0, 1]; ``answers`` are the same text where they mean the same, None where there is none,
    which is preferred to nothing. ``among`` "different" compares different answers, "equally_right" those of one
    verdict, "all" all. The preferred one has at least ``least_confidence``. Of more than ``most`` pairs those with the
    largest lead are given, the first of equal ones; in that order.

    >>> preference_pairs([0.9, 0.5, 0.4], ["4", "4", "5"], [1.0, 1.0, 0.0], most=1)
    [Pair(chosen=0, rejected=2, margin=1.6487212707001282)]
    """
    found = []
    for one, other in itertools.permutations(range(len(confidences)), 2):
        lead = confidences[one] - confidences[other]
        if answers[one] is None or not lead > least_lead or confidences[one] < least_confidence:
            continue
        if among == "different" and answers[one] == answers[other]:
            continue
        if among == "equally_right" and (correct[one] is None or correct[one] != correct[other]):
            continue
        found.append((-lead, one, other))
    found.sort()
    return [Pair(one, other, math.exp(-negative)) for negative, one, other in found[:most]]


class SelfFeedbackDPOTrainer(GuardedTrainer, DPOTrainer):
    """TRL's ``DPOTrainer`` on rows of ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``, as the policy wrote them."""

    _name = "candor RLSF by DPO"
    counters: ClassVar[tuple[str, ...]] = ("_total_train_tokens",)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.add_callback(SetEpochCallback())

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
        return dataset


class SelfFeedbackRewardTrainer(GuardedTrainer, RewardTrainer):
    """TRL's ``RewardTrainer``: Bradley and Terry's loss with a margin, on ``chosen_ids``, ``rejected_ids``, ``margin``.

    What it saves is no policy, but a model with one number for a text.
    """

    _name = "candor RLSF's reward model"
    counters: ClassVar[tuple[str, ...]] = ("_total_train_tokens",)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.add_callback(SetEpochCallback())
