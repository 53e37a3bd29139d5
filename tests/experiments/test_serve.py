"""``candor serve`` through the real openai client, under load, with clients that leave, and on every bad input."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from estimators import Confidence
from estimators.exported import read_manifest, write_manifest
from estimators.gate import Gate
from tests.experiments.bad_requests import BAD, GOOD, NOUL
from tests.experiments.conftest import Exported
from tests.experiments.served import serve as endpoint
from tests.factories import Refusal

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
openai = pytest.importorskip("openai")


def until(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def served(folder: Path, *, large: Any = None, **limits: Any) -> Iterator[str]:
    """An exported folder on a free port, in a thread; the URL up to /v1."""
    from experiments.serve.app import Limits, build_app, build_server
    from experiments.serve.asking import open_large, open_small
    from experiments.serve.chat import Chat

    small = open_small(folder, "small", batch=16, max_tokens=None)
    large = open_large(str(large), small.model, batch=16) if isinstance(large, Path) else large
    server = build_server(build_app(Chat(small, large), Limits(**limits)), grace_s=2)
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            until(lambda: server.started or not thread.is_alive())
            assert server.started, "connections to a server that has failed are accepted and never answered"
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive(), "a server that is told to end ends"
            small.model.engine.close()


@pytest.fixture(scope="module")
def url(exported: Exported) -> Iterator[str]:
    with served(exported.folder, body=20_000) as address:
        yield address


@pytest.fixture(scope="module")
def rows(exported: Exported) -> pd.DataFrame:
    frame = pd.read_parquet(exported.probe / "records.parquet")
    return frame[frame["method"] == "checkpoint"].reset_index(drop=True)


def client(url: str, **options: Any) -> Any:
    return openai.OpenAI(base_url=url, api_key="any", max_retries=0, timeout=60, **options)


def ask(url: str, prompt: str, **options: Any) -> Any:
    return client(url).chat.completions.create(model="small", messages=[{"role": "user", "content": prompt}], **options)


def clear_of(gate: Gate, confidence: float) -> bool:
    """Whether a confidence is further from the threshold than arithmetic in another batch can move it."""
    threshold = gate.tiers[0].threshold
    return threshold is not None and abs(confidence - threshold) > 1e-4


def test_answers_and_confidences_are_those_of_the_probe(url: str, rows: pd.DataFrame, exported: Exported) -> None:
    gate = Gate.load(exported.folder)
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda prompt: ask(url, prompt), rows["prompt"]))
    assert [reply.choices[0].message.content for reply in replies] == rows["completion"].tolist()
    for reply, (_, row) in zip(replies, rows.iterrows(), strict=True):
        candor = reply.candor
        assert (candor["source"] != "measured") == (not row["parsed"])
        if row["parsed"]:
            assert candor["confidence"] == pytest.approx(row["confidence"], abs=1e-5)
            assert candor["answer"] == row["answer"]
            if clear_of(gate, row["confidence"]):
                assert candor["decision"] == gate.decide(row["confidence"])
        assert candor["answered_by"] == "small" and reply.usage.completion_tokens == row["completion_tokens"]
        assert reply.choices[0].finish_reason == ("length" if row["status"] == "truncated" else "stop")


def test_five_lines_read_the_same_confidence_off_the_reply(url: str, rows: pd.DataFrame, exported: Exported) -> None:
    confidence = Confidence.load(exported.folder)
    for prompt in rows["prompt"].head(10):
        reply = ask(url, prompt, logprobs=True, top_logprobs=20)
        reading = confidence.of_response(reply)
        assert reading["source"] == reply.candor["source"]
        if clear_of(Gate.load(exported.folder), reply.candor["confidence"]):
            assert reading["decision"] == reply.candor["decision"]
        assert reading["confidence"] == pytest.approx(reply.candor["confidence"], abs=1e-4)
        tokens = reply.choices[0].logprobs.content
        assert "".join(each.token for each in tokens) == reply.choices[0].message.content


def test_a_streamed_reply_is_the_same_and_ends_with_the_confidence(url: str, rows: pd.DataFrame) -> None:
    prompt, completion = rows["prompt"][0], rows["completion"][0]
    chunks = list(ask(url, prompt, stream=True, stream_options={"include_usage": True}))
    pieces = [each.choices[0].delta.content for each in chunks if each.choices and each.choices[0].delta.content]
    assert "".join(pieces) == completion and len(pieces) > 3, "as it is written"
    assert chunks[-2].choices[0].finish_reason == "stop" and chunks[-2].candor["confidence"] is not None
    assert chunks[-1].usage.completion_tokens == rows["completion_tokens"][0]


def test_sampling_is_by_seed_whatever_else_is_in_the_batch(url: str, rows: pd.DataFrame) -> None:
    prompt, options = rows["prompt"][0], {"temperature": 1.5, "seed": 3}
    alone = ask(url, prompt, **options).choices[0].message.content
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(ask, url, each) for each in rows["prompt"][1:8]]
        beside = pool.submit(ask, url, prompt, **options)
        assert beside.result().choices[0].message.content == alone
        assert all(job.result() for job in jobs)
    drawn = {ask(url, prompt, temperature=1.5, seed=seed).choices[0].message.content for seed in range(6)}
    assert len(drawn) > 1
    coldest, greedy = ask(url, prompt, temperature=1e-310), ask(url, prompt)
    assert coldest.choices[0].message.content == greedy.choices[0].message.content
    assert greedy.candor["calibrated"] and greedy.candor["guarantee"]
    assert coldest.candor["calibrated"] is coldest.candor["guarantee"] is None, "the figures are of greedy answers"


def engine_of(folder: Path) -> Any:
    from experiments.serve.asking import open_small

    return open_small(folder, "small", batch=16, max_tokens=None).model.engine


def test_a_row_that_fails_fails_alone(exported: Exported) -> None:
    from experiments.serve.rows import Row

    def broken(text: str, logprobs: Any) -> None:
        raise RuntimeError("nobody listens")

    with closing(engine_of(exported.folder)) as engine:
        ids = engine.policy.tokenizer.encode("1+1=", add_special_tokens=False)
        rows = [Row(ids, 12), Row(ids, 12, temperature=1.0, top_p=-1.0), Row(ids, 12, stream=broken), Row(ids, 12)]
        futures = [engine.submit(row) for row in rows]
        assert futures[0].result(60).row.text == futures[3].result(60).row.text != ""
        assert [isinstance(each.exception(60), RuntimeError) for each in futures] == [False, True, True, False]


def test_a_long_prompt_beside_a_long_answer_of_absolute_positions(exported: Exported) -> None:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from experiments.probe.generate import Policy
    from experiments.serve.engine import Engine
    from experiments.serve.rows import Row

    with closing(engine_of(exported.folder)) as other:
        tokenizer, template = other.policy.tokenizer, other.policy.template
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=32, n_embd=16, n_layer=1, n_head=2)
    config.bos_token_id, config.eos_token_id = 0, tokenizer.eos_token_id
    with closing(Engine(Policy(GPT2LMHeadModel(config), tokenizer, template), None)) as engine:
        ids = tokenizer.encode("1+1=", add_special_tokens=False)
        rows = [Row(ids * (28 // len(ids)), 4), Row(ids, 32 - len(ids))]
        together = [engine.submit(row) for row in rows]
        assert all(each.result(60).row.finish_reason for each in together)


def test_what_a_stop_text_cuts_off_is_neither_read_nor_listed(url: str, rows: pd.DataFrame, exported: Exported) -> None:
    from experiments.serve.rows import Row

    row = rows[rows["parsed"]].iloc[0]
    for stop in ("</confidence>", "<confidence>", ">"):
        reply = ask(url, row["prompt"], stop=stop, logprobs=True)
        listed, content = reply.choices[0].logprobs.content, reply.choices[0].message.content
        assert "".join(each.token for each in listed[:-1]) == content[: sum(len(each.token) for each in listed[:-1])]
        assert "".join(each.token for each in listed).startswith(content), "a token may write of both"
        assert reply.candor["read"] is None or "<confidence>" in content
        streamed = [each.choices[0] for each in ask(url, row["prompt"], stop=stop, logprobs=True, stream=True)]
        tokens = [token for each in streamed if each.logprobs for token in each.logprobs.content]
        assert [each.token for each in tokens] == [each.token for each in listed]
    written = Row([1], 9, stop=("cd",))
    for piece in ("a", "bc", "d"):
        written.write(len(written.ids), piece, ends=False)
    assert (written.text, written.kept_ids, written.ids) == ("ab", [0, 1], [0, 1, 2])


def test_stop_texts_and_limits_end_an_answer(url: str, rows: pd.DataFrame) -> None:
    whole = rows["completion"][0]
    cut = ask(url, rows["prompt"][0], stop="</answer>").choices[0]
    assert cut.message.content == whole.partition("</answer>")[0] and cut.finish_reason == "stop"
    pieces = [
        each.choices[0].delta.content or "" for each in ask(url, rows["prompt"][0], stop="</answer>", stream=True)
    ]
    assert "".join(pieces) == cut.message.content
    short = ask(url, rows["prompt"][0], max_tokens=2)
    assert short.choices[0].finish_reason == "length" and short.candor["source"] == "none"
    assert short.candor["reason"] == "expected_confidence could not be read: truncated"
    assert short.candor["decision"] == "escalate", "a confidence that was not written reaches no threshold"


def test_two_hundred_at_once_and_none_is_lost(url: str, rows: pd.DataFrame) -> None:
    prompts = [rows["prompt"][number % len(rows)] for number in range(200)]
    expected = [rows["completion"][number % len(rows)] for number in range(200)]
    with httpx.Client(timeout=120, limits=httpx.Limits(max_connections=200)) as http:

        def one(prompt: str) -> str:
            body = {"model": "small", "messages": [{"role": "user", "content": prompt}]}
            return str(http.post(f"{url}/chat/completions", json=body).json()["choices"][0]["message"]["content"])

        with ThreadPoolExecutor(200) as pool:
            assert list(pool.map(one, prompts)) == expected
    assert httpx.get(f"{url.removesuffix('/v1')}/health").json() == {"status": "ok", "waiting": 0}


def test_a_client_that_leaves_frees_its_place(url: str, rows: pd.DataFrame) -> None:
    for stream in (True, False):
        body = json.dumps({"model": "small", "messages": [{"role": "user", "content": rows["prompt"][0]}], "stream": stream})  # fmt: skip  # noqa: E501
        host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
        for _ in range(5):
            with closing(socket.create_connection((host, int(port)))) as connection:
                head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall((head + body).encode())
                if stream:
                    connection.recv(64)
        # And one that leaves in the middle of its request.
        half_a_request(url).close()
    health = f"{url.removesuffix('/v1')}/health"
    until(lambda: httpx.get(health).json()["waiting"] == 0)
    assert ask(url, rows["prompt"][0]).choices[0].message.content == rows["completion"][0]


def half_a_request(url: str, headers: str = "") -> socket.socket:
    host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 900\r\n\r\n"
    connection.sendall(f"{head}{{".encode())
    return connection


def test_a_body_that_does_not_arrive_is_given_up(exported: Exported) -> None:
    with served(exported.folder, arrival_s=0.2) as url, closing(half_a_request(url)) as connection:
        reply = connection.makefile("rb").readline()
    assert reply.startswith(b"HTTP/1.1 408 ")


def test_a_server_ends_though_a_client_is_still_sending(exported: Exported, capfd: pytest.CaptureFixture[str]) -> None:
    with served(exported.folder) as url, ThreadPoolExecutor(1) as pool:
        connection = half_a_request(url)
        answered = pool.submit(ask, url, "1+1=")
        assert answered.result(60).choices[0].message.content
        started = time.monotonic()
    assert time.monotonic() - started < 15
    with closing(connection):
        assert connection.makefile("rb").readline().startswith(b"HTTP/1.1 503 ")
    assert "Traceback" not in capfd.readouterr().err


def test_bad_input_is_told_in_the_apis_form_and_the_server_lives(url: str, rows: pd.DataFrame) -> None:
    with httpx.Client(timeout=60) as http:
        for path, body, status, said in BAD:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            reply = http.post(f"{url}/{path}", content=content)
            error = reply.json()["error"]
            assert (reply.status_code, set(error)) == (status, {"message", "type", "param", "code"}), (body, reply.text)
            assert said in error["message"], (body, error)
        assert http.get(f"{url}/nothing").json()["error"]["code"] == "unknown_url"
        wrong = http.get(f"{url}/chat/completions")
        assert (wrong.status_code, wrong.headers["Allow"]) == (405, "POST")
        assert wrong.json()["error"]["code"] == "method_not_allowed"
    with pytest.raises(openai.NotFoundError):
        client(url).chat.completions.create(model="gpt-9", messages=GOOD["messages"])
    with pytest.raises(openai.BadRequestError, match="not offered"):
        ask(url, "1+1=", n=2)
    assert ask(url, rows["prompt"][0]).choices[0].message.content == rows["completion"][0]


def test_what_asks_for_nothing_and_the_models_name_are_taken(url: str, rows: pd.DataFrame) -> None:
    nothing = {"tool_choice": "none", "parallel_tool_calls": False, "modalities": ["text"], "max_completion_tokens": 12}
    reply = ask(url, rows["prompt"][0], max_tokens=12, **nothing)
    assert reply.choices[0].message.content == rows["completion"][0]
    assert client(url).models.retrieve("small").id == "small" == client(url).models.list().data[0].id
    with pytest.raises(openai.NotFoundError, match="does not exist, only small"):
        client(url).models.retrieve("large")


def test_a_key_is_needed_where_one_is_set_and_requests_beyond_the_limit_come_again(exported: Exported) -> None:
    with served(exported.folder, key="secret", waiting=1) as url:
        for scheme in ("Basic secret", "Bearer", "Bearer secrets", "secret"):
            assert httpx.get(f"{url}/models", headers={"Authorization": scheme}).status_code == 401
        with pytest.raises(openai.AuthenticationError):
            ask(url, "1+1=")
        right = openai.OpenAI(base_url=url, api_key="secret", max_retries=0, timeout=60)
        (model,) = right.models.list().data
        assert model.id == "small" and model.candor["estimator"] == "expected_confidence"

        def status(number: int) -> int:
            body = GOOD | {"messages": [{"role": "user", "content": f"{number}+1="}]}
            headers = {"Authorization": "Bearer secret"}
            reply = httpx.post(f"{url}/chat/completions", json=body, headers=headers, timeout=60)
            assert reply.status_code != 429 or reply.headers["Retry-After"] == "1"
            return reply.status_code

        with ThreadPoolExecutor(20) as pool:
            statuses = list(pool.map(status, range(5), timeout=60)) + list(pool.map(status, [1] * 20, timeout=60))
        assert set(statuses) == {200, 429}
        assert status(1) == 200
        with closing(half_a_request(url, "Authorization: Bearer secret\r\n")):
            until(lambda: status(1) == 429)
        until(lambda: status(1) == 200)


def test_what_the_gate_escalates_is_answered_by_the_large_model(
    exported: Exported, untrained: Any, rows: pd.DataFrame
) -> None:
    with served(exported.folder, large=untrained.path) as url:
        deciding = {}
        for prompt, completion in zip(rows["prompt"].head(20), rows["completion"].head(20), strict=True):
            reply = ask(url, prompt)
            deciding[prompt] = reply.candor["decision"]
            if reply.candor["decision"] == "answer":
                assert reply.choices[0].message.content == completion and reply.candor["answered_by"] == "small"
            else:
                assert reply.candor["small"] == {"model": "small", "content": completion}
                assert reply.candor["answered_by"] == untrained.path.name
                assert reply.choices[0].message.content != completion
        assert set(deciding.values()) == {"answer", "escalate"}
        escalated = next(prompt for prompt, decision in deciding.items() if decision == "escalate")
        chunks = list(ask(url, escalated, stream=True))
        assert chunks[-1].candor["answered_by"] == untrained.path.name
        text = "".join(each.choices[0].delta.content or "" for each in chunks)
        assert text == ask(url, escalated).choices[0].message.content
        cut = ask(url, escalated, stop=text[2:4])
        assert cut.choices[0].message.content == text.partition(text[2:4])[0] and cut.candor["small"]


def test_an_endpoint_answers_or_the_request_fails(
    exported: Exported, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from experiments.config.endpoint import EndpointSection
    from experiments.routing.endpoint import Endpoint

    with endpoint(lambda prompt: f"<answer>large {prompt}</answer>") as there:
        large = Endpoint(there.url, EndpointSection("large", retries=0))
        with served(exported.folder, large=large) as url:
            replies = [ask(url, prompt) for prompt in rows["prompt"].head(12)]
            escalated = [reply for reply in replies if reply.candor["decision"] == "escalate"]
            assert 0 < len(escalated) < 12 and len(there.requests) == len(escalated)
            assert all(reply.choices[0].message.content.startswith("<answer>large ") for reply in escalated)
            number = next(place for place, reply in enumerate(replies) if reply.candor["decision"] == "escalate")
            ask(url, rows["prompt"][number], stop="</answer>", max_tokens=9)
            assert there.requests[-1]["stop"] == ["</answer>"] and there.requests[-1]["max_tokens"] == 9
            empty = {"choices": [{"message": {"content": None}}]}
            for failure in ((500, "secret", {}), (401, "secret", {}), (200, empty, {}), (200, "secret", {})):
                there.failures.append(failure)
                with pytest.raises(openai.APIStatusError, match="large could not answer") as failed:
                    ask(url, rows["prompt"][number])
                assert failed.value.status_code == 502
                assert "secret" not in failed.value.response.text and there.url not in failed.value.response.text
            assert "status 401: secret" in caplog.text
            assert ask(url, rows["prompt"][number]).candor["answered_by"] == "large"
            there.pause_s = 2.0
            monkeypatch.setattr("experiments.serve.chat.ESCALATION_S", 0.2)
            with pytest.raises(openai.APIStatusError, match="large could not answer"):
                ask(url, rows["prompt"][number])


def test_escalations_that_nobody_waits_for_hold_nothing_up(
    exported: Exported, rows: pd.DataFrame, capfd: pytest.CaptureFixture[str]
) -> None:
    from experiments.config.endpoint import EndpointSection
    from experiments.routing.endpoint import Endpoint

    gate = Gate.load(exported.folder)
    escalated = next(each.prompt for each in rows.itertuples() if gate.decide(each.confidence) == "escalate")
    with endpoint() as there, ThreadPoolExecutor(1) as pool:
        large = Endpoint(there.url, EndpointSection("large", concurrency=2))
        with served(exported.folder, large=large) as url:
            body = {"model": "small", "messages": [{"role": "user", "content": escalated}]}
            there.pause_s = 10.0
            for stream in (False, True):
                with pytest.raises(httpx.TimeoutException):
                    httpx.post(f"{url}/chat/completions", json=body | {"stream": stream}, timeout=0.7)
            there.pause_s, started = 0.0, time.monotonic()
            assert ask(url, escalated).candor["answered_by"] == "large" and time.monotonic() - started < 5
            there.pause_s = 10.0
            hanging = pool.submit(httpx.post, f"{url}/chat/completions", json=body, timeout=60)
            until(lambda: len(there.requests) == 4)
    assert hanging.result().status_code == 503 and "Traceback" not in capfd.readouterr().err


def test_is_this_answer_right_by_both_apis(url: str, rows: pd.DataFrame) -> None:
    row = rows[rows["parsed"]].iloc[0]
    completion = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]
    cut = [completion[0], {"role": "assistant", "content": row["completion"].partition("<confidence>")[0]}]
    bare = {"question": row["prompt"], "answer": row["answer"]}
    for given, measured in ((row["prompt"], True), (completion, False), (cut, False), (bare, False)):
        one = httpx.post(f"{url}/systemone", json=NOUL | {"state": given}, timeout=60).json()["answers"]["q"]
        assert one["type"] == "noul" and one["noul"] == pytest.approx(row["confidence"], abs=1e-5), given
        assert (one["candor"]["calibrated"] is not None) == measured, "of another's answer nobody knows"
        asked = {"type": "predicate", "name": "q", "instructions": "Is the answer correct?"}
        body = {"model": "small", "input": given, "questions": [asked]}
        (other,) = httpx.post(f"{url}/decisions", json=body, timeout=60).json()["answers"]
        assert other["probability"] == pytest.approx(one["noul"], abs=1e-6) and other["name"] == "q"


def test_a_choice_among_options_by_both_apis(url: str) -> None:
    options = {"2": "two", "3": None, "7": None}
    body = {"model": "small", "state": "1+1=", "questions": {"q": {"type": "choice", "criteria": options}}}
    one = httpx.post(f"{url}/systemone", json=body, timeout=60).json()["answers"]["q"]
    assert list(one["probabilities"]) == list(options) and sum(one["probabilities"].values()) == pytest.approx(1.0)
    assert one["choice"] == max(one["probabilities"], key=one["probabilities"].get)
    peak = one["probabilities"][one["choice"]]
    assert one["confidence"] == pytest.approx((peak - 1 / 3) / (2 / 3)) and one["candor"]["calibrated"] is None
    choices = [{"value": value, "description": said} for value, said in options.items()]
    asked = {"model": "small", "input": "1+1=", "questions": [{"type": "choice", "name": "q", "choices": choices}]}
    reply = httpx.post(f"{url}/decisions", json=asked, timeout=60).json()
    assert reply["object"] == "decision" and reply["usage"]["input_tokens"] > 0
    (other,) = reply["answers"]
    assert {each["value"]: each["probability"] for each in other["probabilities"]} == pytest.approx(
        one["probabilities"]
    )


@pytest.mark.usefixtures("no_model_is_loaded")
def test_what_cannot_be_served_is_said_before_a_model_loads(
    exported: Exported, refusal: Refusal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = exported.folder
    assert "holds no calibration" in refusal.command("serve", tmp_path, "--port", 0)
    ungated, to = tmp_path / "ungated", ["--port", 0, "--escalate-to", "tiny-large"]
    shutil.copytree(folder, ungated)
    (ungated / "calibration" / "gate.json").unlink()
    manifest = read_manifest(folder)
    write_manifest(ungated, manifest, manifest["files"].keys() - {"calibration/gate.json"})
    assert f"--escalate-to: {ungated} has no gate" in refusal.command("serve", ungated, *to)
    replace(Gate.load(folder), otherwise="abstain").save(ungated / "calibration" / "gate.json")
    write_manifest(ungated, manifest, manifest["files"])
    assert "has a gate that chooses to abstain" in refusal.command("serve", ungated, *to)
    cut = tmp_path / "cut"
    shutil.copytree(folder, cut)
    (cut / "generation_config.json").unlink()
    assert "generation_config.json is missing" in refusal.command("serve", cut, "--port", 0)
    write_manifest(cut, {**manifest, "asked": {}}, manifest["files"].keys() - {"generation_config.json"})
    assert "how its questions are asked" in refusal.command("serve", cut, "--port", 0)
    assert "reached from outside" in refusal.command("serve", folder, "--host", "0.0.0.0")
    assert "is not an address" in refusal.command("serve", folder, "--host", "here")
    assert "--batch" in refusal.command("serve", folder, "--batch", 0)
    assert "--port" in refusal.command("serve", folder, "--port", 70000)
    assert "NO_SUCH_KEY is not set" in refusal.command("serve", folder, "--key-variable", "NO_SUCH_KEY")
    assert "--large NAME" in refusal.command("serve", folder, "--port", 0, "--escalate-to", "http://127.0.0.1:9/v1")
    assert "are for a URL" in refusal.command("serve", folder, "--large", "x", "--escalate-to", "tiny-large")
    assert "by http or https" in refusal.command("serve", folder, "--port", 0, "--escalate-to", "ftp://x/v1")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        assert "in use" in refusal.command("serve", folder, "--port", taken.getsockname()[1])
