"""Steering inside transformers' generation: batched, each row with a state of its own, and gone when it is over.

    steering = Steering(model, tokenizer, vector, Balance(vector.bounds), end_ids=[tokenizer.eos_token_id])
    with steering.attached():
        model.generate(..., **steering.arguments())

The confidence of a step is read off the logits that the model made, before temperature; when a step has ended, the
state of one token of the next is moved along the vector, on its way into a block. What comes later sees it through the
cache. Nothing of the model is changed, and a coefficient of 0 adds nothing to anything. Beam search moves rows and is
refused, and so is what reads several tokens of a row at once.

Shapes: B rows, L tokens of prompts and completions, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from estimators.decoding import Tokenizer
from estimators.placing import KnownPlaces
from estimators.steering.control import Control
from estimators.steering.extraction import check_layers
from estimators.steering.vector import Definition, SteeringVector
from estimators.step_confidence import StepAccumulator, variance

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class SteeredRequest:
    """One request: probabilities of its likeliest tokens come in, then the tokens drawn; strengths come out.

    ``coefficient`` multiplies what ``control`` says, ``places`` are shared by requests. Raises ValueError where these
    are of other steps than the ``definition``.
    """

    def __init__(self, places: KnownPlaces, definition: Definition, control: Control, coefficient: float) -> None:
        if places.rules != definition.rules:
            raise ValueError(f"steering: places of {places.rules}, the definition has {definition.rules}")
        self._sequence = places.sequence()
        self._definition, self._control, self._coefficient = definition, control, coefficient
        self._moves_first = definition.position == "first"
        self._steps = StepAccumulator()
        self._highest = 1.0
        self._step = 0
        self._strength = 0.0
        self.confidences: list[float] = []
        """Of the steps that have ended."""
        self.texts: list[str] = []
        """What each step says, the one that is being written included."""
        self.moved = 0
        """Tokens whose state was moved."""

    def opened(self, token_ids: Sequence[int]) -> None:
        """Tokens that the completion was made to begin with. Raises ValueError where one is of a step."""
        for token in token_ids:
            if self._sequence.push(token)[1].step >= 0:
                raise ValueError("steering: a completion may be made to begin with tags, not with a part of a step")

    def saw(self, highest: float) -> None:
        """The probability, in (0, 1], of the likeliest token in the place of the next one."""
        self._highest = highest

    def wrote(self, token_id: int) -> float:
        """The token that was drawn there; the strength by which its own state is to be moved, mostly 0."""
        piece, placed = self._sequence.push(token_id)
        step, strength = placed.step, 0.0
        if step < 0 and not placed.closes:
            return strength
        if step >= 0:
            if step == len(self.texts):
                self.texts.append("")
            self.texts[step] += piece
            if step > self._step:
                self._step = step
                strength = self._strength if self._moves_first else 0.0
        ended = self._steps.push(self._highest, placed)
        if ended is not None:
            self.confidences.append(getattr(ended, self._definition.kind))
            recent = self.confidences[-self._definition.window :]
            self._strength = self._coefficient * self._control(recent[-1], variance(recent))
            if step >= 0 and not self._moves_first:
                strength = self._strength
        self.moved += strength != 0.0
        return strength


class Steering:
    """Steers calls of ``generate`` of one model, one at a time.

    ``vector`` has to be of this model (:meth:`estimators.steering.vector.SteeringVector.load` sees to it).
    ``opening_ids`` are tokens at the end of every prompt that the completion begins with, such as those that open the
    thought; ``end_ids`` end a completion. Raises ValueError for a layer that the model does not have and a direction of
    another width.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Tokenizer,
        vector: SteeringVector,
        control: Control,
        *,
        coefficient: float = 1.0,
        end_ids: Collection[int],
        opening_ids: Sequence[int] = (),
    ) -> None:
        check_layers(model, [vector.layer])
        width = model.config.get_text_config().hidden_size
        if vector.direction_H.shape != (width,):
            raise ValueError(f"steering: a direction of {len(vector.direction_H)} numbers, the model has {width}")
        self._model, self._vector, self._control = model, vector, control
        self._end_ids, self._opening, self.coefficient = frozenset(end_ids), tuple(opening_ids), coefficient
        self._step_H = vector.direction_H.to(model.device) * vector.distance
        self._places = KnownPlaces(tokenizer, vector.definition.rules)
        self._begin()

    def _begin(self) -> None:
        self.requests: list[SteeredRequest] = []
        """Of the rows of the last call, or of the one that is running."""
        self._ended: list[bool] = []
        self._strengths: list[float] = []
        self._ids_BL: torch.Tensor | None = None

    @contextmanager
    def attached(self) -> Iterator[Steering]:
        """Context manager: the model's states pass by here; behind it the model is as it was."""
        layer = self._vector.layer
        count = self._model.config.get_text_config().num_hidden_layers
        handle = (
            self._model.base_model.register_forward_hook(self._of_trunk)
            if layer == count
            else blocks(self._model)[layer].register_forward_pre_hook(self._of_block, with_kwargs=True)
        )
        try:
            yield self
        finally:
            handle.remove()
            self._strengths = []

    def arguments(self) -> dict[str, Any]:
        """What the next call of ``generate`` is given; nothing is left of the call before."""
        from transformers import LogitsProcessorList, StoppingCriteriaList

        self._begin()
        return {
            "logits_processor": LogitsProcessorList([self._processor]),
            "stopping_criteria": StoppingCriteriaList([self._criteria]),
        }

    def _processor(self, ids_BL: torch.Tensor, logits_BV: torch.Tensor) -> torch.Tensor:
        if self._ids_BL is None:
            self.requests = [self._request() for _ in ids_BL]
            self._ended = [False] * len(ids_BL)
        elif ids_BL.shape != self._ids_BL.shape or not torch.equal(ids_BL, self._ids_BL):
            raise RuntimeError("rows have moved between two tokens, as in beam search, which cannot be steered")
        with torch.no_grad():
            highest = logits_BV.softmax(dim=-1, dtype=torch.float32).amax(dim=-1).tolist()
        for request, each in zip(self.requests, highest, strict=True):
            request.saw(each)
        self._ids_BL = ids_BL
        return logits_BV

    def _request(self) -> SteeredRequest:
        request = SteeredRequest(self._places, self._vector.definition, self._control, self.coefficient)
        request.opened(self._opening)
        return request

    def _criteria(self, ids_BL: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        known = self._ids_BL
        if known is None or len(known) != len(ids_BL) or not torch.equal(ids_BL[:, : known.size(1)], known):
            raise RuntimeError("rows have moved between two tokens, as in beam search, which cannot be steered")
        ended = self._ended
        self._strengths = strengths = [0.0] * len(ids_BL)
        for row, token in enumerate(ids_BL[:, -1].tolist()):
            if not ended[row]:
                strengths[row] = self.requests[row].wrote(token)
                ended[row] = token in self._end_ids
        self._ids_BL = ids_BL
        return torch.zeros(len(ids_BL), dtype=torch.bool, device=ids_BL.device)

    def _moved(self, hidden_BLH: torch.Tensor) -> torch.Tensor:
        """The states with those of the last tokens moved; the same tensor where none is."""
        rows = [row for row, strength in enumerate(self._strengths) if strength]
        if not rows:
            return hidden_BLH
        if hidden_BLH.size(0) != len(self._strengths) or hidden_BLH.size(1) != 1:
            raise RuntimeError(
                f"states of {hidden_BLH.size(0)} rows and {hidden_BLH.size(1)} tokens at once for "
                f"{len(self._strengths)} requests: steering needs a cache and one token of each row a pass"
            )
        strengths_R1 = self._step_H.new_tensor([self._strengths[row] for row in rows]).unsqueeze(1)
        hidden_BLH = hidden_BLH.clone()
        hidden_BLH[rows, -1] += (strengths_R1 * self._step_H).to(hidden_BLH.dtype)
        return hidden_BLH

    def _of_block(self, _: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if inputs:
            return (self._moved(inputs[0]), *inputs[1:]), keywords
        return inputs, {**keywords, "hidden_states": self._moved(keywords["hidden_states"])}

    def _of_trunk(self, _: nn.Module, inputs: Any, output: Any) -> Any:
        output.last_hidden_state = self._moved(output.last_hidden_state)
        return output


def blocks(model: PreTrainedModel) -> nn.ModuleList:
    """The blocks of a causal language model's trunk, in order. Raises ValueError for one that has no such list."""
    count = model.config.get_text_config().num_hidden_layers
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ValueError(f"steering: {type(model).__name__} has no list of {count} blocks")
