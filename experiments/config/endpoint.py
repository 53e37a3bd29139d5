"""How a model behind an OpenAI-compatible endpoint is asked: the section ``probe.endpoint`` of a recipe."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any

from experiments.schema import AtLeastOne, AtLeastZero

RESERVED = ("model", "messages", "stream", "n")


@dataclass(frozen=True)
class EndpointSection:
    """The model, and how patiently it is asked; ``probe.escalate_to`` has the URL up to ``/v1``."""

    model: str
    """Name that the endpoint knows the model by."""
    key_variable: str | None = None
    """Environment variable that holds the key; None sends none."""
    parameters: dict[str, Any] = field(default_factory=lambda: {"max_tokens": 1024, "temperature": 0})
    """Sent with every request as they are."""
    system: str | None = None
    """A system message before every question."""
    timeout_s: float = 120.0
    """Seconds without a byte after which a request has failed."""
    retries: AtLeastZero = 5
    """Times that a request is sent again after a failure that may pass, with growing pauses."""
    concurrency: AtLeastOne = 8
    """Requests on their way at once."""

    def __post_init__(self) -> None:
        if not 0.0 < self.timeout_s < math.inf:
            raise ValueError(f"probe.endpoint.timeout_s: {self.timeout_s} is not above 0 and finite")
        for name in RESERVED:
            if name in self.parameters:
                raise ValueError(f"probe.endpoint.parameters: {name!r} is not among what may be set here")

    def key(self) -> str | None:
        """The key out of the environment. Raises ValueError, naming the variable, where it is not set there."""
        if self.key_variable is None:
            return None
        key = os.environ.get(self.key_variable)
        if not key:
            raise ValueError(f"probe.endpoint.key_variable: {self.key_variable} is not set in the environment")
        return key
