"""Every estimate is on the device of the completions: the meta device refuses, as a GPU does, those on another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from estimators import ESTIMATORS
from estimators.corpus import CorpusEntity, CorpusPair
from estimators.corpus_index import build_index
from estimators.estimator import Completions, Estimator
from estimators.hidden_probe import HiddenProbe, fit_hidden_probe, save_hidden_probe
from estimators.hidden_states import HiddenStates, Identity
from estimators.token_statistics import token_statistics
from tests.factories import make_completions

# Steps are counted before there is a place for each, which meta tensors cannot be.
OF_STEPS = ("mean_step_confidence", "lowest_step_confidence", "step_confidence_variance")
IDENTITY = Identity(architecture="llama", tokenizer="a", model="b")


def probe_of(folder: Path) -> HiddenProbe:
    """A hidden probe that was fitted, of the states of one place."""
    states_BH = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    states = HiddenStates(IDENTITY, {("answer", 1): states_BH})
    save_hidden_probe(folder, *fit_hidden_probe(states, (states_BH[:, 0] > 0).double(), position="answer", layers=[1]))
    return HiddenProbe(str(folder))


def corpus_of(folder: Path) -> str:
    """The folder of an index of one document."""
    (folder / "text.txt").write_text("Ada Brook was born in Vienna.\n")
    build_index([folder / "text.txt"], folder / "index")
    return str(folder / "index")


BUILT: dict[str, Callable[[Path], Estimator]] = {
    "hidden_probe": lambda folder: probe_of(folder / "probe"),
    "corpus_pair": lambda folder: CorpusPair(corpus_of(folder)),
    "corpus_entity": lambda folder: CorpusEntity(corpus_of(folder)),
}


def elsewhere(given: Any) -> Any:
    """A dataclass with every tensor on the meta device."""
    moved = {each.name: getattr(given, each.name) for each in fields(given)}
    tensors = {name: value.to("meta") for name, value in moved.items() if isinstance(value, torch.Tensor)}
    return replace(given, **tensors)


def completions_of_one_token() -> Completions:
    written_BT = torch.ones(1, 1, dtype=torch.bool)
    return make_completions(
        written_BT, reasoning_BT=written_BT, answer_BT=written_BT, confidence_BT=written_BT,
        steps_BT=torch.zeros(1, 1, dtype=torch.long), level_ids=(3, 4), level_values=(0.0, 1.0),
        level_positions_B=torch.tensor([0]), clusters_BN=torch.tensor([[0, -1, -1]]),
        prompts=["Where was Ada Brook born?"], answers=["Vienna"], critic_values_B=torch.tensor([0.5]),
        prior_B=torch.tensor([0.5]), hidden=HiddenStates(IDENTITY, {("answer", 1): torch.zeros(1, 4)}),
        asked={name: torch.full((1, 2), -1.0).to("meta") for name in ("p_true", "yes_no")},
    )  # fmt: skip


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name not in OF_STEPS])
def test_an_estimate_is_where_the_completions_are(name: str, tmp_path: Path) -> None:
    estimator = BUILT[name](tmp_path) if name in BUILT else ESTIMATORS[name]()
    statistics = token_statistics(torch.zeros(1, 1, 40), torch.zeros(1, 1, dtype=torch.long), (3, 4))
    estimate = estimator(elsewhere(completions_of_one_token()), elsewhere(statistics))
    assert estimate.values_B.device.type == estimate.valid_B.device.type == "meta"
