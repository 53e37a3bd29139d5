"""``candor memory``: plain arithmetic, the same as DeepSpeed's own where it has an estimate."""

from __future__ import annotations

import pytest

from experiments.launch.launcher import launch_names
from experiments.launch.memory import LAUNCHES, SIZES, generation_seconds, largest_layer, memory, update_seconds


@pytest.mark.parametrize("parameters", SIZES.values())
@pytest.mark.parametrize(("per_node", "nodes"), [(1, 1), (8, 1), (8, 8)])
def test_model_states_are_those_that_deepspeed_estimates(parameters: float, per_node: int, nodes: int) -> None:
    stage2 = pytest.importorskip("deepspeed.runtime.zero.stage_1_and_2")
    stage3 = pytest.importorskip("deepspeed.runtime.zero.stage3")
    count = per_node * nodes
    _, gpu = stage2.estimate_zero2_model_states_mem_needs(parameters, per_node, nodes, cpu_offload=False)
    assert memory(parameters, "zero2", count).update == pytest.approx(gpu)
    layer = largest_layer(parameters)
    _, gpu, _ = stage3.estimate_zero3_model_states_mem_needs(
        parameters, layer, per_node, nodes, cpu_offload=False, cpu_offload_params=False
    )
    assert memory(parameters, "zero3", count, per_node=per_node).update == pytest.approx(gpu)
    host, gpu, _ = stage3.estimate_zero3_model_states_mem_needs(
        parameters, layer, per_node, nodes, additional_buffer_factor=1.0
    )
    offloaded = memory(parameters, "zero3_offload", count, per_node=per_node)
    assert offloaded.update == pytest.approx(gpu)
    assert offloaded.host == pytest.approx(host)


def test_parts_add_up_by_hand() -> None:
    ddp = memory(1e9, "ddp", 64, reference=True)
    assert (ddp.weights, ddp.gradients, ddp.master, ddp.adam, ddp.reference) == (4e9, 4e9, 0, 8e9, 4e9)
    assert ddp.peak == ddp.update == 20e9, "no more GPUs make it less"
    two = memory(1e9, "zero2", 4, reference=True, critic=True)
    assert two.update == 2 * (2e9 + 18e9 / 4) + 2e9
    three = memory(1e9, "zero3", 4, reference=True, critic=True)
    assert three.update == 2 * 18e9 / 4 + 2e9 / 4 + 4 * largest_layer(1e9)
    assert three.peak == three.update - three.largest_layer + 2e9, "the policy alone is gathered to generate"
    sixteen_nodes = memory(1e9, "zero3_offload", 64, per_node=4, reference=True)
    assert sixteen_nodes.host == 20e9 / 16


def test_what_splits_more_needs_less() -> None:
    for parameters in SIZES.values():
        needs = [memory(parameters, launch, 64).update for launch in ("ddp", "zero2", "zero3", "zero3_offload")]
        assert needs == sorted(needs, reverse=True)
        assert memory(parameters, "zero3", 64).update < memory(parameters, "zero3", 8).update
    assert set(LAUNCHES) == set(launch_names()) - {"cpu2"}


def test_time_by_hand() -> None:
    assert update_seconds(1e9, 1e6, 1, utilisation=1.0) == pytest.approx(8e15 / 989e12)
    assert generation_seconds(1e9, 1000, utilisation=1.0) == pytest.approx(2e12 / 3.35e12)
