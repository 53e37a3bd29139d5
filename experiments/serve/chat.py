"""One answer: the small model's, and where its gate escalates the large model's, with who gave it and how sure.

Without a model to escalate to, a reply is streamed as it is written. With one it is written first: which of the two
answers a client is to see is known only behind the confidence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from estimators.confidence import Reading
from estimators.gate import ESCALATE
from experiments.errors import RunError
from experiments.routing.endpoint import Endpoint
from experiments.serve.asking import Model, Small, unavailable
from experiments.serve.engine import Answer, count_tokens
from experiments.serve.errors import ApiError
from experiments.serve.rows import Row
from experiments.serve.wire import ChatRequest, chunk, completion, event, failed, identity

FAILED = "escalation_failed"
ESCALATION_S = 120.0
"""Seconds that an endpoint has to answer what is escalated, further tries and the wait for its place included."""
_DONE = object()
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The text that a client is given, and everything that is said beside it."""

    content: str
    finish_reason: str
    usage: dict[str, Any]
    candor: dict[str, Any]
    logprobs: list[dict[str, Any]] | None


@dataclass(frozen=True)
class Chat:
    """The small model, and the large one that it escalates to, if any: a checkpoint here or an endpoint."""

    small: Small
    large: Model | Endpoint | None = None

    @property
    def large_name(self) -> str:
        """What answers are attributed to that the large model gave."""
        if isinstance(self.large, Endpoint):
            return self.large.section.model
        return "" if self.large is None else self.large.name

    async def answer(self, request: ChatRequest, row: Row) -> Outcome:
        """Answer a request whose ``row`` was made from it. Raises ApiError where a model fails."""
        try:
            answer = await asyncio.wrap_future(self.small.model.engine.submit(row))
        except asyncio.CancelledError:
            row.cancelled = True
            raise
        except Exception as error:
            raise unavailable(error) from error
        reading = self.small.reading(answer)
        said = said_of(answer, reading, self.small)
        if reading["decision"] != ESCALATE or self.large is None:
            name = self.small.model.name
            return Outcome(
                row.text,
                row.finish_reason or "stop",
                count_tokens(answer),
                said | {"answered_by": name},
                row.logprobs if request.likeliest is not None else None,
            )
        content, reason, tokens = await self._escalated(request)
        usage = count_tokens(answer)
        usage["completion_tokens"] += tokens
        usage["total_tokens"] += tokens
        small = {"model": self.small.model.name, "content": row.text}
        return Outcome(content, reason, usage, said | {"answered_by": self.large_name, "small": small}, None)

    async def _escalated(self, request: ChatRequest) -> tuple[str, str, int]:
        """Text, reason of the end and number of tokens of the large model's greedy answer, ended as was asked."""
        assert self.large is not None
        try:
            if isinstance(self.large, Endpoint):
                return await _asked(self.large, request)
            asked = ChatRequest(self.large.name, request.messages, max_tokens=request.max_tokens, stop=request.stop)
            row = self.large.row(asked)
            try:
                await asyncio.wrap_future(self.large.engine.submit(row))
            except asyncio.CancelledError:
                row.cancelled = True
                raise
            return row.text, row.finish_reason or "stop", len(row.ids)
        except ApiError as error:
            raise ApiError(502, f"{self.large_name} could not answer: {error}", code=FAILED) from error
        except (RunError, TimeoutError) as error:  # whose words may tell of a key or an address
            _logger.warning("%s could not answer: %s", self.large_name, error or type(error).__name__)
            raise ApiError(502, f"{self.large_name} could not answer", code=FAILED) from error
        except Exception as error:
            raise unavailable(error) from error

    async def whole(self, request: ChatRequest, row: Row) -> dict[str, Any]:
        """The reply that is not streamed."""
        outcome = await self.answer(request, row)
        parts = (outcome.content, outcome.finish_reason, outcome.usage, outcome.candor, outcome.logprobs)
        return completion(identity(), self.small.model.name, *parts)

    async def stream(self, request: ChatRequest, row: Row) -> AsyncIterator[str]:
        """The events of a streamed reply; what fails on the way is its last event."""
        head, name = identity(), self.small.model.name
        yield chunk(head, name, {"role": "assistant", "content": ""})
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[Any]()
        if self.large is None:
            row.stream = lambda text, logprobs: loop.call_soon_threadsafe(pieces.put_nowait, (text, logprobs))
        task = asyncio.ensure_future(self.answer(request, row))
        task.add_done_callback(lambda done: pieces.put_nowait(_DONE))
        try:
            while (piece := await pieces.get()) is not _DONE:
                yield chunk(head, name, {"content": piece[0]}, logprobs=piece[1] or None)
            outcome = await task
        except ApiError as error:
            yield failed(error)
            return
        finally:  # a client that leaves ends its row
            task.cancel()
            row.cancelled = True
        if self.large is not None and outcome.content:
            yield chunk(head, name, {"content": outcome.content}, logprobs=outcome.logprobs)
        yield chunk(head, name, {}, finish_reason=outcome.finish_reason, candor=outcome.candor)
        if request.include_usage:
            content = {**head, "object": "chat.completion.chunk", "model": name, "choices": [], "usage": outcome.usage}
            yield event(content)
        yield "data: [DONE]\n\n"


def said_of(answer: Answer, reading: Reading, small: Small) -> dict[str, Any]:
    """The field ``candor`` of a reply, without who gave it."""
    parsed = small.model.parsed(answer)
    return {**reading, "estimator": small.confidence.estimator, "answer": parsed.answer}


async def _asked(large: Endpoint, request: ChatRequest) -> tuple[str, str, int]:
    """As :meth:`Chat._escalated`. Raises RunError, also for a reply without a text, and TimeoutError."""
    ends = {"max_tokens": request.max_tokens, "stop": list(request.stop) or None}
    parameters = {name: value for name, value in ends.items() if value is not None}
    async with asyncio.timeout(ESCALATION_S):
        reply = await large.ask([dict(each) for each in request.messages], **parameters)
    if reply.text is None:
        raise RunError(f"{large.url}: the reply has no content")
    return reply.text, "length" if reply.truncated else "stop", reply.tokens or 0
