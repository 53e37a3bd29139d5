"""Runs that train on the policy's own answers: what they leave behind, stopped and resumed, refused, measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.cli import main
from experiments.config.recipe import load_recipe
from experiments.report.training_metrics import TRAINING_METRICS
from rewards.marks import MARKS
from rl.checkpoint import load_policy
from tests.factories import Refusal, json_lines
from tests.integration.runs import same_run

MARKED = {"task": {"template": {"confidence": "token"}, "train_size": 60}}
ESTIMATORS = {"estimators": {"confidence_token": {}, "answer_probability": {}}}
PROBED = {"size": 20, "max_new_tokens": 10, "resamples": 20, "confidence": "confidence_token"}


def recipe_of(write_recipe: Callable[..., Path], method: str, **changes: Any) -> Path:
    changes["task"] = {"train_size": 60, **changes.get("task", {})}
    changes["task"] |= {"name": "arithmetic", "max_steps": 1, "max_value": 19}
    return write_recipe(method, **changes)


def unknown(run: Path) -> list[str]:
    keys = {key for record in json_lines(run / "metrics.jsonl") for key in record}
    return sorted(key for key in keys if sum(metric.matches(key) for metric in TRAINING_METRICS) != 1)


@pytest.fixture(scope="module")
def marked(write_recipe: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run from the policy to its probe, by one command, and its recipe."""
    out = tmp_path_factory.mktemp("self_ref") / "run"
    trainer = {"unconfident_ratio": 2.0, "save_batch_at": [2]}
    recipe = recipe_of(
        write_recipe,
        "self_ref",
        **{**MARKED, **ESTIMATORS},
        trainer=trainer,
        probe={**PROBED, "every": 3, "every_size": 8},
    )
    assert main(["train", str(recipe), "--out", str(out)]) == 0
    return out, recipe


def test_one_command_leads_from_the_policy_to_its_probe(marked: tuple[Path, Path]) -> None:
    run, _ = marked
    frame = pd.read_parquet(run / "annotated.parquet")
    assert len(frame) == 60
    judged = frame[frame["answer"].notna()]
    assert set(judged["target"]) == set(MARKS)
    assert ((judged["target"] == MARKS[1]) == (judged["correct"] == 1.0)).all()
    taught = frame[~frame["learnt"].str.startswith("nothing")]
    wrong, right = (int((taught["correct"] == each).sum()) for each in (0.0, 1.0))
    assert right == int((judged["correct"] == 1.0).sum()) and wrong == min(
        2 * right, int((judged["correct"] == 0).sum())
    )
    assert (taught["learnt"] == np.where(taught["correct"] == 1.0, "answer and confidence", "confidence")).all()
    _, tokenizer = load_policy(run / "final")
    assert all(mark in tokenizer.get_vocab() for mark in MARKS)
    metrics = json.loads((run / "probe" / "metrics.json").read_text())
    assert {"checkpoint", "checkpoint_answer_probability"} <= metrics.keys()
    assert (run / "probe" / "report.html").is_file()
    assert unknown(run) == [] and any("heldout/brier" in each for each in json_lines(run / "metrics.jsonl"))


