"""The benchmark runs on a few rows, and lists what it should list."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
COMPLETION = "<think>t</think><answer>{}</answer><confidence>0.5</confidence>"


def test_a_small_run_lists_the_pairs_judged_differently(tmp_path: Path) -> None:
    golds, traces = tmp_path / "golds.jsonl", tmp_path / "traces.parquet"
    golds.write_text("".join(json.dumps({"answer": f"work\n#### {number}"}) + "\n" for number in ("7", "1,234", "0")))
    pairs = [(r"\pi", "pi"), ("x=5", "x=5"), (r"\frac{1}{2}", "0.5"), (r"\sin 2", "no idea"), (r"\pi", "pi")]
    frame = pd.DataFrame({"gold": [gold for gold, _ in pairs], "completion": [COMPLETION.format(a) for _, a in pairs]})
    frame.to_parquet(traces)
    run = subprocess.run(
        [
            *(sys.executable, str(Path(__file__).with_name("verifier_throughput.py"))),
            *("--golds", str(golds), "--traces", str(traces)),
        ],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert "golds" in run.stdout and "6 pairs" in run.stdout
    assert "  0 distinct pairs (0 rows) judged differently" in run.stdout
    assert "  1 distinct pairs (2 rows) judged differently" in run.stdout
    assert r"equal here, different there x2: '\\pi' | 'pi'" in run.stdout
