"""What a run needs by calculation: memory of a GPU for the model's states, and the time of a step.

Bytes a parameter of a policy that is trained in bfloat16 with Adam, P parameters over n GPUs:

    launch          weights   gradients   fp32 master   Adam      together
    ddp             4         4           (weights)     8         16 P
    zero2           2         6 / n       4 / n         8 / n     2 P + 18 P / n
    zero3           2 / n     4 / n       4 / n         8 / n     18 P / n + 4 L
    zero3_offload   on the host: 18 P over its node's GPUs        4 L

Under ddp torch's autocast computes in bfloat16 from float32 weights, which are their own master. DeepSpeed updates from
float32 gradients, which ZeRO-2 holds beside bfloat16 ones. L is the largest layer, which ZeRO-3 gathers in float32.
These are the estimates of DeepSpeed itself (``estimate_zero2_model_states_mem_needs``, ``estimate_zero3_...``).
Activations, the cache of generation and what the allocator wastes come on top.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from experiments.errors import ConfigError
from experiments.schema import one_of

LAUNCHES = ("ddp", "zero2", "zero3", "zero3_offload")
SIZES = {"0.5B": 0.5e9, "1.5B": 1.5e9, "3B": 3e9, "7B": 7e9, "14B": 14e9, "32B": 32e9, "70B": 70e9}
GIB = 2**30
H100 = {"flops": 989e12, "bandwidth": 3.35e12}
"""Peak dense bfloat16 operations and bytes of memory read, a second; the vendor's figures."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one GPU, and of one node's main memory where states are offloaded to it."""

    weights: float = 0.0
    gradients: float = 0.0
    master: float = 0.0
    adam: float = 0.0
    largest_layer: float = 0.0
    reference: float = 0.0
    generation: float = 0.0
    """Whole weights that TRL gathers to generate under ZeRO-3 (``trainer.ds3_gather_for_generation``)."""
    host: float = 0.0

    @property
    def update(self) -> float:
        """Bytes of a GPU while it updates the policy."""
        return self.weights + self.gradients + self.master + self.adam + self.largest_layer + self.reference

    @property
    def peak(self) -> float:
        """Bytes of a GPU at most: while it updates, or while it generates from gathered weights."""
        return self.update + max(self.generation - self.largest_layer, 0.0)


def largest_layer(parameters: float) -> float:
    """Parameters of the largest layer, an embedding of some 150,000 tokens; fitted to published models.

    >>> [round(largest_layer(size) / 1e6) for size in (0.5e9, 7e9, 70e9)]
    [136, 406, 1052]
    """
    return 136e6 * (parameters / 0.5e9) ** 0.414


def memory(
    parameters: float,
    launch: str,
    processes: int,
    *,
    per_node: int = 8,
    reference: bool = False,
    critic: bool = False,
) -> Memory:
    """Bytes that the states of a policy take under a launch; a separate critic is another policy of the same size.

    ``reference`` is the frozen policy that a KL needs (``trainer.beta`` above 0, without LoRA). Raises ConfigError
    for a launch that does not exist and for numbers that are not sizes.

    >>> states = memory(7e9, "zero3", 64)
    >>> round(states.update / GIB, 1), round(states.peak / GIB, 1)
    (3.3, 14.9)
    """
    one_of("--launch", launch, LAUNCHES)
    if not parameters >= 1:
        raise ConfigError(f"--parameters: {parameters:g} is below 1")
    if processes < 1 or per_node < 1:
        raise ConfigError(f"--num-processes: {processes} over nodes of {per_node} GPUs is below 1")
    nodes = -(-processes // per_node)
    frozen, trained = parameters if reference else 0.0, parameters * (2 if critic else 1)
    if launch == "ddp":
        return Memory(4 * trained, 4 * trained, 0.0, 8 * trained, reference=4 * frozen)
    if launch == "zero2":
        gradients, master, adam = (size * trained / processes for size in (6, 4, 8))
        return Memory(2 * trained, gradients, master, adam, reference=2 * frozen)
    layer, whole = 4 * largest_layer(parameters), 2 * parameters
    if launch == "zero3_offload":
        return Memory(largest_layer=layer, generation=whole, host=(18 * trained + 2 * frozen) / nodes)
    weights, gradients, master, adam = (size * trained / processes for size in (2, 4, 4, 8))
    return Memory(weights, gradients, master, adam, layer, 2 * frozen / processes, whole)


def markdown_table() -> str:
    """GiB of a GPU for the usual sizes on 8 and 64 GPUs, as the table in experiments/README.md."""
    columns = [(launch, count) for count in (8, 64) for launch in LAUNCHES[:3]]
    lines = ["| policy | with | " + " | ".join(f"{launch}, {count} GPUs" for launch, count in columns) + " |"]
    lines.append("| --- " * (len(columns) + 2) + "|")
    for size, parameters in SIZES.items():
        for extras in ({}, {"reference": True}, {"reference": True, "critic": True}):
            cells = [_cell(memory(parameters, *column, **extras)) for column in columns]
            lines.append(f"| {size} | {' and '.join(extras) or 'nothing else'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(states: Memory) -> str:
    shown = f"{states.update / GIB:.1f}"
    return shown if states.peak == states.update else f"{shown} / {states.peak / GIB:.1f}"


def requirements(
    parameters: float,
    launch: str,
    processes: int,
    *,
    per_node: int = 8,
    reference: bool = False,
    critic: bool = False,
    completions: int = 512,
    tokens: int = 1024,
) -> dict[str, Any]:
    """Each part of :func:`memory` in GiB and the seconds of a step on H100s, for a listing.

    Raises ConfigError as :func:`memory` does, and for a step without tokens.
    """
    if completions < 1 or tokens < 1:
        raise ConfigError(f"--completions {completions} of --tokens {tokens}: a step has at least one of each")
    states = memory(parameters, launch, processes, per_node=per_node, reference=reference, critic=critic)
    parts = asdict(states) | {"update": states.update, "peak": states.peak}
    passes = (8.0 + 2.0 * reference) * (2 if critic else 1)
    return {
        "launch": launch,
        "parameters": parameters,
        "processes": processes,
        **{f"{name}_gib": round(size / GIB, 2) for name, size in parts.items()},
        "update_seconds": round(update_seconds(parameters, completions * tokens, processes, passes=passes), 3),
        "generation_seconds": round(generation_seconds(parameters, tokens), 3),
    }


def update_seconds(
    parameters: float, tokens: float, gpus: int, *, passes: float = 8.0, utilisation: float = 0.4
) -> float:
    """Time of one update on H100s: ``passes`` P floating-point operations a token, prompt and completion.

    6 P for forward and backward, 2 P more where activations are computed again (gradient checkpointing, TRL's default)
    and 2 P more for each further pass: the reference's, and the one over completions that vLLM has made.

    >>> round(update_seconds(7e9, 512 * 1024, 64), 2)
    1.16
    """
    return passes * parameters * tokens / (gpus * H100["flops"] * utilisation)


def generation_seconds(parameters: float, tokens: float, *, utilisation: float = 0.6) -> float:
    """Time to generate completions of that many tokens on H100s, however many at once while weights are what is read.

    Every token of every completion of a GPU's batch waits for one reading of the weights, 2 P bytes.

    >>> round(generation_seconds(7e9, 1024), 1)
    7.1
    """
    return tokens * 2 * parameters / (H100["bandwidth"] * utilisation)
