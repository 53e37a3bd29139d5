"""Splits that no two questions share, whatever is drawn from them: a question's own hash says where it belongs."""

from __future__ import annotations

import hashlib

_SHARE_PERCENT = {"warmup": 50, "train": 20, "validation": 10, "test": 20}
SPLITS = tuple(_SHARE_PERCENT)


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
