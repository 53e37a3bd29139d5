"""Updates that are looked at before they are made: a loss or gradient that is no number, or too large, ends the run.

The batch is put away first, with all that ``candor replay`` needs to make the update again (:mod:`rl.saved_batches`).
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate.utils import DistributedType

from rl.files import write_json, writing
from rl.saved_batches import MicroBatch, random_states, write_micro_batches

FAILED_BATCH, SAVED_BATCHES = "failed_batch", "batches"


class FailedUpdateError(RuntimeError):
    """An update that must not be made; the message says why and where its batch is."""


@dataclass
class GuardConfig:
    """Fields that every trainer's configuration has more than TRL's."""

    exploding_grad_norm: float = field(
        default=0.0,
        metadata={
            "help": "Gradient norm, before clipping, above which a run ends with its batch saved for candor replay; "
            "0: only where loss or gradient is no finite number."
        },
    )
    save_batch_at: list[int] = field(
        default_factory=list, metadata={"help": "Steps, from 1, whose update is saved in batches/ for candor replay."}
    )

    def __post_init__(self) -> None:
        if not self.exploding_grad_norm >= 0:
            raise ValueError(f"trainer.exploding_grad_norm: {self.exploding_grad_norm} is below 0")
        for step in self.save_batch_at:
            if isinstance(step, bool) or not isinstance(step, int) or step < 1:
                raise ValueError(f"trainer.save_batch_at: {step!r} is no step, expected whole numbers from 1")
        super().__post_init__()


class GuardedUpdates:
    """A trainer's updates, kept until they are made; to stand before a ``Trainer`` among the bases of a class.

    The inputs kept are those that the trainer itself holds on to; nothing is copied but the random state. Under
    DeepSpeed a gradient is looked at only after the engine has made the step: the weights saved are those behind it.
    With fp16 the loss scaler skips updates that are no finite numbers, so that they are not looked at.
    """

    recipe: Mapping[str, Any] | None = None
    """Written beside a saved batch, for ``candor replay``."""
    guards = True
    """Whether an update may end the run; off where one is made again to look at it."""
    _micro_batches: tuple[MicroBatch, ...] = ()
    _losses: tuple[float, ...] = ()
    _update_is_over = True

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if not model.training or not self.guards:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if self._update_is_over:
            self._micro_batches, self._losses, self._update_is_over = (), (), False
        self._micro_batches += (MicroBatch(dict(inputs), num_items_in_batch, random_states()),)
        result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        self._losses += ((result[0] if return_outputs else result).detach().mean().item(),)
        if not self.args.fp16 and self._on_any_rank(not math.isfinite(self._losses[-1])):
            self._fail(f"the loss is {self._losses[-1]}", None)
        return result

    def _get_grad_norm(self, model, grad_norm=None):
        grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        norm, limit = float(grad_norm), self.args.exploding_grad_norm
        if not math.isfinite(norm) and not self.args.fp16:
            self._fail(f"the gradient norm is {norm}", norm)
        if limit and math.isfinite(norm) and norm > limit:
            self._fail(f"the gradient norm {norm:.4g} is above trainer.exploding_grad_norm {limit:g}", norm)
        step = self.state.global_step + 1
        if step in self.args.save_batch_at:
            self._save_update(Path(self.args.output_dir) / SAVED_BATCHES / f"step-{step}", None, norm)
        self._update_is_over = True
        return grad_norm

    def _save_checkpoint(self, model, trial):
        with writing(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"):
            super()._save_checkpoint(model, trial)

    def _on_any_rank(self, flag: bool) -> bool:
        if self.accelerator.num_processes == 1:
            return flag
        flags = torch.tensor([float(flag)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(flags, reduction="sum").item())

    def _fail(self, reason: str, grad_norm: float | None) -> None:
        folder, step = Path(self.args.output_dir) / FAILED_BATCH, self.state.global_step + 1
        self._save_update(folder, reason, grad_norm)
        raise FailedUpdateError(
            f"step {step}: {reason}; the update was not made, candor replay {folder} shows where it comes from"
        )

    def _save_update(self, folder: Path, reason: str | None, grad_norm: float | None) -> None:
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        if self.accelerator.is_main_process:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        write_micro_batches(folder, rank, self._micro_batches)
        self.save_model(str(folder))
        losses = torch.tensor(self._losses, dtype=torch.float64, device=self.accelerator.device)
        losses = self.accelerator.reduce(losses, reduction="mean").tolist()
        if self.accelerator.is_main_process:
            (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle, and the recipe says it all
            if self.recipe is not None:
                (folder / "recipe.yaml").write_text(yaml.safe_dump(dict(self.recipe), sort_keys=False), "utf-8")
            after_step = grad_norm is not None and self.accelerator.distributed_type == DistributedType.DEEPSPEED
            update = {
                "step": self.state.global_step + 1,
                "max_steps": self.state.max_steps,
                "reason": reason,
                "loss": [None if not math.isfinite(loss) else loss for loss in losses],
                "grad_norm": grad_norm if grad_norm is not None and math.isfinite(grad_norm) else None,
                "processes": processes,
                "accumulation": self.current_gradient_accumulation_steps,
                "weights": "after the step" if after_step else "before the step",
            }
            write_json(folder / "update.json", update)
        self.accelerator.wait_for_everyone()
