"""Splits that no two questions share, whatever is drawn from them: a question's own hash says where it belongs."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence

_SHARE_PERCENT = {"warmup": 50, "train": 20, "validation": 10, "test": 20}
SPLITS = tuple(_SHARE_PERCENT)
_WORDS = re.compile(r"\w+|[^\w\s.,;:!?'\"“”‘’`]")


def split_of(question: str) -> str:
    """The split of a question, given as a text that is the same for all its wordings.

    >>> split_of("3+8"), split_of("4+8")
    ('train', 'warmup')
    """
    bucket = int.from_bytes(hashlib.blake2b(question.encode(), digest_size=4).digest(), "big") % 100
    for split, share in _SHARE_PERCENT.items():
        if bucket < share:
            return split
        bucket -= share
    raise AssertionError("the shares do not sum to 100")


def question_key(question: str, choices: Sequence[str] | None = None) -> int:
    """A number of eight bytes that is the same for wordings that differ in case, spaces and punctuation alone.

    >>> question_key("What is 2+2?") == question_key("what  is 2 + 2"), question_key("2-2") == question_key("2+2")
    (True, False)
    """
    told = [question, *sorted(choices or ())]
    folded = (each if each.isascii() else unicodedata.normalize("NFKC", each) for each in told)
    words = "|".join(" ".join(_WORDS.findall(each.casefold())) for each in folded)
    return int.from_bytes(hashlib.blake2b(words.encode(errors="replace"), digest_size=8).digest(), "big")
