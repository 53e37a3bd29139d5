"""Run one recipe: ``candor train RECIPE [key=value ...]``, or under a launcher ``-m experiments.train``.

    accelerate launch --num_processes 2 -m experiments.train candor --out runs/candor

The run's folder holds ``recipe.yaml``, ``metrics.jsonl``, ``completions/`` (a table of every sampled completion),
``checkpoint-N/`` while it trains and ``final/`` when it is done.
"""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
import yaml
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from experiments.config import Recipe
from experiments.errors import ConfigError
from experiments.folders import writable
from experiments.models import find_model, open_policy
from experiments.schema import from_mapping
from experiments.trainer_section import check_batch, trainer_arguments
from rewards.verifiers.pool import VerifierPool
from rl.callbacks import MetricsFile, Progress, WholeCheckpoints
from rl.checkpoint import add_template_tokens, last_complete_checkpoint, write_calibration
from rl.supervised import supervised_rows

FINAL, KEPT_RECIPE = "final", "recipe.yaml"


def train(recipe: Recipe, out: str | Path, *, resume: bool = False) -> Path:
    """Train a recipe in the folder ``out`` and return the path of its final checkpoint.

    With ``resume`` the run goes on from its last complete checkpoint, and ends with the weights of a run that was
    never stopped; a finished run is left as it is. Raises ConfigError, before weights are loaded or the recipe is
    written: for a folder that cannot be written, holds another recipe, or holds a run already and ``resume`` is not
    set; for values that TRL refuses, batches not made of whole groups, broken training data and a missing model.
    """
    out = Path(out)
    main_process = int(os.environ.get("RANK", "0")) == 0
    if main_process:
        check_folder(out, recipe, resume=resume)
    if resume and (out / FINAL / "calibration").is_dir():
        return out / FINAL
    # Before the weights: under ZeRO-3 they are split over the ranks while they load only if the arguments are there.
    arguments, lora = _arguments(recipe, out), _lora(recipe)
    dataset = _training_set(recipe, arguments.seed)
    if recipe.model.critic_path is not None:
        find_model(recipe.model.critic_path, "model.critic_path", recipe.model.gguf_file)
    model, tokenizer = _open(recipe, recipe.model.path, "model.path")
    progress = Progress(recipe.name)
    callbacks = [MetricsFile(), WholeCheckpoints(recipe.template, recipe.rubric, recipe.source), progress]
    build = {"grpo": _grpo_trainer, "ppo": _ppo_trainer, "sft": _sft_trainer}[recipe.method]
    with VerifierPool() as verifier, closing(progress):
        trainer = build(recipe, arguments, model, tokenizer, dataset, verifier, callbacks, lora)
        trainer.remove_callback(ProgressCallback)
        trainer.remove_callback(PrinterCallback)
        if main_process:
            (out / KEPT_RECIPE).write_text(_as_yaml(recipe), encoding="utf-8")
        checkpoint = last_complete_checkpoint(out) if resume else None
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        trainer.save_model(str(out / FINAL))
        if trainer.is_world_process_zero():
            write_calibration(out / FINAL, recipe.template, recipe.rubric, recipe.source)
    trainer.accelerator.wait_for_everyone()
    return out / FINAL


def check_folder(out: Path, recipe: Recipe, *, resume: bool) -> None:
    """Make the run's folder. Raises ConfigError for one that cannot be written or holds what this run is not."""
    kept = writable(out) / KEPT_RECIPE
    if not kept.exists():
        return
    if not resume:
        raise ConfigError(f"--out {out}: holds a run already; add --resume to go on with it, or choose another")
    if kept.read_text(encoding="utf-8") != _as_yaml(recipe):
        raise ConfigError(f"--resume {out}: its {KEPT_RECIPE} differs from the recipe asked for")


def _as_yaml(recipe: Recipe) -> str:
    return yaml.safe_dump(recipe.source, sort_keys=False)


