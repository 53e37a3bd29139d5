"""One self-contained page about one run: ``records.parquet`` and ``metrics.json`` in, ``report.html`` out.

The page holds its style and its figures, asks for nothing from outside and runs no script; a content security policy
in its head forbids both, because everything a model wrote is hostile. Every text goes through the template's escaping.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.probe.compared import compare_methods
from experiments.probe.groups import by_group
from experiments.probe.measure import Metrics, write_metrics
from experiments.probe.records import read_records, write_records
from experiments.probe.tables import DataError
from experiments.report import failures, routes, sections
from experiments.report.cascades import cascade_sections, read_cascades, write_cascades
from experiments.report.gates import find_gate, gate_section
from experiments.report.glossary import leading, plain, shown_metrics
from experiments.report.pages import page_template
from rl.files import write_json, write_text

RECORDS, METRICS, META, REPORT = "records.parquet", "metrics.json", "report.json", "report.html"
CHECKPOINTS = "checkpoints"


def write_report(
    run_dir: str | Path,
    title: str | None = None,
    meta: Mapping[str, Any] | None = None,
    gate: Path | None = None,
) -> Path:
    """Write ``report.html`` into a run folder from its records and metrics; returns its path.

    ``meta`` is what else was measured, shown as it is: seed, resamples, date, template, task, model. It is kept with
    the title in ``report.json``, from where it comes when the report is written again without them. What the page
    measures itself is kept there under ``tables``: see :func:`_tables`. ``gate`` is a gate
    to show, a file or a folder that holds one; left out, it is the ``gate.json`` in the run folder or its
    ``calibration``, if there is one. Plans of ``candor cascade`` are shown where the folder holds them. The same files
    give the same page, byte for byte.

    Raises DataError when a file is missing or broken.
    """
    run_dir = Path(run_dir)
    records = read_records(run_dir / RECORDS)
    metrics = read_metrics(run_dir / METRICS)
    kept = _read_object(run_dir / META) if (run_dir / META).is_file() else {}
    title = title if title is not None else str(kept.get("title", "Routing probe"))
    meta = dict(meta if meta is not None else read_meta(run_dir / META))
    shown = {str(key): value if isinstance(value, str | int | float) else str(value) for key, value in meta.items()}
    routings, spendings = routes.routings(records, metrics), routes.spendings(records, metrics)
    tables = _tables(records, metrics, routings, spendings)
    page = _page(run_dir, records, metrics, title, meta, find_gate(gate, run_dir), tables, routings, spendings)
    write_json(run_dir / META, {"title": title, "meta": shown, "tables": tables})
    write_text(run_dir / REPORT, page)
    return run_dir / REPORT


def report_runs(runs: Sequence[Path], out: Path | None = None, gate: Path | None = None) -> list[Path]:
    """Write the report of every run folder again, or with ``out`` one report over all of them; returns the paths.

    In a report over several runs a method is called ``run: method``, after its folder. Metrics and the plans of
    cascades are taken from the runs, not made again. ``gate`` as in :func:`write_report`. Raises DataError when a file
    is missing or broken.
    """
    if out is None:
        return [write_report(run, gate=gate) for run in runs]
    names = [run.resolve().name for run in runs]
    names = names if len(set(names)) == len(names) else [str(run) for run in runs]
    frames = []
    metrics: Metrics = {}
    cascades = {}
    for run, name in zip(runs, names, strict=True):
        records = read_records(run / RECORDS)
        prefix = f"{name}: " if len(runs) > 1 else ""
        frames.append(records.assign(method=prefix + records["method"]))
        metrics |= {prefix + method: entries for method, entries in read_metrics(run / METRICS).items()}
        cascades |= {(prefix + part).removesuffix(": "): plans for part, plans in read_cascades(run).items()}
    write_records(pd.concat(frames, ignore_index=True), out / RECORDS)
    write_metrics(metrics, out / METRICS)
    write_cascades(cascades, out)
    return [write_report(out, meta={"runs": ", ".join(map(str, runs))}, gate=gate)]


def read_metrics(path: str | Path) -> Metrics:
    """Read ``metrics.json``: method -> metric -> {value, low, high, n}, with or without ``checkpoints`` around it.

    Raises DataError when the file is missing, no JSON or of another shape, naming the first entry that is.
    """
    path = Path(path)
    metrics = _read_object(path)
    if list(metrics) == [CHECKPOINTS]:
        metrics = metrics[CHECKPOINTS]
    if not isinstance(metrics, dict) or not metrics:
        raise DataError(f"{path}: expected an object of methods")
    for method, entries in metrics.items():
        if not isinstance(entries, dict):
            raise DataError(f"{path}: {method!r}: expected an object of metrics")
        for name, entry in entries.items():
            if not isinstance(entry, dict) or not {"value", "low", "high"} <= entry.keys():
                raise DataError(f"{path}: {method!r}: {name!r}: expected an object with value, low and high")
            for key in ("value", "low", "high"):
                if entry[key] is not None and (isinstance(entry[key], bool) or not isinstance(entry[key], int | float)):
                    raise DataError(f"{path}: {method!r}: {name!r}: {key} is {entry[key]!r}, expected a number or null")
    return metrics


def read_meta(path: str | Path) -> dict[str, Any]:
    """What ``report.json`` says was measured, empty where there is none; raises DataError where it is broken."""
    path = Path(path)
    meta = _read_object(path).get("meta", {}) if path.is_file() else {}
    if not isinstance(meta, dict):
        raise DataError(f"{path}: meta is {meta!r:.60}, expected an object")
    return meta


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a JSON object")
    return content


def _tables(
    records: pd.DataFrame,
    metrics: Metrics,
    routings: Sequence[Mapping[str, Any]],
    spendings: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The numbers of the page that stand in no ``metrics.json``, by what they are.

    ``groups`` and ``manners`` (method -> group -> metric, worst first), ``pair_accuracy`` and ``pair_cost`` (method ->
    share escalated), ``comparisons`` of the methods that the page leads with.
    """
    return {
        "groups": by_group(records),
        "manners": by_group(records, "manner"),
        "pair_accuracy": {figure["name"]: figure["pair"] for figure in routings},
        "pair_cost": {figure["name"]: figure["pair"] for figure in spendings},
        "comparisons": compare_methods(records, leading(metrics)),
    }


