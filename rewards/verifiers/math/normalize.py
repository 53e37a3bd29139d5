r"""Reads golds and answers of mathematics, and decides what needs no computer algebra: by string work alone.

Linear or quadratic in the length of the text and without evaluation, so that it may run in the caller's process on
short texts; whatever is left open goes to :mod:`rewards.verifiers.math.math` in a worker. Both go through the same
functions, so that a pair is judged alike wherever it is judged.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from rewards.verifiers.math.exact import same_value
from rewards.verifiers.math.latex import is_safe, respell
from rewards.verifiers.math.number import verify_number
from rewards.verifiers.math.shapes import Same, equal, is_read
from rewards.verifiers.math.wrappers import unwrapped
from rewards.verifiers.prose import final_statement, last_clause, without_confidence
from rewards.verifiers.sentence import COUNTS, HERE, IN_TEXT, read_sentence
from rewards.verifiers.verifier import BAD_GOLD, DIFFERENT, EQUAL, MAX_CHARS, UNPARSED, Verdict

_IN_PROCESS_CHARS = 400
"""Longest text read in the caller's process: some patterns take time quadratic in the length."""


class Reading(NamedTuple):
    """Folded text for comparing words, LaTeX for comparing mathematics, and the words that count beside it."""

    text: str
    pieces: tuple[str, ...] = ()
    """The pieces of mathematics, of which most texts have one; none where one of them cannot be read."""
    gold_words: tuple[str, ...] = ()
    """The words that count where this is a gold, with a place for each piece."""
    answer_words: tuple[str, ...] = ()
    """The words that count where this is an answer."""

    @property
    def is_words(self) -> bool:
        return any(char.isalpha() for char in self.text) and all(
            char.isalnum() or char in " ,.'-()" for char in self.text
        )

    @property
    def latex(self) -> str | None:
        """The only piece of mathematics, or None."""
        return self.pieces[0] if len(self.pieces) == 1 else None


@lru_cache(maxsize=8192)
def read(text: str) -> Reading:
    r"""Reads a gold or an answer; never raises.

    >>> read(r"The side is $\frac43$ cm.").latex, read(r"\text{Evelyn}"), read(r"\int_0^1").latex
    ('\\frac{4}{3}', Reading(text='evelyn', pieces=(), gold_words=(), answer_words=()), None)
    >>> read("9:05 am").gold_words, read("5 apples").gold_words, read("5 of them, if any").answer_words
    (('#', 'am'), ('#',), ('#', 'if', 'any'))
    """
    if len(text) > MAX_CHARS:
        return Reading("")
    bare = unwrapped(text)
    if bare is None:
        return Reading("")
    bare = without_confidence(final_statement(bare))
    folded = _folded(bare)
    if _ALL_REALS.fullmatch(_folded(last_clause(folded))):
        return Reading(folded, ("\\mathbb{R}",), (HERE,), (HERE,))
    sentence = None if _WORDS_ONLY.fullmatch(text) and folded not in COUNTS else read_sentence(_without_range(bare))
    if sentence is None:
        return Reading(folded)
    pieces = tuple(map(respell, sentence.pieces))
    if not pieces or not all(is_safe(_JOINT.sub(",", piece)) for piece in pieces):
        return Reading(folded)
    return Reading(folded, pieces, sentence.kept(as_gold=True), sentence.kept(as_gold=False))


def decide(gold: str, answer: str) -> Verdict | None:
    r"""The verdict where string work is enough, else None; safe in any process.

    >>> decide(r"90^\circ", "The angle is 72 degrees.").reason, decide("x^2 = 4", "x = 2")
    ('different', None)
    >>> decide(r"\frac{\sqrt{3}}{3}", "1/sqrt(3)").reason, decide("k(k+1)", "k^2 - k").reason
    ('equal', 'different')
    """
    if gold.strip() == answer.strip():
        return EQUAL
    plain = verify_number(gold, answer)
    if plain is not None:
        return EQUAL if plain else DIFFERENT
    if max(len(gold), len(answer)) > _IN_PROCESS_CHARS:
        return None
    return settle(read(gold), read(answer))


