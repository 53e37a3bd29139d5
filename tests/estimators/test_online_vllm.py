"""vLLM's logits processors: stand-ins for its two interfaces, an engine that reshuffles its batch, recorded logits."""

from __future__ import annotations

import enum
import importlib.util
import inspect
import itertools
import sys
import types
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from estimators.online.adapters import vllm
from estimators.online.requests import distribution_confidence
from estimators.online.sampling import Trace, cut
from estimators.online.stopping import LowestGroup, TokenBudget

V, END, CLOSE, WINDOW = 30, 1, (3, 4), 3
OPTIONS = {"candor_window": WINDOW, "candor_end_id": END}
ENGINE = SimpleNamespace(speculative_config=None)


class Direction(enum.Enum):
    UNIDIRECTIONAL = enum.auto()
    SWAP = enum.auto()


class BatchBase(ABC):
    """The documented shape of vllm.v1.sample.logits_processor.LogitsProcessor."""

    @classmethod
    def validate_params(cls, sampling_params):
        return None

    @abstractmethod
    def __init__(self, vllm_config, device, is_pin_memory) -> None: ...

    @abstractmethod
    def apply(self, logits): ...

    @abstractmethod
    def is_argmax_invariant(self) -> bool: ...

    @abstractmethod
    def update_state(self, batch_update) -> None: ...


class SlotBase(ABC):
    """The documented shape of Model Runner V2's LogitsProcessor."""

    def __init__(self, vllm_config, req_states):
        return None

    @classmethod
    def validate_params(cls, sampling_params) -> None:
        return None

    def add_request(self, req_idx, sampling_params) -> bool:
        return True

    def apply_staged_writes(self) -> None:
        return None

    @abstractmethod
    def apply(self, logits, ctx): ...


@dataclass
class Scripted:
    """A request whose logits are recorded: what it draws next is scripted, unless a token is forced."""

    seed: int
    options: dict
    outputs: list[int] = field(default_factory=list)
    preempted: list[int] = field(default_factory=list)
    """How many tokens it had written each time that the engine put it aside."""

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.length = int(rng.integers(2, 16))
        self.logits = torch.from_numpy(rng.normal(size=(40, V)) * rng.uniform(1, 6, size=(40, 1)))
        self.tokens = rng.integers(5, V, size=40).tolist()
        self.params = SimpleNamespace(extra_args=self.options)

    def draw(self, logits: torch.Tensor) -> None:
        place = len(self.outputs)
        left = logits.isfinite().nonzero().flatten().tolist()
        self.outputs.append(left[0] if len(left) == 1 else END if place == self.length else self.tokens[place])

    @property
    def done(self) -> bool:
        return self.outputs[-1:] == [END]

    def expected(self) -> list[int]:
        """The same tokens cut by the core, offline.

        A window does not reach behind a preemption, which comes before the last token has been taken in.
        """
        values = distribution_confidence("token_confidence")(self.logits.float())[: self.length].double().numpy()
        stop = None
        if "candor_budget" in self.options:
            stop = cut(Trace("", values), [TokenBudget(self.options["candor_budget"])]).stop
        elif "candor_lowest_group" in self.options:
            rules = [LowestGroup(self.options["candor_lowest_group"], WINDOW)]
            for first, last in itertools.pairwise([0, *self.preempted, len(values)]):
                found = cut(Trace("", values[first:last]), rules).stop
                if found is not None and first + found.tokens not in self.preempted:
                    stop = found._replace(tokens=first + found.tokens)
                    break
        if stop is None:
            return [*self.tokens[: self.length], END]
        forced = [*self.tokens[: stop.tokens], *(CLOSE if stop.answers else ())]
        return [*forced, *self.tokens[len(forced) : self.length], END] if stop.answers else [*forced, END]


def requests(count: int) -> list[Scripted]:
    kinds = [
        {},
        {**OPTIONS, "candor_lowest_group": 3.8},
        {**OPTIONS, "candor_lowest_group": 4.6},
        {"candor_end_id": END, "candor_budget": 4, "candor_close_ids": list(CLOSE)},
    ]
    return [Scripted(seed, kinds[seed % 4]) for seed in range(count)]


