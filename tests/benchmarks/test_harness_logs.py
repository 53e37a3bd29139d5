"""Logs that lm-eval, inspect_ai and lighteval write themselves, read and held against the figures that they print.

Slow, and each part only where its harness is installed: ``pip install lm-eval inspect-ai lighteval``, then ``pytest -m
slow tests/benchmarks/test_harness_logs.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.config.models import find_model
from experiments.probe.logs.read import log_records, read_logs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
doc_to_text: "{{{{question}}}}"
"""
CHOICE = """
output_type: multiple_choice
doc_to_choice: "{{choices}}"
doc_to_target: label
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
WRITTEN = """
output_type: generate_until
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["."], max_gen_toks: 16}
filter_list:
  - {name: strict, filter: [{function: regex, regex_pattern: "<answer>(.*?)</answer>"}, {function: take_first}]}
  - {name: flexible, filter: [{function: regex, regex_pattern: "([0-9]+)"}, {function: take_first}]}
metric_list: [{metric: exact_match}]
"""


def run(program: list[str], folder: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, timeout=1500)
    assert ended.returncode == 0, ended.stderr[-2000:]


def test_what_lm_eval_writes(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    questions = [(a, b) for a in range(2, 8) for b in range(2, 6)]
    rows = [
        {
            "question": f"{a}+{b}=",
            "answer": str(a + b),
            "choices": [str(a + b + shift) for shift in (0, 1, -1, 13)],
            "label": 0,
        }
        for a, b in questions
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, kind in (("choice", CHOICE), ("written", WRITTEN)):
        (tmp_path / f"{name}.yaml").write_text(TASK.format(name=name, data=tmp_path / "rows.jsonl") + kind)
    model = f"pretrained={find_model('tiny-small', 'model')},dtype=float32"
    command = [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", model, "--device", "cpu"]
    command += ["--tasks", "choice,written", "--include_path", ".", "--output_path", "out", "--log_samples"]
    run(command, tmp_path)
    (results,) = (tmp_path / "out").rglob("results_*.json")
    figures = json.loads(results.read_text())["results"]
    for filter_name in ("strict", "flexible"):
        for path in (tmp_path / "out").rglob("samples_written_*.jsonl"):
            records = log_records(read_logs(path, filter_name=filter_name))
            assert records["correct"].mean() == pytest.approx(figures["written"][f"exact_match,{filter_name}"])
            assert records["parsed"].mean() > 0.5 and len(records) == len(questions)
    for metric in ("acc", "acc_norm"):
        for path in (tmp_path / "out").rglob("samples_choice_*.jsonl"):
            (log,) = read_logs(path, metric=metric)
            assert log_records([log])["correct"].mean() == pytest.approx(figures["choice"][f"{metric},none"])
            assert not log.notices  # of every row, the surest option is the one that the verdict is of
    assert main(["probe", "--logs", str(tmp_path / "out"), "--out", str(tmp_path / "probe")]) == 0


def test_what_inspect_writes_and_takes_back(tmp_path: Path) -> None:
    pytest.importorskip("inspect_ai")
    (tmp_path / "evaluate.py").write_text(
        """
from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import Logprob, Logprobs, ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import includes, match
from inspect_ai.solver import generate

def output(number):
    text = f"<answer>{2 * number + (number % 3 == 0)}</answer><confidence>0.{9 - number}</confidence>"
    made = ModelOutput.from_content("mockllm/model", text)
    made.usage = ModelUsage(input_tokens=5, output_tokens=7, total_tokens=12)
    made.choices[0].logprobs = Logprobs(content=[Logprob(token=text, logprob=-0.1 * (number + 1))])
    return made

samples = [Sample(id=f"q{n}", input=f"{n}+{n}", target=f">{2 * n}<", metadata={"topic": "even"}) for n in range(6)]
model = get_model("mockllm/model", custom_outputs=[output(number) for number in range(6)])
task = Task(dataset=MemoryDataset(samples), solver=generate(), scorer=[includes(), match()], name="sums")
eval(task, model=model, log_dir="logs", display="none", max_samples=1)
"""
    )
    run([sys.executable, "evaluate.py"], tmp_path)
    probe = ["probe", "--logs", str(tmp_path / "logs"), "--export", "inspect", "--out", str(tmp_path / "probe")]
    assert main(probe) == 0
    metrics = json.loads((tmp_path / "probe" / "metrics.json").read_text())
    assert list(metrics) == ["mockllm/model", "mockllm/model_token_probability"]
    assert metrics["mockllm/model"]["accuracy"]["value"] == pytest.approx(4 / 6)
    assert metrics["mockllm/model"]["mean_confidence"]["value"] == pytest.approx(0.65)
    (tmp_path / "rescore.py").write_text(
        """
import glob, sys
from inspect_ai import score
from inspect_ai.log import read_eval_log
from inspect_ai.scorer import precomputed_scores

(log,) = glob.glob("logs/*.eval")
scored = score(read_eval_log(log), precomputed_scores(sys.argv[1]), action="append", display="none")
mean = scored.results.scores[-1].metrics["accuracy"].value
assert abs(mean - 0.65) < 1e-9, mean
"""
    )
    run([sys.executable, "rescore.py", str(tmp_path / "probe" / "inspect" / "mockllm_model.sums.jsonl")], tmp_path)


def test_what_lighteval_writes(tmp_path: Path) -> None:
    pytest.importorskip("lighteval")
    (tmp_path / "evaluate.py").write_text(
        """
from lighteval.logging.evaluation_tracker import EvaluationTracker
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.requests import Doc

tracker = EvaluationTracker(output_dir="out", save_details=True)
tracker.general_config_logger.model_name = "org/tiny"
for number in range(6):
    doc = Doc(task_name="sums|0", query=f"{number}+1", choices=[" 3", f" {number + 1}"], gold_index=1, id=str(number))
    response = ModelResponse(logprobs=[-2.0, -1.0 - 0.3 * number], input_tokens=[1], output_tokens=[[2], [3]])
    tracker.details_logger.log("sums|0", doc, response, {"acc": int(number < 4)})
tracker.save()
"""
    )
    run([sys.executable, "evaluate.py"], tmp_path)
    records = log_records(read_logs(tmp_path / "out"))
    assert records["correct"].tolist() == [1, 1, 1, 1, 0, 0]
    assert records["answer"].tolist() == ["1", "2", "3", "4", "3", "3"]
    assert set(records["method"]) == {"org/tiny"}