def _page(
    folder: Path,
    records: pd.DataFrame,
    metrics: Metrics,
    title: str,
    meta: Mapping[str, Any],
    gate: Path | None,
    tables: Mapping[str, Any],
    routings: list[dict[str, Any]],
    spendings: list[dict[str, Any]],
) -> str:
    facts = {
        "methods": f"{records['method'].nunique():,}",
        "questions": f"{records['question_id'].nunique():,}",
        "answers": f"{len(records):,}",
        **{plain(key, 40).replace("_", " "): plain(value, 300) for key, value in meta.items()},
    }
    return page_template("report.html.j2").render(
        title=plain(title, 200),
        facts=facts,
        leads=[plain(method, 80) for method in leading(metrics)],
        headline=sections.headline(metrics),
        reliabilities=sections.reliabilities(records),
        routings=routings,
        risks=routes.risks(records, metrics),
        pair=routes.pair_accuracies(routings),
        gap=routes.gap_table(metrics),
        spendings=spendings,
        costs=routes.pair_costs(spendings),
        gate=gate_section(gate, records),
        cascades=cascade_sections(folder, metrics),
        comparisons=sections.comparison_table(tables["comparisons"]),
        groups=sections.group_tables(tables["groups"]),
        manners=sections.group_tables(tables["manners"], "manner"),
        solve_rates=sections.solve_rates(records),
        traces=sections.traces(records),
        confident_wrong=sections.confident_wrong(records),
        confident_groups=failures.confident_groups(tables["groups"]),
        claims=failures.claims(records),
        deployed=failures.deployed_table(metrics),
        reading=sections.reading(records, metrics),
        recorded=sections.recorded(metrics),
        glossary=shown_metrics(metrics),
    )
