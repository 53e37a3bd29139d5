"""Signals are what a plain forward pass says, however the policy has come by its completions."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from scripted import ROWS
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from rewards.rubric import Rubric
from rewards.template import AnswerTemplate
from rewards.verifiers.verifier import EQUAL
from rl.rollout import VerifiedRollout
from rl.segments import decode_completion
from rl.signals import (
    ESTIMATED,
    REFERENCE_SIGNALS,
    SIGNALS,
    TEXT_SIGNALS,
    SignalReader,
    before_answer,
    repeated_ngrams,
)

TEMPLATE = AnswerTemplate(analysis="optional", step_confidences="optional")
READ = tuple(name for name in SIGNALS if name != "expected_confidence")
"""Every signal that a template without levels has."""
ANSWER_SIGNALS = tuple(name for name in ESTIMATED if name.startswith("answer_"))
COMPLETION_SIGNALS = ("mean_log_prob", "entropy", "self_certainty")
STAKES = ("step_confidence", "prior_confidence")

# What stands before the answer, the answer, what stands behind it; the gold; whether it ends by itself.
Written = tuple[str, str | None, str, str, bool]
COMPLETIONS: list[Written] = [
    ("<answer>", "the answer", "</answer><confidence>0.85</confidence>", "the answer", True),
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


def policy_of(name: str, tokenizer: Any) -> Any:
    """A model with random weights, large enough that its distributions differ from place to place."""
    shape = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.3,
        "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None,
        "tie_word_embeddings": name == "tokens", "attn_implementation": "eager",
    }  # fmt: skip
    torch.manual_seed(0)
    if name == "gemma2":
        return Gemma2ForCausalLM(Gemma2Config(**shape, head_dim=16, final_logit_softcapping=1.5))
    if name == "granite":
        return GraniteForCausalLM(GraniteConfig(**shape, logits_scaling=3.0))
    model = LlamaForCausalLM(LlamaConfig(**shape))
    adapters = {
        "lora": LoraConfig(init_lora_weights=False),
        "lora_head": LoraConfig(init_lora_weights=False, target_modules=["q_proj", "lm_head"]),
        "saved_head": LoraConfig(init_lora_weights=False, modules_to_save=["lm_head"]),
        "tokens": LoraConfig(
            init_lora_weights=False, trainable_token_indices=tokenizer.encode("4271", add_special_tokens=False)
        ),
    }
    if name in adapters:
        adapters[name].task_type = "CAUSAL_LM"
        model = get_peft_model(model, adapters[name])
        if name in ("saved_head", "tokens"):
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.requires_grad:
                        parameter += torch.randn_like(parameter)
    return model


def encode(tokenizer: Any, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def ids_of(tokenizer: Any, written: Written) -> list[int]:
    before, answer, after, _, ends = written
    ids = [token for text in (before, answer or "", after) for token in encode(tokenizer, text)]
    return [*ids, tokenizer.eos_token_id] if ends else ids


def judged(tokenizer: Any, completion_ids: Sequence[list[int]], template: AnswerTemplate) -> VerifiedRollout:
    decoded = tuple(decode_completion(tokenizer, ids) for ids in completion_ids)
    parsed = tuple(template.parse(each.text, truncated=not each.finished) for each in decoded)
    return VerifiedRollout(decoded, parsed, (EQUAL,) * len(decoded))


# -- the same once more, one completion at a time, by hand -------------------------------------------------------------


def log_probs_after(model: Any, prompt: list[int], completion: list[int]) -> torch.Tensor:
    """Log-probabilities (T, V) of the next token at each of a completion's tokens: no padding, no cache."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + completion])).logits[0].double()
    logits = logits[len(prompt) - 1 : len(prompt) + len(completion) - 1]
    return logits - logits.exp().sum(dim=1, keepdim=True).log()


