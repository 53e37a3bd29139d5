"""Alarms of calibration training: conditions on the metrics that a run logs, each with its threshold and its cure.

A condition looks at means over the last ``window`` records and, where something is said to have changed, over the first
``window``: a single batch is too noisy to say anything. Means without two whole windows change nothing. All is plain
values in and out; the callback around it is :mod:`rl.monitoring.monitors`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rewards.nearest import nearest
from rewards.rubric import Rubric
from rewards.scoring_rules import Scheme
from rl.monitoring.history import History

_LEVELS_OF_CONFIDENCE = np.linspace(0.0, 1.0, 11)[1:-1]


@dataclass(frozen=True)
class MonitorSettings:
    """Thresholds of the alarms: the ``monitors`` section of a recipe. Raises ValueError for values out of range."""

    on_alarm: Literal["warn", "stop"] = "warn"
    """``stop`` ends the run at the first alarm, with a checkpoint."""
    ignore: tuple[str, ...] = ()
    """Alarms that are never raised."""
    window: int = 10
    """Records averaged over. Ten batches of 128 put the standard error of an accuracy at .014."""
    min_confidence_spread: float = 0.02
    """Standard deviation of the stated confidences: under a fifth of the .1 between two usual levels, nearly all
    completions say the same."""
    confidence_patience: int = 50
    """Steps that a run has whose confidences are all one from the start, out of habit, before that is an alarm: no
    confidence has collapsed there, and the closed-form loss takes a dozen steps to tell them apart. A spread that was
    there and is lost is an alarm at once; 0 waits for nothing."""
    min_confidence_entropy: float = 0.01
    """Nats at the confidence token: below it a group of eight hardly ever holds two confidences to compare."""
    max_accuracy_drop: float = 0.05
    """Fall of accuracy since the start that is taken for one: 3.6 standard errors of ten batches of 128."""
    max_non_answer_rise: float = 0.1
    """Rise of the share of non-answers: learning the format makes it fall, never rise."""
    max_truncated_unparsed: float = 0.1
    """Share of completions cut off before their confidence: each of them earns the worst confidence reward."""
    max_zero_share: float = 0.98
    """Share of completions that a term gives no advantage: above it, less than one in fifty carries its gradient. A
    policy that is sure of its answers, as the shipped ones, stays at .9 and learns calibration all the same."""
    max_uniform_group_ratio: float = 0.5
    """Mean size of the advantages in groups that were all right or all wrong, by that over the whole batch. Without
    scaling it is small, since only confidences differ there; scaled by the group it comes to 1."""
    max_gradient_ratio: float = 100.0
    """Gradient norm of one part of the loss by that of another: above it, the other hardly has a say in a step."""
    min_level_mass: float = 0.5
    """Probability of all confidence levels together where one is to be stated: below it, most tokens there are none."""
    max_unparsed_confidence: float = 0.5
    """Share of completions without a confidence that can be read: above it, most of them are paid the price of that."""
    max_heldout_rise: float = 0.03
    """Rise of the held-out Brier score over its best: two standard errors of 256 questions."""

    def __post_init__(self) -> None:
        for name in self.ignore:
            if name not in ALARMS:
                raise ValueError(f"monitors.ignore: {name!r} is not one of {', '.join(ALARMS)}{nearest(name, ALARMS)}")
        if self.window < 1:
            raise ValueError(f"monitors.window: {self.window} is below 1")
        for each in dataclasses.fields(self):
            if each.type in ("float", "int") and getattr(self, each.name) < 0:
                raise ValueError(f"monitors.{each.name}: {getattr(self, each.name)} is below 0")


@dataclass(frozen=True)
class RunFacts:
    """What the alarms need to know of a run beside its metrics: names of reward terms."""

    calibrating: tuple[str, ...]
    """Terms that pay by the stated confidence, with a weight."""
    graded: tuple[str, ...]
    """Terms with a weight that pay by right and wrong or by a signal, through the policy gradient. The others can be
    satisfied by all completions at once, where no advantage is no loss."""
    scaled_by_group: tuple[str, ...]
    """Calibrating terms whose advantages are divided by the standard deviation of the group."""

    @classmethod
    def of(cls, rubric: Rubric, scaling: str, *, closed_form: bool) -> RunFacts:
        """Read it off a rubric, the trainer's scaling and whether calibration is taken in closed form."""
        calibrating, graded, scaled = [], [], []
        rows = zip(rubric.terms, rubric.weights.tolist(), rubric.schedules, rubric.pays_for, strict=True)
        for term, weight, schedule, field in rows:
            if not weight:
                continue
            if field == "confidence":
                calibrating.append(term.name)
            if field and closed_form:
                continue
            if term.signals or _tells_right_from_wrong(term.scheme()):
                graded.append(term.name)
            if field and (schedule.scaling or scaling) in ("group", "gdpo"):
                scaled.append(term.name)
        return cls(tuple(calibrating), tuple(graded), tuple(scaled))


