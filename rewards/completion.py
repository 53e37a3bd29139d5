"""What one completion says: the record between the parser and everything that scores it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

SEGMENTS = ("prior_confidence", "reasoning", "answer", "analysis", "confidence")
"""Names of the parts of a completion, in the order in which the template writes them."""
STATED = ("prior_confidence", "confidence")
"""Those of them in which a confidence is stated."""


class ParseStatus(StrEnum):
    """How well a completion follows its template; one status each, the first that applies after OK."""

    OK = "ok"
    """Every required field once, in order, the confidence readable, nothing else around them."""
    TRUNCATED = "truncated"
    """Generation hit its length limit; whatever fields are complete are still read."""
    DUPLICATE = "duplicate"
    """A tag is repeated or nested, so that field is ambiguous and left unparsed."""
    MISSING_ANSWER = "missing_answer"
    """No closed answer field, or an empty one."""
    MISSING_CONFIDENCE = "missing_confidence"
    """No closed confidence field, or an empty one."""
    NOT_A_NUMBER = "not_a_number"
    """The confidence is not a finite ASCII decimal."""
    OUT_OF_RANGE = "out_of_range"
    """The confidence is a number outside [0, 1]."""
    NOT_A_LEVEL = "not_a_level"
    """The confidence is a number in [0, 1] but none of the declared levels."""
    UNREAD_PRIOR = "unread_prior"
    """The confidence before the answer is absent, cannot be read or does not stand before every other field."""
    MISSING_FIELD = "missing_field"
    """A required thinking or analysis field is absent or empty."""
    OUT_OF_ORDER = "out_of_order"
    """All fields are there, but not in the template's order."""
    EXTRA_TEXT = "extra_text"
    """All fields are there and in order, with other text around them, or with a stake outside the thinking."""


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open range of characters ``[start, end)`` of a completion's text."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"span [{self.start}, {self.end}) is not a half-open range of characters")


@dataclass(frozen=True, slots=True)
class ParsedCompletion:
    """One completion read by :class:`rewards.template.AnswerTemplate`.

    ``answer``, ``confidence`` and ``prior_confidence`` (the one stated before the thinking and the answer) are ``None``
    where they could not be read without guessing; confidences are in [0, 1]. ``status`` is the strict verdict, in
    lenient parsing too. ``spans`` gives the characters inside each field's tags without the whitespace around them,
    ``blocks`` the field with its tags; both hold every declared field of which there is exactly one, also where its
    value could not be read, so that a penalty for the value has tokens to land on. ``lenient`` is true where the strict
    reading left a value unparsed and the lenient one read it. ``abstained`` is true where the answer is the template's
    abstention. ``step_confidences`` are those stated in a closed thought, in order, each with the characters inside its
    tags: in [0, 1], or ``None`` where it could not be read.
    """

    answer: str | None
    confidence: float | None
    status: ParseStatus
    spans: Mapping[str, Span] = field(default_factory=dict)
    blocks: Mapping[str, Span] = field(default_factory=dict)
    lenient: bool = False
    abstained: bool = False
    step_confidences: tuple[tuple[float | None, Span], ...] = ()
    prior_confidence: float | None = None
