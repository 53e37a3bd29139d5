"""Where the tags of a completion are and which of them delimit fields; used by :mod:`rewards.template` only.

Everything here is one pass over the text or over its tags: a completion is hostile input, and a megabyte of opening
tags must cost no more than a megabyte of prose.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rewards.completion import Span

TAG_NAMES = {"reasoning": "think", "answer": "answer", "analysis": "analysis", "confidence": "confidence"}
"""Field -> tag. All four are reserved in every template, so that no field can hide inside another."""

WHITESPACE = " \t\n\r\f\v"
"""ASCII only: a no-break space is text, whatever ``str.strip`` thinks."""

_FIELDS = {tag: field for field, tag in TAG_NAMES.items()}
_TAG = re.compile(rf"<(/?)({'|'.join(_FIELDS)})>")
_TAG_ANY_CASE = re.compile(_TAG.pattern, re.IGNORECASE | re.ASCII)


class Tag(NamedTuple):
    """An opening or closing tag at characters ``[start, end)``."""

    field: str
    closing: bool
    start: int
    end: int


class Block(NamedTuple):
    """A field: ``inner`` is its content without surrounding whitespace, ``outer`` includes both tags."""

    inner: Span
    outer: Span


@dataclass(frozen=True, slots=True)
class Layout:
    """The fields that could be located, and those whose tags are repeated or nested (never both)."""

    blocks: dict[str, Block]
    ambiguous: frozenset[str]


def scan_tags(text: str, *, any_case: bool = False) -> list[Tag]:
    """Return every reserved tag of ``text`` in order."""
    pattern = _TAG_ANY_CASE if any_case else _TAG
    return [Tag(_FIELDS[m[2].lower()], bool(m[1]), m.start(), m.end()) for m in pattern.finditer(text)]


def trimmed(text: str, start: int, end: int) -> Span:
    """Return ``[start, end)`` without the ASCII whitespace at its ends; empty at ``start`` if nothing else is there."""
    content = text[start:end]
    length = len(content.strip(WHITESPACE))
    if not length:
        return Span(start, start)
    start += len(content) - len(content.lstrip(WHITESPACE))
    return Span(start, start + length)


def without_unfinished_thought(tags: Sequence[Tag]) -> list[Tag]:
    """Return the tags before a ``<think>`` that nothing closes: of a text that was cut off, the rest is a draft."""
    last_close = next((tag.start for tag in reversed(tags) if tag.field == "reasoning" and tag.closing), -1)
    unfinished = (tag.start for tag in tags if tag.field == "reasoning" and not tag.closing and tag.start > last_close)
    end = next(unfinished, None)
    return [tag for tag in tags if end is None or tag.start < end]


def outside_thinking(text: str, tags: Sequence[Tag]) -> tuple[list[Tag], Block | None, bool]:
    """Split the thinking from the rest.

    Returns the tags that are not thinking; the thought, if there is exactly one; and whether the thinking tags are
    repeated. Tags inside a closed thought are talk about the format and no fields. A missing ``<think>`` stands at
    the start of the text, as with a prompt that ends in it. If thinking tags repeat, it is unclear which talk is
    thought, and only what follows the last ``</think>`` is surely not. A ``<think>`` that nothing closes hides
    nothing.
    """
    opening = [tag for tag in tags if tag.field == "reasoning" and not tag.closing]
    closing = [tag for tag in tags if tag.field == "reasoning" and tag.closing]
    visible = [tag for tag in tags if tag.field != "reasoning"]
    if not closing:
        return visible, None, len(opening) > 1
    end = closing[-1].end
    if len(closing) > 1 or len(opening) > 1 or (opening and opening[0].start > closing[0].start):
        return [tag for tag in visible if tag.start >= end], None, True
    start, content = (opening[0].start, opening[0].end) if opening else (0, 0)
    thought = Block(trimmed(text, content, closing[0].start), Span(start, end))
    return [tag for tag in visible if not start <= tag.start < end], thought, False


def locate_fields(text: str, tags: Sequence[Tag]) -> Layout:
    """Locate each field that has exactly one opening and one closing tag and no reserved tag in between."""
    visible, thought, repeated = outside_thinking(text, tags)
    index_at = {tag.start: index for index, tag in enumerate(tags)}
    blocks = {} if thought is None else {"reasoning": thought}
    ambiguous = {"reasoning"} if repeated else set()
    for field in ("answer", "analysis", "confidence"):
        opening = [tag for tag in visible if tag.field == field and not tag.closing]
        closing = [tag for tag in visible if tag.field == field and tag.closing]
        if len(opening) > 1 or len(closing) > 1:
            ambiguous.add(field)
        elif opening and closing and opening[0].start < closing[0].start:
            blocks[field] = Block(
                trimmed(text, opening[0].end, closing[0].start), Span(opening[0].start, closing[0].end)
            )
            nested = tags[index_at[opening[0].start] + 1 : index_at[closing[0].start]]
            if nested:
                ambiguous |= {field, *(tag.field for tag in nested)}
    return Layout({field: block for field, block in blocks.items() if field not in ambiguous}, frozenset(ambiguous))
