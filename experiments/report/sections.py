"""What the report says, section by section, as plain values for the page's template; nothing here is marked up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from estimators.metrics.comparison import COMPARED
from experiments.probe.groups import FEWEST, Groups
from experiments.probe.measure import probabilities
from experiments.report.figures import reliability_figure, solve_rate_figure
from experiments.report.glossary import (
    METRICS,
    Entry,
    best_methods,
    interval_text,
    plain,
    share_count,
    shown_entry,
    shown_metrics,
    undefined_text,
    value_text,
)

Metrics = Mapping[str, Mapping[str, Entry]]

WRONG_SHOWN = 3
"""Most confident wrong answers shown for each of several methods; three times as many for one alone."""
TRACES_SHOWN = 6
"""Questions whose completions are shown method by method, one of a group."""
GROUPS_SHOWN, WORST_SHOWN = 12, 3
"""Groups of questions in the table by group, largest first, and worst groups of each method."""
PAIRS_SHOWN = 6
"""Pairs of methods that are compared before the rest is folded."""
LONGEST = {"prompt": 400, "gold": 120, "answer": 120, "completion": 700}
"""Characters of a text that are shown: the end of a completion, the beginning of everything else."""


def headline(metrics: Metrics) -> dict[str, Any]:
    """Columns and rows of the headline table."""
    columns = shown_metrics(metrics)
    winners = {metric.key: best_methods(metric, metrics) for metric in columns}
    rows = []
    for method, entries in metrics.items():
        cells = []
        for metric in columns:
            entry = shown_entry(metric, entries)
            few = metric.key == "confident_error_rate" and entry["value"] is not None
            cells.append(
                {
                    "label": f"{metric.label} {metric.arrow}",
                    "value": value_text(metric, entry["value"]),
                    "bounds": interval_text(metric, entry),
                    "note": f"n={entry['n']:,}" if few and "n" in entry else "",
                    "why": undefined_text(metric, entries) if entry["value"] is None else "",
                    "best": method in winners[metric.key],
                }
            )
        rows.append({"method": plain(method, 80), "cells": cells})
    return {"columns": columns, "rows": rows, "several": len(rows) > 1}


def reliabilities(records: pd.DataFrame) -> list[dict[str, Any]]:
    """A reliability diagram for each method with judged answers whose confidence is meant as a probability."""
    figures = []
    for number, (method, rows) in enumerate(_judged(probabilities(records)).groupby("method", sort=False)):
        confidence, correct = _floats(rows["confidence"]), _floats(rows["correct"])
        svg = reliability_figure(f"reliability{number}", confidence, correct, rows["parsed"].to_numpy(dtype=bool))
        note = f"{len(rows):,} answers, mean confidence {confidence.mean():.2f}, {100 * correct.mean():.1f}% right"
        figures.append({"method": plain(method, 80), "svg": svg, "note": note})
    return figures


def confident_wrong(records: pd.DataFrame) -> list[dict[str, Any]]:
    """The most confident wrong answers of each method, surest first, in the order of the file where they tie."""
    wrong = records[records["correct"].notna() & (records["correct"] < 1) & records["parsed"]]
    methods = []
    most = WRONG_SHOWN if records["method"].nunique() > 1 else 3 * WRONG_SHOWN
    for method, rows in records.groupby("method", sort=False):
        chosen = wrong.loc[wrong.index.intersection(rows.index)].sort_values(
            "confidence", ascending=False, kind="stable"
        )
        shown = [_wrong_answer(row) for _, row in chosen.head(most).iterrows()]
        methods.append({"method": plain(method, 80), "rows": shown, "total": len(chosen)})
    return methods


def group_tables(found: Groups, column: str = "group") -> dict[str, Any] | None:
    """The worst groups of each method, and all methods on the largest groups; None with fewer than two groups.

    Both are ``rows`` of a table; ``found`` comes from :func:`experiments.probe.groups.by_group`.
    """
    sizes: Counter[str] = Counter()
    for groups in found.values():
        sizes.update({group: entries["accuracy"]["n"] for group, entries in groups.items()})
    if len(sizes) < 2:
        return None
    worst = [
        (plain(group, 80), _group_cells(method, entries))
        for method, groups in found.items()
        for group, entries in list(groups.items())[:WORST_SHOWN]
        if entries["brier"]["n"] >= FEWEST
    ]
    rows = [
        (plain(group, 80), _group_cells(method, groups[group]))
        for group, _ in sizes.most_common(GROUPS_SHOWN)
        for method, groups in found.items()
        if group in groups
    ]
    columns = [column.capitalize(), "Method", "Answers", "Accuracy", "Mean confidence", "Over-confidence", "Brier"]
    return {
        "columns": columns,
        "worst": worst,
        "rows": rows,
        "left_out": max(0, len(sizes) - GROUPS_SHOWN),
        "least": FEWEST,
    }


def comparison_table(found: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Differences of calibration between methods on the same questions; None with fewer than two to compare.

    ``shown`` and ``more`` are rows, those of the first pairs and the rest: a pair as it is, then at matched accuracy.
    """
    if not found:
        return None
    shown: list[tuple[str, list[str]]] = []
    more: list[tuple[str, list[str]]] = []
    for number, each in enumerate(found):
        name = " less ".join(plain(method, 60) for method in each["methods"])
        entries = each["differences"]
        accuracies = " and ".join(f"{100 * accuracy:.1f}%" for accuracy in each["accuracies"])
        rows = [(name, ["as they are", accuracies, *(_difference(entries[key]) for key in COMPARED[1:])])]
        if not each["same_verdicts"]:
            common = entries["matched_accuracy"]["value"]
            cells = ["n/a" if common is None else f"{100 * common:.1f}% both"]
            cells += [_difference(entries[f"matched_{key}"]) for key in COMPARED[1:]]
            rows.append((name, ["at matched accuracy", *cells]))
        (shown if number < PAIRS_SHOWN else more).extend(rows)
    columns = ["Methods", "Questions", "Right", "Brier", "ECE", "AUROC"]
    return {"columns": columns, "shown": shown, "more": more, "pairs_more": max(0, len(found) - PAIRS_SHOWN)}


