"""The methods that a recipe may train by, and what each of them makes of the other sections.

What imports torch is imported when it is called: a recipe that is only listed needs none of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.config.models import find_model, open_weights
from experiments.errors import ConfigError
from experiments.schema import one_of
from rewards.rubric import Rubric

if TYPE_CHECKING:
    from transformers import Trainer

    from rewards.template import AnswerTemplate


@dataclass(frozen=True)
class Method:
    """A way to train a policy."""

    configuration: Callable[[], type]
    """Gives the class whose fields the ``trainer`` section takes."""
    trainer: Callable[..., Trainer]
    """Builds the trainer of a recipe: ``(recipe, arguments, model, tokenizer, dataset, verifier, callbacks, lora)``."""
    rows: Callable[[list[dict[str, Any]], AnswerTemplate, int], list[dict[str, Any]]]
    """Turns the rows of a task into what the trainer reads, with the run's seed. Raises ValueError."""
    rollouts: bool = True
    """Whether the policy writes what it is trained on, which then has groups, rewards, monitors and a generator."""
    fewest_generations: int = 2
    """Completions of a prompt, at least."""
    critic: bool = False
    """Whether there is a critic, which may be a model of its own."""
    check_rubric: Callable[[Rubric, int], None] = lambda rubric, num_generations: None
    """Raises ValueError for a rubric that asks what the method does not have."""
    check: Callable[[Any, AnswerTemplate], None] = lambda arguments, template: None
    """Raises ValueError for a configuration and a template that do not suit each other."""
    own_answers: bool = False
    """Whether the policy answers its training questions before the first step: ``rows`` are then questions."""
    adds_marks: bool = False
    """Whether the tokens of a template's marks are added to the policy's vocabulary."""
    is_policy: bool = True
    """Whether what comes out is a policy, that can be probed."""
    adapters: bool = True
    """Whether it may be trained by LoRA."""
    measured: bool = False
    """Whether ``candor train`` probes what comes out."""


def _grpo_configuration() -> type:
    from rl.config import CalibratedGRPOConfig

    return CalibratedGRPOConfig


def _ppo_configuration() -> type:
    from rl.ppo_config import CalibratedPPOConfig

    return CalibratedPPOConfig


def _sft_configuration() -> type:
    from rl.config import CalibratedSFTConfig

    return CalibratedSFTConfig


def _self_ref_configuration() -> type:
    from rl.own_answers_config import SelfRefConfig

    return SelfRefConfig


def _recalibrate_configuration() -> type:
    from rl.own_answers_config import RecalibrateConfig

    return RecalibrateConfig


def _dpo_configuration() -> type:
    from rl.own_answers_config import SelfFeedbackDPOConfig

    return SelfFeedbackDPOConfig


def _reward_configuration() -> type:
    from rl.own_answers_config import SelfFeedbackRewardConfig

    return SelfFeedbackRewardConfig


def _check_marked(arguments: Any, template: AnswerTemplate) -> None:
    if template.confidence == "required":
        raise ValueError(
            "task.template.confidence: 'required' has no mark behind the answer; set 'token', or 'none' for the "
            "control without marks"
        )


def _check_levels_stated(arguments: Any, template: AnswerTemplate) -> None:
    if template.confidence != "required" or template.levels is None:
        raise ValueError("task.template.levels: missing; a confidence that is restored is one of a known set")


def _check_feedback(arguments: Any, template: AnswerTemplate) -> None:
    from estimators import ESTIMATORS
    from estimators.estimator import LEVELS, TOKEN_STATISTICS
    from rl.own_answers_config import VERDICT

    given = {TOKEN_STATISTICS} | ({LEVELS} if template.levels else set())
    allowed = [VERDICT, *(name for name, kind in ESTIMATORS.items() if _ranks(kind, given))]
    one_of("trainer.feedback", arguments.feedback, allowed)


def _ranks(kind: Any, given: set[str]) -> bool:
    return bool(kind.needs) and kind.needs <= given and kind.bounds == (0.0, 1.0) and kind.higher_is_surer


def _check_without_groups(rubric: Rubric, num_generations: int) -> None:
    from rl.ppo_config import check_without_groups

    check_without_groups(rubric, num_generations)


def _prompts(rows: list[dict[str, Any]], template: AnswerTemplate, seed: int) -> list[dict[str, Any]]:
    """Prompt, gold and reference of each row; the policy writes the rest."""
    return [
        {"prompt": row["prompt"], "answer": row["answer"], "reference": row.get("demonstration", row["answer"])}
        for row in rows
    ]


def _demonstrations(rows: list[dict[str, Any]], template: AnswerTemplate, seed: int) -> list[dict[str, Any]]:
    from rl.sft import sft_rows

    return sft_rows(rows, template, seed)


def _questions(rows: list[dict[str, Any]], template: AnswerTemplate, seed: int) -> list[dict[str, Any]]:
    """The rows as they are, for a policy to answer before it is trained."""
    return [{"id": str(row["id"]), "prompt": row["prompt"], "answer": row["answer"]} for row in rows]


def _grpo_trainer(recipe, arguments, model, tokenizer, dataset, verifier, callbacks, lora) -> Trainer:
    from rl.grpo import CalibratedGRPOTrainer

    return CalibratedGRPOTrainer(
        model,
        **_shared(arguments, tokenizer, dataset, callbacks, lora),
        **_rewarded_by(recipe, verifier, tokenizer, arguments),
    )


