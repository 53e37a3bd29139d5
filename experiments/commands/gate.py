"""``candor gate``: fit a threshold that keeps a promise on judged records, and apply it to others."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.errors import ConfigError

if TYPE_CHECKING:
    from estimators.gate import Gate

HELP = "fit a threshold with a guarantee on judged records, and apply it"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="fit|apply", dest="verb")
    fit = verbs.add_parser("fit", help="find the threshold on records that are not the ones reported")
    fit.add_argument("records", type=Path, metavar="RECORDS", help="parquet or JSONL of confidence, correct")
    promise = fit.add_mutually_exclusive_group(required=True)
    promise.add_argument("--risk", type=float, metavar="ALPHA", help="largest share wrong among what is answered")
    promise.add_argument("--budget", type=float, help="largest mean cost of a question; needs --cost-large")
    promise.add_argument("--tolerance", type=float, help="most accuracy lost against large_correct")
    fit.add_argument("--delta", type=float, default=0.1, help="chance that the promise is broken (default 0.1)")
    fit.add_argument("--form", default="multi_start", help="multi_start (default), fixed_sequence or holm")
    fit.add_argument("--otherwise", default="escalate", help="escalate (default) or abstain; with --risk")
    fit.add_argument("--cost-small", type=float, default=1.0, help="cost of a question, small model (default 1)")
    fit.add_argument("--cost-large", type=float, help="cost of a question, large model")
    fit.add_argument("--method", help="which method of the records, where they have several")
    fit.add_argument("--out", type=Path, metavar="FILE", help="where the gate is written (default gate.json)")
    fit.add_argument("--checkpoint", type=Path, metavar="DIR", help="write it into this checkpoint's calibration/")
    apply = verbs.add_parser("apply", help="decide for each record, and say whether the traffic has drifted")
    apply.add_argument("gate", type=Path, metavar="GATE", help="a file written by candor gate fit")
    apply.add_argument("records", type=Path, metavar="RECORDS", help="parquet or JSONL of confidence, correct")
    apply.add_argument("--method", help="which method of the records, where they have several")
    apply.add_argument("--out", type=Path, metavar="FILE", help="write each question_id and its action as JSONL")


def run(options: argparse.Namespace) -> int:
    """Fit or apply; a gate that answers nothing exits with 1."""
    from experiments.report.gates import described

    if options.verb == "apply":
        return _apply(options.gate, options.records, options.method, options.out)
    gate = fit(options)
    out = options.out or (options.checkpoint / "calibration" / "gate.json" if options.checkpoint else Path("gate.json"))
    if options.checkpoint is not None and not options.checkpoint.is_dir():
        raise ConfigError(f"gate: --checkpoint {options.checkpoint}: no such folder")
    print("\n".join(described(gate)))
    print(gate.save(out))
    return 0 if gate.feasible else 1


def fit(options: argparse.Namespace) -> Gate:
    """The gate that the options ask for. Raises ConfigError for values that no gate can have."""
    from estimators.gate_fitting import fit_cost, fit_error, fit_parity
    from experiments.probe.records import read_method

    rows = read_method(options.records, options.method)
    source = f"{options.records.name}, method {rows['method'].iloc[0]}"
    confidence = rows["confidence"].to_numpy(float)
    try:
        if options.budget is not None:
            if options.cost_large is None:
                raise ConfigError("gate: --budget needs --cost-large")
            costs = {"small": options.cost_small, "large": options.cost_large}
            return fit_cost(confidence, **costs, budget=options.budget, delta=options.delta, source=source)
        known = rows[rows["correct"].notna()]
        if options.tolerance is not None:
            known = known[known["large_correct"].notna()]
            if known.empty:
                raise ConfigError(f"gate: {options.records}: --tolerance needs judged rows with large_correct")
            columns = (known[name].to_numpy(float) for name in ("confidence", "correct", "large_correct"))
            return fit_parity(*columns, tolerance=options.tolerance, delta=options.delta, source=source)
        if known.empty:
            raise ConfigError(f"gate: {options.records}: no row is judged")
        return fit_error(
            [known["confidence"].to_numpy(float)],
            [known["correct"].to_numpy(float)],
            alpha=options.risk,
            delta=options.delta,
            form=options.form,
            otherwise=options.otherwise,
            source=source,
        )
    except ValueError as error:
        raise ConfigError(f"gate: {error}") from error


def _apply(path: Path, records: Path, method: str | None, out: Path | None) -> int:
    from estimators.gate import Gate
    from experiments.probe.records import read_method
    from rl.files import replacing

    try:
        gate = Gate.load(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"gate: {error}") from error
    if len(gate.tiers) > 1:
        raise ConfigError(f"gate: {path}: a cascade of {len(gate.tiers)} tiers; records have one confidence a row")
    rows = read_method(records, method)
    confidence = rows["confidence"].where(rows["parsed"]).to_numpy(float)
    actions = gate.actions(confidence)
    for action in dict.fromkeys(("answer", gate.otherwise)):
        print(f"{action}: {(actions == action).mean():.1%} of {len(rows):,} rows")
    drift = gate.drift(rows["confidence"].to_numpy(float), rows["correct"].to_numpy(float))
    print(f"drift: distance {drift['distance']:.3f}, limit {drift['limit']:.3f}: {'yes' if drift['drifted'] else 'no'}")
    if drift["error"] is not None:
        broken = "; contradicts the promise" if drift["promise_broken"] else ""
        print(f"wrong among answers: {drift['error']:.1%}, at least {drift['error_low']:.1%}{broken}")
    if out is not None:
        kept = rows.assign(action=actions)[["question_id", "method", "confidence", "action"]]
        with replacing(out) as partial:
            partial.write_text("".join(json.dumps(each) + "\n" for each in kept.to_dict("records")), encoding="utf-8")
        print(out)
    return 0
