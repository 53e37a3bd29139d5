"""Whether a short answer is the gold text: exact match after normalisation, with aliases, and token F1.

Normalised as SQuAD's evaluation does (arXiv 1606.05250), lower case, no punctuation, no articles, single spaces, with
three differences. Numbers stay numbers: their sign, point, slash and colon count ("-5", "2.71", "3:4"), separators of
thousands and zeros behind the point do not ("6,000", "4.0"). Signs that are part of a name stay ("C++", "O-", "C#").
Unicode counts: quotation marks, dashes and full stops of every script are punctuation, and "STRASSE" is "Straße".
Where nothing would be left, articles and signs stay ("The Who" keeps "who", "A" and "+" would be empty).

A gold is a plain string or a JSON list of aliases; the closest alias counts. :func:`judge` is the verifier "text": the
normalised texts are equal or not. :func:`judge_token_f1` is the verifier "token_f1": ``correct`` is the F1, and the
reason "partial" says that it is neither 0 nor 1.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from functools import lru_cache

from rewards.verifiers.verifier import BAD_GOLD, DIFFERENT, EQUAL, UNPARSED, Verdict

_ARTICLES = frozenset(("a", "an", "the"))
_LIST = re.compile(r"\s*\[.*\]\s*", re.DOTALL)
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d", "-") | {"⁄": "/"})
_SPACED = re.compile(r"(?<=\d)\s+([%°])|(?:(?<=\d)|(?<=\b[a-z]))\s+([-+*/=<>])\s+(?=\d|[a-z]\b)")
_JOINING = re.compile(r"\s[-+*/=<>%°]")
_APART = re.compile(r"^\s*-\s+(?=\.?\d)")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,]|\.\d*\.)", re.ASCII)
_POINT_ZEROS = re.compile(r"(?<![\d.:/-])(-?\d+)\.(\d*?)0*(?![\d.:/-])", re.ASCII)
_BARE_POINT = re.compile(r"(?<![\d.])\.(?=\d)")
# A number with its sign, and what binds digits: point, colon, slash, dash, power.
_NUMBER = r"(?<![\w.])(?:[<>]=?|[≤≥±~])?\s?[-+]?\.?\d+(?:[.,:/^-]\d+)*(?:%|\+(?![\w+])|(?!\w))"
_NAME = r"[^\W\d_]\w*(?:\+{1,2}|\#)(?![\w+#])|(?<!\w)[^\W_]{1,3}-(?![\w-])"
# A formula: single letters and numbers with signs between them.
_FORMULA = (
    r"(?<!\w)(?:\d+(?:\.\d+)?[a-z]?|[a-z])(?:[-+*/^=<>](?:\d+(?:\.\d+)?[a-z]?|[a-z])(?!\w))+|(?<![\w-])-[a-z](?![\w-])"
)
_SIGN = r"(?<=\w\s)[+*/=<>](?=\s\w)"
_KEPT = re.compile(rf"{_FORMULA}|{_NUMBER}|{_NAME}|{_SIGN}", re.ASCII)
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_VULGAR = re.compile(r"(\d?)([½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒])")


def normalised(text: str) -> str:
    """``text`` in lower case, without punctuation and articles, its words one space apart.

    >>> normalised("The  Eiffel-Tower, Paris!"), normalised("the A"), normalised("“Straße”。")
    ('eiffeltower paris', 'the a', 'strasse')
    >>> normalised("-6,000.50 (2.0)"), normalised("C++"), normalised("1914–1918"), normalised("3:4")
    ('-6000.5 2', 'c++', '1914-1918', '3:4')
    """
    if not text.isascii():
        text = composed(text).translate(_DASHES)
        text = unicodedata.normalize("NFKC", text.casefold())  # folding may leave a text that is composed otherwise
    else:
        text = text.lower()
    text = _APART.sub("-", text).replace("~~", "\x00")  # struck out
    if _JOINING.search(text):
        text = _SPACED.sub(r"\1\2", text)
    words = _bare(text).split()
    return " ".join([word for word in words if word not in _ARTICLES] or words or _signs(text))


def composed(text: str) -> str:
    """``text`` in Unicode's form NFKC, but "x²" as "x^2", not "x2", and "1½" as "1 1⁄2", not "11⁄2"."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", _RAISED.sub(r"^\g<0>", _VULGAR.sub(r"\1 \2", text)))


