from __future__ import annotations

import itertools
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from estimators.estimator import Completions
from rewards.completion import SEGMENTS, ParsedCompletion, ParseStatus, Span
from rewards.rubric import Rubric
from rewards.template import AnswerTemplate
from rl.advantages import segment_advantages
from rl.segments import (
    DecodedCompletion,
    as_completions,
    decode_completion,
    field_mask,
    segment_masks,
    step_rules,
    tokens_inside,
)

TEMPLATE = AnswerTemplate(thinking="optional", analysis="optional")
THOUGHTS = [
    "so x = 4",
    "😀 día 漢字",
    "e\u0301 a\u0308\u0323",
    "👩‍👩‍👧 \U0001f468🏽",
    "   ",
    "\n\t<b>ça</b>\n",
    "ﷺ",
    "\ufffd?",
    "",
]
ANSWERS = ["42", "½ππ", "\\frac{1}{2}", "漢", "-7 😀"]


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    corpus = [TEMPLATE.render(answer, "0.85", "the 😀 漢", "maybe ça") for answer in ("42", "the answer", "17.5")] * 20
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<pad>", "<eos>", "<x>"]
    )
    core.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>")


TOKENIZER = byte_level_tokenizer()
EOS = TOKENIZER.eos_token_id


def encode(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False)


def full_text(ids: list[int]) -> str:
    return TOKENIZER.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def read(text: str, length: int = 256) -> tuple[ParsedCompletion, DecodedCompletion, torch.Tensor]:
    decoded = decode_completion(TOKENIZER, [*encode(text), EOS])
    parsed = TEMPLATE.parse(decoded.text)
    return parsed, decoded, segment_masks([parsed], [decoded], length)[0]


def completions(seed: int) -> str:
    draw = random.Random(seed)
    thinking, analysis = (draw.choice([None, *THOUGHTS]) for _ in range(2))
    return TEMPLATE.render(draw.choice(ANSWERS), draw.choice(["0.85", "1", ".5"]), thinking or None, analysis or None)


# -- decoding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [*THOUGHTS, *ANSWERS, "日本語のテキスト", "🏳️‍🌈🏴‍☠️", "a\u0300\u0301\u0302\u0303"])
def test_decoded_text_is_that_of_the_tokenizer_and_ends_follow_it(text: str) -> None:
    ids = encode(text)
    decoded = decode_completion(TOKENIZER, [*ids, EOS])
    assert decoded.text == text == full_text(ids)
    assert decoded.finished
    assert len(decoded.ends) == len(ids) + 1
    assert list(decoded.ends) == sorted(decoded.ends)
    assert decoded.ends[-1] == len(text)


def test_each_character_belongs_to_the_token_that_completes_it() -> None:
    text = "a😀漢e\u0301<answer>"
    ids = encode(text)
    assert len(ids) > len(encode("a")) + len(encode("<answer>")) + 3, "some characters are spread over several tokens"
    ends = decode_completion(TOKENIZER, ids).ends
    written, complete = 0, []
    for token in TOKENIZER.convert_ids_to_tokens(ids):
        written += len(token)  # a byte is one character of a byte-level token
        complete.append(len(text.encode()[:written].decode(errors="ignore")))
    assert list(ends) == complete


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(3, len(TOKENIZER) - 1), max_size=60), st.booleans())
def test_any_sampled_ids_decode_as_the_tokenizer_decodes_them(ids: list[int], finished: bool) -> None:
    decoded = decode_completion(TOKENIZER, [*ids, EOS] if finished else ids)
    assert decoded.text == full_text(ids)
    assert list(decoded.ends) == sorted(decoded.ends)
    assert len(decoded.ends) == len(ids) + finished
    assert not decoded.ends or decoded.ends[-1] == len(decoded.text)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(3, len(TOKENIZER) - 1), max_size=40))
def test_tokens_end_where_they_end_when_all_are_decoded_together(ids: list[int]) -> None:
    ends = [0]
    for stop in range(1, len(ids) + 1):
        text = full_text(ids[:stop])
        goes_on = text.endswith("\ufffd") and stop < len(ids) and "\ufffd" in full_text([ids[stop]])
        ends.append(ends[-1] if goes_on else len(text))
    assert list(decode_completion(TOKENIZER, ids).ends) == ends[1:]


