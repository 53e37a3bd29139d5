"""Asked whether its answer is right: the two words' probabilities next to the question, and nothing else."""

from __future__ import annotations

import math

import pytest
import torch

from estimators.base_rate import BaseRate
from estimators.p_true import FOLLOW_UPS, PTrue, YesNo, ask
from estimators.token_statistics import TokenStatistics
from tests.factories import make_completions, tiny_model

YES, NO, PAD = 3, 4, 0


def test_the_two_probabilities_are_those_next_to_each_prompt() -> None:
    model, prompts = tiny_model().eval(), [(5, 6, 7), (8,), (9, 10)]
    read_B2 = ask(model, prompts, YES, NO, pad_token_id=PAD, batch_size=2)
    for prompt, read_2 in zip(prompts, read_B2, strict=True):
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([prompt])).logits[0, -1].double().log_softmax(-1)[[YES, NO]]
        torch.testing.assert_close(read_2, expected, atol=1e-5, rtol=1e-5)
    assert ask(model, [], YES, NO, pad_token_id=PAD).shape == (0, 2)
    with pytest.raises(ValueError, match="both token 3"):
        ask(model, prompts, YES, YES, pad_token_id=PAD)
    with pytest.raises(ValueError, match="empty prompt"):
        ask(model, [()], YES, NO, pad_token_id=PAD)


@pytest.mark.parametrize("estimator", [PTrue(), YesNo()])
def test_other_words_do_not_count(estimator: PTrue) -> None:
    asked_B2 = torch.tensor([[0.06, 0.02], [0.001, 0.003], [0.5, 0.5], [math.nan, 0.1]]).log()
    completions = make_completions(torch.ones(4, 1, dtype=torch.bool), asked={estimator.name: asked_B2})
    estimate = estimator(completions, TokenStatistics.empty((4, 1)))
    assert estimate.values_B.tolist() == pytest.approx([0.75, 0.25, 0.5, math.nan], nan_ok=True)
    with pytest.raises(ValueError, match=f"{estimator.name} needs an extra forward pass"):
        estimator(make_completions(torch.ones(1, 1, dtype=torch.bool)), TokenStatistics.empty((1, 1)))


def test_a_question_with_braces_is_asked_as_it_is() -> None:
    prompt = FOLLOW_UPS["p_true"].prompt("What is {answer}?", "{x}")
    assert "Question: What is {answer}?\nProposed answer: {x}\nIs the" in prompt


def test_the_base_rate_is_the_same_for_all() -> None:
    estimate = BaseRate(0.3)(make_completions(torch.ones(2, 1, dtype=torch.bool)), TokenStatistics.empty((2, 1)))
    assert estimate.values_B.tolist() == [0.3, 0.3] and estimate.valid_B.all()
    with pytest.raises(ValueError, match=r"rate is 1\.5"):
        BaseRate(1.5)
