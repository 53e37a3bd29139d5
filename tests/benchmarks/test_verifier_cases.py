"""The side-by-side measurement runs on a few rows, counts what is right, and lists what is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
COMPLETION = "<think>t</think><answer>{}</answer><confidence>0.5</confidence>"


def test_each_verifier_is_counted_on_the_same_rows(tmp_path: Path) -> None:
    cases, golds, traces = tmp_path / "cases.jsonl", tmp_path / "golds.jsonl", tmp_path / "traces.parquet"
    rows = [("5", "not \\boxed{5}", 0), ("5", "£5", 1), ("5", "6", 1)]
    lines = [
        json.dumps({"kind": "k", "input": {"verifier": "math", "gold": gold, "answer": answer}, "right": right})
        for gold, answer, right in rows
    ]
    cases.write_text("\n".join([*lines, json.dumps({"kind": "p", "input": {"parse_lenient": "x"}, "right": {}})]))
    golds.write_text(json.dumps({"answer": "work\n#### 7"}) + "\n")
    frame = pd.DataFrame({"gold": ["x=5", "7"], "completion": [COMPLETION.format(answer) for answer in ("5", "8")]})
    frame.to_parquet(traces)
    run = subprocess.run(
        [
            *(sys.executable, str(Path(__file__).with_name("verifier_cases.py")), "--cases", str(cases)),
            *("--golds", str(golds), "--traces", str(traces), "--before", str(ROOT)),
        ],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert "cases, math    here         right on 2 of 3" in run.stdout
    assert "cases, math    before       right on 2 of 3" in run.stdout
    assert "not right here: ('math', '5', '6'), expected 1" in run.stdout
    assert "golds  here         2 pairs, 0 right ones missed, 0 wrong ones taken for right" in run.stdout
    assert "traces  here         1 of 2 rows right" in run.stdout
    assert "traces  before and here differ on 0 rows" in run.stdout
