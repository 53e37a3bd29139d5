"""Greedy answers and the probabilities read off them: a batch says what each prompt says on its own."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from estimators.answer_span import AnswerMinProbability, AnswerProbability
from estimators.estimator import Estimator
from estimators.expected_confidence import ExpectedConfidence
from experiments.probe.estimates import estimate_generations
from experiments.probe.generate import (
    Generation,
    Policy,
    generate,
    prompt_text,
    verify_generations,
)
from experiments.tasks import Arithmetic
from rewards.template import AnswerTemplate
from rl.segments import decode_completion
from tests.factories import character_tokenizer

PROMPTS = ["3+4=", "1234567+1=", "2+2=", "0-", "12+3=", "444+44=", "7", "1+1=", "99999999+1="]
"""Of many lengths, so that every batch is padded."""


@pytest.fixture(scope="module", params=["untrained", "policy"])
def tiny(request: pytest.FixtureRequest) -> Policy:
    """A policy that answers in random tokens to the length limit, and one that follows the template and stops."""
    source = request.getfixturevalue(request.param)
    model, tokenizer = source.load()
    return Policy(model, tokenizer, source.template)


@pytest.fixture(scope="module")
def trained(policy: Any) -> Policy:
    model, tokenizer = policy.load()
    return Policy(model, tokenizer, policy.template)


def greedy(policy: Policy, prompt: str, limit: int) -> list[int]:
    """One prompt without padding, cache or generate(): the likeliest next token until it is the end."""
    ids = policy.tokenizer(prompt)["input_ids"]
    start = len(ids)
    with torch.no_grad():
        while len(ids) - start < limit:
            ids.append(int(policy.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == policy.tokenizer.eos_token_id:
                break
    return ids[start:]


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_batches_answer_like_one_prompt_at_a_time(tiny: Policy, batch_size: int) -> None:
    found = generate(tiny, PROMPTS, max_new_tokens=9, batch_size=batch_size)
    assert [list(each.completion_ids) for each in found] == [greedy(tiny, prompt, 9) for prompt in PROMPTS]


def test_results_come_in_the_order_of_the_prompts(tiny: Policy) -> None:
    found = generate(tiny, PROMPTS, max_new_tokens=2, batch_size=3)
    assert [list(each.prompt_ids) for each in found] == [tiny.tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    assert len({len(each.prompt_ids) for each in found}) > 4  # else sorting by length would have moved nothing


def test_samples_follow_the_policy_at_their_temperature_and_leave_other_draws_alone(tiny: Policy) -> None:
    """The first token of many samples, against the policy's own probabilities at that temperature."""
    prompts, temperature = ["3+4="] * 600, 0.7
    torch.manual_seed(5)
    untouched = torch.rand(1).item()
    torch.manual_seed(5)
    found = generate(tiny, prompts, max_new_tokens=2, batch_size=300, temperature=temperature, seed=3)
    assert torch.rand(1).item() == untouched
    again = generate(tiny, prompts, max_new_tokens=2, batch_size=300, temperature=temperature, seed=3)
    assert [each.completion_ids for each in found] == [each.completion_ids for each in again]
    ids = torch.tensor([tiny.tokenizer(prompts[0])["input_ids"]])
    with torch.no_grad():
        expected = (tiny.model(input_ids=ids).logits[0, -1] / temperature).softmax(dim=0)
    counted = torch.bincount(torch.tensor([each.completion_ids[0] for each in found]), minlength=len(expected)) / 600
    assert (counted - expected).abs().max() < 4 * (0.25 / 600) ** 0.5


def test_the_text_is_that_of_the_ids_and_says_whether_it_ended(trained: Policy) -> None:
    whole = generate(trained, ["3+4=", "2+1="], max_new_tokens=12, batch_size=2)
    cut = generate(trained, ["3+4=", "2+1="], max_new_tokens=3, batch_size=2)
    for each in whole:
        assert each.decoded.finished
        assert each.completion_ids[-1] == trained.tokenizer.eos_token_id
        assert each.decoded.text == trained.tokenizer.decode(each.completion_ids[:-1])
        assert trained.template.parse(each.decoded.text).confidence is not None
    for each in cut:
        assert not each.decoded.finished
        assert len(each.completion_ids) == 3