def by_hand(
    model: Any, tokenizer: Any, prompt: list[int], written: Written, levels: Sequence[str] = ()
) -> dict[str, float]:
    before, answer, after, gold, _ = written
    ids = ids_of(tokenizer, written)
    log_p = log_probs_after(model, prompt, ids).numpy()
    p, size = np.exp(log_p), log_p.shape[1]
    chosen = log_p[np.arange(len(ids)), ids]
    entropy = -(p * log_p).sum(axis=1)
    certainty = (1 / size * (np.log(1 / size) - log_p)).sum(axis=1)
    ranked = np.sort(p, axis=1)
    values = {
        "length": len(ids),
        "mean_log_prob": chosen.mean(),
        "entropy": entropy.mean(),
        "self_certainty": certainty.mean(),
    }
    values |= dict.fromkeys([*ANSWER_SIGNALS, *STAKES, "expected_confidence", "verbalized"], math.nan)
    stated = re.search(r"<confidence>([\d.]+)</confidence>", before + (answer or "") + after)
    if stated is not None:
        values["verbalized"] = float(stated[1])
    if stated is not None and levels:
        at = ids.index(tokenizer.convert_tokens_to_ids(stated[1]))
        shares = p[at, tokenizer.convert_tokens_to_ids(list(levels))]
        values["expected_confidence"] = float(shares @ np.array(levels, dtype=float) / shares.sum())
    if answer is not None:
        first = len(encode(tokenizer, before))
        at = slice(first, first + len(encode(tokenizer, answer)))
        values |= {
            "answer_log_prob": chosen[at].mean(),
            "answer_entropy": entropy[at].mean(),
            "answer_self_certainty": certainty[at].mean(),
            "answer_max_probability": ranked[at, -1].mean(),
            "answer_margin": (ranked[at, -1] - ranked[at, -2]).mean(),
            "answer_probability": np.prod(np.exp(chosen[at])),
            "answer_min_probability": np.exp(chosen[at]).min(),
        }

    def gold_after(text: str) -> float:
        if not gold.strip():
            return math.nan
        after = prompt + encode(tokenizer, text)
        tokens = encode(tokenizer, gold)
        log_p = log_probs_after(model, after, tokens)
        return float(log_p[range(len(tokens)), tokens].exp().mean())

    values["reference_probability_prior"] = gold_after("<answer>")
    values["reference_probability"] = gold_after(before)
    if answer is None and gold.strip():
        values["reference_probability"] = 0.0
    stakes = [float(each.split("</stake>")[0]) for each in before.split("</think>")[0].split("<stake>")[1:]]
    if "</think>" in before and stakes:
        values["step_confidence"], values["prior_confidence"] = sum(stakes) / len(stakes), stakes[0]
    ngrams = Counter(tuple(ids[i : i + 4]) for i in range(len(ids) - 3))
    values["repetition"] = sum(count - 1 for count in ngrams.values()) / max(1, ngrams.total())
    stated, wanted = ([word for word in (text or "").split() if word != "the"] for text in (answer, gold))
    common = (Counter(stated) & Counter(wanted)).total()
    values["token_f1"] = 2 * common / max(1, len(stated) + len(wanted))
    return values


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
        assert known.unique().numel() > 1 or name in STAKES, f"{name} is not the same everywhere"
        unanswered = name in (*ANSWER_SIGNALS, *STAKES, "verbalized")
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


def hooks(model: Any) -> int:
    """Hooks on a model's trunk and head."""
    head = model.get_output_embeddings()
    return sum(map(len, (model.base_model._forward_hooks, model.base_model._forward_pre_hooks, head._forward_hooks)))


def test_nothing_is_watched_where_no_signal_needs_it(tokenizer: Any) -> None:
    model = policy_of("llama", tokenizer)
    for names in ((), tuple(TEXT_SIGNALS), REFERENCE_SIGNALS):
        reader = SignalReader(names, model, tokenizer, TEMPLATE, generates=True)
        assert not reader.watches
        assert not hooks(model)
        assert reader.asks == (names == REFERENCE_SIGNALS)
    assert SignalReader(["entropy"], model, tokenizer, TEMPLATE, generates=True).watches
    assert hooks(model) == 2


