"""The methods that a recipe may train by, and what each of them makes of the other sections.

What imports torch is imported when it is called: a recipe that is only listed needs none of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.config.models import open_weights
from experiments.errors import ConfigError
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


def _grpo_configuration() -> type:
    from rl.config import CalibratedGRPOConfig

    return CalibratedGRPOConfig


def _ppo_configuration() -> type:
    from rl.ppo_config import CalibratedPPOConfig

    return CalibratedPPOConfig


def _sft_configuration() -> type:
    from rl.config import CalibratedSFTConfig

    return CalibratedSFTConfig


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


def _grpo_trainer(recipe, arguments, model, tokenizer, dataset, verifier, callbacks, lora) -> Trainer:
    from rl.grpo import CalibratedGRPOTrainer

    return CalibratedGRPOTrainer(
        model, **_shared(arguments, tokenizer, dataset, callbacks, lora), **_rewarded_by(recipe, verifier)
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
    return CalibratedPPOTrainer(model, critic=critic, **shared, **_rewarded_by(recipe, verifier))


def _sft_trainer(recipe, arguments, model, tokenizer, dataset, verifier, callbacks, lora) -> Trainer:
    from rl.sft import CalibratedSFTTrainer

    return CalibratedSFTTrainer(model, **_shared(arguments, tokenizer, dataset, callbacks, lora))


def _shared(arguments, tokenizer, dataset, callbacks, lora) -> dict[str, Any]:
    """What every trainer is built from beside its policy."""
    return {
        "args": arguments,
        "train_dataset": dataset,
        "processing_class": tokenizer,
        "callbacks": callbacks,
        "peft_config": lora,
    }


def _rewarded_by(recipe, verifier) -> dict[str, Any]:
    """What a trainer with rollouts needs to reward them."""
    return {
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
}
"""Name in a recipe's ``trainer.method`` -> method; the first is taken where a recipe names none."""
DEFAULT_METHOD = next(iter(METHODS))