@pytest.mark.parametrize("seed", range(8))
def test_a_reshuffled_batch_stops_each_request_where_it_would_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    processor = vllm.BatchStopping(ENGINE, torch.device("cpu"), False)
    everyone = requests(24)
    waiting, batch = list(everyone), []
    while waiting or batch:
        removed, added, moved = [], [], []
        for index in reversed(range(len(batch))):
            preempted = not batch[index].done and rng.random() < 0.05
            if preempted:
                batch[index].preempted.append(len(batch[index].outputs))
                waiting.insert(0, batch[index])
            if preempted or batch[index].done:
                last = len(batch) - 1
                removed.append(index)
                if index != last:  # the last one fills the hole
                    moved.append((last, index, Direction.UNIDIRECTIONAL))
                    batch[index] = batch[last]
                batch.pop()
        if moved or removed:
            processor.update_state(SimpleNamespace(removed=removed, added=[], moved=moved))
            removed, moved = [], []
        while waiting and len(batch) < 6 and rng.random() < 0.7:
            added.append((len(batch), waiting[0].params, [5, 6], waiting[0].outputs))
            batch.append(waiting.pop(0))
        if len(batch) > 1 and rng.random() < 0.5:
            one, other = rng.choice(len(batch), 2, replace=False).tolist()
            moved.append((one, other, Direction.SWAP))
            batch[one], batch[other] = batch[other], batch[one]
        changed = added or moved
        processor.update_state(SimpleNamespace(removed=[], added=added, moved=moved) if changed else None)
        if batch:
            logits = torch.stack([each.logits[len(each.outputs)] for each in batch]).float()
            for each, row in zip(batch, processor.apply(logits), strict=True):
                each.draw(row)
    assert [each.outputs for each in everyone] == [each.expected() for each in everyone]
    assert any(each.preempted and each.options for each in everyone)
    stopped = [len(each.outputs) <= each.length for each in everyone if "candor_lowest_group" in each.options]
    assert any(stopped) and not all(stopped)


def slot_states(slots: int) -> SimpleNamespace:
    return SimpleNamespace(
        prompt_len=SimpleNamespace(np=np.zeros(slots, dtype=int)),
        prefill_len=SimpleNamespace(np=np.zeros(slots, dtype=int)),
        all_token_ids=SimpleNamespace(gpu=torch.zeros(slots, 60, dtype=torch.int32)),
    )


@pytest.mark.parametrize("seed", range(8))
def test_recycled_slots_stop_each_request_where_it_would_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    states = slot_states(6)
    processor = vllm.SlotStopping(ENGINE, states)
    everyone = requests(24)
    waiting, slots, staged = list(everyone), {}, {}
    while waiting or slots:
        slots = {slot: each for slot, each in slots.items() if not each.done}
        for slot in [slot for slot in slots if rng.random() < 0.05]:
            slots[slot].preempted.append(len(slots[slot].outputs))
            waiting.insert(0, slots.pop(slot))
        for slot in rng.permutation(6).tolist():
            if waiting and slot not in slots and rng.random() < 0.7:
                slots[slot] = new = waiting.pop(0)
                states.prompt_len.np[slot] = 2 + slot
                states.prefill_len.np[slot] = 2 + slot + len(new.outputs)
                staged[slot] = new.outputs
                assert processor.add_request(slot, new.params) == bool(new.options)
        for slot, outputs in staged.items():
            states.all_token_ids.gpu[slot, 2 + slot : 2 + slot + len(outputs)] = torch.tensor(outputs)
        staged.clear()
        processor.apply_staged_writes()
        order = rng.permutation(list(slots)).astype(int)
        if not len(order):
            continue
        batch = [slots[slot] for slot in order.tolist()]
        context = SimpleNamespace(
            idx_mapping_np=order,
            input_ids=torch.tensor([each.outputs[-1] if each.outputs else 5 for each in batch]),
            pos=torch.tensor([1 + slot + len(each.outputs) for slot, each in zip(order, batch, strict=True)]),
        )
        logits = torch.stack([each.logits[len(each.outputs)] for each in batch]).float()
        for each, row in zip(batch, processor.apply(logits, context), strict=True):
            each.draw(row)
    assert [each.outputs for each in everyone] == [each.expected() for each in everyone]
    assert any(each.preempted and each.options for each in everyone)
    stopped = [len(each.outputs) <= each.length for each in everyone if "candor_lowest_group" in each.options]
    assert any(stopped) and not all(stopped)


