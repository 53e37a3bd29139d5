"""Tables of completions: of as many rows and as many files as asked, drawn alike by a resumed run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from rl.config import CalibratedGRPOConfig
from rl.monitoring.completion_tables import CompletionTables, tables

TEXTS = [f"<answer>{digit}</answer><confidence>0.75</confidence>" for digit in range(8)]


def run(make_trainer: Any, replay: Any, out: Path, **settings: Any) -> list[pd.DataFrame]:
    trainer = make_trainer(
        output_dir=str(out), max_steps=4, log_completions=True, num_completions_to_print=0, **settings
    )  # fmt: skip
    trainer.add_callback(CompletionTables(trainer))
    replay(trainer, TEXTS, TEXTS[::-1])
    trainer.train()
    return [pd.read_parquet(path) for path in tables(out)]


def test_a_table_has_as_many_rows_as_asked_and_the_newest_are_kept(
    make_trainer: Any, replay: Any, tmp_path: Path
) -> None:
    whole = run(make_trainer, replay, tmp_path / "whole")
    assert [len(table) for table in whole] == [8] * 4
    sampled = run(make_trainer, replay, tmp_path / "sampled", log_completions_rows=3, log_completions_files=2)
    assert [path.stem for path in tables(tmp_path / "sampled")] == ["completions_00003", "completions_00004"]
    chosen = []
    for table, all_rows in zip(sampled, whole[2:], strict=True):
        columns = ["completion", "answer", "verdict", "advantage", "accuracy"]  # one row is one completion throughout
        rows = all_rows[columns].apply(tuple, axis=1).tolist()
        chosen.append([rows.index(row) for row in table[columns].apply(tuple, axis=1)])
        assert len(table) == 3 and chosen[-1] == sorted(set(chosen[-1])), "three completions, in their order"
    again = run(make_trainer, replay, tmp_path / "again", log_completions_rows=3)
    pd.testing.assert_frame_equal(again[3], sampled[1])
    assert len({tuple(table["completion"]) for table in again}) > 1, "not the same places each time"


def test_a_resumed_run_drops_the_tables_that_lie_past_its_step(tmp_path: Path) -> None:
    (tmp_path / "completions").mkdir()
    for step in (9, 10, 100, 100000):
        (tmp_path / "completions" / f"completions_{step:05d}.parquet").write_bytes(b"half")
    arguments = SimpleNamespace(output_dir=str(tmp_path))
    state = SimpleNamespace(is_world_process_zero=False, global_step=10)
    CompletionTables(None).on_train_begin(arguments, state, None)
    assert len(tables(tmp_path)) == 4, "that is for the main process to do"
    state.is_world_process_zero = True
    CompletionTables(None).on_train_begin(arguments, state, None)
    assert [path.stem for path in tables(tmp_path)] == ["completions_00009", "completions_00010"]


@pytest.mark.parametrize("name", ["log_completions_rows", "log_completions_files"])
def test_a_table_without_rows_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"trainer.{name}: 0 is below 1"):
        CalibratedGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **{name: 0})
