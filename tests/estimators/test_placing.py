"""Tokens placed from what earlier sequences have shown stand where decoder and segmenter put them afresh."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators import placing
from estimators.decoding import StreamDecoder
from estimators.placing import KnownPlaces
from estimators.segmentation import NO_STEP, StepRules, StepSegmenter
from tests.estimators.test_segmentation import TOKENIZERS

PARTS = ["<think>", "</think>", "<thi", "<", "</", ">", "\n", "\n\n", ".\n\n", ";", " ", "a", "$$", "\\[", "\\]", "\\"]
PARTS += ["```", "~~~~", "`", "漢", "😀", "$", "<<think>", "think>", "Wait", "2 = 2"]
RULES = [
    StepRules(),
    StepRules(separators=(";", "\n\n"), min_tokens=3, max_tokens=5),
    StepRules(separators=(";",), max_tokens=1),
    StepRules(separators=(". \n", ";;"), min_tokens=2, max_tokens=9, tags=("<", ">")),
    StepRules(tags=("aa", "a")),
]


def afresh(tokenizer: Any, rules: StepRules, ids: list[int], inside: bool) -> tuple[list[tuple[str, int, bool]], bool]:
    """Text, step and end of each token, and whether the next one is in the thought."""
    decoder, segmenter = StreamDecoder(tokenizer), StepSegmenter(rules, inside=inside)
    found = []
    for token in ids:
        piece = decoder.push(token)
        found.append((piece, *segmenter.push(piece)))
    return found, segmenter.inside


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=200, deadline=None)
@given(
    texts=st.lists(st.lists(st.sampled_from(PARTS), max_size=25).map("".join), min_size=1, max_size=4),
    rules=st.sampled_from(RULES),
    inside=st.booleans(),
)
def test_a_sequence_is_placed_as_if_it_were_the_first(
    name: str, texts: list[str], rules: StepRules, inside: bool
) -> None:
    tokenizer = TOKENIZERS[name]
    places = KnownPlaces(tokenizer, rules)
    for text in [*texts, texts[0]]:
        ids = tokenizer.encode(text, add_special_tokens=False)
        sequence = places.sequence(inside=inside)
        found = [(piece, *placed) for piece, placed in map(sequence.push, ids)]
        expected, inside_behind = afresh(tokenizer, rules, ids, inside)
        assert found == expected and sequence.inside == inside_behind


def test_sequences_that_are_written_together_do_not_mix() -> None:
    tokenizer, rules = TOKENIZERS["characters"], StepRules(separators=(",",))
    places = KnownPlaces(tokenizer, rules)
    texts = ["<think>Wait, So, 2</think>4", "First<think>, So", "<think>2</think>,", "Wait, 2 = 2"]
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    sequences = [places.sequence() for _ in ids]
    found: list[list[Any]] = [[] for _ in ids]
    for place in range(max(map(len, ids))):
        for row, each in enumerate(ids):
            if place < len(each):
                piece, placed = sequences[row].push(each[place])
                found[row].append((piece, *placed))
    assert found == [afresh(tokenizer, rules, each, False)[0] for each in ids]
    assert found[0][-1][1] == NO_STEP


def test_a_text_that_was_seen_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, rules = TOKENIZERS["bytes"], StepRules()
    ids = tokenizer.encode("<think>First.\n\nWait, 2 = 2.\n\nSo</think>4", add_special_tokens=False)
    places = KnownPlaces(tokenizer, rules)
    whole = [*map(places.sequence().push, ids)]
    monkeypatch.setattr(KnownPlaces, "learn", lambda *_: pytest.fail("was read again"))
    assert [*map(places.sequence().push, ids)] == whole


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "_MOST_MOVES", 10)
    tokenizer, rules = TOKENIZERS["characters"], StepRules(separators=(",",))
    ids = tokenizer.encode("<think>Wait, 2 = 2.\n \nSo\nfour</think>" * 3, add_special_tokens=False)
    places = KnownPlaces(tokenizer, rules)
    sequence = places.sequence()
    found = []
    for token in ids:
        piece, placed = sequence.push(token)
        found.append((piece, *placed))
        assert places._moves <= 10 and len(places._states) <= 11
    assert found == afresh(tokenizer, rules, ids, False)[0]


@pytest.mark.parametrize("name", ["bytes", "pieces"])
def test_a_state_without_an_end_is_not_remembered(name: str) -> None:
    """Bytes of no character, which wait for their end, and a fence of code that never ends."""
    tokenizer, rules = TOKENIZERS[name], StepRules()
    waiting = tokenizer.encode("\u00e9", add_special_tokens=False)[-2]  # the first byte of two
    fence = tokenizer.encode("`", add_special_tokens=False)[-1]
    places = KnownPlaces(tokenizer, rules)
    for ids in ([waiting] * 400, [fence] * 400):
        sequence = places.sequence(inside=True)
        assert [(piece, *placed) for piece, placed in map(sequence.push, ids)] == afresh(tokenizer, rules, ids, True)[0]
    assert len(places._states) < 300
