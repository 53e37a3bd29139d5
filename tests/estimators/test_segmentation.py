"""Steps of a thought: the same for every tokenizer, the same in a stream, and no wider or narrower than asked for."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from estimators.decoding import StreamDecoder
from estimators.segmentation import NO_STEP, StepRules, StepSegmenter, step_numbers

THOUGHT = "First.\n\nWait, 2 = 2.\n \nSo\nfour 漢\n\n\n\n😀 done"
STEPS = ["First.", "Wait, 2 = 2.", "So\nfour 漢", "😀 done"]


def texts_of_steps(pieces: list[str], rules: StepRules | None = None) -> list[str]:
    """The text of each step, in order; numbers must have no gap."""
    numbers = step_numbers(pieces, rules)
    assert sorted(set(numbers) - {NO_STEP}) == list(range(max(numbers, default=NO_STEP) + 1))
    return [
        "".join(piece for piece, number in zip(pieces, numbers, strict=True) if number == step)
        for step in range(max(numbers, default=NO_STEP) + 1)
    ]


def byte_level() -> PreTrainedTokenizerFast:
    """Byte-level BPE that has merged a full stop with the blank line behind it."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\.\n\n|\n+|\s?\w+|."), "isolated"), pre_tokenizers.ByteLevel(False, True, False)]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    core.train_from_iterator([THOUGHT] * 20, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core)


