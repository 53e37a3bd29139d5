"""Abstention from records, options without the right one, word problems without what they need, and their command."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import cli
from experiments.config.recipe import load_recipe
from experiments.errors import DataError
from experiments.probe.abstain import measure_abstention
from experiments.probe.checkpoint import open_checkpoint
from experiments.probe.options import (
    Choice,
    choices_of_facts,
    confidences,
    measure_rejection,
    option_log_probs,
    read_choices,
)
from experiments.probe.records import as_records, write_records
from experiments.probe.routed import in_half
from experiments.tasks.unanswerable import given_numbers, pair_of, paired_rows


def records(count: int = 400, seed: int = 0, **columns: Any) -> pd.DataFrame:
    """Half cannot be answered; of these three in ten are declined in words, and confidence is lower on them."""
    rng = np.random.default_rng(seed)
    should = np.arange(count) % 2 == 1
    spoken = should & (rng.random(count) < 0.3)
    given = {
        "gold": np.where(should, "Unknown", "Oslo"),
        "answer": np.where(spoken, "unknown ", "Oslo"),
        "confidence": np.where(should, 0.6, 1.0) * rng.random(count),
        "correct": np.where(should, spoken, 1.0),
        "group": np.where(should, "never", "often"),
    }
    return as_records(pd.DataFrame(given | columns, index=range(count)))


def test_spoken_and_thresholded_abstention_are_told_apart() -> None:
    found = measure_abstention(records(), resamples=50)
    spoken, below, either = (found[f"all: {how}"] for how in ("spoken", "threshold", "either"))
    assert spoken["precision"]["value"] == 1.0 and spoken["over_abstention"]["value"] == 0.0
    assert spoken["recall"]["value"] == pytest.approx(0.3, abs=0.1)
    assert spoken["recall_never"] == spoken["recall"]
    assert 0.55 <= below["threshold"]["value"] <= 0.7 and below["recall"]["value"] > 0.9
    assert 0.4 < below["over_often"]["value"] < 0.7
    assert either["recall"]["value"] >= max(spoken["recall"]["value"], below["recall"]["value"])
    assert below["auroc"]["low"] > 0.5
    assert below["auroc"]["n"] + below["threshold"]["n"] == 400


def test_a_question_and_itself_without_what_it_needs_are_one_item_and_two_questions() -> None:
    frame = records(item=[str(number // 2) for number in range(400)])
    found = measure_abstention(frame, resamples=20)["all: threshold"]
    assert found["recall"]["n"] == found["over_abstention"]["n"]
    assert found["recall"]["n"] + found["over_abstention"]["n"] + found["threshold"]["n"] == 400


def test_policies_that_speak_alike_and_answer_otherwise_each_have_their_row() -> None:
    never = {"answer": "Oslo"}
    right, wrong = records(correct=1.0, **never), records(correct=0.0, **never)
    found = measure_abstention(pd.concat([right.assign(method="r"), wrong.assign(method="w")]), resamples=5)
    assert [found[f"{name}: spoken"]["accuracy_answered"]["value"] for name in "rw"] == [1.0, 0.0]


def test_a_group_of_both_kinds_of_question_has_a_rate_of_either() -> None:
    """A perfect policy declines all that it should and nothing else, in each group."""
    should = np.arange(400) % 2 == 1
    topics = np.where(np.arange(400) // 2 % 2 == 1, "rivers", "towns")
    frame = records(group=topics, answer=np.where(should, "unknown", "Oslo"), correct=1.0)
    spoken = measure_abstention(frame, resamples=20)["all: spoken"]
    assert {name: spoken[name]["value"] for name in spoken if name.endswith(("rivers", "towns"))} == {
        "recall_rivers": 1.0, "over_rivers": 0.0, "recall_towns": 1.0, "over_towns": 0.0,
    }  # fmt: skip
    assert spoken["over_rivers"]["n"] + spoken["over_towns"]["n"] == spoken["over_abstention"]["n"]


def test_wordings_of_a_question_fall_together_and_equal_answers_speak_once() -> None:
    frame = records(item=[str(number // 2 * 2 + number % 2) for number in range(400)])
    grouped = measure_abstention(frame, resamples=20)
    assert grouped["all: threshold"]["auroc"]["n"] < 400
    twice = pd.concat([records(), records().assign(method="other", confidence=0.5)])
    assert list(measure_abstention(twice, resamples=20)) == [
        "all: spoken",
        "all: threshold",
        "all: either",
        "other: threshold",
        "other: either",
    ]


def test_policies_are_compared_under_one_threshold_chosen_on_the_half_that_is_not_measured() -> None:
    """One states what is so, one is always sure, one says so in words: the same questions, one threshold."""
    honest, sure = records(), records(confidence=1.0)
    told = records(confidence=1.0, answer=np.where(np.arange(400) % 2 == 1, "unknown", "Oslo"))
    frame = pd.concat([each.assign(method=name) for name, each in zip("hst", (honest, sure, told), strict=True)])
    found = measure_abstention(frame, together=True, resamples=20)
    assert len({found[f"{name}: one threshold"]["threshold"]["value"] for name in "hst"}) == 1
    own = measure_abstention(honest, resamples=20)["all: threshold"]
    assert found["h: own threshold"]["threshold"] == own["threshold"] and found["h: own threshold"]["f1"] == own["f1"]
    assert found["h: one threshold"]["recall"]["value"] > 0.8
    assert found["s: one threshold"]["recall"]["value"] == found["s: one threshold"]["over_abstention"]["value"] == 0.0
    assert found["t: spoken"]["recall"]["value"] == found["t: either"]["recall"]["value"] == 1.0
    assert found["t: one threshold"]["under_abstention"]["value"] == 1.0
    given = measure_abstention(frame, together=True, threshold=0.25, resamples=5)
    assert given["s: one threshold"]["threshold"]["value"] == 0.25
    moved = frame.assign(confidence=[c if in_half(q) else 0.3 for c, q in frame[["confidence", "question_id"]].values])
    again = measure_abstention(moved, together=True, resamples=5)
    assert again["h: one threshold"]["threshold"] == found["h: one threshold"]["threshold"]


def test_truthfulness_pays_right_answers_and_charges_wrong_ones() -> None:
    """What is wrong and declined costs nothing, what is right and declined earns nothing."""
    should = np.arange(400) % 2 == 1
    entries = measure_abstention(records(confidence=np.where(should, 0.2, 0.9), correct=~should), resamples=5)
    assert entries["all: threshold"]["truthfulness"]["value"] == pytest.approx(1 - should_share(entries))
    assert entries["all: spoken"]["truthfulness"]["value"] < entries["all: threshold"]["truthfulness"]["value"]


def should_share(entries: dict[str, Any]) -> float:
    """Share of the test questions that should be declined: by the ids, as the halves are."""
    test = [number for number in range(400) if not in_half(str(number))]
    assert entries["all: spoken"]["truthfulness"]["n"] == len(test)
    return float(np.mean([number % 2 for number in test]))


def test_no_question_to_decline_is_an_error_that_says_what_was_looked_for() -> None:
    with pytest.raises(DataError, match=r"0 questions to decline in a half.*one of i don't know as its gold"):
        measure_abstention(records(), ["I don't know"])


def test_a_probability_falls_where_the_right_option_is_gone_and_a_share_may_rise() -> None:
    sure = np.log([0.9, 0.02, 0.02, 0.02])
    guessed = np.log([0.05, 0.04, 0.04, 0.04])
    tables = confidences([sure, guessed])
    assert tables["probability"]["intact"].tolist() == pytest.approx([0.9, 0.05])
    assert tables["probability"]["removed"].tolist() == pytest.approx([0.02, 0.04])
    assert tables["probability"]["control"].tolist() == pytest.approx([0.9, 0.05])
    assert tables["share"]["removed"].tolist() == pytest.approx([1 / 3, 1 / 3])
    assert tables["share"]["control"][1] == pytest.approx(5 / 13) and tables["share"]["intact"][1] == pytest.approx(
        5 / 17
    )
    assert tables["right"]["intact"].tolist() == [1.0, 1.0]


def test_fewer_options_alone_fool_a_share_and_the_control_shows_it() -> None:
    """Options that a model knows nothing about: removed and control are alike, intact is not."""
    rng = np.random.default_rng(0)
    blind = [np.log(rng.dirichlet([20.0] * 4)) for _ in range(300)]
    found = measure_rejection(confidences(blind), [str(each) for each in range(300)], resamples=50)["share"]
    assert found["auroc_intact"]["high"] < 0.2
    assert found["auroc_control"]["low"] < 0.5 < found["auroc_control"]["high"]
    assert found["mean_removed"]["value"] > found["mean_intact"]["value"] + 0.05


@pytest.fixture(scope="module")
def policy() -> Any:
    return open_checkpoint("tiny-facts", load_recipe("facts"), "test")


def test_an_option_is_scored_as_the_whole_answer(policy: Any) -> None:
    rows = load_recipe("facts").task.rows("test", 40, seed=1)
    choices = choices_of_facts(rows)
    assert len(choices) < 40 and all(len(set(each.options)) == 4 for each in choices)
    scored = option_log_probs(policy, choices, batch_size=7)
    for choice, log_probs in list(zip(choices, scored, strict=True))[:3]:
        for option, log_prob in zip(choice.options, log_probs, strict=True):
            text = f"{choice.prompt}<answer>{option}</answer>"
            ids = policy.tokenizer.encode(text, add_special_tokens=False)
            prefix = len(policy.tokenizer.encode(f"{choice.prompt}<answer>", add_special_tokens=False))
            with torch.no_grad():
                said = policy.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(dim=-1)
            expected = sum(float(said[place - 1, ids[place]]) for place in range(prefix, len(ids)))
            assert log_prob == pytest.approx(expected, abs=1e-4)
    assert np.mean([each.argmax() == 0 for each in scored]) > 0.6


def test_questions_with_choices_are_read_and_faults_named(tmp_path: Path) -> None:
    path = tmp_path / "choices.jsonl"
    row = {"id": "a", "question": "Which?", "choices": ["x", "y", "z"], "answer": "y"}
    path.write_text(json.dumps(row) + "\n")
    assert read_choices(path) == [Choice("a", "Which?", ("y", "x", "z"))]
    for change, fault in ({"answer": "w"}, "answer is 'w'"), ({"choices": ["x", "y"]}, "at least three"):
        path.write_text(json.dumps(row) + "\n" + json.dumps(row | change) + "\n")
        with pytest.raises(DataError, match=rf"line 2: .*{fault}"):
            read_choices(path)


PROBLEM = "Ann has 5 pens. She gives 2 to Bob. There are 30 children. How many pens has she left?"


def test_only_what_the_solution_needs_is_deleted() -> None:
    deleted = {pair_of(PROBLEM, "5-2=<<5-2=3>>3", random.Random(seed)).deleted for seed in range(30)}  # type: ignore
    assert deleted == {"Ann has 5 pens.", "She gives 2 to Bob."}
    assert pair_of("Ann has 5 pens and Bob has 5 pens. He has 5. How many?", "<<5+5=10>>", random.Random(0)) is None
    assert pair_of("Ann has five pens. How many?", "<<5+5=10>>", random.Random(0)) is None
    assert 13.0 not in given_numbers("<<16-3=13>> <<13*2=26>>")
    percent = pair_of("It costs $80. It grew by 150%. What is it worth?", "<<80*1.5=120>>", random.Random(1))
    assert percent is not None and percent.deleted in ("It costs $80.", "It grew by 150%.")


def test_pairs_differ_in_the_deleted_sentence_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, lacking = paired_rows(iter([("p", {"question": PROBLEM, "answer": "<<5-2=3>>3\n#### 3"})]))
    assert (whole["answer"], lacking["answer"], whole["item"]) == ("3", "unknown", lacking["item"])
    assert " ".join(sorted(whole["question"].split())) == " ".join(
        sorted(f"{lacking['question']} {lacking['deleted']}".split())
    )
    path = tmp_path / "gsm8k.jsonl"
    path.write_text(json.dumps({"question": PROBLEM, "answer": "<<5-2=3>>3\n#### 3"}) + "\n")
    assert cli.main(["abstain", "pairs", str(path), "--out", str(tmp_path / "pairs.jsonl")]) == 0
    assert "1 pairs of 1 problems" in capsys.readouterr().out
    source = f"task={{name: dataset, path: '{tmp_path / 'pairs.jsonl'}', splits: {{test: train}}, verifier: text}}"
    rows = load_recipe("smollm2_gsm8k", [source]).task.rows("test")
    assert [row["group"] for row in rows] == ["answerable", "unanswerable"] and rows[0]["item"] == "gsm8k-1"


def test_the_command_measures_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_records(records(), tmp_path / "records.parquet")
    assert cli.main(["abstain", "measure", "--records", str(path), "--out", str(tmp_path / "out")]) == 0
    assert "all: either" in capsys.readouterr().out
    assert set(json.loads((tmp_path / "out" / "abstention.json").read_text())) == {
        "all: spoken",
        "all: threshold",
        "all: either",
    }
    other = write_records(records(seed=1, question_id=[f"{n}" for n in range(400)]), tmp_path / "brier.parquet")
    compared = ["abstain", "measure", "--records", str(path), "--records", str(other), "--out", str(tmp_path / "two")]
    first = write_records(records(question_id=[f"{n}" for n in range(400)]), tmp_path / "truthrl.parquet")
    compared[3] = str(first)
    assert cli.main(compared) == 0
    ways = ("spoken", "one threshold", "own threshold", "either")
    written = json.loads((tmp_path / "two" / "abstention.json").read_text())
    assert list(written) == [f"{name}: {how}" for name in ("truthrl", "brier") for how in ways]
    assert cli.main([*compared, "--threshold", "0.5"]) == 0 and cli.main([*compared, "--threshold", "5"]) == 2
    assert "--threshold: 5.0 is not from 0 to 1" in capsys.readouterr().err
    assert cli.main(["abstain", "measure", "--records", str(path), "--word", " ", "--out", str(tmp_path)]) == 2
    assert "--word: is empty" in capsys.readouterr().err
    assert cli.main(["abstain", "measure", "--out", str(tmp_path)]) == 2
    assert "expected one of CHECKPOINT, --records FILE" in capsys.readouterr().err
    assert cli.main(["abstain", "measure", "--records", str(path), str(other), "--out", str(tmp_path)]) == 2
    assert "brier.parquet beside --records" in capsys.readouterr().err
    assert cli.main(["abstain", "options", "tiny-small", "--recipe", "rlvr", "--out", str(tmp_path)]) == 2
    assert "has no options" in capsys.readouterr().err
