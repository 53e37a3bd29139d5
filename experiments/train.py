"""Run one recipe: ``candor train RECIPE [key=value ...]``, or under a launcher ``-m experiments train``.

    accelerate launch --num_processes 2 -m experiments train candor --out runs/candor

A method that trains on the policy's own answers has them written first, into the same folder
(:mod:`experiments.probe.own_answers`); one that goes round several times has a folder a round.

The run's folder holds ``recipe.yaml``, ``metrics.jsonl``, ``alarms.jsonl``, ``completions/`` (a table a
step of what was sampled), ``checkpoint-N/`` while it trains and ``final/`` when it is done; ``failed_batch/`` where an
update failed.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import shutil
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch
import yaml
from datasets import Dataset
from safetensors import SafetensorError
from transformers import Trainer
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from experiments.config.lengths import context_of, fitting_prompts
from experiments.config.methods import METHODS
from experiments.config.models import find_model, lora_config, open_weights
from experiments.config.recipe import Recipe
from experiments.config.trainer import check_batch, check_generation, check_trackers
from experiments.errors import FULL, ConfigError, RunError, Stopped
from experiments.files import locked, writable
from experiments.probe.checkpoint import answer_validation, validation_rows
from experiments.probe.own_answers import check_own_answers
from experiments.probe.self_training import PREPARATIONS, feedback_estimator
from experiments.report.heldout import HeldOutTables
from experiments.schema import differences, parse_yaml
from rl.checkpoint import write_calibration
from rl.deepspeed import reduce_through_gloo
from rl.files import (
    CheckpointError,
    could_not_be_written,
    is_complete,
    last_complete_checkpoint,
    mark_complete,
    write_text,
    writing,
)
from rl.heldout import HeldOutProbe
from rl.monitoring.alarms import RunFacts
from rl.monitoring.callbacks import MetricsFile, WholeCheckpoints
from rl.monitoring.completion_tables import CompletionTables
from rl.monitoring.monitors import Monitors
from rl.monitoring.progress import Progress
from rl.monitoring.stopping import StopOnSignal
from rl.resume import check_layout, check_policy, check_whole
from rl.trainer import FailedUpdateError

FINAL, KEPT_RECIPE = "final", "recipe.yaml"
_DIFFERENCES = 3
"""Keys that a refusal to resume names."""


def train(recipe: Recipe, out: str | Path, *, resume: bool = False) -> Path:
    """Train a recipe in the folder ``out`` and return the path of its final checkpoint.

    With ``resume`` the run goes on from its last complete checkpoint, and ends with the weights of a run that was
    never stopped; a finished run is left as it is. Raises ConfigError, before weights are loaded or the recipe is
    written: for a folder that cannot be written, holds another recipe, or holds a run already and ``resume`` is not
    set; for values that TRL refuses, trackers that are not installed, batches not made of whole groups, broken training
    data and a missing model. Raises RunError where the run ends before it is done: by an alarm, an update that failed
    or a disk that is full; Stopped where SIGTERM or SIGHUP ends it, with a checkpoint. ConfigError too where another
    process writes into the folder.
    """
    check_trackers(recipe.trainer)
    out = Path(out)
    main_process = int(os.environ.get("RANK", "0")) == 0
    with locked(out) if main_process else nullcontext():
        rounds = recipe.trainer.get("rounds", 1)
        run = _train if rounds == 1 else _train_rounds
        return run(recipe, out, resume, main_process)


def _train_rounds(recipe: Recipe, out: Path, resume: bool, main_process: bool) -> Path:
    """Each round is a run of its own, from the policy of the one before it, in ``round-N``; the last one's is final."""
    if main_process:
        check_folder(out, recipe, resume=resume)
    if resume and is_complete(out / FINAL):
        return out / FINAL
    run_arguments(recipe, out)
    rounds, last = recipe.trainer["rounds"], recipe.model.path
    if main_process:
        write_text(out / KEPT_RECIPE, _as_yaml(recipe))
    for number in range(1, rounds + 1):
        folder = out / f"round-{number}"
        source = copy.deepcopy(recipe.source)
        source["model"]["path"] = str(last)
        dropped = ("rounds",) if number == 1 else ("rounds", "own_answers")
        source["trainer"] = {name: value for name, value in source["trainer"].items() if name not in dropped}
        changed = {"trainer": {name: value for name, value in recipe.trainer.items() if name not in dropped}}
        if number > 1:  # what is for the start alone
            for name in ("gguf_file", "add_template_tokens"):
                source["model"].pop(name, None)
            changed["model"] = dataclasses.replace(
                recipe.model, path=str(last), gguf_file=None, add_template_tokens=False
            )
        name = f"{recipe.name}, round {number} of {rounds}"
        run = dataclasses.replace(recipe, name=name, source=source, **changed)
        last = _train(run, folder, (folder / KEPT_RECIPE).exists(), main_process)
    if main_process:
        partial = out / f".{FINAL}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(last, partial)
        os.replace(partial, out / FINAL)
    return out / FINAL


