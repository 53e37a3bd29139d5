"""Hand-over in mid-stream, measured: STEER against its controls on the same questions, with tokens and operations.

The mixture is fitted on steps that the small policy writes on validation questions, without labels, and so are the
thresholds chosen: of STEER's the one that spends least of those that are at the large policy's accuracy there, or the
most accurate where none is. Every rule is then measured on test questions beside the large policy alone, the small one
alone, the large one every second step, its own judgement of each step, and its steps drawn by lot at the share that
STEER used, which looks at nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from estimators.metrics.ratios import ratio_interval
from estimators.metrics.resampling import Interval, mean_interval, wilson
from experiments.config.models import open_policy
from experiments.config.recipe import Recipe
from experiments.errors import ConfigError
from experiments.probe.generate import Policy
from experiments.routing.midstream import FixedRate, HandOver, Judge, Mixture, RandomShare, Solved, Steer, solve
from experiments.routing.step_writer import StepWriter
from rewards.verifiers.verifier import Verifier
from rl.monitoring.progress import Meter

THRESHOLDS = (0.05, 0.2, 0.5, 0.8, 0.95)
JUDGED = 0.7
LONGEST_STEP = 32


@dataclass(frozen=True)
class HandOverSettings:
    """``questions`` are measured on, ``fitted`` validation questions fitted on; completions begin with ``prefix``."""

    questions: int = 300
    fitted: int = 100
    prefix: str = ""
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Run:
    """What one rule did: a completion a question, and whether each is right (N,)."""

    solved: Sequence[Solved]
    correct: np.ndarray

    @property
    def share(self) -> float:
        """Share of the steps that the large policy wrote."""
        return float(np.mean([by_large for each in self.solved for by_large in each.by_large]))

    @property
    def flops(self) -> np.ndarray:
        return np.array([each.flops for each in self.solved])


class Pair:
    """A small and a large policy that write by turns; every completion begins with ``prefix``.

    Raises ConfigError for a checkpoint that cannot be loaded.
    """

    def __init__(self, small: str, large: str, recipe: Recipe, verifier: Verifier, prefix: str = "") -> None:
        writers = []
        for path, name in ((small, "small"), (large, "large")):
            model, tokenizer = open_policy(path, f"midstream {name}", attn_implementation="eager")
            writers.append(StepWriter(Policy(model.eval(), tokenizer, recipe.template), prefix))
        self.small, self.large = writers
        self.recipe, self.verifier, self.prefix = recipe, verifier, prefix

    def run(self, rows: Sequence[dict[str, Any]], make: Callable[[int], HandOver], title: str) -> Run:
        """Answer every question by a hand-over made for its number, and judge the answers."""
        solved = []
        with Meter(len(rows), title, unit="question") as meter:
            for number, row in enumerate(rows):
                limits = {"max_tokens": self.recipe.probe.max_new_tokens, "longest_step": LONGEST_STEP}
                solved.append(solve(self.small, self.large, make(number), row["prompt"], **limits))
                meter.reach(number + 1)
        texts = [self.prefix + each.text for each in solved]
        answers = [self.recipe.template.parse(text, lenient=True).answer for text in texts]
        verdicts = self.verifier.verify(golds=[row["answer"] for row in rows], answers=answers)
        return Run(solved, np.array([float(verdict.correct or 0.0) for verdict in verdicts]))


def measure_handover(pair: Pair, settings: HandOverSettings) -> dict[str, dict[str, Any]]:
    """Rule -> figure -> {value, low, high, n}, and for STEER's rules ``threshold``; all on the same test questions.

    ``accuracy``, ``against_large`` (paired), ``steps_by_large``, ``tokens_by_large``, ``discarded`` (of the tokens that
    are kept), ``large_tokens_saved`` and ``flops_saved`` against the large policy alone, prompts and re-reading
    included.
    """
    task = pair.recipe.task
    held_out = task.rows("validation" if "validation" in task.splits else "train", settings.fitted, seed=settings.seed)
    rows = task.rows("test", settings.questions, seed=settings.seed)
    watched = [_Watched() for _ in held_out]
    pair.run(held_out, lambda number: watched[number], "fit small alone")
    alone = pair.run(held_out, lambda _: FixedRate(1), "fit large alone")
    found: dict[str, Run] = {}
    chosen: dict[str, float] = {}
    runs: dict[str, Callable[[int], HandOver]] = {
        "large alone": lambda _: FixedRate(1),
        "small alone": lambda _: FixedRate(0),
    }
    for moment in ("before", "after"):
        values = [value for each in watched for value in getattr(each, moment + "_values")]
        try:
            mixture = Mixture.fit(values)
        except ValueError as error:
            raise ConfigError(f"midstream: the small policy's steps have {error}") from error
        threshold = _choose(pair, held_out, alone, mixture, moment)
        chosen[f"steer {moment}"] = threshold
        runs[f"steer {moment}"] = _always(Steer(mixture, threshold, moment))  # type: ignore[arg-type]
    runs |= {"every second step": lambda _: FixedRate(2), f"judged below {JUDGED}": lambda _: Judge(JUDGED)}
    for name, make in runs.items():
        found[name] = pair.run(rows, make, name)
        if name in chosen:
            share = found[name].share
            lot = f"by lot at the share of {name}"
            found[lot] = pair.run(rows, lambda number, share=share: RandomShare(share, seed=number), lot)  # type: ignore[misc]
    measured = {name: _figures(run, found["large alone"], settings.seed) for name, run in found.items()}
    for name, threshold in chosen.items():
        measured[name]["threshold"] = asdict(Interval(threshold, None, None, settings.fitted))
    return measured


def _choose(pair: Pair, rows: Sequence[dict[str, Any]], alone: Run, mixture: Mixture, moment: str) -> float:
    tried = []
    for threshold in THRESHOLDS:
        rule = _always(Steer(mixture, threshold, moment))  # type: ignore[arg-type]
        run = pair.run(rows, rule, f"fit steer {moment} {threshold}")
        tried.append((threshold, float(run.correct.mean()), float(run.flops.mean())))
    enough = [each for each in tried if each[1] >= float(alone.correct.mean())]
    return min(enough, key=lambda each: each[2])[0] if enough else max(tried, key=lambda each: (each[1], -each[2]))[0]


def _always(rule: HandOver) -> Callable[[int], HandOver]:
    return lambda _: rule


def _figures(run: Run, alone: Run, seed: int) -> dict[str, Any]:
    n = len(run.correct)
    steps = np.array([len(each.by_large) for each in run.solved])
    tokens = np.array([each.tokens for each in run.solved])
    by_large = np.array([sum(each.by_large) for each in run.solved])
    large, all_large = (np.array([each.large_tokens for each in of.solved]) for of in (run, alone))
    figures = {
        "accuracy": wilson(int(run.correct.sum()), n),
        "against_large": mean_interval(run.correct - alone.correct, seed=seed),
        "steps_by_large": ratio_interval(by_large, steps, seed=seed),
        "tokens_by_large": ratio_interval([each.written_by_large for each in run.solved], tokens, seed=seed),
        "discarded": ratio_interval([each.discarded for each in run.solved], tokens, seed=seed),
        "large_tokens_saved": ratio_interval(all_large - large, all_large, seed=seed),
        "flops_saved": ratio_interval(alone.flops - run.flops, alone.flops, seed=seed),
    }
    return {name: asdict(each) for name, each in figures.items()}


class _Watched:
    """Hands nothing over and keeps the confidences, before each step and after it."""

    def __init__(self) -> None:
        self.before_values: list[float] = []
        self.after_values: list[float] = []

    def before(self, number: int, confidence: Callable[[], float]) -> bool:
        self.before_values.append(confidence())
        return False

    def after(self, step: Any, judged: Callable[[], float]) -> bool:
        self.after_values.append(step.confidence)
        return False
