"""Checkpoints that somebody has tampered with: refused in one line before anything is trained, and nothing is run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from experiments.cli import main
from rl.files import last_complete_checkpoint, mark_complete
from rl.monitoring.progress import Progress
from tests.factories import json_lines


class Bomb:
    """What leaves a file behind when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


@pytest.fixture(scope="module")
def stopped(write_recipe: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A recipe and a run of it that was interrupted after its only checkpoint."""
    recipe, out = str(write_recipe(trainer={"max_steps": 4})), tmp_path_factory.mktemp("stopped") / "run"

    def interrupt(self: Progress, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 4:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "on_step_end", interrupt)
        assert main(["train", recipe, "--out", str(out)]) == 130
    return recipe, out


@pytest.fixture
def run(stopped: tuple[str, Path], tmp_path: Path) -> tuple[str, Path, Path]:
    """A recipe, a copy of its run and the checkpoint in it."""
    recipe, kept = stopped
    shutil.copytree(kept, tmp_path / "run")
    checkpoint = last_complete_checkpoint(tmp_path / "run")
    assert checkpoint is not None
    return recipe, tmp_path / "run", checkpoint


def spoil(checkpoint: Path) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, checkpoint / "model.safetensors", {"format": "pt"})


def exchange_tokenizer(checkpoint: Path) -> None:
    """Two tokens change places: every text is still encoded, into something else."""
    content = json.loads((checkpoint / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    first, second = [token for token, index in vocabulary.items() if index in (3, 4)]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (checkpoint / "tokenizer.json").write_text(json.dumps(content))


def pickle_weights(checkpoint: Path) -> None:
    torch.save(load_file(checkpoint / "model.safetensors"), checkpoint / "pytorch_model.bin")


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The last line of a command that ends with status 2; libraries count before it what they load."""
    capsys.readouterr()
    assert main([str(each) for each in arguments]) == 2
    *before, line = capsys.readouterr().err.splitlines()
    assert not any(each.startswith(("candor:", "Traceback")) for each in before)
    return line


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (spoil, "the weights model.norm.weight hold values that are not finite numbers"),
        (exchange_tokenizer, "is another one than that of the run"),
        (pickle_weights, "pytorch_model.bin is a pickle, weights are read as safetensors alone"),
    ],
)
def test_a_run_does_not_go_on_from_it(
    tamper: Callable[[Path], None],
    said: str,
    run: tuple[str, Path, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe, out, checkpoint = run
    tamper(checkpoint)
    before = (out / "metrics.jsonl").read_bytes()
    message = refused(capsys, "train", recipe, "--out", out, "--resume")
    assert message.startswith(f"candor: --resume: {checkpoint} cannot be gone on from: ") and said in message
    assert (out / "metrics.jsonl").read_bytes() == before and not (out / "final").exists()


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_pickle_among_the_states_is_refused_and_not_run(
    name: str, run: tuple[str, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out, checkpoint = run
    torch.save({"state": Bomb(tmp_path / "canary")}, checkpoint / name)
    assert main(["train", recipe, "--out", str(out), "--resume"]) == 2, "it has another size"
    assert f"cannot be gone on from: its {name} has " in capsys.readouterr().err
    mark_complete(checkpoint, 3)
    assert main(["train", recipe, "--out", str(out), "--resume"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"candor: {checkpoint} cannot be gone on from, it holds what is not plain tensors: ")
    assert not (tmp_path / "canary").exists()
    assert json_lines(out / "metrics.jsonl")[-1]["step"] == 3


def add_code(checkpoint: Path, canary: Path) -> None:
    """Python beside the weights that their configuration asks for, and pickles under names that libraries know."""
    (checkpoint / "modelling.py").write_text(f"open({str(canary)!r}, 'w')\nclass Own: pass\n")
    for name, key in (("config.json", "AutoModelForCausalLM"), ("tokenizer_config.json", "AutoTokenizer")):
        content = json.loads((checkpoint / name).read_text())
        own: Any = "modelling.Own" if name == "config.json" else [None, "modelling.Own"]
        content["auto_map"] = {key: own, "AutoConfig": "modelling.Own"} if name == "config.json" else {key: own}
        (checkpoint / name).write_text(json.dumps(content))
    for name in ("training_args.bin", "generation.bin"):
        torch.save(Bomb(canary), checkpoint / name)


def test_code_and_pickles_that_are_not_asked_for_are_never_run(run: tuple[str, Path, Path], tmp_path: Path) -> None:
    recipe, out, checkpoint = run
    add_code(checkpoint, tmp_path / "canary")
    assert main(["train", recipe, "--out", str(out), "--resume"]) == 0
    assert main(["probe", str(checkpoint), "probe.size=4", "--out", str(tmp_path / "probe")]) == 0
    assert not (tmp_path / "canary").exists()


def strange(checkpoint: Path) -> None:
    """A kind of model that only code of its own knows."""
    content = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(
        json.dumps(content | {"model_type": "own", "auto_map": {"AutoConfig": "modelling.Own"}})
    )
    (checkpoint / "modelling.py").write_text(f"open({str(checkpoint / 'canary')!r}, 'w')\nclass Own: pass\n")


def only_pickled(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    torch.save({"weights": Bomb(checkpoint / "canary")}, checkpoint / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (spoil, "the weights model.norm.weight hold values that are not finite numbers"),
        (exchange_tokenizer, "is not the one that its weights were trained with"),
        (strange, "cannot be loaded: "),
        (only_pickled, "safetensors"),
    ],
)
def test_a_probe_refuses_it(
    tamper: Callable[[Path], None],
    said: str,
    run: tuple[str, Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, _, checkpoint = run
    tamper(checkpoint)
    message = refused(capsys, "probe", checkpoint, "--out", tmp_path / "probe")
    assert message.startswith(f"candor: probe checkpoint: {checkpoint} cannot be loaded: ") and said in message
    assert not list((tmp_path / "probe").iterdir()) and not (checkpoint / "canary").exists()


def test_the_checkpoint_says_which_tokenizer_it_was_trained_with(stopped: tuple[str, Path]) -> None:
    from rl.checkpoint import vocabulary_digest

    checkpoint = last_complete_checkpoint(stopped[1])
    assert checkpoint is not None
    written = json.loads((checkpoint / "calibration" / "versions.json").read_text())["tokenizer"]
    assert written == vocabulary_digest(AutoTokenizer.from_pretrained(checkpoint))
