"""Requests and replies of ``/v1/chat/completions``: read whole and strictly, before anything is asked of a model."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.serve.errors import ApiError, bad
from rewards.nearest import nearest

ROLES = ("system", "developer", "user", "assistant")
LIKELIEST = 20
"""Most ``top_logprobs`` of a token."""
IGNORED = (
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls",
)  # fmt: skip
"""What says nothing about the answer, and is taken without effect."""
NEUTRAL: Mapping[str, Any] = {"presence_penalty": 0, "frequency_penalty": 0, "n": 1, "logit_bias": {}, "tools": [],
                              "response_format": {"type": "text"}, "tool_choice": "none",
                              "modalities": ["text"]}  # fmt: skip
"""What is not offered, with the value that asks for nothing; null does as well."""
KNOWN = (
    "model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop", "stream",
    "stream_options", "logprobs", "top_logprobs",
)  # fmt: skip


@dataclass(frozen=True)
class ChatRequest:
    """A request for one answer. ``temperature`` 0 is greedy; ``max_tokens`` of None is as many as the server gives."""

    model: str
    messages: tuple[dict[str, str], ...]
    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False
    likeliest: int | None = None
    """How many of the likeliest tokens are listed with each one's log-probability; None lists nothing."""


def parse_json(body: bytes) -> dict[str, Any]:
    """A body as an object. Raises ApiError for anything else, NaN, infinity and halves of characters among it."""

    def no_number(name: str) -> Any:
        raise ValueError(f"{name} is not a number of JSON")

    try:
        content = json.loads(body, parse_constant=no_number)
        json.dumps(content, ensure_ascii=False).encode()  # "\\ud800" is valid JSON and not a text
    except (ValueError, RecursionError) as error:
        raise bad(None, f"the body is not valid JSON: {str(error)[:200]}") from error
    if not isinstance(content, dict):
        raise bad(None, f"the body is a {type(content).__name__}, expected an object")
    return content