def _ppo_trainer(recipe, arguments, model, tokenizer, dataset, verifier, callbacks, lora) -> Trainer:
    from rl.critic import check_vocabulary
    from rl.ppo import CalibratedPPOTrainer

    critic = None
    if arguments.value_model == "separate":
        path, key = recipe.model.critic_path, "model.critic_path"
        critic, _ = open_weights(recipe, path or recipe.model.path, key if path else "model.path")
        try:
            check_vocabulary(model, critic)
        except ValueError as error:
            raise ConfigError(str(error)) from error
    shared = _shared(arguments, tokenizer, dataset, callbacks, lora)
    return CalibratedPPOTrainer(model, critic=critic, **shared, **_rewarded_by(recipe, verifier, tokenizer, arguments))


def _sft_trainer(recipe, arguments, model, tokenizer, dataset, verifier, callbacks, lora) -> Trainer:
    from rl.sft import CalibratedSFTTrainer

    return CalibratedSFTTrainer(model, **_shared(arguments, tokenizer, dataset, callbacks, lora))


def _own_answers_trainer(recipe, arguments, model, tokenizer, dataset, verifier, callbacks, lora) -> Trainer:
    from rl.confidence_tokens import OwnAnswersTrainer, with_embeddings

    if lora is not None and recipe.template.confidence == "token":
        lora = with_embeddings(lora, model)
    return OwnAnswersTrainer(model, **_shared(arguments, tokenizer, dataset, callbacks, lora))


def _dpo_trainer(recipe, arguments, model, tokenizer, dataset, verifier, callbacks, lora) -> Trainer:
    import copy

    from rl.checkpoint import whole_parameters
    from rl.self_feedback import SelfFeedbackDPOTrainer

    reference = None
    if lora is None:  # TRL would load it once more by its name, which a GGUF file is not
        with whole_parameters(list(model.parameters()), changed=False):
            reference = copy.deepcopy(model)
    shared = _shared(arguments, tokenizer, dataset, callbacks, lora)
    return SelfFeedbackDPOTrainer(model, ref_model=reference, **shared)


def _reward_trainer(recipe, arguments, model, tokenizer, dataset, verifier, callbacks, lora) -> Trainer:
    from rl.reward_model import as_reward_model
    from rl.self_feedback import SelfFeedbackRewardTrainer

    try:
        reward_model = as_reward_model(model, tokenizer, arguments.seed)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return SelfFeedbackRewardTrainer(reward_model, **_shared(arguments, tokenizer, dataset, callbacks, None))


def _shared(arguments, tokenizer, dataset, callbacks, lora) -> dict[str, Any]:
    """What every trainer is built from beside its policy."""
    return {
        "args": arguments,
        "train_dataset": dataset,
        "processing_class": tokenizer,
        "callbacks": callbacks,
        "peft_config": lora,
    }


def _rewarded_by(recipe, verifier, tokenizer, arguments) -> dict[str, Any]:
    """What a trainer with rollouts needs to reward them. Raises ConfigError for a reward model of another tokenizer."""
    reward_model = None
    if recipe.model.reward_path is not None:
        from rl.reward_model import RewardModel

        folder = find_model(recipe.model.reward_path, "model.reward_path")
        try:
            reward_model = RewardModel.load(folder, tokenizer, arguments.per_device_train_batch_size)
        except ValueError as error:
            raise ConfigError(f"model.reward_path: {error}") from error
    return {
        "reward_model": reward_model,
        "rubric": recipe.rubric,
        "template": recipe.template,
        "estimators": recipe.estimators,
        "verifier": verifier,
    }


METHODS = {
    "grpo": Method(_grpo_configuration, _grpo_trainer, _prompts),
    "ppo": Method(
        _ppo_configuration,
        _ppo_trainer,
        _prompts,
        fewest_generations=1,
        critic=True,
        check_rubric=_check_without_groups,
    ),
    "sft": Method(_sft_configuration, _sft_trainer, _demonstrations, rollouts=False, fewest_generations=1),
    "self_ref": Method(
        _self_ref_configuration,
        _own_answers_trainer,
        _questions,
        rollouts=False,
        fewest_generations=1,
        check=_check_marked,
        own_answers=True,
        adds_marks=True,
        measured=True,
    ),
    "recalibrate": Method(
        _recalibrate_configuration,
        _own_answers_trainer,
        _questions,
        rollouts=False,
        fewest_generations=1,
        check=_check_levels_stated,
        own_answers=True,
    ),
    "rlsf_dpo": Method(
        _dpo_configuration,
        _dpo_trainer,
        _questions,
        rollouts=False,
        fewest_generations=1,
        check=_check_feedback,
        own_answers=True,
    ),
    "rlsf_reward": Method(
        _reward_configuration,
        _reward_trainer,
        _questions,
        rollouts=False,
        fewest_generations=1,
        check=_check_feedback,
        own_answers=True,
        is_policy=False,
        adapters=False,
    ),
}
"""Name in a recipe's ``trainer.method`` -> method; the first is taken where a recipe names none."""
DEFAULT_METHOD = next(iter(METHODS))
