"""A page about a run that is still training, written again as its files grow: ``candor report --watch RUN``.

From files alone, as every report: curves of ``metrics.jsonl``, alarms, the reliability of the last held-out probe and
the last table of completions with confidence, verdict and reward parts. It runs no script; a browser that shows it
loads it again by itself until the run is done.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.errors import ConfigError
from experiments.report.figures import curve_figure, reliability_figure
from experiments.report.glossary import plain
from experiments.report.heldout import judged
from experiments.report.heldout import tables as heldout_tables
from experiments.report.pages import page_template
from rl.files import is_complete, write_text
from rl.monitoring.callbacks import METRICS_FILE
from rl.monitoring.completion_tables import step_of
from rl.monitoring.completion_tables import tables as completion_tables
from rl.monitoring.monitors import ALARMS_FILE

PAGE = "live.html"
CURVES = {
    "reward": ("reward",),
    "accuracy": ("calibration/accuracy", "heldout/accuracy"),
    "Brier": ("calibration/brier", "heldout/brier"),
    "ECE": ("calibration/ece", "heldout/ece"),
    "AUROC": ("calibration/auroc", "heldout/auroc"),
    "length": ("completions/mean_length",),
}
"""Title -> the metrics that are drawn beneath it: of the sampled batch, and of held-out questions."""
ROWS_SHOWN = 12
NOT_PARTS = ("step", "prompt", "completion", "answer", "confidence", "correct", "status", "verdict")


def write_live(run: str | Path, *, refresh_s: int | None = None) -> Path:
    """Write ``live.html`` into a training run's folder; returns its path. ``refresh_s`` is None once it is done.

    Raises ConfigError for a folder without metrics, and for one that cannot be read or written.
    """
    run = Path(run)
    if not (run / METRICS_FILE).is_file():
        raise ConfigError(f"report: {run} holds no {METRICS_FILE}; expected the folder of a training run")
    try:
        write_text(run / PAGE, _page(run, refresh_s))
    except OSError as error:
        raise ConfigError(f"report: {PAGE} of {run} cannot be written: {error.strerror}") from error
    return run / PAGE


def _page(run: Path, refresh_s: int | None) -> str:
    lines = _lines(run / METRICS_FILE)
    records = [each for each in lines if isinstance(each.get("step"), int) and _is_number(each["step"])]
    last = max((each["step"] for each in records), default=0)
    return page_template("live.html.j2").render(
        title=plain(run.resolve().name, 80),
        refresh=refresh_s,
        step=f"{last:,}",
        curves=_curves(records),
        alarms=[
            {name: plain(each.get(name, ""), 300) for name in ("alarm", "step", "saw", "remedy")}
            for each in _lines(run / ALARMS_FILE)
        ],
        heldout=_heldout(run, last),
        completions=_completions(run, last),
    )


def watch(run: str | Path, every_s: int, told: Callable[[Path], None]) -> None:
    """Write the page again whenever the run's files have changed, until the run is done; ``told`` hears the first."""
    run, before = Path(run), None
    while True:
        done = is_complete(run / "final")
        now = (_state(run), done)
        if now != before:
            page = write_live(run, refresh_s=None if done else every_s)
            if before is None:
                told(page)
            before = now
        if done:
            return
        time.sleep(every_s)


def _state(run: Path) -> list[tuple[str, int, int]]:
    found = []
    for path in (run / METRICS_FILE, run / ALARMS_FILE, *heldout_tables(run), *completion_tables(run)):
        with suppress(OSError):  # a table that the run has just deleted
            found.append((str(path), path.stat().st_size, path.stat().st_mtime_ns))
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSON-lines file; one that is being written is left out."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if isinstance(content, dict):
            found.append(content)
    return found


def _curves(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    figures = []
    for title, names in CURVES.items():
        curves = {}
        for name in names:
            known = [(each["step"], each[name]) for each in records if _is_number(each.get(name))]
            if known:
                curves["held out" if name.startswith("heldout/") else "sampled"] = known
        if curves:
            figures.append({"title": title, "svg": curve_figure(f"curve{len(figures)}", title, curves)})
    return figures


def _newest(tables: Sequence[Path], last: int) -> tuple[int, pd.DataFrame] | None:
    """Step and content of the newest table up to the step ``last``; one that is deleted or cut off is passed over."""
    for path in reversed(tables):
        with suppress(OSError, ValueError):
            if step_of(path) <= last:
                return step_of(path), pd.read_parquet(path)
    return None


def _heldout(run: Path, last: int) -> dict[str, Any] | None:
    newest = _newest(heldout_tables(run), last)
    if newest is None:
        return None
    confidence, correct, parsed = judged(newest[1])
    if not len(confidence):
        return None
    note = f"step {newest[0]:,}, {len(correct):,} questions, {100 * correct.mean():.1f}% right"
    return {"note": note, "svg": reliability_figure("heldout", confidence, correct, parsed)}


def _completions(run: Path, last: int) -> dict[str, Any] | None:
    newest = _newest(completion_tables(run), last)
    if newest is None:
        return None
    step, table = newest
    parts = [name for name in table.columns if name not in NOT_PARTS]
    rows = []
    for _, row in table.head(ROWS_SHOWN).iterrows():
        texts = [plain(_text(row[name]), 200, end=name == "completion") for name in ("prompt", "completion")]
        facts = [_number(row.get(name)) for name in ("confidence", "correct")]
        cells = [texts[1], *facts, plain(row.get("verdict", ""), 40), *(_number(row[name]) for name in parts)]
        rows.append((texts[0], cells))
    columns = ["Prompt", "Completion", "Confidence", "Correct", "Verdict", *(plain(name, 40) for name in parts)]
    return {"step": f"{step:,}", "columns": columns, "rows": rows}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "\n".join(str(each.get("content", "")) for each in value)


def _is_number(value: Any) -> bool:
    """Whether a value of JSON is a number that a float can hold, infinity and NaN among them."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) <= sys.float_info.max)


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) and value == value else "n/a"