def sentence_piece() -> PreTrainedTokenizerFast:
    """Pieces with a lower bar for a space, whose line breaks are bytes, as those of Llama 2 and Gemma are."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    words = ["▁", "▁Wait", "▁So", "▁done", "First", ".", "▁2", "▁=", ",", "four", "So", "Wait", "2", "=", "<", ">", "/"]
    letters = sorted(set("WaitFrsoudneSthk"))
    vocabulary = [("<unk>", 0.0), *((token, -2.0 - index / 100) for index, token in enumerate([*words, *letters]))]
    core = Tokenizer(models.Unigram([*vocabulary, *((each, -9.0) for each in bytes_)], 0, byte_fallback=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


def characters() -> PreTrainedTokenizerFast:
    """One token a character, and one for each tag."""
    vocabulary = {each: index for index, each in enumerate(["<unk>", *sorted({*THOUGHT, "4"})])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    core.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in ("<think>", "</think>")])
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


TOKENIZERS = {"bytes": byte_level(), "pieces": sentence_piece(), "characters": characters()}


def pieces_of(name: str, text: str) -> list[str]:
    tokenizer = TOKENIZERS[name]
    stream = StreamDecoder(tokenizer)
    ids = tokenizer.encode(text, add_special_tokens=False)
    pieces = [stream.push(token, last=place == len(ids)) for place, token in enumerate(ids, 1)]
    assert "".join(pieces) == text
    return pieces


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_tokenizer_gives_the_same_steps(name: str) -> None:
    pieces = pieces_of(name, f"<think>{THOUGHT}</think>4\n\n4")
    steps = texts_of_steps(pieces)
    whole_tags = name == "characters"
    # Where a tag is of several tokens, what comes before its last one could still have been a thought.
    assert [each.strip() for each in steps[:-1]] == STEPS[:-1]
    assert steps[-1] == STEPS[-1] if whole_tags else steps[-1].startswith(STEPS[-1])
    assert "4" not in "".join(steps)
    if name == "bytes":
        assert ".\n\n" in pieces, "nothing is merged"


def test_the_separator_stays_with_the_step_that_it_ends_and_further_blank_lines_with_none() -> None:
    pieces = ["<think>", "\n", "a", "\n", "\n", "\n\n", "\n", "b", ".\n\n", "</think>"]
    assert step_numbers(pieces) == [-1, -1, 0, 0, 0, -1, -1, 1, 1, -1]
    segmenter = StepSegmenter()
    assert [place for place, piece in enumerate(pieces) if segmenter.push(piece).closes] == [4, 8]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("before", "step"),
    [
        ("a", "```py\nx\n\n  y\n\n```"),
        ("a", "~~~\nx\n\n```\n\n~~~"),
        ("a", "so $$x\n\n= 1$$"),
        ("a", "so \\[x \\\\[2pt]\n\n= 1\\]"),
        ("it costs $5", "or $6"),
        ("use ``` inline", "or \\\\[not"),
        ("a", "````md\n```\nx\n```\n\ny\n````"),
        ("a", "~~~~\nx\n\n~~~\n\ny\n\n~~~~~ "),
        ("a", "```\ns = 1\n```no\n\ny\n\n  ```\t"),
        ("a", "~~~ `x` ~\ny\n\n~~~"),
        ("```x``` is code", "```` y` `` is, as `` ``` ``"),
        ("a", "``` $$\nx\n\n```"),
        ("``", "~~ `` ~~"),
    ],
)
def test_code_and_display_mathematics_stay_whole(before: str, step: str, size: int) -> None:
    """Whatever characters of them share a token, with the separators before and behind them too."""
    text = f"{before}\n\n{step}\n\nand so on"
    steps = texts_of_steps(["<think>", *(text[first : first + size] for first in range(0, len(text), size))])
    assert len(steps) == 3
    if size == 1:
        assert [each.strip() for each in steps] == [before, step.strip(), "and so on"]


def test_a_block_that_nothing_closes_is_given_up_after_the_longest_step() -> None:
    rules = StepRules(max_tokens=6)
    pieces = ["<think>", "$$", *"abcde", *["x", "\n\n"] * 3]
    assert texts_of_steps(pieces, rules) == ["$$abcde", "x\n\n", "x\n\n", "x\n\n"]


def test_steps_are_no_shorter_and_no_longer_than_asked_for() -> None:
    rules = StepRules(separators=(";",), min_tokens=3, max_tokens=5)
    assert texts_of_steps(["<think>", *"a;b;c;ddddddd;e"], rules) == ["a;b;", "c;ddd", "dddd;", "e"]


def test_one_paragraph_is_cut_by_length_alone() -> None:
    numbers = step_numbers(["word "] * 20, StepRules(max_tokens=8), inside=True)
    assert numbers == [0] * 8 + [1] * 8 + [2] * 4


@pytest.mark.parametrize("tags", [("think", "</think>"), ("aa", "a"), ("<>", "><"), ("abab", "ab")])
def test_where_a_tag_ends_does_not_depend_on_how_the_text_is_cut(tags: tuple[str, str]) -> None:
    rules = StepRules(separators=(";",), tags=tags)
    for text in ("a</think>x", "think</think>think1", "aaabaab", "<><><", "ababab;ab"):
        ends = set()
        for cut in range(2 ** (len(text) - 1)) if len(text) < 10 else range(512):
            segmenter, start = StepSegmenter(rules), 0
            for place in range(1, len(text) + 1):
                if place == len(text) or cut >> (place - 1) & 1:
                    segmenter.push(text[start:place])
                    start = place
            ends.add(segmenter.inside)
        assert len(ends) == 1, (text, ends)


def test_only_the_thought_is_in_steps() -> None:
    assert step_numbers(["a\n\n", "b\n\n", "c"]) == [NO_STEP] * 3
    assert step_numbers(["a\n\n", "b", "</think>", "c"], inside=True) == [0, 1, NO_STEP, NO_STEP]
    assert step_numbers(["<thi", "nk>a\n\n", "b", "</", "think", ">", "c"]) == [-1, -1, 0, 0, 0, -1, -1]
    assert step_numbers(["<think>", "a", "</think>", "b", "<think>", "c"]) == [-1, 0, -1, -1, -1, 1]
    assert step_numbers(["<think>", "</think>"]) == step_numbers(["<think>", "\n"]) == [-1, -1]
    assert step_numbers([]) == []


def test_a_token_that_holds_a_part_of_a_character_is_in_the_step_of_that_character() -> None:
    assert step_numbers(["<think>", "a\n\n", "", "", "😀"]) == [-1, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"separators": ()}, "separators is \\(\\)"),
        ({"separators": ("a", "")}, "none of them empty"),
        ({"min_tokens": 0}, "min_tokens is 0"),
        ({"min_tokens": 9, "max_tokens": 8}, "max_tokens 8"),
        ({"tags": ("<t>", "<t>")}, "two different"),
    ],
)
def test_rules_that_cannot_be_are_refused(settings_: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StepRules(**settings_)


@pytest.mark.parametrize("pieces", [["```", "x", "```", " a", ".", "b"], ["```x``` a.", "b"], [*"```x``` a.b"]])
def test_a_line_that_turns_out_to_be_no_fence_ends_steps(pieces: list[str]) -> None:
    rules = StepRules(separators=(".",))
    assert [each.strip() for each in texts_of_steps(["<think>", *pieces], rules)] == ["```x``` a.", "b"]
    assert texts_of_steps(["<think>", "```p.y\n", "a.b\n", "```\n", "c.", "d"], rules)[1:] == ["d"]


def test_a_fence_that_a_step_ends_in_still_opens_code() -> None:
    pieces = ["<think>", "a ", "b\n", "```", "\n", "x\n\n", "y", "z"]
    assert texts_of_steps(pieces, StepRules(max_tokens=3)) == ["a b\n```", "x\n\nyz"]


parts = st.lists(
    st.sampled_from(["<think>", "</think>", "\n", "\n\n", " ", "a", "b c", ";", "$$", "```", "`", "~~~", "\\[", ""])
)


@settings(max_examples=100, deadline=None)
@given(parts, st.integers(1, 4), st.integers(0, 6))
@example(["<think>", "a", ";", "\n\n"], 1, 0)
def test_a_prefix_has_the_steps_that_it_has_in_the_whole(pieces: list[str], least: int, more: int) -> None:
    rules = StepRules(separators=("\n\n", ";"), min_tokens=least, max_tokens=least + more)
    whole = step_numbers(pieces, rules)
    segmenter, closed, lengths = StepSegmenter(rules), 0, []
    for place, piece in enumerate(pieces):
        placed = segmenter.push(piece)
        assert placed.step == whole[place] and placed.step in (NO_STEP, closed)
        lengths += [0] * (placed.step >= len(lengths))
        if placed.step >= 0:
            lengths[placed.step] += 1
        closed += placed.closes
        assert len(lengths) - closed in (0, 1), "a step closes once, and not before it has begun"
    assert all(1 <= each <= least + more for each in lengths)
