"""The embedded policies: a tokenizer in which the template is single tokens, and weights that follow from a seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

import experiments.build_tiny as building
from experiments.build_tiny import build_tiny, build_tokenizer, untrained_policy
from experiments.config.models import POLICIES
from experiments.config.recipe import load_recipe
from experiments.errors import ConfigError
from experiments.tasks import Arithmetic
from rewards.completion import ParseStatus
from rewards.template import AnswerTemplate
from rl.checkpoint import load_policy, read_template
from rl.closed_form import level_token_ids
from rl.sft import sft_rows

LEVELS = ("0.0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1.0")
TEMPLATE = AnswerTemplate(levels=LEVELS)
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def test_tags_and_levels_are_one_token_each() -> None:
    tokenizer = build_tokenizer(TEMPLATE)
    ids = [tokenizer.encode(token, add_special_tokens=False) for token in TEMPLATE.tokens]
    assert all(len(each) == 1 for each in ids)
    assert len({each[0] for each in ids}) == len(ids)
    assert level_token_ids(tokenizer, LEVELS) == [tokenizer.convert_tokens_to_ids(level) for level in LEVELS]


def test_everything_the_task_and_the_template_write_survives_the_tokenizer() -> None:
    tokenizer = build_tokenizer(TEMPLATE)
    for split in ("train", "shifted"):
        task = Arithmetic(template=TEMPLATE, manners={"checked": 1.0}, train_size=200)
        for pair in sft_rows(task.rows(split, 200), TEMPLATE, seed=0):
            for text in (pair["prompt"], pair["completion"]):
                ids = tokenizer(text)["input_ids"]
                assert tokenizer.unk_token_id not in ids
                assert tokenizer.decode(ids, skip_special_tokens=True) == text
            assert len(tokenizer(pair["prompt"] + pair["completion"])["input_ids"]) < 128  # the policies' context


def test_the_fields_survive_when_special_tokens_are_skipped() -> None:
    tokenizer = build_tokenizer(TEMPLATE)
    text = TEMPLATE.render("37", "0.9", thinking="40-3=37;?40-3=37")
    ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id, tokenizer.pad_token_id]
    assert TEMPLATE.parse(tokenizer.decode(ids, skip_special_tokens=True)).status is ParseStatus.OK


def test_unknown_characters_are_the_unknown_token_and_nothing_is_dropped() -> None:
    tokenizer = build_tokenizer(TEMPLATE)
    assert tokenizer("1\n\u00e92")["input_ids"].count(tokenizer.unk_token_id) == 2
    assert len({tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}) == 3
    assert tokenizer.padding_side == "left"


def test_a_number_of_two_digits_is_one_token_and_no_two_texts_read_alike() -> None:
    tokenizer = build_tokenizer(TEMPLATE)
    assert tokenizer.tokenize("72-4=68;?5*0") == ["72", "-", "4", "=", "68", ";", "?", "5", "*", "0"]
    texts = [f"{left}{right}" for left in ("", "0", "00") for right in ("7", "70", "707")]
    assert len({tuple(tokenizer(text)["input_ids"]) for text in texts}) == len(set(texts))


def test_the_tokenizer_is_the_same_after_saving(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(TEMPLATE)
    tokenizer.save_pretrained(tmp_path)
    text = "12*3+4=" + TEMPLATE.render("40", "1.0", thinking="12*3=36;36+4=40")
    assert AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"] == tokenizer(text)["input_ids"]


@pytest.mark.parametrize("name", POLICIES)
def test_weights_follow_from_the_seed(name: str) -> None:
    tokenizer = build_tokenizer(TEMPLATE)
    first, same, other = (untrained_policy(name, tokenizer, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_the_large_policy_is_larger_and_both_are_small_enough_to_ship() -> None:
    tokenizer = build_tokenizer(TEMPLATE)
    small, large = (untrained_policy(name, tokenizer, 0) for name in POLICIES[:2])
    assert small.num_parameters() < 1e6
    assert small.num_parameters() < large.num_parameters() < 5e6
    assert small.config.vocab_size == large.config.vocab_size == len(tokenizer)
    assert small.get_input_embeddings().weight is small.get_output_embeddings().weight


@pytest.fixture
def two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(building._SHAPES, "tiny-small", SMALL)
    settings = ("task.train_size=64", "trainer.max_steps=2", "trainer.warmup_steps=0", "trainer.learning_rate=0.01")
    monkeypatch.setitem(building._STAGES, "tiny-small", (settings,))


def test_a_built_policy_can_be_loaded_and_is_the_same_for_a_seed(tmp_path: Path, two_steps: None) -> None:
    (folder,) = build_tiny(tmp_path / "a", policies=["tiny-small"])
    (again,) = build_tiny(tmp_path / "b", policies=["tiny-small"])
    (other,) = build_tiny(tmp_path / "c", policies=["tiny-small"], seed=1)
    assert folder == tmp_path / "a" / "tiny-small"
    weights = (folder / "model.safetensors").read_bytes()
    assert weights == (again / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()
    stored = load_file(folder / "model.safetensors")
    assert {each.dtype for each in stored.values()} == {torch.float16}
    model, tokenizer = load_policy(folder)
    untrained = untrained_policy("tiny-small", tokenizer, 0).state_dict()
    assert model.dtype == torch.float32
    assert any(not torch.allclose(value, untrained[key], atol=1e-3) for key, value in model.state_dict().items())
    assert read_template(folder) == load_recipe("warm_start").template
    assert json.loads((folder / "calibration" / "versions.json").read_text())["torch"] == torch.__version__
    kept = (folder / "calibration" / "recipe.yaml").read_text()
    assert "path: untrained tiny-small" in kept  # the scratch folder it was built in is gone
    assert load_recipe(str(folder / "calibration" / "recipe.yaml")).template == read_template(folder)


def test_a_folder_that_cannot_be_written_is_known_before_training(
    tmp_path: Path, two_steps: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.train.train", lambda *_: pytest.fail("trained first"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--out .*file/policies: cannot be written: Not a directory"):
        build_tiny(tmp_path / "file" / "policies")
