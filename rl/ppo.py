"""PPO (arXiv 1707.06347) with a critic and GAE (arXiv 1506.02438) on the rollout, rubric and credit of our GRPO.

Kept from the textbook: a critic trained beside the policy on GAE returns, both losses in one step of one optimizer; the
clipped surrogate (TRL's, in all its loss types); clipping of values; whitening and the per-token KL penalty in the
reward as options; several passes over a rollout (``num_iterations``, ``steps_per_generation``). Changed: rewards come
from a rubric, each on the token that completes what earned it, and with ``credit: segment`` each set of segments is a
credit stream with a value and a GAE of its own, over its own tokens. Under gamma = lambda = 1 the return of an answer's
tokens would else contain the calibration reward that follows it, and a policy may then earn calibration by how it
answers: wrongly on purpose and sure of that, for one. GAE is linear: the streams' sum is the textbook's wherever all
streams reach. ``gae_lambda`` is 1, so that what the critic gets wrong adds variance but no bias to a proper rule.
A term that could not be judged pays the mean of its siblings; where there are none its stream is not trained on.
Dropped: bootstrapping (an episode ends with its completion, truncated or not), the entropy bonus (TRL's
``entropy_coef`` gives it), reward models, and groups: one completion a prompt is enough.

The critic is a value head on the policy's trunk, which it does not train unless asked, or a model of its own; see
:mod:`rl.critic`. Values before the update cost one forward pass without gradient, through TRL's fused head: logits of
(B, T, V) never exist.

Overrides of transformers' ``Trainer``, beside those of :mod:`rl.grpo`: ``create_optimizer``, ``_save``,
``_load_from_checkpoint``.

Launch: ``candor train candor_ppo`` or ``accelerate launch --num_processes 2 -m experiments train candor_ppo``.

Shapes: N completions of the global batch, B of this rank, T completion tokens, K terms, S segments, R credit streams.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate.utils import DummyOptim
from peft import PeftModel
from transformers import PreTrainedModel
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import disable_dropout_in_model

from rewards.rubric import Rubric
from rl.advantages import gae, masked_moments, reach_weights, sibling_rewards, stream_rewards, whiten
from rl.critic import Critic, critic_tensors, load_critic, save_critic
from rl.grpo import CalibratedGRPOTrainer
from rl.loss_pass import LossPass
from rl.losses import explained_variance, value_loss
from rl.ppo_config import CalibratedPPOConfig, check_without_groups
from rl.rollout import Scored


class CalibratedPPOTrainer(CalibratedGRPOTrainer):
    """PPO on a rubric of reward terms, a value a credit stream; see the module's docstring.

    ``critic`` is a second causal language model, for ``value_model: separate`` alone, of which only the trunk is used.
    Raises ValueError where it is missing or left over, for a rubric that needs groups or leaves the critic nothing, and
    for a critic's learning rate that an optimizer of the DeepSpeed configuration would not see.
    """

    _name = "candor PPO"
    _tag_names: ClassVar[list[str]] = ["trl", "ppo", "candor"]
    _paper: ClassVar[dict[str, str]] = {"title": "Proximal Policy Optimization Algorithms", "id": "1707.06347"}

    def __init__(
        self,
        model: str | PreTrainedModel | PeftModel,
        *,
        rubric: Rubric,
        args: CalibratedPPOConfig,
        critic: PreTrainedModel | None = None,
        **arguments: Any,
    ) -> None:
        check_without_groups(rubric, args.num_generations)
        if (critic is None) == (args.value_model == "separate"):
            raise ValueError(
                f"trainer.value_model: {args.value_model!r} takes {'a' if critic is None else 'no'} model as its critic"
            )
        super().__init__(model, rubric=rubric, args=args, **arguments)
        closed = [index for each in self._closed_forms for index in each.term_indices]
        live = [index for index, weight in enumerate(rubric.weights) if weight and index not in closed]
        if not live:
            raise ValueError(
                "trainer.method: ppo has nothing to train, every term of the rubric is taken in closed form"
            )
        by_segments: dict[tuple[float, ...], list[int]] = {}
        for index in live:
            credit_S = self._credit_KS[index] if args.credit == "segment" else torch.ones_like(self._credit_KS[index])
            by_segments.setdefault(tuple(credit_S.tolist()), []).append(index)
        self._streams_RS = torch.tensor(list(by_segments))
        self._members_RK = torch.tensor(
            [[float(term in terms) for term in range(len(rubric.names))] for terms in by_segments.values()]
        )
        # Which streams, the KL's behind them, are of correctness, of calibration and of the KL.
        calibrating = [all(rubric.pays_for[term] for term in terms) for terms in by_segments.values()]
        streams_of = [1 if each else 0 for each in calibrating] + [2] * bool(args.kl_in_reward)
        self._parts_PR = torch.nn.functional.one_hot(torch.tensor(streams_of), 3).T
        streams = ["+".join(rubric.names[index] for index in terms) for terms in by_segments.values()]
        policy = self.accelerator.unwrap_model(self.model)
        policy = policy.get_base_model() if isinstance(policy, PeftModel) else policy
        self._critic = Critic(
            policy,
            [*streams, "kl"] if args.kl_in_reward else streams,
            trunk=None if critic is None else critic.base_model,
            trains_policy=args.value_trains_policy,
        )
        self._critic.to(self.accelerator.device)
        if args.disable_dropout:
            disable_dropout_in_model(self._critic)
        if self.use_vllm:
            everything = self.vllm_generation._iter_named_params
            self.vllm_generation._iter_named_params = lambda: _without_critic(everything())

    # -- credit: rewards on tokens, values, GAE ------------------------------------------------------------------------
    def _credit(
        self, output: dict[str, Any], scored: Scored, weights_K: torch.Tensor, local: slice
    ) -> tuple[torch.Tensor, torch.Tensor]:
        device = weights_K.device
        trained_BT = output["completion_mask"] * output["tool_mask"]
        masks_BST = self._segment_masks(output, scored) * trained_BT.unsqueeze(1)
        rewards_NK = torch.tensor(scored.matrix.values, dtype=torch.float32, device=device)
        siblings = self._group_size
        rewards_BRT, reach_BRT = stream_rewards(
            rewards_NK[local],
            weights_K,
            self._members_RK.to(device),
            self._streams_RS.to(device),
            masks_BST,
            sibling_rewards(rewards_NK, siblings)[local],
        )
        log_probs_BT, values_BRT = self._before_the_update(output)
        if self.args.kl_in_reward:
            log_probs_BT = output.get("old_per_token_logps", log_probs_BT)
            log_ratios_BT = (log_probs_BT - output["ref_per_token_logps"]) * trained_BT
            if self.args.kl_mask != "all":
                log_ratios_BT = log_ratios_BT * output["held"]
            # A completion that nothing could judge is not trained on.
            paid_BT = trained_BT * reach_BRT.amax(dim=(1, 2)).unsqueeze(1)
            rewards_BRT = torch.cat([rewards_BRT, -self.beta * (log_ratios_BT * paid_BT).unsqueeze(1)], dim=1)
            reach_BRT = torch.cat([reach_BRT, paid_BT.unsqueeze(1).to(reach_BRT)], dim=1)
            kl, count = self._summed(torch.stack([log_ratios_BT.sum(), trained_BT.sum()]))
            self._to_log["kl"].append(kl / max(count, 1.0))
        advantages_BRT, returns_BRT = gae(rewards_BRT, values_BRT, reach_BRT, self.args.gamma, self.args.gae_lambda)
        weighed_BRT = advantages_BRT * reach_weights(reach_BRT, masks_BST.sum(dim=(1, 2)), self.args.segment_weight)
        credited_BT = reach_BRT.amax(dim=1)
        advantages_BPT = torch.einsum("pr,brt->bpt", self._parts_PR.to(weighed_BRT), weighed_BRT)
        if self.args.whiten_advantages:
            advantages_BT = advantages_BPT.sum(dim=1)
            moments_3 = self.accelerator.reduce(masked_moments(advantages_BT, credited_BT), reduction="sum")
            advantages_BPT = whiten(advantages_BT, credited_BT, moments_3).unsqueeze(1) * advantages_BPT.new_tensor(
                [[[1.0], [0.0], [0.0]]]
            )
        output |= {"values": values_BRT, "returns": returns_BRT, "reach": reach_BRT}
        output["num_values"] = self.accelerator.reduce(reach_BRT.sum(), reduction="sum")
        self._log_values(values_BRT, returns_BRT, reach_BRT)
        if self.num_generations == 1:
            self._to_log.pop("frac_reward_zero_std", None)  # of groups of one, which never vary
        means_B = advantages_BPT.sum(dim=(1, 2)) / credited_BT.sum(dim=1).clamp(min=1)
        return advantages_BPT, self.accelerator.gather(means_B)

    def _parts_are_apart(self) -> bool:
        # Called before there are streams: with segment credit no term of correctness is on the confidence alone.
        return self.args.credit == "segment" and not self.args.whiten_advantages

    def _log_advantages(self, scored: Scored, advantages_N: torch.Tensor) -> None:
        """Nothing: the baseline is the critic, and siblings that are level take no advantage away."""

    def _before_the_update(self, output: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities (B, T) and values (B, R, T) of the policy and critic that sampled."""
        input_ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
        attention_mask = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
        tokens = output["completion_ids"].size(1)
        args = self.args
        size = args.per_device_train_batch_size if self.model.training else args.per_device_eval_batch_size
        without_checkpointing = disable_gradient_checkpointing(self.model, args.gradient_checkpointing_kwargs)
        with torch.no_grad(), without_checkpointing, self._critic.reading(tokens) as values:
            log_probs_BT, _, _ = self._get_per_token_logps_and_entropies(
                self.model, input_ids, attention_mask, tokens, batch_size=size
            )
        return log_probs_BT, torch.cat(values)

    def _log_values(self, values_BRT: torch.Tensor, returns_BRT: torch.Tensor, reach_BRT: torch.Tensor) -> None:
        """Log what the critic knew before the update, from the sums of all ranks."""
        per_stream = (values_BRT.unbind(1), returns_BRT.unbind(1), (returns_BRT - values_BRT).unbind(1))
        moments = [
            torch.stack([masked_moments(*each) for each in zip(one, reach_BRT.unbind(1), strict=True)])
            for one in per_stream
        ]
        values_R3, returns_R3, errors_R3 = self.accelerator.reduce(torch.stack(moments), reduction="sum")
        count = values_R3[:, 0].sum().clamp(min=1)
        metrics = self._to_log
        metrics["value/mean"].append((values_R3[:, 1].sum() / count).item())
        metrics["value/return"].append((returns_R3[:, 1].sum() / count).item())
        metrics["value/explained_variance"].append(explained_variance(returns_R3, errors_R3))

    # -- update: TRL's loss and the critic's ---------------------------------------------------------------------------
    def _compute_loss(self, model, inputs):
        beta = self.beta
        self.beta = 0.0 if self.args.kl_in_reward else beta  # as a reward it has been counted
        try:
            with self._critic.reading(inputs["completion_ids"].size(1)) as values:
                loss = super()._compute_loss(model, inputs)
        finally:
            self.beta = beta
        (values_BRT,) = values
        reach_BRT, old_BRT = inputs["reach"], inputs["values"]
        errors_BRT = value_loss(values_BRT, old_BRT, inputs["returns"], self.args.clip_range_value) * reach_BRT
        # A mean over the global batch, however it is split over ranks and accumulated: as in TRL's dapo.
        normaliser = inputs["num_values"].clamp(min=1) / self.accelerator.num_processes
        if self.model.training:
            normaliser = normaliser * self.current_gradient_accumulation_steps / self.args.steps_per_generation
        self._log_update(self._loss_pass, values_BRT.detach(), errors_BRT.detach())
        return loss + self.args.vf_coef * errors_BRT.sum() / normaliser

    def _log_update(self, seen: LossPass, values_BRT: torch.Tensor, errors_BRT: torch.Tensor) -> None:
        """Log how far this update has moved policy and values, from the sums of all ranks."""
        inputs, log_probs_BT = seen.inputs, seen.log_probs_BT
        trained_BT = inputs["completion_mask"] * inputs["tool_mask"]
        log_ratios_BT = (log_probs_BT - inputs.get("old_per_token_logps", log_probs_BT)) * trained_BT
        # k3 of http://joschu.net/blog/kl-approx.html: unbiased, never negative.
        kl_BT = log_ratios_BT.exp() - 1 - log_ratios_BT
        clip = self.args.clip_range_value or float("inf")
        clipped_BRT = ((values_BRT - inputs["values"]).abs() > clip) * inputs["reach"]
        sums = kl_BT.sum(), trained_BT.sum(), errors_BRT.sum(), clipped_BRT.sum(), inputs["reach"].sum()
        kl, tokens, loss, clipped, count = self._summed(torch.stack([each.double() for each in sums]))
        metrics = self._to_log
        metrics["approx_kl"].append(kl / max(tokens, 1.0))
        metrics["value/loss"].append(loss / max(count, 1.0))
        metrics["value/clip_ratio"].append(clipped / max(count, 1.0))

    def create_optimizer(self, model=None):
        optimizer, rate = super().create_optimizer(model), self.args.critic_learning_rate
        if rate is None:
            return optimizer
        if isinstance(optimizer, DummyOptim):
            raise ValueError(
                "trainer.critic_learning_rate: has no effect on the optimizer of the DeepSpeed configuration; take "
                "either away"
            )
        own = {id(parameter) for parameter in self._critic.parameters()}
        for group in list(optimizer.param_groups):
            of_critic = [each for each in group["params"] if id(each) in own]
            if of_critic:
                group["params"] = [each for each in group["params"] if id(each) not in own]
                optimizer.add_param_group({**group, "params": of_critic, "lr": rate})
        return optimizer

    # -- checkpoints: the policy's folder stays a policy's -------------------------------------------------------------
    def _save(self, output_dir=None, state_dict=None):
        folder = output_dir if output_dir is not None else self.args.output_dir
        tensors = critic_tensors(self._critic, state_dict)  # before the policy's are picked out of it
        super()._save(output_dir, state_dict)
        if self.args.should_save and tensors:
            save_critic(folder, self._critic, tensors, self._paid_for_right())

    def _paid_for_right(self) -> list[float | None]:
        """What each stream pays for a right answer beyond a wrong one at this step; None where not for that alone."""
        weights_K = self.rubric.weights_at(self.state.global_step)
        members = [[index for index, member in enumerate(row) if member] for row in self._members_RK.tolist()]
        paid = [
            float(weights_K[terms[0]]) if [self.rubric.names[each] for each in terms] == ["accuracy"] else None
            for terms in members
        ]
        return [*paid, None] if self.args.kl_in_reward else paid

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        load_critic(Path(resume_from_checkpoint), self._critic)


def _without_critic(named_parameters):
    """What vLLM is sent: it holds the policy alone."""
    for name, parameter in named_parameters:
        if not name.startswith("critic."):
            yield name, parameter
