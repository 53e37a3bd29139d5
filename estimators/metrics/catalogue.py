"""Every metric that is summarised, by name: its value, and what its interval comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from estimators.metrics import binning, decomposition, influence, selective, smooth
from estimators.metrics.calibration import log_losses
from estimators.metrics.inputs import EDGE_TOLERANCE, FloatArray
from estimators.metrics.routing import (
    apgr_of,
    gain_over_random_of,
    parity_rate_of,
    quantile_rate_of,
    recovery_rate_of,
)
from estimators.metrics.ties import Ties

PARITY = "escalation_rate_to_parity"
THRESHOLDS = {
    "confident_error_rate": selective.CONFIDENT,
    "confident_error_rate_0.8": 0.8,
    "confident_error_rate_0.95": 0.95,
    "confident_error_rate_0.99": 0.99,
}
"""Share of wrong answers at a confidence of at least so much."""
TOLERANCES, RECOVERED = (0.005, 0.01), (0.5, 0.8)
"""Points of accuracy below the large model that still count as parity; shares of the gap to recover."""
QUANTILE_TOLERANCE = 0.004
"""The slack that Self-REF's own tables have (arXiv 2410.13284, tables 1 and 2)."""
ROUTING = (
    PARITY,
    *(f"{PARITY}_{tolerance}" for tolerance in TOLERANCES),
    "quantile_rate_to_parity",
    "apgr",
    *(f"cpt_{share}" for share in RECOVERED),
    "gain_over_random",
)
"""What needs a large model on the same questions."""
RISKS, COVERAGES = (0.01, 0.05, 0.1, 0.2), (0.5, 0.8, 0.9)

CORP = ("brier_miscalibration", "brier_discrimination", "brier_uncertainty")
ERRORS = ("ece_equal_mass", "ece_debiased", "smooth_ece", "mce", "ace", "overconfidence", "underconfidence")
"""Calibration errors beside the ECE."""
OF_PROBABILITIES = ("brier", "ece", "nll", *CORP, *ERRORS, *THRESHOLDS)
"""What reads confidences as probabilities, and says nothing about ranks."""

NAMES = (
    *("accuracy", "brier", "ece", "auroc", "confident_error_rate", "unparsed"),
    *ROUTING,
    "nll",
    *CORP,
    *ERRORS,
    *("aupr", "aupr_error", "fpr95", "aurc", "eaurc", "augrc", "prr"),
    *(f"coverage_at_risk_{risk}" for risk in RISKS),
    *(f"risk_at_coverage_{coverage}" for coverage in COVERAGES),
    *(name for name in THRESHOLDS if name != "confident_error_rate"),
)


@dataclass(frozen=True, slots=True)
class Statistic:
    """A metric of counts, ``of`` (R,), its influences (2, M) where it has any, and its range.

    ``resampled`` is false where resampling would mislead and only the influences give an interval.
    """

    of: Callable[[Ties], FloatArray]
    influence: Callable[[Ties], FloatArray] | None = None
    low: float = 0.0
    high: float = 1.0
    resampled: bool = True


@dataclass(frozen=True, slots=True)
class Distance:
    """A calibration error: ``of`` (R,), and the gaps (R, D) that it is the ``size`` (R,) of.

    ``distance`` is a norm of the difference of two rows of gaps that their sizes cannot differ by more than.
    """

    of: Callable[[Ties], FloatArray]
    gaps: Callable[[Ties], FloatArray]
    size: Callable[[FloatArray], FloatArray]
    distance: Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, slots=True)
class Edges:
    """Where bins and thresholds start among the distinct confidences, from the rows as they are."""

    width_B: NDArray[np.intp]
    mass_B: NDArray[np.intp]
    confident: dict[str, int]
    bandwidth: float

    @classmethod
    def of(cls, ties: Ties) -> Edges:
        """The edges of counts."""
        firsts = {name: int(np.searchsorted(ties.confidence_M, at - EDGE_TOLERANCE)) for name, at in THRESHOLDS.items()}
        bandwidth = smooth.fixed_point(smooth.residuals(ties))
        return cls(binning.width_starts(ties.confidence_M), binning.mass_starts(ties.count_RM[0]), firsts, bandwidth)

    def on(self, starts_K: NDArray[np.intp]) -> Edges:
        """The same edges among cells that start at ``starts_K``, every edge the start of a cell or the end of all."""

        def place(edges: NDArray[np.intp]) -> NDArray[np.intp]:
            return np.searchsorted(starts_K, edges)

        firsts = {name: int(np.searchsorted(starts_K, first)) for name, first in self.confident.items()}
        return Edges(place(self.width_B), place(self.mass_B), firsts, self.bandwidth)

    def all(self) -> NDArray[np.intp]:
        """Every edge, sorted."""
        return np.unique(np.concatenate([self.width_B, self.mass_B, list(self.confident.values())]))


