r"""Forgiving readings of answers and confidences of models that were not trained on the template; for evaluation only.

Used by :meth:`rewards.template.AnswerTemplate.parse` with ``lenient=True`` for what the strict reading left unparsed.
Training never reads this way: it would pay for any format. What an answer is worth is the same either way: the two
readings differ in tags and in how a confidence is spelt.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from rewards.completion import Span
from rewards.markup import (
    TURN,
    TURN_END,
    WHITESPACE,
    Block,
    Tag,
    outside_thinking,
    scan_tags,
    trimmed,
    without_unfinished_thought,
)
from rewards.spelling import is_number, lenient_probability
from rewards.wording import states_confidence, worded_answer, worded_confidence

_BOXED = re.compile(r"\\(?:boxed|fbox|framebox)[ \t]?\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


class LenientReading(NamedTuple):
    """Where the answer is, what the confidences after and before it are and where; None for what is not there or
    ambiguous."""

    answer: Block | None
    confidence: tuple[float, Block] | None
    prior: tuple[float, Block] | None


class _Field(NamedTuple):
    """An opening tag, where its content ends, and the tag of the same field that closes it, with a slash or without."""

    tag: Tag
    end: int
    close: Tag | None


def read_leniently(text: str, *, truncated: bool) -> LenientReading:
    r"""Read the last answer and the last confidence of ``text``, in tags of any spelling, a box or the usual words.

    An answer may stand in a ``\boxed{}`` instead, or where there are no tags after "Answer:"; so may a confidence. A
    confidence may lack its closing tag if nothing but the number stands before the next tag or the end, and the text
    was not cut off there (``0.8`` may be the beginning of ``0.85``). A token that ends a turn ends the completion,
    unless nothing is answered before it. The confidence before the answer is read in tags alone. What follows the
    thinking is preferred to what is said in it; of a truncated text, nothing is read from an unfinished thought.
    """
    tags = scan_tags(text, lenient=True)
    end = len(text)
    if truncated:
        settled = without_unfinished_thought(tags)
        if len(settled) < len(tags):
            end, truncated = tags[len(settled)].start, False
        tags = settled
    turn_end = next((number for number, tag in enumerate(tags) if tag.field == TURN_END), None)
    if turn_end is not None:
        first = _read(text, tags[:turn_end], tags[turn_end].start, truncated=False)
        another = any(tag.field == TURN or (tag.field == "answer" and not tag.closing) for tag in tags[turn_end:])
        if first.answer is not None and (first.confidence is not None or another):
            return first
    return _read(text, tags, end, truncated)


def _read(text: str, tags: Sequence[Tag], end: int, truncated: bool) -> LenientReading:
    """Read what stands before ``end``, with the tags that stand there."""
    visible, _, _ = outside_thinking(text, tags)
    thinking_ends = max((tag.end for tag in tags if tag.field == "reasoning" and tag.closing), default=0)
    answers, confidences = (_fields(text, visible, field, end, truncated) for field in ("answer", "confidence"))
    answer = _closed(text, answers) or _one_line(text, answers)
    answer = answer or _closed(text, _fields(text, tags, "answer", end, truncated))
    answer = answer or _last_boxed(text, thinking_ends, end)
    # The last line of a text that was cut off may go on: "Confidence: 0.8" with a 5.
    words_end = max(text.rfind("\n", thinking_ends, end), thinking_ends) if truncated else end
    if answer is None:
        worded = worded_answer(text, thinking_ends, words_end, [tag.start for tag in tags])
        answer = _last_boxed(text, 0, thinking_ends) if worded is None else Block(worded, worded)
    if any(tag.field == "confidence" for tag in tags):
        confidence = _confidence(text, confidences, end)
        confidence = confidence or _confidence(text, _fields(text, tags, "confidence", end, truncated), end)
    else:
        begin = None if answer is None or answer.outer.start < thinking_ends else answer.outer.start
        stated = worded_confidence(text, thinking_ends, words_end, begin)
        confidence = None if stated is None else (stated[0], Block(stated[1], stated[1]))
    return LenientReading(answer, confidence, _prior(text, tags, end, truncated))


def _prior(text: str, tags: Sequence[Tag], end: int, truncated: bool) -> tuple[float, Block] | None:
    """The confidence before the answer, which stands before the tags of all other fields."""
    behind = (number for number, tag in enumerate(tags) if tag.field not in (TURN, TURN_END, "prior_confidence"))
    first = next(behind, None)
    if first is not None:
        tags, end, truncated = tags[:first], tags[first].start, False
    return _confidence(text, _fields(text, tags, "prior_confidence", end, truncated), end)


def _fields(text: str, tags: Sequence[Tag], field: str, end: int, truncated: bool) -> list[_Field]:
    """Every field of one name, in order, innermost where tags are nested.

    Its content ends at the next tag of any kind: ``<answer>7 <confidence>0.9</confidence></answer>`` answers 7. An
    opening tag right after another is its closing tag with the slash forgotten, unless a closing one comes next.
    """
    fields = []
    same = [(number, tag) for number, tag in enumerate(tags) if tag.field == field]
    taken = False
    for place, (number, tag) in enumerate(same):
        if tag.closing or taken:
            taken = False
            continue
        content_end = max(tag.end, tags[number + 1].start if number + 1 < len(tags) else end)
        later = same[place + 1 : place + 3]
        closed = bool(later) and later[0][1].closing
        if later and not closed and later[0][0] == number + 1 and text[tag.end : content_end].strip(WHITESPACE):
            closed = taken = len(later) == 1 or not later[1][1].closing
        if closed or number + 1 < len(tags) or not truncated:
            fields.append(_Field(tag, content_end, later[0][1] if closed else None))
    return fields


def _block(text: str, field: _Field) -> Block:
    inner = trimmed(text, field.tag.end, field.end)
    return Block(inner, Span(field.tag.start, inner.end if field.close is None else field.close.end))


def _closed(text: str, fields: Sequence[_Field]) -> Block | None:
    """The last closed field, None where there is none or it is empty."""
    field = next((each for each in reversed(fields) if each.close is not None), None)
    block = None if field is None else _block(text, field)
    return block if block is not None and block.inner.start < block.inner.end else None


def _one_line(text: str, fields: Sequence[_Field]) -> Block | None:
    """The last field, if none is closed and it is one line: otherwise it is talk about the tag."""
    if not fields or any(each.close is not None for each in fields):
        return None
    block = _block(text, fields[-1])
    content = text[block.inner.start : block.inner.end]
    return block if content and "\n" not in content else None


def _confidence(text: str, fields: Sequence[_Field], end: int) -> tuple[float, Block] | None:
    """The last confidence, None where it is not a probability.

    One that is not closed must be nothing but a number, and the last thing said or the only thing to go by.
    """
    any_closed = any(field.close is not None for field in fields)
    for field in reversed(fields):
        content = text[field.tag.end : field.end]
        if field.close is not None or ((field.end == end or not any_closed) and is_number(content)):
            value = lenient_probability(content)
            return None if value is None else (value, _block(text, field))
    return None


def _last_boxed(text: str, start: int, end: int) -> Block | None:
    r"""The last ``\boxed{...}`` that begins in ``[start, end)``, if its braces close there and it is not empty.

    One behind "Confidence:" is no answer, of the last few.
    """
    boxes = deque(_BOXED.finditer(text, start, end), maxlen=3)
    begin = next((box for box in reversed(boxes) if not states_confidence(text, box.start())), None)
    if begin is None:
        return None
    depth = 1
    for match in _BRACE.finditer(text, begin.end(), end):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            inner = trimmed(text, begin.end(), match.start())
            return Block(inner, Span(begin.start(), match.end())) if inner.start < inner.end else None
    return None
