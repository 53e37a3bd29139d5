"""What the metrics mean that stand in ``metrics.json`` beside those of the headline table."""

from __future__ import annotations

from experiments.report.glossary import Metric


def _plain(key: str, label: str, better: str, meaning: str, undefined: str = "no answer was judged") -> Metric:
    return Metric(key, label, "higher" if better == "higher" else "lower", "plain", undefined, meaning)


def _share(key: str, label: str, better: str, meaning: str, undefined: str = "no answer was judged") -> Metric:
    return Metric(key, label, "higher" if better == "higher" else "lower", "percent", undefined, meaning)


_ONE_CLASS = "all answers right, or all wrong"

FURTHER_METRICS = (
    _plain("nll", "NLL", "lower", "Negative log-likelihood in nats, confidences clipped to 1e-6 from 0 and 1."),
    _plain(
        "brier_miscalibration",
        "Miscalibration",
        "lower",
        "What the best increasing recalibration takes off the Brier score.",
    ),
    _plain(
        "brier_discrimination",
        "Discrimination",
        "higher",
        "What the ranking takes off the Brier score of the base rate.",
    ),
    _plain("brier_uncertainty", "Uncertainty", "lower", "Brier score of always stating the accuracy, a (1 - a)."),
    _plain("ece_equal_mass", "ECE, equal mass", "lower", "ECE over ten bins of equal mass that split no tie."),
    _plain(
        "ece_debiased", "RMS error, debiased", "lower", "Root mean squared gap of equal-mass bins less what noise adds."
    ),
    _plain("smooth_ece", "smECE", "lower", "Calibration error smoothed over a width that equals it; has no bins."),
    _plain("mce", "MCE", "lower", "Largest gap of an equal-width bin, however few answers are in it."),
    _plain("ace", "ACE", "lower", "Plain mean of the gaps of equal-mass bins."),
    _plain("overconfidence", "Over-confidence", "lower", "What bins that promise too much add to the ECE."),
    _plain("underconfidence", "Under-confidence", "lower", "What bins that promise too little add to the ECE."),
    _plain("aupr", "AUPR, right", "higher", "Average precision of finding right answers.", "no answer is right"),
    _plain("aupr_error", "AUPR, wrong", "higher", "Average precision of finding wrong answers.", "no answer is wrong"),
    _share("fpr95", "FPR95", "lower", "Share of wrong answers kept where 95% of the right ones are.", _ONE_CLASS),
    _plain("aurc", "AURC", "lower", "Mean error rate of the k most confident answers, over all k."),
    _plain("eaurc", "E-AURC", "lower", "AURC less that of a perfect ranking of the same answers."),
    _plain("augrc", "AUGRC", "lower", "Mean over coverages of the share of questions wrong and kept."),
    _plain("prr", "PRR", "higher", "Rejection ratio: 1 for a perfect ranking, 0 for none.", _ONE_CLASS),
    *(
        _share(
            f"coverage_at_risk_{risk}",
            f"Coverage at {risk:.0%} risk",
            "higher",
            f"Largest share kept by a threshold of which at most {risk:.0%} is wrong; promises nothing else.",
        )
        for risk in (0.01, 0.05, 0.1, 0.2)
    ),
    *(
        _share(
            f"risk_at_coverage_{coverage}",
            f"Risk at {coverage:.0%} coverage",
            "lower",
            f"Error rate of the most confident {coverage:.0%}.",
        )
        for coverage in (0.5, 0.8, 0.9)
    ),
    *(
        _share(
            f"confident_error_rate_{threshold}",
            f"Wrong above {threshold}",
            "lower",
            f"Share of wrong answers among those given with a confidence of {threshold} or more.",
            f"no confidence reaches {threshold}",
        )
        for threshold in (0.8, 0.95, 0.99)
    ),
)
"""In the order of ``metrics.json``."""