def solve_rates(records: pd.DataFrame) -> list[dict[str, Any]]:
    """A histogram of how often each question is solved, for each method that answered all of its questions repeatedly.

    The note has the share of questions that are solved neither nearly never nor nearly always, which is what
    reinforcement learning by groups learns from.
    """
    figures = []
    for method, rows in _judged(records).groupby("method", sort=False):
        answers = rows.groupby("question_id")["correct"]
        if answers.size().min() < 2:
            continue
        rates = answers.mean().to_numpy(dtype=np.float64)
        between = float(np.mean((rates > 0.1) & (rates < 0.9)))
        note = f"{len(rates):,} questions, {100 * between:.0f}% of them with a solve rate strictly between .1 and .9"
        svg = solve_rate_figure(f"solved{len(figures)}", rates)
        figures.append({"method": plain(method, 80), "svg": svg, "note": note})
    return figures


def traces(records: pd.DataFrame) -> list[dict[str, Any]]:
    """What each method wrote to the same questions, one of every group, for methods that differ in what they wrote.

    Empty where no group is known or nothing was written.
    """
    known = records[records["completion"].notna() & records["group"].notna() & records["prompt"].notna()]
    # Other confidences of the same completions are left out, and further samples of a question.
    first = known.drop_duplicates(["question_id", "completion", "correct"]).drop_duplicates(["question_id", "method"])
    asked = known.drop_duplicates("group").sort_values("group")["question_id"]
    shown = []
    for question in asked.head(TRACES_SHOWN):
        rows = []
        for _, row in first[first["question_id"] == question].iterrows():
            verdict = "not judged" if pd.isna(row["correct"]) else "right" if row["correct"] == 1 else "wrong"
            trace = plain(row["completion"], LONGEST["completion"], end=True)
            rows.append((plain(row["method"], 80), [trace, f"{row['confidence']:.3f}", verdict]))
        prompt, gold = (known.loc[known["question_id"] == question, name].iloc[0] for name in ("prompt", "gold"))
        gold = "" if pd.isna(gold) else plain(gold, LONGEST["gold"])
        columns = ["Method", "Completion", "Confidence", "Verdict"]
        shown.append({"prompt": plain(prompt, LONGEST["prompt"]), "gold": gold, "columns": columns, "rows": rows})
    return shown