def test_a_character_after_a_run_of_stray_bytes_is_not_lost() -> None:
    lead, face = encode("😀")[:1], encode("😀")
    for stray in range(12):
        ids = [*lead * stray, *face, *encode("<answer>")]
        decoded = decode_completion(TOKENIZER, ids)
        assert decoded.text == full_text(ids)
        assert decoded.text.endswith("😀<answer>")


class _Counting:
    """Counts the tokens that are decoded."""

    def __init__(self) -> None:
        self.tokens, self.eos_token_id, self.pad_token_id = 0, EOS, TOKENIZER.pad_token_id

    def decode(self, ids: list[int], **options: bool) -> str:
        self.tokens += len(ids)
        return TOKENIZER.decode(ids, **options)


@pytest.mark.parametrize("text", ["x = 1, ", "😀", "\ufffd"])
def test_decoding_takes_time_linear_in_the_length(text: str) -> None:
    work = {}
    for length in (500, 2000):
        for name, unit in {"whole": encode(text), "stray": encode("😀")[:1]}.items():
            counting = _Counting()
            decode_completion(counting, (unit * length)[:length])
            work[name, length] = counting.tokens
    assert work["whole", 2000] <= 5 * work["whole", 500]
    assert work["stray", 2000] <= 5 * work["stray", 500]


def test_tokens_are_decoded_in_windows_only_where_a_character_is_split() -> None:
    plain, counting = encode("x = 1, ") * 200, _Counting()
    decode_completion(counting, plain)
    alone = counting.tokens
    assert alone == len(plain) + len(set(plain)), "all at once, and each by itself"
    counting.tokens = 0
    face = encode("😀")
    assert len(face) > 1
    decode_completion(counting, [*plain, *face, *plain])
    assert counting.tokens <= 2 * len(plain) + len(set(plain)) + 40


def test_a_tokenizer_whose_tokens_depend_on_what_stands_before_them_is_decoded_together() -> None:
    core = Tokenizer(models.WordLevel({"<eos>": 0, "▁one": 1, "▁two": 2}, unk_token="<eos>"))
    core.decoder = decoders.Metaspace()
    spaced = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>")
    assert decode_completion(spaced, [1, 2, 1, 0]) == DecodedCompletion("one two one", (3, 7, 11, 11), True)


def test_a_completion_ends_at_its_first_stop_token() -> None:
    ids = encode("<answer>4</answer>")
    for stop in (EOS, TOKENIZER.pad_token_id):
        decoded = decode_completion(TOKENIZER, [*ids, stop, *encode("never"), EOS])
        assert (decoded.text, decoded.finished, len(decoded.ends)) == ("<answer>4</answer>", True, len(ids) + 1)
    unfinished = decode_completion(TOKENIZER, ids)
    assert (unfinished.text, unfinished.finished, len(unfinished.ends)) == ("<answer>4</answer>", False, len(ids))


def test_other_stop_tokens_of_a_model_count_when_named() -> None:
    end_of_turn = TOKENIZER.convert_tokens_to_ids("<x>")
    ids = [*encode("4"), end_of_turn]
    assert decode_completion(TOKENIZER, ids, [EOS, end_of_turn]) == DecodedCompletion("4", (1, 1), True)
    assert decode_completion(TOKENIZER, ids).text == "4<x>"


def test_special_tokens_inside_a_completion_stay_visible() -> None:
    decoded = decode_completion(TOKENIZER, [*encode("a"), TOKENIZER.convert_tokens_to_ids("<x>"), *encode("b"), EOS])
    assert decoded == DecodedCompletion("a<x>b", (1, 4, 5, 5), True)


def test_nothing_sampled_is_an_empty_completion() -> None:
    assert decode_completion(TOKENIZER, []) == DecodedCompletion("", (), False)
    assert decode_completion(TOKENIZER, [EOS]) == DecodedCompletion("", (0,), True)


