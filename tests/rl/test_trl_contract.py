"""What our trainers take for granted about TRL's and transformers', which promise none of it.

After an upgrade of TRL a failure here names what to read again before the upper bound in pyproject.toml is moved.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
import trl
from packaging.requirements import Requirement
from transformers import PreTrainedModel, Trainer
from trl import DPOTrainer, GRPOConfig, GRPOTrainer, SFTTrainer
from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer.utils import add_fused_lm_head, shuffle_sequence_dict, split_tensor_dict

import rl.confidence_tokens
import rl.grpo
import rl.ppo
import rl.self_feedback
import rl.trainer
from rl.confidence_tokens import OwnAnswersTrainer
from rl.grpo import CalibratedGRPOTrainer
from rl.ppo import CalibratedPPOTrainer
from rl.self_feedback import SelfFeedbackDPOTrainer, SelfFeedbackRewardTrainer
from rl.sft import CalibratedSFTTrainer

GUARDED = {
    "compute_loss": "model inputs return_outputs num_items_in_batch",
    "_get_grad_norm": "model grad_norm",
    "_save_checkpoint": "model trial",
    "_load_optimizer_and_scheduler": "checkpoint",
}
OF_GRPO = {
    "_get_train_sampler": "dataset",
    "training_step": "model inputs num_items_in_batch",
    "_generate_and_score_completions": "inputs",
    "_calculate_rewards": "inputs prompts completions completion_ids_list",
    "_get_per_token_logps_and_entropies": "model input_ids attention_mask logits_to_keep batch_size compute_entropy "
    "compute_aux_loss pixel_values image_grid_thw num_images pixel_attention_mask spatial_shapes num_tiles "
    "image_sizes token_type_ids mm_token_type_ids image_position_ids",
    "_compute_loss": "model inputs",
}
OF_PPO = {
    "create_optimizer": "model",
    "_save": "output_dir state_dict",
    "_load_from_checkpoint": "resume_from_checkpoint model",
}
OF_DPO = {"_prepare_dataset": "dataset processing_class args dataset_name"}
"""Method -> its parameters: those that rl/trainer.py overrides, and what rl/grpo.py, rl/ppo.py and rl/self_feedback.py
add to them."""
PASSED_ON = "_get_per_token_logps_and_entropies"
"""Its override hands on whatever it is given."""
LOSS_TYPES = ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo")


def source_of(method: Any) -> str:
    return textwrap.dedent(inspect.getsource(inspect.unwrap(method)))


def names_in(method: Any) -> set[str]:
    """What a method mentions: attributes, keyword arguments and constants."""
    nodes = list(ast.walk(ast.parse(source_of(method))))
    mentioned = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    mentioned |= {node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg}
    return mentioned | {node.value for node in nodes if isinstance(node, ast.Constant)}


def test_the_installed_version_is_the_pinned_one() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    (pin,) = (Requirement(each) for each in project["dependencies"] if Requirement(each).name == "trl")
    assert metadata.version("trl") in pin.specifier, (
        f"TRL {metadata.version('trl')} is installed, {pin} is what rl/ was checked with: read the "
        "methods that our trainers override again, run this file, then move the bound"
    )
    low, high = sorted(pin.specifier, key=lambda each: each.operator, reverse=True)
    minor = [int(part) for part in low.version.split(".")]
    assert (low.operator, high.operator, high.version) == (">=", "<", f"{minor[0]}.{minor[1] + 1}"), "one minor version"


def overridden(trainer: type) -> set[str]:
    """Methods of TRL's or transformers' trainers that our classes define anew, whichever of our classes does."""
    ours = [kind for kind in trainer.__mro__ if kind.__module__.partition(".")[0] == "rl"]
    theirs = {name for kind in trainer.__mro__ if kind not in ours and kind is not object for name in vars(kind)}
    methods = (inspect.isfunction, lambda each: isinstance(each, (property, classmethod, staticmethod)))
    defined = {name for kind in ours for name, each in vars(kind).items() if any(test(each) for test in methods)}
    return {name for name in defined & theirs if name != "__init__"}


def listed(module: Any) -> set[str]:
    """The methods that a module's docstring says it overrides: a paragraph that begins with "Overrides of"."""
    (paragraph,) = (each for each in module.__doc__.split("\n\n") if each.startswith("Overrides of "))
    return set(re.findall(r"``(\w+)``", paragraph)) - {"Trainer", "GRPOTrainer", "DPOTrainer"}


