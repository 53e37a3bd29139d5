"""Reading a text and recorded tokens without a parser of templates, and yet as that parser reads."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from estimators.written import FIELDS, WrittenToken, read_text, token_ends, tokens_between, written_tokens
from rewards.markup import TAG_NAMES
from rewards.template import AnswerTemplate
from rl.segments import DecodedCompletion, tokens_inside

LEVELS = ("0.0", "0.5", "1.0")
PIECES = [*(f"<{slash}{field}>" for field in FIELDS for slash in ("", "/")), "0.5", "1.0", "0.7", "-0", " ", "\n", "4", "x", "é"]  # fmt: skip  # noqa: E501


def test_the_fields_are_those_of_the_parser() -> None:
    assert tuple(TAG_NAMES.values()) == FIELDS


@settings(max_examples=600, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), st.booleans(), st.booleans())
def test_a_text_is_read_as_the_strict_parser_reads_it(text: str, truncated: bool, with_levels: bool) -> None:
    template = AnswerTemplate(thinking="optional", analysis="optional", levels=LEVELS if with_levels else None)
    parsed, written = template.parse(text, truncated=truncated), read_text(text, template.levels, truncated=truncated)
    assert written.stated == parsed.confidence
    for field, value in (("answer", parsed.answer), ("confidence", parsed.confidence)):
        if value is not None:
            assert getattr(written, field) == (parsed.spans[field].start, parsed.spans[field].end)
    assert (written.answer is None) == (parsed.answer is None)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from([*PIECES, "<CN>", "<UN>", "<CN>"]), max_size=12).map("".join),
    st.booleans(), st.sampled_from(["none", "optional"]), st.sampled_from(["none", "optional"]),
)  # fmt: skip
@example("<analysis><think><CN></think></analysis>", False, "optional", "none")
def test_marks_are_read_as_the_strict_parser_reads_them(
    text: str, truncated: bool, thinking: str, analysis: str
) -> None:
    template = AnswerTemplate(thinking=thinking, analysis=analysis, confidence="token")
    fields = {"prior": template.prior_confidence, "think": thinking, "analysis": analysis}
    declared = [field for field in FIELDS if fields.get(field) != "none"]
    parsed = template.parse(text, truncated=truncated)
    written = read_text(text, template.levels, truncated=truncated, marks=True, declared=declared)
    assert written.stated == parsed.confidence and (written.answer is None) == (parsed.answer is None)
    if written.confidence is not None:
        assert written.confidence == (parsed.spans["confidence"].start, parsed.spans["confidence"].end)


def test_hostile_text_takes_linear_time() -> None:
    assert read_text("<answer>" * 100_000 + "<confidence>0.5</confidence>").stated == 0.5
    assert read_text("<think>" * 200_000, truncated=True).stated is None


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="a<é漢", min_size=1, max_size=12), st.data())
def test_tokens_between_are_those_that_training_gives_the_credit(text: str, data: st.DataObject) -> None:
    raw = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw)), max_size=6)) | {len(raw)})
    tokens = [raw[start:end] for start, end in zip([0, *cuts], cuts, strict=False)]
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    decoded = DecodedCompletion(text, token_ends(tokens), finished=False)
    assert tokens_between((start, end), decoded.ends) == tokens_inside(start, end, decoded)
    assert b"".join(tokens[place] for place in tokens_between((0, len(text)), decoded.ends)) == raw


@pytest.mark.parametrize(
    "logprobs",
    ["text", 3, [{"token": "a"}], [{"token": "a", "logprob": float("nan")}], [{"token": "a", "logprob": 0.3}], ["a"],
     [{"token": "a", "logprob": -1.0, "top_logprobs": [3]}], {}, {"tokens": ["a"]},
     {"tokens": ["a"], "token_logprobs": []}, {"tokens": ["a"], "token_logprobs": [None]},
     *([{"token": "a", "logprob": -1.0, "bytes": each}] for each in ([math.inf], [300], "12", 3, [9.5], [None])),
     [{"token": "a", "logprob": -(10**400)}], [SimpleNamespace(token="a", logprob=-1.0)]],
)  # fmt: skip
def test_what_is_no_list_of_tokens_is_refused(logprobs: object) -> None:
    with pytest.raises(ValueError, match="logprobs"):
        written_tokens(logprobs)


def test_bytes_win_over_the_token() -> None:
    listed = {"token": "\\xc3", "bytes": [0xC3], "logprob": -0.5, "top_logprobs": None}
    assert written_tokens({"content": [listed]}) == [WrittenToken(b"\xc3", -0.5, {})]


def test_the_openai_clients_objects_are_read_as_its_json() -> None:
    chat = pytest.importorskip("openai.types.chat.chat_completion")
    listed = {
        "token": "a",
        "bytes": [97],
        "logprob": -0.5,
        "top_logprobs": [{"token": "b", "bytes": None, "logprob": -1}],
    }
    logprobs = chat.ChoiceLogprobs.model_validate({"content": [listed], "refusal": None})
    expected = [WrittenToken(b"a", -0.5, {b"b": -1.0})]
    assert written_tokens({"content": [listed]}) == expected
    assert written_tokens(logprobs) == written_tokens(logprobs.content) == expected
    assert written_tokens(chat.ChoiceLogprobs(content=None, refusal=None)) is None
    completion = pytest.importorskip("openai.types.completion_choice")
    assert (
        written_tokens(completion.Logprobs(tokens=["a"], token_logprobs=[-0.5], top_logprobs=[{"b": -1}])) == expected
    )


def test_of_tokens_that_write_the_same_the_likeliest_is_told() -> None:
    top = [{"token": "\ufffd", "logprob": each} for each in (-4.0, -0.2, -1.0)]
    (read,) = written_tokens([{"token": "a", "logprob": -0.2, "top_logprobs": top}]) or []
    assert read.top == {"\ufffd".encode(): -0.2}


def test_completions_list_their_tokens_in_another_form_than_chats() -> None:
    legacy = {"tokens": ["a", "b"], "token_logprobs": [-0.5, 0.0], "top_logprobs": [{"a": -0.5, "c": -2.0}, None]}
    expected = [WrittenToken(b"a", -0.5, {b"a": -0.5, b"c": -2.0}), WrittenToken(b"b", 0.0, {})]
    assert written_tokens({**legacy, "text_offset": [0, 1]}) == expected
    assert written_tokens({**legacy, "top_logprobs": None}) == [dataclasses.replace(each, top={}) for each in expected]
    assert written_tokens({"content": None, "refusal": None}) is None, "a chat that listed nothing"
