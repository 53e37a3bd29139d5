"""Signals are what a plain forward pass says, however the policy has come by its completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
)

from rewards.rubric import Rubric
from rewards.template import AnswerTemplate
from rl.segments import decode_completion
from rl.signals import (
    REFERENCE_SIGNALS,
    SIGNALS,
    TEXT_SIGNALS,
    SignalReader,
    before_answer,
    repeated_ngrams,
)
from tests.rl.written import (
    ANSWER_SIGNALS,
    ELSEWHERE,
    STATED_BEFORE,
    Written,
    by_hand,
    encode,
    hooks,
    ids_of,
    judged,
    policy_of,
)

TEMPLATE = AnswerTemplate(analysis="optional", step_confidences="optional", prior_confidence="required")


READ = tuple(name for name in SIGNALS if name not in ("expected_confidence", "confidence_token", *ELSEWHERE))
"""Every signal that a template without levels has, and that is worked out by hand."""


COMPLETION_SIGNALS = ("mean_log_prob", "entropy", "self_certainty")


COMPLETIONS: list[Written] = [
    ("<prior>0.25</prior><answer>", "the answer", "</answer><confidence>0.85</confidence>", "the answer", True),
    ("<think>so <stake>0.5</stake> it is<stake>0.75</stake></think><answer> ", "42", " </answer>", "17.5", True),
    ("<think>漢😀 漢😀 漢😀 漢😀</think>\n<answer>", "漢字😀", "</answer><confidence>.5</confidence>", "漢 día", True),
    ("no answer at all, <stake>0.5</stake>", None, "", "42", True),
    ("<answer>", "42", "</answer><confi", "  ", False),
    ("<answer>", "answer 17.5", "</answer>", "the 17.5 answer", True),
]


PROMPTS = ["What is it?", "6 * 7 = ", "漢字 or 😀, which of them, and why is that so?", "17", "Sum:", "a long\nprompt"]


NO_ANSWER, BLANK_GOLD = 3, 4


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level: tokens of several characters, tags of several tokens, characters of several tokens."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    corpus = ["the answer", " answer is 17.5", "<think>", "</think>", "<answer>", "</answer>", "confidence"] * 20
    trainer = trainers.BpeTrainer(
        vocab_size=290, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<pad>", "<eos>"]
    )
    core.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", padding_side="left")


# -- passes in which completions come about ----------------------------------------------------------------------------


def padded(rows: Sequence[list[int]], fill: int, left: bool, multiple: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    width = -(-max(map(len, rows)) // multiple) * multiple
    ids, mask = torch.full((len(rows), width), fill), torch.zeros(len(rows), width, dtype=torch.long)
    for row, each in enumerate(rows):
        place = slice(width - len(each), width) if left else slice(0, len(each))
        ids[row, place], mask[row, place] = torch.tensor(each), 1
    return ids, mask


def pass_over(
    reader: SignalReader,
    model: Any,
    prompts: Sequence[list[int]],
    completions: Sequence[list[int]],
    dictate: Any,
    how: str,
    multiple: int = 1,
) -> None:
    """What makes the completions known: generation, or TRL's scoring in parts, and a pass for its KL after it."""
    pad = model.config.pad_token_id
    prompt_ids, prompt_mask = padded(prompts, pad, True, multiple)
    if how == "generated":
        dictate(model, completions)
        written = model.generate(
            input_ids=prompt_ids, attention_mask=prompt_mask, do_sample=True, temperature=0.5, top_k=0,
            max_new_tokens=max(map(len, completions)),
        )  # fmt: skip
        for row, ids in enumerate(completions):
            assert written[row, prompt_ids.size(1) :][: len(ids)].tolist() == ids
        return
    completion_ids, completion_mask = padded(completions, pad, False, multiple)
    ids, mask = torch.cat([prompt_ids, completion_ids], dim=1), torch.cat([prompt_mask, completion_mask], dim=1)
    with torch.no_grad():
        with reader.scoring(completion_ids, completion_mask):
            for first in range(0, len(ids), 4):
                model(input_ids=ids[first : first + 4], attention_mask=mask[first : first + 4])
        with reader.scoring(completion_ids, completion_mask):
            model(input_ids=ids.flip(0), attention_mask=mask.flip(0))  # the reference of a KL is the policy unadapted


