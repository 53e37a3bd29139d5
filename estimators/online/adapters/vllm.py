"""Stopping rules as vLLM's logits processors, for both interfaces that it has had.

:class:`BatchStopping` is of ``vllm.v1.sample.logits_processor`` (0.10 on), :class:`SlotStopping` of Model Runner V2
(``vllm.v1.worker.gpu.sample.logits_processor.interface``, 0.3x); an engine loads the one it knows:

    vllm serve MODEL --no-async-scheduling --logits-processors estimators.online.adapters.vllm:BatchStopping

A request asks for rules in ``SamplingParams.extra_args`` (over HTTP: ``vllm_xargs``), flat, by the names of
:data:`OPTIONS`; one that names none is left alone. vLLM has no call to end a request: one that is given up is left
nothing but its end token. Trial answers need a forward pass of their own, which a logits processor cannot make: rules
that read them belong to :mod:`estimators.online.adapters.streams`. With speculative decoding a request has a row for
every guess; both refuse it. ``BatchStopping`` refuses asynchronous scheduling too (``--no-async-scheduling``), which
hands out a step before the last one's tokens are known. A request that is preempted and comes back has its budget and
its place in the thought; a window is known again once it is full of new tokens. Run in vLLM's own engine:
``BatchStopping`` (0.23 on a GPU, 0.31 on a CPU) and ``SlotStopping`` (0.31 on a CPU, its kernels interpreted).

Shapes: R logits rows of a step, V vocabulary.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

import torch

from estimators.online.requests import Forcing, IdReading, Request, distribution_confidence, force
from estimators.online.stopping import LowestGroup, Rule, TokenBudget

try:
    from vllm.v1.sample.logits_processor import LogitsProcessor as _BatchBase
except ImportError:  # without vLLM the classes are plain ones, which its tests and documentation read
    _BatchBase = object
try:
    from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsProcessor as _SlotBase
except ImportError:
    _SlotBase = object

OPTIONS = {
    "candor_lowest_group": "threshold of the lowest group confidence, a number",
    "candor_window": "tokens of a group, a whole number of at least 1",
    "candor_budget": "tokens after which the thought is closed, a whole number of at least 1",
    "candor_end_id": "id of the token that ends a completion",
    "candor_close_ids": "ids of the tokens that close the thought",
}
"""Name of an extra argument -> what it is."""

CONFIDENCE = "token_confidence"
"""The statistic of :class:`estimators.token_statistics.TokenStatistics` that thresholds are compared with."""


def read_options(extra_args: Mapping[str, Any] | None) -> Request | None:
    """The request that its extra arguments ask for, None where they ask for nothing of ours.

    Raises ValueError for an unknown name of ours, a value of another kind, and for what is missing.
    """
    ours = {name: value for name, value in (extra_args or {}).items() if name.startswith("candor_")}
    for name in ours:
        if name not in OPTIONS:
            near = difflib.get_close_matches(name, OPTIONS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"extra argument {name!r} is not one of {', '.join(OPTIONS)}{hint}")
    rules: list[Rule] = []
    if "candor_lowest_group" in ours:
        rules.append(LowestGroup(_number(ours, "candor_lowest_group"), _whole(ours, "candor_window")))
    if "candor_budget" in ours:
        rules.append(TokenBudget(_whole(ours, "candor_budget")))
    if not rules:
        if ours:
            raise ValueError(f"{', '.join(ours)}: no rule; name candor_lowest_group or candor_budget too")
        return None
    close = ours.get("candor_close_ids", ())
    if not isinstance(close, list | tuple) or not all(_is_whole(each) for each in close):
        raise ValueError(f"candor_close_ids is {close!r}, expected {OPTIONS['candor_close_ids']}")
    forcing = Forcing(_whole(ours, "candor_end_id", least=0), tuple(close))
    return Request(rules, IdReading(forcing.close_ids), forcing)


def _number(options: Mapping[str, Any], name: str) -> float:
    value = options.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}, expected {OPTIONS[name]}")
    return float(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _whole(options: Mapping[str, Any], name: str, least: int = 1) -> int:
    value = options.get(name)
    if not isinstance(value, int) or not _is_whole(value) or value < least:
        raise ValueError(f"{name} is {value!r}, expected {OPTIONS[name]}")
    return value


def _refuse_guesses(vllm_config: Any) -> None:
    if getattr(vllm_config, "speculative_config", None) is not None:
        raise ValueError("speculative decoding gives a request a row for every guess: stopping rules cannot follow it")


class BatchStopping(_BatchBase):  # type: ignore[misc]
    """For the runner that says who was added, removed and moved, and keeps each request's output ids in a list."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        _refuse_guesses(vllm_config)
        if getattr(getattr(vllm_config, "scheduler_config", None), "async_scheduling", False):
            raise ValueError(
                "asynchronous scheduling hands out a step before the tokens of the last one are known, which stopping "
                "rules read; start vLLM with --no-async-scheduling (async_scheduling=False)"
            )
        self._confidence = distribution_confidence(CONFIDENCE)
        self._requests: dict[int, tuple[Request, list[int]]] = {}
        """Row of the batch -> request and the list of its output ids, which the engine goes on writing."""
        self._fed: dict[int, int] = {}

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Raise ValueError where a request's extra arguments cannot be read."""
        read_options(sampling_params.extra_args)

    def is_argmax_invariant(self) -> bool:
        """False: a forced token is another one than the likeliest."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follow the batch: removed, then added, then moved, as vLLM documents; then take in what was written."""
        if batch_update is not None:
            for index in batch_update.removed:
                self._take(index)
            for index, params, _, output_ids in batch_update.added:
                self._take(index)
                request = read_options(params.extra_args)
                if request is not None:
                    request.resume(output_ids)
                    self._requests[index], self._fed[index] = (request, output_ids), len(output_ids)
            for source, target, direction in batch_update.moved:
                moved, replaced = self._take(source), self._take(target)
                self._put(target, moved)
                if direction.name == "SWAP":
                    self._put(source, replaced)
        for index, (request, output_ids) in self._requests.items():
            for token in output_ids[self._fed[index] :]:
                if token < 0:
                    raise RuntimeError("vLLM has not filled in a token yet; stopping rules need async scheduling off")
                request.wrote(token)
            self._fed[index] = len(output_ids)

    def _take(self, index: int) -> tuple[tuple[Request, list[int]], int] | None:
        held = self._requests.pop(index, None)
        return None if held is None else (held, self._fed.pop(index))

    def _put(self, index: int, held: tuple[tuple[Request, list[int]], int] | None) -> None:
        if held is not None:
            self._requests[index], self._fed[index] = held

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Read the logits (R, V) of the rows that are followed, in one go, and force what is to be forced."""
        if not self._requests:
            return logits
        rows = sorted(self._requests)
        seen = self._confidence(logits[rows].float()).tolist()
        forced: list[int | None] = [None] * len(logits)
        for row, confidence in zip(rows, seen, strict=True):
            self._requests[row][0].saw(confidence)
            forced[row] = self._requests[row][0].forced
        return force(logits, forced)


class SlotStopping(_SlotBase):  # type: ignore[misc]
    """For Model Runner V2, whose requests keep a slot that is given to another one when they leave."""

    def __init__(self, vllm_config: Any, req_states: Any) -> None:
        _refuse_guesses(vllm_config)
        self._confidence = distribution_confidence(CONFIDENCE)
        self._states = req_states
        self._slots: dict[int, Request] = {}
        self._new: set[int] = set()
        """Slots whose request may have written before, which can be read once the runner has written what it staged."""
        self._waiting: set[int] = set()
        """Slots whose request has seen logits, so that the next token fed to the model was drawn from them."""

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Raise ValueError where a request's extra arguments cannot be read."""
        read_options(sampling_params.extra_args)

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """Begin with a request in this slot: whatever was there before is forgotten. Whether it is followed."""
        self._slots.pop(req_idx, None)
        self._waiting.discard(req_idx)
        request = read_options(sampling_params.extra_args)
        if request is not None:
            self._slots[req_idx] = request
            self._new.add(req_idx)
        return request is not None

    def apply_staged_writes(self) -> None:
        """The runner has written what it staged: take in what requests that were preempted had written before."""
        for slot in self._new & self._slots.keys():
            prompt, known = int(self._states.prompt_len.np[slot]), int(self._states.prefill_len.np[slot])
            if prompt < known:
                self._slots[slot].resume(self._states.all_token_ids.gpu[slot, prompt:known].tolist())
        self._new.clear()

    def apply(self, logits: torch.Tensor, ctx: Any) -> torch.Tensor:
        """Take in each followed row's last token, read its logits, and force what is to be forced."""
        slots = [int(slot) for slot in ctx.idx_mapping_np]
        if len(slots) != len(logits):
            raise RuntimeError(f"{len(logits)} rows for {len(slots)} requests: speculative decoding cannot be followed")
        rows = [row for row, slot in enumerate(slots) if slot in self._slots]
        if not rows:
            return logits
        seen = self._confidence(logits[rows].float()).tolist()
        tokens, places = ctx.input_ids[rows].tolist(), ctx.pos[rows].tolist()
        forced: list[int | None] = [None] * len(logits)
        for row, confidence, token, place in zip(rows, seen, tokens, places, strict=True):
            slot = slots[row]
            if place + 1 < int(self._states.prefill_len.np[slot]):
                continue  # a part of what is known already, whose logits nothing is drawn from
            if slot in self._waiting:
                self._slots[slot].wrote(token)
            self._slots[slot].saw(confidence)
            self._waiting.add(slot)
            forced[row] = self._slots[slot].forced
        return force(logits, forced)
