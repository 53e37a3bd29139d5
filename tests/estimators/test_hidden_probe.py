"""Hidden probes: the states are the model's own, a fit finds what is there, and another model's states are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from estimators.estimator import Completions
from estimators.hidden_probe import HiddenProbe, fit_hidden_probe, load_hidden_probe, save_hidden_probe
from estimators.hidden_states import POSITIONS, HiddenStates, Identity, hidden_states
from estimators.metrics import auroc
from estimators.token_statistics import TokenStatistics
from tests.factories import tiny_model

IDENTITY = Identity("model", "tokenizer", "llama, 2 layers of 4")


class Words:
    """What an identity reads of a tokenizer."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def get_vocab(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}


def states_of(features_BH: torch.Tensor, identity: Identity = IDENTITY) -> HiddenStates:
    return HiddenStates(identity, {("answer", 1): features_BH})


def completions_with(hidden: HiddenStates | None, rows: int) -> Completions:
    none_BT = torch.zeros(rows, 1, dtype=torch.bool)
    return Completions(
        prompt_ids=[[1]] * rows, completion_ids=[[2]] * rows, written_BT=~none_BT, reasoning_BT=none_BT,
        answer_BT=none_BT, confidence_BT=none_BT, steps_BT=torch.full((rows, 1), -1),
        stated_B=torch.ones(rows, dtype=torch.float64), hidden=hidden,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_states_are_those_of_each_completion_alone(kind: str) -> None:
    model = tiny_model(kind).eval()
    prompts, completions = [[3, 4, 5], [6]], [[7, 8, 9, 2], [10, 11]]
    answer_BT = torch.tensor([[False, True, True, False], [False, False, False, False]])
    confidence_BT = torch.tensor([[False, False, False, True], [False, True, False, False]])
    places = [(position, layer) for position in POSITIONS for layer in (0, 2)]
    read = hidden_states(model, prompts, completions, answer_BT, confidence_BT, places, pad_token_id=0)
    one_by_one = hidden_states(
        model, prompts, completions, answer_BT, confidence_BT, places, pad_token_id=0, batch_size=1
    )
    where = {"prompt": [2, 0], "answer": [5, None], "confidence": [5, 1]}
    for position, layer in places:
        for row, place in enumerate(where[position]):
            got = read[position, layer][row]
            if place is None:
                assert got.isnan().all()
                continue
            with torch.no_grad():
                alone = model(torch.tensor([prompts[row] + completions[row]]), output_hidden_states=True)
            torch.testing.assert_close(got, alone.hidden_states[layer][0, place], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(got, one_by_one[position, layer][row], atol=1e-5, rtol=1e-5)


def test_places_that_are_not_there_are_refused() -> None:
    model, none_BT = tiny_model(), torch.zeros(1, 1, dtype=torch.bool)
    for place, message in [
        (("answer", 3), "layer 3 is missing, the model has 0 to 2"),
        (("middle", 1), "'middle' is not a position, allowed: prompt, answer, confidence"),
    ]:
        with pytest.raises(ValueError, match=message):
            hidden_states(model, [[1]], [[2]], none_BT, none_BT, [place], pad_token_id=0)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="an empty prompt has no last token"):
        hidden_states(model, [[]], [[2]], none_BT, none_BT, [("answer", 1)], pad_token_id=0)


def test_an_identity_is_that_of_weights_and_words(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = tiny_model()
    identity = Identity.of(model, Words("a", "b"))  # type: ignore[arg-type]
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert Identity.of(again, Words("a", "b")) == identity  # type: ignore[arg-type]
    assert Identity.of(again, Words("b", "a")).tokenizer != identity.tokenizer  # type: ignore[arg-type]
    with torch.no_grad():
        for weight in again.parameters():
            weight += 1e-4
    assert Identity.of(again, Words("a", "b")).model != identity.model  # type: ignore[arg-type]


def problem(rows: int, nonlinear: bool, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (B, 4) and verdicts that follow from the first of them, or from the sign of a product of two."""
    generator = torch.Generator().manual_seed(seed)
    features_BH = torch.randn(rows, 4, generator=generator)
    cause_B = features_BH[:, 0] * features_BH[:, 1] if nonlinear else features_BH[:, 0]
    noise_B = torch.randn(rows, generator=generator)
    return features_BH * 5 + 3, (cause_B + 0.2 * noise_B > 0).double()


def fresh_auroc(kind: Any, nonlinear: bool, folder: Path) -> float:
    features_BH, correct_B = problem(600, nonlinear)
    model, facts = fit_hidden_probe(states_of(features_BH), correct_B, position="answer", layers=[1], kind=kind)
    save_hidden_probe(folder, model, facts)
    unseen_BH, verdicts_B = problem(400, nonlinear, seed=1)
    values = HiddenProbe(str(folder))(completions_with(states_of(unseen_BH), 400), TokenStatistics.empty((400, 1)))
    assert values.valid_B.all() and ((values.values_B >= 0) & (values.values_B <= 1)).all()
    return auroc(values.values_B.numpy(), verdicts_B.numpy())


def test_a_probe_finds_what_is_linear_and_a_network_what_is_not(tmp_path: Path) -> None:
    assert fresh_auroc("linear", False, tmp_path / "a") > 0.95
    assert fresh_auroc("linear", True, tmp_path / "b") < 0.6
    assert fresh_auroc("mlp", True, tmp_path / "c") > 0.9


def test_nothing_to_be_found_stops_early_near_the_base_rate() -> None:
    generator = torch.Generator().manual_seed(3)
    features_BH, correct_B = (
        torch.randn(200, 64, generator=generator),
        (torch.rand(200, generator=generator) < 0.3).double(),
    )
    _, facts = fit_hidden_probe(states_of(features_BH), correct_B, position="answer", layers=[1], kind="mlp")
    assert facts.held_out_log_loss < facts.base_log_loss + 0.15  # a fit to the end is at several nats


def test_the_same_seed_gives_the_same_probe_and_a_question_is_not_split() -> None:
    features_BH, correct_B = problem(200, False)
    arguments: dict[str, Any] = {"position": "answer", "layers": [1], "groups": [str(n // 10) for n in range(200)]}
    (one, facts), (two, _), (other, _) = (
        fit_hidden_probe(states_of(features_BH), correct_B, seed=seed, **arguments) for seed in (0, 0, 1)
    )
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert facts.held_out == 40  # four whole groups of ten


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[], Path]:
    def save() -> Path:
        model, facts = fit_hidden_probe(
            states_of(problem(100, False)[0]), problem(100, False)[1], position="answer", layers=[1]
        )
        save_hidden_probe(tmp_path, model, facts)
        return tmp_path

    return save


def test_what_is_saved_is_read_back(saved: Callable[[], Path]) -> None:
    folder = saved()
    features_BH = problem(100, False)[0]
    model, facts = load_hidden_probe(folder)
    fitted, told = fit_hidden_probe(states_of(features_BH), problem(100, False)[1], position="answer", layers=[1])
    assert facts == told
    assert torch.equal(model(features_BH), fitted(features_BH))
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}


def test_states_of_another_model_or_tokenizer_are_refused(saved: Callable[[], Path]) -> None:
    probe, statistics = HiddenProbe(str(saved())), TokenStatistics.empty((1, 1))
    features_BH = torch.zeros(1, 4)
    for field in ("model", "tokenizer"):
        other = states_of(features_BH, replace(IDENTITY, **{field: "other"}))
        with pytest.raises(ValueError, match=f"was fitted to another {field} .*fit one to this checkpoint"):
            probe(completions_with(other, 1), statistics)
    with pytest.raises(ValueError, match="reads hidden states, and the completions have none"):
        probe(completions_with(None, 1), statistics)
    lacking = probe(completions_with(states_of(features_BH * torch.nan), 1), statistics)
    assert not lacking.valid_B.any() and lacking.values_B.isnan().all()


def test_a_folder_that_holds_no_probe_is_refused(saved: Callable[[], Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no hidden probe .*candor hidden-probe fit"):
        load_hidden_probe(tmp_path / "absent")
    folder = saved()
    facts = json.loads((folder / "hidden_probe.json").read_text())
    for change in (
        {"features": 5},
        {"kind": "tree"},
        {"position": "middle"},
        {"format": 2},
        {"identity": 3},
        {"more": 1},
    ):
        (folder / "hidden_probe.json").write_text(json.dumps(facts | change))
        with pytest.raises(ValueError, match="is not a hidden probe: "):
            load_hidden_probe(folder)


def test_records_that_teach_nothing_are_refused() -> None:
    features_BH, correct_B = problem(100, False)
    fit: dict[str, Any] = {"position": "answer", "layers": [1]}
    with pytest.raises(ValueError, match="19 judged completions have the position answer, expected at least 20"):
        fit_hidden_probe(states_of(features_BH[:19]), correct_B[:19], **fit)
    with pytest.raises(ValueError, match="right throughout or wrong throughout"):
        fit_hidden_probe(states_of(features_BH), torch.ones(100), **fit)
    unjudged_B = torch.where(torch.arange(100) < 85, torch.nan, correct_B)
    with pytest.raises(ValueError, match="15 judged completions"):
        fit_hidden_probe(states_of(features_BH), unjudged_B, **fit)
    for change, message in [
        ({"kind": "tree"}, "'tree' is not a kind, allowed: linear, mlp"),
        ({"layers": []}, r"layers \[\], expected one or more"),
        ({"layers": [1, 1]}, r"layers \[1, 1\], expected one or more, each once"),
        ({"position": "middle"}, "'middle' is not a position, allowed: prompt, answer, confidence"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit_hidden_probe(states_of(features_BH), correct_B, **(fit | change))