# -- masks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_masks_are_disjoint_and_cover_exactly_the_tokens(seed: int) -> None:
    _, decoded, masks_ST = read(completions(seed))
    tokens = len(decoded.ends)
    assert masks_ST.sum(dim=0)[:tokens].tolist() == [1.0] * tokens
    assert masks_ST[:, tokens:].sum() == 0
    assert masks_ST[SEGMENTS.index("reasoning"), tokens - 1] == 1, "the end-of-sequence token is reasoning"


@pytest.mark.parametrize("seed", range(40))
def test_a_field_holds_the_tokens_whose_bytes_overlap_its_block(seed: int) -> None:
    text = completions(seed)
    parsed, _, masks_ST = read(text)
    assert {"answer", "confidence"} <= parsed.blocks.keys()
    expected_ST = torch.zeros_like(masks_ST)
    start = 0
    for column, token in enumerate(TOKENIZER.convert_ids_to_tokens(encode(text))):
        end = start + len(token)  # a byte is one character of a byte-level token
        segment = SEGMENTS.index("reasoning")
        for index, name in enumerate(SEGMENTS):
            if name in parsed.blocks:
                low, high = (len(text[:at].encode()) for at in (parsed.blocks[name].start, parsed.blocks[name].end))
                segment = index if start < high and end > low else segment
        expected_ST[segment, column] = 1
        start = end
    assert start == len(text.encode())
    expected_ST[SEGMENTS.index("reasoning"), len(encode(text))] = 1
    assert torch.equal(masks_ST, expected_ST)


def test_a_tag_over_several_tokens_is_credited_whole() -> None:
    text = "😀<answer>漢</answer> <confidence>0.85</confidence>"
    assert len(encode("</confidence>")) > 1
    _, decoded, masks_ST = read(text)
    for name in ("answer", "confidence"):
        columns = masks_ST[SEGMENTS.index(name)].nonzero().flatten().tolist()
        covered = "".join(text[decoded.ends[c - 1] if c else 0 : decoded.ends[c]] for c in columns)
        assert covered.strip().startswith(f"<{name}>") and covered.endswith(f"</{name}>")
    thought = masks_ST[SEGMENTS.index("reasoning")].nonzero().flatten().tolist()
    assert set(range(len(encode("😀")))) | {len(decoded.ends) - 1} <= set(thought)


def test_a_token_that_two_fields_share_goes_to_the_later_one() -> None:
    text = "<answer>4</answer><confidence>1</confidence>"
    parsed, decoded, masks_ST = read(text)
    shared = [c for c, end in enumerate(decoded.ends) if end == parsed.blocks["confidence"].start + 1]
    assert TOKENIZER.convert_ids_to_tokens(encode(text)[shared[0]]) == "><"
    assert masks_ST[:, shared[0]].tolist() == [float(name == "confidence") for name in SEGMENTS]


def test_fields_that_are_missing_or_unreadable() -> None:
    _, _, no_confidence_ST = read("<answer>4</answer>")
    assert no_confidence_ST[SEGMENTS.index("confidence")].sum() == 0
    parsed, _, unreadable_ST = read("<answer>4</answer><confidence>surely</confidence>")
    assert parsed.confidence is None
    assert unreadable_ST[SEGMENTS.index("confidence")].sum() > 0, "the penalty for it has tokens to land on"
    _, decoded, none_ST = read("no field at all")
    assert none_ST[SEGMENTS.index("reasoning")].sum() == len(decoded.ends)


def test_a_truncated_completion_keeps_its_whole_fields() -> None:
    ids = encode("<answer>4</answer><confidence>0.")
    decoded = decode_completion(TOKENIZER, ids)
    parsed = TEMPLATE.parse(decoded.text, truncated=not decoded.finished)
    assert parsed.status is ParseStatus.TRUNCATED
    masks_ST = segment_masks([parsed], [decoded], 64)[0]
    assert masks_ST.sum(dim=0)[: len(ids)].tolist() == [1.0] * len(ids)
    assert masks_ST[SEGMENTS.index("answer")].sum() >= len(encode("4</answer>"))
    assert masks_ST[SEGMENTS.index("confidence")].sum() == 0


