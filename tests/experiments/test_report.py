"""The report: made from files alone, self-contained, and proof against what models write."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from experiments.probe.groups import by_group
from experiments.probe.measure import measure, write_metrics
from experiments.probe.records import as_records, write_records
from experiments.probe.tables import DataError
from experiments.report import failures, sections
from experiments.report.glossary import METRICS, best_methods, interval_text, plain, value_text
from experiments.report.html import report_runs, write_report
from experiments.report.terminal import parse_notices, terminal_notes, terminal_table

HOSTILE = "<script>alert('x')</script><img src=http://example.com/x onerror=alert(1)>\u202e\x00 {{ 7 * 7 }} $\\frac{$"
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Elements and text of a page; complains about a tag closed in the wrong place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def table(method: str = "a", count: int = 60, seed: int = 0, **columns: Any) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    confidence = rng.integers(0, 11, count) / 10
    correct = (rng.random(count) < confidence).astype(float)
    given = {"method": method, "confidence": confidence, "correct": correct, "prompt": "2 + 2?", "gold": "4"}
    return as_records(pd.DataFrame(given | columns, index=range(count)))


@pytest.fixture
def report(tmp_path: Path) -> Callable[..., Page]:
    def write(*tables: pd.DataFrame, **settings: Any) -> Page:
        records = pd.concat(tables)
        write_records(records, tmp_path / "records.parquet")
        write_metrics(measure(records, resamples=20), tmp_path / "metrics.json")
        path = write_report(tmp_path, **settings)
        assert path == tmp_path / "report.html"
        return Page(path.read_text(encoding="utf-8"))

    return write


def test_the_report_holds_every_section_and_asks_for_nothing(report: Callable[..., Page], tmp_path: Path) -> None:
    page = report(
        table("small", large_correct=1.0, group=["sums", "products"] * 30),
        table("other", seed=1),
        title="A probe",
        meta={"seed": 7, "base_model": "tiny"},
    )
    for part in ("A probe", "base model tiny", "seed 7", "questions 60", "answers 120", "By group", "products", "ECE"):
        assert part in page.text, part
    assert sum("aria-label" in attributes for _, attributes in page.elements) == 5  # two by bins, two risks, one routed
    assert "Escalated at parity" in page.text
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)="(?!#)', source)
    assert "@import" not in source and "url(http" not in source
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "img", "link", "iframe", "object"})


def test_solve_rates_are_of_methods_that_answer_each_question_repeatedly() -> None:
    ids = [str(index // 4) for index in range(12)]
    correct = [1.0, 0.0, 1.0, 0.0] + [1.0] * 4 + [0.0] * 4
    (figure,) = sections.solve_rates(
        pd.concat([table("often", count=12, question_id=ids, correct=correct), table("once", count=12)])
    )
    assert figure["method"] == "often"
    assert figure["note"].startswith("3 questions, 33% of them with a solve rate strictly between .1 and .9")
    assert sections.solve_rates(table("once")) == []


def test_traces_set_what_each_method_wrote_side_by_side() -> None:
    questions = {"group": ["easy", "hard"] * 3, "question_id": list("abcdef")}
    frame = pd.concat(
        table(method, count=6, correct=right, completion=f"wrote {method}", **questions)
        for method, right in (("one", 1.0), ("two", 0.0))
    )
    traces = sections.traces(frame)
    assert len(traces) == 2
    assert [(name, cells[0], cells[2]) for name, cells in traces[0]["rows"]] == [
        ("one", "wrote one", "right"),
        ("two", "wrote two", "wrong"),
    ]
    assert sections.traces(table()) == []


def test_manners_are_compared_where_there_are_two() -> None:
    manners = sections.group_tables(by_group(table(manner=["direct", "worked"] * 30), "manner"), "manner")
    assert {name for name, _ in manners["rows"]} == {"direct", "worked"}
    assert manners["columns"][0] == "Manner"
    assert sections.group_tables(by_group(table(manner="direct"), "manner"), "manner") is None


def test_the_worst_groups_lead_and_every_group_stands_in_the_report_json(
    report: Callable[..., Page], tmp_path: Path
) -> None:
    """Fifteen groups of right answers, one of confident wrong ones that is the smallest, one that is too small."""
    size, names = 30, [f"g{number:02}" for number in range(15)]
    groups = [name for name in names for _ in range(size)] + ["worst"] * 25 + ["few"] * 5
    correct = [1.0] * (15 * size) + [0.0] * 30
    page = report(table(count=480, group=groups, correct=correct, confidence=[0.8] * 475 + [1.0] * 5))
    written = json.loads((tmp_path / "report.json").read_text())["tables"]["groups"]["a"]
    assert (next(iter(written)), list(written)[-1], len(written)) == ("worst", "few", 17)
    assert written["worst"]["brier"]["value"] == pytest.approx(0.64) and written["worst"]["brier"]["n"] == 25
    assert written["worst"]["gap"]["value"] == pytest.approx(0.8)
    assert written["few"]["confident_error_rate"]["value"] == 1.0
    assert "5 smaller groups are not shown; report.json has every group" in page.text
    shown = page.source.partition("<h2>By group</h2>")[2]
    assert re.findall(r"<th scope=\"row\">(\w+)</th>", shown)[0] == "worst"


def test_answers_to_one_question_are_resampled_together_in_a_group() -> None:
    frame = table(group="x", question_id=[str(row // 20) for row in range(60)])
    apart = by_group(frame.assign(question_id=[str(row) for row in range(60)]))["a"]["x"]
    together = by_group(frame)["a"]["x"]
    for name in ("accuracy", "brier", "gap"):
        assert together[name]["value"] == pytest.approx(apart[name]["value"])
        assert (together[name]["low"], together[name]["high"]) != (apart[name]["low"], apart[name]["high"])
    agreed = by_group(frame.assign(correct=1.0))["a"]["x"]["accuracy"]
    assert (agreed["value"], agreed["high"], agreed["n"]) == (1.0, 1.0, 60) and agreed["low"] < 0.4


def test_methods_are_compared_as_they_are_and_at_matched_accuracy(report: Callable[..., Page], tmp_path: Path) -> None:
    same, better = table("same"), table("better", confidence=0.9, correct=[1.0] * 54 + [0.0] * 6)
    text = report(
        same.assign(method="first"), same, better, table("alone", question_id=[f"x{n}" for n in range(60)])
    ).text
    found = json.loads((tmp_path / "report.json").read_text())["tables"]["comparisons"]
    assert [each["methods"] for each in found] == [["first", "same"], ["first", "better"], ["same", "better"]]
    assert found[0]["same_verdicts"] and not found[1]["same_verdicts"]
    assert all(
        entry["value"] == entry["low"] == entry["high"]
        for entry in found[0]["differences"].values()
        if not entry["value"]
    )
    assert found[0]["differences"]["brier"]["value"] == 0.0
    brier = [measure(each, resamples=2)[name]["brier"]["value"] for name, each in (("same", same), ("better", better))]
    assert found[2]["differences"]["brier"]["value"] == pytest.approx(brier[0] - brier[1])
    assert text.count("at matched accuracy") == 3  # two pairs, and the note
    assert "Between methods" not in report(same).text


def test_the_numbers_of_the_pair_stand_in_the_report_json(report: Callable[..., Page], tmp_path: Path) -> None:
    page = report(table(large_correct=1.0, cost=1.0, large_cost=10.0))
    tables = json.loads((tmp_path / "report.json").read_text())["tables"]
    accuracy, cost = tables["pair_accuracy"]["a"], tables["pair_cost"]["a"]
    assert list(accuracy) == [
        "small_alone", "escalated_0.1", "escalated_0.2", "escalated_0.3", "escalated_0.5", "large_alone",
        "best_by_oracle",
    ]  # fmt: skip
    assert accuracy["escalated_0.5"]["low"] < accuracy["escalated_0.5"]["value"] < accuracy["escalated_0.5"]["high"]
    assert all(f"{100 * entry['value']:.1f}%" in page.text for entry in accuracy.values())
    assert cost["escalated_0.5"] == pytest.approx(0.6)


def test_the_same_files_give_the_same_page(report: Callable[..., Page], tmp_path: Path) -> None:
    report(table(large_correct=1.0), title="Again", meta={"seed": 3})
    first = (tmp_path / "report.html").read_bytes()
    write_report(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == first
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "metrics.json",
        "records.parquet",
        "report.html",
        "report.json",
    ]


def test_hostile_text_is_escaped_and_long_text_is_cut(report: Callable[..., Page], tmp_path: Path) -> None:
    wrong = table(
        HOSTILE, 6, correct=0.0, prompt=HOSTILE, gold=HOSTILE, answer=HOSTILE, completion=HOSTILE + "A" * 1_000_000,
        question_id=[f"{HOSTILE}{row}" for row in range(6)], status="</style>", group=HOSTILE,
    )  # fmt: skip
    page = report(wrong, title=HOSTILE, meta={HOSTILE: HOSTILE})
    assert page.count("script") == page.count("img") == 0
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert page.text.count("alert('x')") > 10
    assert "{{ 7 * 7 }}" in page.text and " 49 " not in page.text
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "\u202e" not in source and "\x00" not in source
    assert len(source) < 200_000


def test_confident_wrong_answers_come_surest_first(report: Callable[..., Page]) -> None:
    frame = table(count=4, confidence=[0.5, 0.95, 0.99, 0.2], correct=[0, 0, 1, 0], question_id=["p", "q", "r", "s"])
    unparsed = table(count=1, confidence=0.0, parsed=False, correct=0, question_id="unparsed")
    text = report(frame, unparsed).text.split("Most confident wrong answers")[1].split("How the answers were read")[0]
    assert re.findall(r"(0\.\d{3}) (\w+)", text) == [("0.950", "q"), ("0.500", "p"), ("0.200", "s")]


@pytest.mark.parametrize(
    "frame",
    [
        table(count=1),
        table(correct=1.0),
        table(correct=np.nan),
        table(confidence=0.0, parsed=False),
        table(confidence=1.0, correct=1.0, large_correct=0.0),
        table(correct=0.0, large_correct=0.0),
    ],
    ids=["one row", "all right", "unjudged", "unparsed", "small better", "both wrong"],
)
def test_edge_cases_still_give_a_page(report: Callable[..., Page], frame: pd.DataFrame) -> None:
    text = report(frame).text
    assert "Headline" in text and "nan" not in text.lower().split()


def test_missing_or_broken_inputs_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"records\.parquet: no such file"):
        write_report(tmp_path)
    write_records(table(), tmp_path / "records.parquet")
    with pytest.raises(DataError, match=r"metrics\.json: no such file"):
        write_report(tmp_path)
    for content, fault in (
        ("{", "not valid JSON"),
        ("[]", "JSON object"),
        ("{}", "object of methods"),
        ('{"a": {"ece": 1}}', "'a': 'ece'"),
    ):
        (tmp_path / "metrics.json").write_text(content)
        with pytest.raises(DataError, match=fault):
            write_report(tmp_path)


def test_several_runs_in_one_report(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_records(table("a"), tmp_path / name / "records.parquet")
        write_metrics({"checkpoints": measure(table("a"), resamples=20)}, tmp_path / name / "metrics.json")
    runs = [tmp_path / "first", tmp_path / "second"]
    assert report_runs(runs) == [run / "report.html" for run in runs]
    (combined,) = report_runs(runs, tmp_path / "both")
    text = Page(combined.read_text(encoding="utf-8")).text
    assert "first: a" in text and "second: a" in text
    assert "first: a" not in (tmp_path / "first" / "report.html").read_text(encoding="utf-8")
    with pytest.raises(DataError, match=r"third/records\.parquet: no such file"):
        report_runs([*runs, tmp_path / "third"], tmp_path / "both")


def test_the_terminal_table_shows_names_as_they_are() -> None:
    metrics = measure(pd.concat([table("[red]a[/red]"), table("b", seed=1)]), resamples=20)
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal_table(metrics))
    shown = console.export_text()
    assert "[red]a[/red]" in shown
    assert value_text(METRICS[1], metrics["b"]["brier"]["value"]) in shown
    assert interval_text(METRICS[1], metrics["b"]["brier"]) in shown


def test_best_is_what_reads_best() -> None:
    brier = next(metric for metric in METRICS if metric.key == "brier")
    alike = {"a": {"brier": {"value": 0.1001}}, "b": {"brier": {"value": 0.1002}}, "c": {"brier": {"value": 0.3}}}
    assert best_methods(brier, alike) == {"a", "b"}
    assert best_methods(brier, {"a": alike["a"], "b": alike["b"]}) == frozenset()
    assert best_methods(brier, {"a": alike["a"], "b": {"brier": {"value": None}}}) == frozenset()
    assert best_methods(METRICS[0], {"a": {"accuracy": {"value": 0.5}}, "b": {"accuracy": {"value": 0.9}}}) == {"b"}


def mute(method: str = "mute", correct: object = 0.0, **columns: Any) -> pd.DataFrame:
    return table(method, confidence=np.nan, correct=correct, **columns)


@pytest.mark.parametrize("right", [0, 3, 60])
def test_a_method_that_states_nothing_is_never_best(report: Callable[..., Page], right: int) -> None:
    ours = table("ours", confidence=[0.75] * 36 + [0.4] * 24, correct=[1.0] * 36 + [0.0] * 24, large_correct=1.0)
    frames = [ours, mute(correct=[1.0] * right + [0.0] * (60 - right), large_correct=1.0), table("worse", correct=0.0)]
    metrics = measure(pd.concat(frames), resamples=20)
    for metric in METRICS:
        assert "mute" not in best_methods(metric, metrics), metric.key
    assert best_methods(METRICS[1], metrics) == {"ours"}
    assert best_methods(METRICS[0], metrics) == (frozenset() if right == 60 else {"ours"})
    page = report(*frames)
    rows = re.findall(r"<tr>\s*<th scope=\"row\">(\w+)</th>(.*?)</tr>", page.source, flags=re.DOTALL)
    assert [(name, "best" in cells) for name, cells in rows[:2]] == [("ours", True), ("mute", False)]
    assert rows[1][1].count("no confidence could be read") == 10  # five metrics, each with its title
    assert "n/a" in rows[1][1]


def test_a_method_that_states_almost_nothing_is_not_best_in_calibration() -> None:
    parsed = [True] * 2 + [False] * 58
    frame = pd.concat([table("ours"), table("broken", confidence=0.1, parsed=parsed, correct=0.0)])
    metrics = measure(frame, resamples=20)
    assert metrics["broken"]["brier"]["value"] < metrics["ours"]["brier"]["value"]
    assert best_methods(METRICS[1], metrics) == frozenset()


def shown(metrics: Any, width: int = 140) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(terminal_table(metrics), terminal_notes(metrics))
    return console.export_text()


def test_the_terminal_says_what_could_not_be_read() -> None:
    silent = mute(completion="It is 4.", status="missing_answer")
    assert parse_notices(measure(table(), resamples=20)) == []
    metrics = measure(pd.concat([table("ours"), silent]), resamples=20)
    none_read, no_tags = parse_notices(metrics)
    assert none_read == "mute: none of 60 confidences could be read, so nothing is measured of them"
    assert no_tags.startswith("mute: 60 of 60 completions have no tags")
    assert all(tag in no_tags for tag in ("<answer>", "</answer>", "<confidence>", "Confidence: 85%"))
    text = " ".join(shown(metrics).split())
    assert none_read in text and "n/a" in text
    assert " ".join(shown(measure(silent, resamples=20), width=40).split()).count("none of 60 confidences") == 1


def test_the_terminal_obeys_no_name() -> None:
    name = "\x1b[2J</script>\u202e[bold]a\x07"
    text = shown(measure(pd.concat([table(name), mute(name + "b")]), resamples=20), width=400)
    assert not any(char in text for char in "\x1b\x07\u202e")
    assert "</script>" in text and "[bold]a" in text


HOSTILE_ENDS = ["</script><script>alert('x')</script>", "</style>", "]]>", "--><b>", "</title>", "</svg>", "&lt;"]


@pytest.mark.parametrize("hostile", HOSTILE_ENDS)
def test_no_text_closes_what_it_did_not_open(report: Callable[..., Page], hostile: str) -> None:
    pages = []
    for text in ("harmless", hostile):
        texts = dict.fromkeys(("prompt", "gold", "answer", "completion", "status", "group"), text)
        wrong = table(text, 6, correct=0.0, large_correct=1.0, **texts)
        pages.append(report(wrong, title=text, meta={text: text}))
    harmless, page = pages
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in harmless.elements]
    assert page.text.count(hostile) == harmless.text.count("harmless") > 10


def test_plain_text_keeps_what_people_write() -> None:
    assert plain("naïve 数学 \N{SNOWMAN}\n\t", 50) == "naïve 数学 \N{SNOWMAN}\n\t"
    assert plain("a\ud800b\x1b[31m\u2066", 50) == "a\ufffdb\ufffd[31m\ufffd"


def test_ranks_are_routed_on_and_not_drawn_as_probabilities() -> None:
    """An estimate that is meant as no probability has its AUROC and routing, and neither Brier, ECE nor reliability."""
    frame = pd.DataFrame(
        {
            "method": ["said"] * 4 + ["length"] * 4,
            "question_id": ["a", "b", "c", "d"] * 2,
            "group": ["x", "x", "y", "y"] * 2,
            "correct": [1.0, 0.0, 1.0, 0.0] * 2,
            "confidence": [0.9, 0.2, 0.8, 0.4, 0.875, 0.125, 0.625, 0.375],
            "parsed": True,
            "confidence_source": ["stated"] * 4 + ["ranked"] * 4,
        }
    )
    found = measure(frame, resamples=10)
    assert found["length"]["auroc"]["value"] == found["said"]["auroc"]["value"] == 1.0
    assert "brier" in found["said"] and not found["length"].keys() & {"brier", "ece", "mean_confidence"}
    assert [each["method"] for each in sections.reliabilities(frame)] == ["said"]
    assert {cells[0] for _, cells in sections.group_tables(by_group(frame))["rows"]} == {"said"}
    assert (
        failures.claims(frame.assign(verdict="success"))["rows"]
        == failures.claims(frame[:4].assign(verdict="success"))["rows"]
    )


def test_confident_errors_are_counted_by_group_and_claims_by_confidence(report: Callable[..., Page]) -> None:
    frame = table(count=40, confidence=[0.95, 0.4] * 20, correct=[0.0] * 10 + [1.0] * 30, group=["x"] * 8 + ["y"] * 32)
    found = failures.confident_groups(by_group(frame))
    assert found is not None
    assert [(name, cells[1], cells[3]) for name, cells in found["rows"]] == [
        ("x", "4 of 4", "80%"),
        ("y", "1 of 16", "20%"),
    ]
    assert failures.confident_groups(by_group(table(correct=1.0, group="x"))) is None
    verdicts = ["success", "false_success"] * 20
    claims = failures.claims(frame.assign(verdict=verdicts))
    assert claims is not None
    assert [cells[:3] for _, cells in claims["rows"]] == [["0 to 0.5", "20", "20"], ["0.95 to 1", "20", "0"]]
    text = report(frame.assign(verdict=verdicts)).text
    assert "Success that was claimed" in text and "4 of 4" in text


def test_the_deployed_threshold_is_reported_with_what_it_saves(report: Callable[..., Page]) -> None:
    text = report(table(count=200, large_correct=1.0, cost=1.0, large_cost=10.0)).text
    assert "At a threshold chosen on other questions" in text and "Cost saved" in text
    assert "Cost saved" not in report(table(count=200, large_correct=1.0)).text


@pytest.mark.parametrize(("readings", "folded"), [(4, 0), (5, 4)])
def test_a_page_of_more_than_six_methods_leads_with_three_and_folds_the_rest(
    report: Callable[..., Page], readings: int, folded: int
) -> None:
    extra = [table(f"ours_{number}", seed=number, large_correct=1.0) for number in range(readings)]
    page = report(table("start", large_correct=1.0), *extra, table("ours", seed=9, large_correct=1.0))
    names = {"start", "ours", *(f"ours_{number}" for number in range(readings))}
    outside, *inside = re.split(r"<details class=\"more\"><summary>\d+ more methods</summary>", page.source)
    assert page.source.count(f"{folded} more methods") == len(inside) == (9 if folded else 0)
    lead = set(re.findall(r"<th scope=\"row\">(\w+)</th>", outside))
    assert {"start", "ours"} <= lead and len(lead) == (3 if folded else 6)
    for part in inside:  # headline, reliability, risk, routing, pair, gap, deployed, wrong answers, reading
        rest = part.partition("</details>")[0]
        assert all(f">{name}<" in rest or f"<h3>{name} " in rest for name in names - lead)
        assert not any(f">{name}<" in rest or f"<h3>{name} " in rest for name in lead)


def test_a_difference_that_rounds_to_0_has_no_sign_of_its_own() -> None:
    entries = {
        f"{matched}{name}": {"value": -1e-9, "low": -2e-4, "high": None if name == "auroc" else 3e-4, "n": 9}
        for matched in ("", "matched_")
        for name in ("accuracy", "brier", "ece", "auroc")
    }
    pair = {"methods": ["a", "b"], "accuracies": [0.5, 0.5], "same_verdicts": True, "differences": entries}
    table = sections.comparison_table([pair])
    assert table is not None
    assert table["shown"][0][1][2:] == ["+0.000 (+0.000 to +0.000)"] * 2 + ["+0.000"]
