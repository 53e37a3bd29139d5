"""One request of an engine: what its tokens mean to a monitor, and which tokens a stop forces.

Engines give logits first and the token that was drawn from them later, in batches whose rows come and go. Each request
has a :class:`Request` of its own; an adapter keeps them apart and does nothing else.

Shapes: R rows of a batch, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import torch

from estimators.online.stopping import Monitor, Rule, Stop, Token
from estimators.placing import KnownPlaces
from estimators.segmentation import Placed, StepRules, StepSegmenter
from estimators.token_statistics import TokenStatistics, token_statistics

NOT_OF_A_DISTRIBUTION = ("log_prob", "entropy", "level_log_probs")
"""Statistics that a threshold cannot stand for: of the drawn token alone, or lower where the model is surer."""

Confidence = Callable[[torch.Tensor], torch.Tensor]
"""Logits (R, V), float32 and at temperature 1, -> confidence of each row's next token (R,), higher where surer."""


def distribution_confidence(name: str) -> Confidence:
    """The statistic of that name in :class:`estimators.token_statistics.TokenStatistics`, read off logits.

    Raises ValueError for one that is of the token that was drawn, or lower where the model is surer.
    """
    allowed = [each.name for each in fields(TokenStatistics) if each.name not in NOT_OF_A_DISTRIBUTION]
    if name not in allowed:
        raise ValueError(f"confidence {name!r}, expected one of {', '.join(allowed)}")
    return lambda logits_RV: getattr(token_statistics(logits_RV, logits_RV.argmax(dim=-1)), name)


class Reading(Protocol):
    """Where the tokens of one request stand."""

    def push(self, token_id: int) -> tuple[bool, bool]:
        """Whether the next token is of the thought, and whether a step of the thought ends with it or before it."""
        ...


class TextReading:
    """By the text that tokens add; ``inside`` says that the prompt has opened the thought.

    ``places`` are shared by the requests of one tokenizer.
    """

    def __init__(self, places: KnownPlaces, *, inside: bool = False) -> None:
        self._sequence = places.sequence(inside=inside)

    def push(self, token_id: int) -> tuple[bool, bool]:
        """Place a token."""
        before = self._sequence.inside
        _, placed = self._sequence.push(token_id)
        return _meant(before, self._sequence.inside, placed)


def _meant(before: bool, inside: bool, placed: Placed) -> tuple[bool, bool]:
    """What a token means that was placed, with the thought open ``before`` it and after."""
    # A step that the thought's end has closed needs no trial answer: the answer comes by itself.
    return before and inside, placed.closes and inside


class PieceReading:
    """By the text itself, for streams that carry it; ``push_text`` takes what the next token adds."""

    def __init__(self, rules: StepRules, *, inside: bool = False) -> None:
        self._segmenter = StepSegmenter(rules, inside=inside)

    def push_text(self, piece: str) -> tuple[bool, bool]:
        """Place a token by its text."""
        before = self._segmenter.inside
        placed = self._segmenter.push(piece)
        return _meant(before, self._segmenter.inside, placed)


class IdReading:
    """By token ids alone, where an engine's worker has no tokenizer: a thought that ends with ``close_ids``; no steps.

    Without ``close_ids`` every token is of the thought.
    """

    def __init__(self, close_ids: Sequence[int] = ()) -> None:
        self._close, self._inside = tuple(close_ids), True
        self._recent: tuple[int, ...] = ()

    def push(self, token_id: int) -> tuple[bool, bool]:
        """Place a token."""
        self._recent = (*self._recent, token_id)[-len(self._close) :] if self._close else ()
        self._inside = self._inside and not (self._close and self._recent == self._close)
        return self._inside, False


@dataclass(frozen=True, slots=True)
class Forcing:
    """Tokens that carry out a stop: those that end a completion, and those that close a thought."""

    end_id: int
    close_ids: tuple[int, ...] = ()


class Request:
    """A request as an engine's adapter sees it: logits come, then the token drawn from them, and again."""

    def __init__(self, rules: Sequence[Rule], reading: Reading, forcing: Forcing) -> None:
        needs_closing = [rule.name for rule in rules if rule.answers]
        if needs_closing and not forcing.close_ids:
            raise ValueError(f"rule {needs_closing[0]!r} closes the thought, but no token ids that close it are given")
        self.monitor = Monitor(rules)
        self._reading, self._forcing = reading, forcing
        self._confidence = math.nan
        self._closing: list[int] = []

    def saw(self, confidence: float) -> None:
        """The confidence of the distribution that the next token will be drawn from."""
        self._confidence = confidence

    def wrote(self, token_id: int) -> Stop | None:
        """The token that was drawn from what was seen last; a stop, once there is one."""
        if self.monitor.stopped is not None:
            if self._closing:
                self._closing.pop(0)
            return self.monitor.stopped
        thinking, closes = self._reading.push(token_id)
        return self._after(self.monitor.token(Token(self._confidence, thinking, closes)))

    def resume(self, token_ids: Sequence[int]) -> None:
        """Take in what an engine that comes back to a request had written of it, with confidences that are not kept.

        A budget and the place in the thought are as they were; a window is known again once it is full of new tokens.
        """
        for token_id in token_ids:
            self.saw(math.nan)
            self.wrote(token_id)

    def tried(self, confidence: float) -> Stop | None:
        """The confidence of a trial answer, where ``monitor.trial_due``."""
        return self._after(self.monitor.trial(confidence))

    def _after(self, stop: Stop | None) -> Stop | None:
        self._closing = list(self._forcing.close_ids) if stop is not None and stop.answers else []
        return stop

    @property
    def forced(self) -> int | None:
        """The token that has to come next; None where the model is free."""
        if self.monitor.stopped is None:
            return None
        if not self.monitor.stopped.answers:
            return self._forcing.end_id
        return self._closing[0] if self._closing else None


def force(logits_RV: torch.Tensor, forced: Sequence[int | None]) -> torch.Tensor:
    """Logits (R, V) that leave a row nothing but its forced token; the same tensor, untouched, where none is forced."""
    rows = [row for row, token in enumerate(forced) if token is not None]
    if not rows:
        return logits_RV
    logits_RV = logits_RV.clone()
    logits_RV[rows] = -torch.inf
    logits_RV[rows, [forced[row] for row in rows]] = 0.0
    return logits_RV
