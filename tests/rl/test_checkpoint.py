from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoTokenizer

from rewards.rubric import Rubric
from rewards.template import AnswerTemplate
from rl.checkpoint import add_template_tokens, load_policy, read_template, write_calibration
from rl.files import (
    CheckpointError,
    damaged_file,
    keep_last_checkpoints,
    last_complete_checkpoint,
    mark_complete,
    write_json,
    write_text,
)
from rl.monitoring.callbacks import WholeCheckpoints
from rl.resume import check_whole

RUBRIC = Rubric.from_config({"accuracy": {"weight": 1.0}, "brier": {"weight": 0.5, "segments": ["confidence"]}})


# -- policies ----------------------------------------------------------------------------------------------------------


def test_a_policy_loads_in_float32_and_pads_on_the_left(untrained: Any) -> None:
    model, tokenizer = load_policy(untrained.path)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert tokenizer.padding_side == "left"
    assert next(load_policy(untrained.path, dtype="bfloat16")[0].parameters()).dtype == torch.bfloat16


def test_a_tokenizer_without_padding_pads_with_its_end_of_sequence(untrained: Any, tmp_path: Path) -> None:
    shutil.copytree(untrained.path, tmp_path, dirs_exist_ok=True)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings.pop("pad_token")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert AutoTokenizer.from_pretrained(tmp_path).pad_token is None
    _, tokenizer = load_policy(tmp_path)
    assert tokenizer.pad_token == tokenizer.eos_token == "<eos>"


