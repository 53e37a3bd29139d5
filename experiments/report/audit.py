"""The audit of a rubric and the list of reward terms on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from rewards.catalogue import credited_to, propriety, yes_or_no

_WIDTH, _HEIGHT = 56, 11
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of the braille character that stand for its dots, four rows of two."""


def audit_page(recipe: str, found: Mapping[str, Any]) -> Group:
    """Everything that :func:`audit_rubric` has found: the verdict, each stage, and the expected rewards."""
    parts = [_verdict(recipe, found), Text(), _stages(found["stages"])]
    if found["unaudited"]:
        names = ", ".join(found["unaudited"])
        parts.append(Text(f"\nNot audited: {names}. What is paid by signals alone no audit sees; it comes on top."))
    if found["scaled_by_group"]:
        names = " and ".join(found["scaled_by_group"])
        parts.append(
            Text(
                f"\nNot proper as trained: {names}, divided by the deviation of a group (group, gdpo), which cancels "
                "what makes a rule proper; confidences drift to 0 and 1 (arXiv 2508.11800). Set the scaling to none."
            )
        )
    if found["declining"]:
        names = " and ".join(found["declining"])
        parts.append(
            Text(
                f"\n{names}: declining is an action of the policy, which can collapse into declining always or never "
                "(arXiv 2608.00301); the alarm non_answers sees it rise."
            )
        )
    return Group(*parts, Text(), *_plot(found["curve"]))


def rewards_table(entries: Sequence[Mapping[str, Any]]) -> Table:
    """The catalogue of reward terms: beneath each name what it pays and the signals that it reads."""
    table = Table(
        box=None,
        padding=(0, 2, 1, 0),
        pad_edge=False,
        header_style="bold underline",
        caption="proper, safe: with weight 1 beside accuracy of weight 1; – where the audit has nothing to look at",
        caption_style="dim",
        caption_justify="left",
    )
    table.add_column("term", ratio=1, min_width=24)
    for name in ("range", "proper", "safe"):
        table.add_column(name, no_wrap=True)
    table.add_column("credited to", width=len("prior_confidence"))
    table.add_column("arXiv", no_wrap=True)
    for entry in entries:
        term = Text(entry["name"], style="bold")
        if entry["method"]:
            term.append(f"  {entry['method']}", style="not bold dim")
        term.append(f"\n{entry['formula']}", style="not bold")
        if entry["signals"]:
            term.append(f"\nreads {', '.join(entry['signals'])}", style="not bold dim")
        cells = (entry["range"], propriety(entry), yes_or_no(entry["safe"]), credited_to(entry))
        # As Text, since rich takes brackets in plain strings for markup.
        table.add_row(term, *map(Text, cells), entry["paper"].removeprefix("arXiv "))
    return table


def _verdict(recipe: str, found: Mapping[str, Any]) -> Text:
    if found["safe"]:
        return Text(f"{recipe}: the rubric is safe", style="bold green")
    text = Text(f"{recipe}: the rubric is hackable", style="bold red")
    steps: dict[str, list[str]] = {}
    for stage in found["stages"]:
        for flaw in stage["flaws"]:
            why = f"{flaw['reason']}\nremedy: {' or '.join(flaw['cures'])}"
            steps.setdefault(why, []).append(_name(stage["step"]))
    for why, names in steps.items():
        when = "" if len(found["stages"]) == 1 else f"{', '.join(names)}: "
        text.append(f"\n{when}{why}", style="not bold default")
    return text


def _stages(stages: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for stage in stages:
        table.add_column("weight" if len(stages) == 1 else _name(stage["step"]))
    for name in stages[0]["weights"]:
        table.add_row(f"  {name}", *(f"{stage['weights'][name]:g}" for stage in stages))
    rows = {
        "proper": [propriety(stage) for stage in stages],
        "safe": [yes_or_no(stage["safe"]) for stage in stages],
        "bounded": [yes_or_no(stage["bounded"]) for stage in stages],
        "rewards": [f"{_number(stage['lowest'])} to {_number(stage['highest'])}" for stage in stages],
        "wrong pays at P(correct) in": [_interval(stage["hackable_range"]) for stage in stages],
        "honest falls at confidence": [_interval(stage["decreasing_range"]) for stage in stages],
    }
    for label, cells in rows.items():
        table.add_row(label, *cells)
    return table


def _plot(curve: Mapping[str, Any]) -> list[Text]:
    """The expected-reward curve in braille dots, the reward of a wrong answer as a dashed line."""
    p = np.linspace(0.0, 1.0, 2 * _WIDTH)
    honest, wrong = np.interp(p, curve["p"], curve["honest"]), curve["wrong"]
    low, high = min(*curve["honest"], wrong), max(*curve["honest"], wrong)

    def row_of(reward: np.ndarray) -> np.ndarray:
        """Row of dots, from the top."""
        return np.rint((high - reward) / ((high - low) or 1.0) * (4 * _HEIGHT - 1)).astype(int)

    rows, dashed = row_of(honest), int(row_of(np.array(wrong))) // 4
    dots = np.zeros((_HEIGHT, _WIDTH), dtype=int)
    for column, (before, row) in enumerate(zip([rows[0], *rows], rows, strict=False)):
        for each in range(min(before, row), max(before, row) + 1):
            dots[each // 4, column // 2] |= _DOTS[each % 4][column % 2]
    labels = {dashed: wrong} | ({0: high, _HEIGHT - 1: low} if high > low else {})
    when = "" if curve["step"] is None else f" at {_name(curve['step'])}"
    lines = [Text(f"Expected reward by P(correct){when}", style="bold")]
    for index, cells in enumerate(dots.tolist()):
        line = Text(f"{_number(labels[index]) if index in labels else '':>8} │", style="dim")
        for bits in cells:
            if bits:
                line.append(chr(0x2800 + bits), style="not dim blue")
            else:
                line.append("╌" if index == dashed else " ", style="not dim red")
        lines.append(line)
    lines.append(Text(f"{'':8} └{'─' * _WIDTH}", style="dim"))
    if curve["flaw"] is not None:
        first, last = (round(each * (_WIDTH - 1)) for each in curve["flaw_range"])
        lines.append(Text(f"{'':10}{' ' * first}{'▔' * (last - first + 1)}", style="red"))
    lines.append(Text(f"{'':10}0{'0.5':^{_WIDTH - 2}}1", style="dim"))
    key = Text(f"{'':10}").append("⠤⠒⠉", style="blue").append(" tries, and states P(correct)   ")
    lines.append(key.append("╌╌╌", style="red").append(" answers wrongly on purpose"))
    if curve["flaw"] is not None:
        lines.append(Text(f"{'':10}").append("▔▔▔", style="red").append(f" {curve['flaw']}"))
    return lines


def _name(step: int | None) -> str:
    return "the end" if step is None else f"step {step}"


def _number(value: float | None) -> str:
    return "-inf" if value is None else f"{value:.3g}"


def _interval(interval: Sequence[float] | None) -> str:
    return "–" if interval is None else f"({interval[0]:.4g}, {interval[1]:.4g})"