@dataclass(frozen=True)
class Alarm:
    """An alarm that was raised: what it saw, from which step on, and the recipe keys that mend it, as `remedy`."""

    alarm: str
    step: int
    since: int
    saw: str
    remedy: str

    def __str__(self) -> str:
        return f"alarm {self.alarm} at step {self.step}, since step {self.since}: {self.saw}. {self.remedy}"


Finding = tuple[int, str]
"""Since which step, and what was seen."""


def confidence_collapse(history: History, settings: MonitorSettings, facts: RunFacts) -> Finding | None:
    """All completions state one confidence, or none is tried any more while a constant would be better calibrated."""
    spread, distinct = history.mean("calibration/confidence_std"), history.mean("calibration/distinct_confidences")
    entropy, brier = history.mean("calibration/confidence_entropy"), history.mean("calibration/brier")
    accuracy = history.mean("calibration/accuracy")
    if not facts.calibrating or spread is None or distinct is None:
        return None
    nats = "" if entropy is None else f", entropy at the confidence token {entropy:.3f} nats"
    seen = f"confidences spread by {spread:.3f} over {distinct:.1f} distinct values a batch{nats}"
    since = history.since("calibration/confidence_std")
    if spread < settings.min_confidence_spread:
        started_so = history.first_mean("calibration/confidence_std") < settings.min_confidence_spread
        if started_so and history.latest("calibration/confidence_std") < settings.confidence_patience:
            return None
        return since, f"{seen}; less than {settings.min_confidence_spread:g} is one confidence for every question"
    if entropy is None or accuracy is None or brier is None or entropy >= settings.min_confidence_entropy:
        return None
    constant = accuracy * (1 - accuracy)
    return (since, f"{seen}, with Brier {brier:.3f} where a constant has {constant:.3f}") if brier > constant else None


def wrong_on_purpose(history: History, settings: MonitorSettings, facts: RunFacts) -> Finding | None:
    """Accuracy falls, and with it that of the answers of low confidence, of which there are ever more."""
    accuracy, low = history.change("calibration/accuracy"), history.change("calibration/low_confidence_accuracy")
    share = history.change("calibration/low_confidence_share")
    if accuracy is None or low is None or share is None:
        return None
    fell = accuracy.before - accuracy.now > max(settings.max_accuracy_drop, accuracy.noise)
    if not (fell and low.now < low.before and share.now > share.before):
        return None
    return accuracy.since, (
        f"accuracy fell from {accuracy.before:.3f} to {accuracy.now:.3f}, that of answers with confidence below .5 "
        f"from {low.before:.3f} to {low.now:.3f}, and their share rose from {share.before:.3f} to {share.now:.3f}"
    )


def non_answers(history: History, settings: MonitorSettings, facts: RunFacts) -> Finding | None:
    """Ever more completions decline to answer or have no answer that can be read."""
    share = history.change("parse/non_answer")
    if share is None or share.now - share.before <= max(settings.max_non_answer_rise, share.noise):
        return None
    return share.since, f"the share of non-answers rose from {share.before:.3f} to {share.now:.3f}"


def normalisation(history: History, settings: MonitorSettings, facts: RunFacts) -> Finding | None:
    """A calibration term scaled by the group pushes groups that were all right or all wrong."""
    push = history.mean("advantages/uniform_group_ratio")
    if not facts.scaled_by_group or push is None or push <= settings.max_uniform_group_ratio:
        return None
    right, wrong = (history.mean(f"groups/all_{word}") or 0.0 for word in ("right", "wrong"))
    return history.since("advantages/uniform_group_ratio"), (
        f"{' and '.join(facts.scaled_by_group)} divided by the group's deviation: the {right:.0%} of groups that "
        f"were all right and the {wrong:.0%} all wrong got advantages of {push:.2f} times the batch's mean size, for "
        "differences of confidence only"
    )


def truncation(history: History, settings: MonitorSettings, facts: RunFacts) -> Finding | None:
    """Completions are cut off before they state their confidence."""
    share = history.mean("parse/truncated_unparsed")
    if share is None or share <= settings.max_truncated_unparsed:
        return None
    return history.since("parse/truncated_unparsed"), f"{share:.1%} of completions were cut off before their confidence"