def reading(records: pd.DataFrame, metrics: Metrics) -> dict[str, Any]:
    """How the answers of each method were read and judged, as counts that leave nothing out, and what they cost."""
    amounts = [("Mean tokens", "completion_tokens", ",.0f"), ("Mean cost", "cost", ",.4g")]
    amounts = [amount for amount in amounts if any(amount[1] in entries for entries in metrics.values())]
    tagless = any("untagged" in entries for entries in metrics.values())
    rows, faults = [], []
    for method, part in records.groupby("method", sort=False):
        name = plain(method, 80)
        stated = (part["parsed"] & (part["confidence_source"] == "stated")).sum()
        read, judged = part["parsed"].sum(), part["correct"].notna().sum()
        counts = (len(part), judged, stated, read - stated, len(part) - read, part["lenient"].sum())
        cells = [f"{count:,}" for count in counts]
        entries = metrics.get(str(method), {})
        if tagless:
            cells.append("n/a" if "untagged" not in entries else f"{share_count(entries['untagged']):,}")
        for _, key, form in amounts:
            mean = entries.get(key, {}).get("value")
            cells.append("n/a" if mean is None else format(mean, form))
        rows.append((name, cells))
        statuses = part["status"].dropna().value_counts()
        found = ", ".join(f"{status} {count:,}" for status, count in statuses.items() if status != "ok")
        if found:
            faults.append((name, plain(found.replace("_", " "), 300)))
    columns = ["Method", "Answers", "Judged", "Stated", "From outside", "Unparsed", "Read leniently"]
    columns += ["Unread without tags"] * tagless
    return {"columns": columns + [label for label, _, _ in amounts], "rows": rows, "faults": faults}


def recorded(metrics: Metrics) -> dict[str, Any] | None:
    """Our figures beside those of the recorded columns; None where no completions file carried any."""
    compared = [
        metric for metric in METRICS if any(f"recorded_{metric.key}" in entries for entries in metrics.values())
    ]
    if not compared:
        return None
    rows = []
    for method, entries in metrics.items():
        cells = []
        for metric in compared:
            ours, theirs = (entries.get(key, {}).get("value") for key in (metric.key, f"recorded_{metric.key}"))
            cells.append(f"{value_text(metric, ours)} | {value_text(metric, theirs)}")
        agreement = value_text(METRICS[0], entries.get("verdict_agreement", {}).get("value"))
        rows.append((plain(method, 80), [*cells, agreement]))
    return {"columns": ["Method", *(metric.label for metric in compared), "Verdicts agree"], "rows": rows}


def _wrong_answer(row: pd.Series) -> dict[str, Any]:
    texts = {
        name: None if pd.isna(row[name]) else plain(row[name].strip(), longest, end=name == "completion")
        for name, longest in LONGEST.items()
    }
    if texts["prompt"] is not None:
        texts["prompt"] = " ".join(texts["prompt"].split())
    if texts["answer"] is None and not pd.isna(row["status"]):
        texts["answer"] = "nothing readable"
    return {"confidence": f"{row['confidence']:.3f}", "question_id": plain(row["question_id"], 60), **texts}


def _group_cells(method: str, entries: Mapping[str, Entry]) -> list[str]:
    def shown(entry: Entry, factor: float, form: str) -> str:
        bounds = [entry["low"], entry["high"]]
        text = format(factor * entry["value"], form)
        return text if None in bounds else f"{text} ({' to '.join(format(factor * each, form) for each in bounds)})"

    forms = (("accuracy", 100.0, ".1f"), ("mean_confidence", 1.0, ".3f"), ("gap", 1.0, "+.3f"), ("brier", 1.0, ".3f"))
    cells = [shown(entries[key], factor, form) for key, factor, form in forms]
    return [plain(method, 80), f"{entries['accuracy']['n']:,}", *cells]


def _difference(entry: Entry) -> str:
    if entry["value"] is None:
        return "n/a"
    # What rounds to 0 has no sign of its own.
    value, *bounds = (None if entry[key] is None else round(entry[key], 3) + 0.0 for key in ("value", "low", "high"))
    return f"{value:+.3f}" + ("" if None in bounds else f" ({' to '.join(f'{each:+.3f}' for each in bounds)})")


def _judged(records: pd.DataFrame) -> pd.DataFrame:
    return records[records["correct"].notna()]


def _floats(values: pd.Series) -> np.ndarray:
    return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
