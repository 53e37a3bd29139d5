r"""Reads golds and answers of mathematics, and decides what needs no computer algebra: by string work alone.

Linear or quadratic in the length of the text and without evaluation, so that it may run in the caller's process on
short texts; whatever is left open goes to :mod:`rewards.verifiers.math.math` in a worker. Both go through the same
functions, so that a pair is judged alike wherever it is judged.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from rewards.verifiers.math import shapes
from rewards.verifiers.math.latex import is_safe, respell
from rewards.verifiers.math.number import read_number, verify_number
from rewards.verifiers.prose import last_clause, mathematics_in, without_confidence
from rewards.verifiers.verifier import BAD_GOLD, DIFFERENT, EQUAL, MAX_CHARS, UNPARSED, Verdict

_IN_PROCESS_CHARS = 400
"""Longest text read in the caller's process: some patterns take time quadratic in the length."""


class Reading(NamedTuple):
    """Folded text for comparing words, and LaTeX for comparing mathematics (None where there is none to compare)."""

    text: str
    latex: str | None

    @property
    def is_words(self) -> bool:
        return any(char.isalpha() for char in self.text) and all(
            char.isalnum() or char in " ,.'-()" for char in self.text
        )


@lru_cache(maxsize=8192)
def read(text: str) -> Reading:
    r"""Reads a gold or an answer; never raises.

    >>> read(r"The side is $\frac43$ cm.").latex, read(r"\text{Evelyn}"), read(r"\int_0^1").latex
    ('\\frac{4}{3}', Reading(text='evelyn', latex=None), None)
    """
    if len(text) > MAX_CHARS:
        return Reading("", None)
    respelled = without_confidence(respell(text))
    latex = None if _WORDS_ONLY.fullmatch(text) else mathematics_in(respelled)
    return Reading(_folded(respelled), latex if latex and is_safe(latex) else None)


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


def settle(gold: Reading, answer: Reading) -> Verdict | None:
    """The verdict on two readings where it takes no algebra: the same text, words, choices and plain numbers."""
    if gold.text and gold.text == answer.text:
        return EQUAL
    if gold.latex is None and not gold.is_words:
        return BAD_GOLD
    if len(gold.text) == 1 and gold.text.isalpha() and (choice := _CHOICE.match(answer.text)) is not None:
        return EQUAL if choice[1] == gold.text else DIFFERENT
    if gold.latex is None:
        return EQUAL if _folded(last_clause(answer.text)) == gold.text else DIFFERENT
    if answer.latex is None:
        return UNPARSED if shapes.is_read(gold.latex) else None
    equal = [_equal(*pair) for pair in spellings(gold.latex, answer.latex)]
    if any(equal):
        return EQUAL
    return DIFFERENT if all(value is False for value in equal) else None


_CHOICE = re.compile(r"\(?([a-z])[).:](?:\s|$)")
_WORDS_ONLY = re.compile(r"\s*\$?\s*\\(?:text(?:bf|it|rm)?|mbox)\s*\{[^{}]*[A-Za-z][^{}]*\}\s*\$?\s*\.?\s*")
_DIGITS = re.compile(r"[0-9A-Z]+")
_BASED = re.compile(r"([0-9A-Z]+)_\{?(\d+)\}?")
_RELATION = re.compile(r"(?<![<>!])=")
_NAMED = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?:_\{?\w+\}?)?(?:\([a-z]\))?\s*(?:=|\\in(?![A-Za-z]))")
_SPACE = re.compile(r"(?<![A-Za-z0-9]) +| +(?![A-Za-z0-9])")
_BETWEEN = re.compile(r"([^<>=]*?)(<|\\le(?![A-Za-z]))\s*[a-zA-Z]\s*(<|\\le(?![A-Za-z]))([^<>=]*)")
_ONE_SIDED = re.compile(r"[a-zA-Z]\s*([<>]|\\[lg]e(?![A-Za-z]))([^<>=]*)")
_INEQUALITY = re.compile(r"[<>]|\\[lg]e(?![A-Za-z])")
_LETTER = re.compile(r"\s*[A-Za-z]\s*|[^=]*,[^=]*")
_SOLVED = re.compile(r"\s*[A-Za-z]\s*=(?:\\[A-Za-z]+|[^A-Za-z=\\])*")
_UNIT_LETTER = re.compile(r"(?<=[\d}])\s+[mslgthdLNJWVAKCF](?:\s*/\s*[mslgthdL])?(?:\^\{[23]\})?")


