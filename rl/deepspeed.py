"""What DeepSpeed is kept from doing on machines without an accelerator."""

from __future__ import annotations

import torch


def reduce_through_gloo() -> None:
    """Keep DeepSpeed on CPUs from compiling its shared-memory reduction; gloo, which is there, does the same.

    It would take a minute and a C++ compiler, and a run that is killed meanwhile leaves a lock behind for which every
    later run waits for ever. To be called before DeepSpeed starts; with an accelerator nothing is changed.
    """
    if torch.accelerator.is_available():
        return
    import deepspeed.ops  # late: importing it early breaks vLLM

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