def test_a_saved_update_is_made_again(marked: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = marked
    capsys.readouterr()
    assert main(["replay", str(run / "batches" / "step-2")]) == 0
    lines = capsys.readouterr().out.splitlines()
    loss, again = next(each for each in lines if each.startswith("loss ")).removeprefix("loss ").split(", recorded ")
    assert float(loss) == pytest.approx(float(again), rel=1e-4)


def test_a_run_stopped_anywhere_ends_as_one_that_was_not(
    marked: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped while the policy answers, in parts of 20, and then at a checkpoint."""
    whole, recipe = marked
    out = tmp_path / "run"
    monkeypatch.setattr("experiments.probe.own_answers._PART", 20)
    from experiments.probe import own_answers as module

    answer, calls = module._answer, []

    def dies(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return answer(*arguments)

    monkeypatch.setattr(module, "_answer", dies)
    assert main(["train", str(recipe), "--out", str(out)]) == 130
    assert [each.name for each in (out / "own_answers").iterdir()] == ["00000.parquet"]
    from rl.confidence_tokens import OwnAnswersTrainer

    step, ended = OwnAnswersTrainer.training_step, []

    def stops(self: Any, *arguments: Any, **options: Any) -> Any:
        if self.state.global_step == 4 and not ended:
            ended.append(1)
            raise KeyboardInterrupt
        return step(self, *arguments, **options)

    monkeypatch.setattr(OwnAnswersTrainer, "training_step", stops)
    assert main(["train", str(recipe), "--out", str(out), "--resume"]) == 130
    assert len(calls) == 4, "the first part was kept"
    assert main(["train", str(recipe), "--out", str(out), "--resume"]) == 0
    assert len(calls) == 4, "and then all of them"
    same_run(whole, out)
    pd.testing.assert_frame_equal(*(pd.read_parquet(each / "annotated.parquet") for each in (whole, out)))


def test_answers_of_another_run_are_trained_on_again(
    marked: tuple[Path, Path], write_recipe: Callable[..., Path], tmp_path: Path, refusal: Refusal
) -> None:
    run, recipe = marked
    plain = recipe_of(
        write_recipe, "self_ref", task={"template": {"confidence": "none"}}, estimators={"answer_probability": {}},
        trainer={"own_answers": str(run / "own_answers.parquet"), "max_steps": 2},
        probe={**PROBED, "confidence": "answer_probability"},
    )  # fmt: skip
    assert main(["train", str(plain), "--out", str(tmp_path / "plain")]) == 0
    frame = pd.read_parquet(tmp_path / "plain" / "annotated.parquet")
    assert (frame["learnt"].str.startswith("nothing") == (frame["correct"] != 1.0)).all()
    assert frame["completion"].tolist() == pd.read_parquet(run / "own_answers.parquet")["completion"].tolist()
    assert not (tmp_path / "plain" / "own_answers.parquet").exists()
    key, other = "trainer.own_answers", tmp_path / "other.parquet"
    frame.assign(vocabulary="sha256:other").to_parquet(other)
    arguments = ["train", recipe, "--out", tmp_path / "refused"]
    assert "holds tokens of another tokenizer" in refusal.command(*arguments, f"{key}={other}")
    frame.drop(columns="completion_ids").to_parquet(other)
    assert "no column 'completion_ids'" in refusal.command(*arguments, f"{key}={other}")
    assert "absent.parquet" in refusal.command(*arguments, f"{key}={tmp_path}/absent.parquet")


def test_a_confidence_is_restored_by_what_the_policy_gets_right(
    write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    recipe = recipe_of(write_recipe, "recalibrate", task={"train_size": 30}, trainer={"max_steps": 2})
    assert main(["train", str(recipe), "--out", str(tmp_path / "run")]) == 0
    frame = pd.read_parquet(tmp_path / "run" / "annotated.parquet")
    rates = frame.groupby("question_id")["correct"].transform("mean")
    pd.testing.assert_series_equal(frame["target"], rates, check_names=False)
    assert set(frame["learnt"]) <= {"answer and confidence", "nothing: not read, or nothing to say of it"}
    assert unknown(tmp_path / "run") == []


def test_preferences_come_of_the_policys_own_confidence_in_rounds(
    write_recipe: Callable[..., Path], tmp_path: Path, refusal: Refusal
) -> None:
    recipe = recipe_of(write_recipe, "rlsf_dpo", task={"train_size": 20}, trainer={"max_steps": 2, "save_steps": 1})
    run = tmp_path / "run"
    assert main(["train", str(recipe), "trainer.rounds=2", "--out", str(run)]) == 0
    frame = pd.read_parquet(run / "round-1" / "preferences.parquet")
    assert len(frame) and (frame["chosen_confidence"] > frame["rejected_confidence"]).all()
    np.testing.assert_allclose(frame["margin"], np.exp(frame["chosen_confidence"] - frame["rejected_confidence"]))
    own = run / "round-1" / "own_answers.parquet"
    refused = ["train", recipe, "--out", tmp_path / "refused", f"trainer.own_answers={own}"]
    assert "holds the confidence by AnswerMargin()" in refusal.command(*refused, "trainer.feedback=answer_probability")
    options = ["trainer.rounds=2", f"trainer.own_answers={own}", "trainer.max_steps=1"]
    assert main(["train", str(recipe), *options, "--out", str(tmp_path / "again")]) == 0
    assert not (tmp_path / "again" / "round-1" / "own_answers.parquet").exists()
    assert (tmp_path / "again" / "round-2" / "own_answers.parquet").exists(), "the policy of round 1 answers anew"
    answers = [pd.read_parquet(run / f"round-{number}" / "own_answers.parquet") for number in (1, 2)]
    one, other = (each["completion"].tolist() for each in answers)
    assert all(each.groupby("question_id")["completion"].count().min() >= 3 for each in answers)
    assert (run / "final" / "model.safetensors").read_bytes() == (run / "round-2" / "final" / "model.safetensors").read_bytes()  # fmt: skip  # noqa: E501
    assert unknown(run / "round-1") == []
    assert answers[0]["question_id"].tolist() == answers[1]["question_id"].tolist() and len(one) == len(other)
    before = (run / "final" / "model.safetensors").stat().st_mtime_ns
    assert main(["train", str(recipe), "trainer.rounds=2", "--out", str(run), "--resume"]) == 0
    assert (run / "final" / "model.safetensors").stat().st_mtime_ns == before


def test_a_reward_model_of_the_same_pairs_trains_a_policy(
    write_recipe: Callable[..., Path], tmp_path: Path, refusal: Refusal, capsys: pytest.CaptureFixture[str]
) -> None:
    reward = recipe_of(write_recipe, "rlsf_reward", task={"train_size": 20}, trainer={"max_steps": 2})
    final = tmp_path / "reward" / "final"
    assert main(["train", str(reward), "--out", str(final.parent)]) == 0
    assert "holds a reward model" in capsys.readouterr().out
    assert unknown(final.parent) == []
    rubric = {"reward_model": {"weight": 1.0}}
    against = recipe_of(
        write_recipe, "grpo", rubric=rubric, model={"reward_path": str(final)}, trainer={"max_steps": 1, "beta": 0.1}
    )
    assert main(["train", str(against), "--out", str(tmp_path / "policy")]) == 0
    (record, *_) = json_lines(tmp_path / "policy" / "metrics.jsonl")
    assert np.isfinite(record["rewards/reward_model/mean"]) and record["rewards/reward_model/std"] > 0
    assert refusal.command("probe", final, "--recipe", reward, "--out", tmp_path / "x") == (
        f"probe checkpoint: {final} is a reward model and writes nothing; model.reward_path takes it"
    )


@pytest.mark.usefixtures("no_model_is_loaded")
def test_what_cannot_be_is_refused_before_a_model_loads(
    write_recipe: Callable[..., Path], tmp_path: Path, refusal: Refusal
) -> None:
    def refused(method: str, *overrides: str, **changes: Any) -> str:
        recipe = recipe_of(write_recipe, method, **changes)
        return refusal.command("train", recipe, "--out", tmp_path / "run", *overrides)

    assert refused("self_ref") == (
        "task.template.confidence: 'required' has no mark behind the answer; set 'token', or 'none' for the control "
        "without marks"
    )
    assert refused("recalibrate", **MARKED).startswith("task.template.levels: missing; a confidence that is restored")
    feedback = refused("rlsf_dpo", "trainer.feedback=answer_margn")
    assert feedback.startswith("trainer.feedback: 'answer_margn' is not one of verdict, ")
    assert feedback.endswith("(did you mean answer_margin?)")
    assert "trainer.feedback: 'p_true' is not one of" in refused("rlsf_dpo", "trainer.feedback=p_true")
    assert refused("rlsf_reward", model={"lora": {"r": 4}}) == (
        "model.lora: method rlsf_reward trains a model of its own, whole; leave it out"
    )
    assert "probe.every: 2 has no effect, method rlsf_reward" in refused("rlsf_reward", "probe.every=2")
    assert "trainer.unconfident_ratio: 0.0 is not above 0" in refused(
        "self_ref", "trainer.unconfident_ratio=0", **MARKED
    )
    assert "trainer.trained_answers: 'wrong' is not one of" in refused(
        "self_ref", "trainer.trained_answers=wrong", **MARKED
    )
    assert "greedy answers are the same" in refused("self_ref", "trainer.answers_per_question=4", **MARKED)
    assert refused("grpo", rubric={"reward_model": {}}).startswith("model.reward_path: missing; rubric.reward_model")
    assert refused("grpo", model={"reward_path": "x"}) == (
        "model.reward_path: has no effect, no term of the rubric reads it; add rubric.reward_model"
    )
    assert "task.verifier: token_f1 grades answers" in refused("rlsf_dpo", task={"verifier": "token_f1"})
    assert "no such folder" in refused(
        "grpo", rubric={"reward_model": {}}, model={"reward_path": str(tmp_path / "absent")}
    )


@pytest.mark.parametrize("name", ["self_ref", "self_ref_plain", "recalibrate", "rlsf_dpo", "rlsf_reward", "rlsf_grpo"])
def test_the_shipped_recipes_are_what_they_say(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.method in name or (name, recipe.method) in {("rlsf_grpo", "grpo"), ("self_ref_plain", "self_ref")}
