"""``/v1/systemone`` and ``/v1/decisions``: the question "is this answer right?", and choices among given answers.

The model knows one predicate, which its confidence was trained and measured on; any other is refused rather than
answered with a number that nobody measured. Of a choice each option is put in the place of the model's own answer,
behind its own thought, and read as that answer's confidence; the probabilities are these, made to sum to 1. What was
measured is the confidence in the model's own answers: ``calibrated`` is null where another's is read.

``confidence`` of a choice is what these APIs mean by it: 1 where one option has all the probability, 0 where all have
the same. How likely the chosen one is right, the field ``candor`` says.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from estimators.confidence import MEASURED, Reading
from experiments.config.recipe import VERBALIZED
from experiments.serve.asking import Small, unavailable, unmeasured
from experiments.serve.engine import Answer, count_tokens
from experiments.serve.errors import bad
from experiments.serve.rows import Row
from experiments.serve.wire import ChatRequest, known, messages, text
from rewards.template import AnswerTemplate

PREDICATE = re.compile(r"is (this|the|your|that) answer (right|correct|true)\??", re.IGNORECASE)
ASKED = "Is this answer right?"
MOST_OPTIONS, MOST_QUESTIONS = 255, 64


@dataclass(frozen=True)
class Question:
    """A question of either API: its place in the request, its kind and, of a choice, the options."""

    param: str
    name: str
    predicate: bool
    instructions: str
    options: tuple[str, ...] = ()


def systemone_questions(body: Mapping[str, Any]) -> list[Question]:
    """The questions of ``/v1/systemone``, name -> ``{type: noul | choice, instructions, criteria | options}``."""
    known(body, ("model", "state", "questions"))
    given = body.get("questions")
    if not isinstance(given, dict) or not 1 <= len(given) <= MOST_QUESTIONS:
        raise bad("questions", f"expected an object of 1 to {MOST_QUESTIONS} questions")
    read = []
    for name, each in given.items():
        where = f"questions.{name}"
        if not isinstance(each, dict):
            raise bad(where, "expected an object")
        known(each, ("type", "instructions", "options", "criteria"), where=f"{where}.")
        kind = _kind(each, where, ("noul", "choice"))
        options = each.get("options", each.get("criteria")) if kind == "choice" else ()
        read.append(
            _question(where, name, kind == "noul", each, list(options) if isinstance(options, dict) else options)
        )
    return read


def decision_questions(body: Mapping[str, Any]) -> list[Question]:
    """The questions of ``/v1/decisions``, ``[{type: predicate | choice, name, instructions, choices: [{value}]}]``."""
    known(body, ("model", "input", "questions"))
    given = body.get("questions")
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_QUESTIONS:
        raise bad("questions", f"expected a list of 1 to {MOST_QUESTIONS} questions")
    read = []
    for place, each in enumerate(given):
        where = f"questions[{place}]"
        if not isinstance(each, dict):
            raise bad(where, "expected an object")
        known(each, ("type", "name", "instructions", "choices"), where=f"{where}.")
        kind = _kind(each, where, ("predicate", "choice"))
        choices = each.get("choices") if kind == "choice" else ()
        if isinstance(choices, list):
            choices = [choice.get("value") if isinstance(choice, dict) else choice for choice in choices]
        read.append(_question(where, text(each, "name", f"{where}."), kind == "predicate", each, choices))
    return read


def _kind(each: Mapping[str, Any], where: str, allowed: Sequence[str]) -> str:
    kind = each.get("type")
    if kind not in allowed:
        raise bad(f"{where}.type", f"{str(kind)[:40]!r} is not answered here, only {' and '.join(allowed)}")
    return str(kind)


def _question(where: str, name: str, predicate: bool, each: Mapping[str, Any], options: Any) -> Question:
    instructions = "" if each.get("instructions") is None else each["instructions"]
    if not isinstance(instructions, str):
        raise bad(f"{where}.instructions", "expected a text")
    if predicate and not PREDICATE.fullmatch(instructions.strip()):
        raise bad(f"{where}.instructions", f"{instructions[:80]!r} was never measured; this model answers {ASKED!r}")
    if not predicate:
        if not isinstance(options, list) or not 2 <= len(options) <= MOST_OPTIONS:
            raise bad(where, f"expected 2 to {MOST_OPTIONS} options")
        if not all(isinstance(option, str) and option.strip() for option in options):
            raise bad(where, "expected options that are texts and not empty")
        if len(set(options)) != len(options):
            raise bad(where, "an option is there twice")
    return Question(where, name, predicate, instructions, tuple(options or ()))


def state(given: Any, param: str) -> tuple[list[dict[str, str]], str | None]:
    """The question as messages, and the answer that is asked about, if it is there.

    A text is a question; messages may end with the assistant's answer; an object has ``question`` and ``answer``.
    """
    if isinstance(given, dict) and isinstance(given.get("question"), str) and set(given) <= {"question", "answer"}:
        answer = None if given.get("answer") is None else text(given, "answer", f"{param}.")
        return [{"role": "user", "content": text(given, "question", f"{param}.")}], answer
    if isinstance(given, str) and given:
        return [{"role": "user", "content": given}], None
    if not isinstance(given, list):
        raise bad(param, "expected a text, a list of messages, or an object with question and answer")
    read = list(messages(given, param))
    if read[-1]["role"] != "assistant":
        return read, None
    if len(read) == 1:
        raise bad(param, "an answer without its question")
    return read[:-1], read[-1]["content"]


class Decider:
    """Answers questions of both APIs by the calibrated reading."""

    def __init__(self, small: Small) -> None:
        self.small = small

    async def systemone(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The reply of ``/v1/systemone``."""
        questions, (asked, given) = systemone_questions(body), state(body.get("state"), "state")
        answers, usage = {}, _nothing()
        for each in questions:
            if each.predicate:
                probability, said = await self._predicate(asked, given, usage)
                answers[each.name] = {"type": "noul", "noul": probability, "candor": said}
            else:
                choice = await self._choice(each, asked, usage)
                answers[each.name] = {"type": "choice", **choice}
        return {"model": self.small.model.name, "answers": answers, "usage": _renamed(usage)}

    async def decisions(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The reply of ``/v1/decisions``."""
        questions, (asked, given) = decision_questions(body), state(body.get("input"), "input")
        answers, usage = [], _nothing()
        for each in questions:
            head = {"type": "predicate" if each.predicate else "choice", "name": each.name}
            if each.predicate:
                probability, said = await self._predicate(asked, given, usage)
                answers.append(head | {"probability": probability, "candor": said})
            else:
                choice = await self._choice(each, asked, usage)
                listed = [{"value": value, "probability": p} for value, p in choice["probabilities"].items()]
                answers.append(head | choice | {"probabilities": listed})
        head = {"id": f"dec-{uuid.uuid4().hex}", "object": "decision", "created": int(time.time())}
        return {**head, "model": self.small.model.name, "answers": answers, "usage": _renamed(usage)}

    def _check_plain(self, given: str, param: str | None) -> None:
        """Raise ApiError for a text that holds a special token, such as the one that ends answers."""
        policy = self.small.model.engine.policy
        ends = [policy.tokenizer.decode([each]) for each in policy.end_ids]
        own = {*policy.tokenizer.all_special_tokens, *ends}.difference(self._template.levels or ())
        held = sorted(each for each in own if each and each in given)
        if held:
            raise bad(param, f"{given[:80]!r} holds {held[0]!r}, which this model reads as a token and not as text")

    async def _predicate(
        self, asked: Sequence[Mapping[str, str]], given: str | None, usage: dict[str, int]
    ) -> tuple[float | None, dict[str, Any]]:
        """P(the answer is right) of a given answer, or of the model's own; None where none could be read."""
        if given is None:
            answer = await self._write(asked, usage)
            reading = self.small.reading(answer)
            return reading["confidence"], {**reading, "answer": self.small.model.parsed(answer).answer}
        self._check_plain(given, None)
        prompt_ids, parsed = self.small.model.prompt_ids(asked), self._template.parse(given)
        if parsed.answer is None:  # the answer alone, not a completion
            given = (await self._in_place(asked, [given], usage))[0]
        elif parsed.confidence is None and self._level is not None:
            given += self._closing
        readings = await self._read(prompt_ids, [given], usage)
        return readings[0]["confidence"], unmeasured(readings[0])

    async def _choice(
        self, question: Question, asked: Sequence[Mapping[str, str]], usage: dict[str, int]
    ) -> dict[str, Any]:
        """The choice, its probabilities, how peaked they are, and the reading of the chosen option."""
        for option in question.options:
            self._check_plain(option, question.param)
        messages = [dict(each) for each in asked]
        if question.instructions:
            messages[-1]["content"] = f"{messages[-1]['content']}\n\n{question.instructions}"
        prompt_ids = self.small.model.prompt_ids(messages)
        texts = await self._in_place(messages, question.options, usage)
        readings = await self._read(prompt_ids, texts, usage)
        values = [each["confidence"] or 0.0 for each in readings]
        total, size = sum(values), len(values)
        shares = [value / total for value in values] if total else [1.0 / size] * size
        best = max(range(size), key=shares.__getitem__)
        return {
            "choice": question.options[best],
            "probabilities": dict(zip(question.options, shares, strict=True)),
            "confidence": (shares[best] - 1.0 / size) / (1.0 - 1.0 / size),
            "candor": unmeasured(readings[best]),
        }

    async def _in_place(
        self, asked: Sequence[Mapping[str, str]], options: Sequence[str], usage: dict[str, int]
    ) -> list[str]:
        """The model's own completion with each option in the place of its answer; a bare one where it gave none."""
        answer = await self._write(asked, usage)
        parsed, written = self.small.model.parsed(answer), answer.generation.decoded.text
        if parsed.answer is None or "answer" not in parsed.spans or (self._level and parsed.confidence is None):
            return [f"<answer>{option}</answer>{self._closing}" for option in options]
        span = parsed.spans["answer"]
        return [written[: span.start] + option + written[span.end :] for option in options]

    async def _write(self, asked: Sequence[Mapping[str, str]], usage: dict[str, int]) -> Answer:
        request = ChatRequest(model=self.small.model.name, messages=tuple(dict(each) for each in asked))
        return await self._submit(self.small.model.row(request), usage)

    async def _read(self, prompt_ids: list[int], texts: Sequence[str], usage: dict[str, int]) -> list[Reading]:
        """The reading of each text as an answer to the prompt."""
        engine = self.small.model.engine
        if self.small.confidence.estimator == VERBALIZED:
            raise bad(None, "this folder's confidence is what the model states of its own answers; no other is read")
        rows = []
        for each in texts:
            ids = engine.policy.tokenizer.encode(each, add_special_tokens=False)
            if len(prompt_ids) + len(ids) + 1 > engine.context:
                raise bad(None, "the answer does not fit the model", "context_length_exceeded")
            rows.append(engine.generation(prompt_ids, [*ids, engine.policy.tokenizer.eos_token_id]))
        answers = await asyncio.gather(*(self._submit(each, usage) for each in rows))
        return [self.small.confidence.of_value(each.confidence, MEASURED) for each in answers]

    async def _submit(self, asked: Any, usage: dict[str, int]) -> Answer:
        try:
            answer = await asyncio.wrap_future(self.small.model.engine.submit(asked))
        except asyncio.CancelledError:
            if isinstance(asked, Row):
                asked.cancelled = True
            raise
        except Exception as error:
            raise unavailable(error) from error
        for name, count in count_tokens(answer).items():
            usage[name] += count
        return answer

    @property
    def _template(self) -> AnswerTemplate:
        return self.small.model.engine.policy.template

    @property
    def _closing(self) -> str:
        """What follows an answer, so that its confidence can be read."""
        level = self._level or ""
        return level if self._template.confidence in ("none", "token") else f"<confidence>{level}</confidence>"

    @property
    def _level(self) -> str | None:
        """What stands where a level is read: it is not looked at, only the distribution in its place."""
        return None if self._template.confidence == "none" else (self._template.levels or ("1",))[-1]


def _nothing() -> dict[str, int]:
    return {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def _renamed(usage: Mapping[str, int]) -> dict[str, int]:
    names = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens", "total_tokens": "total_tokens"}
    return {names[name]: count for name, count in usage.items()}