@pytest.mark.parametrize(
    ("trainer", "modules", "methods"),
    [
        (CalibratedSFTTrainer, [rl.trainer], GUARDED),
        (OwnAnswersTrainer, [rl.trainer, rl.confidence_tokens], GUARDED | {"save_model": "output_dir _internal_call"}),
        (SelfFeedbackDPOTrainer, [rl.trainer, rl.self_feedback], GUARDED | OF_DPO),
        (SelfFeedbackRewardTrainer, [rl.trainer], GUARDED),
        (CalibratedGRPOTrainer, [rl.trainer, rl.grpo], GUARDED | OF_GRPO),
        (CalibratedPPOTrainer, [rl.trainer, rl.grpo, rl.ppo], GUARDED | OF_GRPO | OF_PPO),
    ],
)
def test_the_overrides_are_those_that_the_docstrings_list(
    trainer: type, modules: list[Any], methods: dict[str, str]
) -> None:
    assert overridden(trainer) == set(methods) == set().union(*map(listed, modules))
    assert len(GUARDED | OF_GRPO) <= 10 and len(OF_PPO) <= 3, "fewer is better"


@pytest.mark.parametrize("name", GUARDED | OF_GRPO | OF_PPO)
def test_overridden_methods_exist_with_these_parameters(name: str) -> None:
    theirs = getattr(GRPOTrainer, name, None)
    assert theirs is not None, f"TRL {trl.__version__} has no GRPOTrainer.{name}: our trainers override nothing"
    parameters = ["self", *(GUARDED | OF_GRPO | OF_PPO)[name].split()]
    methods = [theirs] if name == PASSED_ON else [theirs, getattr(CalibratedPPOTrainer, name)]
    if name in GUARDED:
        methods += [getattr(SFTTrainer, name), getattr(Trainer, name)]
    for method in methods:
        assert list(inspect.signature(inspect.unwrap(method)).parameters) == parameters, (
            f"GRPOTrainer.{name} has other parameters in TRL {trl.__version__}: adapt the override"
        )


def test_dpo_still_prepares_what_our_pairs_need_no_more() -> None:
    (name, parameters), *rest = OF_DPO.items()
    assert not rest
    assert list(inspect.signature(getattr(DPOTrainer, name)).parameters) == ["self", *parameters.split()]
    collator = names_in(DPOTrainer._set_signature_columns_if_needed) | names_in(DPOTrainer.__init__)
    assert {"prompt_ids", "chosen_ids", "rejected_ids", "_prepare_dataset"} <= collator, (
        f"DPOTrainer of TRL {trl.__version__} reads other columns: adapt rl/self_feedback.py"
    )


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("_prepare_inputs", {"_generate_and_score_completions", "_buffered_inputs"}),
        ("_calculate_rewards", {"_log_completion_extra"}),
        ("_generate_and_score_completions", {"_calculate_rewards", "_pending_extra_logs", "_logs", "advantages"}),
        ("_generate_and_score_completions", {"prompt_ids", "completion_ids", "completion_mask", "process_index"}),
        ("_generate", {"_generate_single_turn", "eos_token_ids", "_tokenize_prompts"}),
        ("_prepare_inputs", {"_step", "steps_per_generation", "num_iterations"}),
        ("training_step", {"_step", "current_gradient_accumulation_steps"}),
        ("_compute_loss", {"tool_mask", "ref_per_token_logps", "_get_per_token_logps_and_entropies"}),
        ("_generate_single_turn", {"generate", "use_vllm", "use_transformers_continuous_batching"}),
        ("_generate_and_score_completions", {"reward_weights", "vllm_importance_sampling_correction"}),
        ("compute_loss", {"_compute_loss"}),
        ("_compute_loss", {"advantages", "current_gradient_accumulation_steps", "_metrics"}),
        ("_get_per_token_logps_and_entropies", {"fused_lm_head"}),
        ("log", {"_metrics", "_logs"}),
    ],
)
def test_methods_still_do_what_the_overrides_rely_on(name: str, needed: set[str]) -> None:
    found = names_in(getattr(GRPOTrainer, name))
    assert needed <= found, (
        f"GRPOTrainer.{name} of TRL {trl.__version__} mentions {', '.join(sorted(needed - found))} no more: "
        "follow the data through rl/grpo.py again"
    )


def test_trl_still_scores_what_others_generate_with_the_policy_before_it_asks_for_rewards() -> None:
    """What :class:`rl.generation_statistics.GenerationStatistics` reads is the first pass, the policy's."""
    source = source_of(GRPOTrainer._generate_and_score_completions)
    passes = [source.index(each) for each in ("old_per_token_logps, _, _ =", "ref_per_token_logps, _, _ =")]
    assert passes == sorted(passes) and passes[-1] < source.index("self._calculate_rewards("), (
        "TRL scores completions in another order: check what rl.signals reads where vLLM generates"
    )
    scoring = source[: passes[1]]
    assert "self.use_vllm and self.vllm_importance_sampling_correction" in scoring
    assert "torch.cat([prompt_ids, completion_ids], dim=1)" in scoring, "prompts on the left, completions on the right"


def test_trl_still_takes_advantages_per_token() -> None:
    assert "if advantages.dim() == 1:" in source_of(GRPOTrainer._compute_loss), (
        "TRL no longer widens one-dimensional advantages in _compute_loss: check that (B, T) advantages still work"
    )


