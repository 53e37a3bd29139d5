from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.nn.utils.rnn import pad_sequence

from rewards.completion import ParseStatus
from rewards.rubric import Rubric
from rewards.template import AnswerTemplate
from rl.rollout import gather_outcomes, verify_rollout
from rl.signals import SignalReader

COMPLETIONS = [
    ("<answer>3</answer><confidence>0.75</confidence>", "3"),
    ("<think>2+1</think><answer>4</answer><confidence>1.0</confidence>", "3"),
    ("<answer>3</answer>", "3"),
    ("<answer>3</answer><confidence>0.25</confidence>", "   "),  # a gold that cannot be used
    ("<answer>3</answer><confidence>0.5", "3"),
    ("12", "3"),
]
STATUSES = ("ok", "ok", "missing_confidence", "ok", "truncated", "missing_answer")


@pytest.fixture
def judged(untrained: Any, verifier: Any) -> Any:
    _, tokenizer = untrained.load()
    ids = [tokenizer.encode(text, add_special_tokens=False) for text, _ in COMPLETIONS]
    for row, each in enumerate(ids):
        if row != 4:
            each.append(tokenizer.eos_token_id)
    return verify_rollout(tokenizer, untrained.template, verifier, ids, [gold for _, gold in COMPLETIONS])


def test_completions_are_decoded_parsed_and_verified_in_order(judged: Any) -> None:
    assert [each.text for each in judged.decoded] == [text for text, _ in COMPLETIONS]
    assert tuple(each.status.value for each in judged.parsed) == STATUSES
    assert [each.answer for each in judged.parsed] == ["3", "4", "3", "3", "3", None]
    assert [each.correct for each in judged.verdicts] == [1.0, 0.0, 1.0, None, 1.0, 0.0]
    assert [each.finished for each in judged.decoded] == [True, True, True, True, False, True]


def test_gathered_facts_are_those_of_the_completions(judged: Any) -> None:
    outcomes = gather_outcomes(judged, 3, Accelerator(cpu=True))
    nan = np.nan
    np.testing.assert_array_equal(outcomes.correct, [1, 0, 1, nan, 1, 0])
    np.testing.assert_array_equal(outcomes.confidence, [0.75, 1, nan, 0.25, nan, nan])
    assert outcomes.status == tuple(ParseStatus(each) for each in STATUSES)
    np.testing.assert_array_equal(outcomes.group, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(outcomes.length, [len(each.ends) for each in judged.decoded])
    assert outcomes.length[0] == 7, "four tags, a digit, a level and the end: one token each"


def test_what_cannot_be_judged_stays_so_up_to_the_rewards(judged: Any) -> None:
    rubric = Rubric.from_config({"accuracy": {"weight": 1.0}, "brier": {"weight": 1.0}, "format": {"weight": 0.5}})
    values = rubric.score(gather_outcomes(judged, 3, Accelerator(cpu=True))).values
    assert np.isnan(values[3]).tolist() == [True, True, False]
    assert not np.isnan(np.delete(values, 3, axis=0)).any()
    np.testing.assert_allclose(values[:3], [[1, -0.0625, 1], [0, -1, 1], [1, -1, 0]])


def test_a_model_may_have_more_than_one_stop_token(untrained: Any, verifier: Any) -> None:
    _, tokenizer = untrained.load()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    ids = tokenizer.encode(COMPLETIONS[0][0] + "<turn>", add_special_tokens=False)
    told = verify_rollout(tokenizer, untrained.template, verifier, [ids], ["3"], [tokenizer.eos_token_id, ids[-1]])
    untold = verify_rollout(tokenizer, untrained.template, verifier, [ids], ["3"])
    assert told.parsed[0].status is ParseStatus.OK
    assert untold.parsed[0].status is ParseStatus.TRUNCATED


def test_signals_and_abstentions_are_gathered_with_the_facts(untrained: Any, verifier: Any) -> None:
    _, tokenizer = untrained.load()
    template = dataclasses.replace(untrained.template, abstain="=")
    texts = ["<answer>=</answer><confidence>0.0</confidence>", COMPLETIONS[0][0]]
    ids = [[*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id] for text in texts]
    rollout = verify_rollout(tokenizer, template, verifier, ids, ["3", "3"])
    signals = {"margin": torch.tensor([0.25, np.nan]), "entropy": torch.tensor([1.0, 2.0], dtype=torch.float64)}
    outcomes = gather_outcomes(rollout, 2, Accelerator(cpu=True), signals)
    assert list(outcomes.signals) == ["margin", "entropy"]
    np.testing.assert_array_equal(outcomes.signals["margin"], [0.25, np.nan])
    np.testing.assert_array_equal(outcomes.signals["entropy"], [1.0, 2.0])
    np.testing.assert_array_equal(outcomes.abstained, [True, False])
    np.testing.assert_array_equal(outcomes.correct, [0.0, 1.0])


def test_what_was_parsed_to_find_what_to_read_is_not_parsed_again_to_be_verified(
    untrained: Any, verifier: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = untrained.load()
    reader = SignalReader(["answer_probability"], model, tokenizer, untrained.template, generates=False)
    texts = [COMPLETIONS[0][0], COMPLETIONS[1][0], COMPLETIONS[0][0]]
    ids = [[*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id] for text in texts]
    ids_BT = pad_sequence([torch.tensor(each) for each in ids], batch_first=True, padding_value=tokenizer.pad_token_id)
    read: list[str] = []
    parse = AnswerTemplate.parse
    monkeypatch.setattr(
        AnswerTemplate, "parse", lambda self, text, **options: (read.append(text), parse(self, text, **options))[1]
    )
    with reader.watching(), reader.scoring(ids_BT, (ids_BT != tokenizer.pad_token_id).long()):
        assert read == texts[:2], "each once"
    rollout = verify_rollout(
        tokenizer, untrained.template, verifier, ids, ["3"] * 3, known=reader.take_read()
    )  # fmt: skip
    assert read == texts[:2] and [each.text for each in rollout.decoded] == texts
    assert [each.correct for each in rollout.verdicts] == [1.0, 0.0, 1.0]
    assert reader.take_read() == {}, "it is kept for one rollout"