def settle(gold: Reading, answer: Reading, same: Same = same_value) -> Verdict | None:
    """The verdict on two readings, as far as ``same`` can compare two expressions; None where it cannot.

    The default compares those that take no algebra.
    """
    if gold.text and gold.text == answer.text:
        return EQUAL
    if not gold.pieces and not gold.is_words:
        return BAD_GOLD
    if len(gold.text) == 1 and gold.text.isalpha() and (choice := _CHOICE.fullmatch(answer.text)) is not None:
        return EQUAL if choice[1] == gold.text else DIFFERENT
    if not gold.pieces:
        return EQUAL if _folded(last_clause(answer.text).rstrip("!")) == gold.text else DIFFERENT
    if not answer.pieces:
        return UNPARSED
    if answer.answer_words != gold.gold_words and answer.gold_words != gold.gold_words:
        return UNPARSED if len(gold.pieces) == len(answer.pieces) else DIFFERENT
    verdicts = [equal(*pair, same) for pair in zip(gold.pieces, answer.pieces, strict=True)]
    if all(verdicts):
        return EQUAL
    return DIFFERENT if any(value is False for value in verdicts) else None


_CHOICE = re.compile(
    r"\(?([a-z])[).:](?:\s+(?!not |or |and |no |wrong)[a-z]{2,}(?: (?!not |or |no |wrong)[a-z]{2,})*)?"
)
_WORDS_ONLY = re.compile(r"\s*\$?\s*\\(?:text(?:bf|it|rm)?|mbox)\s*\{[^{}0-9]*[A-Za-z][^{}0-9]*\}\s*\$?\s*\.?\s*")
_ALL_REALS = re.compile(r"(?:set of )?all (?:the )?real(?: number)?s")
_JOINT = re.compile(r"\\(?:lor|land)(?![A-Za-z])")
_KIND = r"(?:(?:positive|negative|non-?negative|non-?zero|real|complex|rational|natural|whole)\s+)*"
_QUALIFIER = re.compile(
    r"[\s,]+\(?(?:for|where|with|when)\s+(?:(?:all|every|any|each|(?:some|an?)(?=[\sa-z-]*\sconstants?\s))\s+)?"
    rf"(?:{_KIND}(?:numbers?|integers?|constants?|values?\s+of)?\s*(?<=\s)([A-Za-z])"
    r"(?:\s*\\in\s*\\mathbb\s*\{[RNZQC]\}|\s*(?:[<>]=?|\\(?:leq?|geq?|neq?|lt|gt)(?![A-Za-z]))\s*-?\d{1,9})?"
    rf"|([A-Za-z])\s+is\s+(?:(?:an?|any)\s+{_KIND}(?:number|integer|constant)|real|constant|arbitrary))\s*\)?\s*\.?\s*$"
)
_RANGE = re.compile(
    r"[\s,]+(?:\\forall\s*([A-Za-z])(?:\s*\\in\s*\\mathbb\s*\{[RNZQC]\})?"
    r"|(?<=,)\s*([A-Za-z])(?:\s*\\in\s*\\mathbb\s*\{[RNZQC]\}|\s*(?:[<>]=?|\\(?:leq?|geq?|neq?|lt|gt)(?![A-Za-z]))\s*-?\d{1,9}))\s*\.?\s*$"
)
_RELATED = re.compile(r"[<>≤≥]|\\(?:leq?|geq?|neq?|lt|gt|in)(?![A-Za-z])")


def _without_range(text: str) -> str:
    """``text`` without what its last letter ranges over, where that is not itself what is said."""
    text = _QUALIFIER.sub(_unqualified, text)
    ranged = _RANGE.search(text)
    return text if ranged is None or _RELATED.search(text[: ranged.start()]) else _RANGE.sub(_unqualified, text)


def _unqualified(match: re.Match[str]) -> str:
    """Nothing, where the letter that is said to range occurs in what is said; else what stands there."""
    letter = match[1] or match[2]
    used = re.search(
        rf"(?<![A-Za-z\\]){letter}(?![A-Za-z])|(?<=\d){letter}|{letter}(?=[({{^])", match.string[: match.start()]
    )
    product = re.search(rf"[=+\-*/\d(][ A-Za-z]{{0,2}}{letter}", match.string[: match.start()])
    return "" if used or product else match[0]


def _folded(text: str) -> str:
    text = " ".join(text.replace(IN_TEXT, "").split()).strip(" .,;:").casefold()
    return text[1] if len(text) == 3 and text[0] + text[2] == "()" else text


__all__ = ["Reading", "decide", "is_read", "read", "settle"]
