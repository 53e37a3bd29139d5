"""What the metrics mean that stand in ``metrics.json`` beside those of the headline table."""

from __future__ import annotations

from experiments.report.glossary import Metric


def _plain(key: str, label: str, better: str, meaning: str, undefined: str = "no answer was judged") -> Metric:
    return Metric(key, label, "higher" if better == "higher" else "lower", "plain", undefined, meaning)


def _share(key: str, label: str, better: str, meaning: str, undefined: str = "no answer was judged") -> Metric:
    return Metric(key, label, "higher" if better == "higher" else "lower", "percent", undefined, meaning)


_NO_LARGE = "the large model's answers are not known"
_NO_GAP = "the large model is no better, or its answers are not known"
_FEW = "fewer than 20 questions to choose a threshold on, or to measure it on, have the large model's answer"

ROUTING_METRICS = (
    *(
        _share(
            f"escalation_rate_to_parity_{tolerance}",
            f"Escalated within {100 * tolerance:g} points",
            "lower",
            f"Escalated at parity where {100 * tolerance:g} points below the large model still count as parity.",
            _NO_LARGE,
        )
        for tolerance in (0.005, 0.01)
    ),
    _share(
        "quantile_rate_to_parity",
        "Self-REF's route",
        "lower",
        "Self-REF's figure: the lowest of 21 quantiles of confidence, as a nominal rate, at which the pair is within "
        "0.4 points of the large model; 100% also where none is. Thresholds are chosen on what they are measured on.",
        _NO_LARGE,
    ),
    _plain(
        "apgr",
        "APGR",
        "higher",
        "Share of the gap between the models that is recovered, in the mean over escalation rates; 0.5 by lot.",
        _NO_GAP,
    ),
    *(
        _share(
            f"cpt_{share}",
            f"CPT {share:.0%}",
            "lower",
            f"Smallest share escalated that recovers {share:.0%} of the gap between the models.",
            _NO_GAP,
        )
        for share in (0.5, 0.8)
    ),
    _plain(
        "gain_over_random",
        "Gain over lot",
        "higher",
        "Accuracy of the pair above that of escalating as large a share by lot, in the mean over all shares.",
        _NO_LARGE,
    ),
    _plain(
        "deployed_threshold",
        "Deployed threshold",
        "lower",
        "Confidence below which is escalated, chosen on half of the questions as the lowest at parity there; above 1 "
        "all is escalated. What begins with deployed is measured on the other half.",
        _FEW,
    ),
    _share("deployed_rate", "Deployed: escalated", "lower", "Share that the deployed threshold escalates.", _FEW),
    _share(
        "deployed_accuracy", "Deployed: accuracy", "higher", "Accuracy of the pair at the deployed threshold.", _FEW
    ),
    _plain(
        "deployed_against_large", "Deployed: against large", "higher", "That accuracy less the large model's.", _FEW
    ),
    _plain(
        "deployed_over_random",
        "Deployed: over lot",
        "higher",
        "That accuracy less what as large a share gives that is escalated by lot, without looking at the question.",
        _FEW,
    ),
    _share(
        "deployed_tokens_saved",
        "Deployed: tokens saved",
        "higher",
        "Share of the large model's completion tokens that need not be written.",
        "the large model's tokens are not known",
    ),
    _plain("deployed_cost", "Deployed: cost", "lower", "Mean cost of a question, both models where escalated.", _FEW),
    _share(
        "deployed_cost_saved",
        "Deployed: cost saved",
        "higher",
        "What is saved of the cost of the large model alone; the small one is always paid.",
        "the costs of both models are not known",
    ),
    *(
        _plain(
            f"deployed_latency_p{quantile}",
            f"Deployed: latency p{quantile}",
            "lower",
            f"Seconds that {quantile}% of the questions stay within; one that is escalated waits for both models.",
            "the latencies of both models are not known",
        )
        for quantile in (50, 95)
    ),
    _plain(
        "aiq",
        "AIQ",
        "higher",
        "Mean accuracy over costs from the small model's to the large one's, on the frontier of the pair.",
        "the costs of both models are not known, or the large one is not dearer",
    ),
)

_NO_CASCADE = "it is not a cascade, or there is no pair to compare it with"

CASCADE_METRICS = (
    _share(
        "cascade_against_last",
        "Against the last model",
        "higher",
        "Accuracy at thresholds chosen on other questions, less that of the last model alone.",
        _NO_CASCADE,
    ),
    _share(
        "cascade_over_random",
        "Over as many by lot",
        "higher",
        "That accuracy less what drawing the model that answers by lot gives, each as often as the cascade has it.",
        _NO_CASCADE,
    ),
    _share(
        "cascade_cost_saved",
        "Cost saved",
        "higher",
        "What is saved of the cost of the last model alone; every model that is asked is paid.",
        _NO_CASCADE,
    ),
    _share(
        "cascade_over_pair",
        "Over the best pair",
        "higher",
        "Accuracy less that of the best of all models alone and cascades of two, planned for the same target.",
        _NO_CASCADE,
    ),
    _share(
        "cascade_saved_on_pair",
        "Saved on the best pair",
        "higher",
        "What is saved of the cost of that pair; below 0 the whole chain costs more than two of its models.",
        _NO_CASCADE,
    ),
)

_ONE_CLASS = "all answers right, or all wrong"

_ONE_WORDING = "no question was asked in several wordings"
_NO_CLAIM = "no success was claimed, or none with that confidence"

FAILURE_METRICS = (
    _plain(
        "prompt_sensitivity",
        "PromptSensiScore",
        "lower",
        "Difference in correctness between two wordings of a question, in the mean over pairs, then over questions.",
        _ONE_WORDING,
    ),
    _plain(
        "robustness_correlation",
        "Confidence and robustness",
        "higher",
        "Rank correlation of a question's mean confidence with 1 less its sensitivity to wording.",
        _ONE_WORDING,
    ),
    _share(
        "route_flips",
        "Routes that flip",
        "lower",
        "Share of questions of whose wordings some have less than the median confidence, and some have not.",
        _ONE_WORDING,
    ),
    *(
        _share(
            key,
            label,
            "lower",
            f"Share of claims of success{among} after which the state that was to be reached is not there.",
            _NO_CLAIM,
        )
        for key, label, among in (
            ("false_success_rate", "False success", ""),
            ("false_success_rate_0.9", "False success above .9", " made with a confidence of 0.9 or more"),
        )
    ),
)

FURTHER_METRICS = (
    *FAILURE_METRICS,
    *ROUTING_METRICS,
    *CASCADE_METRICS,
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