def chat_request(body: Mapping[str, Any]) -> ChatRequest:
    """Read a request. Raises ApiError naming the parameter, its value and what was allowed.

    Where no temperature is given the answer is greedy: that is what was measured.
    """
    known(body, KNOWN, *NEUTRAL)
    for name, neutral in NEUTRAL.items():
        value = body.get(name)
        if value is not None and (value != neutral or isinstance(value, bool)):  # True == 1
            raise bad(name, f"{shown(value)} is not offered here", "unsupported_parameter")
    stop = body.get("stop")
    stops = [] if stop is None else [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or len(stops) > 4 or not all(isinstance(each, str) and each for each in stops):
        raise bad("stop", f"{shown(stop)} found, expected a text or up to four, none of them empty")
    options = {} if body.get("stream_options") is None else body["stream_options"]
    if not isinstance(options, dict) or (options and not body.get("stream")):
        raise bad("stream_options", "expected an object, and stream: true")
    known(options, ("include_usage",), where="stream_options.")
    logprobs, likeliest = flag(body, "logprobs"), number(body, "top_logprobs", None, 0, LIKELIEST, whole=True)
    if likeliest is not None and not logprobs:
        raise bad("top_logprobs", "needs logprobs: true")
    limits = [number(body, name, None, 1, 10**9, whole=True) for name in ("max_completion_tokens", "max_tokens")]
    if None not in limits and limits[0] != limits[1]:
        raise bad("max_tokens", f"{limits[1]} found beside max_completion_tokens {limits[0]}, expected one of them")
    seed = number(body, "seed", None, -(2**63), 2**63 - 1, whole=True)
    return ChatRequest(
        model=text(body, "model"),
        messages=messages(body.get("messages"), "messages"),
        max_tokens=next((int(each) for each in limits if each is not None), None),
        temperature=float(number(body, "temperature", 0.0, 0.0, 2.0) or 0.0),
        top_p=float(number(body, "top_p", 1.0, 1e-6, 1.0) or 1.0),
        seed=None if seed is None else int(seed),
        stop=tuple(stops),
        stream=flag(body, "stream"),
        include_usage=flag(options, "include_usage"),
        likeliest=int(likeliest or 0) if logprobs else None,
    )


def messages(given: Any, param: str) -> tuple[dict[str, str], ...]:
    """Messages of a chat, their contents as texts. Raises ApiError naming the one that is not."""
    if not isinstance(given, list) or not given:
        raise bad(param, "expected a list of at least one message")
    read = []
    for place, each in enumerate(given):
        where = f"{param}[{place}]"
        if not isinstance(each, dict) or each.get("role") not in ROLES:
            raise bad(where, f"expected an object whose role is one of {', '.join(ROLES)}")
        content = each.get("content")
        if isinstance(content, list) and all(_is_text_part(part) for part in content):
            content = "".join(part["text"] for part in content)
        if not isinstance(content, str):
            raise bad(f"{where}.content", "expected a text; no other content can be read here")
        read.append({"role": each["role"], "content": content})
    return tuple(read)


def _is_text_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def known(body: Mapping[str, Any], names: Collection[str], *others: str, where: str = "") -> None:
    """Raise ApiError for a parameter that is none of these and none of IGNORED; its place stands behind ``where``.

    What was probably meant is looked for among ``names`` alone.
    """
    for name in body:
        if name not in (*names, *others, *IGNORED):
            raise bad(f"{where}{name}", f"unknown parameter{nearest(name, names)}", "unknown_parameter")


def shown(value: Any) -> str:
    """A value of a request, as JSON, at a length to read."""
    written = json.dumps(value)
    return written if len(written) <= 80 else f"{written[:77]}..."


def text(body: Mapping[str, Any], name: str, where: str = "") -> str:
    """A text that has to be there and is not empty; its place stands behind ``where``."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        found = f"{shown(value)} found, expected a text that is not empty" if name in body else "is missing"
        raise bad(f"{where}{name}", found)
    return value


def flag(body: Mapping[str, Any], name: str) -> bool:
    """True or false; false where it is not given."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise bad(name, f"{str(value)[:40]!r} found, expected true or false")
    return bool(value)


def number(
    body: Mapping[str, Any], name: str, default: float | None, low: float, high: float, *, whole: bool = False
) -> float | None:
    """A finite number in [low, high], the default where it is not given or null."""
    value = body.get(name)
    if value is None:
        return default
    right = isinstance(value, int) or (isinstance(value, float) and not whole)
    if isinstance(value, bool) or not right or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise bad(name, f"{str(value)[:40]} found, expected {kind} from {low:g} to {high:g}")
    return float(value) if not whole else value


def identity() -> dict[str, Any]:
    """The ``id`` and ``created`` that one reply carries in all its parts."""
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time())}


def completion(
    head: Mapping[str, Any],
    model: str,
    content: str,
    finish_reason: str,
    usage: Mapping[str, int],
    candor: Mapping[str, Any],
    logprobs: Sequence[Mapping[str, Any]] | None,
) -> dict[str, Any]:
    """The reply to a request that is not streamed."""
    message = {"role": "assistant", "content": content, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": listed(logprobs)}
    return {
        **head,
        "object": "chat.completion",
        "model": model,
        "choices": [choice],
        "usage": dict(usage),
        "candor": dict(candor),
    }


def chunk(head: Mapping[str, Any], model: str, delta: Mapping[str, Any], **more: Any) -> str:
    """One event of a streamed reply; ``more`` goes beside its choice, ``finish_reason`` and ``logprobs`` into it."""
    choice = {
        "index": 0, "delta": dict(delta), "finish_reason": more.pop("finish_reason", None),
        "logprobs": listed(more.pop("logprobs", None)),
    }  # fmt: skip
    return event({**head, "object": "chat.completion.chunk", "model": model, "choices": [choice], **more})


def event(content: Mapping[str, Any]) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(content, allow_nan=False)}\n\n"


def listed(logprobs: Sequence[Mapping[str, Any]] | None) -> dict[str, Any] | None:
    """Log-probabilities as a choice has them."""
    return None if logprobs is None else {"content": list(logprobs), "refusal": None}


def failed(error: ApiError) -> str:
    """The event that ends a streamed reply which could not be finished."""
    return event(error.body)
