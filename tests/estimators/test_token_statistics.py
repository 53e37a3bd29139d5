"""Log-probabilities of written tokens: what a batch says equals what each sequence says on its own."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from estimators.forward_passes import completion_statistics
from estimators.recorded import RecordedToken, recorded_statistics, without_appended
from estimators.token_statistics import hidden_statistics, token_statistics
from tests.factories import tiny_model

VOCABULARY, PAD = 23, 0
PROMPTS = [(5, 6, 7), (8,), (9, 10, 11, 12, 13), (14, 15)]
COMPLETIONS = [(1, 2), (3, 4, 5, 6, 7), (), (0, 22, 0)]
"""Ragged on both sides; the last holds the padding token as a token that was written."""


def alone(model: PreTrainedModel, prompt: tuple[int, ...], completion: tuple[int, ...]) -> list[float]:
    """The textbook way: one unpadded forward, log-softmax, and the entry of each next token."""
    ids = torch.tensor([[*prompt, *completion]])
    with torch.no_grad():
        log_probs = torch.log_softmax(model(input_ids=ids).logits[0].double(), dim=-1)
    return [float(log_probs[len(prompt) + t - 1, token]) for t, token in enumerate(completion)]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_passes_of_any_size_say_the_same(kind: str) -> None:
    model = tiny_model(kind, vocabulary=VOCABULARY, initializer_range=0.5).eval()
    sizes: list[int] = []
    model.base_model.register_forward_hook(lambda module, arguments, output: sizes.append(len(output[0])))
    for size, passes in ((None, [4]), (4, [4]), (3, [3, 1]), (1, [1] * 4)):
        sizes.clear()
        read = completion_statistics(model, PROMPTS, COMPLETIONS, pad_token_id=PAD, batch_size=size)
        assert sizes == passes
        assert read.log_prob.shape == (4, 5)
        for log_probs, prompt, completion in zip(read.log_prob, PROMPTS, COMPLETIONS, strict=True):
            expected = alone(model, prompt, completion)
            assert log_probs.tolist() == pytest.approx([*expected, *[0.0] * (5 - len(expected))], abs=1e-5)
    assert completion_statistics(model, [], [], pad_token_id=PAD).log_prob.shape == (0, 0)


def test_only_what_is_read_goes_through_the_head() -> None:
    model, rows = tiny_model("llama", vocabulary=VOCABULARY, initializer_range=0.5).eval(), []
    model.lm_head.register_forward_hook(lambda module, arguments, output: rows.append(len(output)))
    whole = completion_statistics(model, PROMPTS, COMPLETIONS, pad_token_id=PAD, level_ids=(3, 4))
    read_BT = torch.zeros(4, 5, dtype=torch.bool)
    read_BT[0, 1] = read_BT[1, 4] = read_BT[2, 0] = True  # the last one is behind its completion's end
    part = completion_statistics(model, PROMPTS, COMPLETIONS, pad_token_id=PAD, level_ids=(3, 4), read_BT=read_BT)
    assert rows == [10, 2]
    read_BT[2, 0] = False
    for each in fields(part):
        values, expected = getattr(part, each.name), getattr(whole, each.name)
        torch.testing.assert_close(values[read_BT], expected[read_BT])
        assert not values[~read_BT].any()


def chosen_log_probs(model, prompts, completions, *, pad_token_id: int) -> list[torch.Tensor]:
    read = completion_statistics(model, prompts, completions, pad_token_id=pad_token_id)
    return [log_probs[: len(each)] for log_probs, each in zip(read.log_prob, completions, strict=True)]


@pytest.mark.parametrize("place", [0, 700, 64 * 60 - 1, 64 * 60, 64 * 60 + 16])
def test_the_likeliest_token_is_found_wherever_it_stands(place: int) -> None:
    """In a block of the row, or behind the last whole one; the row is no copy of its own, and a token cannot come."""
    logits = torch.randn(3, 6, 64 * 60 + 17, generator=torch.Generator().manual_seed(0))
    logits[:, :, place] = 9.0
    logits[1, 2, (place + 5) % logits.size(-1)] = -torch.inf
    sliced, tokens = logits[:, :-1], torch.zeros(3, 5, dtype=torch.long)
    read, log_probs = token_statistics(sliced, tokens), sliced.double().log_softmax(-1)
    torch.testing.assert_close(read.max_probability.double(), log_probs[..., place].exp(), rtol=1e-5, atol=0)
    torch.testing.assert_close(read.token_confidence.double(), -log_probs.topk(20).values.mean(-1), rtol=1e-5, atol=0)
    entropy = -(log_probs.exp() * log_probs.clamp(min=-1e9)).sum(-1)
    torch.testing.assert_close(read.entropy.double(), entropy, rtol=1e-5, atol=0)
    assert read.self_certainty[1, 2] == torch.inf


@pytest.mark.parametrize("vocabulary", [2, 23, 64 * 60 + 17])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_statistics_agree_with_torch_distributions(vocabulary: int, dtype: torch.dtype) -> None:
    """In float64, whatever type the logits have: the sums are taken in float32; wide rows go another way."""
    torch.manual_seed(0)
    logits = (torch.randn(4, 5, vocabulary) * torch.tensor([0.1, 1.0, 3.0, 10.0]).view(4, 1, 1)).to(dtype)
    logits[0, 0] = 0.0
    tokens = torch.randint(0, vocabulary, (4, 5))
    read = token_statistics(logits, tokens, level_ids=(1, 0))
    drawn = torch.distributions.Categorical(logits=logits.double())
    uniform = torch.distributions.Categorical(logits=torch.zeros(vocabulary).double())
    ordered = drawn.probs.sort(dim=-1, descending=True).values
    expected = {
        "log_prob": drawn.log_prob(tokens),
        "entropy": drawn.entropy(),
        "max_probability": ordered[..., 0],
        "margin": ordered[..., 0] - ordered[..., 1],
        "self_certainty": torch.distributions.kl_divergence(uniform, drawn),
        "token_confidence": -drawn.logits.topk(min(20, vocabulary)).values.mean(dim=-1),
        "level_log_probs": drawn.logits[..., [1, 0]],
    }
    for name, values in expected.items():
        assert getattr(read, name).dtype == torch.float32
        torch.testing.assert_close(getattr(read, name).double(), values, atol=1e-5, rtol=1e-5)


logits_of_any_shape = st.lists(st.floats(-30, 30), min_size=2, max_size=30).map(lambda row: torch.tensor([row]))


@settings(max_examples=60, deadline=None)
@given(logits_of_any_shape, st.integers(1, 40))
def test_what_holds_for_every_distribution(logits: torch.Tensor, top_k: int) -> None:
    """The mean of -log p is at least log k over the k likeliest (Jensen); over all it is self-certainty + log V."""
    vocabulary = logits.size(-1)
    token = torch.tensor([0])
    read = token_statistics(logits, token, top_k=top_k)
    assert read.token_confidence.item() >= math.log(min(top_k, vocabulary)) - 1e-5
    whole = token_statistics(logits, token, top_k=vocabulary)
    assert whole.token_confidence.item() - math.log(vocabulary) == pytest.approx(read.self_certainty.item(), abs=1e-4)
    assert -1e-5 <= read.entropy.item() <= math.log(vocabulary) + 1e-5
    assert 0 <= read.margin.item() <= read.max_probability.item() <= 1
    level = token_statistics(torch.zeros_like(logits), token, top_k=top_k)
    assert level.token_confidence.item() == pytest.approx(math.log(vocabulary), abs=1e-5), "uniform: log V for every k"
    assert level.self_certainty.item() == pytest.approx(0, abs=1e-5) and level.margin.item() == 0


def test_confidence_of_a_token_is_not_a_function_of_its_entropy() -> None:
    """A tie of twenty is less sure than the uniform distribution to DeepConf, and surer than a peak to self-certainty.

    The numbers are those of a vocabulary of 1,000 with a tail that has 1e-9 or 1e-6 of the probability a token.
    """

    def read(*head: float, tail: float) -> tuple[float, float, float]:
        rest = torch.full((1000 - len(head),), tail, dtype=torch.float64)
        logits = torch.cat([torch.tensor(head, dtype=torch.float64), rest]).log()[None]
        found = token_statistics(logits, torch.tensor([0]))
        return tuple(round(getattr(found, n).item(), 3) for n in ("entropy", "token_confidence", "self_certainty"))

    uniform, tied, peaked = (
        read(*[1e-3] * 20, tail=1e-3),
        read(*[(1 - 980e-9) / 20] * 20, tail=1e-9),
        read(1 - 999e-6, tail=1e-6),
    )
    assert uniform == (6.908, 6.908, 0.0)
    assert tied == pytest.approx((2.996, 2.996, 13.461), abs=1e-3)
    assert peaked == pytest.approx((0.015, 13.125, 6.894), abs=1e-3)


def test_logits_of_minus_infinity_leave_what_can_come() -> None:
    impossible = -torch.inf
    read = token_statistics(torch.tensor([[impossible] * 3, [2.0, impossible, impossible]]), torch.tensor([0, 0]))
    assert read.entropy[1] == 0 and read.max_probability[1] == read.margin[1] == 1 and read.log_prob[1] == 0
    assert read.token_confidence[1] == read.self_certainty[1] == torch.inf
    assert read.entropy[0].isnan() and read.log_prob[0].isnan(), "of which no token can come"


def test_recorded_log_probabilities_are_cut_at_the_k_likeliest() -> None:
    """A server that appends the token written, beyond the k likeliest, says the same as one that does not."""
    torch.manual_seed(0)
    log_probs = torch.randn(1, 64).log_softmax(-1)
    order = log_probs[0].argsort(descending=True).tolist()
    written = order[40]
    expected = token_statistics(log_probs, torch.tensor([written]))
    for listed in (order[:20], [*order[:20], written], order):
        token = RecordedToken(log_probs[0, written].item(), {each: log_probs[0, each].item() for each in listed})
        read = recorded_statistics([[token]], 64)
        for name in ("log_prob", "max_probability", "margin", "token_confidence"):
            assert getattr(read, name).item() == pytest.approx(getattr(expected, name).item(), abs=1e-6)
        assert read.entropy.isnan().item() == read.self_certainty.isnan().item() == (len(listed) < 64)
    cut = RecordedToken(-1.0, {each: log_probs[0, each].item() for each in order[:19]})
    assert recorded_statistics([[cut]], 64).token_confidence.isnan().item()
    assert not recorded_statistics([[cut]], 64, top_k=5).token_confidence.isnan().item()


@pytest.mark.parametrize(
    ("record", "margins"),
    [
        ([(-0.1, [-0.1]), (-3.0, [-0.6, -3.0])], [math.nan, math.nan]),  # one listed, the second appended
        ([(-3.0, [-0.6, -3.0])], [math.nan]),  # which may be so
        ([(-3.0, [-0.6, -3.0]), (-0.6, [-0.6, -3.0])], [0.499, 0.499]),  # here it is not
        ([(-5.0, [-0.6, -3.0])], [0.499]),  # nor where it is not listed
        ([(-5.0, []), (-0.6, [-0.6, -3.0])], [math.nan, 0.499]),
    ],
)
def test_a_token_that_a_server_appends_is_none_of_the_likeliest(record: list, margins: list[float]) -> None:
    tokens = without_appended([RecordedToken(drawn, dict(enumerate(listed))) for drawn, listed in record])
    read = recorded_statistics([tokens], 64)
    assert read.margin[0].tolist() == pytest.approx(margins, abs=1e-3, nan_ok=True)
    known = [math.exp(max(listed)) if len(listed) > 1 else None for _, listed in record]
    assert all(k is None or k == pytest.approx(v) for k, v in zip(known, read.max_probability[0].tolist(), strict=True))


def test_an_impossible_token_leaves_the_entropy_finite() -> None:
    read = token_statistics(torch.tensor([[0.0, 0.0, -torch.inf]]), torch.tensor([0]))
    assert read.entropy.item() == pytest.approx(0.693147, abs=1e-5)
    assert read.self_certainty.item() == torch.inf


def test_hidden_states_and_logits_say_the_same_however_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("estimators.token_statistics.CHUNK", 7 * VOCABULARY + 3)
    torch.manual_seed(0)
    hidden, head = torch.randn(15, 8), torch.nn.Linear(8, VOCABULARY)
    tokens = torch.randint(0, VOCABULARY, (15,))
    widest: list[int] = []

    def logits_of(rows: torch.Tensor) -> torch.Tensor:
        widest.append(len(rows))
        return head(rows)

    levels = (4, 2)
    ours = hidden_statistics(hidden, tokens, logits_of, VOCABULARY, levels)
    direct = token_statistics(head(hidden), tokens, levels)
    assert max(widest) == 7
    for each in fields(ours):
        torch.testing.assert_close(getattr(ours, each.name), getattr(direct, each.name))
    assert direct.level_log_probs.shape == (15, 2)
    assert hidden_statistics(hidden[:0], tokens[:0], logits_of, VOCABULARY).entropy.shape == (0,)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_ragged_batch_equals_each_sequence_alone(kind: str) -> None:
    model = tiny_model(kind, vocabulary=VOCABULARY, initializer_range=0.5).eval()
    batch = chosen_log_probs(model, PROMPTS, COMPLETIONS, pad_token_id=PAD)
    assert [len(row) for row in batch] == [2, 5, 0, 3]
    for row, prompt, completion in zip(batch, PROMPTS, COMPLETIONS, strict=True):
        assert row.tolist() == pytest.approx(alone(model, prompt, completion), abs=1e-5)


def test_the_padding_token_does_not_matter() -> None:
    model = tiny_model("gpt2", vocabulary=VOCABULARY, initializer_range=0.5).eval()
    first = chosen_log_probs(model, PROMPTS, COMPLETIONS, pad_token_id=PAD)
    second = chosen_log_probs(model, PROMPTS, COMPLETIONS, pad_token_id=17)
    for row, same in zip(first, second, strict=True):
        torch.testing.assert_close(row, same)


def test_they_are_log_probabilities_over_the_vocabulary() -> None:
    model = tiny_model("llama", vocabulary=VOCABULARY, initializer_range=0.5).eval()
    next_tokens = [(token,) for token in range(VOCABULARY)]
    each = torch.cat(chosen_log_probs(model, [(5, 6)] * VOCABULARY, next_tokens, pad_token_id=PAD))
    assert bool((each <= 0).all())
    assert float(each.exp().sum()) == pytest.approx(1.0, abs=1e-5)
    assert float(each.max() - each.min()) > 0.1  # a model without an opinion would pass any gather


def test_completions_of_no_tokens_have_no_log_probabilities() -> None:
    rows = chosen_log_probs(
        tiny_model("llama", vocabulary=VOCABULARY, initializer_range=0.5).eval(),
        [(5,), (6, 7)],
        [(), ()],
        pad_token_id=PAD,
    )
    assert [row.shape for row in rows] == [(0,), (0,)]


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="empty prompt"):
        chosen_log_probs(
            tiny_model("llama", vocabulary=VOCABULARY, initializer_range=0.5).eval(),
            [(5,), ()],
            [(1,), (1,)],
            pad_token_id=PAD,
        )


def test_prompts_and_completions_are_paired() -> None:
    with pytest.raises(ValueError, match="2 prompts for 1 completions"):
        chosen_log_probs(
            tiny_model("llama", vocabulary=VOCABULARY, initializer_range=0.5).eval(),
            [(5,), (6,)],
            [(1,)],
            pad_token_id=PAD,
        )


def test_half_precision_logits_are_normalised_in_full() -> None:
    model = tiny_model("llama", vocabulary=VOCABULARY, initializer_range=0.5).eval().to(torch.bfloat16)
    row = chosen_log_probs(model, [(5, 6)], [(1, 2)], pad_token_id=PAD)[0]
    assert row.dtype == torch.float32
    ids = torch.tensor([[5, 6, 1, 2]])
    with torch.no_grad():
        expected = torch.log_softmax(model(input_ids=ids).logits[0].float(), dim=-1)
    assert row.tolist() == pytest.approx([float(expected[1, 1]), float(expected[2, 2])], abs=0.05)
