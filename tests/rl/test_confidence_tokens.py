"""Self-REF's parts: tokens in tied and untied tables, which labels are learnt, what is left out, what is merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig

from rewards.marks import MARKS
from rewards.template import AnswerTemplate
from rl.checkpoint import load_policy
from rl.confidence_tokens import (
    IGNORED,
    JudgedAnswer,
    OwnAnswersTrainer,
    add_marks,
    answer_ids,
    drawn_down,
    marked_example,
    restated_example,
    solve_rates,
    with_embeddings,
)
from rl.own_answers_config import RecalibrateConfig, SelfRefConfig
from rl.segments import decode_completion, level_token_ids
from tests.factories import character_tokenizer, tiny_model

STATED = AnswerTemplate(levels=("0.0", "0.5", "1.0"))
MARKED = AnswerTemplate(confidence="token")


def judged(tokenizer: Any, text: str, correct: float | None, template: AnswerTemplate = MARKED) -> JudgedAnswer:
    ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
    decoded = decode_completion(tokenizer, ids)
    prompt = tuple(tokenizer.encode("2+2=", add_special_tokens=False))
    return JudgedAnswer("2+2", prompt, tuple(ids), decoded, template.parse(decoded.text, lenient=True), correct)


# -- tokens ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("spare", [0, 8])
def test_marks_start_as_the_mean_of_all_tokens_in_each_table(tied: bool, spare: int) -> None:
    tokenizer = character_tokenizer(STATED)
    before = len(tokenizer)
    model = tiny_model(
        vocabulary=before + spare, tie_word_embeddings=tied, pad_token_id=0, eos_token_id=1, initializer_range=0.3
    )
    tables = [model.get_input_embeddings().weight.clone(), model.get_output_embeddings().weight.clone()]
    ids = add_marks(model, tokenizer, MARKS)
    assert ids == [before, before + 1] == tokenizer.convert_tokens_to_ids(list(MARKS))
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) is tied
    for now, old in zip([model.get_input_embeddings(), model.get_output_embeddings()], tables, strict=True):
        assert torch.equal(now.weight[:before], old[:before])
        for each in ids:
            torch.testing.assert_close(now.weight[each], old[:before].mean(dim=0))
        assert now.weight.size(0) == max(before + spare, before + 2)
    assert tokenizer.encode("4</answer><CN>", add_special_tokens=False)[-1] == ids[1]
    model.get_input_embeddings().weight.data[ids[0]] += 1.0
    kept = model.get_input_embeddings().weight.clone()
    assert add_marks(model, tokenizer, MARKS) == ids and len(tokenizer) == before + 2
    assert torch.equal(model.get_input_embeddings().weight, kept), "marks that are there are left as they are"


# -- rows --------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def tokenizer() -> Any:
    tokenizer = character_tokenizer(STATED)
    tokenizer.add_tokens(list(MARKS))
    return tokenizer


@pytest.mark.parametrize("trained_answers", ["right", "all", "none"])
@pytest.mark.parametrize("correct", [0.0, 1.0])
def test_of_a_wrong_answer_the_mark_alone_is_learnt(tokenizer: Any, correct: float, trained_answers: str) -> None:
    answer = judged(tokenizer, "<think>2+2=5</think><answer>5</answer><confidence>1.0</confidence>", correct)
    example = marked_example(tokenizer, MARKED, answer, trained_answers)
    text = tokenizer.decode(example.input_ids)
    assert text == f"2+2=<think>2+2=5</think><answer>5</answer>{MARKS[int(correct)]}<eos>"
    learnt = [token for token, label in zip(example.input_ids, example.labels, strict=True) if label != IGNORED]
    assert all(label in (IGNORED, token) for token, label in zip(example.input_ids, example.labels, strict=True))
    behind = example.input_ids[-2:]
    if trained_answers == "all" or (trained_answers == "right" and correct):
        assert learnt == example.input_ids[len(answer.prompt_ids) :]
    else:
        assert learnt == behind, "the token behind the answer, and the end"


def test_the_control_has_right_answers_and_no_marks(tokenizer: Any) -> None:
    plain = AnswerTemplate(confidence="none")
    right, wrong = (judged(tokenizer, "<answer>4</answer><confidence>1.0</confidence>", each) for each in (1.0, 0.0))
    example = marked_example(tokenizer, plain, right)
    assert tokenizer.decode(example.input_ids) == "2+2=<answer>4</answer><eos>"
    assert marked_example(tokenizer, plain, wrong) is None


@pytest.mark.parametrize("text", ["<think>2+2", "4"])
def test_what_has_no_answer_or_no_verdict_makes_no_row(tokenizer: Any, text: str) -> None:
    strict = judged(tokenizer, text, 1.0)
    if strict.parsed.answer is None:
        assert marked_example(tokenizer, MARKED, strict) is None
    assert marked_example(tokenizer, MARKED, judged(tokenizer, "<answer>4</answer>", None)) is None


class Merging:
    """Two tokens for a tag and what follows it, as byte-pair vocabularies have them: "</answer" and "><CN"."""

    eos_token_id, pad_token_id = 1, 0
    texts = ("<pad>", "<eos>", "<answer>", "4", "</answer", "><confidence>", ">")

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(self.texts[each] for each in ids)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        ids = []
        while text:
            found = max((each for each in self.texts if text.startswith(each)), key=len)
            ids.append(self.texts.index(found))
            text = text[len(found) :]
        return ids


def test_a_token_that_holds_the_end_of_the_answer_and_more_is_cut_there() -> None:
    tokenizer = Merging()
    ids = [2, 3, 4, 5, 3, 1]
    decoded = decode_completion(tokenizer, ids)
    answer = JudgedAnswer("q", (3,), tuple(ids), decoded, MARKED.parse(decoded.text, lenient=True), 1.0)
    assert answer_ids(tokenizer, answer) == [2, 3, 4, 6], "the bracket alone, encoded anew"


def test_a_stated_level_is_replaced_by_the_one_nearest_to_the_target(tokenizer: Any) -> None:
    text = "<answer>4</answer><confidence>1.0</confidence>"
    answer = judged(tokenizer, text, 1.0, STATED)
    zero, half, _ = level_token_ids(tokenizer, STATED.levels)
    for target, level in ((0.1, zero), (0.4, half), (0.6, half)):
        example = restated_example(tokenizer, STATED, answer, target, "none")
        changed = [
            index
            for index, (one, other) in enumerate(
                zip(example.input_ids, [*answer.prompt_ids, *answer.completion_ids], strict=True)
            )
            if one != other
        ]
        (place,) = changed
        assert example.input_ids[place] == level
        assert [index for index, label in enumerate(example.labels) if label != IGNORED] == [place]
    whole = restated_example(tokenizer, STATED, answer, 0.5, "right")
    assert whole.labels[len(answer.prompt_ids) :] == whole.input_ids[len(answer.prompt_ids) :]
    assert (
        restated_example(tokenizer, STATED, judged(tokenizer, "<answer>4</answer>", 1.0, STATED), 0.5, "none") is None
    )


@given(st.lists(st.booleans(), max_size=60), st.one_of(st.none(), st.floats(0.1, 5.0)), st.integers(0, 9))
def test_only_wrong_answers_are_drawn_down_and_to_the_ratio(wrong: list[bool], ratio: float | None, seed: int) -> None:
    stay = drawn_down(wrong, ratio, seed)
    kept = sum(each and kept for each, kept in zip(wrong, stay, strict=True))
    right = wrong.count(False)
    assert all(kept for each, kept in zip(wrong, stay, strict=True) if not each)
    assert kept == min(wrong.count(True), len(wrong) if ratio is None else round(ratio * right))
    assert stay == drawn_down(wrong, ratio, seed)


def test_solve_rates_leave_out_what_nobody_could_judge() -> None:
    assert solve_rates(["a", "b", "a", "a", "c"], [1.0, 0.0, None, 0.0, None]) == [0.5, 0.0, 0.5, 0.5, None]


# -- training ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("tied", [True, False])
def test_adapters_train_the_embeddings_too_and_are_merged_into_what_is_saved(tied: bool, tmp_path: Path) -> None:
    tokenizer = character_tokenizer(STATED)
    model = tiny_model(vocabulary=tokenizer, hidden=16, tie_word_embeddings=tied, initializer_range=0.05)
    ids = add_marks(model, tokenizer, MARKS)
    start = model.get_input_embeddings().weight.detach().clone()
    answers = [judged(tokenizer, f"<answer>{each}</answer>", float(each == 4)) for each in (4, 5)]
    rows = [marked_example(tokenizer, MARKED, each) for each in answers]
    dataset = Dataset.from_list([{"input_ids": each.input_ids, "labels": each.labels} for each in rows])
    arguments = SelfRefConfig(
        output_dir=str(tmp_path / "run"), use_cpu=True, bf16=False, report_to="none", max_steps=40, learning_rate=0.05,
        per_device_train_batch_size=2, gradient_checkpointing=False, save_steps=20, disable_tqdm=True,
    )  # fmt: skip
    lora = with_embeddings(LoraConfig(r=4, task_type="CAUSAL_LM"), model)
    trainer = OwnAnswersTrainer(
        model, args=arguments, train_dataset=dataset, processing_class=tokenizer, peft_config=lora
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "final"))
    assert (tmp_path / "run" / "checkpoint-20" / "adapter_model.safetensors").is_file(), "on the way, adapters"
    merged, saved = load_policy(tmp_path / "final")
    assert saved.get_vocab() == tokenizer.get_vocab()
    table = merged.get_input_embeddings().weight
    assert (merged.get_output_embeddings().weight is table) is tied
    assert not torch.equal(table[ids], start[ids]), "the marks' embeddings are trained"
    for answer, example in zip(answers, rows, strict=True):
        with torch.no_grad():
            logits = merged(torch.tensor([example.input_ids])).logits[0, -3]  # next comes the mark
        assert logits.argmax() == ids[int(answer.correct)]
        with torch.no_grad():
            trained = trainer.model(torch.tensor([example.input_ids])).logits[0, -3]
        torch.testing.assert_close(logits, trained, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("config", "changes", "said"),
    [
        (
            SelfRefConfig,
            {"trained_answers": "wrong"},
            "trainer.trained_answers: 'wrong' is not one of right, all, none",
        ),
        (SelfRefConfig, {"answers_per_question": 2}, "2 greedy answers are the same"),
        (RecalibrateConfig, {"confidence_target": "mean"}, "'mean' is not one of own, question"),
        (RecalibrateConfig, {"answers_per_question": 1}, "'question' needs several answers"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(tmp_path: Path, config: Any, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(output_dir=str(tmp_path), use_cpu=True, bf16=False, **changes)
