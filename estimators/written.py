"""What a completion's text and its log-probabilities say, as any OpenAI-style server returns them; no model needed.

The text is read as strictly as in training: a field only where exactly one reading is possible (a test holds this to
the parser of templates). A token is known by the bytes that it wrote, and its likeliest rivals by theirs.
"""

from __future__ import annotations

import codecs
import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

FIELDS = ("prior", "think", "answer", "analysis", "confidence")
_TAG = re.compile(rf"<(/?)({'|'.join(FIELDS)})>")
_DECIMAL = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")
_SPACE = " \t\n\r\f\v"
_ROUNDED = 1e-4
"""How far above 0 a log-probability may be rounded."""

Tag = tuple[str, bool, int, int]


@dataclass(frozen=True, slots=True)
class WrittenToken:
    """A token as bytes, its log-probability in nats, and those of the likeliest tokens in its place.

    Of several tokens that write the same bytes ``top`` has the likeliest.
    """

    text: bytes
    log_prob: float
    top: Mapping[bytes, float]


@dataclass(frozen=True, slots=True)
class Written:
    """Where a completion's answer and confidence stand, characters [start, end), and the confidence in [0, 1]."""

    answer: tuple[int, int] | None
    confidence: tuple[int, int] | None
    stated: float | None


def read_text(
    text: str,
    levels: Sequence[str] | None = None,
    *,
    truncated: bool = False,
    marks: bool = False,
    declared: Collection[str] = FIELDS,
) -> Written:
    """Read a completion; never raises. ``truncated`` says that it was cut off, ``levels`` what a confidence may be.

    With ``marks`` the confidence is the one of two ``levels`` (unsure, sure) that stands outside of the fields that are
    ``declared``, 0 or 1.

    >>> read_text("<answer>4</answer><confidence>0.9</confidence>")
    Written(answer=(8, 9), confidence=(30, 33), stated=0.9)
    """
    tags: list[Tag] = [(m[2], bool(m[1]), m.start(), m.end()) for m in _TAG.finditer(text)]
    if truncated:
        tags = _settled(tags)
    found: dict[str, tuple[int, int]] = {}
    outer: dict[str, tuple[int, int]] = {}
    ambiguous: set[str] = set()
    visible, thought = _outside_thinking(tags)
    places = {tag[2]: number for number, tag in enumerate(tags)}
    for field in ("prior", "answer", "analysis", "confidence"):
        opens = [tag for tag in visible if tag[0] == field and not tag[1]]
        closes = [tag for tag in visible if tag[0] == field and tag[1]]
        if len(opens) > 1 or len(closes) > 1:
            ambiguous.add(field)
        elif opens and closes and opens[0][2] < closes[0][2]:
            found[field] = _trimmed(text, opens[0][3], closes[0][2])
            outer[field] = opens[0][2], closes[0][3]
            inside = tags[places[opens[0][2]] + 1 : places[closes[0][2]]]
            ambiguous |= {field, *(tag[0] for tag in inside)} if inside else set()
    answer, confidence = (
        None if field in ambiguous or found.get(field, (0, 0))[0] == found.get(field, (0, 0))[1] else found[field]
        for field in ("answer", "confidence")
    )
    if marks:
        outside = [outer[field] for field in outer if field in declared and field not in ("confidence", *ambiguous)]
        outside += [thought] if thought is not None and "think" in declared and "think" not in ambiguous else []
        return _marked(text, answer, tuple(levels or ()), outside)
    return Written(answer, confidence, None if confidence is None else _stated(text[slice(*confidence)], levels))


def _marked(
    text: str, answer: tuple[int, int] | None, marks: Sequence[str], fields: Sequence[tuple[int, int]]
) -> Written:
    """The answer, and the one mark that stands in none of the fields."""
    found = [match.span() for match in re.finditer("|".join(map(re.escape, marks)), text)] if marks else []
    found = [each for each in found if not any(start <= each[0] < end for start, end in fields)]
    if len(found) != 1:
        return Written(answer, None, None)
    return Written(answer, found[0], float(marks.index(text[slice(*found[0])])))


def parsed_json(reply: Any) -> Any:
    """A part of a server's reply as parsed JSON has it: the openai client's objects are dumped."""
    dump = getattr(reply, "model_dump", None)
    return dump() if callable(dump) else reply


def token_entries(logprobs: Mapping[str, Any]) -> Any:
    """The tokens of ``choices[i].logprobs`` of a server's reply as chats list them; None where a chat lists none.

    A chat has them as ``content``, each ``{token, logprob, bytes?, top_logprobs: [{token, logprob, bytes?}, ...]}``. A
    completion has ``tokens``, ``token_logprobs`` and ``top_logprobs``, a mapping for each token. Raises ``ValueError``
    for what is neither.
    """
    if "content" in logprobs:
        return logprobs["content"]
    try:
        tokens, own = logprobs["tokens"], logprobs["token_logprobs"]
        tops = logprobs.get("top_logprobs") or [None] * len(tokens)
        return [
            {
                "token": token,
                "logprob": value,
                "top_logprobs": [{"token": t, "logprob": v} for t, v in (top or {}).items()],
            }
            for token, value, top in zip(tokens, own, tops, strict=True)
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"logprobs: {type(error).__name__} {error}; expected content or token_logprobs") from error