def _arguments(recipe: Recipe, out: Path) -> Any:
    if recipe.method != "sft":
        check_batch(recipe.trainer, recipe.method)
    try:
        return trainer_arguments(recipe.method)(output_dir=str(out), **_defaults(recipe), **recipe.trainer)
    except ValueError as error:
        message = str(error)
        raise ConfigError(message if message.startswith("trainer.") else f"trainer: {message}") from error


def _open(recipe: Recipe, path: str, key: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    section = recipe.model
    model, tokenizer = open_policy(
        path, key, gguf_file=section.gguf_file, dtype=section.dtype, attn_implementation=section.attn_implementation
    )
    if section.add_template_tokens:
        add_template_tokens(model, tokenizer, recipe.template)
    return model, tokenizer


def _training_set(recipe: Recipe, seed: int) -> Dataset:
    try:
        rows = recipe.task.rows("train")
        if recipe.method == "sft":
            return Dataset.from_list(supervised_rows(rows, recipe.template, seed))
    except (ValueError, OSError) as error:
        raise ConfigError(f"task: {error}") from error
    return Dataset.from_list([{"prompt": row["prompt"], "answer": row["answer"]} for row in rows])


def _grpo_trainer(recipe, arguments, model, tokenizer, dataset, verifier, callbacks, lora) -> Trainer:
    from rl.grpo import CalibratedGRPOTrainer

    _check_levels(recipe, arguments, tokenizer)
    return CalibratedGRPOTrainer(
        model,
        rubric=recipe.rubric,
        template=recipe.template,
        verifier=verifier,
        args=arguments,
        train_dataset=dataset,
        processing_class=tokenizer,
        callbacks=callbacks,
        peft_config=lora,
    )


def _ppo_trainer(recipe, arguments, model, tokenizer, dataset, verifier, callbacks, lora) -> Trainer:
    from rl.critic import check_vocabulary
    from rl.ppo import CalibratedPPOTrainer

    _check_levels(recipe, arguments, tokenizer)
    critic = None
    if arguments.value_model == "separate":
        path, key = recipe.model.critic_path, "model.critic_path"
        critic, _ = _open(recipe, path, key) if path else _open(recipe, recipe.model.path, "model.path")
        try:
            check_vocabulary(model, critic)
        except ValueError as error:
            raise ConfigError(str(error)) from error
    return CalibratedPPOTrainer(
        model,
        critic=critic,
        rubric=recipe.rubric,
        template=recipe.template,
        verifier=verifier,
        args=arguments,
        train_dataset=dataset,
        processing_class=tokenizer,
        callbacks=callbacks,
        peft_config=lora,
    )


def _check_levels(recipe: Recipe, arguments: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    from rl.closed_form import level_token_ids

    if arguments.confidence_loss_weight:
        try:
            level_token_ids(tokenizer, recipe.template.levels)
        except ValueError as error:
            raise ConfigError(str(error)) from error


def _sft_trainer(recipe, arguments, model, tokenizer, dataset, verifier, callbacks, lora) -> Trainer:
    from trl import SFTTrainer

    return SFTTrainer(
        model,
        args=arguments,
        train_dataset=dataset,
        processing_class=tokenizer,
        callbacks=callbacks,
        peft_config=lora,
    )


def _defaults(recipe: Recipe) -> dict[str, Any]:
    """Ours where they differ from TRL's, for the keys that the recipe leaves open."""
    ours: dict[str, Any] = {"report_to": "none", "logging_steps": 1, "save_total_limit": 2, "bf16": False}
    ours["use_cpu"] = not torch.accelerator.is_available()
    if recipe.method != "sft":
        ours |= {"log_completions": True, "num_completions_to_print": 0}
    return {name: value for name, value in ours.items() if name not in recipe.trainer}


def _lora(recipe: Recipe):
    if recipe.model.lora is None:
        return None
    from peft import LoraConfig

    return from_mapping(LoraConfig, {"task_type": "CAUSAL_LM"} | recipe.model.lora, "model.lora")


def main() -> None:
    """Entry for launchers, which start a module once a rank."""
    from experiments.cli import main as cli

    sys.exit(cli(["train", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
