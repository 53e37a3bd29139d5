r"""How often verifiers are right: math-verify 0.9, and this package's, side by side on the same inputs.

    python tests/benchmarks/verifier_cases.py --cases verify_and_parse.jsonl --golds gsm8k/test.jsonl \
        --traces math-500.parquet [--before ../checkout-of-another-commit]

``--cases`` is JSONL with ``kind``, ``right`` (1 or 0) and ``input`` (``verifier``, ``gold``, ``answer``); rows with no
verifier are left out. ``--golds`` is GSM8K's JSONL: each gold is judged against itself (right) and against a number off
by one, ten times too large, or of the other sign (wrong). ``--traces`` is a parquet table with ``gold`` and
``completion``, whose answers are read by the default template; there is no truth beside it, so the figures are how
many rows each verifier takes for right, and each pair of verifiers judges differently.

``--before`` is a checkout of another commit, whose own verifiers judge in a process of their own. math-verify is called
as its users call it, ``verify(parse(gold), parse(answer))``, with texts without delimiters put between dollar signs.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also where this is read as a module
from verifier_throughput import gold_pairs, in_dollars, trace_pairs

Row = tuple[str, str, str]
"""Verifier, gold and answer."""

_JUDGE = """
import json, sys
from rewards.verifiers.pool import VerifierPool
rows = json.load(sys.stdin)
verdicts = [None] * len(rows)
for name in {row[0] for row in rows}:
    places = [place for place, row in enumerate(rows) if row[0] == name]
    with VerifierPool(name, workers=2) as pool:
        judged = pool.verify(golds=[rows[place][1] for place in places], answers=[rows[place][2] for place in places])
    for place, verdict in zip(places, judged):
        verdicts[place] = verdict.correct
print(json.dumps(verdicts))
"""


def judged_by(checkout: Path, rows: list[Row]) -> list[bool]:
    """Whether each row is right by the verifiers of a checkout, in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-c", _JUDGE],
        input=json.dumps(rows),
        capture_output=True,
        text=True,
        check=True,
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
    )
    return [verdict == 1.0 for verdict in json.loads(run.stdout)]


def judged_by_math_verify(rows: list[Row]) -> list[bool]:
    """Whether each row is right by math-verify, whatever its verifier."""
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    return [bool(verify(parse(in_dollars(gold)), parse(in_dollars(answer)))) for _, gold, answer in rows]


def judged(rows: list[Row], before: Path | None) -> dict[str, list[bool]]:
    """The verdicts of each verifier on the rows; on rows that are no mathematics math-verify's say nothing."""
    root = Path(__file__).resolve().parents[2]
    verdicts = {"math-verify": judged_by_math_verify(rows)}
    if before is not None:
        verdicts["before"] = judged_by(before.resolve(), rows)
    return verdicts | {"here": judged_by(root, rows)}


def report_cases(path: Path, before: Path | None) -> None:
    cases = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    cases = [case for case in cases if "verifier" in case["input"]]
    rows = [(case["input"]["verifier"], case["input"]["gold"], case["input"]["answer"]) for case in cases]
    verdicts = judged(rows, before)
    for verifier in sorted({row[0] for row in rows}):
        places = [place for place, row in enumerate(rows) if row[0] == verifier]
        for name, right in verdicts.items():
            if verifier == "math" or name != "math-verify":
                agree = sum(right[place] == bool(cases[place]["right"]) for place in places)
                print(f"cases, {verifier:6}  {name:11}  right on {agree} of {len(places)}")
    for kind, count in Counter(case["kind"] for case in cases).items():
        places = [place for place, case in enumerate(cases) if case["kind"] == kind]
        figures = "  ".join(
            f"{name} {sum(right[place] == bool(cases[place]['right']) for place in places):3}"
            for name, right in verdicts.items()
        )
        print(f"  {figures}  of {count:3}  {kind}")
    for place, case in enumerate(cases):
        if verdicts["here"][place] != bool(case["right"]):
            print(f"  not right here: {rows[place]}, expected {case['right']}")


def report_golds(path: Path, rows: int | None, before: Path | None) -> None:
    pairs = gold_pairs(path, rows)
    for name, right in judged([("math", gold, answer) for gold, answer in pairs], before).items():
        missed, false = right[::2].count(False), right[1::2].count(True)
        print(f"golds  {name:11}  {len(pairs)} pairs, {missed} right ones missed, {false} wrong ones taken for right")


def report_traces(path: Path, rows: int | None, before: Path | None) -> None:
    pairs = trace_pairs(path, rows)
    verdicts = judged([("math", gold, answer) for gold, answer in pairs], before)
    for name, right in verdicts.items():
        print(f"traces  {name:11}  {sum(right)} of {len(right)} rows right")
    for left, right in combinations(verdicts, 2):
        counted = Counter(
            (pair, theirs)
            for pair, theirs, ours in zip(pairs, verdicts[left], verdicts[right], strict=True)
            if theirs != ours
        )
        print(f"traces  {left} and {right} differ on {counted.total()} rows, {len(counted)} distinct pairs")
        if right == "here":
            for ((gold, answer), theirs), count in counted.most_common():
                print(f"  {'right' if theirs else 'wrong'} by {left} x{count}: {gold!r} | {answer[:160]!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=Path, help="JSONL of cases")
    parser.add_argument("--golds", type=Path, help="GSM8K's JSONL")
    parser.add_argument("--traces", type=Path, help="a parquet table with the columns gold and completion")
    parser.add_argument("--before", type=Path, help="a checkout of another commit, to judge the same rows")
    parser.add_argument("--rows", type=int, help="read that many rows of golds and traces (default: all)")
    arguments = parser.parse_args()
    if arguments.cases is not None:
        report_cases(arguments.cases, arguments.before)
    if arguments.golds is not None:
        report_golds(arguments.golds, arguments.rows, arguments.before)
    if arguments.traces is not None:
        report_traces(arguments.traces, arguments.rows, arguments.before)


if __name__ == "__main__":
    main()