def test_closed_form_reads_the_hidden_state_that_the_loss_reads() -> None:
    fused = source_of(add_fused_lm_head)
    for part in ("backbone_outputs.last_hidden_state", "final_logit_softcapping", "logit_scale", "logits_scaling",
                 "lm_head_multiplier", "output_multiplier", 'backbone_attr = "base_model"'):  # fmt: skip
        assert part in fused, f"TRL's fused head has no {part!r} any more: check model_logits in estimators"


def test_batches_carry_extra_tensors_through_shuffling_and_splitting() -> None:
    batch = {"advantages": torch.arange(8.0).view(4, 2), "confidence_positions": torch.arange(4), "none": None}
    parts = split_tensor_dict(shuffle_sequence_dict(batch), 2)
    rows = torch.cat([part["confidence_positions"] for part in parts])
    assert sorted(rows.tolist()) == [0, 1, 2, 3]
    torch.testing.assert_close(torch.cat([part["advantages"] for part in parts]), batch["advantages"][rows])


def test_the_loss_types_are_those_checked_below() -> None:
    source = source_of(GRPOTrainer._compute_loss)
    known = {
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant)
        and node.value in {*LOSS_TYPES, GRPOConfig(bf16=False, use_cpu=True).loss_type}
    }
    assert known == set(LOSS_TYPES)


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_a_constant_advantage_per_token_is_one_per_sequence(loss_type: str, make_trainer: Any, replay: Any) -> None:
    """Loss and gradient of (B, T) advantages constant in T are those of (B,) advantages."""
    level = {"luspo": "sequence"}.get(loss_type, "token")
    trainer = make_trainer(loss_type=loss_type, importance_sampling_level=level, credit="sequence")
    answers = ["<answer>3</answer><confidence>0.75</confidence>", "<answer>2</answer>", "12", "<answer>"] * 2
    replay(trainer, answers)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    inputs = trainer._generate_and_score_completions([dict(trainer.train_dataset[0])] * 8)
    advantages_B = torch.tensor([1.0, -0.5, 0.25, -0.75, 2.0, -2.0, 0.5, -0.5])
    measured = []
    for advantages in (advantages_B, advantages_B.unsqueeze(1).expand(inputs["completion_ids"].shape).clone()):
        trainer.model.zero_grad()
        loss = trainer._compute_loss(trainer.model, {**inputs, "advantages": advantages})
        loss.backward()
        gradients = [parameter.grad.flatten() for parameter in trainer.model.parameters()]
        measured.append((loss.detach(), torch.cat(gradients)))
    for one, each in zip(*measured, strict=True):
        torch.testing.assert_close(
            each, one, rtol=1e-6, atol=1e-7, msg=lambda text: f"{loss_type} treats (B, T) advantages otherwise: {text}"
        )
    assert measured[0][1].norm() > 1e-3


# -- what PPO relies on beyond that ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "needed"),
    [
        # The critic reads the pass of the loss, in which it also finds the log-probabilities; beta of 0 is no penalty.
        (GRPOTrainer._compute_loss, {"_get_per_token_logps_and_entropies", "beta", "old_per_token_logps"}),
        (GRPOTrainer._generate_and_score_completions, {"ref_per_token_logps", "old_per_token_logps", "tool_mask"}),
        # Whose generation batch the value loss is normalised by, as dapo is.
        (GRPOTrainer._compute_loss, {"num_items_in_batch", "steps_per_generation", "num_processes"}),
        # A checkpoint without the critic, and no complaint about that when it is read back.
        (Trainer._save, {"save_pretrained", "state_dict", "should_save"}),
        (PreTrainedModel.save_pretrained, {"_keys_to_ignore_on_save"}),
        (VLLMGeneration.sync_weights, {"_iter_named_params"}),
    ],
)
def test_methods_still_do_what_ppo_relies_on(method: Any, needed: set[str]) -> None:
    assert needed <= names_in(method), f"{method.__qualname__} has changed: follow the critic through rl/ppo.py again"


def test_trl_still_refuses_groups_of_one_in_its_configuration_alone(make_trainer: Any, replay: Any) -> None:
    """:meth:`CalibratedPPOConfig._check_batch` is needed, and enough: TRL scores groups of one without a warning."""
    with pytest.raises(ValueError, match="at least 2 generations"):
        GRPOConfig(bf16=False, use_cpu=True, num_generations=1)
    trainer = make_trainer(method="ppo", num_generations=1)
    assert trainer.num_generations == trainer.num_generations_eval == 1
    assert len({str(index) for index in trainer._get_train_sampler()}) == len(trainer.train_dataset) // 8 * 8


def test_trl_still_hands_the_trunk_its_inputs_by_name(make_trainer: Any, replay: Any) -> None:
    trainer, seen = make_trainer(method="ppo"), []
    trainer.model.base_model.register_forward_hook(lambda *each: seen.append(set(each[2])), with_kwargs=True)
    ids = torch.ones(2, 5, dtype=torch.long)
    trainer._get_per_token_logps_and_entropies(trainer.model, ids, torch.ones_like(ids), 3)
    assert seen and all({"input_ids", "attention_mask"} <= each for each in seen)