def _bare(text: str) -> str:
    """``text`` without punctuation, but for what is part of a number or a name."""
    if text.isascii() and text.isalnum():
        return text
    text = _THOUSANDS.sub(lambda number: number[0].replace(",", ""), text)
    pieces, end = [], 0
    for match in _KEPT.finditer(text):
        pieces += [_unpunctuated(text[end : match.start()]), _canonical(match[0])]
        end = match.end()
    return "".join([*pieces, _unpunctuated(text[end:])])


def _canonical(kept: str) -> str:
    kept = _BARE_POINT.sub("0.", kept.removeprefix("+"))
    return _POINT_ZEROS.sub(lambda number: f"{number[1]}.{number[2]}".rstrip("."), kept)


def _unpunctuated(text: str) -> str:
    return "".join([char for char in text if not _is_punctuation(char)])


def _is_punctuation(char: str) -> bool:
    if char.isascii():
        return not (char.isalnum() or char.isspace() or char < " ")
    category = unicodedata.category(char)
    return category[0] == "P" or category == "Cf" or char in "´\u02bb\u02bc"


def _signs(text: str) -> list[str]:
    """The signs of a text that has nothing else, such as "<" or "+"; sentence marks are none."""
    return [word for word in text.split() if not all(_is_mark(char) for char in word)]


def _is_mark(char: str) -> bool:
    return char in "`'$" or (unicodedata.category(char)[0] == "P" and char not in "*/%&@#-\\")


@lru_cache(maxsize=4096)
def read_gold(gold: str) -> tuple[str, ...]:
    """The normalised aliases of a gold, without empty ones; none where the gold cannot be used.

    A text in square brackets that is no JSON list is a plain string; a list that holds anything but strings is
    unusable.

    >>> read_gold("The Beatles"), read_gold('["NYC", "New York City"]'), read_gold("[sic]"), read_gold("[1]")
    (('beatles',), ('nyc', 'new york city'), ('sic',), ())
    """
    aliases: list[object] = [gold]
    if _LIST.fullmatch(gold):
        try:
            aliases = json.loads(gold)
        except (ValueError, RecursionError):
            aliases = [gold]
    names = [normalised(alias) for alias in aliases if isinstance(alias, str)]
    return tuple(dict.fromkeys(filter(None, names))) if len(names) == len(aliases) else ()


def token_f1(gold: str, answer: str) -> float:
    """Harmonic mean of the precision and recall of the answer's words in the gold's, in [0, 1]; the best alias counts.

    Words are those of :func:`normalised`, as often as they occur; 0 where gold or answer has none (arXiv 1606.05250).

    >>> round(token_f1("Barack Obama", "Barack Hussein Obama II"), 4), token_f1('["NYC", "New York"]', "new york")
    (0.6667, 1.0)
    """
    stated = Counter(normalised(answer).split())
    return max((_f1(Counter(alias.split()), stated) for alias in read_gold(gold)), default=0.0)


def _f1(reference: Counter[str], stated: Counter[str]) -> float:
    return 2 * (reference & stated).total() / (reference.total() + stated.total())


def judge(gold: str, answer: str) -> Verdict:
    """Normalised exact match: "equal", "different", "unparsed" (an answer without words) or "bad_gold".

    >>> judge("The Beatles", "beatles."), judge('["NYC", "New York"]', "New York"), judge("Paris", "in Paris").reason
    (Verdict(correct=1.0, reason='equal'), Verdict(correct=1.0, reason='equal'), 'different')
    """
    aliases, stated = read_gold(gold), normalised(answer)
    if not aliases:
        return BAD_GOLD
    if not stated:
        return UNPARSED
    return EQUAL if stated in aliases else DIFFERENT


def judge_token_f1(gold: str, answer: str) -> Verdict:
    """Token F1 as graded correctness: "equal" (1), "partial", "different" (0), "unparsed" or "bad_gold".

    >>> judge_token_f1("Paris", "in Paris").reason, round(judge_token_f1("Paris", "in Paris").correct, 4)
    ('partial', 0.6667)
    """
    if not read_gold(gold):
        return BAD_GOLD
    if not normalised(answer):
        return UNPARSED
    f1 = token_f1(gold, answer)
    return EQUAL if f1 == 1.0 else Verdict(f1, "partial") if f1 else DIFFERENT
