"""The gate on the page: what it promises, what it was fitted on, and what it does on the records that are reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from estimators.exported import CALIBRATION, GATE
from estimators.gate import ANSWER, Gate
from estimators.gate_fitting import data_hash
from estimators.metrics.resampling import Interval, clopper_pearson, wilson
from experiments.errors import DataError
from experiments.probe.records import confidence_read
from experiments.report.glossary import plain

RATES = {"error": "wrong among answers", "cost": "escalated", "parity": "lost against the large model"}
DONE = {"escalate": "Escalated", "abstain": "Abstained"}


def gate_beside(folder: Path) -> Path | None:
    """The gate that lies in a folder or in its ``calibration``; None where there is none."""
    places = (folder / GATE, folder / CALIBRATION / GATE)
    return next((place for place in places if place.is_file()), None)


def find_gate(given: Path | None, run_dir: Path) -> Path | None:
    """The gate to show: a ``given`` file or folder, else the one beside the records; None where there is none.

    Raises DataError where one was given and is not there.
    """
    if given is None:
        return gate_beside(run_dir)
    found = gate_beside(given) if given.is_dir() else given
    if found is None or not found.is_file():
        raise DataError(f"--gate {given}: no such file, and no folder with {GATE} or {CALIBRATION}/{GATE}")
    return found


def described(gate: Gate) -> list[str]:
    """What a gate promises, in lines to read."""
    lines = [f"promise: {RATES[gate.promise]} <= {gate.alpha:.4g} with probability {1 - gate.delta:.4g}"]
    for number, tier in enumerate(gate.tiers, start=1):
        name = f"tier {number}: " if len(gate.tiers) > 1 else ""
        if tier.threshold is None or tier.reason:
            lines.append(f"{name}{tier.status}: {tier.reason}")
        else:
            seen = f"{tier.bad} of {tier.counted} rows, at most {tier.bound:.4g}"
            lines.append(f"{name}answer from confidence {tier.threshold:.6g}: {tier.coverage:.1%} of rows; {seen}")
    if gate.promise == "error":
        if not gate.feasible and gate.least_abstention > 0:
            lines.append(f"any gate would have to pass on at least {gate.least_abstention:.1%}")
        for risk, coverage in gate.certificates.items():
            found = "none" if coverage is None else f"{coverage:.1%} of rows"
            lines.append(f"certificate at {float(risk):.0%} risk: {found}")
    return lines


def gate_section(path: Path | None, records: pd.DataFrame) -> dict[str, Any] | None:
    """A gate as ``name``, ``lines``, ``fitted``, a table of what it does and ``notes``; None without a ``path``.

    The table has a row for each method of the records that is the one the gate was fitted on, in one run or several.
    Raises DataError where the file is not a gate.
    """
    if path is None:
        return None
    try:
        gate = Gate.load(path)
    except (OSError, ValueError) as error:
        raise DataError(str(error)) from error
    method = gate.source.rpartition("method ")[2]
    names = [str(each) for each in records["method"].unique()]
    mine = [name for name in names if name == method or name.endswith(f": {method}")]
    notes = []
    if len(gate.tiers) > 1:
        notes.append(f"It is a cascade of {len(gate.tiers)} tiers; the records here have one confidence a row.")
        mine = []
    elif not mine:
        notes.append(f"It reads the confidence of {plain(method, 80) or 'a method without a name'}, not one of these.")
    parts = {name: records[records["method"] == name] for name in mine}
    if any(_fitted_on(gate, rows) for rows in parts.values()):
        notes.append("It was fitted on questions of these: what it does here says nothing of other traffic.")
    paired = any(_paired(rows) for rows in parts.values())
    columns = ["Method", "Answered", DONE[gate.otherwise], "Wrong among answered"]
    columns += ["Pair right", "Large alone"] * paired + ["Traffic"]
    return {
        "name": path.name,
        "lines": [plain(line, 300) for line in described(gate)],
        "fitted": f"{gate.rows:,} rows ({plain(gate.source or 'of unknown source', 200)}), form {gate.form}",
        "columns": columns,
        "rows": [(plain(name, 80), _cells(gate, rows, paired)) for name, rows in parts.items()],
        "notes": notes,
    }


def _cells(gate: Gate, rows: pd.DataFrame, paired: bool) -> list[str]:
    stated = confidence_read(rows)
    answered = gate.actions(stated) == ANSWER
    correct = rows["correct"].to_numpy(dtype=float, na_value=np.nan)
    kept = answered & ~np.isnan(correct)
    wrong = clopper_pearson(int((correct[kept] < 1).sum()), int(kept.sum()))
    share = wilson(int(answered.sum()), len(rows))
    cells = [_percent(share), f"{len(rows) - int(answered.sum()):,} of {len(rows):,}", _wrong(gate, wrong)]
    if paired:
        cells += _pair(gate, rows, answered, correct)
    drift = gate.drift(np.nan_to_num(stated))
    found = "has drifted" if drift["drifted"] else "no drift seen"
    return [*cells, f"{found}: distance {drift['distance']:.3f}, by chance up to {drift['limit']:.3f}"]


def _pair(gate: Gate, rows: pd.DataFrame, answered: np.ndarray, correct: np.ndarray) -> list[str]:
    """How often the pair is right where what is not answered is escalated, and the large model alone."""
    if not _paired(rows) or gate.otherwise != "escalate":
        return ["n/a", "n/a"]
    large = rows["large_correct"].to_numpy(dtype=float, na_value=np.nan)
    known = ~np.isnan(large) & ~np.isnan(correct)
    pair = np.where(answered, correct, large)[known]
    return [f"{100 * pair.mean():.1f}%", f"{100 * large[known].mean():.1f}%"]


def _paired(rows: pd.DataFrame) -> bool:
    return bool((rows["large_correct"].notna() & rows["correct"].notna()).any())


def _fitted_on(gate: Gate, rows: pd.DataFrame) -> bool:
    """Whether the fit had any of these questions or, where it does not say, had these very rows.

    Those are all where the promise is about cost, else the judged ones.
    """
    if gate.shared(rows["prompt"].dropna()):
        return True
    judged = rows[rows["correct"].notna()]
    both = judged[judged["large_correct"].notna()]
    whole = rows["confidence"].to_numpy(dtype=float)
    tables = [(whole, np.ones(len(whole)))]
    tables += [
        (each["confidence"].to_numpy(dtype=float), each["correct"].to_numpy(dtype=float)) for each in (judged, both)
    ]
    return any(gate.data_hash == data_hash([confidence], [correct]) for confidence, correct in tables)


def _wrong(gate: Gate, wrong: Interval) -> str:
    if wrong.value is None:
        return "nothing answered"
    shown = f"{_percent(wrong)} of {wrong.n:,}"
    if gate.promise != "error" or wrong.low is None or wrong.low <= gate.alpha:
        return shown
    return f"{shown}: more than promised"


def _percent(share: Interval) -> str:
    if share.value is None or share.low is None or share.high is None:
        return "n/a"
    return f"{100 * share.value:.1f}% ({100 * share.low:.1f}\N{EN DASH}{100 * share.high:.1f})"
