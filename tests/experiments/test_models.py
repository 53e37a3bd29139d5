"""Where a model is, and one line of reason where it is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from experiments.config import models
from experiments.config.models import POLICIES, find_model, open_policy, open_weights
from experiments.config.recipe import load_recipe
from experiments.errors import ConfigError
from tests.factories import Refusal


@pytest.fixture
def folder(untrained: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(untrained.path, tmp_path / "policy"))


def test_a_folder_with_a_model_is_found_as_it_is(folder: Path) -> None:
    assert find_model(str(folder), "model.path") == folder


def test_a_folder_with_an_adapter_is_a_model_too(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    assert find_model(tmp_path, "model.path") == tmp_path


def test_a_shipped_name_is_its_folder_whatever_lies_here(
    monkeypatch: pytest.MonkeyPatch, folder: Path, refusal: Refusal
) -> None:
    monkeypatch.setattr(models, "_shipped", lambda name: folder.parent / "shipped" / name)
    missing = refusal.of(find_model, "tiny-small", "model.path")
    assert missing.startswith("model.path: tiny-small is not in this installation; candor build-tiny --out ")
    (folder.parent / "shipped").mkdir()
    folder.rename(folder.parent / "shipped" / "tiny-small")
    monkeypatch.chdir(folder.parent)
    Path("tiny-small").mkdir()
    assert find_model("tiny-small", "model.path") == folder.parent / "shipped" / "tiny-small"


def test_shipped_policies_lie_beside_the_code() -> None:
    assert models._shipped(POLICIES[0]) == Path(models.__file__).parents[1] / "policies" / POLICIES[0]


@pytest.mark.parametrize("name", ["gpt2", "org/model", "org/model-1.5_b", "runs/final"])
def test_what_may_be_a_hub_name_is_left_to_the_hub(name: str) -> None:
    assert find_model(name, "model.path") == name


@pytest.mark.parametrize("name", ["./policy", "/absent/policy", "runs/a/b", "~/policy", "../policy", "", "a b"])
def test_what_can_be_no_hub_name_is_a_missing_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refusal
) -> None:
    monkeypatch.chdir(tmp_path)
    message = refusal.of(find_model, name, "probe")
    assert message.startswith(f"probe: {name}")
    assert "no such folder" in message or "holds no model" in message


def test_a_folder_without_a_model_says_so_and_where_one_is(tmp_path: Path, refusal: Refusal) -> None:
    assert (
        refusal.of(find_model, tmp_path, "probe") == f"probe: {tmp_path} holds no model, there is no config.json in it"
    )
    (tmp_path / "final").mkdir()
    assert refusal.of(find_model, tmp_path, "probe").endswith(f"(did you mean {tmp_path / 'final'}?)")


def test_a_file_is_no_model(tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    message = refusal.of(find_model, tmp_path / "model.safetensors", "model.path")
    assert message.endswith("is a file, expected the folder that holds a model")


def test_a_gguf_file_has_to_be_in_the_folder(tmp_path: Path, refusal: Refusal) -> None:
    assert refusal.of(find_model, tmp_path, "model.path", "q.gguf") == f"model.gguf_file: {tmp_path} holds no q.gguf"
    (tmp_path / "q.gguf").write_bytes(b"GGUF")
    assert find_model(tmp_path, "model.path", "q.gguf") == tmp_path


def test_a_model_is_opened_with_its_tokenizer_padding_on_the_left(folder: Path) -> None:
    model, tokenizer = open_policy(folder, "model.path", dtype="bfloat16", attn_implementation="eager")
    assert str(model.dtype) == "torch.bfloat16"
    assert model.config._attn_implementation == "eager"
    assert tokenizer.padding_side == "left"


def test_a_hub_name_is_not_asked_for_offline(monkeypatch: pytest.MonkeyPatch, refusal: Refusal) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = refusal.of(open_policy, "tiny-smal", "model.path")
    assert message == (
        "model.path: tiny-smal is not a folder here and was not found in the hub's cache "
        "(the hub is not asked unless HF_HUB_OFFLINE=0 is set) (did you mean tiny-small?)"
    )


def test_broken_weights_name_their_folder(folder: Path, refusal: Refusal) -> None:
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert refusal.of(open_policy, folder, "model.path").startswith(f"model.path: {folder} cannot be loaded: ")
    weights.unlink()
    assert "model.safetensors" in refusal.of(open_policy, folder, "model.path")


def test_a_broken_configuration_names_its_folder(folder: Path, refusal: Refusal) -> None:
    (folder / "config.json").write_text("{")
    assert refusal.of(open_policy, folder, "probe large").startswith(f"probe large: {folder} cannot be loaded: ")


def test_an_unknown_attention_names_what_there_is(folder: Path, refusal: Refusal) -> None:
    assert "eager" in refusal.of(open_policy, folder, "model.path", attn_implementation="eagre")


def test_code_that_comes_with_a_model_is_not_run_nor_asked_about(
    folder: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refusal
) -> None:
    mark = folder / "ran"
    (folder / "modeling_x.py").write_text(f"open({str(mark)!r}, 'w')\nclass X: pass\nclass XConfig: pass\n")
    configuration = json.loads((folder / "config.json").read_text())
    configuration |= {
        "model_type": "unheard-of",
        "auto_map": {"AutoConfig": "modeling_x.XConfig", "AutoModelForCausalLM": "modeling_x.X"},
    }
    (folder / "config.json").write_text(json.dumps(configuration))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on the terminal"))
    assert "cannot be loaded" in refusal.of(open_policy, folder, "model.path")
    assert not mark.exists()


def test_levels_that_are_no_tokens_are_refused_before_the_weights_load(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    from experiments.config.recipe import load_recipe
    from experiments.train import train

    def loaded(*arguments: object, **options: object) -> None:
        raise AssertionError("the weights were loaded")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", loaded)
    recipe = load_recipe("candor", ["task.template.levels=['0.05', '0.9']", "task.train_size=10"])
    with pytest.raises(ConfigError, match=r"task\.template\.levels: 0\.05 are not single tokens"):
        train(recipe, tmp_path / "run")


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        ("{r: 0}", "model.lora.r: 0 is not at least 1"),
        ("{r: -4}", "model.lora.r: -4 is not at least 1"),
        ("{lora_alpha: 0}", "model.lora.lora_alpha: 0 is not above 0"),
        ("{lora_dropout: 1.5}", "model.lora.lora_dropout: 1.5 is not from 0 to below 1"),
        ("{lora_dropout: 1.0}", "model.lora.lora_dropout: 1.0 is not from 0 to below 1"),
        ("{rank_pattern: null}", "model.lora.rank_pattern: None is not a whole number from 1"),
        ("{rank_pattern: {q_proj: null}}", "model.lora.rank_pattern.q_proj: None is not a whole number from 1"),
        ("{rank_pattern: {q_proj: .inf}}", "model.lora.rank_pattern.q_proj: inf is not a whole number from 1"),
        ("{alpha_pattern: null}", "model.lora.alpha_pattern: None is not above 0"),
        ("{alpha_pattern: {q_proj: null}}", "model.lora.alpha_pattern.q_proj: None is not above 0"),
        ("{rank_pattern: {q_proj: 0}}", "model.lora.rank_pattern.q_proj: 0 is not a whole number from 1"),
        ("{alpha_pattern: {q_proj: x}}", "model.lora.alpha_pattern.q_proj: 'x' is not above 0"),
        ("{init_lora_weights: corda}", "model.lora.init_lora_weights: 'corda' needs a pass over data"),
        ("{r: 3, init_lora_weights: orthogonal}", "model.lora.r: 3 is odd"),
    ],
)
def test_adapters_that_peft_refuses_late_are_refused_with_the_recipe(lora: str, said: str, refusal: Refusal) -> None:
    assert refusal.recipe("rlcr", f"model.lora={lora}").startswith(said)


def test_adapters_without_a_place_are_refused_before_the_weights_load(
    folder: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refusal
) -> None:
    (folder / "model.safetensors").write_bytes(b"never read")
    for lora in ("{target_modules: [absent]}", "{target_modules: [q_proj], layers_to_transform: [99]}"):
        recipe = load_recipe("rlcr", [f"model.lora={lora}", f"model.path={folder}"])
        assert refusal.of(open_weights, recipe, str(folder), "model.path").startswith("model.lora: Target modules")
    recipe = load_recipe("rlcr", ["model.lora={r: 4, target_modules: all-linear}", f"model.path={folder}"])
    assert refusal.of(open_weights, recipe, str(folder), "model.path").startswith("model.path: "), "there is a place"