def _train(recipe: Recipe, out: Path, resume: bool, main_process: bool) -> Path:
    if main_process:
        check_folder(out, recipe, resume=resume)
    if resume and is_complete(out / FINAL):
        return out / FINAL
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true" or recipe.trainer.get("deepspeed"):
        reduce_through_gloo()
    # Before the weights: under ZeRO-3 they are split over the ranks while they load only if the arguments are there.
    arguments = run_arguments(recipe, out)
    checkpoint = last_complete_checkpoint(out) if resume else None
    if checkpoint is not None:
        _check_fit(check_whole, checkpoint)
        _check_fit(check_layout, checkpoint, arguments)
    if METHODS[recipe.method].own_answers:
        check_own_answers(arguments, feedback_estimator(recipe, arguments))
    dataset = training_set(recipe, arguments.seed)
    _check_groups(recipe, arguments, len(dataset))
    heldout = validation_rows(recipe) if recipe.probe.every else []
    if recipe.model.critic_path is not None:
        find_model(recipe.model.critic_path, "model.critic_path", recipe.model.gguf_file)
    if recipe.model.reward_path is not None:
        find_model(recipe.model.reward_path, "model.reward_path")
    fitting = dataset
    asks = not METHODS[recipe.method].own_answers or arguments.own_answers is None

    def leave_out_long(tokenizer: Any) -> None:
        nonlocal fitting
        room = (arguments.max_completion_length, context_of(recipe)) if METHODS[recipe.method].rollouts else (0, None)
        fitting = fitting_prompts(recipe, dataset, tokenizer, *room)

    model, tokenizer = open_weights(recipe, recipe.model.path, "model.path", leave_out_long if asks else None)
    progress = Progress(recipe.name)
    # Taken over from transformers, which deletes the last whole checkpoint before the new one is known to be whole.
    limit, arguments.save_total_limit = arguments.save_total_limit, None
    whole = WholeCheckpoints(recipe.template, recipe.rubric, recipe.source, limit)
    stop = StopOnSignal()
    with recipe.task.open_verifier() as verifier, closing(progress), stop.listening():
        callbacks = [MetricsFile(), stop, whole, progress]
        if main_process and METHODS[recipe.method].own_answers and arguments.own_answers is None:
            write_text(out / KEPT_RECIPE, _as_yaml(recipe))  # whose answers they are, should the run be stopped
        if recipe.method in PREPARATIONS:
            fitting = PREPARATIONS[recipe.method].dataset(recipe, arguments, model, tokenizer, verifier, out, fitting)
        trainer = build_trainer(recipe, arguments, model, tokenizer, fitting, verifier, callbacks)
        if checkpoint is not None:
            _check_fit(check_policy, checkpoint, trainer.processing_class)
        if heldout:
            answer = answer_validation(recipe, heldout, tokenizer, verifier)
            tables = HeldOutTables(out, arguments.report_to)
            every = recipe.probe.every
            trainer.add_callback(HeldOutProbe(trainer, answer, size=len(heldout), every=every, measured=tables))
        if METHODS[recipe.method].rollouts:
            trainer.add_callback(CompletionTables(trainer))
        monitors = _monitors(recipe, arguments)
        if monitors is not None:  # first of all, so that every logger writes what it adds to a record
            trainer.callback_handler.callbacks.insert(0, monitors)
        try:
            if main_process:
                write_text(out / KEPT_RECIPE, _as_yaml(recipe))
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
            if stop.received and trainer.state.global_step < trainer.state.max_steps:
                raise Stopped(stop.received, f"checkpoint-{trainer.state.global_step}")
            if monitors is not None and monitors.stopped_by and trainer.state.global_step < trainer.state.max_steps:
                kept = f"checkpoint-{trainer.state.global_step}"
                raise RunError(
                    f"monitors.on_alarm stopped the run: {monitors.stopped_by}; {out / kept} "
                    "holds the policy, and the same command with --resume goes on all the same"
                )
            with writing(out / FINAL):
                trainer.save_model(str(out / FINAL))
                if trainer.is_world_process_zero():
                    write_calibration(out / FINAL, recipe.template, recipe.rubric, recipe.source, tokenizer)
                    mark_complete(out / FINAL, trainer.state.global_step)
        except (FailedUpdateError, CheckpointError) as error:
            raise RunError(str(error)) from error
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise RunError(could_not_be_written(out, error)) from error
        except Exception as error:
            if type(error).__name__ != "UnpicklingError":  # what torch raises where a file holds more than tensors
                raise
            why = str(error).strip().partition("\n")[0]
            raise RunError(f"{checkpoint} cannot be gone on from, it holds what is not plain tensors: {why}") from error
    trainer.accelerator.wait_for_everyone()
    if stop.received:  # in the last step
        raise Stopped(stop.received, FINAL)
    return out / FINAL


