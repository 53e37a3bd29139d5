"""Completions of a model behind an OpenAI-compatible endpoint, over ``httpx``, which transformers brings.

The wire is that of ``POST /v1/chat/completions`` without streaming, as vLLM, SGLang, llama.cpp, Ollama and OpenAI speak
it. What may pass by itself (no connection, a timeout, status 408, 409, 429 or 5xx) is tried again after growing pauses,
or as long as ``Retry-After`` says; anything else ends the probe with what the server said.
"""

from __future__ import annotations

import asyncio
import json
from asyncio import sleep
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
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

    ``text`` is None where the server says that there is none. ``tokens`` counts the completion's, None where the server
    does not.
    """

    text: str | None
    truncated: bool
    tokens: int | None
    seconds: float = 0.0


class Endpoint:
    """A model behind ``url`` (up to ``/v1``), which is asked no more than ``section.concurrency`` questions at once.

    :meth:`check` and :meth:`answer` connect by themselves. :meth:`ask` needs the endpoint entered as an asynchronous
    context manager, which closes its connections; what is cancelled there ends its request. Raises ValueError where the
    key is not in the environment.
    """

    def __init__(self, url: str, section: EndpointSection) -> None:
        self.url, self.section = url.rstrip("/"), section
        key = section.key()
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    async def __aenter__(self) -> Endpoint:
        self._client = httpx.AsyncClient(
            headers=self._headers,
            timeout=self.section.timeout_s,
            limits=httpx.Limits(max_connections=self.section.concurrency),
        )
        self._places = asyncio.Semaphore(self.section.concurrency)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    def check(self) -> None:
        """Ask ``/models`` once, before anything costs time. Raises RunError where the endpoint cannot be used.

        A server that does not list its models (status 404 or 405) is taken at its word.
        """
        try:
            status, body, _ = asyncio.run(self._models())
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

    async def _models(self) -> tuple[int, Any, float | None]:
        async with self:
            return await self._once("GET", "/models", None)

    def answer(self, prompts: Sequence[Any]) -> list[Reply]:
        """One reply a prompt, in order; a prompt is a text or a list of messages. Raises RunError."""
        return asyncio.run(self._answers(prompts))

    async def _answers(self, prompts: Sequence[Any]) -> list[Reply]:
        done = 0

        async def one(prompt: Any) -> Reply:
            nonlocal done
            reply = await self.ask(prompt)
            done += 1
            meter.reach(done)
            return reply

        try:
            with Meter(len(prompts), "large", unit="question") as meter:
                async with self, asyncio.TaskGroup() as group:
                    tasks = [group.create_task(one(prompt)) for prompt in prompts]
        except ExceptionGroup as failed:  # the first to fail has ended the others
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def ask(self, prompt: Any, **parameters: Any) -> Reply:
        """The reply to one prompt, a text or a list of messages. Raises RunError.

        ``parameters`` are those of this request alone, before the section's.
        """
        async with self._places:
            return await self._ask(prompt, parameters)

    async def _ask(self, prompt: Any, parameters: dict[str, Any]) -> Reply:
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        if self.section.system is not None:
            messages = [{"role": "system", "content": self.section.system}, *messages]
        request = {"model": self.section.model, "messages": messages, **self.section.parameters, **parameters}
        problem, started = "", perf_counter()
        for attempt in range(self.section.retries + 1):
            pause = min(0.5 * 2**attempt, LONGEST_PAUSE_S)
            try:
                status, body, asked = await self._once("POST", "/chat/completions", request)
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
                await sleep(pause)
        raise RunError(f"{self.url}/chat/completions: {problem}")

    async def _once(self, method: str, path: str, request: Any) -> tuple[int, Any, float | None]:
        """Status and JSON (or text) of one request, and the seconds to wait that the server asks for."""
        async with self._client.stream(method, self.url + path, json=request) as response:
            read = bytearray()
            async for chunk in response.aiter_bytes():
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
        return Reply(text, reason == "length", used if isinstance(used, int) else None)
    except (KeyError, IndexError, TypeError, AttributeError):
        raise RunError(
            f"{url}/chat/completions: {str(body)[:200]} found, expected choices[0].message.content"
        ) from None


def _said(status: int, body: Any) -> str:
    error = body.get("error", body) if isinstance(body, dict) else body
    message = error.get("message", error) if isinstance(error, dict) else error
    return f"status {status}: {' '.join(str(message).split())[:300]}"