def test_an_unknown_name_is_refused(tokenizer: Any, make_trainer: Any) -> None:
    with pytest.raises(ValueError, match=r"rubric: answer_margn, sureness is no signal, allowed: verbalized, "):
        SignalReader(
            ["entropy", "answer_margn", "sureness"], policy_of("llama", tokenizer), tokenizer, TEMPLATE, generates=True
        )
    rubric = Rubric.from_config({"accuracy": {}, "rlsf": {"signal": "answer_margn"}})
    with pytest.raises(ValueError, match="answer_margn is no signal"):
        make_trainer(rubric=rubric)


# -- in the trainer ----------------------------------------------------------------------------------------------------

ALL = {"accuracy": {"weight": 1.0}, "pessimistic": {"weight": 0.0, "signals": list(SIGNALS)}}
CHARACTERS: list[Written] = [
    ("<answer>", "3", "</answer><confidence>0.75</confidence>", "3", True),
    ("<answer>", "40-1", "</answer><confidence>1.0</confidence>", "3", True),
    ("<confidence>0.5</confidence>", None, "", "3", True),
    ("<think>2+1+0+0+0+</think><answer>3 ", None, "", "3", False),  # fifteen tokens, cut off in the answer
    ("<answer>", "12", "</answer><confidence>0.25</confidence>", "3", True),
    ("<think>1+1+1+1+1</think><answer>", "5", "</answer>", "3", True),
    ("<answer>", "3", "</answer><confidence>1.0</confidence>", "3", True),
    ("<answer>", "7", "</answer><confidence>0.0</confidence>", "3", True),
]


def write_by(dictate: Any, trainer: Any) -> list[list[int]]:
    """Makes the trainer's own generation write :data:`CHARACTERS`; their token ids."""
    ids = [ids_of(trainer.processing_class, each) for each in CHARACTERS]
    dictate(trainer.accelerator.unwrap_model(trainer.model), ids)
    return ids


def logged(trainer: Any) -> dict[str, list[float]]:
    return {
        name.removeprefix("signals/"): list(values)
        for name, values in trainer._logs["extra"].items()
        if name.startswith("signals/")
    }


@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"temperature": 0.6, "pad_to_multiple_of": 16},
        {"temperature": 1.7, "credit": "sequence", "beta": 0.1},
        {"gradient_checkpointing": True},
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}},
        {"lora": True},
        {"lora": True, "beta": 0.1, "gradient_checkpointing": True},
        # The generation is used for more than one step, so that TRL scores it once more with the policy.
        {"per_device_train_batch_size": 2, "steps_per_generation": 4, "gradient_accumulation_steps": 2},
    ],
    ids=str,
)
def test_a_trainer_reads_what_its_policy_thought_at_temperature_one(
    choice: dict[str, Any], make_trainer: Any, dictate: Any
) -> None:
    choice = dict(choice)
    lora = LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False) if choice.pop("lora", False) else None
    trainer = make_trainer(
        rows=ROWS, rubric=Rubric.from_config(ALL), max_completion_length=15, peft_config=lora, **choice
    )
    ids = write_by(dictate, trainer)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    rows = [dict(trainer.train_dataset[group]) for group in (0, 1) for _ in range(4)]
    batch = trainer._generate_and_score_completions(rows)
    made = zip(batch["completion_ids"], batch["completion_mask"], strict=True)
    assert [row[mask == 1].tolist() for row, mask in made] == ids
    assert trainer.model.training
    read = logged(trainer)
    assert set(read) == set(SIGNALS)

    model, tokenizer = trainer.accelerator.unwrap_model(trainer.model).eval(), trainer.processing_class
    expected = [
        by_hand(model, tokenizer, encode(tokenizer, row["prompt"]), written, trainer.template.levels)
        for row, written in zip(rows, CHARACTERS, strict=True)
    ]
    for name in SIGNALS:
        np.testing.assert_allclose(
            read[name], [each[name] for each in expected], rtol=2e-4, atol=1e-6, err_msg=f"{name} under {choice}"
        )
    assert math.isnan(read["answer_margin"][2]) and math.isnan(read["answer_margin"][3]), "unfinished, unparsed"


