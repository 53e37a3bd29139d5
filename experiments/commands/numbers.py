"""Numbers on the command line, whose error says what is allowed."""

from __future__ import annotations

import argparse

LARGEST_SEED = 2**32 - 1
"""What numpy's oldest generators take, which libraries that train with us still seed."""


def seed(text: str) -> int:
    """A seed, for argparse: a whole number from 0 to LARGEST_SEED.

    >>> seed("7")
    7
    """
    value = int(text) if text.isascii() and text.isdecimal() else -1
    if not 0 <= value <= LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {LARGEST_SEED}")
    return value
