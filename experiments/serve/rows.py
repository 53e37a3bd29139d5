"""What happens to each row of a batch while ``generate`` writes it: its own sampling, limits, stream and end.

Every row has its own temperature, seed, stop texts and length, and is ended when its client has left or when it fails,
so that requests of any kind share a batch. A row's text is the same as alone, up to rounding of the batch's arithmetic.

Shapes: B rows of the batch, T tokens so far, V tokens of the vocabulary.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase, StoppingCriteria

from estimators.decoding import StreamDecoder


@dataclass(eq=False)
class Row:
    """One request in a batch, and what it has written so far."""

    prompt_ids: list[int]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    likeliest: int | None = None
    stream: Callable[[str, list[dict[str, Any]]], None] | None = None
    """Called in the thread that generates, with each new piece of text and the log-probabilities of its tokens."""
    cancelled: bool = False
    error: Exception | None = None
    """What went wrong with this row alone."""
    ids: list[int] = field(default_factory=list)
    text: str = ""
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str | None = None
    _starts: list[int] = field(default_factory=list)
    _stopped: bool = False
    _sent: int = 0
    _listed: int = 0

    @property
    def done(self) -> bool:
        """Whether nothing more is written to it."""
        return self.finish_reason is not None or self.cancelled or self.error is not None

    @property
    def kept_ids(self) -> list[int]:
        """The tokens that write ``text``: all, but for those behind a stop text and those that write only of it."""
        return self.ids[: bisect_left(self._starts, len(self.text))] if self._stopped else self.ids

    def draw(self, logits_V: torch.Tensor, generator: torch.Generator | None) -> int:
        """The next token of this row at a temperature above 0, from its own distribution."""
        below_V = logits_V.double() - logits_V.max()  # at most 0, which no temperature makes infinite
        probabilities_V = torch.softmax(below_V / self.temperature, dim=-1)
        if self.top_p < 1.0:
            ranked_V, order_V = probabilities_V.sort(descending=True)
            kept_V = ranked_V.cumsum(dim=-1) - ranked_V < self.top_p
            probabilities_V = torch.zeros_like(probabilities_V).scatter(0, order_V, ranked_V * kept_V)
        return int(torch.multinomial(probabilities_V, 1, generator=generator))

    def write(self, token: int, piece: str, ends: bool) -> None:
        """Take one more token and the text that it added; ``ends`` says that it ends answers."""
        self.ids.append(token)
        self._starts.append(len(self.text))
        if ends:
            self.finish_reason = "stop"
        else:
            self.text += piece
            places = [place for each in self.stop if (place := self.text.find(each)) >= 0]
            if places:
                self.text, self.finish_reason, self._stopped = self.text[: min(places)], "stop", True
                del self.logprobs[len(self.kept_ids) :]
        if self.finish_reason is None and len(self.ids) >= self.max_tokens:
            self.finish_reason = "length"
        if self.stream is not None:
            self._send(self.stream)

    def _send(self, stream: Callable[[str, list[dict[str, Any]]], None]) -> None:
        """Stream what is settled: the end of the text is held back while it may yet become a stop text."""
        settled, listed = len(self.text), len(self.logprobs)
        if self.finish_reason is None:
            settled -= max(
                (size for each in self.stop for size in range(1, len(each)) if self.text.endswith(each[:size])),
                default=0,
            )
            listed = min(listed, bisect_left(self._starts, settled))
        new, entries = self.text[self._sent : settled], self.logprobs[self._listed : listed]
        if new or entries:
            stream(new, entries)
        self._sent, self._listed = max(self._sent, settled), max(self._listed, listed)


class OwnSampling(LogitsProcessor):
    """Leaves each row the one token that it has drawn, and lists log-probabilities where a row asks for them."""

    def __init__(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, end_ids: Collection[int]) -> None:
        self.rows, self.tokenizer, self.end_ids = rows, tokenizer, frozenset(end_ids)
        self._generators = [
            None if row.seed is None else torch.Generator().manual_seed(row.seed % 2**63) for row in rows
        ]
        self._texts: dict[int, str] = {}

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Logits (B, V) in which one token of each row is left."""
        chosen_B = scores.argmax(dim=-1)
        for number, (row, generator) in enumerate(zip(self.rows, self._generators, strict=True)):
            if row.done:
                continue
            try:
                if row.temperature > 0.0:
                    chosen_B[number] = row.draw(scores[number].cpu(), generator)
                token = int(chosen_B[number])
                if row.likeliest is not None and token not in self.end_ids:
                    row.logprobs.append(self._entry(scores[number], token, row.likeliest))
            except Exception as error:  # of this row, and the others are written on
                row.error = error
        return torch.full_like(scores, -math.inf).scatter(1, chosen_B.unsqueeze(1), 0.0)

    def _entry(self, logits_V: torch.Tensor, token: int, likeliest: int) -> dict[str, Any]:
        log_probs_V = logits_V.double().log_softmax(dim=-1)
        values, ids = log_probs_V.topk(min(likeliest, len(log_probs_V)))
        top = [self._listed(each, value) for each, value in zip(ids.tolist(), values.tolist(), strict=True)]
        return self._listed(token, float(log_probs_V[token])) | {"top_logprobs": top}

    def _listed(self, token: int, log_prob: float) -> dict[str, Any]:
        if token not in self._texts:
            self._texts[token] = self.tokenizer.decode([token], skip_special_tokens=False)
        text = self._texts[token]
        # JSON knows no infinity: OpenAI's servers send -9999 for a token without any probability.
        return {"token": text, "logprob": max(log_prob, -9999.0), "bytes": list(text.encode())}


class OwnEnds(StoppingCriteria):
    """Gives each row the token that was written, and ends the rows that are done."""

    def __init__(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, end_ids: Collection[int]) -> None:
        decoder: Any = tokenizer
        self.rows, self.end_ids = rows, frozenset(end_ids)
        self._decoders = [StreamDecoder(decoder) for _ in rows]

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Which rows are done, bool (B,)."""
        for row, decoder, token in zip(self.rows, self._decoders, input_ids[:, -1].tolist(), strict=True):
            if row.done:
                continue
            ends = token in self.end_ids
            last = len(row.ids) + 1 >= row.max_tokens
            try:
                row.write(token, "" if ends else decoder.push(token, last=last), ends)
            except Exception as error:  # as above
                row.error = error
        return torch.tensor([row.done for row in self.rows], device=input_ids.device)
