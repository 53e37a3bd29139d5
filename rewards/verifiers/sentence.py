r"""Reads an answer that is a sentence: every word, or not at all.

A text is a sequence of words and of pieces of mathematics. Words of the lists in :mod:`rewards.verifiers.words` change
nothing; "million" and "negative" change the piece beside them; "and" and "or" join pieces to a list. All other words
are kept, and count: an answer has to have those of its gold, and no others. What stands before the last "is" says
what is meant, and may use more words.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rewards.verifiers.words import EXTREMES, FUNCTION, JOINS, NOUNS, OTHERS, UNITS, in_subject, is_harmless

HERE = "#"
"""Stands for a piece of mathematics among the words of a :class:`Sentence`."""
IN_TEXT = "\x02"
r"""Stands before a lone letter that was written as text, ``\text{R}``: it is a word and not a variable."""


class Sentence(NamedTuple):
    """The pieces of mathematics of a text, and its words in order with :data:`HERE` for each piece."""

    pieces: tuple[str, ...]
    words: tuple[str, ...]

    def kept(self, *, as_gold: bool) -> tuple[str, ...]:
        """The words that count, with their places; of several pieces the names of units and things as well."""
        if len(self.pieces) > 1:
            words = (re.sub(r"(?<=..)s$", "", word) for word in self.words if word not in _IDLE)
            return tuple(_ABBREVIATED.get(word, word) for word in words)
        return tuple(word for word in self.words if word == HERE or not is_harmless(word, as_gold))


_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12, "lakh": 5, "crore": 7}
_ORDINALS = "third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
_PARTS = {f"{word}s": number for number, word in enumerate(_ORDINALS.split(), 3)}
_PARTS |= {"halves": 2, "sixteenths": 16, "hundredths": 100, "thousandths": 1000, "millionths": 10**6}
_FACTORS = {word: f"\\cdot 10^{{{power}}}" for word, power in _SCALES.items()} | {"dozen": "\\cdot 12"}
_FACTORS |= {word: f"\\cdot \\frac{{1}}{{{number}}}" for word, number in _PARTS.items()}
_FACTORS |= {"squared": "^{2}", "cubed": "^{3}", "factorial": "!"}
_SPELLED = "zero two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
COUNTS = {
    word: str(number + (number > 0)) for number, word in enumerate(f"{_SPELLED} eighteen nineteen twenty".split())
}
"""Numbers in words, which count where no other does; "one" is more often a pronoun."""
_ABBREVIATIONS = "hr hour min minute sec second ft foot feet foot in inch inche inch lb pound oz ounce r remainder"
_ABBREVIATED = dict(zip(_ABBREVIATIONS.split()[::2], _ABBREVIATIONS.split()[1::2], strict=True))
_BRACKETED = frozenset(("point", "points", "ordered", "pair", "pairs", "vector", "interval", "set", "matrix", "tuple"))
_IDLE = frozenset(("a", "an", "the", "and", "is", "are", "equals"))
_SIGNS = {"negative": "-", "minus": "-", "positive": "+"}
_COPULAS = frozenset(("is", "are", "was", "were", "be", "equals", "equal"))
_FUNCTIONS = "sin cos tan cot sec csc sinh cosh tanh arcsin arccos arctan asin acos atan log ln exp gcd lcm max min"
_GREEK = "alpha beta gamma delta epsilon zeta eta theta lambda mu nu xi rho sigma tau phi varphi chi psi omega pi"
_MATHEMATICS = frozenset(f"{_FUNCTIONS} {_GREEK} sqrt infinity infty inf i e".split())
RUN = re.compile(
    r"(?<![\\_])(?<!_\{)(?<![^\W\d_])(?:[^\W\d_]{3,}(?:-[^\W\d_]{3,})+|[^\W\d_]+)(?:['’][^\W\d_]+)?|\\[A-Za-z]+(?:\{[pbvBV]?matrix\}|\{[A-Z]\})?"
)
_OPERATORS = frozenset("+-*/^=<>_")
_NEXT_WORD = re.compile(r"\s+([^\W\d_]{2,})")
_POWER = re.compile(r"\s*\^\s*\{?-?[1-6]\}?(?!\d)")
_RAISED = re.compile(r"\s+(?:squared|cubed)(?![A-Za-z])")
_CALLED = frozenset(("max", "min", "gcd", "lcm"))
_PER = re.compile(
    rf"\s*(?:/|\bper\s|\\cdot\s|(?<=\s)(?=[A-Za-z]{{1,12}}\s*\^\s*\{{?-))\s*{IN_TEXT}?([A-Za-z]{{1,12}})(?![A-Za-z(])(\s*\^\s*\{{?-?[1-6]\}}?(?!\d))?"
)
_RATE = re.compile(r"(?<=\d)\s*/\s*([A-Za-z]{2,12})(?![A-Za-z(])")
_UNIT_LETTERS = frozenset("shmglLdNJWV")
_PLAIN_NUMBER = re.compile(r"-?[\d.,]*\d|-?\d* ?\\frac\{\d+\}\{\d+\}")
_DIGIT = re.compile(r"\d")
_EMPTY = re.compile(rf"[\s,;:.!()\"'{IN_TEXT}]*")
_STOP = re.compile(r"[.;:!]\s*$")
_APPROXIMATE = re.compile(r"\\approx(?![A-Za-z])\s*")


def read_sentence(text: str) -> Sentence | None:
    r"""The mathematics and the words of ``text``; None where it cannot be told which piece is meant.

    >>> read_sentence(r"The value of y at the asymptote is \frac{4}{3}."), read_sentence("42 inches").pieces
    (Sentence(pieces=('\\frac{4}{3}',), words=('#',)), ('42',))
    >>> read_sentence("2k+2").pieces, read_sentence("at least 5").kept(as_gold=False)
    (('2k+2',), ('least', '#'))
    >>> read_sentence("negative 5").pieces, read_sentence("2.5 million").pieces, read_sentence("2 or 3").pieces
    (('-5',), ('2.5\\cdot 10^{6}',), ('2, 3',))
    >>> read_sentence("3 hours and 20 minutes").kept(as_gold=True), read_sentence("6 is 5").pieces
    (('#', 'hour', '#', 'minute'), ('6 = 5',))
    """
    items = _items(_RATE.sub(_per, text))
    verbs = [number for number, (word, kind) in enumerate(items) if kind == "word" and word in _COPULAS]
    if verbs:
        subject, statement = items[: verbs[-1]], items[verbs[-1] + 1 :]
        if any(kind == "piece" for _, kind in statement):
            read = _is_subject(subject, {_trimmed(content) for content, kind in statement if kind == "piece"})
            if read is None:
                return None
            items = statement if read else [*subject, ("=", "piece"), *statement]
    if not any(kind == "piece" for _, kind in items):
        items = [(COUNTS.get(content, content), "piece" if content in COUNTS else kind) for content, kind in items]
    return _joined(items)


def _per(match: re.Match[str]) -> str:
    """``5/day`` as ``5 per day``."""
    return f" per {match[1]}" if match[1].lower() in UNITS | NOUNS else match[0]


Item = tuple[str, str]


def _items(text: str) -> list[Item]:
    """Words and pieces in order; a unit takes its power and what it is per along."""
    items: list[Item] = []
    start = position = 0

    def close(end: int) -> None:
        piece = text[start:end]
        if not _EMPTY.fullmatch(piece):
            items.append((piece, "piece"))
        if _STOP.search(piece):
            items.append((".", "stop"))

    for match in RUN.finditer(text):
        if match.start() < position or match[0].startswith("\\") or not _is_word(text, match):
            continue
        word = match[0].lower().replace("’", "'")
        close(match.start())
        if match[0] in _UNIT_LETTERS and text[match.start() - 1] == IN_TEXT and items and items[-1][1] == "piece":
            word = "unit"
        items.append((word.removesuffix("'s") if word not in FUNCTION else word, "word"))
        start = position = match.end()
        if items[-1][0] in UNITS or items[-1][0] in NOUNS:
            if power := _POWER.match(text, start) or (items[-1][0] in UNITS and _RAISED.match(text, start)):
                start = power.end()
            while (per := _PER.match(text, start)) and (per[1].lower() in UNITS | NOUNS or per[1] in _UNIT_LETTERS):
                start = per.end()
            position = start
    close(len(text))
    return items


def _is_word(text: str, match: re.Match[str]) -> bool:
    """Whether letters are a word rather than variables: units even on a digit, others where they stand alone."""
    run, before, after = match[0], text[: match.start()].rstrip(" "), text[match.end() :].lstrip(" ")
    if before.endswith(IN_TEXT):
        return True
    word = run.lower()
    if word in UNITS and before[-1:] and before[-1:] in "0123456789})%" and len(run) > 1:
        return True
    if word in _MATHEMATICS and len(run) > 1 and (word not in _CALLED or after[:1] == "("):
        return False
    if len(run) == 1:
        if run not in ("a", "A", "I") or before[-1:] in _OPERATORS:
            return False
        following = _NEXT_WORD.match(text, match.end())
        return following is not None and (not before[-1:].isdigit() or following[1].lower() in UNITS)  # $5 a day
    on_digit = text[match.start() - 1 : match.start()].isdigit()
    if word in UNITS and len(run) > 2:
        return True
    bound = before[-1:] in _OPERATORS or after[:1] in _OPERATORS - {"-"} or (on_digit and len(run) <= 3)
    if len(run) > 4 or not run.isascii():
        return True
    if bound and len(run) <= 3 and word not in ("and", "or"):
        return word in _MEANT and on_digit
    if _is_known(word) or word in _MEANT:
        return True
    return len(run) >= 3 and not set(word) <= set("abcd") and not set(word).isdisjoint("aeiou")


_MEANT = frozenset(("am", "pm", "no", "up", "if"))


def _is_known(word: str) -> bool:
    return any(word in words for words in (FUNCTION, UNITS, NOUNS, OTHERS, JOINS, _FACTORS, COUNTS))


def _is_subject(items: list[Item], said: set[str]) -> bool | None:
    """Whether the items say what something is; False where they are mathematics alone, None where they say more."""
    named = announced = stated = False
    for number, (content, kind) in enumerate(items):
        if kind == "word":
            if not in_subject(content) and not _narrows(items, number):
                return None
            named = named or content not in _COPULAS
            announced = announced or content == "answer"
            stated = stated or (announced and content in _COPULAS)
        elif kind == "piece" and len(items) > 1 and _trimmed(content) in said:
            continue  # the answer itself, said before
        elif kind == "piece" and _DIGIT.search(content) and stated:
            return None  # another answer before this one
        elif kind == "piece" and _DIGIT.search(content) and not named:
            return False if len(items) == 1 else None
    return True


def _narrows(items: list[Item], number: int) -> bool:
    """Whether a word that denies or doubts elsewhere says what is meant: "not divisible by 3", "the most he could"."""
    word, before, after = items[number][0], items[:number], [content for content, _ in items[number + 1 : number + 3]]
    if word == "not":
        return after == ["divisible", "by"]
    return word == "could" and any(content in EXTREMES for content, _ in before) and not _COPULAS.issuperset(after[:1])


def _joined(items: list[Item]) -> Sentence | None:
    r"""Applies signs and scales, joins lists, and drops what is said twice."""
    out: list[Item] = []
    pending = ""
    for number, (content, kind) in enumerate(items):
        following = items[number + 1] if number + 1 < len(items) else ("", "end")
        if kind == "piece":
            piece = _trimmed(content)
            if pending:
                if not re.match(r"[\dA-Za-z\\.(]", piece) or ", " in piece:
                    return None
                piece, pending = _signed(pending, piece), ""
            out.append((piece, kind))
        elif kind == "word" and content == "more" and number and items[number - 1][1] == "piece":
            if following[0] in ("than", *JOINS):  # "5 more apples", but no "5 more than"
                out.append((content, kind))
        elif content == "per" and following[0] in UNITS | NOUNS:
            continue
        elif content in _BRACKETED and (following[0] in _BRACKETED or re.match(r"\s*(?:[(\[]|\\[{b])", following[0])):
            continue  # "the point (1, 2)", but not "5 point 3"
        elif content == "either" and following[1] == "piece" and ("or", "word") in items[number:]:
            continue
        elif content == "times" and number == 1 and following[0] in ("", "."):
            continue  # how often
        elif kind == "word" and content in _SIGNS and following[1] == "piece":
            pending = _SIGNS[content]
        elif content == "positive" and out and following[0] in NOUNS | OTHERS:
            continue  # "5 positive integers"
        elif kind == "word" and content in _FACTORS and out and out[-1][1] in ("piece", "scaled"):
            piece, factor = out[-1][0], _FACTORS[content]
            scalable = factor.startswith("\\") and (_PLAIN_NUMBER.fullmatch(piece) or out[-1][1] == "scaled")
            if not (scalable or piece.isdigit()):
                return None  # "-5 squared" and "5 million squared" are read in two ways
            out[-1] = (piece + factor, "scaled")
        else:
            out.append((content, kind))
    out = [(content, "piece" if kind == "scaled" else kind) for content, kind in out]
    return _listed(out)


def _signed(sign: str, piece: str) -> str:
    if sign == "+":
        return piece
    return f"-{piece}" if _PLAIN_NUMBER.fullmatch(piece) or not re.search(r"[-+]", piece) else f"-({piece})"


def _listed(items: list[Item]) -> Sentence | None:
    pieces: list[str] = []
    words: list[str] = []
    joint = ""
    direct = False  # whether only words that say nothing have come since the last piece
    stopped = False  # whether a sentence has ended since: only then may a piece be said again
    for number, (content, kind) in enumerate(items):
        if kind == "stop":
            direct, stopped = False, True
        elif kind == "piece":
            if pieces and direct and (joint or pieces[-1].endswith("=") or content == "="):
                pieces[-1] += _joint(joint, pieces[-1], content) + content
            elif content not in pieces or not stopped:
                pieces.append(content)
                words.append(HERE)
            joint, direct, stopped = "", True, False
        elif content in JOINS:
            before = bool(pieces) and direct
            after = number + 1 < len(items) and any(kind == "piece" for _, kind in items[number + 1 :])
            if before and after:
                joint = content
            elif content == "or":
                words.append(content)
                return None
        else:
            words.append(content)
            direct = direct and content in FUNCTION
    return Sentence(tuple(pieces), tuple(words))


def _joint(word: str, left: str, right: str) -> str:
    if not word:
        return " "
    related = re.compile(r"[<>≤≥]|\\[lg]eq?(?![A-Za-z])")
    if related.search(left) and related.search(right):
        return " \\lor " if word == "or" else " \\land "
    return ", "


def _trimmed(piece: str) -> str:
    piece = re.sub(r"^(?:[\s,;:]|\.(?!\d))+", "", piece.rstrip(" .,;:"))
    if piece.count("(") > piece.count(")"):
        piece = piece.removesuffix("(").rstrip()
    if piece.startswith("=") and len(piece) > 1:
        piece = piece[1:].strip()
    piece = _APPROXIMATE.sub("", piece, 1) if piece.startswith("\\approx") else piece
    return piece.replace(IN_TEXT, "")
