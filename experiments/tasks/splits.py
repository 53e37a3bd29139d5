"""Splits that no two questions share, whatever is drawn from them: a question's own hash says where it belongs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from rewards.verifiers.text import composed

_SHARE_PERCENT = {"warmup": 50, "train": 20, "validation": 10, "test": 20}
SPLITS = tuple(_SHARE_PERCENT)
_ALIKE = str.maketrans(dict.fromkeys("‘’‚‛`´′", "'") | dict.fromkeys("“”„‟«»″", '"'))
_QUOTE = re.compile(r"""(?P<opening>(?<![\w)\]}'"])['"]+(?=\S))|(?P<closing>['"]+(?![\w('"]))""")
_END = ".?!,;: \t\r\n\f\v"
_PART = re.compile(
    r"\w+|[^\w\s.,;:!?]"
    r"|\.{2,}|(?<![^\W\d_])\.(?=\d)"  # an ellipsis, a decimal point
    r"|(?<![^\W\d_]{2})!|!(?==)"  # a factorial, a "not"
    r"|(?<![^\W\d_]{2})(?<![^\W\d_]{2}\s):|:(?==)"  # a ratio, a time
    r"|(?<![^\s=+\-*/<>(\[{^×÷·])\?(?=[^\S\n]*\S)"  # a number or a sign to find
)
"""The words and signs of a text, without the punctuation of its sentences."""


def split_of(question: str) -> str:
    """The split of a question, given as a text that is the same for all its wordings.

    >>> split_of("3+8"), split_of("4+8")
    ('train', 'test')
    """
    bucket = int.from_bytes(hashlib.blake2b(question.encode(), digest_size=4).digest(), "big") % 100
    for split, share in _SHARE_PERCENT.items():
        if bucket < share:
            return split
        bucket -= share
    raise AssertionError("the shares do not sum to 100")


def question_key(question: str, choices: Sequence[str] = ()) -> int:
    """A number of eight bytes that is the same for wordings that differ in case, spaces and punctuation alone.

    Punctuation is what parts sentences and quotes words; signs that are mathematics stay. The order of the choices,
    texts too, does not count.

    >>> question_key("What is 2+2?") == question_key("what  is '2 + 2'"), question_key("2-2") == question_key("2+2")
    (True, False)
    >>> len({question_key(f"What is {each}?") for each in ("5", "5!", ".5", "5'", "1.5", "1:5")})
    6
    """
    words = "|".join([_words(question), *sorted(map(_words, choices))])
    digest = hashlib.blake2b(words.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _words(text: str) -> str:
    text = _unquoted(composed(text.translate(_ALIKE)).casefold())
    body = text.rstrip(_END)
    behind = text[len(body) :].lstrip()
    factorials = behind[: len(behind) - len(behind.lstrip("!"))]  # "5!?" ends in a sign, "5?!" does not
    return " ".join(_PART.findall(body + factorials))


def _unquoted(text: str) -> str:
    """A text without the quotation marks that stand around words; primes, inches and apostrophes stay."""
    if "'" not in text and '"' not in text:
        return text
    opened: dict[str, int] = {}
    pairs: set[int] = set()
    for mark in _QUOTE.finditer(text):
        if mark["opening"]:
            opened[mark[0]] = mark.start()
        elif mark[0] in opened:
            pairs |= {opened.pop(mark[0]), mark.start()}
    return _QUOTE.sub(lambda mark: "" if mark.start() in pairs else mark[0], text)
