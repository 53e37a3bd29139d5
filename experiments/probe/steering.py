"""A steering vector from a checkpoint's traces, and what steering by it gives, beside its controls.

Every control answers the same questions as the policy that nobody steers; differences are paired by question, and
their intervals are over questions.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from estimators.metrics.resampling import Interval, bootstrap, paired_difference
from estimators.online.thresholds import model_fingerprint, tokenizer_fingerprint
from estimators.segmentation import StepRules
from estimators.steering.control import Balance, Constant
from estimators.steering.extraction import LEXICON, Labels, Steps, check_layers, fit_vector, label_steps, read_steps
from estimators.steering.generation import Steering
from estimators.steering.vector import Definition, Position, SteeringVector
from estimators.step_confidence import window_variances
from experiments.config.recipe import Recipe
from experiments.errors import ConfigError
from experiments.probe.checkpoint import open_checkpoint, probe_rows, split_rows
from experiments.probe.generate import Generation, Hooks, Policy, generate, verify_generations
from experiments.probe.records import as_records
from rewards.verifiers.verifier import Verifier
from rl.segments import as_completions, step_rules

ControlName = Literal["balance", "constant", "random"]
CONTROLS: tuple[ControlName, ...] = get_args(ControlName)
"""ReBalance's control; the same strength after every step (SEAL); ReBalance's control along a random direction."""
UNSTEERED = "unsteered"
_PAIRS = 5
Measured = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Writing:
    """How a policy is made to write: greedily at ``temperature`` 0, each answer beginning with ``opening``."""

    temperature: float = 0.0
    opening: str = ""
    seed: int = 0


@dataclass(frozen=True)
class ExtractSettings:
    """Which traces a vector is fitted to, and how."""

    split: str
    questions: int = 500
    layers: Sequence[int] | None = None
    """Those to choose from, all if left out."""
    position: Position = "first"
    quantiles: tuple[float, float] = (0.25, 0.75)
    labels: Labels = "quantiles"
    lexicon: Sequence[str] = LEXICON
    writing: Writing = field(default_factory=Writing)


def extract_vector(path: str, recipe: Recipe, settings: ExtractSettings) -> SteeringVector:
    """Have a checkpoint answer questions, and fit a vector to what it wrote.

    Raises ConfigError where that cannot be done: too few steps, or steps that are all alike.
    """
    rows = split_rows(recipe, settings.split, settings.questions)
    policy = open_checkpoint(path, recipe, "steer")
    definition = Definition(step_rules(policy.template), position=settings.position)
    layers = settings.layers or range(1, policy.model.config.get_text_config().num_hidden_layers + 1)
    try:
        check_layers(policy.model, layers)
        traces = _write(policy, recipe, rows, settings.writing, "traces", None)
        steps = read_steps(
            policy.model,
            policy.tokenizer,
            _completions(policy, traces, definition.rules),
            definition,
            list(layers),
            pad_token_id=policy.tokenizer.pad_token_id,
            batch_size=recipe.probe.batch_size,
        )
        return fit_vector(
            steps,
            definition,
            model_fingerprint(policy.model),
            tokenizer_fingerprint(policy.tokenizer),
            quantiles=settings.quantiles,
            labels=settings.labels,
            lexicon=settings.lexicon,
            seed=settings.writing.seed,
        )
    except ValueError as error:
        raise error if isinstance(error, ConfigError) else ConfigError(f"steer: {error}") from error


def _completions(policy: Policy, traces: Sequence[Generation], rules: StepRules) -> Any:
    decoded = [each.decoded for each in traces]
    parsed = [policy.template.parse(each.text, truncated=not each.finished, lenient=True) for each in decoded]
    prompts, ids = [each.prompt_ids for each in traces], [each.completion_ids for each in traces]
    return as_completions(prompts, ids, parsed, decoded, rules=rules)


@dataclass(frozen=True)
class RunSettings:
    """What a checkpoint is steered by, and how far."""

    coefficients: Sequence[float]
    controls: Sequence[ControlName] = CONTROLS
    writing: Writing = field(default_factory=Writing)


def steer_checkpoint(
    path: str, recipe: Recipe, folder: Path, settings: RunSettings, verifier: Verifier
) -> tuple[pd.DataFrame, Measured, Interval]:
    """Records of a checkpoint, unsteered and by every control and coefficient, what each gives, and the throughput.

    The confidence of the records is the stated one. By method: ``accuracy``, ``tokens`` of a completion,
    ``step_confidence`` (mean over the steps of a completion, as the steered policy had it), ``moved`` states of a
    completion, and against the unsteered policy ``accuracy_difference``, ``tokens_change`` (a share of its tokens) and
    ``step_confidence_difference``; ``over_*`` are of the questions that it over-thinks, by what the vector's traces
    were labelled by. The throughput is tokens a second of the processor against those without steering, both writing
    equally many, in turns: their median, lowest and highest ratio.
    """
    rows = probe_rows(recipe)
    policy = open_checkpoint(path, recipe, "steer")
    prints = model_fingerprint(policy.model), tokenizer_fingerprint(policy.tokenizer)
    try:
        vector = SteeringVector.load(folder, *prints, step_rules(policy.template))
        steerings = _steerings(policy, vector, settings)
    except ValueError as error:
        raise ConfigError(f"--steering {error}") from error
    frames: dict[str, pd.DataFrame] = {}
    for method, steering in steerings.items():
        follower = _Follower(steering, len(rows))
        with steering.attached():
            written = _write(policy, recipe, rows, settings.writing, method, follower)
        frame = verify_generations(policy, rows, written, method, verifier, recipe.task.manner)
        frames[method] = frame.assign(moved=follower.moved, confidences=follower.confidences, texts=follower.texts)
    base = frames[UNSTEERED]
    over = _overthought(vector, list(base["confidences"]), list(base["texts"]))
    measured = {method: _measured(frame, base, over, recipe) for method, frame in frames.items()}
    prompts = [row["prompt"] for row in rows[: recipe.probe.batch_size]]
    strongest = max(steerings.values(), key=lambda each: abs(each.coefficient))
    records = as_records(pd.concat(frames.values(), ignore_index=True))
    return records, measured, _throughput(policy, recipe, prompts, strongest, settings.writing)


def _steerings(policy: Policy, vector: SteeringVector, settings: RunSettings) -> dict[str, Steering]:
    opening = _opening_ids(policy, settings.writing)
    make = partial(Steering, policy.model, policy.tokenizer, end_ids=policy.end_ids, opening_ids=opening)
    balance, strength = Balance(vector.bounds), Constant()
    kinds: dict[ControlName, Any] = {
        "balance": (vector, balance),
        "constant": (vector, strength),
        "random": (vector.random(settings.writing.seed), balance),
    }
    found = {UNSTEERED: make(vector, balance, coefficient=0.0)}
    for control in settings.controls:
        for coefficient in settings.coefficients:
            found[f"{control}_{coefficient:g}"] = make(*kinds[control], coefficient=coefficient)
    return found


class _Follower:
    """What steering saw and did of each question."""

    def __init__(self, steering: Steering, questions: int) -> None:
        self._steering = steering
        self.confidences: list[list[float]] = [[] for _ in range(questions)]
        self.texts: list[list[str]] = [[] for _ in range(questions)]
        self.moved = [0] * questions

    def arguments(self) -> dict[str, Any]:
        return self._steering.arguments()

    def took(self, rows: Sequence[int]) -> None:
        for row, request in zip(rows, self._steering.requests, strict=True):
            self.confidences[row], self.texts[row] = request.confidences, request.texts
            self.moved[row] = request.moved


def _opening_ids(policy: Policy, writing: Writing) -> list[int]:
    return list(policy.tokenizer(writing.opening, add_special_tokens=False)["input_ids"]) if writing.opening else []


def _write(
    policy: Policy,
    recipe: Recipe,
    rows: Sequence[dict[str, Any]],
    writing: Writing,
    title: str | None,
    hooks: Hooks | None,
) -> list[Generation]:
    return generate(
        policy,
        [row["prompt"] for row in rows],
        max_new_tokens=recipe.probe.max_new_tokens,
        batch_size=recipe.probe.batch_size,
        title=title,
        temperature=writing.temperature,
        seed=writing.seed,
        begun=[_opening_ids(policy, writing)] * len(rows),
        hooks=hooks,
    )


def _overthought(vector: SteeringVector, confidences: Sequence[Sequence[float]], texts: Sequence[Any]) -> np.ndarray:
    """Whether a step behind the first of a trace is over-thinking, by what the vector's own traces were labelled by."""
    rows = [
        (trace, *step)
        for trace, (each, said) in enumerate(zip(confidences, texts, strict=True))
        for step in list(zip(each, window_variances(each, vector.definition.window), said, strict=False))[1:]
    ]
    trace_N, confidence_N, variance_N, text_N = zip(*rows, strict=True) if rows else ((), (), (), ())
    steps = Steps(np.array(trace_N, dtype=np.int64), np.array(confidence_N), np.array(variance_N), tuple(text_N), {})
    labels: Labels = vector.labels  # type: ignore[assignment]
    found = np.zeros(len(confidences), dtype=bool)
    if rows:
        found[steps.trace_N[label_steps(steps, vector.bounds, labels, vector.lexicon) > 0]] = True
    return found


