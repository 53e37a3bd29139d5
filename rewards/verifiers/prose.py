"""Finds the one piece of mathematics in an answer that is a sentence.

Deliberately narrow: what the last "is" says is read, or the only piece there is. Several pieces are not read, because
an answer that names two numbers is a hedge, and neither is one beside a word that turns its meaning ("not 5", "at
least 5", "5 thousand").
"""

from __future__ import annotations

import re

_SHORT_WORDS = "is are was of in to at an be by it we so as if no on my am pm"
_UNITS = "cm mm km kg mg ml ft lb oz hr mi dm mph hrs lbs sq th st nd rd"
_TURNING_WORDS = (
    "not no cannot except without than least most either neither nor between dozen hundred hundreds thousand thousands"
    " million millions billion trillion half halves third thirds quarter quarters twice double times increased"
    " decreased reduced plus minus divided multiplied"
)
_SHORT = frozenset(_SHORT_WORDS.split())
_ATTACHED = frozenset(_UNITS.split())
_TURNING = frozenset(_TURNING_WORDS.split())
_LETTERS = re.compile(r"(?<![A-Za-z\\_])(?<!_\{)(?<!\\begin\{)(?<!\\end\{)(?<!\\mathbb\{)[A-Za-z]+(?![A-Za-z])")
_SIGNS = frozenset("+-*^=")
_POWER = re.compile(r"\s*\^\{[23]\}")
_VERB = re.compile(r"(?<![A-Za-z\\])(?:is|are|was|equals|equal to|be)(?![A-Za-z])\s*:?", re.IGNORECASE)
_ARTICLE = re.compile(r"^(?:an?|the)\s+", re.IGNORECASE)
_CONTENT = re.compile(r"\d|\\[A-Za-z]|[A-Za-z)}\]]\s*[-+*/^=]\s*[A-Za-z({\[]")
_LEADING = re.compile(r"^(?:[\s,;:=]|\.(?!\d))+")
_CONFIDENCE = re.compile(r"confiden", re.IGNORECASE)
_CLAUSE = re.compile(r"[.,;]\s|(?<![A-Za-z])(?:with|and)\s")


def without_confidence(text: str) -> str:
    """``text`` up to the clause that speaks of confidence, for answers that state it twice.

    >>> without_confidence("10/11 with a confidence level of 0.95."), without_confidence("15. I am 100% confident")
    ('10/11', '15')
    """
    mention = _CONFIDENCE.search(text)
    if mention is None:
        return text
    clauses = list(_CLAUSE.finditer(text, 0, mention.start()))
    return text[: clauses[-1].start()].strip() if clauses else text


def last_clause(text: str) -> str:
    """What a sentence says something to be, without article and full stop; ``text`` itself where there is no verb.

    >>> last_clause("The graph of the equation is an ellipse."), last_clause("ellipse")
    ('ellipse', 'ellipse')
    """
    verbs = list(_VERB.finditer(text))
    return _ARTICLE.sub("", text[verbs[-1].end() if verbs else 0 :].strip(" .")).strip()


def mathematics_in(text: str) -> str | None:
    r"""The only piece of mathematics in ``text`` (already respelled), or None where there is none or no single one.

    >>> mathematics_in(r"The value of y at the asymptote is \frac{4}{3}."), mathematics_in("42 inches")
    ('\\frac{4}{3}', '42')
    >>> mathematics_in("2k+2"), mathematics_in("at least 5"), mathematics_in("5 in one case, 7 in the other")
    ('2k+2', None, None)
    """
    verbs = list(_VERB.finditer(text))
    for part in (text[verbs[-1].end() :], text) if verbs else (text,):
        pieces = _pieces(part)
        if pieces is None:
            return None
        if len(pieces) == 1:
            return pieces[0]
    return None


def _pieces(text: str) -> list[str] | None:
    """The pieces between the words of ``text`` that hold mathematics; None where a word turns their meaning."""
    pieces, start = [], 0
    words = [match for match in _LETTERS.finditer(text) if _is_word(match)]
    if any(match[0].lower() in _TURNING for match in words):
        return None
    for match in words:
        pieces.append(text[start : match.start()])
        power = _POWER.match(text, match.end())
        start = power.end() if power else match.end()
    pieces.append(text[start:])
    pieces = [_trimmed(piece) for piece in pieces]
    return [piece for piece in pieces if _CONTENT.search(piece) or (piece and not words)]


def _is_word(match: re.Match[str]) -> bool:
    """Units are words even on a digit, others stand alone; ``xyz``, ``abc``, ``2by`` and ``u + at`` are products."""
    word = match[0].lower()
    if word in _SHORT:
        before, after = match.string[: match.start()], match.string[match.end() :]
        return not before[-1:].isdigit() and before.rstrip()[-1:] not in _SIGNS and after.lstrip()[:1] not in _SIGNS
    if word in _ATTACHED:
        return True
    return len(word) >= 3 and not set(word) <= set("abcd") and not set(word).isdisjoint("aeiou")


def _trimmed(piece: str) -> str:
    piece = _LEADING.sub("", piece.rstrip(" .,;:="))
    return piece.removesuffix("(").rstrip() if piece.count("(") > piece.count(")") else piece