def statistics() -> dict[str, Statistic]:
    """Name -> what is neither a proportion nor a calibration error."""
    parts = ("miscalibration", "discrimination", "uncertainty")
    found = {
        "brier": Statistic(decomposition.brier_of, influence.of_brier),
        "nll": Statistic(_nll_of, influence.of_nll, high=np.inf),
        **{
            f"brier_{part}": Statistic(partial(_part_of, number), partial(_influence_of_part, number), resampled=False)
            for number, part in enumerate(parts)
        },
        "auroc": Statistic(selective.auroc_of, influence.of_auroc),
        "aupr": Statistic(selective.aupr_of, influence.of_aupr),
        "aupr_error": Statistic(selective.aupr_error_of, influence.of_aupr_error),
        "fpr95": Statistic(selective.fpr95_of),
        "aurc": Statistic(selective.aurc_of, influence.of_aurc),
        "eaurc": Statistic(selective.eaurc_of, influence.of_eaurc),
        "augrc": Statistic(selective.augrc_of, influence.of_augrc),
        "prr": Statistic(selective.prr_of, influence.of_prr, low=-np.inf),
        PARITY: Statistic(parity_rate_of),
        **{f"{PARITY}_{each}": Statistic(partial(parity_rate_of, tolerance=each)) for each in TOLERANCES},
        "quantile_rate_to_parity": Statistic(partial(quantile_rate_of, tolerance=QUANTILE_TOLERANCE)),
        "apgr": Statistic(apgr_of, low=-np.inf, high=np.inf),
        **{f"cpt_{each}": Statistic(partial(recovery_rate_of, share=each)) for each in RECOVERED},
        "gain_over_random": Statistic(gain_over_random_of, low=-1.0),
    }
    found |= {
        f"coverage_at_risk_{risk}": Statistic(partial(selective.coverage_at_risk_of, risk=risk)) for risk in RISKS
    }
    return found | {
        f"risk_at_coverage_{coverage}": Statistic(partial(selective.risk_at_coverage_of, coverage=coverage))
        for coverage in COVERAGES
    }


def distances(edges: Edges) -> dict[str, Distance]:
    """Name -> calibration error with these edges."""

    def of(
        gaps: Callable[[Ties], FloatArray],
        size: Callable[[FloatArray], FloatArray],
        distance: Callable[[FloatArray], FloatArray],
    ) -> Distance:
        return Distance(lambda ties: size(gaps(ties)), gaps, size, distance)

    width = partial(binning.gap_shares, starts_B=edges.width_B)
    mass = partial(binning.gap_shares, starts_B=edges.mass_B)
    root = partial(binning.root_shares, starts_B=edges.mass_B)
    return {
        "ece": of(width, _sum, _sum),
        "ece_equal_mass": of(mass, _sum, _sum),
        "ece_debiased": Distance(partial(binning.debiased_of, starts_B=edges.mass_B), root, _root, _root),
        "smooth_ece": of(lambda ties: smooth.smoothed(smooth.residuals(ties), edges.bandwidth), _sum, _sum),
        "mce": of(partial(binning.bin_gaps, starts_B=edges.width_B), _largest, _largest),
        "ace": of(partial(binning.bin_gaps, starts_B=edges.mass_B), _mean, _mean),
        "overconfidence": of(width, lambda gaps: np.maximum(gaps, 0.0).sum(axis=1), _sum),
        "underconfidence": of(width, lambda gaps: np.maximum(-gaps, 0.0).sum(axis=1), _sum),
    }


def hits_of(ties: Ties, first: int | None) -> tuple[FloatArray, FloatArray]:
    """Wrong rows (R,) and rows (R,) from the tie ``first`` on; with None right rows and rows of all."""
    if first is None:
        return ties.total_right_R, ties.rows_R
    if first == len(ties.confidence_M):
        return np.zeros(len(ties.count_RM)), np.zeros(len(ties.count_RM))
    return ties.errors_RM[:, first], ties.kept_RM[:, first]


def share_of(ties: Ties, first: int | None) -> FloatArray:
    """:func:`hits_of` as a share (R,), NaN of no rows."""
    hits_R, among_R = hits_of(ties, first)
    share_R: FloatArray = np.divide(hits_R, among_R, out=np.full(len(hits_R), np.nan), where=among_R > 0)
    return share_R


def _nll_of(ties: Ties) -> FloatArray:
    right_M, wrong_M = log_losses(ties.confidence_M)
    losses_R: FloatArray = ties.right_RM @ right_M + ties.wrong_RM @ wrong_M
    return losses_R / ties.rows_R


def _part_of(number: int, ties: Ties) -> FloatArray:
    recalibrated = decomposition.mean_square(ties, ties.recalibrated_M)
    rate = float(ties.total_right_R[0] / ties.rows_R[0])
    uncertainty = rate * (1.0 - rate)
    brier = float(decomposition.brier_of(ties)[0])
    return np.array([(max(brier - recalibrated, 0.0), max(uncertainty - recalibrated, 0.0), uncertainty)[number]])


def _influence_of_part(number: int, ties: Ties) -> FloatArray:
    return influence.of_decomposition(ties)[number]


def _sum(gaps: FloatArray) -> FloatArray:
    total: FloatArray = np.abs(gaps).sum(axis=1)
    return total


def _mean(gaps: FloatArray) -> FloatArray:
    mean: FloatArray = np.abs(gaps).mean(axis=1)
    return mean


def _largest(gaps: FloatArray) -> FloatArray:
    largest: FloatArray = np.abs(gaps).max(axis=1)
    return largest


def _root(gaps: FloatArray) -> FloatArray:
    root: FloatArray = np.sqrt(np.vecdot(gaps, gaps))
    return root
