"""A cascade of models from their recorded outcomes: planned on half of the questions, measured on the other half.

Each model, a *tier*, brings the records of a probe on the same questions. Its price is money for a million tokens of
prompt and of completion, or else the column ``cost`` of its records, in one unit for all. Two systems are planned and
measured beside each model alone: the *cascade* of all of them, and the *best pair*, the best of the models alone and
the cascades of two, which a longer chain has to beat (arXiv 2605.06350). Both are planned for the same target. What a
plan reaches where it was chosen flatters it: everything reported comes from the other half, and promises nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from estimators.metrics.cascades import (
    Cascade,
    Plan,
    by_plan,
    chain_plans,
    cheapest,
    envelope,
    most_accurate,
    pair_plans,
)
from estimators.metrics.cost import money
from estimators.metrics.ratios import ratio_interval
from estimators.metrics.resampling import Interval, mean_interval
from experiments.errors import ConfigError, DataError
from experiments.probe.measure import Metrics, measure
from experiments.probe.records import MOST, as_records
from experiments.probe.routed import EVERYTHING, FEWEST, in_half
from experiments.routing.tiers import Tier, read_tiers

CASCADE, PAIR = "cascade", "best pair"
SUMMED = ("completion_tokens", "prompt_tokens", "latency_s")
"""What a question has of every model that it was put to."""


@dataclasses.dataclass(frozen=True)
class Planned:
    """What was planned and what it does: records and metrics of the test questions, and the plans as plain values."""

    records: pd.DataFrame
    metrics: Metrics
    plans: dict[str, Any]


def read_price(text: str) -> tuple[float, float]:
    """Prices of a million tokens of prompt and of completion, from "IN/OUT" or "OUT" alone. Raises ConfigError.

    >>> read_price("0.15/0.6"), read_price("2")
    ((0.15, 0.6), (0.0, 2.0))
    """
    try:
        prompt, _, completion = text.rpartition("/")
        prices = (float(prompt or 0.0), float(completion))
    except ValueError:
        prices = (-1.0, -1.0)
    if not all(0.0 <= each <= MOST for each in prices):
        raise ConfigError(
            f"--price {text}: expected IN/OUT, money for a million tokens of prompt and of completion, each from 0 to "
            f"{MOST:g}"
        )
    return prices


def read_priced(
    paths: Sequence[Path], methods: Sequence[str] = (), prices: Sequence[tuple[float, float]] = ()
) -> list[Tier]:
    """The tiers of :func:`experiments.routing.tiers.read_tiers`, ``cost`` being the price of each answer.

    ``prices`` has one for each file or none, so that the recorded costs count. Raises ConfigError for numbers that do
    not fit, DataError for tokens or costs that are not known and fewer than two times FEWEST common questions.
    """
    if len(paths) < 2:
        raise ConfigError(f"cascade: {len(paths)} tier, expected at least two files of records, cheapest first")
    if len(prices) not in (0, len(paths)):
        raise ConfigError(f"--price: given {len(prices)} times for {len(paths)} files, expected {len(paths)}")
    tiers = read_tiers(paths, methods)
    taken = [each.name for each in tiers if each.name in (CASCADE, PAIR)]
    if taken:
        raise ConfigError(
            f"cascade: a tier is called {taken[0]}, which is the name of the plan: rename its file or folder"
        )
    questions = tiers[0].records.index
    if min(_halves(questions)) < FEWEST:
        raise DataError(
            f"{len(questions)} questions have a verdict in all of {', '.join(map(str, paths))}, expected at least "
            f"{FEWEST} in either half"
        )
    return [
        dataclasses.replace(
            each, records=each.records.assign(cost=_spent(each.records, path, prices[number] if prices else None))
        )
        for number, (each, path) in enumerate(zip(tiers, paths, strict=True))
    ]


def plan_cascade(
    tiers: Sequence[Tier],
    *,
    tolerance: float = 0.0,
    budget: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Planned:
    """Choose the thresholds on half of the questions, and measure on the other what they do.

    The plan is the cheapest that is at most ``tolerance`` less accurate than the last model alone, or with ``budget``
    the most accurate that costs at most so much a question. Raises ConfigError for a budget below every plan's cost.
    """
    stated, right, spent = ([_floats(each.records, name) for each in tiers] for name in ("stated", "correct", "cost"))
    calibration = np.array([in_half(each) for each in tiers[0].records["question_id"]])
    seen, unseen = (
        tuple([column[part] for column in columns] for columns in (stated[:-1], right, spent))
        for part in (calibration, ~calibration)
    )
    families = {CASCADE: chain_plans(*seen), PAIR: pair_plans(*seen)}
    target = float(seen[1][-1].mean()) - tolerance
    chosen = {}
    for name, plans in families.items():
        if name == PAIR and len(tiers) == 2:
            continue  # it is the cascade
        plan = cheapest(plans, target) if budget is None else most_accurate(plans, budget)
        if plan is None:
            least = min(each.cost for each in plans)
            raise ConfigError(f"cascade: --budget {budget}: the cheapest {name} costs {least:.4g} a question")
        chosen[name] = plan
    done = {name: by_plan(plan, *unseen) for name, plan in chosen.items()}
    tables = [each.records[~calibration].assign(method=each.name) for each in tiers]
    tables += [_answered(chosen[name], done[name], tables, name) for name in done]
    records = as_records(pd.concat(tables, ignore_index=True).assign(large_correct=np.nan, large_cost=np.nan))
    settings: dict[str, Any] = {"resamples": resamples, "seed": seed}
    metrics = measure(records, **settings)
    for name, each in done.items():
        found = _against(
            each, chosen[name], unseen[1], unseen[2], done.get(PAIR) if name == CASCADE else None, settings
        )
        metrics[name] |= {key: dataclasses.asdict(interval) for key, interval in found.items()}
    names = [each.name for each in tiers]
    plans = {
        "tiers": names,
        "calibration": int(calibration.sum()),
        "test": int((~calibration).sum()),
        "target": {"tolerance": tolerance} if budget is None else {"budget": budget},
        "chosen": {name: _plain(plan, done[name], names) for name, plan in chosen.items()},
        "frontiers": {
            name: [_plain(plan, by_plan(plan, *unseen), names) for plan in envelope(family)]
            for name, family in families.items()
        },
    }
    return Planned(records, metrics, plans)


def _against(
    done: Cascade,
    plan: Plan,
    right: Sequence[np.ndarray],
    spent: Sequence[np.ndarray],
    pair: Cascade | None,
    settings: dict[str, Any],
) -> dict[str, Interval]:
    """What a system gains and saves: against the last model alone, against lots, and against the best pair."""
    shares = np.bincount(done.answered_by, minlength=len(plan.models)) / len(done.correct)
    by_lot = np.sum([share * right[model] for share, model in zip(shares, plan.models, strict=True)], axis=0)
    found = {
        "cascade_against_last": mean_interval(done.correct - right[-1], **settings),
        "cascade_over_random": mean_interval(done.correct - by_lot, **settings),
        "cascade_cost_saved": ratio_interval(spent[-1] - done.cost, spent[-1], **settings),
    }
    if pair is not None:
        found["cascade_over_pair"] = mean_interval(done.correct - pair.correct, **settings)
        found["cascade_saved_on_pair"] = ratio_interval(pair.cost - done.cost, pair.cost, **settings)
    return found


def _answered(plan: Plan, done: Cascade, tables: Sequence[pd.DataFrame], name: str) -> pd.DataFrame:
    """The rows of a system: each question's answer and confidence are those of the model that answered."""
    asked = [tables[model] for model in plan.models]
    rows = pd.concat([table[done.answered_by == place] for place, table in enumerate(asked)])
    rows = rows.loc[asked[0].index].assign(method=name, cost=done.cost)
    for column in SUMMED:
        amounts = np.stack([_floats(table, column) for table in asked])
        rows[column] = np.where(done.asked, amounts, 0.0).sum(axis=0)
    return rows