def _measured(frame: pd.DataFrame, base: pd.DataFrame, over: np.ndarray, recipe: Recipe) -> dict[str, Any]:
    sampling: dict[str, Any] = {"resamples": recipe.probe.resamples, "seed": recipe.probe.seed}
    correct, correct0 = (each["correct"].fillna(0.0).to_numpy(dtype=float) for each in (frame, base))
    tokens, tokens0 = (each["completion_tokens"].to_numpy(dtype=float) for each in (frame, base))
    surety, surety0 = (
        np.array([np.mean(each) if each else np.nan for each in part["confidences"]]) for part in (frame, base)
    )
    known = ~np.isnan(surety) & ~np.isnan(surety0)
    found: dict[str, Interval] = {
        "accuracy": bootstrap(_mean, correct, **sampling),
        "accuracy_difference": paired_difference(_mean, [correct], [correct0], **sampling),
        "tokens": bootstrap(_mean, tokens, **sampling),
        "tokens_change": bootstrap(_change, tokens, tokens0, **sampling),
        "step_confidence": bootstrap(_mean, surety[~np.isnan(surety)], **sampling),
        "step_confidence_difference": paired_difference(_mean, [surety[known]], [surety0[known]], **sampling),
        "moved": bootstrap(_mean, frame["moved"].to_numpy(dtype=float), **sampling),
        "over_accuracy_difference": paired_difference(_mean, [correct[over]], [correct0[over]], **sampling),
        "over_tokens_change": bootstrap(_change, tokens[over], tokens0[over], **sampling),
    }
    manners = frame["manner"].value_counts(normalize=True, dropna=True) if "manner" in frame else {}
    return {**{name: asdict(each) for name, each in found.items()}, "manners": dict(manners)}


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _change(tokens: np.ndarray, before: np.ndarray) -> float | None:
    return float(tokens.sum() / before.sum() - 1) if before.sum() else None


class _Full:
    """Makes every row write as many tokens as there is room for, so that the same work is timed."""

    def __init__(self, tokens: int, steering: Steering | None) -> None:
        self._tokens, self._steering = tokens, steering

    def arguments(self) -> dict[str, Any]:
        more = {} if self._steering is None else self._steering.arguments()
        return {"min_new_tokens": self._tokens, **more}

    def took(self, rows: Sequence[int]) -> None:
        """Nothing is kept."""


def _throughput(
    policy: Policy, recipe: Recipe, prompts: Sequence[Any], steering: Steering, writing: Writing
) -> Interval:
    """Ratio of tokens a second with steering to those without."""

    def seconds(hooks: Hooks) -> float:
        started = time.process_time()
        _write(policy, recipe, [{"prompt": each} for each in prompts], writing, None, hooks)
        return time.process_time() - started

    ratios = []
    tokens = recipe.probe.max_new_tokens
    for _ in range(_PAIRS):
        plain = seconds(_Full(tokens, None))
        with steering.attached():
            ratios.append(plain / seconds(_Full(tokens, steering)))
    return Interval(median(ratios), min(ratios), max(ratios), _PAIRS)
