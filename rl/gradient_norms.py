"""How large the gradient of each part of a loss is: correctness, calibration and the KL to the reference.

Each part is a loss of its own, whose gradient is taken apart from that of the update: nothing is added to what the
parameters accumulate, and the random state and the logged metrics are put back, so that a run goes on as if it had not
been looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from accelerate.utils import DistributedType
from transformers import Trainer
from trl import GRPOTrainer

from rl.loss_pass import LossPass
from rl.saved_batches import random_states, set_random_states

PARTS = ("correctness", "calibration", "kl")
"""Terms that do not depend on the stated confidence; those that do, sampled or in closed form; beta times the KL."""


def unmeasurable(trainer: Trainer, *, apart: bool) -> str | None:
    """Why the parts of a trainer's gradient cannot be told apart, None where they can.

    ``apart`` says whether the advantages of correctness and calibration are known one by one.
    """
    kind, arguments = trainer.accelerator.distributed_type, trainer.args
    if kind in (DistributedType.DEEPSPEED, DistributedType.FSDP):
        return f"{kind.value} splits gradients over the ranks"
    reentrant = (arguments.gradient_checkpointing_kwargs or {}).get("use_reentrant")
    if arguments.gradient_checkpointing and reentrant:
        return "gradient checkpointing with use_reentrant: true allows no gradient but the update's"
    if not apart:
        return "the terms are scaled as one sum; set trainer.credit: segment, or a scaling of none or leave_one_out"
    return None


def gradient_norms(
    losses: Mapping[str, Callable[[], torch.Tensor]], parameters: list[torch.nn.Parameter]
) -> dict[str, float]:
    """Norm of the gradient of each loss by the parameters, 0 for a loss that does not depend on them.

    >>> weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> gradient_norms({"half": lambda: (weight**2).sum() / 2, "none": lambda: torch.zeros(())}, [weight])
    {'half': 5.0, 'none': 0.0}
    """
    norms = {}
    for name, loss in losses.items():
        value = loss()
        found = torch.autograd.grad(value, parameters, allow_unused=True) if value.requires_grad else ()
        squares = [gradient.detach().double().pow(2).sum().item() for gradient in found if gradient is not None]
        norms[name] = math.sqrt(math.fsum(squares))
    return norms


@contextmanager
def unnoticed(trainer: Any) -> Iterator[None]:
    """Context manager: losses inside it leave no trace in a trainer of TRL's, and are without its side losses."""
    states, logged = random_states(), trainer._metrics["train"]
    lengths = {name: len(values) for name, values in logged.items()}
    bonus, auxiliary = trainer._entropy_bonus_enabled, trainer.aux_loss_enabled
    trainer._entropy_bonus_enabled = trainer.aux_loss_enabled = False
    try:
        yield
    finally:
        trainer._entropy_bonus_enabled, trainer.aux_loss_enabled = bonus, auxiliary
        for name in list(logged):
            if name in lengths:
                del logged[name][lengths[name] :]
            else:
                del logged[name]
        set_random_states(states)


def part_norms(
    trainer: Any,
    model: torch.nn.Module,
    inputs: dict[str, Any],
    reading: Callable[[], AbstractContextManager[Any]],
    in_closed_form: Callable[[], tuple[torch.Tensor, torch.Tensor]] | None,
) -> dict[str, float]:
    """Gradient norm of each of :data:`PARTS` on a micro-batch, as if it were the whole of its update.

    ``inputs`` hold ``part_advantages`` (B, 2, T) beside what TRL's loss takes. The closed form, where there is one, is
    read in the forward pass (``reading``) and belongs to calibration. The KL is that in the loss, where beta is not 0.
    """
    policy = trainer.accelerator.unwrap_model(model)

    def loss(advantages_BT: torch.Tensor, beta: float, calibrates: bool = False) -> torch.Tensor:
        whole, trainer.beta = trainer.beta, beta
        trainer._loss_pass = seen = LossPass({**inputs, "advantages": advantages_BT})
        try:
            with reading():
                value = GRPOTrainer._compute_loss(trainer, policy, seen.inputs)
        finally:
            trainer.beta, trainer._loss_pass = whole, None
        return value + in_closed_form()[0] if calibrates and in_closed_form is not None else value

    correctness_BT, calibration_BT = inputs["part_advantages"].unbind(dim=1)
    losses = {
        "correctness": partial(loss, correctness_BT, 0.0),
        "calibration": partial(loss, calibration_BT, 0.0, calibrates=True),
    }
    if trainer.beta and not getattr(trainer.args, "kl_in_reward", False):
        losses["kl"] = partial(loss, torch.zeros_like(correctness_BT), trainer.beta)
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    with unnoticed(trainer):
        norms = gradient_norms(losses, trained)
    return {name: norm * trainer.current_gradient_accumulation_steps for name, norm in norms.items()}