def _plain(plan: Plan, done: Cascade, names: Sequence[str]) -> dict[str, Any]:
    """A plan as JSON has it, with what it does on the test questions; a threshold above 1 asks the next always."""
    return {
        "models": [names[each] for each in plan.models],
        "thresholds": [min(each, EVERYTHING) for each in plan.thresholds],
        "asked": done.asked.mean(axis=1).tolist(),
        "accuracy": float(done.correct.mean()),
        "cost": float(done.cost.mean()),
    }


def _spent(rows: pd.DataFrame, path: Path, price: tuple[float, float] | None) -> np.ndarray:
    needed = ["cost"] if price is None else ["completion_tokens", "prompt_tokens"][: 2 if price[0] else 1]
    for column in needed:
        if rows[column].isna().any():
            cure = "; or give each tier a --price" if price is None else ""
            raise DataError(f"{path}: {column} is not known of {int(rows[column].isna().sum()):,} rows{cure}")
    if price is None:
        return _floats(rows, "cost")
    return money(_floats(rows, "prompt_tokens") if price[0] else 0.0, _floats(rows, "completion_tokens"), *price)


def _floats(rows: pd.DataFrame, column: str) -> np.ndarray:
    """A column (N,); ``stated`` is the confidence as the router sees it, 0 where none could be read."""
    values = rows["confidence"].where(rows["parsed"], 0.0) if column == "stated" else rows[column]
    return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))


def _halves(questions: Sequence[str]) -> tuple[int, int]:
    first = sum(in_half(each) for each in questions)
    return first, len(questions) - first