def test_a_batch_padded_too_short_is_an_error_with_both_numbers() -> None:
    parsed, decoded, _ = read("<answer>4</answer>")
    tokens = len(decoded.ends)
    with pytest.raises(ValueError, match=rf"completion 0 has {tokens} tokens, the batch is padded to {tokens - 1}"):
        segment_masks([parsed], [decoded], tokens - 1)


@pytest.mark.parametrize("seed", range(20))
def test_a_span_maps_to_the_tokens_that_write_it(seed: int) -> None:
    text = completions(seed)
    parsed, decoded, masks_ST = read(text)
    for name, span in parsed.spans.items():
        tokens = tokens_inside(span.start, span.end, decoded)
        if span.start == span.end:  # a thought of blanks
            assert tokens == []
            continue
        assert tokens == list(range(tokens[0], tokens[-1] + 1))
        starts = [decoded.ends[index - 1] if index else 0 for index in tokens]
        first = next(index for index, start in zip(tokens, starts, strict=True) if decoded.ends[index] > start)
        assert starts[0] <= span.start < decoded.ends[first], "the first token that adds text holds the first character"
        assert starts[-1] < span.end <= decoded.ends[tokens[-1]], "the last token holds the last character"
        # At the borders a token may hold characters of the tag too, and so of a neighbour.
        assert {SEGMENTS[masks_ST[:, index].argmax()] for index in tokens[1:-1]} <= {name}


@given(st.lists(st.integers(0, 2), min_size=1, max_size=12), st.data())
def test_spans_and_blocks_reach_the_tokens_that_the_definitions_name(sizes: list[int], data: st.DataObject) -> None:
    """The definitions, token by token, for any lengths of the tokens' texts; 0 is the first bytes of a character."""
    ends = tuple(itertools.accumulate(sizes))
    text = "x" * ends[-1]
    decoded = DecodedCompletion(text, ends, False)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    inside, unfinished = [], []
    for index, (before, after) in enumerate(itertools.pairwise((0, *ends))):
        unfinished.append(index)
        if after > before:
            inside += unfinished if max(before, start) < min(after, end) else []
            unfinished = []
    assert tokens_inside(start, end, decoded) == inside

    block = Span(start, end)
    parsed = ParsedCompletion("4", None, ParseStatus.OK, {"answer": block}, {"answer": block} if start < end else {})
    masks_ST = segment_masks([parsed], [decoded], len(ends))[0]
    overlapping = [before < end and after > start for before, after in itertools.pairwise((0, *ends))]
    assert masks_ST[SEGMENTS.index("answer")].tolist() == [float(start < end and each) for each in overlapping]
    assert field_mask([parsed], [decoded], "answer", len(ends))[0].nonzero().flatten().tolist() == inside
    assert not field_mask([parsed], [decoded], "confidence", len(ends)).any()


def test_the_first_bytes_of_a_character_go_with_it() -> None:
    decoded = DecodedCompletion("a漢b😀", (1, 1, 1, 2, 3, 3, 3, 4, 4), True)  # 漢 takes three tokens, 😀 three
    places = ((0, 1), (1, 2), (2, 3), (3, 4), (1, 4))
    assert [tokens_inside(*place, decoded) for place in places] == [[0], [1, 2, 3], [4], [5, 6, 7], [*range(1, 8)]]
    assert tokens_inside(2, 3, DecodedCompletion("a漢b", (1, 1, 3), True)) == [1, 2], "a token that ends two characters"
    text = "<answer>漢字</answer>"
    whole = decode_completion(TOKENIZER, encode(text))
    span = TEMPLATE.parse(text).spans["answer"]
    inside = tokens_inside(span.start, span.end, whole)
    assert "漢字" in TOKENIZER.decode([encode(text)[index] for index in inside])


def test_an_empty_range_has_no_tokens_even_inside_a_token() -> None:
    decoded = DecodedCompletion("ab></c", (2, 5, 6), True)
    assert [tokens_inside(3, stop, decoded) for stop in (3, 4, 6)] == [[], [1], [1, 2]]


