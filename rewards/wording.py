"""Answers and confidences that are stated in words, as in "Answer: 42, confidence: 85%"; for evaluation only.

Used by :mod:`rewards.lenient` where a completion has no tags. A line with a label goes before a sentence, the last of
several before the others. Every pattern is bounded, and only the last few labels are followed up: a megabyte of
labels takes time linear in its length.
"""

from __future__ import annotations

import bisect
import re
from collections import deque
from collections.abc import Iterable, Sequence

from rewards.completion import Span
from rewards.spelling import NUMBER, lenient_probability

_LONGEST = 400
"""Characters after a label that may belong to it."""
_FOLLOWED_UP = 4
"""Labels that are looked at, from the last backwards."""

_GAP = r"[ \t]{0,3}"
_BULLET = rf"[ \t]{{0,8}}(?:[-*>#\u2022]{{1,6}}{_GAP}|[0-9]{{1,2}}[.)]{_GAP}){{0,3}}[{{*_`\"']{{0,4}}{_GAP}[\"']?"
_IS = rf"[*_`\"']{{0,4}}{_GAP}(?:[:\uff1a=\u2192]|[-\u2013\u2014](?=[ \t])|(?=[ \t]*$))[*_`]{{0,4}}"
_ANSWERS = "answer|guess|réponse|respuesta|resposta|risposta|antwort|ответ|答案|答え|정답"
_CONFIDENCES = (
    "confidence|certainty|probability|confiance|confianza|confiança|konfidenz|fiducia"
    r"|уверенность|置信度|信心|確信度|확신도|p\((?:correct|true|right)\)"
)
"""The two labels, in English and in other languages."""
_NOTE = rf"(?:{_GAP}[(\[]([^()\[\]\n]{{0,60}})[)\]])?(?:[ \t]is(?=[ \t]?:))?"
_ANSWER_LINE = re.compile(
    rf"(?:^|(?<=[.!?;,]\s)|(?<=>))"
    rf"(?:{_BULLET}(?:(?:the|my|so|thus|hence|therefore|final|best),?[ \t]{{1,3}}){{0,4}}(?:{_ANSWERS}){_NOTE}{_IS}"
    r"|####(?=[ \t]*[^#\s]))",
    re.IGNORECASE | re.MULTILINE,
)
_ANSWER_SENTENCE = re.compile(
    r"\b(?:the|my)[ \t](?:(?:final|correct|best)[ \t])?(?:answer|guess)[ \t](?:is|would be)\b[:,]?"
    r"(?![ \t]{1,3}(?:not|wrong|incorrect|unclear|unknown|correct|right|in|that|to)\b)",
    re.IGNORECASE,
)
_CONFIDENCE = rf"(?<![a-z])(?:{_CONFIDENCES})(?:[ \t](?:level|score|estimate))?"
_OF_WHAT = r"(?:[ \t](?:of|in|that)(?:[ \t](?:being|the|my|this|it|answer|is|correct|right|correctness)){1,5})?"
_CONFIDENCE_LABEL = re.compile(rf"{_CONFIDENCE}{_OF_WHAT}{_NOTE}{_IS}", re.IGNORECASE | re.MULTILINE)
_PERCENTAGE = rf"{NUMBER}{_GAP}(?:\\?%|percent\b)"
_CONFIDENCE_SENTENCE = re.compile(
    rf"\bmy[ \t]confidence(?:[ \t](?:level|score))?{_OF_WHAT}[ \t]is\b"
    rf"|(?<![\w.])(?<!not[ \t])(?<!n['\u2019]t[ \t])(?<!than[ \t])(?<!least[ \t])(?<!most[ \t])"
    rf"(?={_PERCENTAGE}[ \t](?:confident|sure|certain)\b)"
    r"|\b(?:with[ \t](?:an?[ \t])?)?(?:confidence|certainty)(?:[ \t](?:level|score))?(?:[ \t](?:is|of|at))?"
    rf"(?=[ \t](?:about[ \t])?(?:{_PERCENTAGE}|[01]?\.[0-9]))"
    rf"|\bwith(?=[ \t](?:about[ \t]|a[ \t])?{_PERCENTAGE}[ \t](?:confidence|certainty)\b)"
    r"(?![^\n]{0,40}confidence[ \t](?:interval|level|band))",
    re.IGNORECASE,
)
_CONFIDENCE_END = re.compile(
    r"[;|\n]|,(?=[ \t]*[\"'a-z])|[.!?](?=\s|$)|(?<=[0-9%\"'])[ \t]?[)}\]]|[ \t]/[ \t](?!1)"
    r"|[ \t](?:because|since|as|but|given)\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?](?=[\s*_]|$)|\n")
_PROBABILITY = re.compile(r"probability(?!.{0,80}\b(?:correct|right))", re.IGNORECASE)
_OTHER_SCALE = re.compile(r"(?:[2-9]|10)\.?")
_WORD = re.compile(r"\w")
_BEFORE = " \t\r*_`\"'\u201c\u201d=:"
_AFTER = " \t\r*_`\"'\u201c\u201d,;/|([\u2013\u2014\\-"


