"""Thresholds: percentiles that point the right way, and files that serve only what they were fitted for."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from estimators.online.thresholds import (
    HIGH_SHARE,
    LOW_SHARE,
    Identity,
    Thresholds,
    keeping,
    model_fingerprint,
    tokenizer_fingerprint,
)
from tests.factories import tiny_model

OURS = Identity("small", "bpe", "lowest group confidence, window 4, top 20")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "calibration" / "thresholds.json"
    Thresholds(OURS, {"low": 17.25, "high": 9.5}, traces=16, extra={"questions": 1}).save(path)
    return path


@pytest.mark.parametrize("seed", range(5))
def test_low_stops_more_than_high(seed: int) -> None:
    values = np.random.default_rng(seed).gamma(3, size=16)
    low, high = keeping(values, LOW_SHARE), keeping(values, HIGH_SHARE)
    assert low == pytest.approx(np.percentile(values, 90)) and high == pytest.approx(np.percentile(values, 10))
    assert (values >= low).sum() <= (values >= high).sum()
    assert (values >= low).sum() >= 1


def test_equal_and_missing_values() -> None:
    assert keeping([5.0] * 16, LOW_SHARE) == keeping([5.0] * 16, HIGH_SHARE) == 5.0
    assert keeping([math.nan, 2.0], 1.0) == 2.0
    with pytest.raises(ValueError, match="no value among 2 warm-up traces"):
        keeping([math.nan, math.nan], 0.1)
    with pytest.raises(ValueError, match="share is 10"):  # a percentage
        keeping([1.0], 10)


def test_what_is_saved_is_loaded(saved: Path) -> None:
    loaded = Thresholds.load(saved, OURS)
    assert (loaded["low"], loaded["high"], loaded.traces, loaded.extra) == (17.25, 9.5, 16, {"questions": 1})
    with pytest.raises(KeyError, match="no threshold 'medium', only 'low', 'high'"):
        loaded["medium"]


@pytest.mark.parametrize("key", ["model", "tokenizer", "definition"])
def test_another_identity_is_an_error_that_names_both(saved: Path, key: str) -> None:
    with pytest.raises(ValueError) as refused:
        Thresholds.load(saved, dataclasses.replace(OURS, **{key: "another"}))
    message = str(refused.value)
    assert f"{key} {getattr(OURS, key)!r}, not 'another'" in message and str(saved) in message


def test_all_that_differs_is_named(saved: Path) -> None:
    with pytest.raises(ValueError, match="model 'small', not 'large'; tokenizer 'bpe', not 'letters'"):
        Thresholds.load(saved, dataclasses.replace(OURS, model="large", tokenizer="letters"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"identity": {}}', "not json"])
def test_what_holds_no_thresholds_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"t\.json: holds no thresholds"):
        Thresholds.load(path, OURS)


def test_a_missing_file_and_a_threshold_that_is_no_number(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        Thresholds.load(tmp_path / "none.json", OURS)
    with pytest.raises(ValueError, match="threshold 'low' is nan"):
        Thresholds(OURS, {"low": math.nan}, traces=1)
    content = json.loads(saved.read_text(encoding="utf-8"))
    content["values"]["low"] = "17"
    saved.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match="threshold 'low' is '17'"):
        Thresholds.load(saved, OURS)


def test_a_fingerprint_is_of_the_weights_and_not_of_their_precision() -> None:
    model = tiny_model("llama")
    same = model_fingerprint(tiny_model("llama"))
    assert model_fingerprint(model) == same == model_fingerprint(tiny_model("llama").to(torch.bfloat16))
    with torch.no_grad():
        model.model.norm.weight += 0.1
    assert model_fingerprint(model) != same
    assert model_fingerprint(tiny_model("llama", vocabulary=24)) != same


class Vocabulary:
    def __init__(self, *tokens: str) -> None:
        self._tokens = tokens

    def get_vocab(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self._tokens)}


def test_a_tokenizer_is_its_numbering() -> None:
    assert tokenizer_fingerprint(Vocabulary("a", "b")) == tokenizer_fingerprint(Vocabulary("a", "b"))
    assert tokenizer_fingerprint(Vocabulary("a", "b")) != tokenizer_fingerprint(Vocabulary("b", "a"))
