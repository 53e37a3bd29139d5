"""What each reported metric is called, which way is better, how it is written and what it means."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Metric:
    """One column of the headline table; shares are written as ``percent``, ``plain`` values with three decimals."""

    key: str
    label: str
    better: Literal["higher", "lower"]
    unit: Literal["percent", "plain"]
    undefined: str
    meaning: str
    of_confidence: bool = True
    """Whether it says something about confidences, and not about answers alone."""

    @property
    def arrow(self) -> str:
        return "\N{UPWARDS ARROW}" if self.better == "higher" else "\N{DOWNWARDS ARROW}"


METRICS = (
    Metric(
        "accuracy",
        "Accuracy",
        "higher",
        "percent",
        "no answer was judged",
        "Share of answers that are right.",
        of_confidence=False,
    ),
    Metric(
        "brier",
        "Brier",
        "lower",
        "plain",
        "no answer was judged",
        "Mean squared distance between the confidence and the outcome (1 if right, 0 if wrong). Proper: best only "
        "if the confidence is the true probability. Always saying 0.5 gives 0.25.",
    ),
    Metric(
        "ece",
        "ECE",
        "lower",
        "plain",
        "no answer was judged",
        "Expected calibration error: the gap between mean confidence and accuracy in each of ten bins of equal width, "
        "averaged by bin size. It is above zero by chance even for perfect calibration, and a constant at the base "
        "rate has a good one, so read it together with AUROC.",
    ),
    Metric(
        "auroc",
        "AUROC",
        "higher",
        "plain",
        "all answers right, or all wrong",
        "Probability that a right answer carries more confidence than a wrong one, ties counting half. 0.5 is no "
        "discrimination at all.",
    ),
    Metric(
        "confident_error_rate",
        "Wrong above .9",
        "lower",
        "percent",
        "no confidence reaches 0.9",
        "Share of wrong answers among those given with a confidence of 0.9 or more: the errors a router lets through.",
    ),
    Metric(
        "unparsed",
        "Unparsed",
        "lower",
        "percent",
        "no answer was judged",
        "Share of completions from which no confidence could be read. They are kept in every metric, as confidence 0; "
        "a method from which none could be read has no metric of confidence, and one from which most could not is not "
        "called best.",
        of_confidence=False,
    ),
    Metric(
        "escalation_rate_to_parity",
        "Escalated at parity",
        "lower",
        "percent",
        "the large model's answers are not known",
        "Smallest share of questions, least confident first, that must go to the large model for the pair to be as "
        "accurate as the large model alone; 0 where the small one already is. It depends on which questions both get "
        "wrong, and is noisy: read its interval.",
    ),
)
"""The headline metrics in the order of the table."""

Entry = Mapping[str, Any]

MOST_OPEN, LEADING = 6, 3
"""Methods up to which a page shows all of them open, and how many it leads with beyond."""


def leading(metrics: Mapping[str, Mapping[str, Entry]]) -> list[str]:
    """The methods that a page leads with, in their order: all of up to six; else three, and the page folds the rest.

    First come those that are no other reading of another one, as ``candor_verbalized`` is of ``candor``, then the
    others, each by its accuracy less its Brier score: by the latter alone, a policy that answers nothing right and says
    so leads. What has none comes last.

    >>> scores = {"warm": 0.8, "rlvr": 0.3, "rlvr_isotonic": 0.2, "rlvr_platt": 0.21, "candor": 0.1, "candor_a": 0.3}
    >>> rows = {name: {"brier": {"value": score}, "accuracy": {"value": 0.6}} for name, score in scores.items()}
    >>> mute = {"brier": {"value": 0.05}, "accuracy": {"value": 0.05}}
    >>> leading(rows | {"candor_b": {}, "mute": mute})
    ['rlvr', 'candor', 'mute']
    """
    if len(metrics) <= MOST_OPEN:
        return list(metrics)

    def rank(method: str) -> tuple[bool, float]:
        accuracy, score = (metrics[method].get(key, {}).get("value") for key in ("accuracy", "brier"))
        reading = any(method.startswith(f"{other}_") for other in metrics)
        return reading, float("inf") if accuracy is None or score is None else score - accuracy

    first = sorted(metrics, key=rank)[:LEADING]
    return [method for method in metrics if method in first]


def shown_metrics(metrics: Mapping[str, Mapping[str, Entry]]) -> tuple[Metric, ...]:
    """The headline metrics that at least one method has an entry for."""
    return tuple(metric for metric in METRICS if any(metric.key in entries for entries in metrics.values()))


def value_text(metric: Metric, value: float | None) -> str:
    """A value as the table writes it.

    >>> value_text(METRICS[0], 0.7423), value_text(METRICS[1], 0.1), value_text(METRICS[5], 0.0002)
    ('74.2%', '0.100', '<0.1%')
    """
    if value is None:
        return "n/a"
    if metric.unit == "plain":
        return f"{value:.3f}"
    return "<0.1%" if 0 < value < 0.0005 else f"{100 * value:.1f}%"


def interval_text(metric: Metric, entry: Entry) -> str:
    """The bounds of an interval, with an en dash between; empty where there are none.

    >>> interval_text(METRICS[0], {"value": 0.74, "low": 0.7, "high": 0.78})
    '70.0\N{EN DASH}78.0'
    """
    low, high = entry.get("low"), entry.get("high")
    if low is None or high is None:
        return ""
    factor, digits = (100, 1) if metric.unit == "percent" else (1, 3)
    return f"{factor * low:.{digits}f}\N{EN DASH}{factor * high:.{digits}f}"


def cell_text(metric: Metric, entries: Mapping[str, Entry]) -> str:
    """A metric among the entries of a method as a cell of a table: the value, and its bounds in brackets if it has any.

    >>> cell_text(METRICS[0], {METRICS[0].key: {"value": 0.74, "low": 0.7, "high": 0.78}}), cell_text(METRICS[0], {})
    ('74.0% (70.0–78.0)', 'n/a')
    """
    entry = entries.get(metric.key, {"value": None})
    bounds = interval_text(metric, entry)
    return value_text(metric, entry["value"]) + (f" ({bounds})" if bounds else "")


def unparsed_share(entries: Mapping[str, Entry]) -> float:
    """Share of a method's confidences that could not be read; 0 where that is not known."""
    return entries.get("unparsed", {}).get("value") or 0.0


