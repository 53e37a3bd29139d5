"""``candor serve``: an exported folder behind OpenAI's wire, with a confidence in every reply."""

from __future__ import annotations

import argparse
import ipaddress
import os
import socket
from pathlib import Path
from typing import Any

from experiments.errors import ConfigError

HELP = "an exported folder as a server that answers with its confidence, and escalates where its gate says"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder that candor export wrote")
    parser.add_argument(
        "--escalate-to", metavar="MODEL|URL", help="who answers what the gate escalates; a URL ends in /v1"
    )
    parser.add_argument("--large", metavar="NAME", help="the model's name at that URL")
    parser.add_argument("--large-key-variable", metavar="NAME", help="environment variable with that URL's key")
    parser.add_argument("--name", help="what the model is called (the folder's name)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default loopback)")
    parser.add_argument("--port", type=int, default=8000, help="port (default 8000; 0 takes a free one)")
    parser.add_argument("--key-variable", metavar="NAME", help="environment variable with the key that clients need")
    parser.add_argument("--batch", type=int, default=32, help="answers written at once (default 32)")
    parser.add_argument("--max-tokens", type=int, help="most tokens of an answer (those of the probe)")
    parser.add_argument("--max-body", type=int, default=2**20, help="most bytes of a request (default 1 MiB)")
    parser.add_argument("--max-waiting", type=int, default=512, help="most requests at once (default 512)")


def run(options: argparse.Namespace) -> int:
    """Serve until interrupted."""
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"serve: {error.name} is not installed; pip install 'candor-rl[serve]'") from error
    key = _key(options.key_variable, "--key-variable")
    _check(options, key)
    from experiments.serve.app import Limits, build_app, build_server
    from experiments.serve.asking import check_escalates, open_small
    from experiments.serve.chat import Chat

    if options.escalate_to is not None:
        check_escalates(options.folder)
    listening, large = _listen(options.host, options.port), options.escalate_to
    endpoint = _endpoint(options) if large is not None and "://" in large else None
    small = open_small(options.folder, options.name, batch=options.batch, max_tokens=options.max_tokens)
    if endpoint is None and large is not None:
        from experiments.serve.asking import open_large

        endpoint = open_large(large, small.model, batch=options.batch)
    app = build_app(Chat(small, endpoint), Limits(options.max_body, options.max_waiting, key))
    host = f"[{options.host}]" if ":" in options.host else options.host
    print(f"{small.model.name}: http://{host}:{listening.getsockname()[1]}/v1", flush=True)
    build_server(app).run(sockets=[listening])
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens there, before a model is loaded. Raises ConfigError where it cannot."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ConfigError(f"--host {host} --port {port}: {error.strerror}") from error


def _check(options: argparse.Namespace, key: str | None) -> None:
    """Raise ConfigError, before a model loads, for options that do not go together."""
    for name in ("batch", "max_tokens", "max_body", "max_waiting"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')}: {value} is below 1")
    if not 0 <= options.port < 65536:
        raise ConfigError(f"--port: {options.port} is not from 0 to 65535")
    try:
        inside = options.host == "localhost" or ipaddress.ip_address(options.host).is_loopback
    except ValueError as error:
        raise ConfigError(f"--host: {options.host!r} is not an address") from error
    if not inside and key is None:
        raise ConfigError(f"--host: {options.host} can be reached from outside; name a key by --key-variable")
    of_url = options.large or options.large_key_variable
    if of_url and not (options.escalate_to and "://" in options.escalate_to):
        raise ConfigError("--large, --large-key-variable: are for a URL of --escalate-to")


def _key(variable: str | None, option: str) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise ConfigError(f"{option}: {variable} is not set in the environment")
    return key


def _endpoint(options: argparse.Namespace) -> Any:
    """The endpoint that is escalated to, asked once. Raises ConfigError without its name, RunError without itself."""
    from experiments.config.endpoint import EndpointSection
    from experiments.routing.endpoint import Endpoint

    if not options.escalate_to.startswith(("http://", "https://")):
        raise ConfigError(f"--escalate-to: {options.escalate_to} is neither a model nor a URL by http or https")
    if options.large is None:
        raise ConfigError("--escalate-to: a URL needs the model's name: --large NAME")
    _key(options.large_key_variable, "--large-key-variable")
    section = EndpointSection(options.large, options.large_key_variable, concurrency=32)
    endpoint = Endpoint(options.escalate_to, section)
    endpoint.check()
    return endpoint
