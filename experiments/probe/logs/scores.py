"""Confidences as inspect_ai takes them back: a file for its ``precomputed_scores()``, one line a sample and epoch."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from experiments.probe.logs.sample import Log
from rl.files import replacing


def write_inspect_scores(logs: Sequence[Log], records: pd.DataFrame, folder: Path) -> list[Path]:
    """Write ``inspect/<method>.<task>.jsonl`` below ``folder``, a file for each method and log; returns their paths.

    Each line has ``id``, ``epoch``, ``value`` (the confidence), ``answer``, ``explanation`` (where the confidence came
    from) and ``metadata`` with ``correct``. A sample without a confidence has no line, and stays unscored there.
    ``records`` are those that the logs gave, in order.
    """
    samples = [(log, sample) for log in logs for sample in log.samples]
    with_tokens = [
        (log, sample) for log in logs if any(each.log_probs for each in log.samples) for sample in log.samples
    ]
    files: dict[str, list[str]] = {}
    for (log, sample), row in zip([*samples, *with_tokens], records.to_dict("records"), strict=True):
        if not row["parsed"]:
            continue
        line = {
            "id": sample.id.removeprefix(f"{log.task}/"),
            "epoch": sample.epoch,
            "value": row["confidence"],
            "answer": None if pd.isna(row["answer"]) else row["answer"],
            "explanation": f"confidence {row['confidence_source']}",
            "metadata": {"correct": None if pd.isna(row["correct"]) else row["correct"]},
        }
        name = re.sub(r"[^\w.-]+", "_", f"{row['method']}.{log.task}")
        files.setdefault(name, []).append(json.dumps(line, ensure_ascii=False, allow_nan=False))
    paths = []
    (folder / "inspect").mkdir(exist_ok=True)
    for name, lines in files.items():
        paths.append(folder / "inspect" / f"{name}.jsonl")
        with replacing(paths[-1]) as partial:
            partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return paths
