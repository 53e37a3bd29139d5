"""Probe a checkpoint: held-out questions, one greedy completion each, every confidence that can be read off it.

Beside it, where ``probe.samples`` asks for them, several completions that are sampled as in training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from estimators.critic import KeptCritic
from estimators.estimator import CRITIC, LEVELS
from estimators.exported import weights_digest
from experiments.config.models import find_model, open_policy
from experiments.config.recipe import VERBALIZED, Recipe
from experiments.errors import ConfigError
from experiments.probe.estimates import Extras, check_files, estimate_generations, with_estimate
from experiments.probe.extras import check_extras, compares_samples, gather_extras
from experiments.probe.generate import Generation, Policy, generate, verify_generations
from experiments.probe.recalibrated import with_recalibrations
from experiments.probe.records import as_records
from rewards.template import AnswerTemplate
from rewards.verifiers.verifier import Verifier
from rl.checkpoint import read_temperature, read_template
from rl.heldout import Answer
from rl.segments import LevelTokens

SAMPLED = "sampled"
"""What the name of a method of sampled completions ends with."""
VALIDATION = "validation"


def probe_checkpoint(
    path: str | Path,
    recipe: Recipe,
    method: str,
    verifier: Verifier,
    *,
    confidence: str = VERBALIZED,
    others: Sequence[str] = (),
    sampled: bool = True,
) -> pd.DataFrame:
    """Records of one checkpoint on the recipe's probe questions, the same completions by one estimator or several.

    ``method`` is measured by the estimator ``confidence``: "verbalized", or a name of the recipe's ``estimators``
    section. Each of ``others`` makes one more method ``<method>_<estimator>``, with the same accuracy and another
    confidence. The template is the one saved beside the weights, or else the recipe's.

    With ``probe.samples`` above 0, that many completions at ``probe.temperature`` of each of the first
    ``probe.sampled_size`` questions are what estimators that compare samples are given, and make a further method
    ``<method>_sampled`` with the confidence of ``method``; ``sampled`` false leaves that out. Each map of
    ``probe.recalibrate`` makes a method ``<method>_<estimator>_<map>``.
    """
    rows = probe_rows(recipe)
    names = (confidence, *others)
    policy = open_checkpoint(path, recipe, method, names)
    check_files(policy, {name: recipe.estimators[name] for name in names if name != VERBALIZED})
    generations, stated = _answered(recipe, policy, rows, method, verifier, f"probe {method}")
    drawn = []
    if recipe.probe.samples and (sampled or compares_samples(recipe, names)):
        drawn = sample_questions(recipe, policy, rows, f"probe {method}_{SAMPLED}")
    read = _estimated(
        recipe,
        names,
        policy,
        generations,
        stated,
        gather_extras(recipe, names, policy, rows, generations, verifier, drawn),
    )
    frames = [frame.assign(method=method if name == confidence else f"{method}_{name}") for name, frame in read.items()]
    answered = partial(_calibration_answers, recipe, policy, verifier, method)
    mapped = with_recalibrations(recipe, read, answered)
    frames += [frame.assign(method=f"{method}_{name}") for name, frame in mapped.items()]
    if sampled and drawn:
        frames.append(_sampled(recipe, confidence, policy, rows, drawn, f"{method}_{SAMPLED}", verifier))
    weights = weights_digest(find_model(path, method, _gguf_file(path, recipe)))
    return as_records(pd.concat(frames, ignore_index=True).assign(weights=weights))


def open_checkpoint(path: str | Path, recipe: Recipe, method: str, names: Sequence[str] = ()) -> Policy:
    """A checkpoint on the device that there is, with the template saved beside its weights, or else the recipe's.

    What a step of the thought is, which is how a completion is read and nothing that it is written by, says the recipe.
    ``names`` are estimators of the recipe whose needs are checked before the weights are loaded. Raises ConfigError,
    naming ``method``, where it cannot be loaded.
    """
    gguf_file = _gguf_file(path, recipe)
    folder = find_model(path, method, gguf_file)
    template = dataclasses.replace(
        read_template(folder) or recipe.template,
        **{name: getattr(recipe.template, name) for name in ("step_separators", "step_min_tokens", "step_max_tokens")},
    )
    critic = _kept_critic(recipe, names, folder)
    model, tokenizer = open_policy(
        path,
        f"probe {method}",
        gguf_file=gguf_file,
        dtype=recipe.model.dtype,
        attn_implementation=recipe.model.attn_implementation,
        check=partial(_check_needs, recipe, names, template),
    )
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    return Policy(model, tokenizer, template, read_temperature(folder), critic)


def _gguf_file(path: str | Path, recipe: Recipe) -> str | None:
    return recipe.model.gguf_file if str(path) == recipe.model.path else None


def _kept_critic(recipe: Recipe, names: Sequence[str], folder: str | Path) -> KeptCritic | None:
    """The checkpoint's critic where one of the estimators reads it. Raises ConfigError where it keeps none."""
    for name in names:
        if name != VERBALIZED and CRITIC in recipe.estimators[name].needs:
            try:
                return KeptCritic.load(folder)
            except ValueError as error:
                raise ConfigError(f"estimators.{name}: {error}") from error
    return None


