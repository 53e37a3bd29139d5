"""GRPO whose rewards are a rubric and whose advantages know which tokens earned them.

Kept from TRL's trainer, untouched: sampling (transformers or vLLM), the clipped surrogate in all its loss types,
KL, LoRA, accumulation, distribution, checkpoints. Changed, in two overrides: rewards come from a rubric over the
gathered batch, because a group may be split over ranks; advantages are recomputed per term, without dividing by the
group's standard deviation unless asked, and placed on the term's own segment. Added, in a third: the calibration
terms can be taken in closed form where the confidence is one token of a known set. Dropped: TRL's own aggregation
of rewards (``scale_rewards``, ``multi_objective_aggregation``), which works on a sequence's one number.

Launch: ``candor train candor`` or ``accelerate launch --num_processes 2 -m experiments.train candor``.

Shapes: N completions of the global batch, B of this rank, T completion tokens, K terms, S segments, L levels.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedModel
from trl import GRPOConfig, GRPOTrainer

from rewards.completion import SEGMENTS, ParseStatus
from rewards.outcomes import Outcomes
from rewards.rubric import RewardMatrix, Rubric
from rewards.template import AnswerTemplate
from rewards.verifiers.pool import VerifierPool
from rl.advantages import CREDITS, SCALINGS, centred_rewards, segment_advantages, sequence_advantages
from rl.losses import expected_reward_loss, model_logits
from rl.rollout import JudgedRollout, batch_metrics, gather_outcomes, judge
from rl.segments import segment_masks, tokens_inside


@dataclass
class CalibratedGRPOConfig(GRPOConfig):
    """TRL's ``GRPOConfig`` with the choices that calibration adds."""

    credit: str = field(
        default="segment",
        metadata={"help": "sequence: one advantage a completion, as in GRPO; segment: each term on its own tokens."},
    )
    scaling: str = field(
        default="none",
        metadata={"help": "What an advantage is divided by: none, batch, group; or leave_one_out baseline."},
    )
    confidence_loss_weight: float = field(
        default=0.0,
        metadata={
            "help": "Above 0, the calibration terms leave the policy gradient and are taken in closed form over the "
            "confidence levels, with this factor on their rubric weights. Needs a template with levels."
        },
    )
    scale_rewards: str = field(
        default="none", metadata={"help": "TRL's scaling of the summed reward; replaced by `scaling`."}
    )

    def __post_init__(self) -> None:
        if self.credit not in CREDITS:
            raise ValueError(f"trainer.credit: {self.credit!r} is not one of {', '.join(CREDITS)}")
        if self.scaling not in SCALINGS:
            raise ValueError(f"trainer.scaling: {self.scaling!r} is not one of {', '.join(SCALINGS)}")
        if self.scale_rewards not in ("none", False):
            raise ValueError(f"trainer.scale_rewards: {self.scale_rewards!r} has no effect here, set trainer.scaling")
        if self.confidence_loss_weight < 0:
            raise ValueError(f"trainer.confidence_loss_weight: {self.confidence_loss_weight} is below 0")
        super().__post_init__()


@dataclass(frozen=True)
class _Scored:
    """What ``_calculate_rewards`` learnt of the batch at hand, for the advantages that follow it."""

    rollout: JudgedRollout
    matrix: RewardMatrix


