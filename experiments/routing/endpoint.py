"""Completions of a model behind an OpenAI-compatible endpoint, over ``httpx``, which transformers brings.

The wire is that of ``POST /v1/chat/completions`` without streaming, as vLLM, SGLang, llama.cpp, Ollama and OpenAI speak
it. What may pass by itself (no connection, a timeout, status 408, 409, 429 or 5xx) is tried again after growing pauses,
or as long as ``Retry-After`` says; anything else ends the probe with what the server said.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from time import perf_counter, sleep
from typing import Any

import httpx

from experiments.config.endpoint import EndpointSection
from experiments.errors import RunError
from rewards.nearest import nearest
from rl.monitoring.progress import Meter

PASSING = {408, 409, 429}
LONGEST_PAUSE_S = 60.0
LARGEST_REPLY = 16 * 2**20
"""Bytes of a reply from which on it is refused: what a model writes is bounded by its parameters."""


@dataclass(frozen=True)
class Reply:
    """What the model answered to one question, ``seconds`` after it was asked, pauses and further tries included.

    ``tokens`` counts the completion's, None where the server does not.
    """

    text: str
    truncated: bool
    tokens: int | None
    seconds: float = 0.0


class Endpoint:
    """A model behind ``url`` (up to ``/v1``); a context manager that closes its connections.

    Raises ValueError where the key is not in the environment.
    """

    def __init__(self, url: str, section: EndpointSection) -> None:
        self.url, self.section = url.rstrip("/"), section
        key = section.key()
        self._client = httpx.Client(
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            timeout=section.timeout_s,
            limits=httpx.Limits(max_connections=section.concurrency),
        )

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def check(self) -> None:
        """Ask ``/models`` once, before anything costs time. Raises RunError where the endpoint cannot be used.

        A server that does not list its models (status 404 or 405) is taken at its word.
        """
        try:
            status, body, _ = self._once("GET", "/models", None)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RunError(f"{self.url}: cannot be reached: {error or type(error).__name__}") from error
        if status in (404, 405):
            return
        listed = body.get("data") if isinstance(body, dict) else None
        if status != 200 or not isinstance(listed, list):
            raise RunError(f"{self.url}/models: {_said(status, body)}")
        names = [str(each.get("id")) for each in listed if isinstance(each, dict)]
        if names and self.section.model not in names:
            known = ", ".join(names[:10]) + nearest(self.section.model, names)
            raise RunError(f"{self.url}: has no model {self.section.model!r} (probe.endpoint.model), only {known}")

    def answer(self, prompts: Sequence[Any]) -> list[Reply]:
        """One reply a prompt, in order; a prompt is a text or a list of messages. Raises RunError."""
        replies = []
        with (
            ThreadPoolExecutor(self.section.concurrency) as pool,
            Meter(len(prompts), "large", unit="question") as meter,
        ):
            futures = [pool.submit(self.ask, prompt) for prompt in prompts]
            try:
                for number, future in enumerate(futures, start=1):
                    replies.append(future.result())
                    meter.reach(number)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return replies

    def ask(self, prompt: Any, **parameters: Any) -> Reply:
        """The reply to one prompt, a text or a list of messages. Raises RunError.

        ``parameters`` are those of this request alone, before the section's.
        """
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        if self.section.system is not None:
            messages = [{"role": "system", "content": self.section.system}, *messages]
        request = {"model": self.section.model, "messages": messages, **self.section.parameters, **parameters}
        problem, started = "", perf_counter()
        for attempt in range(self.section.retries + 1):
            pause = min(0.5 * 2**attempt, LONGEST_PAUSE_S)
            try:
                status, body, asked = self._once("POST", "/chat/completions", request)
            except httpx.HTTPError as error:
                problem = str(error) or type(error).__name__
            else:
                if status == 200:
                    return replace(_reply(body, self.url), seconds=perf_counter() - started)
                problem = _said(status, body)
                if status not in PASSING and status < 500:
                    break
                pause = pause if asked is None else asked
            if attempt < self.section.retries:
                sleep(pause)
        raise RunError(f"{self.url}/chat/completions: {problem}")

    def _once(self, method: str, path: str, request: Any) -> tuple[int, Any, float | None]:
        """Status and JSON (or text) of one request, and the seconds to wait that the server asks for."""
        with self._client.stream(method, self.url + path, json=request) as response:
            read = bytearray()
            for chunk in response.iter_bytes():
                read += chunk
                if len(read) > LARGEST_REPLY:
                    raise RunError(f"{self.url}{path}: the reply is larger than {LARGEST_REPLY:,} bytes")
        try:
            body = json.loads(read)
        except (ValueError, RecursionError):
            body = read.decode("utf-8", "replace")
        asked = response.headers.get("Retry-After", "")
        return response.status_code, body, min(float(asked), LONGEST_PAUSE_S) if asked.isdecimal() else None


def _reply(body: Any, url: str) -> Reply:
    try:
        choice = body["choices"][0]
        text, reason = choice["message"]["content"], choice.get("finish_reason")
        if text is not None and not isinstance(text, str):
            raise TypeError
        used = (body.get("usage") or {}).get("completion_tokens")
        return Reply(text or "", reason == "length", used if isinstance(used, int) else None)
    except (KeyError, IndexError, TypeError, AttributeError):
        raise RunError(
            f"{url}/chat/completions: {str(body)[:200]} found, expected choices[0].message.content"
        ) from None


def _said(status: int, body: Any) -> str:
    error = body.get("error", body) if isinstance(body, dict) else body
    message = error.get("message", error) if isinstance(error, dict) else error
    return f"status {status}: {' '.join(str(message).split())[:300]}"