def test_pickled_weights_are_never_read(untrained: Any, tmp_path: Path) -> None:
    shutil.copytree(untrained.path, tmp_path, dirs_exist_ok=True)
    model, _ = load_policy(untrained.path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        load_policy(tmp_path)


def test_what_cannot_be_loaded_is_named(tmp_path: Path, untrained: Any) -> None:
    with pytest.raises(OSError, match="no-such-policy"):
        load_policy(tmp_path / "no-such-policy")
    for dtype in ("float33", "nn"):
        with pytest.raises(ValueError, match=f"model.dtype: '{dtype}' is not a torch dtype"):
            load_policy(untrained.path, dtype=dtype)


def test_template_tokens_become_one_token_each_and_survive_decoding(untrained: Any) -> None:
    model, tokenizer = untrained.load()
    before = model.get_input_embeddings().weight.detach().clone()
    template = AnswerTemplate(thinking="optional", analysis="optional", levels=("0.0", "0.1", "0.25", "1.0"))
    pieces = tokenizer.encode("0.1", add_special_tokens=False)
    assert len(pieces) == 3
    new = add_template_tokens(model, tokenizer, template)
    assert new == ["<analysis>", "</analysis>", "0.1"], "the others were single tokens already"
    text = template.render("4", "0.1", "2", "3")
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert len(ids) == 12
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    after = model.get_input_embeddings().weight
    assert after.shape[0] == len(tokenizer) == before.shape[0] + 3
    torch.testing.assert_close(after[: len(before)], before)
    torch.testing.assert_close(after[tokenizer.convert_tokens_to_ids("0.1")], before[pieces].mean(dim=0))
    assert add_template_tokens(model, tokenizer, template) == []


# -- the calibration folder --------------------------------------------------------------------------------------------


def test_a_checkpoint_carries_what_a_router_needs(tmp_path: Path) -> None:
    template = AnswerTemplate(thinking="none", levels=("0.0", "0.5", "1.0"))
    recipe = {"task": {"name": "arithmetic"}, "trainer": {"max_steps": 3}}
    write_calibration(tmp_path, template, RUBRIC, recipe)
    folder = tmp_path / "calibration"
    assert sorted(path.name for path in folder.iterdir()) == [
        "recipe.yaml", "rubric.json", "sampling.json", "template.json", "versions.json",
    ]  # fmt: skip
    assert read_template(tmp_path) == template
    described = json.loads((folder / "rubric.json").read_text())
    brier = described["terms"]["brier"]
    assert (brier["weight"], brier["segments"], brier["target"]) == (0.5, ["confidence"], "own")
    assert described["audit"]["safe"] is True
    assert yaml.safe_load((folder / "recipe.yaml").read_text()) == recipe
    versions = json.loads((folder / "versions.json").read_text())
    assert versions["trl"].startswith("1.") and versions["candor-rl"]


@pytest.mark.parametrize(
    "template", [AnswerTemplate(), AnswerTemplate(confidence="none"), AnswerTemplate("required", "optional")]
)
def test_templates_come_back_as_they_were(template: AnswerTemplate, tmp_path: Path) -> None:
    write_calibration(tmp_path, template, None, {})
    assert read_template(tmp_path) == template
    assert not (tmp_path / "calibration" / "rubric.json").exists()


def test_a_folder_without_calibration_has_no_template(tmp_path: Path) -> None:
    assert read_template(tmp_path) is None


def test_json_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"value": 1})
    with pytest.raises(ValueError):
        write_json(path, {"value": [1.0, float("nan")]})
    assert json.loads(path.read_text()) == {"value": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"], "nothing half-written stays behind"
    assert path.stat().st_mode & 0o777 == 0o644


# -- complete checkpoints ----------------------------------------------------------------------------------------------


def test_the_last_complete_checkpoint_is_the_highest_step_with_a_mark(tmp_path: Path) -> None:
    assert last_complete_checkpoint(tmp_path) is None
    for step in (9, 10, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-100" / "model.safetensors").write_bytes(b"half")
    assert last_complete_checkpoint(tmp_path) is None
    for step in (9, 10):
        mark_complete(tmp_path / f"checkpoint-{step}", step)
    assert last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


def test_a_file_that_is_gone_or_cut_off_since_the_mark_is_named(tmp_path: Path) -> None:
    (tmp_path / "global_step2").mkdir()
    for name in ("optimizer.pt", "rng_state_1.pth", "global_step2/states.pt", "progress.json"):
        (tmp_path / name).write_bytes(b"some bytes")
    mark_complete(tmp_path, 2)
    (tmp_path / "more").touch()
    (tmp_path / "progress.json").write_bytes(b"{}")
    check_whole(tmp_path)
    (tmp_path / "rng_state_1.pth").write_bytes(b"some")
    assert damaged_file(tmp_path) == "its rng_state_1.pth has 4 bytes, 10 were written"
    (tmp_path / "global_step2" / "states.pt").unlink()
    with pytest.raises(ValueError, match=r"cannot be gone on from: its global_step2/states.pt is gone"):
        check_whole(tmp_path)


@pytest.mark.parametrize(("limit", "kept"), [(None, [1, 2, 3, 4, 5]), (1, [4, 5]), (2, [3, 4, 5]), (9, [1, 3, 4, 5])])
def test_only_what_is_older_than_enough_complete_checkpoints_goes(
    limit: int | None, kept: list[int], tmp_path: Path
) -> None:
    for step in range(1, 6):
        (tmp_path / f"checkpoint-{step}").mkdir()
    keep_last_checkpoints(tmp_path, limit)
    assert len(list(tmp_path.iterdir())) == 5, "none is complete"
    for step in (1, 3, 4):  # the second was left half-written by a kill; the fifth is being written
        mark_complete(tmp_path / f"checkpoint-{step}", step)
    keep_last_checkpoints(tmp_path, limit)
    assert sorted(int(path.name[-1]) for path in tmp_path.iterdir()) == kept


def test_a_text_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "a", "old")
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            write_text(tmp_path / "a", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "old"


def test_the_mark_is_written_last_once_every_process_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[bool] = []

    class Everyone:
        def wait_for_everyone(self) -> None:
            waits.append(last_complete_checkpoint(tmp_path) is None)

    monkeypatch.setattr("rl.monitoring.callbacks.PartialState", Everyone)
    arguments = SimpleNamespace(output_dir=str(tmp_path))
    state = SimpleNamespace(global_step=5, is_world_process_zero=False)
    checkpoint = tmp_path / "checkpoint-5"
    checkpoint.mkdir()
    callback = WholeCheckpoints(AnswerTemplate(), RUBRIC, {"trainer": {}})
    callback.on_save(arguments, state, None)
    assert list(checkpoint.iterdir()) == [], "that is for the main process to do"
    state.is_world_process_zero = True
    with monkeypatch.context() as patch:
        patch.setattr(
            "rl.monitoring.callbacks.write_calibration", lambda *_: (_ for _ in ()).throw(OSError("disk full"))
        )
        with pytest.raises(CheckpointError, match=r"checkpoint-5 could not be written .*: disk full"):
            callback.on_save(arguments, state, None)
    assert last_complete_checkpoint(tmp_path) is None
    callback.on_save(arguments, state, None)
    assert last_complete_checkpoint(tmp_path) == checkpoint
    assert read_template(checkpoint) == AnswerTemplate()
    assert waits == [True] * 3, "each process has waited, before the mark"
