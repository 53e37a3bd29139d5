"""GRPO whose rewards are a rubric and whose advantages know which tokens earned them.

Kept from TRL's trainer, untouched: sampling (transformers or vLLM), the clipped surrogate in all its loss types,
LoRA, accumulation, distribution, checkpoints. Changed, in two overrides: rewards come from a rubric over the gathered
batch, because a group may be split over ranks; advantages are recomputed per term, without dividing by the group's
standard deviation unless asked, and placed on the term's own segment. Added, in the loss: the calibration terms can be
taken in closed form where the confidence is one token of a known set, and the KL can leave the confidence's tokens out
(``kl_mask``). Dropped: TRL's own aggregation of rewards (``scale_rewards``, ``multi_objective_aggregation``), which
works on a sequence's one number.

Launch: ``candor train candor`` or ``accelerate launch --num_processes 2 -m experiments train candor``.

Shapes: N completions of the global batch, B of this rank, T completion tokens, K terms, S segments, C calibration
terms.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from peft import PeftModel
from transformers import PreTrainedModel
from trl import GRPOTrainer

from rewards.completion import SEGMENTS
from rewards.outcomes import Outcomes
from rewards.rubric import RewardMatrix, Rubric
from rewards.template import AnswerTemplate
from rewards.verifiers.verifier import Verifier
from rl.advantages import (
    batch_scale,
    segment_advantages,
    sequence_advantages,
    term_advantages,
)
from rl.closed_form import ConfidenceLoss
from rl.difficulty import ChosenGroups
from rl.grpo_config import CalibratedGRPOConfig
from rl.guard import GuardedUpdates
from rl.metrics import StepMetrics, advantage_metrics, batch_metrics
from rl.rollout import VerifiedRollout, gather_outcomes, verify_rollout
from rl.saved_batches import ResumableRollouts
from rl.segments import field_mask, segment_masks
from rl.signals import SignalReader


@dataclass(frozen=True)
class Scored:
    """What ``_calculate_rewards`` learnt of the batch at hand, for the advantages that follow it."""

    rollout: VerifiedRollout
    outcomes: Outcomes
    matrix: RewardMatrix


class CalibratedGRPOTrainer(StepMetrics, GuardedUpdates, ResumableRollouts, ChosenGroups, GRPOTrainer):
    """GRPO on a rubric of reward terms with per-segment credit; see the module's docstring.

    The dataset needs the columns ``prompt`` and ``answer`` (the gold); where a policy would not write the gold as it
    stands, ``reference`` says how. Raises ValueError where the closed-form loss is asked for and the template declares
    no confidence levels, or a level is not one token of the tokenizer; and for a rubric that reads the policy's own
    statistics where no pass over the completions shows them.
    """

    _name = "candor GRPO"
    _tag_names: ClassVar[list[str]] = ["trl", "grpo", "candor"]

    def __init__(
        self,
        model: str | PreTrainedModel | PeftModel,
        *,
        rubric: Rubric,
        template: AnswerTemplate,
        verifier: Verifier,
        args: CalibratedGRPOConfig,
        **trl_arguments: Any,
    ) -> None:
        self.rubric, self.template, self.verifier = rubric, template, verifier
        self._scored: Scored | None = None
        self._free_of_kl: dict[str, Any] | None = None
        by_group = [(each.scaling or args.scaling) in ("group", "gdpo") for each in rubric.schedules]
        if any(group and calibrates for group, calibrates in zip(by_group, rubric.calibrates, strict=True)):
            warnings.warn(
                "trainer.scaling: group and gdpo divide by the standard deviation of the group, which cancels the "
                "magnitude that makes a scoring rule proper; confidences drift to 0 and 1 (arXiv 2508.11800).",
                stacklevel=2,
            )
        super().__init__(model, reward_funcs=[_TermName(name) for name in rubric.names], args=args, **trl_arguments)
        self._credit_KS = torch.tensor(
            [[float(segment in segments) for segment in SEGMENTS] for segments in rubric.segments]
        )
        inside = "group" if args.scaling == "gdpo" else None
        self._own_scalings_K = tuple(each.scaling or inside for each in rubric.schedules)
        policy = self.accelerator.unwrap_model(self.model)
        policy = policy.get_base_model() if isinstance(policy, PeftModel) else policy
        self._reader = SignalReader(
            rubric.signals,
            policy,
            self.processing_class,
            generates=not self.use_vllm,
            multiple=self.pad_to_multiple_of,
            batch_size=args.per_device_train_batch_size,
        )
        blind = ""
        if self.use_transformers_continuous_batching:
            blind = "use_transformers_continuous_batching: true"
        elif self.use_vllm and not self.vllm_importance_sampling_correction:
            blind = "vllm_importance_sampling_correction: false"
        if self._reader.watches and blind:
            raise ValueError(
                f"trainer.{blind} shows no token statistics, which the rubric needs for {', '.join(rubric.signals)}"
            )
        self._confidence_loss: ConfidenceLoss | None = None
        if args.confidence_loss_weight:
            self._confidence_loss = ConfidenceLoss(policy, self.processing_class, template, rubric, self.temperature)

    def _weights(self) -> torch.Tensor:
        """Weights (K,) of the rubric at this step."""
        return torch.tensor(self.rubric.weights_at(self.state.global_step), dtype=torch.float32)

    def _entropy_coef(self) -> float:
        """The bonus on the confidence levels' entropy at this step, between its start and its end."""
        start, end = self.args.confidence_entropy_coef, self.args.confidence_entropy_end
        done = self.state.global_step / max(self.state.max_steps, 1)
        return start if end is None else start + (end - start) * done

    # -- rewards: parse, verify, gather, score --------------------------------------------------------------------
    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        with self.stopwatch.running("score"):
            return self._score(inputs, prompts, completion_ids_list)

    def _score(self, inputs, prompts, completion_ids_list) -> torch.Tensor:
        golds = [row["answer"] for row in inputs]
        stop_ids = (*self.eos_token_ids, self.processing_class.pad_token_id)
        rollout = verify_rollout(
            self.processing_class, self.template, self.verifier, completion_ids_list, golds, stop_ids
        )
        prompt_ids = self._tokenize_prompts(prompts)[0] if self._reader.asks else []
        references = [row.get("reference", row["answer"]) for row in inputs]
        signals = self._reader.read(rollout, prompt_ids, completion_ids_list, golds, references)
        group_size = self.num_generations if self.model.training else self.num_generations_eval
        outcomes = gather_outcomes(rollout, group_size, self.accelerator, signals)
        matrix = self.rubric.score(outcomes)
        self._scored = Scored(rollout, outcomes, matrix)
        self.reward_weights = self._weights()  # for TRL's sum, which is only logged
        self._log_completion_extra("answer", [each.answer for each in rollout.parsed])
        self._log_completion_extra("confidence", [each.confidence for each in rollout.parsed])
        self._log_completion_extra("correct", [each.correct for each in rollout.verdicts])
        self._log_completion_extra("verdict", [each.reason for each in rollout.verdicts])
        self._log_completion_extra("status", [str(each.status) for each in rollout.parsed])
        for name, values in signals.items():
            self._log_completion_extra(f"signals/{name}", values.tolist())  # a term may have the signal's name
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, value in batch_metrics(outcomes).items():
            metrics[name].append(value)
        return torch.tensor(matrix.values, dtype=torch.float32, device=self.accelerator.device)

    # -- credit: advantages on the tokens that earned them ---------------------------------------------------------
    def _generate_and_score_completions(self, inputs):
        with self._reader.watching():
            output = super()._generate_and_score_completions(inputs)
        scored, self._scored = self._scored, None
        assert scored is not None
        first = self.accelerator.process_index * len(inputs)
        local = slice(first, first + len(inputs))
        ids_BT = output["completion_ids"]
        weights_K = self._weights().to(ids_BT.device)
        mask_BT = field_mask(scored.rollout.parsed, scored.rollout.decoded, "confidence", ids_BT.size(1))
        output["confidence_mask"] = mask_BT.to(ids_BT.device)
        if self._confidence_loss is not None:
            weights_K[self._confidence_loss.term_indices] = 0.0
            self._aim_confidences(output, scored, local)
        confidence_alone, all_held = self.args.trained_tokens == "confidence", self.args.kl_mask == "all"
        if confidence_alone and all_held:
            self._leave_out_all_but_the_confidence(output, scored)
        advantages_N = self._credit(output, scored, weights_K, local)
        if confidence_alone and not all_held:  # the other tokens earn nothing and are held by the KL
            segment_BT = self._segment_masks(output, scored)[:, SEGMENTS.index("confidence")]
            output["advantages"] = output["advantages"].view(len(segment_BT), -1) * segment_BT
        if self.args.group_filter == "mixed":
            advantages_N = self._keep_mixed(output, advantages_N, scored.outcomes, local)
        logged = self._logs["advantages"]  # TRL has put its own there, for the completions table
        for _ in range(min(len(logged), len(advantages_N))):
            logged.pop()
        logged.extend(advantages_N.tolist())
        self._log_advantages(scored, advantages_N)
        return output

    def _credit(self, output: dict[str, Any], scored: Scored, weights_K: torch.Tensor, local: slice) -> torch.Tensor:
        """Put this rank's advantages, (B,) or (B, T), into ``output``; return one number a completion (N,) to log."""
        rewards_NK = torch.tensor(scored.matrix.values, dtype=torch.float32, device=weights_K.device)
        group_size = self.num_generations if self.model.training else self.num_generations_eval
        scaling, own_K = self.args.scaling, self._own_scalings_K
        if self.args.credit == "sequence":
            advantages_N = sequence_advantages(rewards_NK, weights_K, group_size, scaling, own_K)
            output["advantages"] = advantages_N[local]
        else:
            masks_BST = self._segment_masks(output, scored)
            advantages_NK = term_advantages(rewards_NK, group_size, [own or scaling for own in own_K])
            advantages_N = advantages_NK @ weights_K
            output["advantages"] = segment_advantages(
                advantages_NK[local], weights_K, self._credit_KS.to(weights_K.device), masks_BST
            )
        if scaling == "gdpo":
            output["advantages"] = output["advantages"] / batch_scale(advantages_N)
            advantages_N = advantages_N / batch_scale(advantages_N)
        return advantages_N

    def _log_advantages(self, scored: Scored, advantages_N: torch.Tensor) -> None:
        """Log where the gradient comes from, by the groups that are the baseline."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, value in advantage_metrics(scored.matrix, scored.outcomes, advantages_N.cpu().numpy()).items():
            metrics[name].append(value)

    def _segment_masks(self, output: dict[str, Any], scored: Scored) -> torch.Tensor:
        """Masks (B, S, T) of this rank's completions."""
        ids_BT = output["completion_ids"]
        return segment_masks(scored.rollout.parsed, scored.rollout.decoded, ids_BT.size(1)).to(ids_BT.device)

    def _aim_confidences(self, output: dict[str, Any], scored: Scored, local: slice) -> None:
        """Put where the confidence tokens are, and what they should be, into ``output`` for the closed-form loss."""
        closed_form, ids_BT = self._confidence_loss, output["completion_ids"]
        assert closed_form is not None
        # Completions masked as truncated are not trained on: the model does not see their tokens.
        seen_BT = ids_BT.masked_fill(output["completion_mask"] == 0, -1)
        targets_BC = closed_form.targets(scored.outcomes)[local].to(ids_BT.device)
        positions_B = closed_form.positions(scored.rollout, seen_BT, targets_BC)
        output["confidence_positions"], output["confidence_targets"] = positions_B, targets_BC
        # The closed form alone trains the confidence token: neither the policy gradient nor the KL to the policy at the
        # start reaches it, which would hold it to the confidences that the run is there to change.
        columns_T = torch.arange(ids_BT.size(1), device=ids_BT.device)
        output["tool_mask"] = (columns_T != positions_B.unsqueeze(1)).to(output["completion_mask"].dtype)

    def _leave_out_all_but_the_confidence(self, output: dict[str, Any], scored: Scored) -> None:
        """Mask what is no confidence out of the loss and the KL, and out of the number of tokens they are over."""
        mask_BT = self._segment_masks(output, scored)[:, SEGMENTS.index("confidence")]
        mask_BT = mask_BT.to(output["completion_mask"].dtype) * output.get("tool_mask", 1)
        output["tool_mask"] = mask_BT
        output["num_items_in_batch"] = self.accelerator.gather((mask_BT * output["completion_mask"]).sum()).sum()

    # -- update: TRL's loss, the tokens that its KL holds, and the calibration terms in closed form --------------------
    def _get_per_token_logps_and_entropies(self, *arguments, **options):
        read = super()._get_per_token_logps_and_entropies(*arguments, **options)
        inputs, self._free_of_kl = self._free_of_kl, None
        if inputs is not None:  # the KL to itself is 0, and so is its gradient
            held_BT = inputs["ref_per_token_logps"]
            inputs["ref_per_token_logps"] = torch.where(inputs["confidence_mask"], read[0].detach(), held_BT)
        return read

    def _compute_loss(self, model, inputs):
        if self.args.kl_mask == "no_confidence":
            self._free_of_kl = inputs = dict(inputs)
        closed_form = self._confidence_loss
        if closed_form is None:
            return super()._compute_loss(model, inputs)
        positions_B = inputs["confidence_positions"]
        with closed_form.reading(positions_B, inputs["prompt_ids"].size(1)):
            loss = super()._compute_loss(model, inputs)
        weights_C = self._weights()[closed_form.term_indices].to(positions_B.device)
        entropy_coef = self._entropy_coef()
        calibration_loss = closed_form(positions_B, inputs["confidence_targets"], weights_C, entropy_coef)
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
