"""Streams of recorded log-probabilities: however they are cut into chunks, the stop is that of the whole record."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from estimators.online.adapters.streams import StreamWatch, recorded_confidence
from estimators.online.sampling import Trace, cut
from estimators.online.stopping import LowestGroup, Stop, TokenBudget, TrialExit
from estimators.recorded import RecordedToken
from estimators.token_statistics import token_statistics

V, WINDOW = 24, 3
CONFIDENCE = recorded_confidence("token_confidence", V)


def recorded(seed: int, length: int = 14) -> tuple[list[dict], Trace]:
    """Chat entries of a random text and the confidences of its logits."""
    torch.manual_seed(seed)
    logits = torch.randn(length, V) * torch.rand(length, 1) * 6
    tokens = torch.randint(V, (length,))
    tokens[0] = logits[0].argmax()  # which shows how many are listed
    log_probs = torch.log_softmax(logits, dim=-1)
    entries = []
    for row, token in zip(log_probs, tokens.tolist(), strict=True):
        top = [{"token": f"t{number}", "logprob": float(row[number])} for number in row.topk(20).indices.tolist()]
        text = chr(97 + token)
        entries.append({"token": text, "bytes": list(text.encode()), "logprob": float(row[token]), "top_logprobs": top})
    return entries, Trace("", token_statistics(logits, tokens).token_confidence.double().numpy())


def chunks(entries: list[dict], sizes: list[int], index: int = 0) -> list[dict]:
    made, first = [], 0
    for size in sizes:
        content = entries[first : first + size]
        made.append({"choices": [{"index": index, "delta": {"content": "x"}, "logprobs": {"content": content}}]})
        first += size
    return json.loads(json.dumps(made))


@pytest.mark.parametrize("seed", range(6))
def test_chunks_of_any_size_stop_where_the_logits_say(seed: int) -> None:
    entries, trace = recorded(seed)
    groups = [trace.confidences_T[n : n + WINDOW].mean() for n in range(12)]
    rule = LowestGroup(float(np.sort(groups)[1:3].mean()), WINDOW)
    expected = cut(trace, [rule]).stop
    assert expected is not None
    for sizes in ([1] * 14, [14], [5, 0, 4, 5]):
        watch = StreamWatch([rule], CONFIDENCE)
        seen = [watch.push(chunk)[0] for chunk in chunks(entries, sizes)]
        assert seen[-1] == expected == watch.monitor().stopped


def test_choices_of_one_stream_do_not_see_each_other() -> None:
    watch = StreamWatch([LowestGroup(9.0, WINDOW)], CONFIDENCE)
    alone = []
    for seed in (0, 1):
        single = StreamWatch([LowestGroup(9.0, WINDOW)], CONFIDENCE)
        alone.append([single.push(each)[0] for each in chunks(recorded(seed)[0], [1] * 14)])
    together = zip(chunks(recorded(0)[0], [1] * 14), chunks(recorded(1)[0], [1] * 14, index=1), strict=True)
    for place, pair in enumerate(together):
        for index, each in enumerate(pair):
            assert watch.push(each)[index] == alone[index][place]


def test_the_other_form_and_a_drawn_token_behind_the_likeliest() -> None:
    entries, _ = recorded(3)
    watch, other = (
        StreamWatch([LowestGroup(8.0, WINDOW)], CONFIDENCE),
        StreamWatch([LowestGroup(8.0, WINDOW)], CONFIDENCE),
    )
    for entry in entries:
        top = {each["token"]: each["logprob"] for each in entry["top_logprobs"]} | {"drawn": -50.0}
        logprobs = {"tokens": [entry["token"]], "token_logprobs": [entry["logprob"]], "top_logprobs": [top]}
        first = watch.push({"choices": [{"index": 0, "text": entry["token"], "logprobs": logprobs}]})
        assert first == other.push(chunks([entry], [1])[0])


def test_a_drawn_token_that_may_have_been_appended_is_none_of_the_likeliest_until_the_stream_shows_it() -> None:
    def chunk(drawn: float) -> dict:
        listed = [{"token": "t", "logprob": each} for each in (-0.1, -3.0)]
        return chunks([{"token": "t", "logprob": drawn, "top_logprobs": listed}], [1])[0]

    seen: list[float] = []

    def margin(token: RecordedToken) -> float:
        seen.append(recorded_confidence("margin", V)(token))
        return seen[-1]

    watch = StreamWatch([], margin)
    for drawn in (-3.0, -0.1, -3.0):
        watch.push(chunk(drawn))
    expected = math.exp(-0.1) - math.exp(-3.0)
    assert seen == pytest.approx([math.nan, expected, expected], nan_ok=True)


def test_steps_and_thoughts_are_read_off_the_text() -> None:
    # A character whose bytes come with two tokens stands between them.
    pieces = [b"<think>", b"a", b"\xc3", b"\xa9", b"\n\n", b"b", b"</think>", b"c"]
    entries = [{"token": "?", "bytes": list(each), "logprob": -1.0, "top_logprobs": []} for each in pieces]
    watch = StreamWatch([TokenBudget(5), TrialExit(0.9)], CONFIDENCE)
    due = []
    for chunk in chunks(entries, [1] * len(entries)):
        watch.push(chunk)
        due.append(watch.monitor().trial_due)
    assert [place for place, each in enumerate(due) if each] == [4]
    assert watch.monitor().stopped == Stop("token budget", 6, answers=True)


def test_confidences_that_a_record_does_not_hold_stop_nothing() -> None:
    entries = [{"token": "a", "logprob": -0.1, "top_logprobs": [{"logprob": -0.1}]}] * 5
    watch = StreamWatch([LowestGroup(1e9, 1)], CONFIDENCE)
    assert [watch.push(each)[0] for each in chunks(entries, [1] * 5)] == [None] * 5
    assert math.isnan(CONFIDENCE(RecordedToken(-0.1, {})))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"index": 0, "delta": {"content": "a"}}, "text but no 'logprobs'"),
        ({"index": 0, "text": "a", "logprobs": None}, "text but no 'logprobs'"),
        ({"index": 0, "delta": {"reasoning_content": "a"}}, "text but no 'logprobs'"),
        ({"index": 0, "delta": {"reasoning": "a"}, "logprobs": {"content": None}}, "text but no 'logprobs'"),
        (3, "choices.0.: int found, expected a mapping"),
        ({"index": None}, "choices.0..index is None"),
        ({"delta": "a"}, "delta: str found"),
        ({"logprobs": [1]}, "logprobs: list found"),
        ({"logprobs": {"content": 3}}, "logprobs.content: int found, expected a list"),
        ({"logprobs": {"content": [3]}}, "content.0.: AttributeError"),
        ({"logprobs": {"content": [{"token": "a", "logprob": -1.0, "bytes": [300]}]}}, "content.0.: ValueError"),
        ({"logprobs": {"content": [{"token": "a", "logprob": "x"}]}}, "content.0.: ValueError .*'x'"),
        (
            {"logprobs": {"content": [{"token": "a", "logprob": math.nan}]}},
            "logprob nan of 'a' is not a log-probability",
        ),
    ],
)
def test_chunks_that_say_nothing_are_refused(choice: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StreamWatch([LowestGroup(1.0, 2)], CONFIDENCE).push({"choices": [choice]})


@pytest.mark.parametrize("chunk", [None, "data", [], {"choices": 3}])
def test_what_is_no_chunk_is_refused(chunk: object) -> None:
    with pytest.raises(ValueError, match="found, expected a"):
        StreamWatch([LowestGroup(1.0, 2)], CONFIDENCE).push(chunk)  # type: ignore[arg-type]


def test_a_closing_chunk_adds_no_token() -> None:
    watch = StreamWatch([LowestGroup(1.0, 2)], CONFIDENCE)
    assert watch.push({"choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]}) == {0: None}
    assert watch.push({"choices": [], "usage": {"completion_tokens": 3}}) == {}
    assert watch.monitor().tokens == 0