# -- credit ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_accuracy_never_reaches_confidence_tokens_nor_calibration_the_others(seed: int) -> None:
    """The defect in the release of DCPO: its reasoning was trained on calibration, its confidence on accuracy."""
    rubric = Rubric.from_config({"accuracy": {"weight": 1.0}, "brier": {"weight": 1.0}})
    credit_KS = torch.tensor([[float(name in segments) for name in SEGMENTS] for segments in rubric.segments])
    _, decoded, masks_ST = read(completions(seed))
    right, overconfident = 1.0, -0.5
    advantages_T = segment_advantages(
        torch.tensor([[right, overconfident]]), torch.ones(2), credit_KS, masks_ST.unsqueeze(0)
    )[0]
    for column in range(len(decoded.ends)):
        segment = SEGMENTS[masks_ST[:, column].argmax()]
        expected = overconfident if segment in ("confidence", "analysis") else right
        assert advantages_T[column] == expected, (segment, column)
    assert advantages_T[len(decoded.ends) :].abs().sum() == 0


def completions_of(text: str, tokens: list[str], template: AnswerTemplate, *, finished: bool = True) -> Completions:
    """Estimators' view of one completion of these tokens, the last of which ends it where it is finished."""
    assert "".join(tokens) == text
    ends = list(itertools.accumulate(map(len, tokens)))
    parsed = template.parse(text, truncated=not finished)
    decoded = DecodedCompletion(text, (*ends, len(text)) if finished else tuple(ends), finished)
    return as_completions([[1]], [list(range(len(decoded.ends)))], [parsed], [decoded], rules=step_rules(template))


def test_the_template_says_what_a_step_is_and_white_space_between_steps_is_in_the_thought_alone() -> None:
    tokens = ["<think>", "1+", "2;", " ", "3", ";", "\n", "</think>", "<answer>", "3", "</answer>"]
    read = completions_of("".join(tokens), tokens, AnswerTemplate(confidence="none", step_separators=(";",)))
    assert read.steps_BT.tolist() == [[-1, 0, 0, -1, 1, 1, -1, -1, -1, -1, -1, -1]]
    assert read.reasoning_BT[0].nonzero().flatten().tolist() == [1, 2, 3, 4, 5, 6]
    assert read.answer_BT[0].nonzero().flatten().tolist() == [9] and read.written_BT.all()


def test_a_thought_that_the_prompt_has_opened_or_nothing_has_closed_has_steps() -> None:
    template = AnswerTemplate(confidence="none")
    opened_before = ["a\n\n", "b", "</think>", "<answer>", "3", "</answer>"]
    read = completions_of("".join(opened_before), opened_before, template)
    assert read.steps_BT.tolist() == [[0, 1, -1, -1, -1, -1, -1]]
    cut_off = ["<think>", "a\n\n", "b <answer>", "4</answer>"]
    read = completions_of("".join(cut_off), cut_off, template, finished=False)
    assert read.steps_BT.tolist() == [[-1, 0, 1, 1]] and not read.answer_BT.any()
    never_closed = ["<think>", "a\n\n", "b", "<answer>", "4", "</answer>"]
    read = completions_of("".join(never_closed), never_closed, template)
    assert read.steps_BT.tolist() == [[-1, 0, 1, -1, -1, -1, -1]], "the end of a sequence is in no step either"
    goes_on = ["<think>", "a\n\n", "<answer>", "4", "</answer>", "\n\n", "b\n\n", "c"]
    read = completions_of("".join(goes_on), goes_on, template)
    assert read.steps_BT.tolist() == [[-1, 0, -1, -1, -1, -1, 1, 2, -1]], "steps are counted without what is an answer"
    assert not (read.reasoning_BT & read.answer_BT).any()


def test_ids_and_tokens_are_of_one_length() -> None:
    decoded = DecodedCompletion("abcd", (1, 2, 3, 4), False)
    with pytest.raises(ValueError, match="completion 0 has 3 ids"):
        as_completions([[1]], [[1, 2, 3]], [AnswerTemplate().parse("abcd")], [decoded])
