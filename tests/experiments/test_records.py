"""Foreign files in, records table out: every fault is named where it stands, and nothing changes on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

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
        ({"confidence": 0.5, "correct": 1, "cost": -2}, ["line 2", "'cost'", "-2", "0 or more"]),
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