def signals_of(
    model: Any, tokenizer: Any, names: Sequence[str], dictate: Any, how: str = "generated", multiple: int = 1
) -> dict[str, torch.Tensor]:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    reader = SignalReader(names, base, tokenizer, TEMPLATE, generates=how == "generated")
    prompts = [encode(tokenizer, prompt) for prompt in PROMPTS]
    completions = [ids_of(tokenizer, each) for each in COMPLETIONS]
    with reader.watching():
        pass_over(reader, model, prompts, completions, dictate, how, multiple)
        return reader.read(
            judged(tokenizer, completions, TEMPLATE), prompts, completions, [gold for *_, gold, _ in COMPLETIONS]
        )


def assert_by_hand(values: dict[str, torch.Tensor], model: Any, tokenizer: Any) -> None:
    expected = [
        by_hand(model, tokenizer, encode(tokenizer, prompt), written)
        for prompt, written in zip(PROMPTS, COMPLETIONS, strict=True)
    ]
    for name, read_B in values.items():
        np.testing.assert_allclose(
            read_B.double().numpy(), [each[name] for each in expected], rtol=2e-4, atol=1e-6, err_msg=name
        )


@pytest.mark.parametrize(("how", "multiple"), [("generated", 1), ("generated", 16), ("scored", 1), ("scored", 16)])
def test_every_signal_is_that_of_a_plain_forward_pass(how: str, multiple: int, tokenizer: Any, dictate: Any) -> None:
    model = policy_of("llama", tokenizer)
    values = signals_of(model, tokenizer, READ, dictate, how, multiple)
    assert tuple(values) == READ
    assert_by_hand(values, model, tokenizer)
    for name, read_B in values.items():
        known = read_B[~read_B.isnan()]
        assert known.unique().numel() > 1 or name in STATED_BEFORE, f"{name} is not the same everywhere"
        unanswered = name in (*ANSWER_SIGNALS, *STATED_BEFORE, "verbalized")
        assert read_B[NO_ANSWER].isnan() == unanswered, name
    assert values["reference_probability"][NO_ANSWER] == 0.0
    assert values["reference_probability"][BLANK_GOLD].isnan()
    assert values["reference_probability_prior"].isnan().nonzero().flatten().tolist() == [BLANK_GOLD]
    assert values["token_f1"].tolist() == pytest.approx([1, 0, 0, 0, 0, 1])
    assert values["step_confidence"][1] == 0.625 and values["step_confidence"].isnan().sum() == 5
    assert values["repetition"][2] > 0.3 > values["repetition"][1]
    alone = signals_of(model, tokenizer, tuple(ANSWER_SIGNALS), dictate, how, multiple)  # the answers' tokens alone
    for name, read_B in alone.items():
        torch.testing.assert_close(read_B, values[name], equal_nan=True)


def test_a_batch_without_answers_and_with_an_empty_completion_has_no_answer_signals(
    tokenizer: Any, dictate: Any
) -> None:
    model = policy_of("llama", tokenizer)
    reader = SignalReader(ANSWER_SIGNALS, model, tokenizer, TEMPLATE, generates=False)
    completions = [[], encode(tokenizer, "nothing")]
    prompts = [encode(tokenizer, prompt) for prompt in PROMPTS[:2]]
    with reader.watching():
        pass_over(reader, model, prompts, completions, dictate, "scored")
        values = reader.read(judged(tokenizer, completions, TEMPLATE), prompts, completions, ["4", "4"])
    assert all(read_B.isnan().all() for read_B in values.values())


def test_the_test_has_characters_of_several_tokens_and_ragged_completions(tokenizer: Any) -> None:
    lengths = [len(ids_of(tokenizer, each)) for each in COMPLETIONS]
    assert len(set(lengths)) == len(lengths) and max(lengths) % 16
    assert len(encode(tokenizer, "漢字😀")) > 6
    assert len(encode(tokenizer, "the answer")) < 4


@pytest.mark.parametrize("name", ["gemma2", "granite", "lora", "lora_head", "saved_head", "tokens"])
def test_whatever_the_model_makes_of_its_hidden_states(name: str, tokenizer: Any, dictate: Any) -> None:
    """Capped and scaled logits, and adapters on the head or on single tokens."""
    model = policy_of(name, tokenizer)
    values = signals_of(model, tokenizer, (*ANSWER_SIGNALS, *COMPLETION_SIGNALS, *REFERENCE_SIGNALS), dictate)
    assert_by_hand(values, model, tokenizer)
    if name not in ("gemma2", "granite"):
        with model.disable_adapter():
            plain = by_hand(model, tokenizer, encode(tokenizer, PROMPTS[0]), COMPLETIONS[0])
        assert abs(plain["mean_log_prob"] - values["mean_log_prob"][0].item()) > 0.01, "the adapter does something"


