"""Calibration, selective prediction and routing metrics: tie-safe, exact at the edges, with intervals.

A confidence is the probability in [0, 1] that the answer is right, as the router sees it: where none could be read,
the caller passes 0.0. Anything outside [0, 1], NaN included, raises ``ValueError`` naming the index and the value.
"""

from estimators.metrics.calibration import ReliabilityBin, brier, ece, ece_noise_floor, reliability
from estimators.metrics.resampling import Interval, bootstrap, clopper_pearson, paired_difference, wilson
from estimators.metrics.routing import (
    RoutingCurve,
    escalation_rate_to_parity,
    oracle_curve,
    random_curve,
    routing_curve,
)
from estimators.metrics.selective import augrc, aurc, auroc, confident_error_rate, selective_accuracy
from estimators.metrics.summary import summarize

__all__ = [
    "Interval",
    "ReliabilityBin",
    "RoutingCurve",
    "augrc",
    "aurc",
    "auroc",
    "bootstrap",
    "brier",
    "clopper_pearson",
    "confident_error_rate",
    "ece",
    "ece_noise_floor",
    "escalation_rate_to_parity",
    "oracle_curve",
    "paired_difference",
    "random_curve",
    "reliability",
    "routing_curve",
    "selective_accuracy",
    "summarize",
    "wilson",
]
