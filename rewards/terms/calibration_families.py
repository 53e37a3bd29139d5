"""Calibration terms whose rule has a shape to choose: how errors at low and high confidence compare, and a control.

Options that all calibration terms have, and their value by parse status: :class:`CalibrationTerm`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rewards import scoring_rules
from rewards.scoring_rules import Scheme
from rewards.terms.calibration import CalibrationTerm


@dataclass(frozen=True)
class OverconfidenceTerm(CalibrationTerm):
    """Overconfidence-k (arXiv 2607.04332, Table 1), in [-1, 0]: forgives confident wrong answers more.

    Strictly proper, safe up to the weight of accuracy for every k in [0.01, 1e6].

    >>> import numpy as np
    >>> OverconfidenceTerm(k=4.0).scheme().wrong(np.array([0.0, 0.5, 1.0])).round(3).tolist()
    [0.0, -0.223, -0.591]
    """

    name: ClassVar[str] = "overconfidence"
    formula: ClassVar[str] = "t f(c) + (1 - t) g(c), g = (ln(1 + ck) - ck) / s, f = g + k ln(1 + ck) / s - 1"
    paper: ClassVar[str] = "arXiv 2607.04332"
    method: ClassVar[str] = "Overconfidence-k"
    k: float = 4.0

    def scheme(self) -> Scheme:
        """What the term pays at each confidence: f if right, g if wrong, with s = (k + 1) ln(k + 1) - k."""
        return scoring_rules.overconfidence_scheme(self.k)


@dataclass(frozen=True)
class UnderconfidenceTerm(CalibrationTerm):
    """Underconfidence-k (arXiv 2607.04332, Table 1), in [-1.7, 0] for k = 4: punishes confident wrong answers harder.

    Strictly proper, safe up to the weight of accuracy for every k in [0.01, 1e6].

    >>> import numpy as np
    >>> UnderconfidenceTerm(k=4.0).scheme().wrong(np.array([0.0, 0.5, 1.0])).round(3).tolist()
    [0.0, -0.232, -1.693]
    """

    name: ClassVar[str] = "underconfidence"
    formula: ClassVar[str] = "t f(c) + (1 - t) g(c), f = (ck + r) / s - 1, g = (ck + (k + 1) r) / s"
    paper: ClassVar[str] = "arXiv 2607.04332"
    method: ClassVar[str] = "Underconfidence-k"
    k: float = 4.0

    def scheme(self) -> Scheme:
        """What the term pays at each confidence: f if right, g if wrong; r = ln(1 - ck/(1 + k)), s = k - ln(1 + k)."""
        return scoring_rules.underconfidence_scheme(self.k)


@dataclass(frozen=True)
class ThresholdTerm(CalibrationTerm):
    """The cost of routing at one threshold (Schervish 1989), in [-max(t, 1 - t), 0] for ``threshold`` t in (0, 1).

    A right answer below the threshold, escalated for nothing, costs 1 - t; a wrong one at or above it costs t. Proper
    but not strictly: it teaches the side of the threshold and no more. Safe up to 1 / (1 - t) times the weight of
    accuracy.

    >>> import numpy as np
    >>> ThresholdTerm(threshold=0.8).scheme().wrong(np.array([0.7, 0.8, 0.9])).tolist()
    [0.0, -0.8, -0.8]
    """

    name: ClassVar[str] = "threshold"
    formula: ClassVar[str] = "-t (1 - threshold) 1[c < threshold] - (1 - t) threshold 1[c >= threshold]"
    threshold: float = 0.5

    def scheme(self) -> Scheme:
        """What the term pays at each confidence: threshold - 1 below it if right, -threshold from it on if wrong."""
        return scoring_rules.threshold_scheme(self.threshold)


@dataclass(frozen=True)
class ThresholdPriorTerm(CalibrationTerm):
    """The cost of routing at a threshold drawn from Beta(a, b) (arXiv 2512.19920), in [-max(a, b)/(a + b), 0].

    Strictly proper, safe up to (a + b) / b times the weight of accuracy. The prior says at which confidences a router
    is likely to decide, and there the rule is steepest; the uniform prior, a = b = 1, is half the Brier score.

    >>> import numpy as np
    >>> ThresholdPriorTerm(a=4.0, b=1.0).scheme().wrong(np.array([0.5, 0.75, 1.0])).round(3).tolist()
    [-0.025, -0.19, -0.8]
    """

    name: ClassVar[str] = "threshold_prior"
    formula: ClassVar[str] = "-t b/(a + b) (1 - I_c(a, b + 1)) - (1 - t) a/(a + b) I_c(a + 1, b)"
    paper: ClassVar[str] = "arXiv 2512.19920"
    method: ClassVar[str] = "Behaviorally Calibrated RL"
    a: float = 1.0
    b: float = 1.0

    def scheme(self) -> Scheme:
        """What the term pays at each confidence; I is the regularised incomplete beta function."""
        return scoring_rules.threshold_prior_scheme(self.a, self.b)


@dataclass(frozen=True)
class LinearTerm(CalibrationTerm):
    """The linear stake of DualStake (arXiv 2609.00935), (2t - 1) c' with c' = c in [low, high], in [-high, high].

    The improper control: its best confidence is ``high`` or ``low``, never the probability between them. The paper
    takes token F1 as its target: ``target: soft``. Safe up to 1 / (1 - 4 low) times the weight of accuracy.

    >>> import numpy as np
    >>> LinearTerm().scheme().right(np.array([0.0, 0.5, 1.0])).tolist()
    [0.1, 0.5, 0.9]
    """

    name: ClassVar[str] = "linear"
    formula: ClassVar[str] = "(2t - 1) c', c' = c in [low, high], -high where c is unparsed"
    paper: ClassVar[str] = "arXiv 2609.00935"
    method: ClassVar[str] = "DualStake"
    low: float = 0.1
    high: float = 0.9

    def scheme(self) -> Scheme:
        """What the term pays at each confidence: c' if right, -c' if wrong."""
        return scoring_rules.linear_scheme(self.low, self.high)
