"""What all three trainers share: updates that are looked at before they are made, and a resume that changes nothing.

A loss or gradient that is not a finite number, or is too large, ends the run. Its batch is put away first, with all
that ``candor replay`` needs to make the update again (:mod:`rl.saved_batches`). A checkpoint holds, beside what
transformers writes, whatever else the next step depends on, so that a run that was stopped ends as one that was not.

Overrides of transformers' ``Trainer``: ``compute_loss``, ``_get_grad_norm``, ``_save_checkpoint``,
``_load_optimizer_and_scheduler``.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
import yaml
from accelerate.utils import DistributedType
from transformers import Trainer

from rl.files import write_json, writing
from rl.resume import read_counters, write_progress
from rl.saved_batches import MicroBatch, random_states, write_micro_batches

FAILED_BATCH, SAVED_BATCHES = "failed_batch", "batches"


class FailedUpdateError(RuntimeError):
    """An update that must not be made; the message says why and where its batch is."""


@dataclass
class OpenUpdate:
    """An update before its step: the micro-batches so far, and the loss of each of them on this rank."""

    micro_batches: list[MicroBatch] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


class GuardedTrainer(Trainer):
    """A trainer whose updates are guarded and whose resume is exact; to stand before TRL's trainer among the bases.

    The inputs of an update are kept until its step is made: those that the trainer itself holds on to, so that nothing
    is copied but the random state. Under DeepSpeed a gradient is looked at only after the engine has made the step: the
    weights saved are those behind it. With fp16 the loss scaler skips updates that are not finite numbers, so that they
    are not looked at.
    """

    recipe: Mapping[str, Any] | None = None
    """Written beside a saved batch, for ``candor replay``."""
    guards = True
    """Whether an update may end the run; off where one is made again to look at it."""
    counters: ClassVar[tuple[str, ...]] = ()
    """Attributes that a subclass counts in, which a resumed run counts on from."""
    _update: OpenUpdate | None = None

    # -- guarded updates -----------------------------------------------------------------------------------------------
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if not model.training or not self.guards:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        self.look_at(model, inputs)
        self._update = update = self._update or OpenUpdate()
        update.micro_batches.append(MicroBatch(dict(inputs), num_items_in_batch, random_states()))
        result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss = (result[0] if return_outputs else result).detach().mean().item()
        update.losses.append(loss)
        if not self.args.fp16 and self._on_any_rank(not math.isfinite(loss)):
            self._fail(update, f"the loss is {loss}", None)
        return result

    def _get_grad_norm(self, model, grad_norm=None):
        grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        update, self._update = self._update or OpenUpdate(), None
        norm, limit = float(grad_norm), self.args.exploding_grad_norm
        if not math.isfinite(norm) and not self.args.fp16:
            self._fail(update, f"the gradient norm is {norm}", norm)
        if limit and math.isfinite(norm) and norm > limit:
            self._fail(update, f"the gradient norm {norm:.4g} is above trainer.exploding_grad_norm {limit:g}", norm)
        step = self.state.global_step + 1
        if step in self.args.save_batch_at:
            self._save_update(update, Path(self.args.output_dir) / SAVED_BATCHES / f"step-{step}", None, norm)
        return grad_norm

    def look_at(self, model: torch.nn.Module, inputs: dict[str, Any]) -> None:
        """Measure a micro-batch before its update, without changing that; to be extended."""

    def _on_any_rank(self, flag: bool) -> bool:
        if self.accelerator.num_processes == 1:
            return flag
        flags = torch.tensor([float(flag)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(flags, reduction="sum").item())

    def _fail(self, update: OpenUpdate, reason: str, grad_norm: float | None) -> None:
        folder, step = Path(self.args.output_dir) / FAILED_BATCH, self.state.global_step + 1
        self._save_update(update, folder, reason, grad_norm)
        raise FailedUpdateError(
            f"step {step}: {reason}; the update was not made, candor replay {folder} shows where it comes from"
        )

    def _save_update(self, update: OpenUpdate, folder: Path, reason: str | None, grad_norm: float | None) -> None:
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        if self.accelerator.is_main_process:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        write_micro_batches(folder, rank, update.micro_batches)
        self.save_model(str(folder))
        losses = torch.tensor(update.losses, dtype=torch.float64, device=self.accelerator.device)
        losses = self.accelerator.reduce(losses, reduction="mean").tolist()
        if self.accelerator.is_main_process:
            (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle, and the recipe says it all
            if self.recipe is not None:
                (folder / "recipe.yaml").write_text(yaml.safe_dump(dict(self.recipe), sort_keys=False), "utf-8")
            after_step = grad_norm is not None and self.accelerator.distributed_type == DistributedType.DEEPSPEED
            record = {
                "step": self.state.global_step + 1,
                "max_steps": self.state.max_steps,
                "reason": reason,
                "loss": [None if not math.isfinite(loss) else loss for loss in losses],
                "grad_norm": grad_norm if grad_norm is not None and math.isfinite(grad_norm) else None,
                "processes": processes,
                "accumulation": self.current_gradient_accumulation_steps,
                "weights": "after the step" if after_step else "before the step",
            }
            write_json(folder / "update.json", record)
        self.accelerator.wait_for_everyone()

    # -- exact resume --------------------------------------------------------------------------------------------------
    def _save_checkpoint(self, model, trial):
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        with writing(folder):
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                write_progress(folder, self.args, {name: getattr(self, name) for name in self.counters})
            self.save_progress(folder)

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            for name, count in read_counters(Path(checkpoint)).items():
                setattr(self, name, count)
            self.load_progress(Path(checkpoint))

    def save_progress(self, checkpoint: Path) -> None:
        """Write what else the next step of this trainer depends on; called on every rank, to be extended."""

    def load_progress(self, checkpoint: Path) -> None:
        """Read back what :meth:`save_progress` has written, on every rank."""
