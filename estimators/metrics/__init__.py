"""Calibration, selective prediction and routing metrics: tie-safe, exact at the edges, with intervals.

A confidence is the probability in [0, 1] that the answer is right, as the router sees it: where none could be read,
the caller passes 0.0. Anything outside [0, 1], NaN included, raises ``ValueError`` naming the index and the value.
"""

from estimators.metrics.calibration import (
    ReliabilityBin,
    ace,
    brier,
    confidence_bias,
    ece,
    ece_debiased,
    ece_equal_mass,
    ece_noise_floor,
    mce,
    nll,
    reliability,
    smooth_ece,
)
from estimators.metrics.decomposition import BrierDecomposition, brier_decomposition
from estimators.metrics.resampling import Interval, bootstrap, clopper_pearson, paired_difference, wilson
from estimators.metrics.routing import (
    RoutingCurve,
    escalation_rate_to_parity,
    oracle_curve,
    random_curve,
    routing_curve,
)
from estimators.metrics.selective import (
    augrc,
    aupr,
    aupr_error,
    aurc,
    auroc,
    confident_error_rate,
    coverage_at_risk,
    eaurc,
    fpr95,
    prr,
    risk_at_coverage,
    selective_accuracy,
)
from estimators.metrics.summary import summarize

__all__ = [
    "BrierDecomposition",
    "Interval",
    "ReliabilityBin",
    "RoutingCurve",
    "ace",
    "augrc",
    "aupr",
    "aupr_error",
    "aurc",
    "auroc",
    "bootstrap",
    "brier",
    "brier_decomposition",
    "clopper_pearson",
    "confidence_bias",
    "confident_error_rate",
    "coverage_at_risk",
    "eaurc",
    "ece",
    "ece_debiased",
    "ece_equal_mass",
    "ece_noise_floor",
    "escalation_rate_to_parity",
    "fpr95",
    "mce",
    "nll",
    "oracle_curve",
    "paired_difference",
    "prr",
    "random_curve",
    "reliability",
    "risk_at_coverage",
    "routing_curve",
    "selective_accuracy",
    "smooth_ece",
    "summarize",
    "wilson",
]
