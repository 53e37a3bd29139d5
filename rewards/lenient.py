"""Forgiving readings of answers and confidences of models that were not trained on the template; for evaluation only.

Used by :meth:`rewards.template.AnswerTemplate.parse` with ``lenient=True`` for what the strict reading left unparsed.
Training never reads this way: it would pay for any format.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from rewards.completion import Span
from rewards.markup import Block, Tag, outside_thinking, scan_tags, trimmed, without_unfinished_thought

_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_PERCENT = r"(?:%|percent\b|per cent\b)"
_ALONE = re.compile(rf"({_NUMBER})[ \t]?({_PERCENT})?", re.IGNORECASE)
_AMONG_WORDS = re.compile(rf"([-\u2212\u2013])?({_NUMBER})[ \t]?({_PERCENT})?", re.IGNORECASE)
_BOXED = "\\boxed{"
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


class LenientReading(NamedTuple):
    """Where the answer is, what the confidence is and where; None for what is not there or ambiguous."""

    answer: Block | None
    confidence: tuple[float, Block] | None


def read_leniently(text: str, *, truncated: bool) -> LenientReading:
    r"""Read the last answer and the last confidence of ``text``, in tags of any case.

    An answer may stand in a ``\boxed{}`` instead. The last confidence may lack its closing tag if nothing but the
    number follows and the text was not cut off there (``0.8`` may be the beginning of ``0.85``). What follows the
    thinking is preferred to what is said in it; of a truncated text, nothing is read from an unfinished thought.
    """
    tags = scan_tags(text, any_case=True)
    end = len(text)
    if truncated:
        settled = without_unfinished_thought(tags)
        end = tags[len(settled)].start if len(settled) < len(tags) else end
        tags = settled
    visible, _, _ = outside_thinking(text, tags)
    answer = _answer(text, visible) or _answer(text, tags)
    if answer is None:
        thinking = [tag.end for tag in tags if tag.field == "reasoning" and tag.closing]
        answer = _last_boxed(text, thinking[-1] if thinking else 0, end) or _last_boxed(text, 0, end)
    confidence = _confidence(text, visible, truncated) or _confidence(text, tags, truncated)
    return LenientReading(answer, confidence)


def lenient_probability(content: str) -> float | None:
    """Return the one probability that ``content`` states, or None where there is none or more than one.

    A number alone is a probability up to 1 and a percentage above it, up to 100. Among words it must be at most 1 or
    carry a percent sign, since "9" in "9 out of 10" or "level 3" is neither; two numbers must agree.

    >>> [lenient_probability(content) for content in ("0.85", "85%", "100.", "about 0.8", "90% sure", "8/10", "nan")]
    [0.85, 0.85, 1.0, 0.8, 0.9, None, None]
    """
    if not content.isascii() and any(char.isnumeric() and not char.isascii() for char in content):
        return None
    alone = _ALONE.fullmatch(content)
    if alone:
        value = float(alone[1])
        value = value / 100 if alone[2] or value > 1 else value
        return value if value <= 1 else None
    found: set[float] = set()
    for sign, number, percent in _AMONG_WORDS.findall(content):
        value = float(number) / 100 if percent else float(number)
        if sign or value > 1:
            return None
        found.add(value)
    return found.pop() if len(found) == 1 else None


def _answer(text: str, tags: Sequence[Tag]) -> Block | None:
    block = _last_pair(text, tags, "answer")
    return block if block is not None and block.inner.start < block.inner.end else None


def _confidence(text: str, tags: Sequence[Tag], truncated: bool) -> tuple[float, Block] | None:
    block = _last_pair(text, tags, "confidence")
    if tags and tags[-1].field == "confidence" and not tags[-1].closing and not truncated:
        inner = trimmed(text, tags[-1].end, len(text))
        if _ALONE.fullmatch(text, inner.start, inner.end):
            block = Block(inner, Span(tags[-1].start, inner.end))
    if block is None:
        return None
    value = lenient_probability(text[block.inner.start : block.inner.end])
    return None if value is None else (value, block)


def _last_pair(text: str, tags: Sequence[Tag], field: str) -> Block | None:
    """The last innermost pair of one field's tags.

    Its content ends at the next tag of any kind: ``<answer>7 <confidence>0.9</confidence></answer>`` answers 7.
    """
    pair: tuple[Tag, int, Tag] | None = None
    opened: Tag | None = None
    content_end: int | None = None
    for tag in tags:
        if tag.field == field and not tag.closing:
            opened, content_end = tag, None
            continue
        content_end = tag.start if content_end is None else content_end
        if tag.field == field and opened is not None:
            pair, opened = (opened, content_end, tag), None
    if pair is None:
        return None
    start, end, close = pair
    return Block(trimmed(text, start.end, end), Span(start.start, close.end))


def _last_boxed(text: str, start: int, end: int) -> Block | None:
    r"""The last ``\boxed{...}`` that begins in ``[start, end)``, if its braces close there and it is not empty."""
    begin = text.rfind(_BOXED, start, end)
    if begin < 0:
        return None
    depth = 1
    for match in _BRACE.finditer(text, begin + len(_BOXED), end):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            inner = trimmed(text, begin + len(_BOXED), match.start())
            return Block(inner, Span(begin, match.end())) if inner.start < inner.end else None
    return None