def test_signals_follow_the_policy_as_it_learns(make_trainer: Any, dictate: Any) -> None:
    trainer = make_trainer(
        rows=ROWS, rubric=Rubric.from_config(ALL), max_completion_length=15, max_steps=3, learning_rate=0.01,
        log_completions=True, num_completions_to_print=0, shuffle_dataset=False,
    )  # fmt: skip
    write_by(dictate, trainer)
    trainer.train()
    tables = [pd.read_parquet(each) for each in sorted((Path(trainer.args.output_dir) / "completions").iterdir())]
    first, *_, last = (table["signals/mean_log_prob"].to_numpy() for table in tables)
    assert np.abs(first - last).max() > 1e-3
    assert np.isfinite(first).all() and np.isfinite(last).all()


def test_a_chat_is_asked_for_the_gold_as_it_was_asked_to_answer(make_trainer: Any, policy: Any, dictate: Any) -> None:
    """With the trainer's own chat template and its arguments."""
    _, tokenizer = policy.load()
    tokenizer.chat_template = (
        "{% for each in messages %}{{ each.content }}{% endfor %}"
        "{% if brief %}={% else %}-0={% endif %}{% if add_generation_prompt %}{% endif %}"
    )
    rows = [{"prompt": [{"role": "user", "content": row["prompt"].rstrip("=")}], "answer": "3"} for row in ROWS]
    read = {}
    for brief in (False, True):
        trainer = make_trainer(
            model=policy.load()[0], tokenizer=tokenizer, rows=rows, max_completion_length=15,
            chat_template_kwargs={"brief": brief}, rubric=Rubric.from_config({"accuracy": {}, "rlpr": {}}),
        )  # fmt: skip
        write_by(dictate, trainer)
        trainer.model.train()
        trainer._generate_and_score_completions([dict(rows[0]) for _ in range(8)])
        read[brief] = logged(trainer)["reference_probability_prior"]
        asked = encode(tokenizer, "1+2=" if brief else "1+2-0=")
        expected = by_hand(trainer.model, tokenizer, asked, CHARACTERS[0])["reference_probability_prior"]
        assert read[brief] == pytest.approx([expected] * 8, rel=1e-4)
    assert read[False] != pytest.approx(read[True], rel=1e-3)


@pytest.mark.parametrize("rubric", [{"accuracy": {}}, {"accuracy": {}, "repetition": {}}, {"accuracy": {}, "rlpr": {}}])
def test_a_rubric_that_needs_no_pass_hooks_nothing(rubric: dict[str, Any], make_trainer: Any, replay: Any) -> None:
    trainer = make_trainer(rubric=Rubric.from_config(rubric), max_steps=1)
    assert not hooks(trainer.accelerator.unwrap_model(trainer.model))
    replay(trainer, ["<answer>3</answer><confidence>0.75</confidence>"] * 8)
    trainer.train()


def test_generation_that_shows_no_statistics_is_refused(make_trainer: Any) -> None:
    rubric = Rubric.from_config({"accuracy": {}, "intuitor": {}})
    message = r"use_transformers_continuous_batching: true shows no token statistics.* for self_certainty"
    with pytest.raises(ValueError, match=message):
        make_trainer(rubric=rubric, use_transformers_continuous_batching=True)
    make_trainer(rubric=Rubric.from_config({"accuracy": {}, "rlpr": {}}), use_transformers_continuous_batching=True)