def sampled_rows(recipe: Recipe, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The question of each completion that :func:`sample_questions` draws."""
    return [row for row in rows[: recipe.probe.sampled_size] for _ in range(recipe.probe.samples)]


def sample_questions(recipe: Recipe, policy: Policy, rows: Sequence[dict[str, Any]], title: str) -> list[Generation]:
    """``probe.samples`` completions of each of the first ``probe.sampled_size`` questions, at ``probe.temperature``."""
    settings = recipe.probe
    return generate(
        policy,
        [row["prompt"] for row in sampled_rows(recipe, rows)],
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
        title=title,
        temperature=settings.temperature,
        seed=settings.seed,
    )


def _answered(
    recipe: Recipe,
    policy: Policy,
    rows: Sequence[dict[str, Any]],
    method: str,
    verifier: Verifier,
    title: str | None,
) -> tuple[list[Generation], pd.DataFrame]:
    """Greedy completions of questions, and their records with the confidence that they state."""
    generations = generate(
        policy,
        [row["prompt"] for row in rows],
        max_new_tokens=recipe.probe.max_new_tokens,
        batch_size=recipe.probe.batch_size,
        title=title,
    )
    return generations, verify_generations(policy, rows, generations, method, verifier, recipe.task.manner)


def _calibration_answers(
    recipe: Recipe, policy: Policy, verifier: Verifier, method: str, names: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """Estimator -> records of the greedy answers to the questions that a recalibration is fitted on."""
    rows = split_rows(recipe, VALIDATION, recipe.probe.recalibration_size)
    generations, stated = _answered(recipe, policy, rows, method, verifier, f"recalibrate {method}")
    return _estimated(recipe, names, policy, generations, stated)


def _sampled(
    recipe: Recipe,
    confidence: str,
    policy: Policy,
    rows: Sequence[dict[str, Any]],
    drawn: Sequence[Generation],
    method: str,
    verifier: Verifier,
) -> pd.DataFrame:
    """Records of several sampled completions of the first questions."""
    stated = verify_generations(policy, sampled_rows(recipe, rows), drawn, method, verifier, recipe.task.manner)
    return _estimated(recipe, [confidence], policy, drawn, stated)[confidence]


def _estimated(
    recipe: Recipe,
    names: Sequence[str],
    policy: Policy,
    generations: Sequence[Generation],
    stated: pd.DataFrame,
    extras: Extras | None = None,
) -> dict[str, pd.DataFrame]:
    """Estimator -> records of the completions with its confidence; ``stated`` has what they state themselves."""
    estimators = {name: recipe.estimators[name] for name in names if name != VERBALIZED}
    estimates = estimate_generations(policy, generations, estimators, batch_size=recipe.probe.batch_size, extras=extras)
    return {
        name: stated if name == VERBALIZED else with_estimate(stated, estimators[name], estimates[name])
        for name in names
    }


def _check_needs(
    recipe: Recipe, names: Sequence[str], template: AnswerTemplate, tokenizer: PreTrainedTokenizerBase
) -> None:
    for name in names:
        if name != VERBALIZED and LEVELS in recipe.estimators[name].needs:
            try:
                LevelTokens.of(tokenizer, template)
            except ValueError as error:
                raise ConfigError(f"estimators.{name}: {error}") from error
    check_extras(recipe, names, tokenizer)


def other_estimators(recipe: Recipe) -> list[str]:
    """The estimators that a recipe asks for besides the one that its checkpoints are measured by."""
    return [each for each in dict.fromkeys((VERBALIZED, *recipe.estimators)) if each != recipe.probe.confidence]


def probe_rows(recipe: Recipe) -> list[dict[str, Any]]:
    """The recipe's held-out questions. Raises ConfigError where the task has no such split or too few questions."""
    return split_rows(recipe, recipe.probe.split, recipe.probe.size)


def validation_rows(recipe: Recipe) -> list[dict[str, Any]]:
    """The questions measured in the middle of training; raises as :func:`probe_rows`.

    They come from the validation split, so that what is chosen by them does not flatter the probe of the end, or from
    the probe's own where the task has none.
    """
    split = VALIDATION if VALIDATION in recipe.task.splits else recipe.probe.split
    return split_rows(recipe, split, recipe.probe.every_size)


def answer_validation(
    recipe: Recipe, rows: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, pool: Verifier
) -> Callable[[PreTrainedModel, Sequence[int]], list[Answer]]:
    """Answers questions of ``rows`` by number, greedily: confidence and correctness, None without one, and both texts.

    The confidence is of the estimator that the recipe is measured by.
    """

    temperature = recipe.trainer.get("temperature", 1.0)

    def answer(model: PreTrainedModel, numbers: Sequence[int]) -> list[Answer]:
        policy, asked = Policy(model, tokenizer, recipe.template, temperature), [rows[number] for number in numbers]
        generations, stated = _answered(recipe, policy, asked, "training", pool, None)
        name = recipe.probe.confidence
        records = _estimated(recipe, [name], policy, generations, stated)[name]
        return [
            Answer(float(confidence) if parsed else None, None if pd.isna(correct) else float(correct), *texts)
            for confidence, parsed, correct, *texts in zip(
                *(records[name] for name in ("confidence", "parsed", "correct", "prompt", "completion")), strict=True
            )
        ]

    return answer


def split_rows(recipe: Recipe, split: str, size: int) -> list[dict[str, Any]]:
    """Questions of a split. Raises ConfigError where the task has no such split or too few questions in it."""
    try:
        return recipe.task.rows(split, size, seed=recipe.probe.seed)
    except (ValueError, OSError) as error:
        raise ConfigError(f"probe: {error}") from error
