"""The text that tokens add, one token at a time: a stream and a whole completion are cut at the same characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

AS_WRITTEN = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
"""How tokens are decoded: special tokens stay visible, for a tag may be one, and no space is tidied away."""

_WINDOW = 6
"""Tokens decoded together to see an unfinished character: more than any one spans in a byte-level vocabulary."""


class Tokenizer(Protocol):
    """What is asked of a tokenizer here, which those of transformers have."""

    def decode(self, token_ids: Sequence[int], **options: Any) -> Any:
        """The text of tokens."""
        ...


DecoderState = tuple[tuple[int, ...], int]
"""What a :class:`StreamDecoder` remembers of the tokens so far."""


class StreamDecoder:
    """Decodes one sequence token by token, in the context of the tokens before.

    A character whose bytes are spread over several tokens belongs to the last of them: the others add no text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._held: list[int] = []
        self._settled = 0
        """How many of the tokens held are decoded for context only: their text was returned."""

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, **AS_WRITTEN))

    def push(self, token_id: int, *, last: bool = False) -> str:
        """The text that the next token adds. The ``last`` one of a sequence gives out an unfinished character too."""
        self._held.append(token_id)
        start = max(0, len(self._held) - _WINDOW)  # enough, however long a run of unfinished characters is
        now = self._decode(self._held[start:])
        if now.endswith("\N{REPLACEMENT CHARACTER}") and not last:
            return ""
        now = now if start == 0 else self._decode(self._held)
        added = now[len(self._decode(self._held[: self._settled])) :]
        self._held = self._held[self._settled :]
        self._settled = len(self._held)
        return added

    @property
    def state(self) -> DecoderState:
        """What decides the text that the next token adds."""
        return tuple(self._held), self._settled

    def restore(self, state: DecoderState) -> None:
        """Go on from the ``state`` of a decoder of the same tokenizer."""
        self._held, self._settled = list(state[0]), state[1]
