"""The large side of a pair behind an endpoint or in a file: the wire, what is tried again, what is refused and when."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments.config.endpoint import EndpointSection
from experiments.config.recipe import load_recipe
from experiments.errors import ConfigError, DataError, RunError
from experiments.routing.endpoint import Endpoint
from experiments.routing.large import check_large, large_answers, recorded_verdicts, with_large
from tests.experiments.served import Served, serve


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No proxy before loopback, and pauses that are noted, not made."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    pauses: list[float] = []

    async def noted(pause_s: float) -> None:
        pauses.append(pause_s)

    monkeypatch.setattr("experiments.routing.endpoint.sleep", noted)
    return pauses


@pytest.fixture
def served() -> Iterator[Served]:
    with serve(lambda question: f"<answer>{question}</answer>") as running:
        yield running


def ask(served: Served, *prompts: Any, **section: Any) -> list[Any]:
    return Endpoint(served.url, EndpointSection(model="large", **section)).answer(prompts)


def test_replies_come_in_the_order_of_the_prompts(served: Served) -> None:
    prompts = [str(number) for number in range(20)]
    replies = ask(served, *prompts, concurrency=4)
    assert [reply.text for reply in replies] == [f"<answer>{each}</answer>" for each in prompts]
    assert {reply.tokens for reply in replies} == {3} and not any(reply.truncated for reply in replies)
    assert served.requests[0] == {
        "model": "large",
        "messages": [{"role": "user", "content": served.requests[0]["messages"][0]["content"]}],
        "max_tokens": 1024,
        "temperature": 0,
    }


def test_messages_and_a_system_message_are_sent_as_they_are(served: Served) -> None:
    messages = [{"role": "user", "content": "2+2?"}]
    ask(served, messages, system="Answer in tags.", parameters={"seed": 1})
    expected = [{"role": "system", "content": "Answer in tags."}, *messages]
    assert served.requests == [{"model": "large", "messages": expected, "seed": 1}]


def test_no_more_requests_at_once_than_asked_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served.pause_s = 0.02
    ask(served, *"abcdefgh", concurrency=2)
    assert served.most_at_once == 2


def test_the_key_comes_from_the_environment(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LARGE_KEY", "secret")
    ask(served, "a", key_variable="LARGE_KEY")
    ask(served, "a")
    assert served.keys == ["Bearer secret", None]
    with pytest.raises(ValueError, match=r"key_variable: ABSENT_KEY is not set in the environment"):
        ask(served, "a", key_variable="ABSENT_KEY")


def test_what_may_pass_is_tried_again(served: Served, quick: list[float]) -> None:
    served.failures = [(503, "busy", {}), (429, {"error": {"message": "slow down"}}, {"Retry-After": "7"})]
    assert ask(served, "a")[0].text == "<answer>a</answer>"
    assert len(served.requests) == 3
    assert quick == [0.5, 7.0]


@pytest.mark.parametrize(
    ("failures", "tries", "message"),
    [
        ([(500, {"error": {"message": "out of memory"}}, {})] * 9, 3, "status 500: out of memory"),
        ([(401, {"error": {"message": "bad key"}}, {})], 1, "status 401: bad key"),
        ([(200, {"choices": []}, {})], 1, r"expected choices\[0\].message.content"),
        ([(200, "<html>", {})], 1, "<html> found, expected choices"),
        ([(200, {"choices": [{"message": {"content": [1]}}]}, {})], 1, "expected choices"),
    ],
)
def test_what_does_not_pass_ends_with_what_the_server_said(
    served: Served, failures: Any, tries: int, message: str
) -> None:
    served.failures = list(failures)
    with pytest.raises(RunError, match=message):
        ask(served, "a", retries=2)
    assert len(served.requests) == tries


def test_a_reply_without_end_is_refused(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.routing.endpoint.LARGEST_REPLY", 100)
    with pytest.raises(RunError, match="larger than 100 bytes"):
        ask(served, "a" * 200)


def test_the_endpoint_is_checked_before_it_is_needed(served: Served) -> None:
    Endpoint(served.url, EndpointSection(model="large")).check()
    with pytest.raises(RunError, match=r"no model 'small' \(probe.endpoint.model\), only large"):
        Endpoint(served.url, EndpointSection(model="small")).check()
    with pytest.raises(RunError, match=r"127\.0\.0\.1:9/v1: cannot be reached"):
        Endpoint("http://127.0.0.1:9/v1", EndpointSection(model="large")).check()


def test_a_reply_without_content_is_told_from_an_empty_one(served: Served) -> None:
    served.failures = [(200, {"choices": [{"message": {"content": None}}]}, {})]
    assert [reply.text for reply in ask(served, "a", "b", concurrency=1)] == [None, "<answer>b</answer>"]


# -- as the large side of a probe ------------------------------------------------------------------------------------
SMALL = ["probe.size=12"]


def test_an_endpoint_answers_the_probe_questions() -> None:
    from experiments.probe.checkpoint import probe_rows

    with serve() as served:
        recipe = load_recipe("rlvr", [*SMALL, f"probe.escalate_to={served.url}", "probe.endpoint.model=large"])
        rows = probe_rows(recipe)
        golds = {row["prompt"]: row["answer"] for row in rows}
        wrong = {row["prompt"] for row in rows[::3]}
        served.answer = lambda prompt: f"<answer>{'x' if prompt in wrong else golds[prompt]}</answer>"
        check_large(recipe)
        with recipe.task.open_verifier() as verifier:
            large = large_answers(recipe, verifier)
    assert large["large_correct"].tolist() == [0.0 if number % 3 == 0 else 1.0 for number in range(12)]
    assert (large["large_latency_s"] > 0).all()
    small = pd.DataFrame({"question_id": [str(rows[each]["id"]) for each in (5, 0, 5)], "method": "small"})
    joined = with_large(small, large)
    assert joined["large_correct"].tolist() == [1.0, 0.0, 1.0] and joined["method"].tolist() == ["small"] * 3


def test_recorded_outcomes_are_matched_by_question(tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    rows = [{"question_id": name, "correct": verdict} for name, verdict in (("b", 0), ("a", 1), ("c", None), ("a", 1))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert recorded_verdicts(str(path), ["a", "b", "c"]) == [1.0, 0.0, None]
    with pytest.raises(DataError, match=r"has no question 'd', and lacks 1 of the 2 probe questions"):
        recorded_verdicts(str(path), ["a", "d"])
    path.write_text(path.read_text() + '{"question_id": "a", "correct": 0}\n')
    with pytest.raises(DataError, match=r"line 5, column 'correct': 0 found, but another row of question 'a' says 1"):
        recorded_verdicts(str(path), ["a"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["probe.escalate_to=http://127.0.0.1:9/v1"], "probe.endpoint: is missing"),
        (["probe.endpoint.model=large"], "probe.endpoint: is for an endpoint, and probe.escalate_to 'tiny-large'"),
        (
            ["probe.escalate_to=http://x/v1", "probe.endpoint={model: a, key_variable: ABSENT_KEY}"],
            "probe.endpoint.key_variable: ABSENT_KEY is not set",
        ),
        (["probe.escalate_to=./absent"], "probe.escalate_to: ./absent: no such folder"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_a_model_loads(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_large(load_recipe("rlvr", [*SMALL, *overrides]))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{modl: a}", r"probe\.endpoint.*model"),
        ("{model: a, timeout_s: 0}", "timeout_s"),
        ("{model: a, parameters: {stream: true}}", "stream"),
    ],
)
def test_a_bad_section_is_refused_as_it_is_read(value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe("rlvr", [f"probe.endpoint={value}"])


@pytest.mark.slow
def test_the_wire_is_that_of_the_openai_client(served: Served) -> None:
    """The real client (``pip install openai``) reads the server that we are tested against, and asks as we do."""
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=served.url, api_key="secret", max_retries=0)
    assert [each.id for each in client.models.list()] == ["large"]
    messages = [{"role": "user", "content": "2+2?"}]
    reply = client.chat.completions.create(model="large", messages=messages, max_tokens=1024, temperature=0)
    ours = ask(served, messages)[0]
    assert (reply.choices[0].message.content, reply.usage.completion_tokens) == (ours.text, ours.tokens)
    theirs, request = served.requests
    assert theirs == request
    assert served.keys[0] == "Bearer secret"


@pytest.mark.parametrize("url", ["http://[::1/v1", "http://", "http://127.0.0.1:9/v1"])
def test_a_url_that_leads_nowhere_is_told(url: str) -> None:
    with pytest.raises(RunError, match="cannot be reached"):
        Endpoint(url, EndpointSection("large")).check()
