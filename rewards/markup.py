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

TAG_NAMES = {
    "prior_confidence": "prior",
    "reasoning": "think",
    "answer": "answer",
    "analysis": "analysis",
    "confidence": "confidence",
}
"""Field -> tag. All of them are reserved in every template, so that no field can hide inside another."""

WHITESPACE = " \t\n\r\f\v"
"""ASCII only: a no-break space is text, whatever ``str.strip`` thinks."""

_FIELDS = {tag: field for field, tag in TAG_NAMES.items()}
_TAG = re.compile(rf"<(/?)({'|'.join(_FIELDS)})>")
_OPENS = r"(?:\\?<|&(?:amp;)?lt;|&\#(?:60|x3c);|\\u003c|\uff1c)"
_CLOSES = r"(?:\\?>|&(?:amp;)?gt;|&\#(?:62|x3e);|\\u003e|\uff1e)"
_QUOTED = r"[^<>&\uff1c{quote}]{{0,200}}"
_VALUE = rf"""(?:"{_QUOTED.format(quote='"')}"|'{_QUOTED.format(quote="'")}'|&quot;{_QUOTED.format(quote='"')}&quot;"""
_VALUE += r"""|[^\s"'<>&\\/\uff1c\uff1e]{1,200})"""
_LENIENT_TAG = re.compile(
    # Possessive throughout: what cannot be a tag is given up at once, so that hostile text takes linear time.
    rf"{_OPENS}\s*+(\\?/|\\)?+\s*+({'|'.join(_FIELDS)})(?:\s++[a-z_][\w:.-]{{0,40}}+\s*+=\s*+{_VALUE})*+"
    # A closing tag may lack its bracket before the next tag or the end.
    rf"\s*+((?:\\?/)?+)\s*+(?:{_CLOSES}|(?(1)(?=<|\Z)|(?!)))"
    r"|(?P<token><[|\uff5c](?P<name>[^<>|\uff5c\s]{1,40})[|\uff5c]>|\[\|(?P<square>\w{1,40})\|\]"
    r"|</?s>|<(?P<word>(?:start|end)_of_\w{1,20}|eo[a-z]|bos|pad|unk|\|turn|turn\|)>|\[/?INST\]|\[EO[A-Z]\])",
    re.IGNORECASE | re.ASCII,
)
_ENDS_TURN = re.compile(r"end(?!\w*(?:head|thought))|^\[?eo[a-z](?:_id)?\]?$|return|turn\||/s|eos", re.IGNORECASE)

TURN, TURN_END = "turn", "turn_end"
"""Fields of the tags that chat templates put around a turn; neither is a field of a completion."""


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


def scan_tags(text: str, *, lenient: bool = False) -> list[Tag]:
    """Return every reserved tag of ``text`` in order.

    ``lenient`` takes tags of any case, with spaces and attributes, a slash on the wrong side, and escaped ones
    (``&lt;answer&gt;``), and the tokens that chat templates put around a turn, as closing tags of TURN or TURN_END.
    """
    if lenient:
        return [_lenient_tag(match) for match in _LENIENT_TAG.finditer(text)]
    return [Tag(_FIELDS[m[2]], bool(m[1]), m.start(), m.end()) for m in _TAG.finditer(text)]


def _lenient_tag(match: re.Match[str]) -> Tag:
    if match["token"]:
        ends = _ENDS_TURN.search(match["name"] or match["square"] or match["word"] or match["token"])
        return Tag(TURN_END if ends else TURN, True, match.start(), match.end())
    return Tag(_FIELDS[match[2].lower()], bool(match[1] or match[3]), match.start(), match.end())


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
    for field in (each for each in TAG_NAMES if each != "reasoning"):
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
    found = {field: blocks[field] for field in TAG_NAMES if field in blocks and field not in ambiguous}
    return Layout(found, frozenset(ambiguous))
