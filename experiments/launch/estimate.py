"""What a recipe takes under each launch, by calculation: memory of a GPU, whether that fits, and hours.

Beyond model states (:mod:`experiments.launch.memory`), bytes of one GPU with b completions of s tokens a micro-batch,
T of them written, L layers of width h, vocabulary V:

    activations    34 s b h (L without gradient checkpointing, else 1) + 2 s b h L   (arXiv 2205.05198, attention fused)
    logits         8 b T V: in bfloat16, their gradient, and float32 for the softmax
    vLLM           its share of the whole GPU, where it is beside the policy (vllm_mode colocate)
    generation     else 4 s L k a completion, k the width of the keys, of those that a GPU writes at once; where the
                   policy answers its questions first, whole weights and this
    reserve        2 GiB for the driver, the communication and what the allocator wastes

Prompts count with ``task.max_prompt_tokens``, completions with ``max_completion_length``: the longest there are.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import Any

from experiments.config.methods import METHODS
from experiments.config.recipe import Recipe
from experiments.errors import ConfigError
from experiments.launch.memory import GIB, LAUNCHES, Memory, generation_seconds, memory, update_seconds
from experiments.launch.shapes import Shape, UnknownShape, shape_of

ONE = "one process"
"""No launch: ``candor train R``."""
CPU = "cpu"
"""A launch whose processes see no GPU."""
RESERVE = 2 * GIB
PROMPT = 512
"""Tokens of a prompt where the recipe names no longest one."""
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Facts:
    """What of a recipe the estimate is made of."""

    shape: Shape
    origin: str
    trained: float
    """Parameters trained: with LoRA those of the adapters, and the tables where tokens are added."""
    width: int
    """Bytes of a weight as it is loaded."""
    frozen_reference: bool
    critic: bool
    micro: int
    prompt: int
    completion: int
    checkpointing: bool
    steps_per_update: int
    steps_per_generation: int
    generation_batch_size: int | None
    """Completions that all GPUs generate at once, where the recipe says so itself."""
    vllm_share: float
    vllm: bool
    rollouts: bool
    answered_at_once: int
    """Answers that a GPU writes at once before the training; 0 where the policy answers nothing then."""
    answers: int
    """Answers that are written before the training, in all rounds; 0 too where it is not said to how many questions."""
    answer: int
    """Tokens of one of them, at most."""
    max_steps: int
    """Of a round."""
    rounds: int
    num_iterations: int
    """Times that a completion is trained on."""

    @property
    def sequence(self) -> int:
        return self.prompt + self.completion

    def generated_at_once(self, processes: int) -> float:
        """Completions that a GPU generates at once, of a number of processes that the recipe can run on."""
        if not self.rollouts:
            return 0.0
        if self.generation_batch_size is not None:
            return self.generation_batch_size / processes
        return float(self.micro * self.steps_per_generation)

    def shared_by(self, processes: int) -> bool:
        """Whether so many processes can share what is generated at once, as TRL has it."""
        return self.generation_batch_size is None or self.generation_batch_size % (self.micro * processes) == 0


def facts_of(recipe: Recipe) -> Facts:
    """Read a recipe's keys, TRL's defaults where it leaves them out. Raises ConfigError for an unknown size."""
    defaults = METHODS[recipe.method].configuration()
    rollouts = METHODS[recipe.method].rollouts

    def key(name: str) -> Any:
        return recipe.trainer.get(name, getattr(defaults, name, None))

    shape, origin = shape_of(recipe.model.path)
    lora, trained = recipe.model.lora, shape.parameters
    if lora is not None:
        with_tables = METHODS[recipe.method].adds_marks and recipe.template.confidence == "token"
        trained = shape.adapter(lora.get("r", 8)) + (shape.tables if with_tables else 0.0)
    micro = key("per_device_train_batch_size")
    accumulation = key("gradient_accumulation_steps")
    vllm = bool(key("use_vllm"))
    rounds = key("rounds") or 1
    # Answers that are given are those of the first round alone.
    answering = rounds - bool(key("own_answers")) if METHODS[recipe.method].own_answers else 0
    return Facts(
        shape=shape,
        origin=origin,
        trained=trained,
        width=4 if recipe.model.dtype == "float32" else 2,
        frozen_reference=bool(rollouts and key("beta")) and lora is None,
        critic=METHODS[recipe.method].critic and key("value_model") == "separate",
        micro=micro,
        prompt=(recipe.task.max_prompt_tokens or PROMPT) if rollouts else 0,
        completion=key("max_completion_length") if rollouts else (key("max_length") or 1024),
        checkpointing=bool(key("gradient_checkpointing")),
        steps_per_update=accumulation,
        steps_per_generation=key("steps_per_generation") or accumulation,
        generation_batch_size=key("generation_batch_size"),
        vllm_share=key("vllm_gpu_memory_utilization") if vllm and key("vllm_mode") == "colocate" else 0.0,
        vllm=vllm,
        rollouts=rollouts,
        answered_at_once=key("answers_batch_size") if answering else 0,
        answers=(recipe.task.train_size or 0) * key("answers_per_question") * answering if answering else 0,
        answer=key("answers_max_tokens") if answering else 0,
        max_steps=key("max_steps"),
        rounds=rounds,
        num_iterations=key("num_iterations") or 1,
    )


def states(facts: Facts, launch: str, processes: int, per_node: int = 8) -> Memory:
    """Model states of a GPU; with adapters the base stands frozen beside them, and a separate critic, trained whole."""
    kind = "ddp" if launch == ONE else launch
    extras: dict[str, Any] = {"per_node": per_node, "reference": facts.frozen_reference, "critic": facts.critic}
    whole = _whole(facts, kind, processes, **extras)
    if facts.vllm or not facts.rollouts:  # gathered to be sent a layer at a time, or nothing is generated
        whole = replace(whole, generation=0.0)
    if facts.trained == facts.shape.parameters:
        return whole
    part = memory(max(facts.trained, 1.0), kind, processes, per_node=per_node)
    critic = _whole(facts, kind, processes, per_node=per_node) if facts.critic else Memory()
    base, offloaded = facts.shape.parameters * (2 if kind.startswith("zero") else facts.width), 0.0
    if kind == "zero3_offload":
        base, offloaded = 0.0, base / -(-processes // per_node)
    elif kind == "zero3":
        base /= processes
    return Memory(
        weights=base + part.weights + critic.weights,
        gradients=part.gradients + critic.gradients,
        master=part.master + critic.master,
        adam=part.adam + critic.adam,
        largest_layer=whole.largest_layer,
        generation=whole.generation,
        host=offloaded + part.host + critic.host,
    )


def _whole(facts: Facts, kind: str, processes: int, **extras: Any) -> Memory:
    """States of a model that is trained whole, and of those beside it."""
    found = memory(facts.shape.parameters, kind, processes, **extras)
    if kind == "ddp" and facts.width == 2:  # no float32 copy: weights, gradients and Adam in bfloat16
        parts = ("weights", "gradients", "adam", "reference")
        return replace(found, **{name: getattr(found, name) / 2 for name in parts})
    return found


def gpu_bytes(facts: Facts, launch: str, processes: int, gpu: float) -> dict[str, float]:
    """Bytes of a GPU of ``gpu`` bytes by part: states, activations, logits, generation, vllm, reserve; the sum."""
    shape, tokens = facts.shape, facts.sequence * facts.micro
    held = states(facts, launch, processes)
    layers = 1 if facts.checkpointing else shape.layers
    activations = 34.0 * tokens * shape.hidden * layers + 2.0 * tokens * shape.hidden * shape.layers
    logits = 8.0 * facts.micro * facts.completion * shape.vocabulary
    cache = 0.0
    if facts.rollouts and not facts.vllm:
        cache = 4.0 * facts.sequence * shape.layers * shape.key_value * facts.generated_at_once(processes)
    update, generation = activations + logits, cache + max(held.peak - held.update, 0.0)
    if facts.answered_at_once:  # by whole weights, beside their split, before there is anything else
        split = 2 * shape.parameters / processes if launch.startswith("zero3") else 0.0
        cache = 4.0 * facts.sequence * shape.layers * shape.key_value * facts.answered_at_once
        generation = facts.width * shape.parameters + split + cache - held.update
    parts = {
        "states": held.update,
        "activations": activations,
        "logits": logits,
        "generation": max(generation - update, 0.0),  # the two are not at once
        "vllm": facts.vllm_share * gpu,
        "reserve": float(RESERVE),
    }
    return parts | {"together": sum(parts.values())}


def hours(facts: Facts, processes: int) -> tuple[float, float]:
    """Hours of the updates and of the generation on H100s, every text as long as it may be.

    A rollout serves as many micro-batches as it has, ``num_iterations`` times, and is scored once; answers that are
    written before the training are generated too. Raises ConfigError where the recipe does not say how many steps
    there are.
    """
    if facts.max_steps < 1:
        raise ConfigError("trainer.max_steps: missing; the hours of a run are those of its steps")
    completions = facts.micro * facts.steps_per_update * processes
    passes = 8.0 * (1 + facts.critic) + (2.0 * facts.frozen_reference + 2.0 * facts.vllm) / facts.num_iterations
    update = update_seconds(facts.shape.parameters, completions * facts.sequence, processes, passes=passes)
    served = facts.generated_at_once(processes) * facts.num_iterations
    steps = facts.max_steps * facts.rounds
    turns = steps * facts.steps_per_update * facts.micro / served if facts.rollouts else 0.0
    generation = turns * generation_seconds(facts.shape.parameters, facts.completion)
    if facts.answers:
        turns = math.ceil(facts.answers / processes / facts.answered_at_once)
        generation += turns * generation_seconds(facts.shape.parameters, facts.answer)
    return steps * update / 3600, generation / 3600


def smallest(facts: Facts, gpu: float) -> tuple[str, int, float] | None:
    """The launch on the fewest GPUs that fits, and its bytes of a GPU; None where none of up to 128 does.

    Main memory, which is slow, only where nothing else fits. Whole weights in bfloat16 only under DeepSpeed, which
    updates a float32 copy of them: without one a small learning rate is rounded away.
    """
    whole = facts.width == 2 and facts.trained == facts.shape.parameters and facts.rollouts
    for launches in ((LAUNCHES[1:-1] if whole else LAUNCHES[:-1]), LAUNCHES[-1:]):
        for processes in filter(facts.shared_by, _SIZES):
            alone = processes == 1 and not whole and launches != LAUNCHES[-1:]
            for launch in (ONE,) if alone else launches:
                together = gpu_bytes(facts, launch, processes, gpu)["together"]
                if together <= gpu:
                    return launch, processes, together
    return None


def check_machine(recipe: Recipe, launch: str, processes: int) -> None:
    """Raise ConfigError where a recipe does not fit the GPUs of this machine, or its main memory if it has none.

    A model of unknown size is not held up.
    """
    import torch

    try:
        facts = facts_of(recipe)
    except UnknownShape:
        return
    here = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    if launch != CPU and torch.cuda.is_available():
        check_fits(facts, recipe.name, launch, processes, float(torch.cuda.get_device_properties(0).total_memory))
        if (host := states(facts, launch, processes).host) > here:
            raise ConfigError(
                f"{recipe.name} under {launch} on {processes} takes {host / GIB:.1f} GiB of main memory of a node, "
                f"and this one has {here / GIB:.1f}"
            )
        return
    kind = "ddp" if launch == CPU else launch
    parts = gpu_bytes(facts, kind, processes, 0.0)
    needed = (parts["together"] - parts["reserve"]) * processes + states(facts, kind, processes).host
    if needed > here:
        raise ConfigError(
            f"{recipe.name} under {launch} on {processes} takes {needed / GIB:.1f} GiB, and no GPU is seen, only main "
            f"memory of {here / GIB:.1f} GiB; on GPUs of 80 GiB {_enough(facts, 80.0 * GIB)}"
        )


def check_fits(facts: Facts, name: str, launch: str, processes: int, gpu: float) -> None:
    """Raise ConfigError, naming the smallest launch that does, where a recipe does not fit the one named."""
    parts = gpu_bytes(facts, launch, processes, gpu)
    if parts["together"] <= gpu:
        return
    largest = max((part for part in parts if part != "together"), key=parts.__getitem__)
    raise ConfigError(
        f"{name} under {launch} on {processes} takes {parts['together'] / GIB:.1f} GiB of a GPU of {gpu / GIB:.0f} "
        f"({largest} {parts[largest] / GIB:.1f}); {_enough(facts, gpu)}"
    )


def _enough(facts: Facts, gpu: float) -> str:
    found = smallest(facts, gpu)
    if found is None:
        return "no launch of up to 128 GPUs is enough, lower trainer.per_device_train_batch_size or lengths"
    how = "one process" if found[0] == ONE else f"--launch {found[0]} --num-processes {found[1]}"
    host = states(facts, found[0], found[1]).host
    beside = f", and {host / GIB:.1f} GiB of main memory of a node" if host else ""
    return f"the smallest that fits is {how} ({found[2] / GIB:.1f} GiB{beside})"
