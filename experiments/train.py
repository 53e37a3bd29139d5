"""Run one recipe: ``candor train RECIPE [key=value ...]``, or under a launcher ``-m experiments.train``.

    accelerate launch --num_processes 2 -m experiments.train candor --out runs/candor

The run's folder holds ``recipe.yaml``, ``metrics.jsonl``, ``completions/`` (a table of every sampled completion),
``checkpoint-N/`` while it trains and ``final/`` when it is done.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import yaml
from datasets import Dataset
from transformers import Trainer
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from experiments.config import ConfigError, Recipe
from experiments.tiny import resolve_model
from rewards.verifiers.pool import VerifierPool
from rl.callbacks import MetricsFile, Progress, WholeCheckpoints
from rl.checkpoint import add_template_tokens, last_complete_checkpoint, load_policy, write_calibration

FINAL = "final"


def train(recipe: Recipe, out: str | Path, *, resume: bool = False) -> Path:
    """Train a recipe in the folder ``out`` and return the path of its final checkpoint.

    With ``resume`` the run goes on from its last complete checkpoint, and ends with the weights of a run that was
    never stopped; a finished run is left as it is. Raises ConfigError where the folder cannot be written, holds
    another recipe, or holds a run already and ``resume`` is not set.
    """
    out = Path(out)
    prepare_folder(out, recipe, resume=resume)
    if resume and (out / FINAL / "calibration").is_dir():
        return out / FINAL
    rows = recipe.task.rows("train")
    model, tokenizer = load_policy(
        resolve_model(recipe.model.path),
        gguf_file=recipe.model.gguf_file,
        dtype=recipe.model.dtype,
        attn_implementation=recipe.model.attn_implementation,
    )
    if recipe.model.add_template_tokens:
        add_template_tokens(model, tokenizer, recipe.template)
    callbacks = [MetricsFile(), WholeCheckpoints(recipe.template, recipe.rubric, recipe.source), Progress(recipe.name)]
    build = {"grpo": _grpo_trainer, "sft": _sft_trainer}[recipe.method]
    with VerifierPool() as verifier:
        trainer = build(recipe, out, model, tokenizer, rows, verifier, callbacks)
        trainer.remove_callback(ProgressCallback)
        trainer.remove_callback(PrinterCallback)
        checkpoint = last_complete_checkpoint(out) if resume else None
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        trainer.save_model(str(out / FINAL))
        if trainer.is_world_process_zero():
            write_calibration(out / FINAL, recipe.template, recipe.rubric, recipe.source)
    trainer.accelerator.wait_for_everyone()
    return out / FINAL


def prepare_folder(out: Path, recipe: Recipe, *, resume: bool) -> None:
    """Make the run's folder and write its recipe. Raises ConfigError for a folder that will not do."""
    kept = out / "recipe.yaml"
    text = yaml.safe_dump(recipe.source, sort_keys=False)
    if int(os.environ.get("RANK", "0")) > 0:
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        if kept.exists():
            if not resume:
                raise ConfigError(f"--out {out}: holds a run already; add --resume to go on with it, or choose another")
            if kept.read_text(encoding="utf-8") != text:
                raise ConfigError(f"--resume {out}: its recipe.yaml differs from the recipe asked for")
        kept.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written: {error.strerror}") from error


def _grpo_trainer(recipe, out, model, tokenizer, rows, verifier, callbacks) -> Trainer:
    from rl.grpo import CalibratedGRPOConfig, CalibratedGRPOTrainer

    arguments = CalibratedGRPOConfig(output_dir=str(out), **_defaults(recipe), **recipe.trainer)
    return CalibratedGRPOTrainer(
        model,
        rubric=recipe.rubric,
        template=recipe.template,
        verifier=verifier,
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": row["prompt"], "answer": row["answer"]} for row in rows]),
        processing_class=tokenizer,
        callbacks=callbacks,
        peft_config=_lora(recipe),
    )


def _sft_trainer(recipe, out, model, tokenizer, rows, verifier, callbacks) -> Trainer:
    from trl import SFTConfig, SFTTrainer

    from rl.supervised import supervised_rows

    arguments = SFTConfig(output_dir=str(out), **_defaults(recipe), **recipe.trainer)
    return SFTTrainer(
        model,
        args=arguments,
        train_dataset=Dataset.from_list(supervised_rows(rows, recipe.template, arguments.seed)),
        processing_class=tokenizer,
        callbacks=callbacks,
        peft_config=_lora(recipe),
    )


def _defaults(recipe: Recipe) -> dict[str, Any]:
    """Ours where they differ from TRL's, for the keys that the recipe leaves open."""
    ours: dict[str, Any] = {"report_to": "none", "logging_steps": 1, "save_total_limit": 2, "bf16": False}
    ours["use_cpu"] = not torch.accelerator.is_available()
    if recipe.method == "grpo":
        ours |= {"log_completions": True, "num_completions_to_print": 0}
    return {name: value for name, value in ours.items() if name not in recipe.trainer}


def _lora(recipe: Recipe):
    if recipe.model.lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(task_type="CAUSAL_LM", **recipe.model.lora)


def quiet() -> None:
    """Offline, without telemetry, and without the libraries' notices that tell a user nothing to act on."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    os.environ.setdefault("DS_LOG_LEVEL", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    logging.getLogger("deepspeed").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(torch|transformers|accelerate|deepspeed)(\..*)?")


def main() -> None:
    """Entry for launchers, which start a module once a rank."""
    from experiments.cli import main as cli

    sys.exit(cli(["train", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
