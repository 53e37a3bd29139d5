"""The answer template: tells a model how to answer, and is the only parser of what it answers.

    <prior>...</prior><think>...</think><answer>...</answer><analysis>...</analysis><confidence>...</confidence>

The strict reading is for training. It reads a field only where exactly one reading is possible, and never guesses:

- tags are exact (lower case, no attributes), only ASCII whitespace may stand between fields;
- tags inside a closed thought are reasoning, not fields. If the thinking tags themselves repeat, only what follows
  the last ``</think>`` is read. A ``<think>`` that is never closed hides nothing, but of a truncated completion
  what follows it is an unfinished thought and not read;
- an opening ``<think>`` may be missing, because many chat templates end the prompt with it: then the text up to
  ``</think>`` is the reasoning;
- a confidence is an ASCII decimal such as ``0.85``, ``1``, ``.5`` or ``1.``, in [0, 1]. An exponent, a plus sign, a
  percent sign, ``nan`` and ``inf`` are NOT_A_NUMBER; a negative number is OUT_OF_RANGE (``-0`` is 0). With declared
  levels it must be one of them, letter by letter. The one before the answer, ``<prior>``, is read in the same way; it
  is read only where it stands before every other field, so that the opening ``<think>`` may then not be missing;
- a field the template does not declare is extra text;
- where the confidence is a token, one of two marks (``<CN>`` sure, ``<UN>`` unsure) stands behind the answer, outside
  of every field; several are DUPLICATE, and one inside the thinking or the answer is their text;
- where step confidences are declared, ``<stake>0.7</stake>`` may stand anywhere in a closed thought, as often as
  wanted. One that is not such a decimal is kept as unparsed; one outside the thinking is extra text.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from rewards.completion import SEGMENTS, ParsedCompletion, ParseStatus
from rewards.decimals import STAKE, read_decimal, read_stakes
from rewards.lenient import read_leniently
from rewards.marks import MARKS, check_marks, locate_mark
from rewards.markup import TAG_NAMES, WHITESPACE, Block, locate_fields, scan_tags, without_unfinished_thought
from rewards.nearest import nearest

_CHOICES = {
    "thinking": ("none", "optional", "required"),
    "analysis": ("none", "optional", "required"),
    "confidence": ("none", "required", "token"),
    "step_confidences": ("none", "optional"),
    "prior_confidence": ("none", "required"),
}


@dataclass(frozen=True)
class AnswerTemplate:
    """Which fields a completion has; writes the instructions for them and reads them back.

    ``thinking`` and ``analysis`` may be "none", "optional" or "required", ``confidence`` "none", "required" or
    "token", one of two marks behind the answer. ``levels`` are the strings a confidence must be one of, in increasing
    order, such as ("0.0", "0.5", "1.0"); of a token the marks, the one for 0 first, :data:`MARKS` if left out.
    ``abstain`` is the answer that declines to answer, letter by letter, such as "I don't know"; None offers none.
    ``step_confidences`` may be "none" or "optional": confidences stated at steps of the thinking (DualStake, arXiv
    2609.00935). ``prior_confidence`` may be "none" or "required": a confidence stated before the thinking and the
    answer, of the question alone (CALIBER, arXiv 2606.24281), one of the ``levels`` where there are any. A step of the
    thinking ends with one of ``step_separators`` and has ``step_min_tokens`` to ``step_max_tokens`` tokens: what
    confidence of a step is read over; the parser does not look at it.

    Raises ValueError for another choice; for levels that are fewer than two, no decimals in [0, 1] or not strictly
    increasing; for a confidence before the answer beside marks; for an abstention that could not be read back; for
    stakes without thinking; for separators and lengths of steps that cannot be.

    >>> template = AnswerTemplate()
    >>> parsed = template.parse("<think>2 + 2</think> <answer> 4 </answer> <confidence>0.9</confidence>")
    >>> parsed.status.value, parsed.answer, parsed.confidence
    ('ok', '4', 0.9)
    """

    thinking: str = "optional"
    analysis: str = "none"
    confidence: str = "required"
    levels: tuple[str, ...] | None = None
    abstain: str | None = None
    step_confidences: str = "none"
    prior_confidence: str = "none"
    step_separators: tuple[str, ...] = ("\n\n",)
    step_min_tokens: int = 1
    step_max_tokens: int = 512

    def __post_init__(self) -> None:
        for key, allowed in _CHOICES.items():
            value = getattr(self, key)
            if value not in allowed:
                hint = nearest(value, allowed)
                raise ValueError(f"AnswerTemplate.{key} is {value!r}, expected one of {allowed}{hint}")
        if self.step_confidences != "none" and self.thinking == "none":
            raise ValueError(
                f"AnswerTemplate.step_confidences is {self.step_confidences!r}, but the template has no thinking"
            )
        if self.prior_confidence != "none" and self.confidence == "token":
            raise ValueError(
                f"AnswerTemplate.prior_confidence is {self.prior_confidence!r}, a decimal in tags, but the "
                "confidence is a token; expected confidence 'required' or 'none' beside it"
            )
        self._check_abstain()
        self._check_steps()
        if self.confidence == "token" and self.levels is None:
            object.__setattr__(self, "levels", MARKS)
        if self.levels is None:
            return
        listed = isinstance(self.levels, (list, tuple))
        if not listed or not all(isinstance(level, str) for level in self.levels):
            raise ValueError(f"AnswerTemplate.levels is {self.levels!r}, expected a list of strings (quoted, in YAML)")
        object.__setattr__(self, "levels", tuple(self.levels))
        if self.confidence == self.prior_confidence == "none":
            raise ValueError(f"AnswerTemplate.levels is {self.levels!r}, but the template has no confidence")
        if self.confidence == "token":
            check_marks(self.levels)
            return
        bad = [level for level in self.levels if level.startswith("-") or read_decimal(level)[0] is None]
        if bad:
            raise ValueError(f"AnswerTemplate.levels holds {bad}, expected decimals in [0, 1]")
        values = [float(level) for level in self.levels]
        if len(values) < 2 or any(low >= high for low, high in itertools.pairwise(values)):
            raise ValueError(f"AnswerTemplate.levels is {self.levels!r}, expected two or more in increasing order")

    @property
    def level_values(self) -> tuple[float, ...] | None:
        """The declared levels as numbers in [0, 1], increasing; None where any decimal is allowed."""
        if self.confidence == "token":
            return 0.0, 1.0
        return None if self.levels is None else tuple(float(level) for level in self.levels)

    @property
    def tokens(self) -> tuple[str, ...]:
        """The two tags of each declared field and of stakes, then the levels: what may be single tokens."""
        fields = [field for field, choice in self._fields() if choice != "token"]
        tags = [TAG_NAMES[field] for field in fields] + ["stake"] * (self.step_confidences != "none")
        return (*(text for tag in tags for text in (f"<{tag}>", f"</{tag}>")), *(self.levels or ()))

    def instructions(self) -> str:
        """Return the text that tells a model how to answer, for the prompt."""
        kind = "a decimal number from 0 to 1" if self.levels is None else f"one of: {', '.join(self.levels)}"
        contents = {
            "prior_confidence": f"the probability that you will answer this correctly, before you begin, {kind}",
            "reasoning": "your reasoning, step by step",
            "answer": "your final answer and nothing else",
            "analysis": "how the answer could be wrong, and how sure you are",
            "confidence": f"the probability that your answer is correct, {kind}",
        }
        fields = [(field, choice) for field, choice in self._fields() if choice != "token"]
        lines = [
            "Answer in exactly this format: every tag once, in this order, and no text outside the tags.",
            *(f"<{TAG_NAMES[field]}> {contents[field]} </{TAG_NAMES[field]}>" for field, _ in fields),
            *(f"The <{TAG_NAMES[field]}> part may be left out." for field, choice in fields if choice == "optional"),
        ]
        if self.confidence == "token":
            unsure, sure = self.levels or MARKS
            lines.append(f"Behind all tags write {sure} if you are confident of your answer, {unsure} if you are not.")
        if self.step_confidences != "none":
            lines.append(
                "After any step of your reasoning you may state the probability that it is right, a decimal number"
                " from 0 to 1, as in <stake>0.7</stake>."
            )
        if self.abstain is not None:
            lines.append(f"To decline to answer, give exactly this as your answer: {self.abstain}")
        return "\n".join(lines)

    def render(
        self,
        answer: str,
        confidence: str | None = None,
        thinking: str | None = None,
        analysis: str | None = None,
        prior: str | None = None,
    ) -> str:
        """Return a completion with these contents, which :meth:`parse` reads as OK; ``prior`` is the first confidence.

        Raises ValueError where no such completion exists: a required field is missing, an undeclared one is given, or
        a content would be read differently.
        """
        contents = {"reasoning": thinking, "answer": answer, "analysis": analysis, "confidence": confidence}
        contents["prior_confidence"] = prior
        mark = confidence if self.confidence == "token" else None
        contents |= {} if mark is None else {"confidence": None}
        written = [(TAG_NAMES[field], contents[field]) for field in SEGMENTS if contents[field] is not None]
        text = "".join(f"<{tag}>{content}</{tag}>" for tag, content in written) + (mark or "")
        parsed = self.parse(text)
        if parsed.status is not ParseStatus.OK or parsed.answer != answer.strip(WHITESPACE):
            raise ValueError(f"a completion with {contents} does not follow {self}: it reads as {parsed.status.value}")
        return text

    def parse(self, text: str, *, truncated: bool = False, lenient: bool = False) -> ParsedCompletion:
        """Read one completion; never raises on any text, and takes time linear in its length.

        ``truncated`` says that generation hit its length limit. ``lenient`` is for evaluating models that were not
        trained on this template: what the strict reading leaves unparsed is read from percentages, 0-100, surrounding
        words, the last of repeated tags, tags in other spellings, an unclosed final field, ``\\boxed{}``, wordings such
        as "Answer: 42, confidence: 85%", and, if there is nothing after it, from the thinking; a value that stays
        ambiguous stays None. An answer that both readings find is the same, and so is its verdict.
        """
        tags = scan_tags(text)
        layout = locate_fields(text, without_unfinished_thought(tags) if truncated else tags)
        declared = dict(self._fields())
        blocks = {field: block for field, block in layout.blocks.items() if field in declared}
        ambiguous = layout.ambiguous & declared.keys()
        if self.confidence == "token":
            ambiguous |= locate_mark(text, self.levels or MARKS, blocks)
        answer = _content(text, blocks.get("answer"))
        stated = _content(text, blocks.get("confidence"))
        confidence, problem = self._confidence(stated)
        first = next((tag.start for tag in tags if tag.field != "prior_confidence"), len(text))
        prior = self._prior(text, blocks, first)
        staked, stray = read_stakes(text if self.step_confidences != "none" else "", blocks.get("reasoning"))
        status = ParseStatus.OK
        if truncated:
            status = ParseStatus.TRUNCATED
        elif ambiguous:
            status = ParseStatus.DUPLICATE
        elif answer is None:
            status = ParseStatus.MISSING_ANSWER
        elif problem is not None:
            status = problem
        elif prior is None and "prior_confidence" in declared:
            status = ParseStatus.UNREAD_PRIOR
        elif any(
            choice == "required" and _content(text, blocks.get(field)) is None for field, choice in self._fields()
        ):
            status = ParseStatus.MISSING_FIELD
        elif sorted(blocks, key=lambda field: blocks[field].outer.start) != sorted(blocks, key=SEGMENTS.index):
            status = ParseStatus.OUT_OF_ORDER
        elif stray or _has_text_outside(text, blocks):
            status = ParseStatus.EXTRA_TEXT

        guessed = False
        wanted = declared.get("confidence") == "required" and confidence is None
        prior_wanted = "prior_confidence" in declared and prior is None
        if lenient and (answer is None or wanted or prior_wanted):
            reading = read_leniently(text, truncated=truncated)
            if answer is None and reading.answer is not None:
                blocks["answer"], guessed = reading.answer, True
                answer = _content(text, reading.answer)
            if wanted and reading.confidence is not None:
                (confidence, blocks["confidence"]), guessed = reading.confidence, True
            if prior_wanted and reading.prior is not None:
                (prior, blocks["prior_confidence"]), guessed = reading.prior, True
        spans = {field: block.inner for field, block in blocks.items()}
        outer = {field: block.outer for field, block in blocks.items()}
        abstained = answer is not None and answer == self.abstain
        return ParsedCompletion(answer, confidence, status, spans, outer, guessed, abstained, staked, prior)

    def _fields(self) -> Iterator[tuple[str, str]]:
        """The declared fields in their order, each with "optional" or "required"."""
        choices = (self.prior_confidence, self.thinking, "required", self.analysis, self.confidence)
        return ((field, choice) for field, choice in zip(SEGMENTS, choices, strict=True) if choice != "none")

    def _check_abstain(self) -> None:
        if self.abstain is None:
            return
        if not isinstance(self.abstain, str) or not self.abstain or self.abstain != self.abstain.strip(WHITESPACE):
            raise ValueError(f"AnswerTemplate.abstain is {self.abstain!r}, expected a text without space around it")
        if scan_tags(self.abstain) or STAKE.search(self.abstain) or "\n" in self.abstain:
            raise ValueError(f"AnswerTemplate.abstain is {self.abstain!r}, expected one line without tags")

    def _check_steps(self) -> None:
        given = self.step_separators
        listed = isinstance(given, (list, tuple)) and all(isinstance(each, str) and each for each in given)
        if not listed or not given:
            raise ValueError(
                f"AnswerTemplate.step_separators is {given!r}, expected a list of texts, none of them empty"
            )
        object.__setattr__(self, "step_separators", tuple(given))
        if not 1 <= self.step_min_tokens <= self.step_max_tokens:
            raise ValueError(
                f"AnswerTemplate.step_min_tokens is {self.step_min_tokens}, expected from 1 to step_max_tokens, "
                f"{self.step_max_tokens}"
            )

    def _confidence(self, stated: str | None) -> tuple[float | None, ParseStatus | None]:
        if self.confidence == "none":
            return None, None
        if stated is None:
            return None, ParseStatus.MISSING_CONFIDENCE
        if self.confidence == "token":
            return (self.level_values or ())[(self.levels or MARKS).index(stated)], None
        return self._decimal(stated)

    def _prior(self, text: str, blocks: dict[str, Block], first: int) -> float | None:
        """The confidence before the answer, where it ends before the ``first`` tag of any other field."""
        block = blocks.get("prior_confidence")
        stated = _content(text, block)
        return None if block is None or stated is None or block.outer.end > first else self._decimal(stated)[0]

    def _decimal(self, stated: str) -> tuple[float | None, ParseStatus | None]:
        value, problem = read_decimal(stated)
        if value is not None and self.levels is not None and stated not in self.levels:
            return None, ParseStatus.NOT_A_LEVEL
        return value, problem


def _content(text: str, block: Block | None) -> str | None:
    """The content of a field, None where it is absent or empty."""
    return None if block is None else text[block.inner.start : block.inner.end] or None


def _has_text_outside(text: str, blocks: dict[str, Block]) -> bool:
    outer = sorted((block.outer for block in blocks.values()), key=lambda span: span.start)
    gaps = zip([0, *(span.end for span in outer)], [*(span.start for span in outer), len(text)], strict=True)
    return any(text[start:end].strip(WHITESPACE) for start, end in gaps)
