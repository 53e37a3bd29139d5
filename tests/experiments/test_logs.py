"""Logs of evaluation harnesses: which column becomes what, which rows count, and what every fault is called."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from scipy.special import softmax

from experiments.cli import main
from experiments.errors import ConfigError, DataError
from experiments.probe.logs.inspect_ai import from_eval_log
from experiments.probe.logs.read import log_records, read_logs
from experiments.probe.logs.scores import write_inspect_scores
from tests.factories import Refusal

DATE = "2026-11-26T03-11-01.629403"


def choice_row(number: int, values: list[float], target: int, **more: Any) -> dict[str, Any]:
    """A multiple choice as lm-eval writes it: numbers as text, one request an option."""
    best = values.index(max(values))
    return {
        "doc_id": number,
        "doc": {"question": f"q{number}", "topic": "sums"},
        "target": str(target),
        "arguments": {
            f"gen_args_{place}": {"arg_0": f"q{number}\nAnswer:", "arg_1": f" {'o' * (place + 1)}"}
            for place in range(len(values))
        },
        "resps": [[[str(value), "False"]] for value in values],
        "filtered_resps": [[str(value), "False"] for value in values],
        "filter": "none",
        "metrics": ["acc", "acc_norm"],
        "acc": float(best == target),
        "acc_norm": 0.0,
    } | more


def written_row(number: int, text: str, correct: float, filter_name: str) -> dict[str, Any]:
    return {
        "doc_id": number,
        "doc": {"question": f"q{number}"},
        "target": "4",
        "arguments": {"gen_args_0": {"arg_0": f"q{number}", "arg_1": {"until": []}}},
        "resps": [[text]],
        "filtered_resps": ["4"],
        "filter": filter_name,
        "metrics": ["exact_match"],
        "exact_match": correct,
    }


def lm_eval_file(folder: Path, rows: list[dict[str, Any]], task: str = "sums", date: str = DATE) -> Path:
    path = folder / "org__model" / f"samples_{task}_{date}.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


WRITTEN = [
    written_row(number, f"<answer>4</answer><confidence>0.{9 - number}</confidence>", correct, name)
    for name, verdicts in (("strict", [1.0, 0.0]), ("flexible", [1.0, 1.0]))
    for number, correct in enumerate(verdicts)
]


def test_the_confidence_of_a_choice_is_the_softmax_of_its_log_likelihoods(tmp_path: Path) -> None:
    values = [[-3.0, -1.0, -2.0], [-1.0, -1.5, -700.0]]
    rows = [choice_row(number, each, 1) for number, each in enumerate(values)]
    (log,) = read_logs(lm_eval_file(tmp_path, rows))
    records = log_records([log])
    assert records["confidence"].tolist() == pytest.approx([softmax(each).max() for each in values])
    assert records["correct"].tolist() == [1.0, 0.0]
    assert records["answer"].tolist() == ["oo", "o"]
    assert records["question_id"].tolist() == ["sums/0", "sums/1"]
    assert set(records["method"]) == {"org/model"} and set(records["group"]) == {"sums"}
    assert log.columns["correct"] == "acc (also there: acc_norm; choose with --metric)"
    assert log.columns["group"] == "topic"


def test_a_metric_that_divides_by_the_length_is_followed(tmp_path: Path) -> None:
    values = [-1.0, -1.8, -6.0]  # options of 1, 2 and 3 characters
    (log,) = read_logs(lm_eval_file(tmp_path, [choice_row(0, values, 1, acc_norm=1.0)]), metric="acc_norm")
    records = log_records([log])
    assert records["answer"].tolist() == ["oo"]
    assert records["confidence"][0] == pytest.approx(softmax([-1.0, -0.9, -2.0]).max())
    assert not log.notices  # the target, option 1, is the surest by this metric, and the verdict says so


def test_a_verdict_that_ranks_by_something_else_is_told(tmp_path: Path) -> None:
    (log,) = read_logs(
        lm_eval_file(tmp_path, [choice_row(0, [-1.0, -2.0], 1, acc=1.0), choice_row(1, [-1.0, -2.0], 0)])
    )
    assert log.notices == ["on 1 of 2 the verdict is not that of the surest option: it ranks by something else"]


def test_options_asked_again_without_a_prompt_are_not_options(tmp_path: Path) -> None:
    row = choice_row(0, [-1.0, -2.0], 0)
    row["resps"] += [[["-0.1", "False"]], [["-0.1", "False"]]]
    row["arguments"] |= {f"gen_args_{place}": {"arg_0": "", "arg_1": " o"} for place in (2, 3)}
    (log,) = read_logs(lm_eval_file(tmp_path, [row]))
    assert log.samples[0].options == (-1.0, -2.0)


@pytest.mark.parametrize(("asked", "correct"), [(None, [1.0, 0.0]), ("flexible", [1.0, 1.0])])
def test_one_row_a_question_whatever_the_number_of_filters(
    tmp_path: Path, asked: str | None, correct: list[float]
) -> None:
    (log,) = read_logs(lm_eval_file(tmp_path, WRITTEN), filter_name=asked)
    records = log_records([log])
    assert records["correct"].tolist() == correct
    assert records["confidence"].tolist() == [0.9, 0.8]
    assert set(records["confidence_source"]) == {"stated"}
    taken, other = ("strict", "flexible") if asked is None else ("flexible", "strict")
    assert log.notices == [f"rows of filter {taken} (also there: {other}; choose with --filter)"]


def test_of_a_folder_the_latest_run_of_each_task_is_read(tmp_path: Path) -> None:
    old = [choice_row(0, [-1.0, -2.0], 1)]
    lm_eval_file(tmp_path, old, date="2025-01-01T00-00-00.0")
    lm_eval_file(tmp_path, [choice_row(0, [-1.0, -3.0], 0)])
    lm_eval_file(tmp_path, [old[0] | {"resps": [[["-22.4", "False"]]]}], task="perplexity")
    (log,) = read_logs(tmp_path)
    assert log.samples[0].options == (-1.0, -3.0)
    assert any("an older run of sums by org/model" in notice for notice in log.notices)
    assert any("no confidence in an answer can be read" in notice for notice in log.notices)


def test_over_a_folder_a_choice_holds_where_there_is_one(tmp_path: Path) -> None:
    lm_eval_file(tmp_path, WRITTEN)
    lm_eval_file(tmp_path, [choice_row(0, [-1.0, -2.0], 0)], task="choices")
    logs = {log.task: log for log in read_logs(tmp_path, metric="acc_norm", filter_name="flexible")}
    assert [each.correct for each in logs["sums"].samples] == [1.0, 1.0]
    assert [each.correct for each in logs["choices"].samples] == [0.0]


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"resps": [[["-1", "False"]]]}, ["line 2", "'resps'", "no confidence in an answer"]),
        ({"resps": "4"}, ["line 2", "'resps'", "expected a list of lists"]),
        ({"resps": [[["nan", "False"]], [["-1", "False"]]]}, ["line 2", "'resps'", "nan", "log-likelihood"]),
        ({"doc_id": 0}, ["line 2", "'doc_id'", "0 again, as line 1"]),
        ({"acc": "yes"}, ["line 2", "'acc'", "'yes'", "expected a number"]),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path: Path, change: dict[str, Any], parts: list[str]) -> None:
    path = lm_eval_file(tmp_path, [choice_row(0, [-1.0, -2.0], 0), choice_row(1, [-1.0, -2.0], 0) | change])
    with pytest.raises(DataError) as raised:
        read_logs(path)
    assert all(part in str(raised.value) for part in [str(path), *parts]), raised.value


def test_what_is_not_there_is_named_with_what_is(tmp_path: Path) -> None:
    path = lm_eval_file(tmp_path, WRITTEN)
    with pytest.raises(ConfigError, match=r"--filter: 'strikt' .* strict, flexible \(did you mean strict\?\)"):
        read_logs(path, filter_name="strikt")
    with pytest.raises(ConfigError, match=r"--metric: 'acc' is not in .*, there are exact_match"):
        read_logs(path, metric="acc")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no log, expected samples_\*\.jsonl"):
        read_logs(tmp_path / "empty")
    records = tmp_path / "records.jsonl"
    records.write_text('{"confidence": 0.5, "correct": 1}\n')
    summary = tmp_path / "results_2026.json"
    summary.write_text("{}")
    with pytest.raises(DataError, match=r"a harness's summary, .* expected samples_\*\.jsonl"):
        read_logs(summary)
    odd = lm_eval_file(tmp_path / "empty", [row | {"metrics": [{}]} for row in WRITTEN])
    with pytest.raises(DataError, match=r"line 1, key 'metrics': \[{}\] found, expected a metric"):
        read_logs(odd)
    with pytest.raises(DataError, match=r"line 1: no key 'doc_id' of lm-eval's samples, .* read with --records"):
        read_logs(records)


# -- lighteval -------------------------------------------------------------------------------------------------------
def lighteval_file(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "details" / "org" / "model" / DATE / f"details_sums|0_{DATE}.parquet"
    path.parent.mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(path)
    return path


def lighteval_row(number: int, correct: int, text: list[str], log_probs: list[float]) -> dict[str, Any]:
    return {
        "doc": {"query": f"q{number}", "choices": [" 3", " 4"], "gold_index": 1, "id": str(number)},
        "metric": {"em": correct},
        "model_response": {"text": text, "logprobs": log_probs, "output_tokens": [[1, 2, 3]]},
    }


def test_lighteval_details_of_choices_and_of_text(tmp_path: Path) -> None:
    choices = lighteval_file(
        tmp_path / "a", [lighteval_row(0, 1, [], [-2.0, -1.0]), lighteval_row(1, 0, [], [-1.0, -3.0])]
    )
    (log,) = read_logs(tmp_path / "a")
    records = log_records([log])
    assert log.path == choices
    assert records["confidence"].tolist() == pytest.approx([softmax([-2, -1]).max(), softmax([-1, -3]).max()])
    assert records[["answer", "gold", "correct"]].to_numpy().tolist() == [["4", "4", 1.0], ["3", "4", 0.0]]
    assert records["method"][0] == "org/model" and records["question_id"][1] == "sums|0/1"
    text = "<answer>4</answer><confidence>0.7</confidence>"
    (log,) = read_logs(lighteval_file(tmp_path / "b", [lighteval_row(0, 1, [text], [])]))
    records = log_records([log])
    assert records[["confidence", "completion_tokens", "answer"]].iloc[0].tolist() == [0.7, 3, "4"]
    nothing = lighteval_row(1, 0, [], []) | {"model_response": {"text": [None], "logprobs": [], "output_tokens": []}}
    (log,) = read_logs(lighteval_file(tmp_path / "c", [lighteval_row(0, 1, [text], []), nothing]))
    assert log.samples[1].completion is None, "and not the word None"


def test_faults_of_lighteval_are_named_with_their_row(tmp_path: Path) -> None:
    path = lighteval_file(tmp_path / "a", [lighteval_row(0, 1, [], [-2.0, -1.0]), lighteval_row(1, 0, [], [-1.0])])
    with pytest.raises(DataError, match=r"row 1, model_response.logprobs: 1 numbers found, expected one for each of 2"):
        read_logs(path)
    older = tmp_path / "details_old.parquet"
    pd.DataFrame({"example": ["q"], "predictions": ["4"]}).to_parquet(older)
    with pytest.raises(DataError, match=r"no column 'doc' of lighteval's details .*, only 'example', 'predictions'"):
        read_logs(older)


# -- inspect_ai ------------------------------------------------------------------------------------------------------
def scored(value: Any, answer: str | None = "4", metadata: dict[str, Any] | None = None) -> SimpleNamespace:
    return SimpleNamespace(value=value, answer=answer, metadata=metadata)


def eval_sample(number: int, text: str, scores: Any, **more: Any) -> SimpleNamespace:
    tokens = [SimpleNamespace(logprob=each) for each in more.pop("log_probs", [])]
    choice = SimpleNamespace(logprobs=SimpleNamespace(content=tokens) if tokens else None)
    output = SimpleNamespace(completion=text, choices=[choice], usage=SimpleNamespace(output_tokens=3))
    fields = {"epoch": 1, "input": "2+2?", "target": "4", "metadata": {}, "error": None}
    return SimpleNamespace(id=number, output=output, scores=scores, **{**fields, **more})


def eval_log(*samples: SimpleNamespace) -> SimpleNamespace:
    return SimpleNamespace(status="success", samples=list(samples), eval=SimpleNamespace(task="sums", model="mock/m"))


STATED = "<answer>4</answer><confidence>0.8</confidence>"


def test_scores_of_inspect_are_verdicts_and_its_log_probabilities_a_method() -> None:
    log = from_eval_log(
        Path("a.eval"),
        eval_log(
            eval_sample(1, STATED, {"match": scored("C"), "judge": scored(0.0)}, log_probs=[-0.1, -0.3]),
            eval_sample(2, "four", {"match": scored("I", None, {"confidence": 0.3})}, log_probs=[-0.5]),
            eval_sample(3, STATED, {"match": scored("P")}),
            eval_sample(4, "", {}, error="out of time"),
            eval_sample(5, STATED, {"match": scored(math.nan)}),
        ),
        None,
    )
    records = log_records([log])
    stated = records[records["method"] == "mock/m"]
    assert stated["correct"].fillna(-1).tolist() == [1, 0, -1, -1, -1]
    assert stated["confidence"].tolist() == [0.8, 0.3, 0.8, 0.0, 0.8]
    assert stated["confidence_source"].tolist() == ["stated", "recorded", "stated", "unparsed", "stated"]
    by_tokens = records[records["method"] == "mock/m_token_probability"]
    assert by_tokens["confidence"].tolist()[:3] == pytest.approx([math.exp(-0.2), math.exp(-0.5), 0.0])
    assert by_tokens["correct"].tolist()[:2] == [1.0, 0.0]
    assert log.notices == [
        "3 of 5 are unjudged, match says neither right nor wrong of them",
        "1 of 5 samples ended in an error",
    ]
    assert log.columns["correct"] == "scores.match.value (also there: judge; choose with --metric)"


def test_a_scorer_of_several_values_has_a_name_for_each() -> None:
    log = eval_log(eval_sample(1, STATED, {"judge": scored({"right": True, "kind": False})}))
    assert from_eval_log(Path("a.eval"), log, None).samples[0].correct == 1.0
    assert from_eval_log(Path("a.eval"), log, "judge.kind").samples[0].correct == 0.0


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (eval_log(), "the log holds no samples, its status is 'success'"),
        (eval_log(eval_sample(1, STATED, {})), "no sample has a score"),
        (eval_log(eval_sample(7, STATED, {"match": scored("right")})), "sample 7 epoch 1, scores.match: 'right' found"),
        (
            eval_log(eval_sample(7, "4", {"match": scored("C", None, {"confidence": 2})})),
            "metadata.confidence: 2 found",
        ),
    ],
)
def test_a_fault_is_named_with_its_sample(log: SimpleNamespace, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_eval_log(Path("a.eval"), log, None)


def test_scores_go_back_to_inspect_by_id_and_epoch(tmp_path: Path) -> None:
    samples = [eval_sample(1, STATED, {"match": scored("C")}, epoch=epoch) for epoch in (1, 2)]
    log = from_eval_log(Path("a.eval"), eval_log(*samples, eval_sample(2, "four", {"match": scored("I")})), None)
    (path,) = write_inspect_scores([log], log_records([log]), tmp_path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["id"], line["epoch"], line["value"]) for line in lines] == [("1", 1, 0.8), ("1", 2, 0.8)]
    assert lines[0]["metadata"] == {"correct": 1.0} and lines[0]["explanation"] == "confidence stated"


# -- the command -----------------------------------------------------------------------------------------------------
def test_the_command_says_which_column_became_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = lm_eval_file(tmp_path, WRITTEN), tmp_path / "out"
    assert main(["probe", "--logs", str(path), "--filter", "flexible", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "lm-eval, sums by org/model, 2 rows" in shown
    assert "  correct           exact_match\n" in shown
    metrics = json.loads((out / "metrics.json").read_text())["org/model"]
    assert metrics["accuracy"]["value"] == 1.0 and metrics["brier"]["value"] == pytest.approx((0.01 + 0.04) / 2)


def test_options_of_logs_are_for_logs(tmp_path: Path, refusal: Refusal) -> None:
    path = lm_eval_file(tmp_path, WRITTEN)
    out = ["--out", tmp_path / "out"]
    assert refusal.command("probe", "--records", path, "--metric", "acc", *out) == (
        "probe: --metric is for --logs, not for --records"
    )
    exported = refusal.command("probe", "--logs", path, "--export", "inspect", *out)
    assert exported == f"probe: --export inspect is for logs of inspect_ai, {path} is one of lm-eval"
    assert refusal.command("probe", "--logs", tmp_path / "absent.eval", *out).endswith("absent.eval: no such file")
