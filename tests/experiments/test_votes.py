"""Samples and votes on them: files read with errors that say where, plans compared on the same traces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.errors import DataError
from experiments.probe.samples import TRIALS, read_samples, voting_names, write_samples
from experiments.probe.votes import FULL, VoteSettings, measure_votes
from rewards.verifiers.verifier import Verdict

SETTINGS = VoteSettings(window=3, budget=8, warmup=2, resamples=10)


def row(**changes: Any) -> dict[str, Any]:
    return {"question_id": "q", "answer": "7", "correct": 1, "confidences": [2.0, 1.5, 1.0]} | changes


def trialled(places=(2,), answers=("6",), correct=(0,), confidences=(0.99,), tokens=(2,)) -> dict[str, Any]:
    return dict(zip(TRIALS, map(list, (places, answers, correct, confidences, tokens)), strict=True))


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return path


def frame(seed: int, questions: int = 30, samples: int = 8, trials: bool = False) -> pd.DataFrame:
    """Questions of every difficulty; wrong traces are less sure."""
    rng = np.random.default_rng(seed)
    rows = []
    for question in range(questions):
        share = rng.uniform(0.2, 1.0)
        for _ in range(samples):
            right = rng.random() < share
            values = rng.gamma(6 if right else 4, size=int(rng.integers(4, 12))).tolist()
            answer = "7" if right else str(rng.integers(4))
            extra = trialled((2,), (answer,), (right,), (0.99,), (1,)) if trials else {}
            rows.append(row(question_id=str(question), answer=answer, correct=right, confidences=values) | extra)
    return pd.DataFrame(rows)


def test_what_is_written_is_read_in_either_form(tmp_path: Path) -> None:
    made = frame(0, trials=True).assign(thought_tokens=3)
    read = read_samples(write_samples(made, tmp_path / "samples.parquet"))
    again = read_samples(lines(tmp_path / "s.jsonl", *json.loads(made.to_json(orient="records"))))
    assert len(read) == len(again) == 30
    for one, other in zip(read, again, strict=True):
        assert (one.id, one.right) == (other.id, other.right)
        for first, second in zip(one.traces, other.traces, strict=True):
            assert first.confidences_T == pytest.approx(second.confidences_T)
            assert (first.answer, first.trials, first.thought) == (second.answer, second.trials, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"confidences": "2.0"}, "line 2, column 'confidences': '2.0' found, expected a list"),
        ({"confidences": [1.0, "x"]}, "column 'confidences': 'x' found, expected numbers"),
        ({"confidences": [1.0, -0.5]}, r"column 'confidences': -0\.5 found, expected finite numbers of 0 or more"),
        ({"correct": 0.5}, "column 'correct': 0.5 found, expected 0 or 1"),
        ({"confidences": [1.0, 1.0], "thought_tokens": 3}, "column 'thought_tokens': 3 found, expected at most 2"),
        ({"answer": "7", "correct": 0}, "column 'correct': '7' is right in one row of q and wrong in another"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=r"s\.jsonl.*" + message):
        read_samples(lines(tmp_path / "s.jsonl", row(), row(**changes)))


def test_trial_answers_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    part = {key: value for key, value in trialled().items() if key != "trial_tokens"}
    with pytest.raises(DataError, match="'trial_places' without 'trial_tokens'"):
        read_samples(lines(tmp_path / "s.jsonl", row(**part)))
    with pytest.raises(DataError, match=r"lists of 1, 1, 1, 2, 1 trial answers"):
        read_samples(lines(tmp_path / "s.jsonl", row(**trialled(confidences=(0.1, 0.2)))))


@pytest.mark.parametrize(
    ("trials", "message"),
    [
        ({"confidences": (1.5,)}, r"column 'trial_confidences': 1\.5 found, expected a number from 0 to 1"),
        ({"confidences": ("a",)}, "column 'trial_confidences': 'a' found"),
        ({"places": (None,)}, "column 'trial_places': no value, expected a whole number"),
        ({"places": ("a",)}, "column 'trial_places': 'a' found"),
        ({"places": (0,)}, "column 'trial_places': 0 found, expected places that rise, up to the row's 3 tokens"),
        ({"places": (4,)}, "column 'trial_places': 4 found"),
        ({"correct": (None,)}, "column 'trial_correct': no value, expected 0 or 1"),
        ({"tokens": (-1,)}, "column 'trial_tokens': -1 found, expected a whole number of 0 or more"),
        (
            {"places": (2, 2), "answers": "67", "correct": (0, 1), "confidences": (0.5, 0.5), "tokens": (1, 1)},
            "column 'trial_places': 2 found, .* at least 3 here",
        ),
    ],
)
def test_values_of_trials_that_cannot_be_are_named(tmp_path: Path, trials: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=r"s\.jsonl, line 2, " + message):
        read_samples(lines(tmp_path / "s.jsonl", row(**trialled()), row(**trialled(**trials))))


def test_rounding_below_zero_is_zero_and_nothing_is_infinite(tmp_path: Path) -> None:
    (question,) = read_samples(lines(tmp_path / "s.jsonl", row(confidences=[-1e-9, None])))
    assert question.traces[0].confidences_T.tolist() == pytest.approx([0.0, np.nan], nan_ok=True)
    infinite = pd.DataFrame([row(confidences=[1.0, np.inf])])
    with pytest.raises(DataError, match=r"row 0, column 'confidences': inf found, expected finite"):
        read_samples(write_samples(infinite, tmp_path / "s.parquet"))


def test_empty_completions_count_as_wrong(tmp_path: Path) -> None:
    rows = [row(question_id=each, answer=None, correct=0, confidences=[]) for each in "ab" for _ in range(8)]
    measured = measure_votes(read_samples(lines(tmp_path / "s.jsonl", *rows)), SETTINGS)
    assert {(each["accuracy"]["value"], each["tokens"]["value"]) for each in measured.values()} == {(0.0, 0.0)}


@pytest.mark.parametrize("trials", [False, True])
def test_plans_are_compared_on_the_same_traces(tmp_path: Path, trials: bool) -> None:
    made = frame(1, questions=20, trials=trials)
    measured = measure_votes(read_samples(write_samples(made, tmp_path / "s.parquet")), SETTINGS)
    full = measured[FULL]
    assert full["tokens"]["value"] == pytest.approx(made["confidences"].map(len).sum() / 20)
    assert (full["saved"]["value"], full["difference"]["value"]) == (0.0, 0.0)
    first = made.groupby("question_id", sort=False).first()
    assert measured["single trace"]["accuracy"]["value"] == pytest.approx(first["correct"].mean())
    for name, entry in measured.items():
        assert entry["difference"]["value"] == pytest.approx(entry["accuracy"]["value"] - full["accuracy"]["value"])
        saved = 1 - entry["tokens"]["value"] / full["tokens"]["value"]
        assert entry["saved"]["value"] == pytest.approx(saved) and (saved >= 0 or name.startswith("mars"))
    # A vote that cannot turn is the full vote, for fewer tokens, but where the full vote ties.
    assert measured["cannot turn"]["saved"]["value"] > 0.1
    assert abs(measured["cannot turn"]["difference"]["value"]) <= 1 / 20
    curve = [measured[f"turns at most {each}%"]["saved"]["value"] for each in (1, 5, 10, 20)]
    assert curve == sorted(curve) and curve[0] >= measured["cannot turn"]["saved"]["value"] - 1e-9
    if trials:  # every trace exits after two tokens and three of the trial
        assert measured["trial exit .95, full vote"]["tokens"]["value"] == pytest.approx(8 * 3)
        assert measured["trial exit .95, full vote"]["difference"]["value"] == 0.0
        assert measured["trial exit .95, full vote"]["stopped"] == 1.0


def test_too_few_samples_or_questions_are_refused(tmp_path: Path) -> None:
    questions = read_samples(write_samples(frame(2, questions=3, samples=4), tmp_path / "s.parquet"))
    with pytest.raises(DataError, match="question '0' has 4 samples, expected 8 or more"):
        measure_votes(questions, SETTINGS)
    with pytest.raises(DataError, match="samples of 1 question, expected at least 2"):
        measure_votes(questions[:1], SETTINGS)


class Numbers:
    """Judges numbers of equal value to be the same, and nothing else."""

    def verify(self, golds, answers) -> list[Verdict]:
        def same(one: str, other: str) -> bool:
            return one.isdigit() and other.isdigit() and int(one) == int(other)

        return [Verdict(float(same(*pair)), "") for pair in zip(golds, answers, strict=True)]


def test_equivalent_answers_have_one_name_in_their_question() -> None:
    names = voting_names({"a": ["07", "7", "x", "007"], "b": ["7"]}, Numbers())
    assert names == {"a": {"07": "07", "7": "07", "x": "x", "007": "07"}, "b": {"7": "7"}}