def test_a_part_of_a_prompt_is_not_followed() -> None:
    states = slot_states(1)
    states.prompt_len.np[0], states.prefill_len.np[0] = 5, 9  # it comes back after four tokens
    processor = vllm.SlotStopping(ENGINE, states)
    processor.add_request(0, SimpleNamespace(extra_args={**OPTIONS, "candor_window": 1, "candor_lowest_group": 1e9}))
    processor.apply_staged_writes()

    def step(place: int) -> bool:
        context = SimpleNamespace(idx_mapping_np=np.array([0]), input_ids=torch.tensor([5]), pos=torch.tensor([place]))
        return bool(processor.apply(torch.zeros(1, V), context).isfinite().all())

    assert [step(3), step(7), step(8), step(9)] == [True, True, True, False]


def test_the_classes_fit_the_documented_interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, base in (
        ("vllm.v1.sample.logits_processor", BatchBase),
        ("vllm.v1.worker.gpu.sample.logits_processor.interface", SlotBase),
    ):
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            monkeypatch.setitem(sys.modules, ".".join(parts[:depth]), types.ModuleType(parts[depth - 1]))
        sys.modules[name].LogitsProcessor = base
    # The first name's parents were replaced by the second's.
    monkeypatch.setitem(sys.modules, "vllm.v1.sample", types.ModuleType("sample"))
    assert inspect.getsourcefile(vllm)
    spec = importlib.util.spec_from_file_location("fresh_vllm_adapter", inspect.getsourcefile(vllm))
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    assert issubclass(fresh.BatchStopping, BatchBase) and issubclass(fresh.SlotStopping, SlotBase)
    assert fresh.BatchStopping(ENGINE, torch.device("cpu"), False).is_argmax_invariant() is False
    fresh.SlotStopping(ENGINE, SimpleNamespace(prompt_len=None))
    for ours, base in ((fresh.BatchStopping, BatchBase), (fresh.SlotStopping, SlotBase)):
        for name, method in inspect.getmembers(base, inspect.isfunction):
            assert list(inspect.signature(method).parameters) == list(inspect.signature(getattr(ours, name)).parameters)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candor_lowst_group": 1.0}, "'candor_lowst_group' is not one of .*did you mean 'candor_lowest_group'"),
        ({**OPTIONS, "candor_lowest_group": "17"}, "candor_lowest_group is '17', expected threshold"),
        ({**OPTIONS, "candor_lowest_group": float("nan")}, "candor_lowest_group is nan"),
        ({"candor_lowest_group": 1.0, "candor_end_id": 1}, "candor_window is None, expected tokens of a group"),
        ({"candor_lowest_group": 1.0, "candor_window": 3}, "candor_end_id is None"),
        ({"candor_window": 3}, "candor_window: no rule"),
        ({"candor_budget": 5, "candor_end_id": 1}, "no token ids that close it"),
        ({"candor_budget": 5, "candor_end_id": 1, "candor_close_ids": "3"}, "candor_close_ids is '3'"),
    ],
)
def test_extra_arguments_that_cannot_be_read_are_refused_at_the_door(options: dict, message: str) -> None:
    for kind in (vllm.BatchStopping, vllm.SlotStopping):
        with pytest.raises(ValueError, match=message):
            kind.validate_params(SimpleNamespace(extra_args=options))
    vllm.BatchStopping.validate_params(SimpleNamespace(extra_args={"other": 1}))
    vllm.BatchStopping.validate_params(SimpleNamespace(extra_args=None))


def test_asynchronous_scheduling_is_refused_before_a_request() -> None:
    """vLLM 0.23 schedules so unless told otherwise; its output ids are then -1 until a later step."""
    scheduler = SimpleNamespace(async_scheduling=True)
    with pytest.raises(ValueError, match="--no-async-scheduling"):
        vllm.BatchStopping(SimpleNamespace(speculative_config=None, scheduler_config=scheduler), None, False)
    scheduler.async_scheduling = False
    vllm.BatchStopping(SimpleNamespace(speculative_config=None, scheduler_config=scheduler), None, False)


def test_guesses_are_refused() -> None:
    guessing = SimpleNamespace(speculative_config=object())
    with pytest.raises(ValueError, match="speculative decoding"):
        vllm.BatchStopping(guessing, torch.device("cpu"), False)
    with pytest.raises(ValueError, match="speculative decoding"):
        vllm.SlotStopping(guessing, None)
