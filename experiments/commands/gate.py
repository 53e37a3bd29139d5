"""``candor gate``: fit thresholds that keep a promise on judged records, of one model or a cascade, and apply them."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.errors import ConfigError, DataError

if TYPE_CHECKING:
    from estimators.gate import Gate
    from experiments.routing.tiers import Tier

HELP = "fit a threshold with a guarantee on judged records, and apply it"

OF_RISK = {"form": "--form", "otherwise": "--otherwise"}
OF_BUDGET = {"cost_small": "--cost-small", "cost_large": "--cost-large"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="fit|apply", dest="verb")
    fit = verbs.add_parser("fit", help="find the threshold on records that are not the ones reported")
    promise = fit.add_mutually_exclusive_group(required=True)
    promise.add_argument("--risk", type=float, metavar="ALPHA", help="largest share wrong among what is answered")
    promise.add_argument("--budget", type=float, help="largest mean cost of a question; needs --cost-large")
    promise.add_argument("--tolerance", type=float, help="most accuracy lost against large_correct")
    fit.add_argument("--delta", type=float, default=0.1, help="chance that the promise is broken (default 0.1)")
    fit.add_argument("--form", help="multi_start (default), fixed_sequence or holm; with --risk")
    fit.add_argument("--otherwise", help="escalate (default) or abstain; with --risk")
    fit.add_argument("--cost-small", type=float, help="cost of a question, small model (default 1); with --budget")
    fit.add_argument("--cost-large", type=float, help="cost of a question, large model; with --budget")
    place = fit.add_mutually_exclusive_group()
    place.add_argument("--out", type=Path, metavar="FILE", help="where the gate is written (default gate.json)")
    place.add_argument("--checkpoint", type=Path, metavar="DIR", help="write it into this checkpoint's calibration/")
    apply = verbs.add_parser("apply", help="decide for each record, and say whether the traffic has drifted")
    apply.add_argument("gate", type=Path, metavar="GATE", help="a file of candor gate fit, or an exported folder")
    apply.add_argument("--out", type=Path, metavar="FILE", help="write each question_id and its action as JSONL")
    for each in (fit, apply):
        each.add_argument(
            "records",
            nargs="+",
            type=Path,
            metavar="RECORDS",
            help="parquet or JSONL of confidence, correct (--budget and apply do without), cheapest model first",
        )
        each.add_argument(
            "--method", action="append", metavar="NAME", help="method of the records, for all or once each"
        )


def run(options: argparse.Namespace) -> int:
    """Fit or apply; a gate that answers nothing exits with 1."""
    from experiments.files import writable_file
    from experiments.report.gates import described

    if options.verb == "apply":
        return _apply(options.gate, options.records, options.method or (), options.out)
    out = options.out or Path("gate.json")
    if options.checkpoint is not None:
        if not options.checkpoint.is_dir():
            raise ConfigError(f"gate: --checkpoint {options.checkpoint}: no such folder")
        out = options.checkpoint / "calibration" / "gate.json"
    gate = fit(options)
    print("\n".join(described(gate)))
    print(gate.save(writable_file(out)))
    return 0 if gate.feasible else 1


def fit(options: argparse.Namespace) -> Gate:
    """The gate that the options ask for. Raises ConfigError for values that no gate can have."""
    from estimators.gate import question_digests
    from experiments.routing.tiers import read_tiers

    _require_options(options)
    tiers = read_tiers(options.records, options.method or (), judged=options.budget is None)
    weights = [each.records["weights"].dropna().unique() for each in tiers]
    return dataclasses.replace(
        _fitted(options, tiers),
        weights="; ".join(each[0] for each in weights) if all(len(each) == 1 for each in weights) else "",
        questions=question_digests(tiers[0].records["prompt"].dropna()),
    )


def _fitted(options: argparse.Namespace, tiers: Sequence[Tier]) -> Gate:
    from estimators.gate_fitting import fit_cost, fit_error, fit_parity
    from experiments.probe.records import confidence_read

    source = "; ".join(f"{path.name}, method {tier.method}" for path, tier in zip(options.records, tiers, strict=True))
    settings = {"delta": options.delta, "source": source}
    rows = tiers[0].records
    try:
        if options.budget is not None:
            small, large = 1.0 if options.cost_small is None else options.cost_small, options.cost_large
            return fit_cost(confidence_read(rows), small=small, large=large, budget=options.budget, **settings)
        if options.tolerance is not None:
            known = rows[rows["large_correct"].notna()]
            if known.empty:
                raise DataError(f"{options.records[0]}: --tolerance needs judged rows with large_correct")
            outcomes = (known[name].to_numpy(float) for name in ("correct", "large_correct"))
            return fit_parity(confidence_read(known), *outcomes, tolerance=options.tolerance, **settings)
        if rows.empty:
            of_all = "" if len(tiers) == 1 else " in all of them"
            raise DataError(f"{', '.join(map(str, options.records))}: no row has a verdict (correct){of_all}")
        return fit_error(
            [confidence_read(each.records) for each in tiers],
            [each.records["correct"].to_numpy(float) for each in tiers],
            alpha=options.risk,
            form=options.form or "multi_start",
            otherwise=options.otherwise or "escalate",
            **settings,
        )
    except (ConfigError, DataError):
        raise
    except ValueError as error:
        raise ConfigError(f"gate: {error}") from error


def _require_options(options: argparse.Namespace) -> None:
    """Raise ConfigError for options that do not go together and for values outside of what is allowed."""
    given = "--risk" if options.risk is not None else "--budget" if options.budget is not None else "--tolerance"
    for wanted, names in (("--risk", OF_RISK), ("--budget", OF_BUDGET)):
        stray = [option for name, option in names.items() if getattr(options, name) is not None]
        if stray and given != wanted:
            raise ConfigError(f"gate: {stray[0]} goes with {wanted}, not with {given}")
    if len(options.records) > 1 and given != "--risk":
        raise ConfigError(f"gate: {given} is for the records of one model, {len(options.records)} given")
    if options.risk is not None and not 0.0 < options.risk < 1.0:
        raise ConfigError(f"--risk: {options.risk} is not between 0 and 1")
    if options.tolerance is not None and not 0.0 <= options.tolerance < 1.0:
        raise ConfigError(f"--tolerance: {options.tolerance} is not from 0 to below 1")
    if not 0.0 < options.delta < 1.0:
        raise ConfigError(f"--delta: {options.delta} is not between 0 and 1")
    if options.budget is not None and options.cost_large is None:
        raise ConfigError("gate: --budget needs --cost-large, what a question costs with the large model")


def _apply(path: Path, records: list[Path], methods: Sequence[str], out: Path | None) -> int:
    from estimators.gate import Gate
    from experiments.files import without_nan, writable_file
    from experiments.probe.records import confidence_read
    from experiments.routing.tiers import read_tiers
    from rl.files import write_text

    try:
        gate = Gate.load(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"gate: {error}") from error
    if len(gate.tiers) != len(records):
        raise ConfigError(
            f"gate: {path} decides for {len(gate.tiers)} model{'s' * (len(gate.tiers) > 1)}, fitted on {gate.source}; "
            f"{len(records)} files of records given"
        )
    if out is not None:
        writable_file(out)
    tiers = read_tiers(records, methods, judged=False, repeated=len(records) == 1)
    count = len(tiers[0].records)
    if not count:
        raise DataError(f"{', '.join(map(str, records))}: no question is in all of them")
    confidences = [confidence_read(each.records) for each in tiers]
    actions = gate.actions(*confidences)
    for tier, expected in zip(tiers, gate.source.split("; "), strict=False):
        if not expected.endswith(f"method {tier.method}"):
            print(f"note: fitted on {expected}; this is method {tier.method}, of which it promises nothing")
    found = gate.errors(confidences, [each.records["correct"].to_numpy(float) for each in tiers])
    for tier, each in zip(tiers, found, strict=True):
        name = f"{tier.name} answers" if len(tiers) > 1 else "answer"
        print(f"{name}: {each['answered']:.1%} of {count:,} rows")
    print(f"{gate.otherwise}: {(actions == gate.otherwise).mean():.1%} of {count:,} rows")
    drift = gate.drift(tiers[0].records["confidence"].to_numpy(float))
    print(f"drift: distance {drift['distance']:.3f}, limit {drift['limit']:.3f}: {'yes' if drift['drifted'] else 'no'}")
    for tier, each in zip(tiers, found, strict=True):
        if each["error"] is not None:
            of = f" of {tier.name}" if len(tiers) > 1 else ""
            broken = "; contradicts the promise" if each["promise_broken"] else ""
            print(f"wrong among answers{of}: {each['error']:.1%}, at least {each['error_low']:.1%}{broken}")
    if out is not None:
        columns = ["question_id", "method", "confidence", "action"]
        kept = tiers[0].records.assign(confidence=confidences[0], action=actions)[columns]
        write_text(out, "".join(json.dumps(without_nan(each)) + "\n" for each in kept.to_dict("records")))
        print(out)
    return 0
