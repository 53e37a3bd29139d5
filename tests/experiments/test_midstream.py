"""Mid-stream hand-over: who writes which step, what it costs, and that the cache changes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from tokenizers import Tokenizer

from experiments.routing.midstream import FixedRate, Judge, Mixture, RandomShare, Steer, Step, solve


class Scripted:
    """Writes one step of two tokens after another, as sure of each as told, and ends with the last."""

    def __init__(self, mark: int, confidences: Sequence[float], parameters: int) -> None:
        self.mark, self.confidences, self.parameters, self.processed = mark, confidences, parameters, 0

    def number(self, ids: Sequence[int]) -> int:
        return (len(ids) - 1) // 2  # a prompt of one token

    def begin(self, prompt: str) -> list[int]:
        return [0]

    def reads(self, step: Step) -> list[int]:
        return list(step.ids)

    def write(self, ids: Sequence[int], most: int) -> Step:
        self.processed += 2
        number, written = self.number(ids), (self.mark, self.mark)[:most]
        text = "".join(map(str, written))
        return Step(written, text, self.confidences[number], number + 1 == len(self.confidences))

    def next_confidence(self, ids: Sequence[int]) -> float:
        self.processed += 1
        return self.confidences[self.number(ids)]

    def likelihood(self, ids: Sequence[int], step: Sequence[int]) -> float:
        self.processed += len(step)
        return 0.9 if self.number(ids) else 0.1


SURE = [0.9, 0.2, 0.95, 0.3]
MIXTURE = Mixture((0.5, 0.5), (0.3, 0.9), (0.1, 0.1))
UNSURE = Mixture((0.5, 0.5), (0.1, 0.5), (0.1, 0.1))


def solved(hand_over: Any, **settings: int) -> Any:
    pair = Scripted(1, SURE, 10), Scripted(2, [1.0] * 4, 100)
    return solve(*pair, hand_over, "", **{"max_tokens": 100, "longest_step": 10, **settings})


@pytest.mark.parametrize(
    ("hand_over", "by_large", "discarded", "small", "large"),
    [
        (FixedRate(0), [0, 0, 0, 0], 0, 8, 0),
        (FixedRate(1), [1, 1, 1, 1], 0, 0, 8),
        (FixedRate(2), [1, 0, 1, 0], 0, 4, 4),
        (Steer(MIXTURE, moment="before"), [0, 1, 0, 1], 0, 4 + 4, 4),
        (Steer(MIXTURE, moment="after"), [0, 1, 0, 1], 4, 8, 4),
        (Judge(0.5), [1, 0, 0, 0], 2, 8, 8 + 2),
    ],
)
def test_who_writes_and_what_it_costs(
    hand_over: Any, by_large: list[int], discarded: int, small: int, large: int
) -> None:
    result = solved(hand_over)
    assert list(result.by_large) == [bool(each) for each in by_large]
    assert result.text == "".join(str(1 + each) * 2 for each in by_large) and result.tokens == 2 * len(by_large)
    assert (result.discarded, result.written_by_large) == (discarded, 2 * sum(by_large))
    assert (result.small_tokens, result.large_tokens) == (small, large)
    assert result.flops == 2 * (10 * small + 100 * large)


def test_a_completion_has_an_end() -> None:
    assert solved(FixedRate(0), max_tokens=5).text == "1" * 5
    assert solved(FixedRate(0), longest_step=1, max_tokens=3).text == "1" * 3


def test_a_share_by_lot_is_that_share() -> None:
    pair = Scripted(1, [0.5] * 2000, 1), Scripted(2, [0.5] * 2000, 1)
    result = solve(*pair, RandomShare(0.3, seed=1), "", max_tokens=4000, longest_step=2)
    assert np.mean(result.by_large) == pytest.approx(0.3, abs=0.03)


# -- the mixture -----------------------------------------------------------------------------------------------------
def test_the_mixture_finds_the_two_distributions_that_the_confidences_are_of() -> None:
    rng = np.random.default_rng(0)
    found = Mixture.fit(np.concatenate([rng.normal(0.4, 0.05, 3000), rng.normal(0.9, 0.02, 7000)]))
    assert found.means == pytest.approx((0.4, 0.9), abs=0.01)
    assert found.deviations == pytest.approx((0.05, 0.02), abs=0.005)
    assert found.shares == pytest.approx((0.3, 0.7), abs=0.02)


def test_the_posterior_is_bayes_rule_between_the_means_and_rises_everywhere() -> None:
    mixture = Mixture((0.3, 0.7), (0.4, 0.9), (0.02, 0.2))  # the wide upper one would take over again below 0.3
    between = np.linspace(0.4, 0.9, 50)
    low, high = 0.3 * norm(0.4, 0.02).pdf(between), 0.7 * norm(0.9, 0.2).pdf(between)
    assert mixture.surely_high(between) == pytest.approx(high / (low + high))
    everywhere = mixture.surely_high(np.linspace(0, 1, 200))
    assert (np.diff(everywhere) >= 0).all() and everywhere[0] < 0.5 < everywhere[-1]


@pytest.mark.parametrize("values", [[], [0.5] * 9, [0.1, np.nan]])
def test_what_no_mixture_can_be_fitted_to_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="expected at least two, all finite"):
        Mixture.fit(values)


# -- local policies --------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def writers() -> Any:
    import torch

    from experiments.probe.generate import Policy
    from experiments.routing.step_writer import StepWriter
    from rewards.template import AnswerTemplate
    from tests.factories import character_tokenizer, tiny_model

    template = AnswerTemplate(step_separators=("1", "2", "+"))

    def make(hidden: int, *, turned: int = 0) -> Any:
        """A policy; ``turned`` gives each digit the id of another one, and the weights with it."""
        tokenizer = character_tokenizer(template)
        model = tiny_model(vocabulary=tokenizer, hidden=hidden, max_position_embeddings=256).eval()
        with torch.no_grad():  # no completion ends by itself
            model.lm_head.weight[[tokenizer.pad_token_id, tokenizer.eos_token_id]] = 0.0
            was = tokenizer.convert_tokens_to_ids(list("0123456789"))
            now = [*was[turned:], *was[:turned]]
            for layer in (model.lm_head, model.get_input_embeddings()):
                layer.weight[now] = layer.weight[was].clone()
        core = json.loads(tokenizer.backend_tokenizer.to_str())
        core["model"]["vocab"] |= dict(zip("0123456789", now, strict=True))
        return StepWriter(Policy(model, type(tokenizer)(
            tokenizer_object=Tokenizer.from_str(json.dumps(core)), pad_token="<pad>", eos_token="<eos>"
        ), template), "<think>")  # fmt: skip

    return make


def test_one_policy_alone_writes_what_it_generates(writers: Any) -> None:
    """Whatever the steps, and though each is written after another call to the cache."""
    writer = writers(16)
    tokenizer, model = writer.policy.tokenizer, writer.policy.model
    prompt = tokenizer("12+34=<think>")["input_ids"]
    assert writer.begin("12+34=") == prompt
    result = solve(writer, writers(8), FixedRate(0), "12+34=", max_tokens=24, longest_step=5)
    import torch

    expected = model.generate(
        input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=24, do_sample=False, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=list(writer.policy.end_ids),
    )[0, len(prompt):].tolist()  # fmt: skip
    assert result.text == tokenizer.decode(expected) and result.tokens == len(expected)
    assert len(result.by_large) > 1
    assert result.large_tokens == 0 and result.small_tokens == len(prompt) + len(expected) - 1  # nothing twice


def test_no_policy_reads_a_token_twice_and_the_cache_changes_nothing(writers: Any) -> None:
    small, large = writers(16), writers(8)
    prompt = small.begin("12+34=")
    result = solve(small, large, FixedRate(2), "12+34=", max_tokens=24, longest_step=4)
    ids = small.policy.tokenizer(result.text)["input_ids"]
    both = len(prompt) + len(ids) - 1
    # Of each step that the other wrote, a policy reads every token once, when it is its turn again.
    assert len(ids) == result.tokens and result.small_tokens <= both and result.large_tokens <= both
    fresh = writers(16)
    step = ids[:4]
    beginning = [*prompt, *step]
    assert fresh.next_confidence(beginning) == pytest.approx(small.next_confidence(beginning), abs=1e-5)
    first = fresh.likelihood(prompt, step)
    single = [writers(16)._after([*prompt, *step[:place]])[-1][token] for place, token in enumerate(step)]
    assert first == pytest.approx(float(np.exp(np.mean(np.log(single)))), rel=1e-4)
    assert fresh.likelihood(prompt, []) == 1.0


@pytest.mark.parametrize("hand_over", [FixedRate(2), Judge(0.02), Steer(UNSURE, moment="after")])
def test_the_same_policy_in_another_vocabulary_writes_the_same(hand_over: Any, writers: Any) -> None:
    pairs = [(writers(16), writers(8, turned=turned)) for turned in (0, 3)]
    assert pairs[1][1].begin("12") != pairs[0][1].begin("12")
    one, other = (solve(*pair, hand_over, "12+34=", max_tokens=40, longest_step=5) for pair in pairs)
    assert one == other and any(char.isdigit() for char in one.text)
    assert {True, False} == set(one.by_large)


def test_the_messages_of_a_chat_begin_with_the_prefix_too(writers: Any) -> None:
    writer = writers(8)
    writer.policy.tokenizer.chat_template = "{{ messages[0]['content'] }}="
    assert writer.begin([{"role": "user", "content": "12+34"}]) == writer.begin("12+34=")
