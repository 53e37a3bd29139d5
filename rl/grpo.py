"""GRPO whose rewards are a rubric and whose advantages know which tokens earned them.

Kept from TRL's trainer, untouched: sampling (transformers or vLLM), the clipped surrogate in all its loss types,
LoRA, accumulation, distribution, checkpoints. Changed: rewards come from a rubric over the gathered batch, because a
group may be split over ranks; advantages are recomputed per term, without dividing by the group's standard deviation
unless asked, and placed on the term's own segment. Added, in the loss: the calibration terms can be taken in closed
form where the confidence is one token of a known set, with a completion's weight in the policy gradient (what states no
confidence that it could read pays by the latter), and the KL can leave tokens out (``kl_mask``). Looked at, every so
many steps: the gradient norm of each part.
Dropped: TRL's own aggregation of rewards (``scale_rewards``, ``multi_objective_aggregation``), which works on a
sequence's one number.

Overrides of TRL's ``GRPOTrainer``, beside those of :mod:`rl.trainer`: ``_get_train_sampler``, ``training_step``,
``_generate_and_score_completions``, ``_calculate_rewards``, ``_get_per_token_logps_and_entropies``, ``_compute_loss``.

It has more than 300 lines because it is one class, to be read from the prompts to the loss.

Launch: ``candor train candor`` or ``accelerate launch --num_processes 2 -m experiments train candor``.

Shapes: N completions of the global batch, B of this rank, T completion tokens, K terms, S segments, C calibration
terms.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate.utils import send_to_device
from peft import PeftModel
from transformers import PreTrainedModel
from trl import GRPOTrainer

from estimators.estimator import Estimator
from rewards.completion import SEGMENTS, STATED
from rewards.pessimism import mixed_groups
from rewards.rubric import Rubric
from rewards.template import AnswerTemplate
from rewards.verifiers.verifier import Verifier
from rl.closed_form import ConfidenceLoss, closed_forms
from rl.config import CalibratedGRPOConfig
from rl.credit import Credit, credited_advantages, divides_a_rule, parts_are_apart, unread_credit
from rl.difficulty import DifficultySampler, EpochShuffleSampler
from rl.gradient_norms import part_norms, unmeasurable
from rl.loss_pass import LossPass
from rl.losses import token_weights
from rl.metrics import Stopwatch, advantage_metrics, batch_metrics
from rl.reward_model import RewardModel
from rl.rollout import Scored, TermName, gather_outcomes, verify_rollout
from rl.saved_batches import has_batches, read_batches, write_batches
from rl.segments import field_mask, segment_masks
from rl.signals import SignalReader
from rl.trainer import GuardedTrainer

_logger = logging.getLogger(__name__)


class CalibratedGRPOTrainer(GuardedTrainer, GRPOTrainer):
    """GRPO on a rubric of reward terms with per-segment credit; see the module's docstring.

    The dataset needs the columns ``prompt`` and ``answer`` (the gold); where a policy would not write the gold as it
    stands, ``reference`` says how. Raises ValueError where the closed-form loss is asked for and the template declares
    no confidence levels, or a level is not one token of the tokenizer; and for a rubric that reads the policy's own
    statistics where no pass over the completions shows them.
    """

    _name = "candor GRPO"
    _tag_names: ClassVar[list[str]] = ["trl", "grpo", "candor"]
    counters: ClassVar[tuple[str, ...]] = ("_step",)

    def __init__(
        self,
        model: str | PreTrainedModel | PeftModel,
        *,
        rubric: Rubric,
        template: AnswerTemplate,
        verifier: Verifier,
        args: CalibratedGRPOConfig,
        estimators: Mapping[str, Estimator] | None = None,
        reward_model: RewardModel | None = None,
        **trl_arguments: Any,
    ) -> None:
        self.rubric, self.template, self.verifier = rubric, template, verifier
        self.stopwatch = Stopwatch()
        self._scored: Scored | None = None
        self._loss_pass: LossPass | None = None
        if divides_a_rule(rubric, args.scaling):
            warnings.warn(
                "trainer.scaling: group and gdpo divide by the standard deviation of the group, which cancels the "
                "magnitude that makes a scoring rule proper; confidences drift to 0 and 1 (arXiv 2508.11800).",
                stacklevel=2,
            )
        super().__init__(model, reward_funcs=[TermName(name) for name in rubric.names], args=args, **trl_arguments)
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
            template,
            generates=not self.use_vllm,
            options=estimators,
            batch_size=args.per_device_train_batch_size,
            temperature=self.temperature,
            reward_model=reward_model,
        )
        self._reader.check_visible(args)
        self._closed_forms: list[ConfidenceLoss] = []
        if args.confidence_loss_weight:
            self._closed_forms = closed_forms(policy, self.processing_class, template, rubric, self.temperature)
        self._norm_steps = args.gradient_norm_steps
        reason = unmeasurable(self, apart=self._parts_are_apart()) if self._norm_steps else None
        if reason:
            self._norm_steps = 0
            _logger.warning("trainer.gradient_norm_steps: nothing is measured, %s", reason)
        self._difficulty: DifficultySampler | None = None
        if args.difficulty_mix is not None:
            self._difficulty = DifficultySampler(len(self.train_dataset), args.difficulty_mix, args.seed)

    @property
    def _to_log(self) -> dict[str, list[float]]:
        """Where this step's metrics go, name -> values, of training or of evaluation."""
        return self._metrics["train" if self.model.training else "eval"]

    @property
    def _stop_ids(self) -> tuple[int, ...]:
        """Tokens that end a completion."""
        return (*self.eos_token_ids, self.processing_class.pad_token_id)

    @property
    def _group_size(self) -> int:
        return self.num_generations if self.model.training else self.num_generations_eval

    def _weights(self) -> torch.Tensor:
        """Weights (K,) of the rubric at this step."""
        return torch.tensor(self.rubric.weights_at(self.state.global_step), dtype=torch.float32)

    def _entropy_coef(self) -> float:
        """The bonus on the confidence levels' entropy at this step, between its start and its end."""
        start, end = self.args.confidence_entropy_coef, self.args.confidence_entropy_end
        done = self.state.global_step / max(self.state.max_steps, 1)
        return start if end is None else start + (end - start) * done

    def _parts_are_apart(self) -> bool:
        return parts_are_apart(self.args.credit, self.args.scaling)

    # -- prompts: in an order that a resume finds again, and by difficulty where asked ------------------------------
    def _get_train_sampler(self, dataset=None):
        return EpochShuffleSampler(super()._get_train_sampler(dataset), lambda: int(self.state.epoch or 0))

    def _draw(self, size: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Prompts (G,) of the global batch by their difficulty, and the rows that this rank asks, ``size`` of them."""
        assert self._difficulty is not None
        drawn_G = self._difficulty.draw(size * self.accelerator.num_processes // self.num_generations)
        for name, share in self._difficulty.shares(drawn_G).items():
            self._to_log[f"difficulty/{name}"].append(share)
        first = self.accelerator.process_index * size
        rows_B = drawn_G.repeat(self.num_generations)[first : first + size]
        return drawn_G, [self.train_dataset[int(row)] for row in rows_B]

    # -- rewards: parse, verify, gather, score -------------------------------------------------------------------------
    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        with self.stopwatch.running("score"):
            return self._score(inputs, prompts, completion_ids_list)

    def _score(self, inputs, prompts, completion_ids_list) -> torch.Tensor:
        golds = [row["answer"] for row in inputs]
        known = self._reader.take_read()
        rollout = verify_rollout(
            self.processing_class, self.template, self.verifier, completion_ids_list, golds, self._stop_ids, known
        )
        prompt_ids = self._tokenize_prompts(prompts)[0] if self.rubric.signals else []
        references = [row.get("reference", row["answer"]) for row in inputs]
        signals = self._reader.read(rollout, prompt_ids, completion_ids_list, golds, references)
        outcomes = gather_outcomes(rollout, self._group_size, self.accelerator, signals)
        matrix = self.rubric.score(outcomes)
        self._scored = Scored(rollout, outcomes, matrix)
        self.reward_weights = self._weights()  # for TRL's sum, which is only logged
        for name, values in rollout.columns(signals).items():
            self._log_completion_extra(name, values)
        for name, value in batch_metrics(outcomes).items():
            self._to_log[name].append(value)
        return torch.tensor(matrix.values, dtype=torch.float32, device=self.accelerator.device)

    # -- credit: advantages on the tokens that earned them ---------------------------------------------------------
    def _generate_and_score_completions(self, inputs):
        drawn_G = None
        if self._difficulty is not None and self.model.training:
            drawn_G, inputs = self._draw(len(inputs))
        with self._reader.watching(), self.stopwatch.running("generate"):
            output = super()._generate_and_score_completions(inputs)
        scored, self._scored = self._scored, None
        assert scored is not None
        if drawn_G is not None:
            self._difficulty.record(drawn_G, scored.outcomes.correct)
        first = self.accelerator.process_index * len(inputs)
        self._assign_credit(output, scored, slice(first, first + len(inputs)))
        return output

    def _assign_credit(self, output: dict[str, Any], scored: Scored, local: slice) -> None:
        """Replace TRL's advantages in ``output`` by ours (B, T), and add the masks and targets that the loss needs.

        ``part_advantages`` (B, 2, T) are those of correctness and of calibration alone, where they are measured.
        """
        ids_BT = output["completion_ids"]
        weights_K = self._weights().to(ids_BT.device)
        for name in (*STATED, "answer"):
            mask_BT = field_mask(scored.rollout.parsed, scored.rollout.decoded, name, ids_BT.size(1))
            output[f"{name}_mask"] = mask_BT.to(ids_BT.device)
        if self.args.kl_mask != "all":
            answer = self.args.kl_mask == "answer"
            stated = output["confidence_mask"] | output["prior_confidence_mask"]
            output["held"] = output["answer_mask"] if answer else ~stated
        for each in self._closed_forms:
            weights_K[each.term_indices] = 0.0
            # Completions masked as truncated are not trained on: the model does not see their tokens.
            seen_BT = ids_BT.masked_fill(output["completion_mask"] == 0, -1)
            targets_BC = each.targets(scored.outcomes)[local].to(ids_BT.device)
            output[f"{each.field}_targets"] = targets_BC
            output[f"{each.field}_positions"] = each.positions(scored.rollout, seen_BT, targets_BC)
        trained_mask_BT = self._trained_mask(output, scored)
        output["tool_mask"] = trained_mask_BT  # TRL's name for the tokens that its loss takes
        trained = (trained_mask_BT * output["completion_mask"]).sum()  # what some loss types are a mean over
        output["num_items_in_batch"] = self.accelerator.gather(trained).sum()
        advantages_BPT, advantages_N = self._credit(output, scored, weights_K, local)
        for each in self._closed_forms:
            unread_B = output[f"{each.field}_positions"] < 0
            price_K = self._weights().to(ids_BT.device) * self.args.confidence_loss_weight
            facts = self._facts(output, scored)
            advantages_BPT[:, 1] += unread_credit(*facts, each.term_indices, price_K, unread_B, local)
        if self.args.trained_tokens == "confidence" and self.args.kl_mask != "all":
            # The other tokens earn nothing and are held by the KL.
            advantages_BPT *= self._stated_mask(output, scored).unsqueeze(1)
        if self.args.group_filter == "mixed":
            kept_N = torch.tensor(mixed_groups(scored.outcomes.correct, scored.outcomes.group)).to(advantages_N)
            self._to_log["filter/kept"].append(kept_N.mean().item())
            advantages_BPT, advantages_N = advantages_BPT * kept_N[local].view(-1, 1, 1), advantages_N * kept_N
        output["advantages"] = advantages_BPT.sum(dim=1)
        if self._norm_steps:
            output["part_advantages"] = advantages_BPT[:, :2]
        logged = self._logs["advantages"]  # TRL has put its own there, for the completions table
        for _ in range(min(len(logged), len(advantages_N))):
            logged.pop()
        logged.extend(advantages_N.tolist())
        self._log_advantages(scored, advantages_N)

    def _trained_mask(self, output: dict[str, Any], scored: Scored) -> torch.Tensor:
        """Mask (B, T), 1 for the tokens that the policy gradient and the KL are on.

        The closed form alone trains the confidence token: neither the policy gradient nor the KL to the policy at the
        start reaches it, which would hold it to the confidences that the run is there to change.
        """
        trained_mask_BT = torch.ones_like(output["completion_mask"])
        for each in self._closed_forms:
            columns_T = torch.arange(trained_mask_BT.size(1), device=trained_mask_BT.device)
            trained_mask_BT *= columns_T != output[f"{each.field}_positions"].unsqueeze(1)
        if self.args.trained_tokens == "confidence" and self.args.kl_mask == "all":
            trained_mask_BT *= self._stated_mask(output, scored).to(trained_mask_BT.dtype)
        return trained_mask_BT

    def _stated_mask(self, output: dict[str, Any], scored: Scored) -> torch.Tensor:
        """Mask (B, T) of the segments in which this rank's completions state a confidence."""
        return self._segment_masks(output, scored)[:, [SEGMENTS.index(name) for name in STATED]].sum(dim=1)

    def _segment_masks(self, output: dict[str, Any], scored: Scored) -> torch.Tensor:
        """Masks (B, S, T) of this rank's completions."""
        ids_BT = output["completion_ids"]
        return segment_masks(scored.rollout.parsed, scored.rollout.decoded, ids_BT.size(1)).to(ids_BT.device)

    def _credit(
        self, output: dict[str, Any], scored: Scored, weights_K: torch.Tensor, local: slice
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Advantages (B, P, T) of this rank in their parts, and one number a completion (N,) of the global batch."""
        calibrates_K = torch.tensor([field is not None for field in self.rubric.pays_for], device=weights_K.device)
        return credited_advantages(*self._facts(output, scored), weights_K, calibrates_K, local)

    def _facts(self, output: dict[str, Any], scored: Scored) -> tuple[Credit, torch.Tensor, torch.Tensor]:
        """How credit goes, the rewards (N, K) of the global batch, and the masks (B, S, T) of this rank."""
        masks_BST, args = self._segment_masks(output, scored), self.args
        how = Credit(
            args.credit,
            args.segment_weight,
            args.scaling,
            self._own_scalings_K,
            self._group_size,
            self._credit_KS.to(masks_BST.device),
        )
        return how, torch.tensor(scored.matrix.values, dtype=torch.float32, device=masks_BST.device), masks_BST

    def _log_advantages(self, scored: Scored, advantages_N: torch.Tensor) -> None:
        """Log where the gradient comes from, by the groups that are the baseline."""
        for name, value in advantage_metrics(scored.matrix, scored.outcomes, advantages_N.cpu().numpy()).items():
            self._to_log[name].append(value)

    # -- update: TRL's loss, the tokens that its KL holds, and the calibration terms in closed form --------------------
    def training_step(self, model, inputs, num_items_in_batch):
        with self.stopwatch.running("update"):
            loss = super().training_step(model, inputs, num_items_in_batch)
        if self._step % self.current_gradient_accumulation_steps == 0:
            for part, seconds in self.stopwatch.lap().items():
                self._metrics["train"][f"time/{part}"].append(seconds)
        return loss

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, *arguments, **options
    ):
        completions = input_ids[:, -logits_to_keep:], attention_mask[:, -logits_to_keep:], self._stop_ids
        # Not "generate", where the policy and its reference score a rollout.
        with self.stopwatch.running("update"), self._reader.scoring(*completions):
            read = super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, *arguments, **options
            )
        seen = self._loss_pass
        if seen is not None and seen.log_probs_BT is None:
            seen.hold(read[0], read[1])
        return read

    def look_at(self, model, inputs):
        due = self._norm_steps and self.state.global_step % self._norm_steps == 0
        if not due or self._step % self.current_gradient_accumulation_steps:
            return
        closed = partial(self._in_closed_form, inputs) if self._closed_forms else None
        for name, norm in part_norms(self, model, inputs, partial(self._reading, inputs), closed).items():
            norms = self.accelerator.gather(torch.tensor(norm, device=self.accelerator.device))
            self._to_log[f"grad_norm/{name}"].append(norms.mean().item())

    def _compute_loss(self, model, inputs):
        self._loss_pass = LossPass(dict(inputs))
        with self._reading(inputs):
            loss = super()._compute_loss(model, self._loss_pass.inputs)
        metrics = self._to_log
        if self._closed_forms:
            in_closed_form, losses_B = self._in_closed_form(inputs)
            loss = loss + in_closed_form
            metrics["confidence_loss"].append(self.accelerator.gather(losses_B.detach()).mean().item())
            masses = torch.cat([each.masses for each in self._closed_forms])
            mass, count = self._summed(torch.stack([masses.sum(), torch.ones_like(masses).sum()]))
            metrics["calibration/level_mass"].append(mass / count if count else float("nan"))
        for name, value in self._loss_pass.metrics(self._summed, inputs.get("ref_per_token_logps")).items():
            metrics[name].append(value)
        return loss

    def _summed(self, values: torch.Tensor) -> list[float]:
        """Each number added up over all ranks."""
        return self.accelerator.reduce(values.double(), reduction="sum").tolist()

    @contextmanager
    def _reading(self, inputs: dict[str, Any]):
        """Context manager: the policy's forward is read where the closed form needs it."""
        with ExitStack() as stack:
            for each in self._closed_forms:
                stack.enter_context(each.reading(inputs[f"{each.field}_positions"], inputs["prompt_ids"].size(1)))
            yield

    def _in_closed_form(self, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss (scalar) of the calibration terms in closed form, and that of each completion (B,) unweighted."""
        weights_K, coefficients = self._weights(), (self._entropy_coef(), self.args.level_mass_coef)
        losses_B = sum(each.losses(inputs, weights_K, *coefficients) for each in self._closed_forms)
        return self.args.confidence_loss_weight * (losses_B * self._completion_weights(inputs)).sum(), losses_B

    def _completion_weights(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Factors (B,) by which a reward of a completion enters the loss, as one that is decided in a single token."""
        args, training = self.args, self.model.training
        mask_BT = inputs["completion_mask"] * inputs["tool_mask"]
        tokens = inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes
        tokens = tokens / args.steps_per_generation if training else tokens
        weights_B = token_weights(self.loss_type, mask_BT, self.max_completion_length, tokens, self.epsilon_high)
        weights_B = weights_B * mask_BT.sum(dim=1) if args.segment_weight == "completion" else weights_B
        return weights_B / (self.current_gradient_accumulation_steps if training else 1)

    # -- resume: in the middle of a rollout, with what is known of the prompts -----------------------------------------
    def save_progress(self, checkpoint: Path) -> None:
        if self._step % (self.args.steps_per_generation * self.num_iterations):
            # Sampled anew, the rollout would be by a policy that has moved on.
            write_batches(checkpoint, self.accelerator.process_index, self._buffered_inputs)
        if self._difficulty is not None and self.args.should_save:
            self._difficulty.save(checkpoint)

    def load_progress(self, checkpoint: Path) -> None:
        rank = self.accelerator.process_index
        if has_batches(checkpoint, rank):
            batches = read_batches(checkpoint, rank)
            self._buffered_inputs = [send_to_device(batch, self.accelerator.device) for batch in batches]
        if self._difficulty is not None:
            self._difficulty.load(checkpoint)
