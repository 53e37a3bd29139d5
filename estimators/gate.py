"""From a confidence to an action: answer, think on, escalate, abstain or stop, by thresholds that keep a promise.

A gate is fitted (:mod:`estimators.gate_fitting`) on judged rows that it will not be reported on, and promises one of
three things of traffic like them, with probability 1 - delta over the rows it was fitted on:

- ``error``: of what it answers, at most a share alpha is wrong; what it does not answer is escalated or abstained from;
- ``cost``: a question costs at most the budget on average, the share alpha of them escalated;
- ``parity``: the pair is at most a tolerance alpha less often right than the large model alone.

Where no threshold can be certified the gate is ``infeasible``, answers nothing, and says why and how much abstention it
would take at the least. numpy alone: what a router loads.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators.exported import GATE, calibration_file, read_object
from estimators.guarantees import lower_bound

FloatArray = NDArray[np.float64]

ANSWER, ESCALATE, THINK_ON, STOP = "answer", "escalate", "think_on", "stop"
FORMAT = 1
_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Tier:
    """One model's threshold: kept where its confidence reaches it. None keeps nothing.

    ``bad`` of ``counted`` calibration rows broke the promise there (wrong of kept; escalated of all; questions lost
    against the large model of all), ``bound`` is the upper bound of what is promised at the level at which the
    threshold was tested, and never above alpha, ``coverage`` the share kept of the rows that reached the tier.
    """

    threshold: float | None
    status: str
    bad: int
    counted: int
    bound: float | None
    coverage: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Gate:
    """Thresholds of one model or of a cascade, the promise they keep, and what they were fitted on.

    ``certificates`` has for each risk the share of rows that all tiers together could answer at it, None where nothing
    is certified; ``least_abstention`` is the share that no gate at this alpha answers, by what no tier gets right.
    """

    tiers: tuple[Tier, ...]
    promise: str
    alpha: float
    delta: float
    form: str
    otherwise: str
    rows: int
    least_abstention: float
    certificates: dict[str, float | None]
    quantiles: tuple[float, ...]
    data_hash: str
    source: str = ""
    weights: str = ""
    """Digest of the weights whose confidences it was fitted on, see :func:`estimators.exported.weights_digest`."""
    questions: str = ""
    """Digests of the questions that it was fitted on, one behind another; with ``weights`` empty where not known."""

    @property
    def feasible(self) -> bool:
        """Whether any tier has a threshold that keeps the promise."""
        return any(tier.threshold is not None for tier in self.tiers)

    def shared(self, prompts: Iterable[str]) -> int:
        """How many of these questions it was fitted on; 0 where it does not say which those were."""
        known = {self.questions[start : start + _DIGITS] for start in range(0, len(self.questions), _DIGITS)}
        return sum(_digest(prompt) in known for prompt in prompts)

    def actions(self, *confidences: ArrayLike) -> NDArray[np.str_]:
        """The action for each row (N,) from its confidence (N,) in [0, 1], of a cascade one column for each tier.

        "answer" by the first tier whose threshold is reached (of a cascade "answer_1", "answer_2", ...), else
        ``otherwise``. NaN is a confidence that could not be read and reaches nothing. Raises ``ValueError`` for another
        number of columns or a confidence outside [0, 1].
        """
        if len(confidences) != len(self.tiers):
            raise ValueError(f"{len(confidences)} columns of confidence, the gate has {len(self.tiers)} tiers")
        columns = [column(f"confidence {number}", each, nan=True) for number, each in enumerate(confidences)]
        found = np.full(len(columns[0]), self.otherwise, dtype="<U12")
        for number in reversed(range(len(self.tiers))):
            found[self._kept(number, columns[number])] = self._answer(number)
        return found

    def decide(self, confidence: float | None, tier: int = 0) -> str:
        """The action for one finished answer of a tier, counted from 0: "answer", or what is done instead.

        None is a confidence that could not be read. A tier before the last escalates to the next one.
        """
        read = math.nan if confidence is None else confidence
        if self._kept(tier, column("confidence", [read], nan=True))[0]:
            return ANSWER
        return self.otherwise if tier == len(self.tiers) - 1 else ESCALATE

    def at_pause(self, confidence: float | None, *, budget_left: bool, give_up: float = 0.0) -> str:
        """What to do where a model pauses in its thinking: "stop" and answer, "think_on", or ``otherwise``.

        Stops where the confidence reaches the first tier's threshold; thinks on while there is budget and the
        confidence is at least ``give_up``. The promise is about the confidence that the gate was fitted on: one read at
        a pause keeps it only if the gate was fitted on confidences read at the last pause.
        """
        read = math.nan if confidence is None else confidence
        if self._kept(0, column("confidence", [read], nan=True))[0]:
            return STOP
        hopeless = confidence is not None and confidence < give_up
        return THINK_ON if budget_left and not hopeless else self.otherwise

    def stream(self, confidences: Iterable[float | None], pauses: int, give_up: float = 0.0) -> Iterator[str]:
        """The action at each pause of one completion, ending with the first that is not "think_on"."""
        for number, confidence in enumerate(confidences, start=1):
            action = self.at_pause(confidence, budget_left=number < pauses, give_up=give_up)
            yield action
            if action != THINK_ON:
                return

    def drift(self, confidence: ArrayLike, level: float = 0.05) -> dict[str, Any]:
        """Whether new traffic is still like the calibration rows.

        ``confidence`` (N,) of the first tier; ``distance`` is the largest difference of the two distributions at the
        stored quantiles, ``limit`` what chance exceeds with probability at most ``level`` (Dvoretzky-Kiefer-Wolfowitz
        for both).
        """
        c = column("confidence", confidence)
        if not len(c):
            raise ValueError("no rows: there is no traffic to check")
        places = np.array(self.quantiles)
        expected = np.arange(len(places)) / (len(places) - 1)
        # At a tie of the calibration rows the share below lies anywhere between the quantiles that are equal to it.
        below = np.searchsorted(np.sort(c), places, side="left") / len(c)
        up_to = np.searchsorted(np.sort(c), places, side="right") / len(c)
        first = expected[np.searchsorted(places, places, side="left")]
        last = expected[np.searchsorted(places, places, side="right") - 1]
        distance = float(np.max(np.maximum(below - first, last - up_to).clip(0.0)))
        limit = math.sqrt(math.log(4 / level) / 2) * (len(c) ** -0.5 + self.rows**-0.5) + 1 / (len(places) - 1)
        return {"rows": len(c), "distance": distance, "limit": limit, "drifted": distance > limit}

    def errors(
        self, confidences: Sequence[ArrayLike], corrects: Sequence[ArrayLike], level: float = 0.05
    ) -> list[dict[str, Any]]:
        """What new traffic says of a promise about errors, tier by tier.

        ``confidences`` and ``corrects`` have a column (N,) for each tier, NaN where nothing was read or nobody judged.
        ``answered`` is the share of the rows that a tier answers, ``error`` the share wrong of those that were judged,
        None without any, ``error_low`` its lower bound at ``level``, which all tiers share, and ``promise_broken``
        whether that contradicts a promise of ``error``.
        """
        actions = self.actions(*confidences)
        found = []
        for number, correct in enumerate(corrects):
            y = np.asarray(correct, dtype=np.float64)
            answered = actions == self._answer(number)
            judged = answered & ~np.isnan(y)
            bad, counted = int((1.0 - y[judged]).sum()), int(judged.sum())
            low = float(lower_bound(bad, counted, level / len(self.tiers)))
            broken = self.promise == "error" and low > self.alpha
            found.append(
                {
                    "answered": float(answered.mean()),
                    "error": bad / counted if counted else None,
                    "error_low": low,
                    "promise_broken": broken,
                }
            )
        return found

    def save(self, path: str | Path) -> Path:
        """Write the gate as JSON with a hash of itself, whole or not at all; returns the path."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"format": FORMAT, **asdict(self)}
        content["hash"] = _hash(content)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(partial, path)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Gate:
        """Read a saved gate, or that of a folder which ``candor export`` wrote, if it is still the folder of its model.

        Raises ``ValueError`` naming the file where it is not one, or was changed by hand.
        """
        path = calibration_file(path, GATE)
        content = read_object(path)
        if content.pop("format", None) != FORMAT:
            raise ValueError(f"{path}: not a gate of format {FORMAT}")
        if content.pop("hash", None) != _hash({"format": FORMAT, **content}):
            raise ValueError(
                f"{path}: its hash does not fit its content: it was changed or cut off after it was fitted"
            )
        try:
            content["tiers"] = tuple(Tier(**tier) for tier in content["tiers"])
            content["quantiles"] = tuple(content["quantiles"])
            return cls(**content)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: not a gate of format {FORMAT}: {error}") from error

    def _answer(self, number: int) -> str:
        return ANSWER if len(self.tiers) == 1 else f"{ANSWER}_{number + 1}"

    def _kept(self, number: int, confidence: FloatArray) -> NDArray[np.bool_]:
        threshold = self.tiers[number].threshold
        if threshold is None:
            return np.zeros(len(confidence), dtype=bool)
        kept: NDArray[np.bool_] = confidence >= threshold  # NaN reaches nothing
        return kept


def question_digests(prompts: Iterable[str]) -> str:
    """What a gate keeps of the questions that it is fitted on, in whatever order they come."""
    return "".join(sorted({_digest(prompt) for prompt in prompts}))


def _digest(prompt: str) -> str:
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


def column(name: str, values: ArrayLike, *, nan: bool = False) -> FloatArray:
    """A column (N,) of numbers in [0, 1], NaN where that is allowed; raises ``ValueError`` naming the first other."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}, expected one dimension")
    outside = np.flatnonzero(~((array >= 0.0) & (array <= 1.0)) & ~(nan & np.isnan(array)))
    if outside.size:
        raise ValueError(f"{name}[{outside[0]}] is {array[outside[0]]}, expected a number in [0, 1]")
    return array


def _hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()
