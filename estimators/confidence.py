"""The confidence of one answer, read as the folder of ``candor export`` says, and what its gate makes of it.

    Confidence.load(DIR)(text=..., logprobs=...)

numpy alone suffices for a text and for log-probabilities that a server returned; a model is asked through torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from estimators.exported import CALIBRATION, GATE, RECALIBRATION, TEMPLATE, read_manifest
from estimators.gate import Gate
from estimators.recalibration import Recalibration
from estimators.written import (
    FIELDS,
    Written,
    WrittenToken,
    parsed_json,
    read_text,
    token_ends,
    tokens_between,
    written_tokens,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MEASURED, STATED, NONE = "measured", "stated", "none"
"""Where a confidence is from: the model's log-probabilities, its words, or nowhere."""
READABLE = ("verbalized", "expected_confidence", "confidence_token", "answer_probability", "answer_min_probability")
"""Estimators that can be read off one reply."""
FIGURES = ("accuracy", "brier", "ece", "auroc", "confident_error_rate", "unparsed")
"""What a reading tells of how it was measured; the folder's manifest has every metric."""
_MISSING = 1e-4
"""Share of the levels' probability that a server may have left out of its likeliest tokens."""


class Reading(TypedDict):
    """What is known of one answer. A ``read`` of None could not be read; the gate then does not answer.

    ``confidence`` in [0, 1] is ``read`` after recalibration, where the folder has one; ``calibrated`` are the
    :data:`FIGURES` that a probe measured of exactly this reading, None where nobody did; ``decision`` is the gate's, by
    ``read`` against ``threshold``, and ``guarantee`` what it promises, None where there is no gate or it does not
    apply.
    """

    confidence: float | None
    source: str
    calibrated: dict[str, Any] | None
    decision: str | None
    threshold: float | None
    guarantee: dict[str, Any] | None
    read: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Confidence:
    """How an exported model's confidence is read, what was measured of it, and its gate."""

    estimator: str
    options: Mapping[str, Any]
    levels: tuple[str, ...] | None
    temperature: float
    measured: Mapping[str, Any]
    gate: Gate | None = None
    recalibration: Recalibration | None = None
    marks: bool = False
    """Whether the two levels are marks behind the answer, unsure and sure, and no decimals in tags."""
    declared: tuple[str, ...] = FIELDS
    """Fields that the template declares."""

    @classmethod
    def load(cls, folder: str | Path) -> Confidence:
        """Read an exported folder. Raises ``ValueError`` naming what in it is missing, changed or another model's."""
        manifest, calibration = read_manifest(folder), Path(folder) / CALIBRATION
        if manifest["estimator"] not in READABLE:
            raise ValueError(f"{folder}: estimator is {manifest['estimator']!r}, expected one of {', '.join(READABLE)}")
        try:
            template = dict(json.loads((calibration / TEMPLATE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{calibration / TEMPLATE}: is not a template: {error}") from error
        has = {name for name in (GATE, RECALIBRATION) if f"{CALIBRATION}/{name}" in manifest["files"]}
        levels, form = (
            template.get("levels"),
            {each: {"think": "thinking", "prior": "prior_confidence"}.get(each, each) for each in FIELDS},
        )
        return cls(
            estimator=manifest["estimator"],
            options=manifest["options"],
            levels=None if levels is None else tuple(levels),
            temperature=float(manifest["temperature"]),
            measured=manifest["measured"],
            gate=Gate.load(calibration / GATE) if GATE in has else None,
            recalibration=Recalibration.load(calibration / RECALIBRATION) if RECALIBRATION in has else None,
            marks=template.get("confidence") == "token",
            declared=tuple(tag for tag, key in form.items() if template.get(key, "required") != "none"),
        )

    def __call__(self, text: str | None = None, logprobs: Any = None, *, truncated: bool = False) -> Reading:
        """The reading of one completion: its text, the log-probabilities of its tokens, or both.

        ``logprobs`` is ``choices[i].logprobs`` of a chat's or a completion's reply, or the ``content`` in it, as parsed
        JSON or as the client's objects, taken at temperature 1, with as many likeliest tokens as the server gives where
        the confidence is a level. ``truncated`` says that the length limit cut the completion off. Raises
        ``ValueError`` without either, and for a text or log-probabilities that are none.
        """
        tokens = written_tokens(logprobs)
        if text is None and tokens is None:
            raise ValueError("neither text nor logprobs: expected one of them at least")
        if text is not None and not isinstance(text, str):
            raise ValueError(f"text: {type(text).__name__} found, expected a text")
        if text is None:
            text = b"".join(each.text for each in tokens or ()).decode("utf-8", errors="replace")
        return self._of(text, tokens, truncated)

    def of_response(self, response: Any) -> Reading:
        """The reading of the first choice of an OpenAI-style reply, as the client's object or as parsed JSON."""
        try:
            choice = parsed_json(response)["choices"][0]
            text = choice["message"]["content"] if "message" in choice else choice["text"]
            if isinstance(text, list):  # in parts, as some servers send it
                text = "".join(part["text"] for part in text if part["type"] == "text")
        except (AttributeError, KeyError, IndexError, TypeError) as error:
            raise ValueError(f"response: {str(response)[:200]} found, expected choices[0].message.content") from error
        return self(text or "", choice.get("logprobs"), truncated=choice.get("finish_reason") == "length")

    def of_model(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompt_ids: Sequence[int],
        completion_ids: Sequence[int],
        *,
        truncated: bool = False,
    ) -> Reading:
        """The reading of a completion by the model that wrote it, from one forward pass.

        Both are token ids; those of the completion without the token that ended it. Raises ``ValueError`` where a level
        is not one token of the tokenizer, and for an empty completion.
        """
        import torch

        from estimators.decoding import StreamDecoder
        from estimators.forward_passes import completion_statistics

        if not completion_ids:
            raise ValueError("completion_ids: empty, expected at least one token")
        pieces = [tokenizer.encode(level, add_special_tokens=False) for level in self.levels or ()]
        split = [level for level, ids in zip(self.levels or (), pieces, strict=True) if len(ids) != 1]
        if split:
            raise ValueError(f"the level {split[0]!r} is not one token of this tokenizer: it is another model's")
        statistics = completion_statistics(
            model,
            [list(prompt_ids)],
            [list(completion_ids)],
            pad_token_id=tokenizer.pad_token_id,
            read_BT=torch.ones((1, len(completion_ids)), dtype=torch.bool),
            level_ids=[ids[0] for ids in pieces],
        )
        decoder: Any = tokenizer
        stream, last = StreamDecoder(decoder), len(completion_ids)
        texts = [stream.push(int(each), last=place == last) for place, each in enumerate(completion_ids, 1)]
        levels = [level.encode() for level in self.levels or ()]
        tokens = [
            WrittenToken(text.encode(), log_prob, dict(zip(levels, level_log_probs, strict=True)))
            for text, log_prob, level_log_probs in zip(
                texts, statistics.log_prob[0].tolist(), statistics.level_log_probs[0].tolist(), strict=True
            )
        ]
        return self._of("".join(texts), tokens, truncated)

    def of_value(self, read: float | None, source: str, reason: str = "") -> Reading:
        """The reading of a confidence in [0, 1] that was read by this folder's estimator; None was not readable."""
        confidence = read
        if read is not None and self.recalibration is not None:
            confidence = float(self.recalibration([read])[0])
        return {
            "confidence": confidence,
            "source": NONE if read is None else source,
            "calibrated": None if read is None else self.calibrated,
            "decision": None if self.gate is None else self.gate.decide(read),
            "threshold": None if self.gate is None else self.gate.tiers[0].threshold,
            "guarantee": self._guarantee(),
            "read": read,
            "reason": reason,
        }

    @property
    def calibrated(self) -> dict[str, Any] | None:
        """The :data:`FIGURES` of the confidence that is told, after recalibration where the folder has one."""
        return self._figures(self.estimator if self.recalibration is None else "recalibrated")

    def _figures(self, name: str) -> dict[str, Any] | None:
        measured = self.measured.get(name)
        return None if measured is None else {each: measured[each] for each in FIGURES if each in measured}

    def _of(self, text: str, tokens: Sequence[WrittenToken] | None, truncated: bool) -> Reading:
        told = self._written(text, truncated)
        stated = told.stated
        if self.estimator == "verbalized":
            return self.of_value(stated, STATED, "" if stated is not None else "no confidence was stated")
        if tokens is None:
            return self._fallback(stated, f"{self.estimator} needs the log-probabilities of the tokens")
        answer = None if told.answer is None else text[slice(*told.answer)]
        value, reason = self._measure(tokens, answer, stated, truncated)
        return self._fallback(stated, reason) if value is None else self.of_value(value, MEASURED)

    def _written(self, text: str, truncated: bool) -> Written:
        return read_text(text, self.levels, truncated=truncated, marks=self.marks, declared=self.declared)

    def _fallback(self, stated: float | None, reason: str) -> Reading:
        """What was only stated, where the gate was fitted on something else: it does not answer on that."""
        reading = self.of_value(None, NONE, reason)
        if stated is not None:
            reading |= {"confidence": stated, "source": STATED, "calibrated": self._figures("verbalized")}
        return reading

    def _guarantee(self) -> dict[str, Any] | None:
        if self.gate is None or not self.gate.feasible:
            return None
        gate = self.gate
        return {
            "promise": gate.promise,
            "at_most": gate.alpha,
            "probability": 1.0 - gate.delta,
            "rows": gate.rows,
            "data": gate.source,
        }

    def _measure(
        self, tokens: Sequence[WrittenToken], answer: str | None, stated: float | None, truncated: bool
    ) -> tuple[float | None, str]:
        """The confidence read off the tokens, or None and why not."""
        ends = token_ends([each.text for each in tokens])
        text = b"".join(each.text for each in tokens).decode("utf-8", errors="replace")
        written = self._written(text, truncated)
        if written.stated != stated:
            return None, "the tokens state another confidence than the text"
        here = None if written.answer is None else text[slice(*written.answer)]
        # Servers tell halves of characters in ways of their own, so that only plain answers can be compared.
        if answer is not None and here is not None and (answer + here).isascii() and answer != here:
            return None, "the tokens write another answer than the text"
        if self.estimator.startswith("answer_"):
            if written.answer is None:
                return None, "no answer was read"
            log_probs = [tokens[place].log_prob for place in tokens_between(written.answer, ends)]
            if self.estimator == "answer_min_probability":
                return math.exp(min(log_probs)), ""
            if self.options.get("reduction", "product") == "mean":
                return sum(map(math.exp, log_probs)) / len(log_probs), ""
            return math.exp(sum(log_probs)), ""
        if written.confidence is None or stated is None:
            return None, "no confidence was stated"
        known = {level.encode() for level in self.levels or ()}
        places = [place for place in tokens_between(written.confidence, ends) if tokens[place].text in known]
        if len(places) != 1:
            return None, "the confidence is not stated by one token"
        return self._level(tokens[places[0]])

    def _level(self, token: WrittenToken) -> tuple[float | None, str]:
        """Mean level under the levels' probabilities among themselves; of the extremes alone for a confidence token.

        A level that is not among the likeliest tokens has at most the probability of the last of them: where that
        leaves the mean in doubt, there is none.
        """
        values = {level: float(place) if self.marks else float(level) for place, level in enumerate(self.levels or ())}
        levels = list(values)
        if self.estimator == "confidence_token":
            levels = [min(levels, key=values.__getitem__), max(levels, key=values.__getitem__)]
        seen = {**token.top, token.text: token.log_prob}
        known = {level: seen[level.encode()] for level in levels if level.encode() in seen}
        if not known:
            return None, "none of the levels is among the likeliest tokens"
        highest = max(known.values())
        if highest == -math.inf:
            return None, "none of the levels has a probability"
        weights = {level: math.exp((value - highest) / self.temperature) for level, value in known.items()}
        # What a server appends beyond the likeliest, the token written, bounds no other.
        least = min((value for each, value in token.top.items() if each != token.text), default=0.0)
        left_out = (len(levels) - len(known)) * math.exp((min(least, highest) - highest) / self.temperature)
        total = sum(weights.values())
        if len(known) < len(levels) and left_out / (total + left_out) > _MISSING:
            return None, f"the server gave {len(known)} of {len(levels)} levels; ask for more top_logprobs"
        if self.estimator == "confidence_token":
            return weights.get(levels[1], 0.0) / total, ""
        return min(1.0, sum(weight * values[level] for level, weight in weights.items()) / total), ""