def _check_fit(check: Callable[..., None], checkpoint: Path, *of_the_run: Any) -> None:
    try:
        check(checkpoint, *of_the_run)
    except (ValueError, OSError, SafetensorError) as error:
        raise ConfigError(f"--resume: {' '.join(str(error).split())}") from error


def check_folder(out: Path, recipe: Recipe, *, resume: bool) -> None:
    """Make the run's folder. Raises ConfigError for one that cannot be written or holds what this run is not."""
    kept = writable(out) / KEPT_RECIPE
    if not kept.exists():
        return
    if not resume:
        raise ConfigError(f"--out {out}: holds a run already; add --resume to go on with it, or choose another")
    differing = list(differences(parse_yaml(kept.read_text(encoding="utf-8"), str(kept)), recipe.source))
    if differing:
        named = ", ".join(differing[:_DIFFERENCES]) + (", …" if len(differing) > _DIFFERENCES else "")
        raise ConfigError(f"--resume {out}: its {KEPT_RECIPE} differs from the recipe asked for in {named}")


def _as_yaml(recipe: Recipe) -> str:
    return yaml.safe_dump(recipe.source, sort_keys=False)


def run_arguments(recipe: Recipe, out: Path) -> Any:
    """The configuration of a recipe's trainer. Raises ConfigError for values that TRL refuses."""
    check_batch(recipe.trainer, recipe.method)
    check_generation(recipe.trainer)
    method = METHODS[recipe.method]
    try:
        arguments = method.configuration()(output_dir=str(out), **_defaults(recipe), **recipe.trainer)
        method.check(arguments, recipe.template)
        return arguments
    except ConfigError:
        raise
    except ValueError as error:
        message = str(error)
        named = message.startswith(("trainer.", "task."))
        raise ConfigError(message if named else f"trainer: {message}") from error


def training_set(recipe: Recipe, seed: int) -> Dataset:
    """The rows that a recipe trains on. Raises ConfigError for broken data."""
    try:
        rows = METHODS[recipe.method].rows(recipe.task.rows("train"), recipe.template, seed)
    except (ValueError, OSError) as error:
        raise ConfigError(f"task: {error}") from error
    return Dataset.from_list(rows)


def _check_groups(recipe: Recipe, arguments: Any, prompts: int) -> None:
    if not METHODS[recipe.method].rollouts or arguments.difficulty_mix is None:
        return
    groups = arguments.generation_batch_size // arguments.num_generations
    if groups > prompts:
        raise ConfigError(
            f"trainer.difficulty_mix: a batch asks {groups} different prompts and the task has {prompts} to train on"
        )


def build_trainer(recipe, arguments, model, tokenizer, dataset, verifier, callbacks=()) -> Trainer:
    """The trainer of a recipe's method, without transformers' own progress on the terminal."""
    build = METHODS[recipe.method].trainer
    trainer = build(recipe, arguments, model, tokenizer, dataset, verifier, list(callbacks), lora_config(recipe.model))
    trainer.recipe = recipe.source
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    return trainer


def _monitors(recipe: Recipe, arguments: Any) -> Monitors | None:
    """The alarms of a run; None for one without rollouts, which has nothing to watch."""
    if not METHODS[recipe.method].rollouts:
        return None
    closed_form = arguments.confidence_loss_weight > 0
    return Monitors(recipe.monitors, RunFacts.of(recipe.rubric, arguments.scaling, closed_form=closed_form))


def _defaults(recipe: Recipe) -> dict[str, Any]:
    """Ours where they differ from TRL's, for the keys that the recipe leaves open."""
    ours: dict[str, Any] = {"report_to": "none", "logging_steps": 1, "save_total_limit": 2, "bf16": False}
    ours["use_cpu"] = not torch.accelerator.is_available()
    if METHODS[recipe.method].rollouts:
        ours |= {"log_completions": True, "num_completions_to_print": 0}
    for key, variable in (("project", "TRACKIO_PROJECT"), ("run_name", "TRACKIO_RUN_NAME")):
        if "trackio" in recipe.trainer.get("report_to", "none") and variable in os.environ:
            ours[key] = os.environ[variable]
    return {name: value for name, value in ours.items() if name not in recipe.trainer}