def test_chat_prompts_go_through_the_chat_template(trained: Policy) -> None:
    tokenizer = character_tokenizer(trained.template)
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['content'] }}{% endfor %}{% if add_generation_prompt %}={% endif %}"
    )
    chat = Policy(trained.model, tokenizer, trained.template)
    messages = [[{"role": "user", "content": prompt.removesuffix("=")}] for prompt in ("3+4=", "2+1=")]
    as_chat = generate(chat, messages, max_new_tokens=12, batch_size=2)
    as_text = generate(trained, ["3+4=", "2+1="], max_new_tokens=12, batch_size=2)
    assert as_chat == as_text
    assert prompt_text(messages[0]) == "user: 3+4"


def test_what_a_model_brings_along_for_generation_does_not_change_the_probe(trained: Policy) -> None:
    plain = generate(trained, PROMPTS, max_new_tokens=12, batch_size=4)
    kept = copy.deepcopy(trained.model.generation_config)
    trained.model.generation_config.update(
        do_sample=True, temperature=9.0, top_k=3, top_p=0.5, repetition_penalty=5.0, max_new_tokens=2
    )
    try:
        assert generate(trained, PROMPTS, max_new_tokens=12, batch_size=4) == plain
    finally:
        trained.model.generation_config = kept


def test_every_token_that_the_model_declares_as_an_end_is_one(trained: Policy) -> None:
    (closing,) = trained.tokenizer.encode("</answer>", add_special_tokens=False)
    kept = copy.deepcopy(trained.model.generation_config)
    trained.model.generation_config.eos_token_id = [closing]
    try:
        (found,) = generate(trained, ["3+4="], max_new_tokens=12, batch_size=1)
    finally:
        trained.model.generation_config = kept
    assert found.completion_ids[-1] == closing
    assert found.decoded.finished
    assert "</answer>" not in found.decoded.text


def generation(policy: Policy, prompt: str, completion: str, *, ended: bool = True) -> Generation:
    ids = policy.tokenizer.encode(completion, add_special_tokens=False)
    ids += [policy.tokenizer.eos_token_id] * ended
    return Generation(
        tuple(policy.tokenizer(prompt)["input_ids"]), tuple(ids), decode_completion(policy.tokenizer, ids)
    )


def by_hand(policy: Policy, each: Generation, inside: range) -> list[float]:
    """Probability of each of the completion's tokens in ``inside``, from one forward over the unpadded sequence."""
    ids = [*each.prompt_ids, *each.completion_ids]
    with torch.no_grad():
        probabilities = torch.softmax(policy.model(input_ids=torch.tensor([ids])).logits[0].double(), dim=-1)
    first = len(each.prompt_ids)
    return [float(probabilities[first + index - 1, ids[first + index]]) for index in inside]


def values(policy: Policy, generations: list[Generation], estimator: Estimator, batch_size: int) -> list[float | None]:
    """An estimator's values of the completions, None where not valid."""
    estimates = estimate_generations(policy, generations, {"it": estimator}, batch_size=batch_size)
    return [None if math.isnan(value) else value for value in estimates["it"].values_B.tolist()]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_answer_probabilities_are_those_of_a_full_forward(tiny: Policy, batch_size: int) -> None:
    answers = [
        ("3+4=", "<answer>7</answer><confidence>0.5</confidence>", range(1, 2)),
        ("12+30=", "<think>24</think><answer>42</answer><confidence>1.0</confidence>", range(5, 7)),
        ("1+1=", "<answer> 1234 </answer>", range(2, 6)),  # not the spaces around it
        ("2+2=", "<answer>4</answer><confidence>", range(1, 2)),
    ]
    generations = [generation(tiny, prompt, text) for prompt, text, _ in answers]
    for estimator, combine in (
        (AnswerProbability(), math.prod),
        (AnswerMinProbability(), min),
        (AnswerProbability(reduction="mean"), lambda each: sum(each) / len(each)),
    ):
        expected = [
            combine(by_hand(tiny, each, inside)) for each, (_, _, inside) in zip(generations, answers, strict=True)
        ]
        found = values(tiny, generations, estimator, batch_size)
        assert found == pytest.approx(expected, rel=1e-4)