class CalibratedGRPOTrainer(GRPOTrainer):
    """GRPO on a rubric of reward terms with per-segment credit; see the module's docstring.

    The dataset needs the columns ``prompt`` and ``answer`` (the gold). Raises ValueError where the closed-form loss
    is asked for and the template declares no confidence levels, or a level is not one token of the tokenizer.
    """

    _name = "candor GRPO"
    _tag_names: ClassVar[list[str]] = ["trl", "grpo", "candor"]

    def __init__(
        self,
        model: str | PreTrainedModel | PeftModel,
        *,
        rubric: Rubric,
        template: AnswerTemplate,
        verifier: VerifierPool,
        args: CalibratedGRPOConfig,
        **trl_arguments: Any,
    ) -> None:
        self.rubric, self.template, self.verifier = rubric, template, verifier
        self._scored: _Scored | None = None
        self._positions_B: torch.Tensor | None = None
        self._level_probabilities_BL: torch.Tensor | None = None
        if args.scaling == "group" and any(rubric.calibrates):
            warnings.warn(
                "trainer.scaling: group divides by the standard deviation of the group, which cancels the magnitude "
                "that makes a scoring rule proper; confidences drift to 0 and 1 (arXiv 2508.11800).",
                stacklevel=2,
            )
        super().__init__(model, reward_funcs=[_TermName(name) for name in rubric.names], args=args, **trl_arguments)
        self.reward_weights = torch.tensor(rubric.weights, dtype=torch.float32)
        self._credit_KS = torch.tensor(
            [[float(segment in segments) for segment in SEGMENTS] for segments in rubric.segments]
        )
        self._policy_weights_K = self.reward_weights.clone()
        if args.confidence_loss_weight:
            self._prepare_closed_form()

    # -- rewards: parse, verify, gather, score --------------------------------------------------------------------
    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        golds = [row["answer"] for row in inputs]
        stop_ids = (*self.eos_token_ids, self.processing_class.pad_token_id)
        rollout = judge(self.processing_class, self.template, self.verifier, completion_ids_list, golds, stop_ids)
        group_size = self.num_generations if self.model.training else self.num_generations_eval
        outcomes = gather_outcomes(rollout, group_size, self.accelerator)
        matrix = self.rubric.score(outcomes)
        self._scored = _Scored(rollout, matrix)
        self._log_completion_extra("answer", [each.answer for each in rollout.parsed])
        self._log_completion_extra("confidence", [each.confidence for each in rollout.parsed])
        self._log_completion_extra("correct", [each.correct for each in rollout.verdicts])
        self._log_completion_extra("status", [str(each.status) for each in rollout.parsed])
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, value in batch_metrics(outcomes).items():
            metrics[name].append(value)
        return torch.tensor(matrix.values, dtype=torch.float32, device=self.accelerator.device)

    # -- credit: advantages on the tokens that earned them ---------------------------------------------------------
    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        scored, self._scored = self._scored, None
        group_size = self.num_generations if self.model.training else self.num_generations_eval
        device = output["completion_ids"].device
        rewards_NK = torch.tensor(scored.matrix.values, dtype=torch.float32, device=device)
        weights_K = self._policy_weights_K.to(device)
        first = self.accelerator.process_index * len(inputs)
        local = slice(first, first + len(inputs))
        length = output["completion_ids"].size(1)
        if self.args.credit == "sequence":
            advantages_N = sequence_advantages(rewards_NK, weights_K, group_size, self.args.scaling)
            output["advantages"] = advantages_N[local]
        else:
            masks_BST = segment_masks(scored.rollout.parsed, scored.rollout.decoded, length).to(device)
            advantages_NK = centred_rewards(rewards_NK, group_size, self.args.scaling)
            advantages_N = advantages_NK @ weights_K
            output["advantages"] = segment_advantages(
                advantages_NK[local], weights_K, self._credit_KS.to(device), masks_BST
            )
        logged = self._logs["advantages"]  # TRL has put its own there, for the completions table
        for _ in range(min(len(logged), len(advantages_N))):
            logged.pop()
        logged.extend(advantages_N.tolist())
        if self.args.confidence_loss_weight:
            # Completions masked as truncated are not trained on: the model does not see their tokens.
            seen = output["completion_ids"].masked_fill(output["completion_mask"] == 0, -1)
            positions, targets = self._confidence_targets(scored.rollout, seen)
            output["confidence_positions"], output["confidence_targets"] = positions, targets
            # The closed form alone trains the confidence token: neither the policy gradient nor the KL to the policy
            # at the start reaches it, which would hold it to the confidences that the run is there to change.
            columns = torch.arange(length, device=device)
            output["tool_mask"] = (columns != positions.unsqueeze(1)).to(output["completion_mask"].dtype)
        return output

    # -- the calibration terms in closed form ------------------------------------------------------------------------
    def _prepare_closed_form(self) -> None:
        levels = self.template.levels
        if levels is None:
            raise ValueError(
                "trainer.confidence_loss_weight: the closed form needs task.template.levels, a known set of "
                "confidences of one token each"
            )
        ids = level_token_ids(self.processing_class, levels)
        self._level_ids = frozenset(ids)
        values, scheme = np.array(self.template.level_values), self.rubric.calibration_scheme()
        self._right_L = torch.tensor(scheme.right(values), dtype=torch.float32)
        self._wrong_L = torch.tensor(scheme.wrong(values), dtype=torch.float32)
        self._policy_weights_K[torch.tensor(self.rubric.calibrates)] = 0.0
        # A token that is no level leaves the confidence unread: what the terms pay for that.
        nan = np.full(2, np.nan)
        unread = Outcomes(np.array([0.0, 1.0]), nan, (ParseStatus.NOT_A_LEVEL,) * 2, np.zeros(2), np.ones(2))
        paid_NK = self.rubric.score(unread).values * self.rubric.weights
        self._unread = float(paid_NK[:, np.array(self.rubric.calibrates)].sum(axis=1).min())
        policy = self.accelerator.unwrap_model(self.model)
        policy = policy.get_base_model() if isinstance(policy, PeftModel) else policy
        head = policy.get_output_embeddings()
        config = policy.config.get_text_config()

        def read_level_probabilities(module, arguments, output):
            # Runs inside the policy's own forward pass, where ZeRO-3 gathers the head and the hidden state is at hand.
            if self._positions_B is not None:
                rows = torch.arange(len(self._positions_B), device=self._positions_B.device)
                logits = model_logits(head(output.last_hidden_state[rows, self._positions_B]).float(), config)
                self._level_probabilities_BL = torch.softmax(logits / self.temperature, dim=-1)[:, ids]

        policy.base_model.register_forward_hook(read_level_probabilities)

    def _confidence_targets(self, rollout: JudgedRollout, completion_ids: torch.Tensor):
        """Index (B,) of each confidence token in the completion, -1 where none is read or judged; correctness (B,)."""
        positions, targets = [], []
        for row, (decoded, parsed, verdict) in enumerate(
            zip(rollout.decoded, rollout.parsed, rollout.verdicts, strict=True)
        ):
            position = -1
            if parsed.confidence is not None and verdict.correct is not None:
                span = parsed.spans["confidence"]
                tokens = tokens_inside(span.start, span.end, decoded)
                levels = [index for index in tokens if completion_ids[row, index].item() in self._level_ids]
                position = levels[0] if len(levels) == 1 else -1
            positions.append(position)
            targets.append(verdict.correct if position >= 0 else 0.0)
        device = completion_ids.device
        return torch.tensor(positions, device=device), torch.tensor(targets, dtype=torch.float32, device=device)

    def _compute_loss(self, model, inputs):
        if not self.args.confidence_loss_weight:
            return super()._compute_loss(model, inputs)
        positions_B, targets_B = inputs["confidence_positions"], inputs["confidence_targets"]
        # The logits that choose completion token t stand one position before it, after the prompt.
        self._positions_B = inputs["prompt_ids"].size(1) + positions_B.clamp(min=0) - 1
        try:
            loss = super()._compute_loss(model, inputs)
        finally:
            self._positions_B = None
        probabilities_BL, self._level_probabilities_BL = self._level_probabilities_BL, None
        device = probabilities_BL.device
        losses_B = expected_reward_loss(
            probabilities_BL, self._right_L.to(device), self._wrong_L.to(device), self._unread, targets_B
        )
        # Over all completions, read or not: the mean does not depend on how the batch is split.
        calibration_loss = (losses_B * (positions_B >= 0)).mean()
        mode = "train" if self.model.training else "eval"
        self._metrics[mode]["confidence_loss"].append(self.accelerator.gather(calibration_loss.detach()).mean().item())
        accumulation = self.current_gradient_accumulation_steps if mode == "train" else 1.0
        return loss + self.args.confidence_loss_weight * calibration_loss / accumulation


class _TermName:
    """Gives TRL a reward term's name for its logs; its value comes from the rubric, over the gathered batch."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, **arguments: Any) -> list[float]:
        raise RuntimeError(f"reward term {self.__name__} is scored by the rubric on the gathered batch")


def level_token_ids(tokenizer, levels: tuple[str, ...]) -> list[int]:
    """Token id of each confidence level.

    Raises ValueError naming the levels that are not exactly one token, or that share one.
    """
    ids = [tokenizer.encode(level, add_special_tokens=False) for level in levels]
    split = [level for level, tokens in zip(levels, ids, strict=True) if len(tokens) != 1]
    if split:
        raise ValueError(
            f"task.template.levels: {', '.join(split)} are not single tokens of this tokenizer; add them to it in a "
            "supervised warm start (trainer.method: sft with model.add_template_tokens: true) or leave levels out"
        )
    flat = [tokens[0] for tokens in ids]
    if len(set(flat)) != len(flat) or tokenizer.unk_token_id in flat:
        raise ValueError(f"task.template.levels: {', '.join(levels)} are not distinct tokens of this tokenizer")
    return flat
