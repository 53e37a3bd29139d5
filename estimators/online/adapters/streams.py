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
from functools import partial
from typing import Any

from estimators.online.requests import PieceReading, distribution_confidence
from estimators.online.stopping import Monitor, Rule, Stop, Token
from estimators.recorded import RecordedToken, recorded_statistics
from estimators.segmentation import StepRules
from estimators.written import log_probability, token_entries

_NOT_A_TOKEN = (AttributeError, KeyError, TypeError, ValueError)

TokenConfidence = Callable[[RecordedToken], float]
"""Confidence of a recorded token, higher where surer, NaN where the record does not hold enough."""


def recorded_confidence(name: str, vocabulary: int) -> TokenConfidence:
    """A statistic of :func:`estimators.recorded.recorded_statistics`; ``vocabulary`` is the model's number of tokens.

    ``token_confidence`` takes the k likeliest of a record, whether or not the server has put the drawn token behind
    them. Raises ValueError as :func:`estimators.online.requests.distribution_confidence` does.
    """
    distribution_confidence(name)
    return lambda token: float(getattr(recorded_statistics([[token]], vocabulary), name)[0, 0])


class StreamWatch:
    """Follows every choice of one stream, each with a state of its own; make another for the next stream.

    ``inside`` says that the prompt has opened the thought. Raises ValueError for a chunk without log-probabilities, and
    for what are none, naming its place.
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
        for choice in chunk.get("choices") or ():
            index = choice.get("index", 0)
            state = self._choices.setdefault(index, self._begin())
            for record, piece in _tokens(choice, state.utf8):
                state.push(self._confidence(record), piece)
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

    def push(self, confidence: float, piece: str) -> None:
        thinking, closes = self._reading.push_text(piece)
        self.monitor.token(Token(confidence, thinking, closes))


def _tokens(choice: Mapping[str, Any], utf8: codecs.IncrementalDecoder) -> Iterator[tuple[RecordedToken, str]]:
    """Tokens of a choice with the text that each adds: a character spread over tokens belongs to the last of them."""
    logprobs = choice.get("logprobs")
    entries = token_entries(logprobs) if logprobs else None
    if entries is None:
        if (choice.get("delta") or {}).get("content") or choice.get("text"):
            raise ValueError("a chunk holds text but no 'logprobs'; ask the server for logprobs and top_logprobs")
        return
    for place, entry in enumerate(entries):
        try:
            top = [log_probability(each) for each in entry.get("top_logprobs") or ()]
            raw = entry.get("bytes")
            piece = entry["token"] if raw is None else utf8.decode(bytes(raw))
            record = RecordedToken(log_probability(entry), dict(enumerate(top)))
        except _NOT_A_TOKEN as error:
            raise ValueError(f"logprobs.content[{place}]: {type(error).__name__} {error}") from error
        yield record, piece
