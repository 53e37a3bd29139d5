"""The page of a run as it grows, and the tables and pictures of its held-out probes."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from experiments.cli import main
from experiments.report.heldout import HeldOutTables, tables
from experiments.report.live import watch, write_live
from rl.files import mark_complete
from rl.heldout import Answer
from tests.factories import Refusal

ANSWERS = [
    Answer(0.9, 1.0, "1+1=", "<answer>2</answer>"),
    Answer(None, 0.0, "1+2=", "?"),
    Answer(0.4, None, "1+3=", "4"),
]


def grow(run: Path, step: int) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        held_out = {"heldout/brier": 0.25} if step % 2 == 0 else {}
        record = {"step": step, "reward": 0.1 * step, "calibration/brier": 0.3, "calibration/auroc": None, **held_out}
        file.write(json.dumps(record) + "\n")


def a_run(path: Path, steps: int = 4) -> Path:
    path.mkdir()
    for step in range(1, steps + 1):
        grow(path, step)
    HeldOutTables(path, ())(2, ANSWERS)
    HeldOutTables(path, ())(99, ANSWERS)  # of a run that went on from an earlier step
    alarm = {"alarm": "truncation", "step": 3, "saw": "<b>much</b>", "remedy": "longer"}
    (path / "alarms.jsonl").write_text(json.dumps(alarm) + "\n")
    (path / "completions").mkdir()
    row = {"step": 4, "prompt": "1+1=", "completion": "<script>alert(1)</script>", "brier": -0.25, "confidence": 0.5,
           "correct": 1.0, "verdict": "equal"}  # fmt: skip
    pd.DataFrame([row]).to_parquet(path / "completions" / "completions_00004.parquet")
    return path


def test_the_page_shows_curves_alarms_reliability_and_completions(tmp_path: Path) -> None:
    text = write_live(a_run(tmp_path / "run"), refresh_s=10).read_text()
    assert '<meta http-equiv="refresh" content="10">' in text and "default-src &#39;none&#39;" not in text
    assert "<script" not in text and "&lt;script&gt;alert(1)" in text and "&lt;b&gt;much" in text
    for said in ("reward over the steps", "Brier over the steps", "step 2, 2 questions, 50.0% right", "-0.25", "equal"):
        assert said in text, said
    assert "AUROC over the steps" not in text, "nothing is known of it yet"
    assert "refresh" not in write_live(tmp_path / "run").read_text()


def test_a_run_is_watched_until_it_is_done(tmp_path: Path) -> None:
    run, seen = a_run(tmp_path / "run"), []
    thread = threading.Thread(target=watch, args=(run, 1, seen.append), daemon=True)
    thread.start()
    page = run / "live.html"
    _until(lambda: page.is_file() and "<dd>4</dd>" in page.read_text())
    grow(run, 5)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "rew')  # a line that is being written
    _until(lambda: "<dd>5</dd>" in page.read_text() and "in training" in page.read_text())
    (run / "final").mkdir()
    mark_complete(run / "final", 5)
    thread.join(20)
    assert not thread.is_alive() and "done" in page.read_text() and seen == [page]


def test_what_is_cut_off_or_damaged_is_passed_over(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", steps=6)
    for folder, name in (("heldout", "heldout"), ("completions", "completions")):
        (run / folder / f"{name}_00005.parquet").write_bytes(b"PAR1 and no more")
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'{"reward": 9.0}\n[]\n{"step": null, "reward": 1}\n{"step": 7, "note": "\xe2\x82')
    text = write_live(run).read_text()
    assert "step 2, 2 questions" in text and "step 4" in text and "<dd>6</dd>" in text
    (run / "metrics.jsonl").write_text("")  # begun again
    assert "<dd>0</dd>" in write_live(run).read_text()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("values", [(1e308, -1e308), (1e308, 1e308), ("1" + 400 * "0", 0.1), ("Infinity", "NaN")])
def test_metrics_beyond_all_axes_are_drawn_or_passed_over(tmp_path: Path, values: tuple[Any, Any]) -> None:
    run = a_run(tmp_path / "run", steps=0)
    lines = [f'{{"step": {step}, "reward": {value}}}' for step, value in enumerate(values)]
    (run / "metrics.jsonl").write_text("\n".join([*lines, f'{{"step": 1{400 * "0"}, "reward": 1}}']))
    assert "reward over the steps" in write_live(run).read_text()


def test_watching_ends_in_one_line(
    tmp_path: Path, refusal: Refusal, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path / "run")
    monkeypatch.setattr("experiments.report.live.time", SimpleNamespace(sleep=lambda _: shutil.rmtree(run)))
    assert "holds no metrics.jsonl" in refusal.command("report", "--watch", run)
    assert not run.exists()

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.report.live.time", SimpleNamespace(sleep=interrupt))
    again = a_run(run)
    assert main(["report", "--watch", str(again)]) == 130
    assert capsys.readouterr().err.strip() == "candor: interrupted"
    (again / "live.html").unlink()
    (again / "live.html").mkdir()
    assert "cannot be written: Is a directory" in refusal.command("report", "--watch", again)


def _until(there: Any) -> None:
    deadline = time.monotonic() + 30
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_verb_watches_one_run(tmp_path: Path, refusal: Refusal, capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run(tmp_path / "run")
    (run / "final").mkdir()
    mark_complete(run / "final", 4)
    assert main(["report", "--watch", str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "live.html")
    assert "no metrics.jsonl" in refusal.command("report", "--watch", tmp_path)
    assert "one RUN" in refusal.command("report", "--watch", run, run)
    assert "--every" in refusal.command("report", "--watch", run, "--every", 0)


def test_a_probe_leaves_its_table_in_the_run(tmp_path: Path) -> None:
    HeldOutTables(tmp_path, ["tensorboard"])(7, ANSWERS)
    (path,) = tables(tmp_path)
    table = pd.read_parquet(path)
    assert path.name == "heldout_00007.parquet" and table["confidence"].isna().tolist() == [False, True, False]
    assert table["prompt"].tolist() == ["1+1=", "1+2=", "1+3="]


def test_a_tracker_is_given_the_picture_and_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[dict[str, Any]] = []
    tracker = SimpleNamespace(
        Table=lambda dataframe: dataframe, Image=lambda picture: picture.size, log=logged.append, run=None
    )
    monkeypatch.setitem(sys.modules, "trackio", tracker)
    monkeypatch.setitem(sys.modules, "wandb", tracker)
    HeldOutTables(tmp_path, ["wandb", "trackio"])(3, ANSWERS)
    (content,) = logged  # wandb has no run
    assert content["train/global_step"] == 3 and len(content["heldout/completions"]) == 3
    assert min(content["heldout/reliability"]) > 300
    unjudged = [Answer(0.5, None)]
    HeldOutTables(tmp_path, ["trackio"])(4, unjudged)
    assert "heldout/reliability" not in logged[-1]
