"""Stopping rules on streams of log-probabilities, as OpenAI-style servers send them and as they were recorded.

    streams = StreamWatch(rules, recorded_confidence("token_confidence", vocabulary=151_936), step_rules)
    for chunk in client.chat.completions.create(..., stream=True, logprobs=True, top_logprobs=20):
        if any(stop is not None for stop in streams.push(chunk.model_dump()).values()):
            ...  # close the connection, which ends the request, or ask for the answer with the thought so far

Both forms are read: chat (``choices[].logprobs.content[]`` with ``token``, ``bytes``, ``logprob``, ``top_logprobs``)
and completions (``choices[].logprobs`` with ``tokens``, ``token_logprobs``, ``top_logprobs``).
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from estimators.online.requests import PieceReading, distribution_confidence
from estimators.online.stopping import Monitor, Rule, Stop, Token
from estimators.recorded import RecordedToken, recorded_statistics, recorded_token, surely_listed
from estimators.segmentation import StepRules
from estimators.written import token_bytes, token_entries

_NOT_A_TOKEN = (AttributeError, KeyError, TypeError, ValueError)
_TEXTS = ("content", "reasoning_content", "reasoning")
"""Fields of a chat's delta that carry text; servers name that of the thought in two ways."""

TokenConfidence = Callable[[RecordedToken], float]
"""Confidence of a recorded token, higher where surer, NaN where the record does not hold enough."""


def recorded_confidence(name: str, vocabulary: int) -> TokenConfidence:
    """A statistic of :func:`estimators.recorded.recorded_statistics`; ``vocabulary`` is the model's number of tokens.

    ``token_confidence`` takes the k likeliest of a record, whether or not the server has put the drawn token behind
    them; it is NaN where those before it do not show that the k-th was listed for its own sake. Raises ValueError as
    :func:`estimators.online.requests.distribution_confidence` does.
    """
    distribution_confidence(name)
    return lambda token: float(getattr(recorded_statistics([[token]], vocabulary), name)[0, 0])


class StreamWatch:
    """Follows every choice of one stream, each with a state of its own; make another for the next stream.

    ``inside`` says that the prompt has opened the thought. Raises ValueError for a chunk with text, a thought's or an
    answer's, but without log-probabilities, and for what is not of a form above, naming its place.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        confidence: TokenConfidence,
        step_rules: StepRules | None = None,
        *,
        inside: bool = False,
    ) -> None:
        self._confidence = confidence
        self._begin = partial(_begin, rules, step_rules or StepRules(), inside)
        self._choices: dict[int, _Choice] = {}

    def push(self, chunk: Mapping[str, Any]) -> dict[int, Stop | None]:
        """Take in a chunk; the stop, or None, of each choice in it. A chunk that only ends a choice adds no token."""
        stops: dict[int, Stop | None] = {}
        for number, choice in enumerate(_listed(_mapping(chunk, "chunk").get("choices") or (), "choices")):
            index = _mapping(choice, f"choices[{number}]").get("index", 0)
            if not isinstance(index, int):
                raise ValueError(f"choices[{number}].index is {index!r}, expected a whole number")
            state = self._choices.setdefault(index, self._begin())
            for record, piece in _tokens(choice, state.utf8):
                state.push(self._confidence, record, piece)
            stops[index] = state.monitor.stopped
        return stops

    def monitor(self, index: int = 0) -> Monitor:
        """The monitor of a choice, for trial answers. Raises KeyError for one that has sent nothing."""
        return self._choices[index].monitor


def _begin(rules: Sequence[Rule], step_rules: StepRules, inside: bool) -> _Choice:
    return _Choice(Monitor(rules), PieceReading(step_rules, inside=inside))


class _Choice:
    def __init__(self, monitor: Monitor, reading: PieceReading) -> None:
        self.monitor, self._reading = monitor, reading
        self.utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._listed = 0
        """How many of the likeliest tokens the server lists, as far as it has shown."""

    def push(self, confidence: TokenConfidence, record: RecordedToken, piece: str) -> None:
        self._listed = max(self._listed, surely_listed(record))
        thinking, closes = self._reading.push_text(piece)
        self.monitor.token(Token(confidence(replace(record, likeliest=self._listed)), thinking, closes))


def _tokens(choice: Mapping[str, Any], utf8: codecs.IncrementalDecoder) -> Iterator[tuple[RecordedToken, str]]:
    """Tokens of a choice with the text that each adds: a character spread over tokens belongs to the last of them."""
    logprobs, delta = _mapping(choice.get("logprobs") or {}, "logprobs"), _mapping(choice.get("delta") or {}, "delta")
    entries = token_entries(logprobs) if logprobs else None
    if entries is None:
        if any(delta.get(field) for field in _TEXTS) or choice.get("text"):
            raise ValueError("a chunk holds text but no 'logprobs'; ask the server for logprobs and top_logprobs")
        return
    for place, entry in enumerate(_listed(entries, "logprobs.content")):
        try:
            record, raw = recorded_token(entry), entry.get("bytes")
            piece = str(entry["token"]) if raw is None else utf8.decode(token_bytes(entry))
        except _NOT_A_TOKEN as error:
            raise ValueError(f"logprobs.content[{place}]: {type(error).__name__} {error}") from error
        yield record, piece


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    raise ValueError(f"{name}: {type(value).__name__} found, expected a mapping")


def _listed(value: Any, name: str) -> Sequence[Any]:
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return value
    raise ValueError(f"{name}: {type(value).__name__} found, expected a list")
