"""Foreign files in, records table out: every fault is named where it stands, and nothing changes on the way."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.probe.measure import measure
from experiments.probe.records import COLUMNS, from_completions, read_completions, read_records, write_records
from experiments.probe.tables import DataError
from rewards.template import AnswerTemplate
from rewards.verifiers.pool import VerifierPool

GOOD = {"prompt": "2 + 2?", "gold": "4", "completion": "<answer>4</answer><confidence>0.9</confidence>"}


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifierPool]:
    with VerifierPool(workers=1) as verifiers:
        yield verifiers


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ({"confidence": 1.5, "correct": 1}, ["line 2", "'confidence'", "1.5", "number from 0 to 1"]),
        ({"confidence": -0.1, "correct": 1}, ["line 2", "'confidence'", "-0.1", "number from 0 to 1"]),
        ({"confidence": "0.5", "correct": 1}, ["line 2", "'confidence'", "'0.5'", "number from 0 to 1"]),
        ({"confidence": True, "correct": 1}, ["line 2", "'confidence'", "True", "number from 0 to 1"]),
        ({"confidence": 0.5, "correct": 2}, ["line 2", "'correct'", "2", "0 or 1"]),
        ({"confidence": 0.5, "correct": 0.5}, ["line 2", "'correct'", "0.5", "0 or 1"]),
        ({"confidence": 0.5, "correct": "yes"}, ["line 2", "'correct'", "'yes'", "0 or 1"]),
        ({"confidence": 0.5, "correct": 1, "large_correct": 3}, ["line 2", "'large_correct'", "3", "0 or 1"]),
        ({"confidence": 0.5, "correct": 1, "cost": -2}, ["line 2", "'cost'", "-2", "number from 0 to 1e+100"]),
        ({"confidence": 0.5, "correct": 1, "completion_tokens": 1.5}, ["'completion_tokens'", "1.5", "whole number"]),
        ({"confidence": 0.5, "correct": 1, "method": ["a"]}, ["line 2", "'method'", "['a']", "text"]),
        ({"confidence": 0.5, "correct": 1, "parsed": "no"}, ["line 2", "'parsed'", "'no'", "true or false"]),
    ],
)
def test_a_bad_value_is_named_with_its_line_and_what_was_expected(
    tmp_path: Path, row: dict[str, Any], parts: list[str]
) -> None:
    good = {"confidence": 0.5, "correct": 1, **{key: None for key in row if key not in ("confidence", "correct")}}
    good |= {"parsed": True} if "parsed" in row else {}
    good |= {"method": "a"} if "method" in row else {}
    path = write_jsonl(tmp_path / "records.jsonl", [good, row])
    with pytest.raises(DataError) as raised:
        read_records(path)
    assert all(part in str(raised.value) for part in [str(path), *parts]), raised.value


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("broken.jsonl", '{"confidence": 0.5, "correct": 1}\n{"confidence": 0.5,\n', ["broken.jsonl:2", "JSON"]),
        ("nan.jsonl", '{"confidence": NaN, "correct": 1}\n', ["nan.jsonl:1", "NaN", "null"]),
        ("list.jsonl", "[1, 2]\n", ["list.jsonl:1", "object", "[1, 2]"]),
        ("latin.jsonl", b'{"confidence": 0.5, "correct": 1, "prompt": "\xe9"}\n', ["latin.jsonl:1", "utf-8"]),
        ("deep.jsonl", "[" * 100_000, ["deep.jsonl:1"]),
        ("empty.jsonl", "", ["empty.jsonl", "empty"]),
        ("blank.jsonl", "\n\n", ["blank.jsonl", "no rows"]),
        ("empty.parquet", "", ["empty.parquet", "empty"]),
        ("broken.parquet", "PAR1 and nothing more", ["broken.parquet", "parquet"]),
        ("table.csv", "confidence,correct\n", ["table.csv", "'.csv'", ".parquet or .jsonl"]),
        ("typo.jsonl", '{"confidance": 0.5, "correct": 1}\n', ["'confidance' is there", "did you mean 'confidence'"]),
        ("lacks.jsonl", '{"confidence": 0.5}\n', ["no column 'correct'", "only 'confidence'"]),
        ("metod.jsonl", '{"confidence": 0.5, "correct": 1, "metod": "a"}\n', ["'metod'", "did you mean 'method'"]),
        ("case.jsonl", '{"confidence": 0.5, "correct": 1, "METHOD": "a"}\n', ["'METHOD'", "did you mean 'method'"]),
        ("id.jsonl", '{"confidence": 0.5, "correct": 1, "Question ID": "a"}\n', ["did you mean 'question_id'"]),
    ],
)
def test_a_bad_file_is_named_with_the_cure(tmp_path: Path, name: str, content: str | bytes, parts: list[str]) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as raised:
        read_records(path)
    assert all(part in str(raised.value) for part in parts), raised.value


def test_a_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_completions(tmp_path / "nowhere.parquet")


def test_a_parquet_fault_names_the_row(tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"
    pd.DataFrame({"confidence": [0.5, 0.5, 7.0], "correct": [1, 0, 1]}).to_parquet(path)
    with pytest.raises(DataError, match=r"records\.parquet, row 2, column 'confidence': 7\.0 found"):
        read_records(path)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"gold": None}, ["line 1", "'gold'", "no value", "text"]),
        ({"completion": {"role": "assistant"}}, ["line 1", "'completion'", "role", "text"]),
        ({"confidence": 85}, ["line 1", "'confidence'", "85", "number from 0 to 1"]),
        ({"question_id": None}, ["line 1", "'question_id'", "no value"]),
    ],
)
def test_a_bad_completion_is_named(tmp_path: Path, change: dict[str, Any], parts: list[str]) -> None:
    path = write_jsonl(tmp_path / "completions.jsonl", [GOOD | change])
    with pytest.raises(DataError) as raised:
        read_completions(path)
    assert all(part in str(raised.value) for part in parts), raised.value


def test_completions_need_a_prompt_or_a_problem(tmp_path: Path) -> None:
    row = {key: value for key, value in GOOD.items() if key != "prompt"}
    assert read_completions(write_jsonl(tmp_path / "a.jsonl", [row | {"problem": "?"}]))["prompt"].tolist() == ["?"]
    with pytest.raises(
        DataError, match=r"no column 'prompt' or 'problem' \('promt' is there; did you mean 'prompt'\?\)"
    ):
        read_completions(write_jsonl(tmp_path / "b.jsonl", [row | {"promt": "?"}]))


def test_defaults_and_nulls_of_records(tmp_path: Path) -> None:
    rows = [
        {"confidence": 0.7, "correct": True},
        {"confidence": None, "correct": 0},
        {"confidence": 1, "correct": None},
    ]
    records = read_records(write_jsonl(tmp_path / "records.jsonl", rows))
    assert records["method"].tolist() == ["all"] * 3
    assert records["question_id"].tolist() == ["0", "1", "2"]
    assert records["confidence"].tolist() == [0.7, 0.0, 1.0]
    assert records["parsed"].tolist() == [True, False, True]
    assert records["confidence_source"].tolist() == ["recorded", "unparsed", "recorded"]
    assert records["correct"].isna().tolist() == [False, False, True]


def test_numbers_as_gold_and_ids_are_read_as_text(tmp_path: Path) -> None:
    frame = read_completions(write_jsonl(tmp_path / "a.jsonl", [GOOD | {"gold": 4, "question_id": 17}]))
    assert frame[["gold", "question_id"]].iloc[0].tolist() == ["4", "17"]


def test_what_numbers_and_times_are_as_text(tmp_path: Path) -> None:
    path = tmp_path / "completions.parquet"
    frame = pd.DataFrame(
        {
            "prompt": "?",
            "completion": "x",
            "gold": [4.0, 0.5],
            "question_id": [pd.Timestamp("2026-01-02"), pd.Timestamp("2026-01-02 03:04:05")],
            "group": [datetime.date(2026, 1, 2), None],
            "method": [Decimal("4.50"), Decimal("7.00")],
        }
    )
    frame.to_parquet(path)
    read = read_completions(path)
    assert read["gold"].tolist() == ["4", "0.5"]
    assert read["question_id"].tolist() == ["2026-01-02 00:00:00", "2026-01-02 03:04:05"]
    assert read["group"].tolist()[0] == "2026-01-02" and pd.isna(read["group"][1])
    assert read["method"].tolist() == ["4.50", "7"]


@pytest.mark.parametrize("index", [["method", "question_id"], ["question_id"], ["confidence"], ["correct", "method"]])
def test_the_index_of_a_parquet_file_is_columns(tmp_path: Path, index: list[str]) -> None:
    rows = {"method": ["a", "a", "b", "b"], "question_id": ["p", "q", "p", "q"], "confidence": [0.1, 0.2, 0.3, 0.4]}
    frame = pd.DataFrame(rows | {"correct": [0, 1, 1, 1]})
    frame.to_parquet(tmp_path / "plain.parquet")
    frame.set_index(index).to_parquet(tmp_path / "indexed.parquet")
    plain, indexed = (read_records(tmp_path / f"{name}.parquet") for name in ("plain", "indexed"))
    pd.testing.assert_frame_equal(plain, indexed)


def test_an_index_that_says_something_needs_a_name(tmp_path: Path) -> None:
    frame = pd.DataFrame({"confidence": [0.1, 0.2], "correct": [0, 1]}, index=["first", "second"])
    frame.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: its index holds values such as 'first' and has no name; give it"):
        read_records(tmp_path / "a.parquet")
    frame.set_axis([3, 3]).to_parquet(tmp_path / "b.parquet")
    assert len(read_records(tmp_path / "b.parquet")) == 2, "what filtering and joining leave counts the rows"


def test_an_index_that_is_a_column_too_is_named(tmp_path: Path) -> None:
    frame = pd.DataFrame({"confidence": [0.1], "correct": [1], "method": ["a"]})
    frame.set_index("method", drop=False).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: 'method' is both a column and a level of the index"):
        read_records(tmp_path / "a.parquet")


@pytest.mark.parametrize("mark_at", [0, 1])
def test_a_byte_order_mark_is_not_part_of_a_line(tmp_path: Path, mark_at: int) -> None:
    lines = [b'{"confidence": 0.5, "correct": 1}\r\n', b'{"confidence": 0.25, "correct": 0}\r\n', b"\xef\xbb\xbf\n"]
    lines[mark_at] = b"\xef\xbb\xbf" + lines[mark_at]
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"".join(lines))
    assert read_records(path)["confidence"].tolist() == [0.5, 0.25]


@pytest.mark.parametrize(
    ("values", "read"),
    [
        ([1.0000001, -1e-9], [1.0, 0.0]),
        ([np.float32(1.0000001), np.float32(0.5)], [1.0, 0.5]),
        ([Decimal("0.900"), Decimal("1.000")], [0.9, 1.0]),
        ([0, 1], [0.0, 1.0]),
    ],
)
def test_confidences_within_float_noise_and_of_any_kind_of_number_are_read(
    tmp_path: Path, values: list[Any], read: list[float]
) -> None:
    path = tmp_path / "records.parquet"
    pd.DataFrame({"confidence": values, "correct": [0.9999999, 0], "cost": [-1e-9, 2]}).to_parquet(path)
    records = read_records(path)
    assert records["confidence"].tolist() == read
    assert records["correct"].tolist() == [1.0, 0.0]
    assert records["cost"].tolist() == [0.0, 2.0]


@pytest.mark.parametrize("value", [1.001, -0.001, np.inf, -np.inf])
@pytest.mark.parametrize("column", ["confidence", "recorded_confidence"])
def test_what_is_no_probability_is_named(tmp_path: Path, column: str, value: float) -> None:
    path = tmp_path / "records.parquet"
    pd.DataFrame({"confidence": 0.5, "correct": 1, "recorded_confidence": 0.5} | {column: [0.5, value]}).to_parquet(
        path
    )
    with pytest.raises(DataError, match=rf"row 1, column '{column}': {value} found, expected a number from 0 to 1"):
        read_records(path)


@pytest.mark.parametrize("column", ["correct", "large_correct", "cost", "completion_tokens", "question_id", "gold"])
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_values_are_named(tmp_path: Path, column: str, value: float) -> None:
    path = tmp_path / "records.parquet"
    pd.DataFrame({"confidence": 0.5, "correct": 1, column: [1.0, value]}).to_parquet(path)
    with pytest.raises(DataError, match=rf"row 1, column '{column}': {value} found, expected"):
        read_records(path)


@pytest.mark.parametrize("column", ["cost", "large_cost", "latency_s", "large_latency_s"])
@pytest.mark.parametrize("value", [1e308, 1.1e100, -1])
def test_an_amount_that_cannot_be_added_up_is_named(tmp_path: Path, column: str, value: float) -> None:
    path = write_jsonl(tmp_path / "records.jsonl", [{"confidence": 0.5, "correct": 1, column: value}])
    with pytest.raises(DataError, match=rf"line 1, column '{column}': .* found, expected a number from 0 to 1e\+100"):
        read_records(path)


def test_infinity_in_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    for text, fault in (("1e999", "column 'confidence': inf found"), ("Infinity", "Infinity is not a JSON number")):
        path.write_text(f'{{"confidence": 0.5, "correct": 1}}\n{{"confidence": {text}, "correct": 1}}\n')
        with pytest.raises(DataError, match=rf"records\.jsonl(:2|, line 2).*{fault}"):
            read_records(path)


def test_nan_is_no_value_in_every_column(tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"
    empty = [
        "confidence",
        "correct",
        "large_correct",
        "cost",
        "completion_tokens",
        "recorded_correct",
        "group",
        "prompt",
    ]
    frame = pd.DataFrame({"confidence": [0.5, 0.5], "correct": [1.0, 0.0]} | {name: [0.0, np.nan] for name in empty})
    frame.to_parquet(path)
    records = read_records(path)
    assert records["parsed"].tolist() == [True, False]
    assert records["confidence"].tolist() == [0.0, 0.0]
    assert all(records[name].isna().tolist() == [False, True] for name in empty if name != "confidence")
    metrics = measure(records, resamples=20)["all"]
    assert all(math.isfinite(entry[end] or 0) for entry in metrics.values() for end in ("value", "low", "high"))


def test_lone_surrogates_do_not_reach_the_table(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [GOOD | {"completion": "\ud800 <answer>4</answer>"}])
    completion = read_completions(path)["completion"][0]
    assert completion == "? <answer>4</answer>"


def test_records_survive_writing_and_reading(tmp_path: Path, pool: VerifierPool) -> None:
    rows = [
        GOOD | {"method": "a", "large_correct": 1, "cost": 0.25, "group": "sums", "completion_tokens": 12},
        GOOD | {"method": "b", "completion": "<answer>5</answer>", "confidence": 0.4, "correct": 0},
        GOOD | {"method": "b", "completion": "nothing", "correct": 1},
    ]
    frame = read_completions(write_jsonl(tmp_path / "completions.jsonl", rows))
    records = from_completions(frame, AnswerTemplate(), pool)
    path = write_records(records, tmp_path / "run" / "records.parquet")
    assert tuple(records.columns) == COLUMNS
    pd.testing.assert_frame_equal(read_records(path), records)
    assert [each.name for each in path.parent.iterdir()] == ["records.parquet"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_records(pd.DataFrame({"confidence": [0.5], "correct": [1.0]}), tmp_path / "records.parquet")
    before = path.read_bytes()
    with pytest.raises((ValueError, TypeError)):
        write_records(pd.DataFrame({"confidence": ["high"], "correct": [1.0]}), path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_the_stated_confidence_counts_and_a_recorded_one_fills_in_only_where_none_is_stated(
    pool: VerifierPool,
) -> None:
    completions = [
        "<answer>4</answer><confidence>0.9</confidence>",
        "<answer>4</answer>",
        "<answer>4</answer><confidence>certain</confidence>",
        "<answer>5</answer>",
        "<answer>4</answer> <confidence>80%</confidence>",
    ]
    frame = pd.DataFrame(
        {
            "gold": "4",
            "completion": completions,
            "confidence": [0.1, 0.6, 0.6, np.nan, 0.1],
            "correct": [1, 1, 0, 0, 1],
        }
    )
    records = from_completions(frame, AnswerTemplate(), pool)
    assert records["confidence_source"].tolist() == ["stated", "recorded", "unparsed", "unparsed", "stated"]
    assert records["confidence"].tolist() == [0.9, 0.6, 0.0, 0.0, 0.8]
    assert records["parsed"].tolist() == [True, True, False, False, True]
    assert records["lenient"].tolist() == [False, False, False, False, True]
    assert records["correct"].tolist() == [1.0, 1.0, 1.0, 0.0, 1.0]
    assert records["recorded_correct"].tolist() == [1.0, 1.0, 0.0, 0.0, 1.0]
    assert records["recorded_confidence"].tolist()[:3] == [0.1, 0.6, 0.6]
    assert records["status"].tolist()[2:4] == ["not_a_number", "missing_confidence"]


def test_a_recorded_confidence_goes_before_one_in_words_only(pool: VerifierPool) -> None:
    frame = pd.DataFrame({"gold": "4", "completion": "Answer: 4\nConfidence: 80%", "confidence": [0.3, np.nan]})
    records = from_completions(frame, AnswerTemplate(), pool)
    assert records["confidence"].tolist() == [0.3, 0.8]
    assert records["confidence_source"].tolist() == ["recorded", "stated"]
    assert records["correct"].tolist() == [1.0, 1.0]


def test_a_template_without_confidence_leaves_it_to_the_recorded_one(pool: VerifierPool) -> None:
    frame = pd.DataFrame({"gold": ["4"], "completion": [GOOD["completion"]], "confidence": [0.3]})
    records = from_completions(frame, AnswerTemplate(confidence="none"), pool)
    assert records[["confidence", "confidence_source"]].iloc[0].tolist() == [0.3, "recorded"]


def test_truncated_completions_are_marked(pool: VerifierPool) -> None:
    frame = pd.DataFrame({"gold": "4", "completion": [GOOD["completion"]] * 2, "truncated": [True, False]})
    assert from_completions(frame, AnswerTemplate(), pool)["status"].tolist() == ["truncated", "ok"]


def test_from_completions_names_a_missing_column(pool: VerifierPool) -> None:
    with pytest.raises(DataError, match="no column 'gold'"):
        from_completions(pd.DataFrame({"completion": ["x"]}), AnswerTemplate(), pool)