def test_where_the_answer_begins_in_a_token_of_the_tag(tokenizer: Any) -> None:
    """A completion is not re-tokenised: what stands before the answer is its own tokens, and the rest of their text."""
    text = "<answer>漢</answer>"
    whole = decode_completion(tokenizer, encode(tokenizer, text))
    shared = type(whole)(text, (3, 9, 10, len(text)), True)  # the second token writes ">漢"'s first half too
    parsed = TEMPLATE.parse(text)
    assert before_answer(parsed, whole) == (len(encode(tokenizer, "<answer>")), "")
    assert before_answer(parsed, shared) == (1, "swer>")
    assert before_answer(TEMPLATE.parse("nothing"), decode_completion(tokenizer, encode(tokenizer, "nothing"))) is None


def test_share_of_repeated_ngrams() -> None:
    assert repeated_ngrams([]) == repeated_ngrams([1, 1, 1]) == repeated_ngrams([1, 1, 1, 1]) == 0
    assert repeated_ngrams([1] * 10) == pytest.approx(6 / 7)
    assert repeated_ngrams(list(range(10))) == 0


# -- what is kept, and for how long ------------------------------------------------------------------------------------


def test_a_reference_stands_in_for_a_gold_that_no_policy_would_write(tokenizer: Any) -> None:
    """And passes over references are made in batches, which changes nothing."""
    model = policy_of("llama", tokenizer)
    prompts = [encode(tokenizer, prompt) for prompt in PROMPTS]
    ids = [ids_of(tokenizer, each) for each in COMPLETIONS]
    golds = [gold for *_, gold, _ in COMPLETIONS]
    rollout = judged(tokenizer, ids, TEMPLATE)
    whole = SignalReader(REFERENCE_SIGNALS, model, tokenizer, TEMPLATE, generates=True)
    parts = SignalReader(REFERENCE_SIGNALS, model, tokenizer, TEMPLATE, generates=True, batch_size=2)
    expected, aliases = whole.read(rollout, prompts, ids, golds), ['["x", "y"]'] * len(golds)
    sizes: list[int] = []
    model.base_model.register_forward_hook(lambda *each: sizes.append(len(each[2].last_hidden_state)))
    read = parts.read(rollout, prompts, ids, aliases, references=golds)
    assert max(sizes) == 2 and sum(sizes) == 2 * len(golds)
    for name in REFERENCE_SIGNALS:
        np.testing.assert_allclose(read[name], expected[name], rtol=1e-4)
        assert not np.allclose(parts.read(rollout, prompts, ids, aliases)[name], expected[name], equal_nan=True)


def test_nothing_is_watched_where_no_signal_needs_it(tokenizer: Any) -> None:
    model = policy_of("llama", tokenizer)
    for names in ((), tuple(TEXT_SIGNALS), REFERENCE_SIGNALS):
        reader = SignalReader(names, model, tokenizer, TEMPLATE, generates=True)
        assert not reader.watches
        assert not hooks(model)
        assert reader.asks == (names == REFERENCE_SIGNALS)
    assert SignalReader(["entropy"], model, tokenizer, TEMPLATE, generates=True).watches
    assert hooks(model) == 2


@pytest.mark.parametrize(
    ("name", "needed"), [("agreement", "samples"), ("semantic_entropy", "samples"), ("p_true", "extra_passes")]
)
def test_what_needs_samples_or_passes_of_its_own_is_no_signal(tokenizer: Any, name: str, needed: str) -> None:
    with pytest.raises(ValueError, match=f"rubric: {name} needs {needed}, which training does not give"):
        SignalReader([name], policy_of("llama", tokenizer), tokenizer, TEMPLATE, generates=True)


def test_an_unknown_name_is_refused(tokenizer: Any, make_trainer: Any) -> None:
    with pytest.raises(ValueError, match=r"rubric: answer_margn, sureness is not a signal, allowed: verbalized, "):
        SignalReader(
            ["entropy", "answer_margn", "sureness"], policy_of("llama", tokenizer), tokenizer, TEMPLATE, generates=True
        )
    rubric = Rubric.from_config({"accuracy": {}, "rlsf": {"signal": "answer_margn"}})
    with pytest.raises(ValueError, match="answer_margn is not a signal"):
        make_trainer(rubric=rubric)
