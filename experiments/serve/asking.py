"""From the messages of a client to the prompt that the model was measured on, and from an answer to its reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from estimators import ESTIMATORS
from estimators.confidence import MEASURED, STATED, Confidence, Reading
from estimators.exported import read_manifest
from estimators.gate import ESCALATE
from experiments.config.models import find_model, open_policy
from experiments.config.recipe import VERBALIZED
from experiments.errors import ConfigError
from experiments.probe.generate import Policy
from experiments.serve.engine import Answer, Engine
from experiments.serve.errors import ApiError, bad
from experiments.serve.rows import Row
from experiments.serve.wire import ChatRequest
from rewards.completion import ParsedCompletion, ParseStatus
from rl.checkpoint import read_temperature, read_template
from rl.rollout import encode_prompt

_ASKED = ("chat", "instructions", "max_new_tokens", "dtype", "attn_implementation")


@dataclass(frozen=True)
class Model:
    """An engine with the form in which its questions are asked, and how long its answers may be."""

    name: str
    engine: Engine
    chat: bool
    instructions: bool
    max_tokens: int

    def prompt_ids(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids of a chat, asked in the form that the model was measured on.

        Where that has the template's instructions, a single question without them gets them. Raises ApiError for
        several messages to a model that was asked single questions, and for a chat that its template refuses.
        """
        tokenizer, template = self.engine.policy.tokenizer, self.engine.policy.template
        asked = [dict(each) for each in messages]
        if asked[-1]["role"] != "user":
            raise bad("messages", "the last one is not the user's")
        single = len(asked) == 1
        if self.instructions and single and template.instructions() not in asked[0]["content"]:
            asked[0]["content"] = f"{template.instructions()}\n\n{asked[0]['content']}"
        if not self.chat and not single:
            raise bad("messages", f"{self.name} was trained on single questions; expected one user message")
        try:
            ids = encode_prompt(tokenizer, asked if self.chat else asked[0]["content"])
        except Exception as error:  # a chat template is a program that raises what it likes
            raise bad("messages", f"cannot be written as a prompt: {str(error)[:200]}") from error
        if not ids:
            raise bad("messages", "the prompt is empty")
        return list(ids)

    def row(self, request: ChatRequest) -> Row:
        """A row of a batch for a request. Raises ApiError where prompt and answer do not fit the model."""
        ids = self.prompt_ids(request.messages)
        room = self.engine.context - len(ids)
        if room < 1 or (request.max_tokens or 0) > room:
            raise bad(
                "messages",
                f"{len(ids)} tokens of prompt and {request.max_tokens or 1} to answer are more than the "
                f"{self.engine.context} that {self.name} has",
                "context_length_exceeded",
            )
        if (request.max_tokens or 0) > self.max_tokens:
            raise bad("max_tokens", f"{request.max_tokens} found, at most {self.max_tokens} are given here")
        return Row(
            prompt_ids=ids,
            max_tokens=min(request.max_tokens or self.max_tokens, room),
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
            stop=request.stop,
            likeliest=request.likeliest,
        )

    def parsed(self, answer: Answer) -> ParsedCompletion:
        """What a completion says, read as a probe reads it."""
        decoded = answer.generation.decoded
        return self.engine.policy.template.parse(decoded.text, truncated=not decoded.finished, lenient=True)


@dataclass(frozen=True)
class Small:
    """The exported model and how its confidence is read."""

    model: Model
    confidence: Confidence

    def reading(self, answer: Answer) -> Reading:
        """The reading of an answer; what was measured is not read off the text alone, nor of sampled answers."""
        reading = self._reading(answer)
        return reading if answer.row.temperature == 0.0 else unmeasured(reading)

    def _reading(self, answer: Answer) -> Reading:
        read, estimator = answer.confidence, self.confidence.estimator
        if read is not None or estimator == VERBALIZED:
            source = STATED if estimator == VERBALIZED else MEASURED
            return self.confidence.of_value(read, source, "" if read is not None else "no confidence was stated")
        decoded = answer.generation.decoded
        reading = self.confidence(text=decoded.text, truncated=not decoded.finished)
        status = self.model.parsed(answer).status
        told = "" if status is ParseStatus.OK else f": {status.replace('_', ' ')}"
        reading["reason"] = f"{estimator} could not be read{told}"
        return reading


def unmeasured(reading: Reading) -> Reading:
    """A reading of an answer other than the model's own greedy one: nobody has measured how good it is."""
    return {**reading, "calibrated": None, "guarantee": None}


def check_escalates(folder: Path) -> None:
    """Raise ConfigError for an exported folder whose gate sends no question on."""
    try:
        gate = Confidence.load(folder).gate
    except ValueError as error:
        raise ConfigError(f"serve: {error}") from error
    found = "has no gate" if gate is None else f"has a gate that chooses to {gate.otherwise}"
    if gate is None or gate.otherwise != ESCALATE:
        raise ConfigError(f"--escalate-to: {folder} {found}; expected an export with --gate of one that escalates")


def open_small(folder: Path, name: str | None, *, batch: int, max_tokens: int | None) -> Small:
    """The model of an exported folder. Raises ConfigError where it cannot be served."""
    try:
        confidence, manifest = Confidence.load(folder), read_manifest(folder)
    except ValueError as error:
        raise ConfigError(f"serve: {error}") from error
    gone = [name for name in manifest["files"] if not (folder / name).is_file()]
    if gone:
        raise ConfigError(f"serve: {folder}: {gone[0]} is missing; expected a folder as candor export wrote it")
    asked = manifest.get("asked")
    if not isinstance(asked, dict) or not set(_ASKED) <= set(asked):
        raise ConfigError(f"serve: {folder}: does not say how its questions are asked ({', '.join(_ASKED)})")
    model, tokenizer = open_policy(
        folder, "serve", dtype=asked["dtype"], attn_implementation=asked["attn_implementation"]
    )
    template = read_template(folder)
    if template is None:
        raise ConfigError(f"serve: {folder} has no calibration/template.json")
    policy = Policy(_on_device(model), tokenizer, template, read_temperature(folder))
    estimator = None
    if confidence.estimator != VERBALIZED:
        try:
            estimator = ESTIMATORS[confidence.estimator](**confidence.options)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"serve: {folder}: options of {confidence.estimator}: {error}") from error
    engine = Engine(policy, estimator, batch=batch)
    most = max_tokens or int(asked["max_new_tokens"])
    return Small(Model(name or folder.resolve().name, engine, asked["chat"], asked["instructions"], most), confidence)


def open_large(path: str, like: Model, *, batch: int) -> Model:
    """A checkpoint that questions are escalated to, asked as the small one is. Raises ConfigError."""
    folder = find_model(path, "--escalate-to")
    model, tokenizer = open_policy(path, "--escalate-to")
    template = read_template(folder) or like.engine.policy.template
    policy = Policy(_on_device(model), tokenizer, template)
    return Model(Path(folder).name, Engine(policy, None, batch=batch), like.chat, like.instructions, like.max_tokens)


def unavailable(error: Exception) -> ApiError:
    """An answer that failed inside the server, without what only the server should know."""
    return ApiError(500, f"the model failed: {type(error).__name__}", code="model_failed")


def _on_device(model: Any) -> Any:
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    return model
