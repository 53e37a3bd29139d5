"""Steps of a thought, token by token and for any tokenizer: what a step is depends on the text that tokens add alone.

A stream and a whole completion are cut by the same :class:`StepSegmenter`, which never looks ahead, so that a step
means the same in training, in a probe and while a model writes. Text is never tokenised again to find a place in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

NO_STEP = -1
"""Step number of a token that belongs to none."""

_SPACES = " \t\r"
_FENCES = "`~"
_FENCE_LENGTH = 3


@dataclass(frozen=True)
class StepRules:
    """What ends a step, and how many tokens a step has.

    A step ends with the token that completes one of ``separators``: it may be spread over tokens, or be a part of one
    (byte-level vocabularies merge full stops and blank lines). A line of spaces alone counts as blank. Before
    ``min_tokens`` no separator ends a step; at ``max_tokens`` it ends without one, for models that think in one
    paragraph. Separators inside fenced code or inside display mathematics (``$$ ... $$`` and backslashed square
    brackets) do not count, unless it is longer than a step may be. A fence is, as in CommonMark, a line that starts
    with three backticks or tildes or more, of which backticks have no other behind them; as many or more of the same on
    a line of their own close it. Only what stands between the two ``tags`` is in steps.

    Raises ValueError for an empty separator or tag, no separator, and lengths that are not 1 <= min <= max.
    """

    separators: tuple[str, ...] = ("\n\n",)
    min_tokens: int = 1
    max_tokens: int = 512
    tags: tuple[str, str] = ("<think>", "</think>")

    def __post_init__(self) -> None:
        if not self.separators or not all(self.separators):
            raise ValueError(f"separators is {self.separators!r}, expected one text or more, none of them empty")
        if not all(self.tags) or len(set(self.tags)) != 2:
            raise ValueError(f"tags is {self.tags!r}, expected two different texts")
        if not 1 <= self.min_tokens <= self.max_tokens:
            raise ValueError(
                f"min_tokens is {self.min_tokens} and max_tokens {self.max_tokens}, expected 1 <= min <= max"
            )


SegmenterState = tuple[bool, str, str, str, str, bool, str]
"""What a :class:`StepSegmenter` remembers of the text so far."""


class Placed(NamedTuple):
    """Where a token stands: the number of its step, from 0, or :data:`NO_STEP`; and whether a step ends here.

    Where a closing tag ends a step, the tag's last token is in no step and the step ended before it.
    """

    step: int
    closes: bool


class StepSegmenter:
    """Cuts one sequence into steps as it is written; ``inside`` says that the prompt has opened the thought.

    A token that completes a tag is in no step; where a tag is spread over several tokens, those before the last one
    are taken for what they could still be, a part of the thought. White space before a step is in no step, and neither
    is a separator that nothing stands before.

    >>> segmenter = StepSegmenter(StepRules(separators=(";",)))
    >>> [segmenter.push(piece).step for piece in ("<think>", "1+", "2", ";", " ", "3", ";", "</think>", "3")]
    [-1, 0, 0, 0, -1, 1, 1, -1, -1]
    """

    def __init__(self, rules: StepRules | None = None, *, inside: bool = False) -> None:
        self._rules = rules or StepRules()
        self.inside = inside
        """Whether the next token is written inside the thought, as far as is known before it."""
        # Spaces that a line starts with are dropped from what is compared, and so from what it is compared with.
        self._separators = tuple(re.sub(rf"\n[{_SPACES}]+", "\n", each) for each in self._rules.separators)
        self._watched = frozenset("".join(self._separators)) | frozenset("\n$\\[]" + _FENCES)
        self._blank = re.compile(rf"(?:{'|'.join(map(re.escape, self._rules.separators))}|\s)*+")
        self._longest = max(map(len, self._separators))
        self._recent = ""
        """What of a tag has begun with the text so far: of either, since one may be a part of the other."""
        self._step = 0
        self._enter()

    def _enter(self) -> None:
        """Between steps: nothing of the next one is there yet."""
        self._tokens = 0
        self._block = ""
        """What closes the code, as a line that begins with it, or the mathematics that the text is in; else empty."""
        self._begin_line()

    def _begin_line(self) -> None:
        self._tail, self._pair, self._line_start, self._fence = "", "", True, ""

    @property
    def _fenced(self) -> bool:
        """Whether this line opens or closes code if nothing more comes, which its end says."""
        return len(self._fence) >= max(_FENCE_LENGTH, len(self._block))

    def push(self, piece: str) -> Placed:
        """Place the token that adds ``piece``; an empty one holds a part of a character."""
        if self._completes_tag(piece):
            ended = self._tokens > 0
            self._step += ended
            self._enter()
            return Placed(NO_STEP, ended)
        if not self.inside:
            return Placed(NO_STEP, False)
        if not self._tokens and piece:
            content = self._blank.sub("", piece, count=1)
            if "\n" in piece[: len(piece) - len(content)]:
                self._enter_or_leave_block("\n")
                self._begin_line()
            if not content:
                return Placed(NO_STEP, False)
            piece = content
        separated = self._read(piece)
        self._tokens += 1
        full = self._tokens >= self._rules.max_tokens
        step, ends = self._step, full or (separated and self._tokens >= self._rules.min_tokens)
        if ends:
            self._step, self._tokens = step + 1, 0
            if full and self._block:
                self._block = self._fence = ""  # of that length it is rather a block that nothing closes
        return Placed(step, ends)

    def _completes_tag(self, piece: str) -> bool:
        """Whether the thought opens or closes with this token; what stands behind the tag in it is passed over."""
        completed = False
        while True:
            tag = self._rules.tags[self.inside]
            text = self._recent + piece
            place = text.find(tag, max(0, len(self._recent) - len(tag) + 1))
            if place < 0:
                self._recent = _begun(self._rules.tags, text)
                return completed
            behind = place + len(tag)
            piece = text[behind:]
            self._recent = _begun(self._rules.tags, text[:behind])
            self.inside, completed = not self.inside, True

    def _read(self, text: str) -> bool:
        """Whether a separator that counts ends in this text, which goes on from the text read before."""
        if self._watched.isdisjoint(text):
            content = text.strip(_SPACES)
            if content or (text and not self._tail.endswith("\n")):
                self._enter_or_leave_block((content or text)[0])
                self._tail = ""
            return False
        separated = False
        for char in text:
            if char in _SPACES and self._tail.endswith("\n"):
                continue
            self._enter_or_leave_block(char)
            self._tail = (self._tail + char)[-self._longest :]
            if not self._block and not self._fenced and self._tail.endswith(self._separators):
                separated, self._tail = True, ""
        return separated

    def _enter_or_leave_block(self, char: str) -> None:
        """Follow code fences and display mathematics through one more character."""
        if char == "\n":
            if self._fenced:
                self._block = "" if self._block else self._fence
            self._line_start, self._fence, self._pair = True, "", ""
            return
        if self._line_start and char in _FENCES and {self._block[:1], self._fence[:1]} <= {"", char}:
            self._fence += char
            return
        if self._fence or char not in _SPACES:
            self._line_start = False
        # Behind the fence a backtick makes it code within a line, and any text a line of the code that it is in.
        if not self._fenced or (char not in _SPACES if self._block else char == self._fence[0] == "`"):
            self._fence = ""
        if self._fence or self._block.startswith(tuple(_FENCES)):
            return
        pair, self._pair = self._pair + char, char if char in "$\\" else ""
        if pair == "\\\\":  # a line break, whose second backslash opens nothing
            self._pair = ""
        elif pair in ("$$", "\\[") and not self._block:
            self._block, self._pair = {"$$": "$$", "\\[": "\\]"}[pair], ""
        elif pair == self._block:
            self._block, self._pair = "", ""

    @property
    def state(self) -> SegmenterState:
        """What decides where the next token stands, beside the number of its step and of the step's tokens so far."""
        return self.inside, self._recent, self._block, self._tail, self._pair, self._line_start, self._fence

    @property
    def place(self) -> tuple[int, int]:
        """The number of the step that the next token may be of, and how many tokens it has so far."""
        return self._step, self._tokens

    def restore(self, state: SegmenterState, place: tuple[int, int]) -> None:
        """Go on from a ``state`` and ``place`` of a segmenter of the same rules."""
        self.inside, self._recent, self._block, self._tail, self._pair, self._line_start, self._fence = state
        self._step, self._tokens = place


def _begun(tags: tuple[str, str], text: str) -> str:
    """The longest part of a tag, from its start and not the whole, that a text ends with."""
    longest = ""
    for tag in tags:
        start = text.find(tag[0], max(0, len(text) - len(tag) + 1))
        while start >= 0 and not tag.startswith(text[start:]):
            start = text.find(tag[0], start + 1)
        if 0 <= start < len(text) - len(longest):
            longest = text[start:]
    return longest


def step_numbers(pieces: Iterable[str], rules: StepRules | None = None, *, inside: bool = False) -> list[int]:
    """Step number of each token of one sequence, from the text that each adds; :data:`NO_STEP` outside of steps.

    >>> step_numbers(["<think>", "So", ".\\n\\n", "Wait", "</think>", "4"])
    [-1, 0, 0, 1, -1, -1]
    """
    segmenter = StepSegmenter(rules, inside=inside)
    return [segmenter.push(piece).step for piece in pieces]