def states_confidence(text: str, position: int) -> bool:
    """Whether a label of a confidence stands before ``position`` in its line."""
    start = max(text.rfind("\n", 0, position) + 1, position - _LONGEST // 4)
    labels = _last(_CONFIDENCE_LABEL.finditer(text, start, position))
    return bool(labels) and not _PROBABILITY.match(labels[-1][0]) and not _WORD.search(text, labels[-1].end(), position)


def worded_answer(text: str, start: int, end: int, tag_starts: Sequence[int] = ()) -> Span | None:
    """Where the last answer in words stands in ``text[start:end]``, as after "Answer:" or "the answer is".

    Below a label that stands alone in its line the next line with a word or number in it is the answer. It ends where
    a tag begins (``tag_starts``, increasing) or a confidence.
    """
    for label in reversed(_last(_ANSWER_LINE.finditer(text, start, end))):
        begin, stop = label.end(), _stop(label.end(), end, tag_starts)
        for _ in range(4):
            line_end = text.find("\n", begin, stop)
            line_end = stop if line_end < 0 else line_end
            span = _answer_in(text, begin, line_end)
            if span is not None:
                return span
            begin = min(line_end + 1, stop)
    for sentence in reversed(_last(_ANSWER_SENTENCE.finditer(text, start, end))):
        stop = _stop(sentence.end(), end, tag_starts)
        ended = _SENTENCE_END.search(text, sentence.end(), stop)
        span = _answer_in(text, sentence.end(), ended.start() if ended else stop)
        if span is not None:
            return span
    return None


def worded_confidence(text: str, start: int, end: int, answer: int | None) -> tuple[float, Span] | None:
    """The last confidence in words of ``text[start:end]``, as after "Confidence:" or in "I am 90% sure"; None without.

    ``answer`` is where the answer begins, None without one. Sentences, and "probability", which may be what was asked
    for, count only after it; sentences also where they say the answer, as in "I am 90% sure that the answer is 42". A
    bare number from 2 to 10 may be of any scale and is not read.
    """
    found: list[tuple[int, float, Span]] = []
    for pattern in (_CONFIDENCE_LABEL, _CONFIDENCE_SENTENCE):
        for match in reversed(_last(pattern.finditer(text, start, end))):
            labelled = pattern is _CONFIDENCE_LABEL and _is_label(text, match)
            if not labelled and (pattern is _CONFIDENCE_LABEL or not _is_of(text, match, answer)):
                continue
            if labelled and _PROBABILITY.match(match[0]) and (answer is None or match.start() <= answer):
                continue
            begin, stop = match.end(), _stop(match.end(), end, () if answer is None else (answer,))
            begin += len(text[begin:stop]) - len(text[begin:stop].lstrip())
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


def _is_label(text: str, match: re.Match[str]) -> bool:
    """Whether a name of confidence labels what follows, on a scale that ends at 1 or 100.

    Where no sign follows the name it must be a heading: alone in its line.
    """
    numbers = re.findall(r"[0-9]{1,6}(?:\.[0-9]{1,6})?", match[1] or "")
    line = text[max(text.rfind("\n", 0, match.start()) + 1, match.start() - _LONGEST) : match.start()]
    signed = match[0].rstrip("*_`")[-1:] in ":\uff1a=\u2192-\u2013\u2014"
    return (signed or not _WORD.search(line)) and (not numbers or float(numbers[-1]) in (1.0, 100.0))


def _is_of(text: str, match: re.Match[str], answer: int | None) -> bool:
    """Whether a sentence about a confidence stands behind the answer, which begins at ``answer``, or says it."""
    if answer is None or match.start() > answer:
        return answer is not None
    return answer - match.start() <= _LONGEST and not _SENTENCE_END.search(text, match.start(), answer)


def _stop(begin: int, end: int, tag_starts: Sequence[int]) -> int:
    """Where the text that may belong to a label ends."""
    number = bisect.bisect_left(tag_starts, begin)
    return min([end, begin + _LONGEST, *tag_starts[number : number + 1]])


def _answer_in(text: str, begin: int, end: int) -> Span | None:
    """The answer in a line or sentence, which ends where a confidence begins; None where nothing is left."""
    found = [pattern.search(text, begin, end) for pattern in (_CONFIDENCE_LABEL, _CONFIDENCE_SENTENCE)]
    span = _without(text, begin, min([end, *(match.start() for match in found if match)]))
    return span if _WORD.search(text, span.start, span.end) else None


def _without(text: str, begin: int, end: int) -> Span:
    """``[begin, end)`` without the marks that Markdown, JSON and punctuation put around a value."""
    content = text[begin:end]
    begin += len(content) - len(content.lstrip(_BEFORE))
    content = text[begin:end].rstrip(_AFTER)
    for word in (" about", " I am", " I'm", " with", " and", " my", " My"):
        content = content.removesuffix(word).rstrip(_AFTER)
    if content.endswith("}") and content.count("{") < content.count("}"):
        content = content[:-1].rstrip(_AFTER)
    if content.endswith(".") and not content.endswith(".."):
        content = content[:-1].rstrip(_AFTER)
    return Span(begin, begin + len(content))


def _last(matches: Iterable[re.Match[str]]) -> list[re.Match[str]]:
    return list(deque(matches, maxlen=_FOLLOWED_UP))
