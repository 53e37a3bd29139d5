"""Our metrics against torchmetrics 1.9.0 and relplot 1.0.3: their values where they are right, the right one where not.

The constants are what the libraries returned for the inputs written here, in double precision. They are stored, so that
the suite needs neither. Of torchmetrics' functions for binary tasks: ``calibration_error`` with ``norm="l1"`` (ECE of
equal width) and ``norm="max"`` (MCE), ``auroc`` and ``average_precision``; of relplot ``binnedECE`` (equal width) and
``smECE`` (reflected Gaussian kernel, arXiv 2309.12236).
"""

from __future__ import annotations

import numpy as np
import pytest

from estimators import metrics as m

CONFIDENCE = [0.03, 0.12, 0.27, 0.34, 0.41, 0.55, 0.58, 0.66, 0.72, 0.81, 0.87, 0.93]
CORRECT = [0, 0, 1, 0, 1, 0, 1, 1, 0, 1, 1, 1]
SINGLE = 1e-7
"""torchmetrics ranks in single precision."""


@pytest.mark.parametrize(("bins", "ece", "mce"), [(5, 0.1475, 0.195), (10, 0.2825, 0.73), (15, 0.2825, 0.73)])
def test_equal_width_errors_are_those_of_torchmetrics_and_relplot(bins, ece, mce):
    """Of twelve confidences, none on an edge; relplot has no MCE."""
    assert m.ece(CONFIDENCE, CORRECT, bins) == pytest.approx(ece)
    assert m.mce(CONFIDENCE, CORRECT, bins) == pytest.approx(mce)


def test_rankings_are_those_of_torchmetrics():
    assert m.auroc(CONFIDENCE, CORRECT) == pytest.approx(0.7999999523162842, abs=SINGLE)
    assert m.aupr(CONFIDENCE, CORRECT) == pytest.approx(0.8690475225448608, abs=SINGLE)
    assert m.aupr_error(CONFIDENCE, CORRECT) == pytest.approx(0.7944444417953491, abs=SINGLE)  # of 1 - c and 1 - y
    tied, right = [0.7] * 9 + [0.8], [1] * 7 + [0] * 3
    assert m.auroc(tied, right) == pytest.approx(0.3333333134651184, abs=SINGLE)
    assert m.aupr(tied, right) == pytest.approx(0.699999988079071, abs=SINGLE)
    assert m.aupr_error(tied, right) == pytest.approx(0.2481481432914734, abs=SINGLE)


def test_smooth_error_is_that_of_relplot_within_its_search():
    """relplot halves an interval ten times and gives the error at its end, ours is the fixed point."""
    assert m.smooth_ece(CONFIDENCE, CORRECT) == pytest.approx(0.09112346665765089, abs=1e-3)
    assert m.smooth_ece([0.7] * 9 + [0.8], [1] * 7 + [0] * 3) == pytest.approx(0.07446358757250694, abs=1e-3)
    rng = np.random.default_rng(0)
    confidence = rng.random(2000)
    correct = (rng.random(2000) < confidence**2).astype(float)
    assert m.smooth_ece(confidence, correct) == pytest.approx(0.16819, abs=5e-4)


# Where they are wrong.


@pytest.mark.parametrize("bins", [5, 10, 15])
def test_confidence_one_has_no_bin_of_its_own(bins):
    """Both give 0.525, torchmetrics an MCE of 1.0, with a further bin for 1.0: 0.95 and 1.0 share the last one."""
    assert m.ece([0.95, 1.0], [1, 0], bins) == pytest.approx(abs((0.95 + 1.0) / 2 - 0.5))
    assert m.mce([0.95, 1.0], [1, 0], bins) == pytest.approx(0.475)


def test_three_tenths_are_in_the_bin_that_they_open():
    """Both give 0.225: 0.3 lies below the edge as they compute it, 3 * 0.1, and shares a bin with 0.25."""
    assert m.ece([0.25, 0.3], [0, 1], 10) == pytest.approx((0.25 + 0.7) / 2)
    assert m.mce([0.25, 0.3], [0, 1], 10) == pytest.approx(0.7)


def test_confidences_of_one_have_their_whole_weight_in_the_smooth_error():
    """relplot reflects at an edge what lies on it only once, so that it weighs half: 0.3333 and 0.3014."""
    confidence, correct = [0.5] * 100 + [1.0] * 100, [0, 1] * 50 + [0] * 100
    assert m.smooth_ece(confidence, correct) == pytest.approx(0.5, abs=1e-3)  # all of it from the hundred wrong ones
    assert m.smooth_ece([0.95, 1.0], [1, 0]) == pytest.approx(abs(-0.05 + 1.0) / 2, abs=1e-3)
    assert m.smooth_ece([0.0] * 100 + [0.5] * 100, [1] * 100 + [0, 1] * 50) == pytest.approx(0.5, abs=1e-3)


def test_one_class_has_no_ranking():
    """torchmetrics gives an AUROC of 0.0, the worst there is, where nothing can be ranked, and -0.0 of errors."""
    assert m.auroc([0.2, 0.9], [1, 1]) is None
    assert m.aupr_error([0.2, 0.9], [1, 1]) is None


def test_percentages_are_refused():
    """torchmetrics takes 70 and 20 for logits, and gives the error of their sigmoids, 0.5."""
    with pytest.raises(ValueError, match=r"confidence\[0\] is 70.0, expected a number in \[0, 1\]"):
        m.ece([70.0, 20.0], [1, 0])


def test_what_lies_below_zero_is_refused():
    """relplot bins -0.3 and -0.9 from the end of the list and gives 1.1, more than an error can be."""
    with pytest.raises(ValueError, match=r"confidence\[0\] is -0.3"):
        m.ece([-0.3, -0.9], [1, 0])
