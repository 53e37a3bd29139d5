"""Templates that tests of reading and writing share, and a completion for them."""

from __future__ import annotations

from rewards.completion import ParseStatus
from rewards.template import AnswerTemplate

S = ParseStatus


PLAIN = AnswerTemplate()


ANALYSED = AnswerTemplate(analysis="optional")


FULL = AnswerTemplate(thinking="required", analysis="required")


TERSE = AnswerTemplate(thinking="none")


SILENT = AnswerTemplate(confidence="none")


LEVELS = AnswerTemplate(levels=("0.0", "0.5", "1.0"))


UNSURE = AnswerTemplate(abstain="I don't know")


STAKED = AnswerTemplate(analysis="optional", step_confidences="optional")


FORESEEN = AnswerTemplate(prior_confidence="required")


def tagged(answer: str = "7", confidence: str = "0.9") -> str:
    return f"<answer>{answer}</answer><confidence>{confidence}</confidence>"
