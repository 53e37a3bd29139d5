"""How sure the model is: confidence estimators, their recalibration and the metrics that judge them.

``ESTIMATORS`` is the only list of estimators: name -> class, imported when it is asked for, so that metrics and the
gate load neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from estimators.confidence import Confidence
    from estimators.estimator import Estimator

__all__ = ["ESTIMATORS", "Confidence"]

_PLACES = {
    "verbalized": "verbalized:Verbalized",
    "prior_confidence": "verbalized:PriorConfidence",
    "expected_confidence": "expected_confidence:ExpectedConfidence",
    "confidence_token": "expected_confidence:ConfidenceToken",
    "answer_probability": "answer_span:AnswerProbability",
    "answer_min_probability": "answer_span:AnswerMinProbability",
    "answer_log_prob": "token_means:AnswerLogProb",
    "answer_entropy": "token_means:AnswerEntropy",
    "answer_self_certainty": "token_means:AnswerSelfCertainty",
    "answer_max_probability": "token_means:AnswerMaxProbability",
    "answer_margin": "token_means:AnswerMargin",
    "mean_log_prob": "token_means:MeanLogProb",
    "entropy": "token_means:Entropy",
    "self_certainty": "token_means:SelfCertainty",
    "mean_max_probability": "token_means:MeanMaxProbability",
    "mean_step_confidence": "step_confidence:MeanStepConfidence",
    "lowest_step_confidence": "step_confidence:LowestStepConfidence",
    "step_confidence_variance": "step_confidence:StepConfidenceVariance",
    "trace_confidence": "group_confidence:TraceConfidence",
    "lowest_group_confidence": "group_confidence:LowestGroupConfidence",
    "bottom_group_confidence": "group_confidence:BottomGroupConfidence",
    "tail_confidence": "group_confidence:TailConfidence",
    "head_confidence": "group_confidence:HeadConfidence",
    "p_true": "p_true:PTrue",
    "yes_no": "p_true:YesNo",
    "agreement": "agreement:Agreement",
    "semantic_entropy": "agreement:SemanticEntropy",
    "length": "length:Length",
    "base_rate": "base_rate:BaseRate",
    "corpus_pair": "corpus:CorpusPair",
    "corpus_entity": "corpus:CorpusEntity",
    "hidden_probe": "hidden_probe:HiddenProbe",
    "critic": "critic:CriticValue",
}


class _Estimators(Mapping[str, "type[Estimator]"]):
    """Name -> class of an estimator, imported at the first look."""

    def __getitem__(self, name: str) -> type[Estimator]:
        module, _, kind = _PLACES[name].partition(":")
        found: type[Estimator] = getattr(import_module(f"estimators.{module}"), kind)
        return found

    def __contains__(self, name: object) -> bool:
        return name in _PLACES

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


ESTIMATORS: Mapping[str, type[Estimator]] = _Estimators()
"""Every estimator that a recipe, a reward term or a listing may name."""


def __getattr__(name: str) -> Any:
    if name == "Confidence":  # which needs numpy, where the list of names does not
        from estimators.confidence import Confidence

        return Confidence
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
