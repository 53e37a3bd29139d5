"""Which tokens belong to which segment of a completion, from its token ids and the parser's character spans.

Shapes: B completions, S segments, T completion tokens (padded). Text is never re-tokenised: a tokenizer may write one
string in several ways, and the ids that were sampled are the only ones that carry log-probabilities.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from estimators.decoding import AS_WRITTEN, StreamDecoder
from estimators.estimator import Completions
from estimators.segmentation import NO_STEP, StepRules, StepSegmenter
from rewards.completion import SEGMENTS, ParsedCompletion
from rewards.markup import TAG_NAMES
from rewards.template import AnswerTemplate

_STRAY = "\N{REPLACEMENT CHARACTER}"
"""What bytes that are no whole character decode to."""


@dataclass(frozen=True, slots=True)
class DecodedCompletion:
    """Text of a completion with, for each of its tokens, the character offset at which that token ends.

    ``ends`` has one entry a token, non-decreasing, the last one ``len(text)``. The end-of-sequence token is kept in
    ``ends`` but adds no text. ``finished`` is false where generation stopped at its length limit.
    """

    text: str
    ends: tuple[int, ...]
    finished: bool


def decode_completion(
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[int],
    stop_ids: Collection[int] | None = None,
    alone: dict[int, str] | None = None,
) -> DecodedCompletion:
    """Decode sampled ids up to the first stop token, keeping where each token ends in the text.

    ``stop_ids`` are the tokens that end a generation, the tokenizer's end-of-sequence and padding tokens if left out
    (a chat model may have more of them). Special tokens inside the completion stay visible (a tag may be one). A
    character whose bytes are spread over several tokens belongs to the last of them. ``alone`` keeps what tokens decode
    to by themselves from one completion to the next.
    """
    ids, alone = list(ids), {} if alone is None else alone
    stop_ids = (tokenizer.eos_token_id, tokenizer.pad_token_id) if stop_ids is None else stop_ids
    stops = [i for i, token in enumerate(ids) if token in stop_ids]
    length = stops[0] if stops else len(ids)
    finished = bool(stops)

    for token in set(ids[:length]).difference(alone):
        alone[token] = tokenizer.decode([token], **AS_WRITTEN)
    text, ends = tokenizer.decode(ids[:length], **AS_WRITTEN), list[int]()
    for split, run in itertools.groupby(ids[:length], key=lambda token: _STRAY in alone[token]):
        tokens, at = list(run), ends[-1] if ends else 0
        # Bytes of characters that are whole only together, or tokens that mean the same alone.
        own = _ends_together(tokenizer, tokens) if split else itertools.accumulate(len(alone[each]) for each in tokens)
        ends += [at + end for end in own]
    if not _are_ends_of(text, ends, [alone[token] for token in ids[:length]]):
        ends = _ends_together(tokenizer, ids[:length])  # a tokenizer whose tokens depend on what stands before them
    return DecodedCompletion(text, (*ends, len(text)) if finished else tuple(ends), finished)


def _ends_together(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[int]:
    """Where each token ends in the text of them all."""
    stream = StreamDecoder(tokenizer)
    pieces = (stream.push(token, last=place == len(ids)) for place, token in enumerate(ids, 1))
    return list(itertools.accumulate(len(piece) for piece in pieces))


def _are_ends_of(text: str, ends: Sequence[int], alone: Sequence[str]) -> bool:
    """Whether tokens that hold whole characters stand in ``text`` as they are written alone, and nothing behind."""
    starts = (0, *ends)
    whole = zip(starts, alone, strict=False)
    return starts[-1] == len(text) and all(_STRAY in each or text.startswith(each, start) for start, each in whole)


def segment_masks(
    parsed: Sequence[ParsedCompletion], decoded: Sequence[DecodedCompletion], length: int
) -> torch.Tensor:
    """Masks (B, S, T) of 0 and 1, ``S`` in the order of ``SEGMENTS``: disjoint, and together the completion's tokens.

    A token belongs to a field if its text overlaps the field's block, tags included: the closing tag is the decision
    that the field is complete. A token that two blocks share goes to the later one. Tokens outside every block, the
    end-of-sequence token among them, are reasoning.
    Raises ValueError where a completion has more than ``length`` tokens.
    """
    rows = []
    for row, (completion, tokens) in enumerate(zip(parsed, decoded, strict=True)):
        if len(tokens.ends) > length:
            raise ValueError(f"completion {row} has {len(tokens.ends)} tokens, the batch is padded to {length}")
        segments = [SEGMENTS.index("reasoning")] * len(tokens.ends) + [-1] * (length - len(tokens.ends))
        for index, name in enumerate(SEGMENTS):
            block = completion.blocks.get(name)
            if block is not None:
                first = bisect_right(tokens.ends, block.start)
                behind = min(bisect_left(tokens.ends, block.end) + 1, len(tokens.ends))
                segments[first:behind] = [index] * (behind - first)
        rows.append(segments)
    segments_BT = torch.tensor(rows).view(len(rows), length)
    return (segments_BT.unsqueeze(1) == torch.arange(len(SEGMENTS)).view(-1, 1)).float()


def first_token(start: int, decoded: DecodedCompletion) -> int:
    """Index of the first of the tokens that write the character at ``start``.

    A token that holds the first bytes of a character adds no text: it goes with the token that completes it.
    """
    holder = bisect_right(decoded.ends, start)
    before = decoded.ends[holder - 1] if holder else 0
    return bisect_left(decoded.ends, before) + 1 if before else 0


def tokens_inside(start: int, end: int, decoded: DecodedCompletion) -> list[int]:
    """Indices of the tokens that write the characters ``[start, end)``; none for an empty range."""
    if start == end:
        return []
    last = min(bisect_left(decoded.ends, end), len(decoded.ends) - 1)
    return list(range(first_token(start, decoded), last + 1))


def confidence_token(
    parsed: ParsedCompletion,
    decoded: DecodedCompletion,
    ids: Sequence[int],
    level_ids: Collection[int],
    field: str = "confidence",
) -> int | None:
    """Index of the token that states a completion's confidence; None where no confidence was read or not by one level.

    ``ids`` are the completion's tokens, ``level_ids`` those of the template's levels, ``field`` where it is stated.
    """
    if getattr(parsed, field) is None:
        return None
    span = parsed.spans[field]
    levels = [index for index in tokens_inside(span.start, span.end, decoded) if ids[index] in level_ids]
    return levels[0] if len(levels) == 1 else None


def field_mask(
    parsed: Sequence[ParsedCompletion], decoded: Sequence[DecodedCompletion], field: str, length: int
) -> torch.Tensor:
    """Mask (B, T), bool, of the tokens that write a field's content, without its tags; none where it was not read.

    ``field`` is "answer", "confidence" or "prior_confidence".
    """
    mask = np.zeros((len(parsed), length), dtype=bool)
    for row, (completion, tokens) in enumerate(zip(parsed, decoded, strict=True)):
        if getattr(completion, field) is not None:
            span = completion.spans[field]
            mask[row, tokens_inside(span.start, span.end, tokens)] = True
    return torch.from_numpy(mask)


@dataclass(frozen=True, slots=True)
class LevelTokens:
    """The confidence levels of a template as tokens of a tokenizer: the ids, and what each of them states.

    ``temperature`` is that at which the policy was trained to state them, and is to be read.
    """

    ids: tuple[int, ...]
    values: tuple[float, ...]
    temperature: float = 1.0

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, template: AnswerTemplate, temperature: float = 1.0) -> LevelTokens:
        """Look them up. Raises ValueError for a template without levels, and as :func:`level_token_ids` does."""
        if template.levels is None:
            raise ValueError("task.template.levels: missing; expected a known set of confidences of one token each")
        return cls(tuple(level_token_ids(tokenizer, template.levels)), tuple(template.level_values), temperature)


def level_token_ids(tokenizer: PreTrainedTokenizerBase, levels: tuple[str, ...]) -> list[int]:
    """Token id of each confidence level.

    Raises ValueError naming the levels that are not exactly one token, or that share one.
    """
    ids = [tokenizer.encode(level, add_special_tokens=False) for level in levels]
    split = [level for level, tokens in zip(levels, ids, strict=True) if len(tokens) != 1]
    if split:
        raise ValueError(
            f"task.template.levels: {', '.join(split)} are not single tokens of this tokenizer; add them to it in a "
            "supervised warm start (trainer.method: sft with model.add_template_tokens: true) or leave levels out"
        )
    flat = [tokens[0] for tokens in ids]
    if len(set(flat)) != len(flat) or tokenizer.unk_token_id in flat:
        raise ValueError(f"task.template.levels: {', '.join(levels)} are not distinct tokens of this tokenizer")
    return flat


def as_completions(
    prompt_ids: Sequence[Sequence[int]],
    completion_ids: Sequence[Sequence[int]],
    parsed: Sequence[ParsedCompletion],
    decoded: Sequence[DecodedCompletion],
    levels: LevelTokens | None = None,
    rules: StepRules | None = None,
    prompts: Sequence[str] = (),
) -> Completions:
    """What estimators are given: the tokens of completions and what they wrote, from one parse of their text.

    ``completion_ids`` may be padded behind the token that ends them; ``prompts`` are the prompts as text. ``rules`` say
    what a step is, see :func:`step_rules`. Raises ValueError where a completion has fewer ids than its text has tokens.
    """
    ids = [list(each[: len(tokens.ends)]) for each, tokens in zip(completion_ids, decoded, strict=True)]
    for row, (each, tokens) in enumerate(zip(ids, decoded, strict=True)):
        if len(each) != len(tokens.ends):
            raise ValueError(f"completion {row} has {len(each)} ids, its text is of {len(tokens.ends)} tokens")
    length = max(map(len, ids), default=0)
    counts = torch.tensor([len(each) for each in ids], dtype=torch.long)
    places = [-1] * len(ids)
    if levels is not None:
        found = [confidence_token(*each, levels.ids) for each in zip(parsed, decoded, ids, strict=True)]
        places = [-1 if place is None else place for place in found]
    stated, prior = (
        [math.nan if getattr(each, field) is None else getattr(each, field) for each in parsed]
        for field in ("confidence", "prior_confidence")
    )
    steps_BT, reasoning_BT = _steps(parsed, decoded, length, rules or StepRules())
    return Completions(
        prompt_ids=prompt_ids,
        completion_ids=ids,
        written_BT=torch.arange(length) < counts.unsqueeze(1),
        reasoning_BT=reasoning_BT,
        answer_BT=field_mask(parsed, decoded, "answer", length),
        confidence_BT=field_mask(parsed, decoded, "confidence", length),
        steps_BT=steps_BT,
        stated_B=torch.tensor(stated, dtype=torch.float64),
        level_ids=() if levels is None else levels.ids,
        level_values=() if levels is None else levels.values,
        level_temperature=1.0 if levels is None else levels.temperature,
        level_positions_B=torch.tensor(places, dtype=torch.long),
        prior_B=torch.tensor(prior, dtype=torch.float64),
        prompts=prompts,
        answers=[each.answer for each in parsed],
    )


def step_rules(template: AnswerTemplate) -> StepRules:
    """What a step of the thought is, in completions that follow a template."""
    tag = TAG_NAMES["reasoning"]
    return StepRules(
        template.step_separators, template.step_min_tokens, template.step_max_tokens, (f"<{tag}>", f"</{tag}>")
    )


def _steps(
    parsed: Sequence[ParsedCompletion], decoded: Sequence[DecodedCompletion], length: int, rules: StepRules
) -> tuple[torch.Tensor, torch.Tensor]:
    """Number of each token's step (B, T), and whether the token stands in the thought, closed or not (B, T)."""
    numbers = np.full((len(parsed), length), NO_STEP, dtype=np.int64)
    inside = np.zeros((len(parsed), length), dtype=bool)
    for row, (completion, tokens) in enumerate(zip(parsed, decoded, strict=True)):
        thought = completion.blocks.get("reasoning")
        opened_before = thought is not None and not tokens.text.startswith(rules.tags[0], thought.start)
        segmenter = StepSegmenter(rules, inside=opened_before)
        fields = np.zeros(length, dtype=bool)
        if thought is None:  # it was never closed: what the parser has read as another field is no thought
            for block in completion.blocks.values():
                fields[tokens_inside(block.start, block.end, tokens)] = True
        bounds = itertools.pairwise((0, *tokens.ends))
        for column, (start, end) in enumerate(itertools.islice(bounds, len(tokens.ends) - tokens.finished)):
            if fields[column]:
                continue
            before = segmenter.inside
            numbers[row, column] = segmenter.push(tokens.text[start:end]).step
            inside[row, column] = before and segmenter.inside
    return torch.from_numpy(numbers), torch.from_numpy(inside)
