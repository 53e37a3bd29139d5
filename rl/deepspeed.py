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


def load_whole() -> None:
    """Have what is loaded from here on whole: a training under ZeRO-3 splits also what is loaded behind it."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()