def shown_entry(metric: Metric, entries: Mapping[str, Entry]) -> Entry:
    """What a table shows of a method: without a value where none of its confidences could be read.

    A confidence of 0 on every answer has a Brier score of its accuracy, which looks good where that is low.
    """
    silent = metric.of_confidence and unparsed_share(entries) == 1
    return {"value": None} if silent else entries.get(metric.key, {"value": None})


def undefined_text(metric: Metric, entries: Mapping[str, Entry]) -> str:
    """Why :func:`shown_entry` has no value."""
    return "no confidence could be read" if metric.of_confidence and unparsed_share(entries) == 1 else metric.undefined


def best_methods(metric: Metric, metrics: Mapping[str, Mapping[str, Entry]]) -> frozenset[str]:
    """The methods whose value, as written, is the best; none with fewer than two methods to compare or all alike.

    A metric of confidence is compared among methods from which most confidences could be read. One that states nothing
    is never best: where only it has the best accuracy, no method is marked.
    """
    values = {
        method: entry["value"]
        for method, entries in metrics.items()
        if (entry := shown_entry(metric, entries))["value"] is not None
        and not (metric.of_confidence and unparsed_share(entries) > 0.5)
    }
    if len(values) < 2:
        return frozenset()
    best = (max if metric.better == "higher" else min)(values.values())
    winners = {method for method, value in values.items() if value_text(metric, value) == value_text(metric, best)}
    stating = {method for method in winners if unparsed_share(metrics[method]) < 1}
    return frozenset(stating) if len(winners) < len(values) else frozenset()


def share_count(entry: Entry) -> int:
    """How many of its n rows a share is."""
    return round((entry["value"] or 0.0) * entry["n"])


def plain(text: Any, longest: int, *, end: bool = False) -> str:
    """Text fit to be shown: cut to ``longest`` characters, from the beginning or the ``end``, and without tricks.

    Control characters, lone surrogates and the marks that reverse the direction of what follows become U+FFFD, so that
    a completion can neither hide text nor rearrange the page around it. Escaping is left to the template.

    >>> plain("abcdef", 3), plain("abcdef", 3, end=True), plain("a\\x00b", 9)
    ('abc\N{HORIZONTAL ELLIPSIS}', '\N{HORIZONTAL ELLIPSIS}def', 'a\N{REPLACEMENT CHARACTER}b')
    """
    text = str(text)
    cut = len(text) > longest
    kept = (text[-longest:] if end else text[:longest]) if cut else text
    shown = "".join(char if char in "\n\t" or _is_harmless(char) else "\N{REPLACEMENT CHARACTER}" for char in kept)
    if not cut:
        return shown
    return f"\N{HORIZONTAL ELLIPSIS}{shown}" if end else f"{shown}\N{HORIZONTAL ELLIPSIS}"


def _is_harmless(char: str) -> bool:
    return (
        unicodedata.category(char) not in ("Cc", "Cs", "Co", "Cn")
        and unicodedata.bidirectional(char) not in BIDI_CONTROLS
    )


BIDI_CONTROLS = frozenset({"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"})
