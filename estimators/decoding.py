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


Known = dict[tuple[tuple[int, ...], int, int], str]
"""What tokens add behind the tokens that they are decoded with, so that the same is not decoded again."""
_MOST_KNOWN = 2**16


class StreamDecoder:
    """Decodes one sequence token by token, in the context of the tokens before.

    A character whose bytes are spread over several tokens belongs to the last of them: the others add no text.
    ``known`` is shared by the decoders of one tokenizer, which then decode nothing twice.
    """

    def __init__(self, tokenizer: Tokenizer, known: Known | None = None) -> None:
        self._tokenizer, self._known = tokenizer, known
        self._held: list[int] = []
        self._settled = 0
        """How many of the tokens held are decoded for context only: their text was returned."""

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, **AS_WRITTEN))

    def push(self, token_id: int, *, last: bool = False) -> str:
        """The text that the next token adds. The ``last`` one of a sequence gives out an unfinished character too."""
        place = (tuple(self._held), self._settled, token_id)
        self._held.append(token_id)
        added = None if last or self._known is None else self._known.get(place)
        if added is not None:
            self._settle()
            return added
        start = max(0, len(self._held) - _WINDOW)  # enough, however long a run of unfinished characters is
        now = self._decode(self._held[start:])
        if now.endswith("\N{REPLACEMENT CHARACTER}") and not last:
            return ""
        now = now if start == 0 else self._decode(self._held)
        added = now[len(self._decode(self._held[: self._settled])) :]
        if self._known is not None and not last and len(self._known) < _MOST_KNOWN:
            self._known[place] = added
        self._settle()
        return added

    def _settle(self) -> None:
        self._held = self._held[self._settled :]
        self._settled = len(self._held)
