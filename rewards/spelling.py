r"""Probabilities in other spellings than a decimal: percentages, LaTeX, exponents, among words; for evaluation only.

Used by :mod:`rewards.lenient` and :mod:`rewards.wording`. Every pattern is bounded or possessive: a completion is
hostile input, and a megabyte of backslashes must cost no more than a megabyte of prose.
"""

from __future__ import annotations

import re

FLOAT_NOISE = 1e-6
"""A number this little above 1 is 1, not a percentage."""

NUMBER = r"(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:e[-+]?[0-9]{1,3}+)?"
_PERCENT = r"[ \t]?(?:[%\uff05\ufe6a\u066a]|(?:percent(?:age)?|per cent|pct)\b\.?)"
_OF = r"[ \t]?(?:/|out of|of)[ \t]?(1(?:00)?(?:\.0{1,9})?)(?!\.?[0-9])"
_POWER = r"[ \t]?(?:\\times|\\cdot|[\u00d7x*])[ \t]?10[ \t]?\^[ \t]?([-+]?[0-9]{1,2})"
_STATED = rf"({NUMBER})(?:{_POWER})?(?:({_PERCENT})|{_OF})?"
_ALONE = re.compile(rf"{_STATED}\.?", re.IGNORECASE)
_AMONG_WORDS = re.compile(rf"([-\u2212\u2013+#])?{_STATED}", re.IGNORECASE)

_FRACTION = re.compile(rf"\\[dt]?frac[ \t]?\{{({NUMBER})\}}[ \t]?\{{(1(?:00)?)\}}", re.IGNORECASE)
_PERCENT_ENTITY = re.compile(r"&(?:#37|percnt);")
_ESCAPED_PERCENT = re.compile(r"(?<!\\)\\++(?=[%\uff05])")
_MARKUP = re.compile(r"\\(?:text|textbf|mathrm|mathbf|boxed)[ \t]?\{|\\[()\[\]]|[{}$`_\\]|\*(?![ \t]?10)")
_THIN_SPACE = re.compile(r"\\[,;:! ]|[~\u00a0\u2009\u202f]")
_SPACES = re.compile(r"[ \t]{2,}+")
_TIMES = re.compile(r"\\(?:times|cdot)(?![A-Za-z])")
_HTML = re.compile(r"</?(?:b|i|em|strong|code|span|p|br|number)[ \t]?/?>|&nbsp;", re.IGNORECASE)

_POINTED = re.compile(r"\.[0-9]|e")
_DIGIT = re.compile(r"[0-9]")
_CLAUSE_END = re.compile(r"[;!?\n]|\.(?=\s|$)|\b(?:because|since|but|although|though)\b", re.IGNORECASE)
_WORD = re.compile(r"[a-z]++")
_TURNED = re.compile(
    r"\b(?:not|never|cannot|wrong|incorrect|errors?|mistake|mistaken|false|fail|failure|uncertain|uncertainty|unsure"
    r"|(?<!no )doubt|than|at least|at most|below|above|under|over"
    r"|or (?:more|less|higher|lower)|up to|max|maximum|minimum|minus|risk)\b"
    r"|n['\u2019]t\b|[<>\u2264\u2265\u00b1]|[0-9%][ \t]?\+",
    re.IGNORECASE,
)
"""What makes a number a bound or the probability of something else."""
_SCALE = re.compile(
    r"(?<!confidence )\b(?:levels?|ratings?|stars?|options?|scale|grade|rank|step|tier|class|type|version)\b",
    re.IGNORECASE,
)
_LOW = re.compile(r"\b(?:low|lowest|none)\b", re.IGNORECASE)
_HARMLESS = frozenset(
    {"about", "approximately", "approx", "around", "roughly", "nearly", "almost", "exactly"}
    | {"confidence", "probability", "certainty", "is", "of", "my", "the"}
)
"""Words beside which a bare 1 or 0 is still a probability."""


def lenient_probability(content: str) -> float | None:
    r"""Return the one probability that ``content`` states, or None where there is none or more than one.

    A number alone is a probability up to 1 and a percentage above it, up to 100; a percent sign may be escaped or
    spelt out, and ``/100`` may stand for it. Among words a number must carry a percent sign, or be at most 1 and have
    a point: "9" in "9 out of 10" and "1" in "level 1" or "1 - very low" are neither. Two numbers must agree, and words
    such as "not", "at least" and "wrong" in the same clause leave it unread.

    >>> [lenient_probability(content) for content in ("0.85", r"85\%", "100.", "about 0.8", "90% sure", "85/100")]
    [0.85, 0.85, 1.0, 0.8, 0.9, 0.85]
    >>> [lenient_probability(content) for content in ("Level 1", "1 - very low", "8/10", "not 90% sure", "nan")]
    [None, None, None, None, None]
    """
    if not content.isascii() and any(char.isnumeric() and not char.isascii() for char in content):
        return None
    plain = _without_markup(content)
    alone = _ALONE.fullmatch(plain)
    if alone:
        value, marked = _value(alone[1], alone[2], alone[3], alone[4])
        if value > 1 + FLOAT_NOISE and not marked and alone[4] is None:
            value /= 100
        return min(value, 1.0) if value <= 1 + FLOAT_NOISE else None
    found: set[float] = set()
    all_marked, pointed = True, False
    for match in _AMONG_WORDS.finditer(plain):
        value, marked = _value(match[2], match[3], match[4], match[5])
        if match[1] or value > 1 + FLOAT_NOISE or _glued(plain, match):
            return None
        found.add(min(value, 1.0))
        all_marked, pointed = all_marked and marked, pointed or marked or bool(_POINTED.search(match[2]))
    if len(found) != 1 or any(_TURNED.search(clause) for clause in _CLAUSE_END.split(plain) if _DIGIT.search(clause)):
        return None
    (value,) = found
    if value in (0.0, 1.0) and not all_marked:
        if _SCALE.search(plain) or (value == 1.0 and _LOW.search(plain)):
            return None
        if not pointed and not (plain.isascii() and _HARMLESS.issuperset(_WORD.findall(plain.lower()))):
            return None
    return value


def is_number(content: str) -> bool:
    """Whether ``content`` is one number and nothing else, in any spelling."""
    return _ALONE.fullmatch(_without_markup(content)) is not None


def _without_markup(content: str) -> str:
    plain = _PERCENT_ENTITY.sub("%", _FRACTION.sub(r"\1/\2", content))
    plain = _THIN_SPACE.sub(" ", _TIMES.sub("x", _ESCAPED_PERCENT.sub("", _HTML.sub(" ", plain))))
    return _SPACES.sub(" ", _MARKUP.sub("", plain)).strip(" \t\n\r\f\v\"'\u201c\u201d")


def _value(number: str, power: str | None, percent: str | None, whole: str | None) -> tuple[float, bool]:
    """The number as it is written, and whether it is marked as a share of a hundred."""
    marked = bool(percent) or (whole is not None and float(whole) == 100)
    digits, _, exponent = number.lower().partition("e")
    # Shifted as text: 99.9 / 100 is not the float nearest to 0.999.
    return float(f"{digits}e{int(exponent or 0) + int(power or 0) - 2 * marked}"), marked


def _glued(text: str, match: re.Match[str]) -> bool:
    """Whether a number is part of a word, as in Q1, 1st and v0.9."""
    before = text[match.start() - 1] if match.start() else ""
    return before.isalpha() or (not match[4] and text[match.end() : match.end() + 1].isalpha())
