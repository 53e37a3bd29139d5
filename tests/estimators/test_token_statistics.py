"""Log-probabilities of written tokens: what a batch says equals what each sequence says on its own."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from transformers import PreTrainedModel

from estimators.token_statistics import completion_statistics, hidden_statistics, token_statistics
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


def test_statistics_agree_with_torch_distributions() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 5, VOCABULARY) * 3
    tokens = torch.randint(0, VOCABULARY, (4, 5))
    read = token_statistics(logits, tokens)
    drawn = torch.distributions.Categorical(logits=logits.double())
    uniform = torch.distributions.Categorical(logits=torch.zeros(VOCABULARY).double())
    ordered = drawn.probs.sort(dim=-1).values
    expected = {
        "log_prob": drawn.log_prob(tokens),
        "entropy": drawn.entropy(),
        "max_probability": ordered[..., -1],
        "margin": ordered[..., -1] - ordered[..., -2],
        "self_certainty": torch.distributions.kl_divergence(uniform, drawn),
    }
    for name, values in expected.items():
        torch.testing.assert_close(getattr(read, name), values.float(), atol=1e-5, rtol=1e-5)


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
