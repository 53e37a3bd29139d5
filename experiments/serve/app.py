"""The application: routes, the key, limits on bodies and on requests at once, and errors in OpenAI's form.

Whatever a client sends, the reply is one of the API's and the server goes on: a body is read up to a limit before it is
parsed, a request beyond those that may wait is told to come again, and a client that leaves ends its row of the batch
and what it has escalated.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from experiments.routing.endpoint import Endpoint
from experiments.serve.chat import Chat
from experiments.serve.decisions import Decider
from experiments.serve.errors import ApiError
from experiments.serve.wire import chat_request, parse_json, text

RETRY_S = 1
GRACE_S = 20
"""Seconds that a server which is told to end gives to what it is answering."""


@dataclass(frozen=True)
class Limits:
    """Bytes of a body, requests that arrive, wait or are answered at once, and the key that each has to bring, if any.

    ``arrival_s`` is how many seconds a body may take to arrive.
    """

    body: int = 2**20
    waiting: int = 512
    key: str | None = None
    arrival_s: float = 60.0


def build_app(chat: Chat, limits: Limits) -> FastAPI:
    """The application that serves ``chat``; ``chat``'s engines outlive it."""

    @asynccontextmanager
    async def connected(_: FastAPI) -> AsyncIterator[None]:
        async with chat.large if isinstance(chat.large, Endpoint) else nullcontext():
            yield

    off: dict[str, Any] = {"docs_url": None, "redoc_url": None, "openapi_url": None, "redirect_slashes": False}
    app, places = FastAPI(title="candor", lifespan=connected, **off), Places(limits.waiting)
    app.add_middleware(BoundedRequests, places=places)
    app.add_middleware(ShutdownReplies)
    decider, name, started = Decider(chat.small), chat.small.model.name, int(time.time())

    def check_key(request: Request) -> None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        given = key.strip().encode() if scheme.lower() == "bearer" else b""
        if limits.key is not None and not hmac.compare_digest(given, limits.key.encode()):
            raise ApiError(401, "a key is needed: Authorization: Bearer KEY", code="invalid_api_key")

    async def read(request: Request) -> dict[str, Any]:
        check_key(request)
        body = bytearray()
        try:
            async with asyncio.timeout(limits.arrival_s):
                async for piece in request.stream():
                    body += piece
                    if len(body) > limits.body:
                        raise ApiError(413, f"the body is larger than {limits.body:,} bytes", code="request_too_large")
        except TimeoutError as error:
            raise ApiError(408, f"the body did not arrive within {limits.arrival_s:g} seconds") from error
        content = parse_json(bytes(body))
        check_name(text(content, "model"))
        return content

    @app.exception_handler(ApiError)
    async def told(_: Request, error: ApiError) -> JSONResponse:
        return reply_of(error)

    @app.exception_handler(HTTPException)
    async def not_here(_: Request, error: HTTPException) -> JSONResponse:
        code = "method_not_allowed" if error.status_code == 405 else "unknown_url"
        headers = dict(error.headers or {})  # that of 405 says what is allowed
        return reply_of(ApiError(error.status_code, str(error.detail), code=code, headers=headers))

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> JSONResponse:
        return reply_of(ApiError(499, "the client has left"))

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        return reply_of(ApiError(500, f"the server failed: {type(error).__name__}"))

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "waiting": places.taken}

    def check_name(given: str) -> None:
        if given != name:
            told = f"the model {given[:100]!r} does not exist, only {name}"
            raise ApiError(404, told, param="model", code="model_not_found")

    def model_object() -> dict[str, Any]:
        about = {
            "estimator": chat.small.confidence.estimator,
            "calibrated": chat.small.confidence.calibrated,
            "escalates_to": chat.large_name or None,
        }
        return {"id": name, "object": "model", "created": started, "owned_by": "candor", "candor": about}

    @app.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        check_key(request)
        return {"object": "list", "data": [model_object()]}

    @app.get("/v1/models/{given:path}")
    async def model(request: Request, given: str) -> dict[str, Any]:
        check_key(request)
        check_name(given)
        return model_object()

    @app.post("/v1/chat/completions")
    async def completions(request: Request) -> Any:
        content = chat_request(await read(request))
        row = chat.small.model.row(content)
        if content.stream:
            uncached = {"Cache-Control": "no-cache"}
            return StreamingResponse(chat.stream(content, row), media_type="text/event-stream", headers=uncached)
        return JSONResponse(await while_there(request, chat.whole(content, row)))

    async def decided(request: Request, decide: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]) -> Any:
        return JSONResponse(await while_there(request, decide(await read(request))))

    @app.post("/v1/systemone")
    async def systemone(request: Request) -> Any:
        return await decided(request, decider.systemone)

    @app.post("/v1/decisions")
    async def decisions(request: Request) -> Any:
        return await decided(request, decider.decisions)

    return app


def reply_of(error: ApiError) -> JSONResponse:
    """What a client is sent."""
    return JSONResponse(error.body, error.status, error.headers)


@dataclass
class Places:
    """How many requests there may be at once, and how many there are."""

    most: int
    taken: int = 0


class BoundedRequests:
    """ASGI middleware: a request has a place from its headers to the end of its reply, and without one is told so.

    Those that only look (GET, HEAD) need none.
    """

    def __init__(self, app: ASGIApp, places: Places) -> None:
        self.app, self.places = app, places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        if self.places.taken >= self.places.most:
            wait, told = {"Retry-After": str(RETRY_S)}, f"{self.places.taken} requests wait already"
            error = ApiError(429, told, code="rate_limit_exceeded", headers=wait)
            await reply_of(error)(scope, receive, send)
            return
        self.places.taken += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.places.taken -= 1


class ShutdownReplies:
    """ASGI middleware: a request that an ending server cancels is told so, where its reply has not begun."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except asyncio.CancelledError:
            if scope["type"] != "http":
                raise
            if not begun:
                await reply_of(ApiError(503, "the server is ending"))(scope, receive, send)


def build_server(app: FastAPI, *, grace_s: int = GRACE_S) -> uvicorn.Server:
    """A server of the application that, told to end, ends after ``grace_s`` at most, whoever still sends or waits."""
    config = uvicorn.Config(app, log_level="warning", timeout_keep_alive=30, timeout_graceful_shutdown=grace_s)
    return uvicorn.Server(config)


async def while_there(request: Request, answering: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """The answer, or ClientDisconnect as soon as the client has left; the answering is cancelled then."""
    task = asyncio.ensure_future(answering)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
