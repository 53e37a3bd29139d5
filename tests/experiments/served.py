"""A server on loopback that speaks the wire of OpenAI's chat completions, and fails when told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str], str]


@dataclass
class Served:
    """What the server saw and what it is to do; ``failures`` are sent first, each as status, body and headers."""

    url: str = ""
    answer: Answer = str
    models: list[str] = field(default_factory=lambda: ["large"])
    failures: list[tuple[int, Any, dict[str, str]]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    pause_s: float = 0.0
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def _handler(served: Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            models = [{"id": name, "object": "model", "created": 0, "owned_by": "x"} for name in served.models]
            self.reply(200, {"object": "list", "data": models})

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with served.lock:
                served.requests.append(request)
                served.keys.append(self.headers.get("Authorization"))
                served.at_once += 1
                served.most_at_once = max(served.most_at_once, served.at_once)
                failure = served.failures.pop(0) if served.failures else None
            time.sleep(served.pause_s)
            with served.lock:
                served.at_once -= 1
            if failure is not None:
                self.reply(*failure)
                return
            text = served.answer(request["messages"][-1]["content"])
            self.reply(
                200,
                {
                    "id": "1",
                    "object": "chat.completion",
                    "created": 0,
                    "model": request["model"],
                    "choices": [
                        {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
                    ],
                    "usage": {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4},
                },
            )

        def reply(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
            content = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            with suppress(ConnectionError):  # who asked has left
                self.end_headers()
                self.wfile.write(content)

    return Handler


@contextmanager
def serve(answer: Answer = str) -> Iterator[Served]:
    """Context manager: a server that answers each question with ``answer`` of it."""
    served = Served(answer=answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(served))
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
        assert not thread.is_alive()
