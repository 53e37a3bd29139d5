"""Answers and confidences that are stated in words and not in tags, as in "Answer: 42, confidence: 85%"; for evaluation.

Used by :mod:`rewards.lenient` where a completion has no tags. A line with a label goes before a sentence, the last of
several before the others. Every pattern is bounded, and only the last few labels are followed up: a megabyte of
labels takes time linear in its length.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable

from rewards.completion import Span
from rewards.spelling import NUMBER, lenient_probability

_LONGEST = 400
"""Characters after a label that may belong to it."""
_FOLLOWED_UP = 4
"""Labels that are looked at, from the last backwards."""

_GAP = r"[ \t]{0,3}"
_BULLET = rf"[ \t]{{0,8}}(?:[-*>#\u2022]{{1,6}}{_GAP}){{0,3}}[{{*_`\"']{{0,4}}{_GAP}[\"']?"
_IS = rf"[*_`\"']{{0,4}}{_GAP}(?:[:\uff1a=]|(?=[ \t]*$))[*_`]{{0,4}}"
_NOTE = rf"(?:{_GAP}\(([^()\n]{{0,60}})\))?"
_ANSWER_LINE = re.compile(
    rf"^(?:{_BULLET}(?:(?:the|my|so|thus|hence|therefore|final|best),?[ \t]{{1,3}}){{0,4}}(?:answer|guess){_NOTE}{_IS}"
    r"|####(?=[ \t]*[^#\s]))",
    re.IGNORECASE | re.MULTILINE,
)
_ANSWER_SENTENCE = re.compile(
    r"\b(?:the|my)[ \t](?:(?:final|correct|best)[ \t])?(?:answer|guess)[ \t](?:is|would be)\b[:,]?"
    r"(?![ \t]{1,3}(?:not|wrong|incorrect|unclear|unknown|correct|right|in|that|to)\b)",
    re.IGNORECASE,
)
_CONFIDENCE = r"(?<![a-z])(?:confidence|certainty|probability)(?:[ \t](?:level|score|estimate))?"
_OF_WHAT = r"(?:[ \t](?:of|in|that)(?:[ \t](?:being|the|my|this|it|answer|is|correct|right|correctness)){1,5})?"
_CONFIDENCE_LABEL = re.compile(rf"{_CONFIDENCE}{_OF_WHAT}{_NOTE}{_IS}", re.IGNORECASE | re.MULTILINE)
_PERCENTAGE = rf"{NUMBER}{_GAP}(?:\\?%|percent\b)"
_CONFIDENCE_SENTENCE = re.compile(
    rf"\bmy[ \t]confidence(?:[ \t](?:level|score))?{_OF_WHAT}[ \t]is\b"
    rf"|\b(?:i[ \t]am|i['\u2019]m)(?=[ \t](?:about[ \t]|around[ \t]|approximately[ \t]|roughly[ \t])?{_PERCENTAGE}[ \t]"
    r"(?:confident|sure|certain)\b)"
    rf"|\bwith(?=[ \t](?:about[ \t]|a[ \t])?{_PERCENTAGE}[ \t](?:confidence|certainty)\b(?![ \t](?:interval|level|band)))",
    re.IGNORECASE,
)
_CONFIDENCE_END = re.compile(r"[;|\n]|,(?=[ \t]*[\"'a-z])|[.!?](?=\s|$)|(?<=[0-9%\"'])[ \t]?[)}\]]|[ \t]/[ \t]", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=[\s*_]|$)|\n")
_OTHER_SCALE = re.compile(r"(?:[2-9]|10)\.?")
_WORD = re.compile(r"\w")
_BEFORE = " \t\r*_`\"'\u201c\u201d=:"
_AFTER = " \t\r*_`\"'\u201c\u201d,;/|([\u2013\u2014-"


def worded_answer(text: str, start: int, end: int) -> Span | None:
    """Where the last answer in words stands in ``text[start:end]``, as after "Answer:" or "the answer is"; None without.

    Below a label that stands alone in its line the next line with a word or number in it is the answer.
    """
    for label in reversed(_last(_ANSWER_LINE.finditer(text, start, end))):
        stop = min(end, label.end() + _LONGEST)
        begin = label.end()
        for _ in range(4):
            line_end = _or_end(text.find("\n", begin, stop), stop)
            span = _answer_in(text, begin, line_end)
            if span is not None:
                return span
            begin = min(line_end + 1, stop)
    for sentence in reversed(_last(_ANSWER_SENTENCE.finditer(text, start, end))):
        stop = min(end, sentence.end() + _LONGEST)
        ended = _SENTENCE_END.search(text, sentence.end(), stop)
        span = _answer_in(text, sentence.end(), ended.start() if ended else stop)
        if span is not None:
            return span
    return None


def worded_confidence(text: str, start: int, end: int, answer: int | None) -> tuple[float, Span] | None:
    """The last confidence in words of ``text[start:end]``, as after "Confidence:" or in "I am 90% sure"; None without.

    ``answer`` is where the answer begins, None without one. Sentences, and "probability", which may be what was asked
    for, count only after it. A bare number from 2 to 10 may be of any scale and is not read.
    """
    found: list[tuple[int, float, Span]] = []
    for pattern in (_CONFIDENCE_LABEL, _CONFIDENCE_SENTENCE):
        for match in reversed(_last(pattern.finditer(text, start, end))):
            follows = answer is not None and match.start() > answer
            plain_label = pattern is _CONFIDENCE_LABEL and not match[0].lower().startswith("probability")
            if not (follows or plain_label) or (pattern is _CONFIDENCE_LABEL and _is_other_scale(match[1])):
                continue
            begin = match.end()
            while begin < end and text[begin].isspace():
                begin += 1
            stop = min(end, begin + _LONGEST)
            ended = _CONFIDENCE_END.search(text, begin, stop)
            span = _without(text, begin, ended.start() if ended else stop)
            stated = text[span.start : span.end]
            value = None if _OTHER_SCALE.fullmatch(stated) else lenient_probability(stated)
            if value is not None:
                found.append((match.start(), value, span))
                break
    if not found:
        return None
    _, value, span = max(found, key=lambda each: each[0])
    return value, span


def _answer_in(text: str, begin: int, end: int) -> Span | None:
    """The answer in a line or sentence, which ends where a confidence begins; None where nothing is left."""
    ends = [match.start() for pattern in (_CONFIDENCE_LABEL, _CONFIDENCE_SENTENCE)
            if (match := pattern.search(text, begin, end))]  # fmt: skip
    bare = re.search(rf"{_PERCENTAGE}[ \t](?:confiden|sure|certain)", text[begin:end], re.IGNORECASE)
    ends += [begin + bare.start()] if bare else []
    span = _without(text, begin, min([end, *ends]))
    content = text[span.start : span.end]
    return span if _WORD.search(content) else None


def _without(text: str, begin: int, end: int) -> Span:
    """``[begin, end)`` without the marks that Markdown, JSON and punctuation put around a value."""
    content = text[begin:end]
    begin += len(content) - len(content.lstrip(_BEFORE))
    content = text[begin:end].rstrip(_AFTER)
    for word in (" with", " and", " my"):
        content = content.removesuffix(word).rstrip(_AFTER)
    if content.endswith("}") and content.count("{") < content.count("}"):
        content = content[:-1].rstrip(_AFTER)
    if content.endswith(".") and not content.endswith(".."):
        content = content[:-1].rstrip(_AFTER)
    return Span(begin, begin + len(content))


def _is_other_scale(note: str | None) -> bool:
    """Whether a note such as "1-10" beside a label names a scale that does not end at 1 or 100."""
    numbers = re.findall(r"[0-9]{1,6}(?:\.[0-9]{1,6})?", note or "")
    return bool(numbers) and float(numbers[-1]) not in (1.0, 100.0)


def _last(matches: Iterable[re.Match[str]]) -> list[re.Match[str]]:
    return list(deque(matches, maxlen=_FOLLOWED_UP))


def _or_end(position: int, end: int) -> int:
    return end if position < 0 else position