def drowned_gradient(history: History, settings: MonitorSettings, facts: RunFacts) -> Finding | None:
    """Correctness or calibration has a gradient that is small beside another part's; a KL may be as small as it is."""
    norms = {part: history.mean(f"grad_norm/{part}", least=2) for part in ("correctness", "calibration", "kl")}
    known = {part: norm for part, norm in norms.items() if norm is not None}
    if len(known) < 2 or not facts.calibrating or not facts.graded:
        return None
    loudest = max(known, key=lambda part: known[part])
    drowned = [
        part
        for part, norm in known.items()
        if part not in (loudest, "kl") and norm * settings.max_gradient_ratio < known[loudest]
    ]
    if not drowned:
        return None
    quiet = " and ".join(f"of {part} {known[part]:.3g}" for part in drowned)
    return history.since(f"grad_norm/{drowned[0]}"), (
        f"gradient norm {quiet}, of {loudest} {known[loudest]:.3g}, over {settings.max_gradient_ratio:g} times that"
    )


def unread_confidence(history: History, settings: MonitorSettings, facts: RunFacts) -> Finding | None:
    """Most completions state no confidence that can be read, or the policy hardly ever writes a declared level."""
    mass, unparsed = history.mean("calibration/level_mass"), history.mean("parse/unparsed_confidence")
    if not facts.calibrating:
        return None
    if unparsed is not None and unparsed > settings.max_unparsed_confidence:
        return history.since("parse/unparsed_confidence"), f"{unparsed:.1%} of confidences could not be read"
    if mass is not None and mass < settings.min_level_mass:
        return history.since("calibration/level_mass"), f"the levels together have a probability of {mass:.3g}"
    return None


def zero_advantage(history: History, settings: MonitorSettings, facts: RunFacts) -> Finding | None:
    """A term is the same for all siblings of nearly every group, and gives no gradient."""
    shares = {name: history.mean(f"advantages/{name}/zero_share") for name in facts.graded}
    idle = {name: share for name, share in shares.items() if share is not None and share > settings.max_zero_share}
    if not idle:
        return None
    since = min(history.since(f"advantages/{name}/zero_share") for name in idle)
    listed = " and ".join(f"{name} gave {share:.1%} of completions no advantage" for name, share in idle.items())
    return since, listed


def heldout_drift(history: History, settings: MonitorSettings, facts: RunFacts) -> Finding | None:
    """The training reward is above, and the held-out Brier score worse than, where that score was best; twice."""
    if len(history.probes) < 3:
        return None
    *earlier, before, last = history.probes
    step, brier, reward = min(earlier, key=lambda probe: probe[1])
    if not all(probe[1] - brier > settings.max_heldout_rise and probe[2] > reward for probe in (before, last)):
        return None
    return before[0], (
        f"held-out Brier rose from {brier:.3f} at step {step} to {last[1]:.3f} while the training reward rose from "
        f"{reward:.3f} to {last[2]:.3f}"
    )


Condition = Callable[[History, MonitorSettings, RunFacts], Finding | None]
ALARMS: dict[str, tuple[Condition, str]] = {
    "confidence_collapse": (
        confidence_collapse,
        "Raise trainer.confidence_entropy_coef (closed form) or trainer.temperature, or lower trainer.learning_rate",
    ),
    "wrong_on_purpose": (
        wrong_on_purpose,
        "Raise rubric.accuracy.weight or lower the weights of the calibration terms; candor audit shows what they pay",
    ),
    "non_answers": (
        non_answers,
        "Raise rubric.format.weight or rubric.accuracy.weight, or make abstaining earn less",
    ),
    "normalisation": (normalisation, "Set trainer.scaling (or the term's own scaling) to none"),
    "truncation": (truncation, "Raise trainer.max_completion_length, or add the term rubric.truncated"),
    "drowned_gradient": (
        drowned_gradient,
        "Raise the weights of the part that is drowned (rubric.accuracy.weight; trainer.confidence_loss_weight), or "
        "lower those of the other (trainer.beta for the KL)",
    ),
    "unread_confidence": (
        unread_confidence,
        "Train the levels of task.template.levels in by a supervised warm start (trainer.method: sft), or raise "
        "trainer.level_mass_coef or rubric.format.weight",
    ),
    "zero_advantage": (
        zero_advantage,
        "Raise trainer.num_generations or trainer.temperature, or change the task section to questions that are "
        "neither all easy nor all hard",
    ),
    "heldout_drift": (
        heldout_drift,
        "Stop at an earlier checkpoint (lower trainer.max_steps), raise trainer.beta or lower trainer.learning_rate",
    ),
}
"""Alarm -> its condition and what to change."""


def check(history: History, settings: MonitorSettings, facts: RunFacts) -> dict[str, Finding | None]:
    """What each alarm that is not ignored sees in a history."""
    return {
        name: condition(history, settings, facts)
        for name, (condition, _) in ALARMS.items()
        if name not in settings.ignore
    }


def _tells_right_from_wrong(scheme: Scheme) -> bool:
    right, wrong = scheme.right(_LEVELS_OF_CONFIDENCE), scheme.wrong(_LEVELS_OF_CONFIDENCE)
    return bool(np.abs(right - wrong).max() > 0)