def written_tokens(logprobs: Any) -> list[WrittenToken] | None:
    """The tokens of ``choices[i].logprobs`` of a server's reply, or of its ``content`` alone; None where it has none.

    Both as parsed JSON or as the openai client's objects. Raises ``ValueError`` naming the entry that is no token of
    :func:`token_entries`.
    """
    logprobs = parsed_json(logprobs)
    entries = token_entries(logprobs) if isinstance(logprobs, Mapping) else logprobs
    if entries is None:
        return None
    if not isinstance(entries, Sequence) or isinstance(entries, str | bytes):
        raise ValueError(f"logprobs: {type(entries).__name__} found, expected a list of tokens with their logprob")
    tokens = []
    for number, entry in enumerate(map(parsed_json, entries)):
        try:
            top = [(token_bytes(each), log_probability(each)) for each in entry.get("top_logprobs") or ()]
            top.sort(key=itemgetter(1))
            tokens.append(WrittenToken(token_bytes(entry), log_probability(entry), dict(top)))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"logprobs[{number}]: {type(error).__name__} {error}; expected {{token, logprob}}"
            ) from error
    return tokens


def token_bytes(entry: Mapping[str, Any]) -> bytes:
    """What a token of a server's reply wrote: its ``bytes`` where given, else its ``token``."""
    given = entry.get("bytes")
    return str(entry["token"]).encode() if given is None else bytes(list(given))


def log_probability(entry: Mapping[str, Any]) -> float:
    """The ``logprob`` of an entry, at most 0. Raises ``ValueError`` for what is none."""
    try:
        value = float(entry["logprob"])
    except OverflowError as error:  # a whole number of more than 300 digits
        raise ValueError(f"logprob of {entry['token']!r} is not a log-probability") from error
    if math.isnan(value) or value > _ROUNDED:
        raise ValueError(f"logprob {value} of {entry['token']!r} is not a log-probability")
    return min(value, 0.0)


def token_ends(tokens: Sequence[bytes]) -> tuple[int, ...]:
    """Character at which each token ends; one that ends within a character ends before it."""
    decoder, length, ends = codecs.getincrementaldecoder("utf-8")(errors="replace"), 0, []
    for place, token in enumerate(tokens, 1):
        length += len(decoder.decode(token, final=place == len(tokens)))
        ends.append(length)
    return tuple(ends)


def tokens_between(span: tuple[int, int], ends: Sequence[int]) -> list[int]:
    """Indices of the tokens that write the characters ``[start, end)``; none for an empty range."""
    if span[0] == span[1]:
        return []
    holder = bisect_right(ends, span[0])
    before = ends[holder - 1] if holder else 0
    first = bisect_left(ends, before) + 1 if before else 0
    return list(range(first, min(bisect_left(ends, span[1]), len(ends) - 1) + 1))


def _settled(tags: list[Tag]) -> list[Tag]:
    """The tags before a thought that nothing closes."""
    closed = max((tag[2] for tag in tags if tag[0] == "think" and tag[1]), default=-1)
    end = next((tag[2] for tag in tags if tag[0] == "think" and not tag[1] and tag[2] > closed), None)
    return [tag for tag in tags if end is None or tag[2] < end]


def _outside_thinking(tags: Sequence[Tag]) -> tuple[list[Tag], tuple[int, int] | None]:
    """The tags of other fields that do not stand in a closed thought; behind the last one where thoughts repeat.

    With them the one closed thought, its tags included, if there is one.
    """
    opens = [tag for tag in tags if tag[0] == "think" and not tag[1]]
    closes = [tag for tag in tags if tag[0] == "think" and tag[1]]
    visible = [tag for tag in tags if tag[0] != "think"]
    if not closes:
        return visible, None
    end = closes[-1][3]
    if len(closes) > 1 or len(opens) > 1 or (opens and opens[0][2] > closes[0][2]):
        return [tag for tag in visible if tag[2] >= end], None
    start = opens[0][2] if opens else 0
    return [tag for tag in visible if not start <= tag[2] < end], (start, end)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    content = text[start:end]
    length = len(content.strip(_SPACE))
    start += len(content) - len(content.lstrip(_SPACE)) if length else 0
    return start, start + length


def _stated(content: str, levels: Collection[str] | None) -> float | None:
    if not _DECIMAL.fullmatch(content) or (levels is not None and content not in levels):
        return None
    value = float(content) + 0.0  # adding zero turns -0.0 into 0.0
    return value if 0.0 <= value <= 1.0 else None
