"""The ``trainer`` section of a recipe: fields of TRL's configuration by their own names, and the batch they make."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import json
import os
from typing import Any

from experiments.config.methods import DEFAULT_METHOD, METHODS
from experiments.errors import ConfigError
from experiments.schema import Range, check_ranges, checked_fields, known_keys, number_of, one_of
from rewards.completion import STATED
from rewards.rubric import Rubric
from rewards.template import AnswerTemplate

_GIVEN_TO_SCHEDULES = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"}
"""What a schedule of the learning rate gets from the trainer and not from a recipe."""

_SAID_ELSEWHERE = {
    "output_dir": "the run's folder is given by --out",
    "resume_from_checkpoint": "a run goes on from its own folder with --out and --resume",
}
"""Fields that a recipe cannot have, and how that is said instead."""
_NO_TRACKER = {"none", "all", "azure_ml", "flyte"}
"""What ``report_to`` may say besides trackers of which transformers knows whether they are installed."""

_RANGES: dict[str, Range] = {
    "learning_rate": (lambda value: value >= 0, "at least 0"),
    "weight_decay": (lambda value: value >= 0, "at least 0"),
    "adam_beta1": (lambda value: 0 <= value < 1, "from 0 to below 1"),
    "adam_beta2": (lambda value: 0 <= value < 1, "from 0 to below 1"),
    "adam_epsilon": (lambda value: value >= 0, "at least 0"),
    "max_grad_norm": (lambda value: value >= 0, "at least 0, which clips nothing"),
    "max_steps": (lambda value: value == -1 or value >= 1, "at least 1, or -1 for trainer.num_train_epochs"),
    "num_train_epochs": (lambda value: value > 0, "above 0"),
    "temperature": (lambda value: value > 0, "above 0"),
    "top_p": (lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "top_k": (lambda value: value >= 0, "at least 0, which cuts nothing off"),
    "min_p": (lambda value: 0 <= value <= 1, "from 0 to 1"),
    "repetition_penalty": (lambda value: value > 0, "above 0"),
    "max_completion_length": (lambda value: value >= 1, "at least 1"),
    "max_length": (lambda value: value >= 1, "at least 1"),
    "num_iterations": (lambda value: value >= 1, "at least 1"),
    "epsilon": (lambda value: value >= 0, "at least 0"),
    "epsilon_high": (lambda value: value >= 0, "at least 0"),
    "beta": (lambda value: value >= 0, "at least 0"),
    "per_device_train_batch_size": (lambda value: value >= 1, "at least 1"),
    "gradient_accumulation_steps": (lambda value: value >= 1, "at least 1"),
    "steps_per_generation": (lambda value: value >= 1, "at least 1"),
    "generation_batch_size": (lambda value: value >= 1, "at least 1"),
    "num_generations": (lambda value: value >= 1, "at least 1"),
    "warmup_steps": (lambda value: value >= 0, "at least 0"),
    "top_entropy_quantile": (lambda value: 0 <= value <= 1, "from 0 to 1"),
    "vllm_gpu_memory_utilization": (lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "vllm_max_model_length": (lambda value: value >= 1, "at least 1"),
    "vllm_tensor_parallel_size": (lambda value: value >= 1, "at least 1"),
    "vllm_server_port": (lambda value: 0 < value < 2**16, "from 1 to 65535"),
    "vllm_group_port": (lambda value: 0 < value < 2**16, "from 1 to 65535"),
    "vllm_server_timeout": (lambda value: value > 0, "above 0"),
    "logging_steps": (lambda value: value > 0, "above 0"),
    "dataloader_num_workers": (lambda value: value >= 0, "at least 0"),
    "save_steps": (lambda value: value > 0, "above 0"),
    "save_total_limit": (lambda value: value >= 1, "at least 1"),
    "seed": (lambda value: 0 <= value < 2**32, "from 0 to below 2**32"),
    "data_seed": (lambda value: 0 <= value < 2**32, "from 0 to below 2**32"),
}
"""Fields that transformers and TRL take as they come and read late: what is allowed, and in words."""


def check_trainer(method: str, values: dict[str, Any], template: AnswerTemplate, rubric: Rubric) -> dict[str, Any]:
    """The section's values in the types of their fields.

    Raises ConfigError for what is not a field of the method's configuration, not of its type or out of its range, for
    the run's folder,
    for an evaluation, for options of the learning rate's schedule that it does not take, for a closed-form loss with
    nothing to take in closed form, for a signal of the rubric that training does not read, and for a rubric that asks
    for groups where the method has none.
    """
    for name, instead in _SAID_ELSEWHERE.items():
        if name in values:
            raise ConfigError(f"trainer.{name}: {instead}")
    kind = METHODS[method].configuration()
    shown = f"the fields of {kind.__name__}, method {method}"
    checked = checked_fields(kind, values, "trainer", required=False, shown=shown)
    if checked.get("eval_strategy", "no") != "no":
        raise ConfigError(
            f"trainer.eval_strategy: {checked['eval_strategy']!r} needs an evaluation set and a recipe has none, only "
            "'no' is allowed; candor probe measures each checkpoint on held-out questions"
        )
    check_ranges("trainer", {name: value for name, value in checked.items() if value is not None}, _RANGES)
    _check_schedule(checked, kind)
    for name in _trackers(checked):
        from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

        one_of("trainer.report_to", name, ("none", "all", *INTEGRATION_TO_CALLBACK))
    if rubric.signals:
        _check_signals(rubric)
    if METHODS[method].rollouts:
        try:
            METHODS[method].check_rubric(rubric, checked.get("num_generations", kind.num_generations))
        except ValueError as error:
            raise ConfigError(str(error)) from error
    if checked.get("vllm_mode"):
        one_of("trainer.vllm_mode", checked["vllm_mode"], ("server", "colocate"))
    if checked.get("trained_tokens") == "confidence":
        if template.confidence == template.prior_confidence == "none":
            raise ConfigError("trainer.trained_tokens: 'confidence' needs one, task.template.confidence is 'none'")
        weighted = zip(rubric.segments, rubric.weights, strict=True)
        if not any(weight and set(STATED) & set(segments) for segments, weight in weighted):
            raise ConfigError(
                "trainer.trained_tokens: 'confidence' leaves nothing to train, no term of the rubric is credited to "
                "the confidence; add one, such as rubric.log.weight=0.1"
            )
    if checked.get("confidence_loss_weight"):
        if template.levels is None:
            raise ConfigError(
                "trainer.confidence_loss_weight: the closed form needs task.template.levels, a known set of confidences"
            )
        if not any(weight and field for weight, field in zip(rubric.weights, rubric.pays_for, strict=True)):
            raise ConfigError(
                "trainer.confidence_loss_weight: has nothing to take in closed form, no term of the rubric depends on "
                "the confidence; add one, such as rubric.brier.weight=1"
            )
    return checked


def _check_schedule(trainer: dict[str, Any], kind: type) -> None:
    """Raise ConfigError for ``lr_scheduler_kwargs`` that the schedule does not take, by building and stepping one.

    Texts that are numbers become numbers in ``trainer``.
    """
    key, options = "trainer.lr_scheduler_kwargs", trainer.get("lr_scheduler_kwargs")
    if isinstance(options, str):  # transformers reads JSON in a text
        try:
            options = json.loads(options)
        except ValueError as error:
            raise ConfigError(f"{key}: {options!r} is neither a mapping nor JSON: {error}") from error
    if not options:
        return
    if not isinstance(options, dict):
        raise ConfigError(f"{key}: {options!r} is not a mapping")
    import torch  # which the configuration's class has imported by now
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION, SchedulerType, get_scheduler

    options = trainer["lr_scheduler_kwargs"] = {name: number_of(value) for name, value in options.items()}
    schedule = SchedulerType(trainer.get("lr_scheduler_type", kind.lr_scheduler_type))
    taken = inspect.signature(TYPE_TO_SCHEDULER_FUNCTION[schedule]).parameters
    if not any(each.kind is each.VAR_KEYWORD for each in taken.values()):
        names = [name for name in taken if name not in _GIVEN_TO_SCHEDULES]
        known_keys(key, options, names, None if names else f"none, {schedule.value} takes no options")
    rate, steps = trainer.get("learning_rate", kind.learning_rate), max(trainer.get("max_steps", 0), 1)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
    try:
        built = get_scheduler(schedule, optimizer, 0, steps, scheduler_specific_kwargs=options)
        if isinstance(built, torch.optim.lr_scheduler.LambdaLR):  # the others are stepped with a metric
            optimizer.step()
            built.step()
    except Exception as error:  # of any kind: it is what the values lead to in a library's formula
        said = f"{options!r} does not suit lr_scheduler_type {schedule.value}: {' '.join(str(error).split())}"
        raise ConfigError(f"{key}: {said}") from error


def _check_signals(rubric: Rubric) -> None:
    from rl.signals import SIGNALS, unreadable  # imports torch, which the configuration's class has done by now

    for term in rubric.terms:
        for field in dataclasses.fields(term):
            if "signal" not in field.name:
                continue
            # The terms that rank completions by one `signal` take the stated confidence as well.
            allowed = (*SIGNALS, "confidence") if field.name == "signal" else SIGNALS
            value = getattr(term, field.name)
            for name in value if isinstance(value, tuple) else (value,):
                if beyond := unreadable(name) if name in term.signals else []:
                    needs = f"{name} needs {', '.join(beyond)}, which training does not give"
                    raise ConfigError(f"rubric.{term.name}.{field.name}: {needs}")
                if name in term.signals:  # a soft target's signal is read for that target only
                    one_of(f"rubric.{term.name}.{field.name}", name, allowed)


def check_generation(trainer: dict[str, Any]) -> None:
    """Raise ConfigError where a run is to generate with vLLM and vLLM is not installed. For training only."""
    if trainer.get("use_vllm") and importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            "trainer.use_vllm: vLLM is not installed; the extra vllm installs it: pip install 'candor-rl[vllm]'"
        )


def check_trackers(trainer: dict[str, Any]) -> None:
    """Raise ConfigError where what a run is to report to is not installed. For training only."""
    if trackers := set(_trackers(trainer)) - _NO_TRACKER:
        from transformers.integrations.integration_utils import get_available_reporting_integrations

        if missing := sorted(trackers.difference(get_available_reporting_integrations())):
            raise ConfigError(f"trainer.report_to: {missing[0]} is not installed")


def _trackers(trainer: dict[str, Any]) -> list[str]:
    given = trainer.get("report_to") or "none"
    return [given] if isinstance(given, str) else list(given)


def check_batch(trainer: dict[str, Any], method: str = DEFAULT_METHOD, processes: int | None = None) -> None:
    """Raise ConfigError where a batch, over the processes of this launch, is not made of whole groups.

    A method without rollouts has no groups, and any batch suits it. ``processes`` is for a launcher, which is none of
    them. For training only: a recipe that was launched on many processes is probed on one.
    """
    if not METHODS[method].rollouts:
        return
    defaults, fewest = METHODS[method].configuration(), METHODS[method].fewest_generations
    group, per_device, accumulation = (
        getattr(defaults, name) if trainer.get(name) is None else trainer[name]
        for name in ("num_generations", "per_device_train_batch_size", "gradient_accumulation_steps")
    )
    processes = processes or int(os.environ.get("WORLD_SIZE", "1"))
    steps = trainer.get("steps_per_generation") or accumulation
    asked, at_once = trainer.get("generation_batch_size"), per_device * processes
    if asked is not None and asked % at_once:
        below, above = asked // at_once * at_once, -(-asked // at_once) * at_once
        raise ConfigError(
            f"trainer.generation_batch_size: {asked} is no multiple of {at_once}, {per_device} a device x {processes} "
            f"processes; use {f'{below} or {above}' if below else above}"
        )
    batch = asked or at_once * steps
    if group < fewest:
        why = ", a group needs siblings to compare with" if fewest > 1 else ""
        raise ConfigError(f"trainer.num_generations: {group} is below {fewest}{why}")
    if batch % group:
        below, above = batch // group * group, -(-batch // group) * group
        allowed = f"{below} or {above}" if below else f"{above}"
        raise ConfigError(
            f"trainer.num_generations: {group} does not divide the generation batch of {batch} completions, "
            f"{per_device} a device x {processes} processes x {steps} steps a generation; use a batch of {allowed}"
        )
