"""Keys of the ``trainer`` section for methods that train on what the policy has written before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from trl import DPOConfig, RewardConfig

from rl.confidence_tokens import TRAINED_ANSWERS
from rl.config import CalibratedSFTConfig, GuardConfig

CONFIDENCE_TARGETS = ("own", "question")
DECODINGS = ("sampled", "branches")
AMONG = ("different", "equally_right", "all")
VERDICT = "verdict"
"""The feedback that is no self-feedback: right before wrong, the control."""

# What a key says, where configurations differ in its default.
_PER_QUESTION = {"help": "Answers to each training question."}
_TEMPERATURE = {"help": "Temperature that answers are sampled at; 0: greedy, one answer a question."}
_TRAINED = {
    "help": "Whose answers' tokens are learnt beside the confidence: those of right answers (Self-REF's mask), of all, "
    "or of none, with which the answers go: weights are shared, and nothing holds them."
}


@dataclass
class OwnAnswersConfig:
    """How the policy answers its training questions, to stand among the bases of a configuration."""

    own_answers: str | None = field(
        default=None,
        metadata={
            "help": "The own_answers.parquet that an earlier run has left: its answers, judged, are trained on "
            "again, in the first round. Left out, the policy answers the task's training questions itself."
        },
    )
    answers_per_question: int = field(default=1, metadata=_PER_QUESTION)
    answers_temperature: float = field(default=0.0, metadata=_TEMPERATURE)
    answers_max_tokens: int = field(default=256, metadata={"help": "Tokens of an answer, at most."})
    answers_batch_size: int = field(default=250, metadata={"help": "Answers that are written at a time."})

    def check_answers(self) -> None:
        """Raise ValueError for numbers that are not possible, and for several greedy answers."""
        for name in ("answers_per_question", "answers_max_tokens", "answers_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"trainer.{name}: {getattr(self, name)} is below 1")
        if not 0.0 <= self.answers_temperature < float("inf"):
            raise ValueError(f"trainer.answers_temperature: {self.answers_temperature} is not from 0 up and finite")

    def check_one_of(self, name: str, allowed: Sequence[str]) -> None:
        """Raise ValueError where a key has none of the values that it may have."""
        if getattr(self, name) not in allowed:
            raise ValueError(f"trainer.{name}: {getattr(self, name)!r} is not one of {', '.join(allowed)}")


@dataclass
class _JudgedConfig(OwnAnswersConfig, CalibratedSFTConfig):
    trained_answers: str = field(default="right", metadata=_TRAINED)

    def __post_init__(self) -> None:
        self.check_answers()
        if self.answers_per_question > 1 and not self.answers_temperature:
            raise ValueError(
                f"trainer.answers_per_question: {self.answers_per_question} greedy answers are the same; set "
                "trainer.answers_temperature above 0"
            )
        self.check_one_of("trained_answers", TRAINED_ANSWERS)
        super().__post_init__()


@dataclass
class SelfRefConfig(_JudgedConfig):
    """TRL's ``SFTConfig`` for :mod:`rl.confidence_tokens`."""

    unconfident_ratio: float | None = field(
        default=None,
        metadata={
            "help": "Wrong answers for each right one, at most (the paper's alpha); the others are left out by lot. "
            "Left out: all stay, and the confidence is that of the training questions."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unconfident_ratio is not None and not 0.0 < self.unconfident_ratio < float("inf"):
            raise ValueError(f"trainer.unconfident_ratio: {self.unconfident_ratio} is not above 0 and finite")


@dataclass
class RecalibrateConfig(_JudgedConfig):
    """TRL's ``SFTConfig`` for a stated confidence that is restored after reinforcement learning (arXiv 2603.06604)."""

    answers_per_question: int = field(default=8, metadata=_PER_QUESTION)
    answers_temperature: float = field(default=1.0, metadata=_TEMPERATURE)
    trained_answers: str = field(default="all", metadata=_TRAINED)
    confidence_target: str = field(
        default="question",
        metadata={
            "help": "What an answer is to state. own: its own verdict, 0 or 1, so that the mean over the levels is "
            "P(correct); question: the share of right ones among the answers to its question."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_one_of("confidence_target", CONFIDENCE_TARGETS)
        if self.confidence_target == "question" and self.answers_per_question < 2 and self.own_answers is None:
            raise ValueError(
                "trainer.confidence_target: 'question' needs several answers to each, set trainer.answers_per_question "
                "and trainer.answers_temperature, or 'own'"
            )


@dataclass
class _PreferenceConfig(OwnAnswersConfig):
    """How answers become pairs, to stand among the bases of a configuration (:mod:`rl.self_feedback`)."""

    answers_decoding: str = field(
        default="branches",
        metadata={
            "help": "branches: the likeliest first tokens, each gone on with greedily (CoT-decoding, arXiv "
            "2402.10200); sampled: answers_per_question samples at answers_temperature."
        },
    )
    feedback: str = field(
        default="answer_margin",
        metadata={
            "help": "Estimator by which the answers to a question are ranked, of those in [0, 1] that read the tokens; "
            "verdict: right before wrong, which is not label-free (the control)."
        },
    )
    pairs_among: str = field(
        default="different",
        metadata={
            "help": "Which answers are compared: those to one question that are different, those that are equally "
            "right (which needs verdicts), or all."
        },
    )
    least_confidence: float = field(
        default=0.0, metadata={"help": "Confidence of the preferred answer, at least; .9 in the paper's code."}
    )
    least_lead: float = field(
        default=0.0, metadata={"help": "By how much the preferred answer is surer, more than this."}
    )
    pairs_per_question: int = field(
        default=4, metadata={"help": "Pairs of a question, at most: those with the largest lead."}
    )

    def check_pairs(self) -> None:
        """Raise ValueError for what makes no pairs."""
        self.check_answers()
        self.check_one_of("answers_decoding", DECODINGS)
        if self.answers_decoding == "sampled" and not self.answers_temperature:
            raise ValueError(
                "trainer.answers_temperature: 0 samples the same answer again and again; set it above 0, or "
                "trainer.answers_decoding: branches"
            )
        if self.answers_decoding == "branches" and self.answers_temperature:
            raise ValueError(
                f"trainer.answers_temperature: {self.answers_temperature} has no effect on branches, which are gone on "
                "with greedily; set trainer.answers_decoding: sampled"
            )
        if self.answers_per_question < 2:
            raise ValueError(
                f"trainer.answers_per_question: {self.answers_per_question} is below 2, nothing to compare"
            )
        self.check_one_of("pairs_among", AMONG)
        if self.feedback == VERDICT and self.pairs_among == "equally_right":
            raise ValueError("trainer.pairs_among: 'equally_right' leaves no pairs to feedback: verdict")
        if self.pairs_per_question < 1:
            raise ValueError(f"trainer.pairs_per_question: {self.pairs_per_question} is below 1")
        for name in ("least_confidence", "least_lead"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"trainer.{name}: {getattr(self, name)} is not in [0, 1]")


@dataclass
class SelfFeedbackDPOConfig(_PreferenceConfig, GuardConfig, DPOConfig):
    """TRL's ``DPOConfig`` for :mod:`rl.self_feedback`."""

    answers_per_question: int = field(default=10, metadata=_PER_QUESTION)
    rounds: int = field(
        default=1,
        metadata={"help": "How often the policy answers anew and is trained on, max_steps each time."},
    )

    def __post_init__(self) -> None:
        self.check_pairs()
        if self.rounds < 1:
            raise ValueError(f"trainer.rounds: {self.rounds} is below 1")
        super().__post_init__()


@dataclass
class SelfFeedbackRewardConfig(_PreferenceConfig, GuardConfig, RewardConfig):
    """TRL's ``RewardConfig`` for :mod:`rl.self_feedback`."""

    answers_per_question: int = field(default=10, metadata=_PER_QUESTION)

    def __post_init__(self) -> None:
        self.check_pairs()
        super().__post_init__()
