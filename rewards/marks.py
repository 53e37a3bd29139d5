"""Marks: a confidence that is one of two tokens behind an answer, as Self-REF trains them; for the template only."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rewards.completion import Span
from rewards.markup import Block, scan_tags

MARKS = ("<UN>", "<CN>")
"""What Self-REF writes behind an answer that it is not confident of, and behind one that it is (arXiv 2410.13284)."""


def check_marks(marks: Sequence[str]) -> None:
    """Raise ValueError for what are not two marks: texts without space or tags, neither of them inside the other."""
    clean = [each for each in marks if each and not re.search(r"\s", each) and not scan_tags(each)]
    if len(marks) != 2 or len(clean) != 2 or marks[0] in marks[1] or marks[1] in marks[0]:
        raise ValueError(
            f"AnswerTemplate.levels is {tuple(marks)!r}, expected the two marks of confidence: token, such as {MARKS}: "
            "without space or tags, neither of them inside the other"
        )


def locate_mark(text: str, marks: Sequence[str], blocks: dict[str, Block]) -> frozenset[str]:
    """Put the one mark that stands outside of the fields into ``blocks``, as the confidence and its own block.

    Returns the fields that are ambiguous: the confidence where several marks stand there.
    """
    blocks.pop("confidence", None)  # tags that such a template does not have
    outer = [block.outer for block in blocks.values()]
    found = [match.span() for match in re.finditer("|".join(map(re.escape, marks)), text)]
    found = [each for each in found if not any(span.start <= each[0] < span.end for span in outer)]
    if len(found) == 1:
        span = Span(*found[0])
        blocks["confidence"] = Block(span, span)
    return frozenset({"confidence"} if len(found) > 1 else ())