def test_no_answer_has_no_probability(trained: Policy) -> None:
    generations = [
        generation(trained, "3+4=", "7"),
        generation(trained, "3+4=", "<answer>7</answer>"),
        generation(trained, "3+4=", ""),
        generation(trained, "3+4=", "<answer></answer><confidence>0.5</confidence>"),
        generation(trained, "3+4=", "<answer>7", ended=False),
    ]
    found = values(trained, generations, AnswerProbability(), 2)
    assert [value is None for value in found] == [True, False, True, True, True]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_expected_confidences_are_those_of_a_full_forward(tiny: Policy, batch_size: int) -> None:
    answers = [
        ("3+4=", "<answer>7</answer><confidence>0.5</confidence>", 4),
        ("12+30=", "<think>24</think><answer>42</answer><confidence>1.0</confidence>", 9),
        ("2+2=", "<answer>4</answer><confidence>", None),
        ("2+2=", "<answer>4</answer>", None),
        ("2+2=", "", None),
        ("1+1=", "<answer>2</answer><confidence> 0.25 </confidence>", 5),
    ]
    levels = tiny.tokenizer.convert_tokens_to_ids(list(tiny.template.levels))
    stated_L = torch.tensor(tiny.template.level_values, dtype=torch.float64)
    generations = [generation(tiny, prompt, text) for prompt, text, _ in answers]
    expected = []
    for each, (_, _, token) in zip(generations, answers, strict=True):
        if token is None:
            expected.append(None)
            continue
        ids = [*each.prompt_ids, *each.completion_ids[:token]]
        with torch.no_grad():
            probabilities = tiny.model(input_ids=torch.tensor([ids])).logits[0, -1].double().softmax(dim=0)[levels]
        expected.append(float((probabilities * stated_L).sum() / probabilities.sum()))
    found = values(tiny, generations, ExpectedConfidence(), batch_size)
    assert [value is None for value in found] == [value is None for value in expected]
    assert [value for value in found if value is not None] == pytest.approx(
        [value for value in expected if value is not None], rel=1e-5
    )


def test_expected_confidence_needs_levels(trained: Policy) -> None:
    free = Policy(trained.model, trained.tokenizer, AnswerTemplate())
    with pytest.raises(ValueError, match=r"task\.template\.levels"):
        values(free, [], ExpectedConfidence(), 1)


def test_records_say_what_was_asked_answered_and_cut_off(trained: Policy, verifier: Any) -> None:
    rows = [
        {"id": "a", "prompt": "3+4=", "answer": "7", "group": "1+1"},
        {"id": "b", "prompt": [{"role": "user", "content": "3+5"}], "answer": "8", "group": None},
        {"id": "c", "prompt": "3+5=", "answer": "8", "group": None},
    ]
    generations = [
        generation(trained, "3+4=", "<answer>7</answer><confidence>0.75</confidence>"),
        generation(trained, "3+5=", "<answer>9</answer><confidence>0.5</confidence>"),
        generation(trained, "3+5=", "<answer>8</answer><confidence>", ended=False),
    ]
    frame = verify_generations(trained, rows, generations, "m", verifier, Arithmetic().manner)
    assert frame["question_id"].tolist() == ["a", "b", "c"]
    assert frame["method"].unique().tolist() == ["m"]
    assert frame["prompt"].tolist() == ["3+4=", "user: 3+5", "3+5="]
    assert frame["correct"].tolist() == [1.0, 0.0, 1.0]
    assert frame["confidence"].tolist() == [0.75, 0.5, 0.0]
    assert frame["parsed"].tolist() == [True, True, False]
    assert frame["status"].tolist() == ["ok", "ok", "truncated"]
    assert frame["completion_tokens"].tolist() == [7, 7, 4]
    assert frame["manner"].tolist() == ["direct"] * 3
    assert frame["group"].isna().tolist() == [False, True, True]


@dataclass
class _Counting:
    """Stands in for a tokenizer's model: counts the sequences of each call to generate()."""

    inner: Any
    sizes: list[int]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def generate(self, **arguments: Any) -> Any:
        self.sizes.append(len(arguments["input_ids"]))
        return self.inner.generate(**arguments)


def test_batches_hold_prompts_of_similar_length(trained: Policy) -> None:
    model = _Counting(trained.model, [])
    generate(Policy(model, trained.tokenizer, trained.template), PROMPTS, max_new_tokens=1, batch_size=4)
    assert model.sizes == [4, 4, 1]


def test_an_empty_list_of_prompts_is_answered_by_none(trained: Policy) -> None:
    assert generate(trained, [], max_new_tokens=3, batch_size=2) == []
    assert values(trained, [], AnswerProbability(), 2) == []


def test_dropout_is_off(trained: Policy) -> None:
    trained.model.train()
    generate(trained, ["1+1="], max_new_tokens=1, batch_size=1)
    assert not trained.model.training