def _folded(text: str) -> str:
    text = " ".join(text.split()).strip(" .,;:").casefold()
    return text[1] if len(text) == 3 and text[0] + text[2] == "()" else text


def spellings(gold: str, answer: str) -> list[tuple[str, str]]:
    """The pairs of LaTeX of which one must be equal, after what only one of the two states is taken off the other."""
    gold_base, answer_base = _BASED.fullmatch(gold), _BASED.fullmatch(answer)
    if gold_base or answer_base:
        # Digits are compared as written; two bases must be the same.
        digits = [match[1] if match else text for match, text in ((gold_base, gold), (answer_base, answer))]
        if all(map(_DIGITS.fullmatch, digits)):
            bases = {match[2] for match in (gold_base, answer_base) if match}
            return [("0", "0" if digits[0].lstrip("0") == digits[1].lstrip("0") and len(bases) == 1 else "1")]
    gold_relates, answer_relates = bool(_RELATION.search(gold)), bool(_RELATION.search(answer))
    if answer_relates and _SOLVED.fullmatch(gold) and not any(map(_LETTER.fullmatch, _RELATION.split(answer))):
        return [("0", "1")]  # the question's equation, handed back unsolved
    if answer_relates and not gold_relates:
        answer = _NAMED.sub("", answer) if "," in answer else _RELATION.split(answer)[-1]
    elif gold_relates and not answer_relates and (named := _NAMED.match(gold)) and len(_RELATION.findall(gold)) == 1:
        gold = gold[named.end() :]
    if "\\in " in gold + " " and (named := _NAMED.match(gold)):
        gold = gold[named.end() :]
    if "\\in " in answer + " " and (named := _NAMED.match(answer)):
        answer = answer[named.end() :]
    gold, answer = gold.strip(), answer.strip()
    if bool(_INEQUALITY.search(gold)) != bool(_INEQUALITY.search(answer)):
        gold, answer = _interval(gold), _interval(answer)
    gold_share, answer_share = gold.endswith("%"), answer.endswith("%")
    gold, answer = gold.removesuffix("%"), answer.removesuffix("%")
    pairs = [(gold, answer)]
    if gold_share != answer_share:
        pairs.append((f"\\frac{{{gold}}}{{100}}", answer) if gold_share else (gold, f"\\frac{{{answer}}}{{100}}"))
    if not re.search(r"(?<![\\A-Za-z])[A-Za-z]", gold) and (unitless := _UNIT_LETTER.sub("", answer)) != answer:
        pairs.append((gold, unitless))
    return pairs


def _interval(latex: str) -> str:
    r"""``a < x \le b``, ``x > a`` and the like as an interval; other text as it is."""
    if (between := _BETWEEN.fullmatch(latex)) is not None:
        low, first, second, high = between.groups()
        return f"{'(' if first == '<' else '['}{low.strip()}, {high.strip()}{')' if second == '<' else ']'}"
    if (side := _ONE_SIDED.fullmatch(latex)) is not None:
        bracket = side[1] in "<>"
        if side[1] in ("<", "\\le"):
            return f"(-\\infty, {side[2].strip()}{')' if bracket else ']'}"
        return f"{'(' if bracket else '['}{side[2].strip()}, \\infty)"
    return latex


def _equal(gold: str, answer: str) -> bool | None:
    """Whether two pieces of LaTeX are equal, or None where that takes algebra."""
    if _SPACE.sub("", gold) == _SPACE.sub("", answer):
        return True
    plain = verify_number(gold, answer)
    if plain is not None:
        return plain
    same = shapes.equal(gold, answer)
    if same is False and any(number is not None and number.tolerance for number in map(read_number, (gold, answer))):
        return False if shapes.clearly_differ(gold, answer) else None  # a long decimal stands for what it rounds
    return same
