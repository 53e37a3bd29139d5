"""From traces to a vector: steps read as one by one, prototypes that are found again, files that serve one model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from estimators.segmentation import StepRules, step_numbers
from estimators.steering.control import Bounds
from estimators.steering.extraction import (
    FEWEST,
    LABELS,
    Steps,
    bounds_of,
    fit_vector,
    label_steps,
    layer_fits,
    read_steps,
)
from estimators.steering.vector import Definition, SteeringVector
from rewards.template import AnswerTemplate
from tests.factories import character_tokenizer, make_completions, tiny_model

RULES = StepRules(separators=(";",))
TEXTS = ["<think>1+2;3;4-1</think>3", "<think>5;;66;7", "<think>88</think>1", "", "<think>1;2;3;4;5;6</think>9"]


@pytest.fixture(scope="module")
def tokenizer():
    return character_tokenizer(AnswerTemplate())


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_model("llama", vocabulary=tokenizer).eval()


@pytest.fixture(scope="module")
def traces(tokenizer):
    ids = [tokenizer.encode(each, add_special_tokens=False) if each else [] for each in TEXTS]
    written_BT = torch.arange(max(map(len, ids))) < torch.tensor([[len(each)] for each in ids])
    steps_BT = torch.full(written_BT.shape, -1)
    for row, each in enumerate(ids):
        steps_BT[row, : len(each)] = torch.tensor(step_numbers([tokenizer.decode([token]) for token in each], RULES))
    prompts = [[4, 5], [6], [7, 8, 9], [4], [5, 4]]
    return make_completions(written_BT, prompt_ids=prompts, completion_ids=ids, steps_BT=steps_BT)


def alone(model, traces, row: int) -> tuple[torch.Tensor, tuple[torch.Tensor, ...], int]:
    prompt, ids = traces.prompt_ids[row], traces.completion_ids[row]
    with torch.no_grad():
        out = model(torch.tensor([[*prompt, *ids]]), output_hidden_states=True)
    return out.logits[0].double().softmax(-1).amax(-1), out.hidden_states, len(prompt)


@pytest.mark.parametrize("position", ["first", "separator"])
@pytest.mark.parametrize("kind", ["geometric", "arithmetic"])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_steps_are_those_of_traces_read_one_by_one(model, tokenizer, traces, position, kind, batch_size) -> None:
    definition = Definition(RULES, kind, 2, position)
    read = read_steps(model, tokenizer, traces, definition, [1, 2], pad_token_id=0, batch_size=batch_size)
    expected = []
    for row in range(len(traces)):
        highest, states, start = alone(model, traces, row) if traces.completion_ids[row] else (None, None, 0)
        numbers = traces.steps_BT[row].tolist()
        means = []
        for step in range(max(numbers) + 1):
            places = [place for place, number in enumerate(numbers) if number == step]
            values = highest[[start + place - 1 for place in places]]
            means.append(float(values.log().mean().exp() if kind == "geometric" else values.mean()))
            if step:
                before = [place for place, number in enumerate(numbers) if number == step - 1]
                at = start + (places[0] if position == "first" else before[-1])
                spread = float(np.var(means[-2:]))
                text = tokenizer.decode([traces.completion_ids[row][place] for place in places])
                expected.append((row, means[-1], spread, text, states[1][0, at], states[2][0, at]))
    assert len(read) == len(expected) == 9
    assert read.trace_N.tolist() == [each[0] for each in expected]
    assert read.confidence_N == pytest.approx([each[1] for each in expected], abs=1e-5)
    assert read.variance_N == pytest.approx([each[2] for each in expected], abs=1e-5)
    assert read.texts == tuple(each[3] for each in expected)
    for layer in (1, 2):
        torch.testing.assert_close(
            read.states[layer], torch.stack([each[3 + layer] for each in expected]), atol=1e-5, rtol=1e-5
        )


def test_layers_that_are_missing_and_prompts_that_are_empty_are_refused(model, tokenizer, traces) -> None:
    for layer in (0, 3):
        with pytest.raises(ValueError, match=f"layer {layer} is missing, the model has 1 to 2"):
            read_steps(model, tokenizer, traces, Definition(RULES), [layer], pad_token_id=0, batch_size=2)
    with pytest.raises(ValueError, match="an empty prompt"):
        bare = replace(traces, prompt_ids=[[]] * len(traces))
        read_steps(model, tokenizer, bare, Definition(RULES), [1], pad_token_id=0, batch_size=2)


def planted(seed: int = 0, steps: int = 400, width: int = 12) -> tuple[Steps, torch.Tensor]:
    """Steps whose confidence is written along one direction of layer 2, and that direction; layer 1 is noise."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=width)
    direction /= np.linalg.norm(direction)
    confidence = rng.uniform(0.3, 0.99, steps)
    variance = 0.05 * (1 - confidence) * rng.uniform(0.5, 1.5, steps)
    states = -3 * confidence[:, None] * direction + 0.1 * rng.normal(size=(steps, width))
    noise = rng.normal(size=(steps, width))
    texts = tuple("Wait, 3" if value < 0.5 else "so 3" for value in confidence)
    as_tensor = {layer: torch.tensor(each).float() for layer, each in ((1, noise), (2, states))}
    return Steps(np.repeat(np.arange(steps // 4), 4), confidence, variance, texts, as_tensor), torch.tensor(direction)


@pytest.mark.parametrize("kind", LABELS)
def test_a_planted_direction_and_its_layer_are_found(kind) -> None:
    steps, direction_H = planted()
    vector = fit_vector(steps, Definition(RULES), "m", "t", labels=kind, lexicon=["wait"])
    assert vector.layer == 2 and vector.fits[2] > 0.9 > 0.2 > vector.fits[1]
    assert float(vector.direction_H.double() @ direction_H) > 0.99  # towards what is less sure
    assert vector.direction_H.norm() == pytest.approx(1, abs=1e-6)
    labels = label_steps(steps, vector.bounds, kind, ["wait"])
    means = [steps.states[2][torch.from_numpy(labels == sign)].double().mean(0) for sign in (1, -1)]
    torch.testing.assert_close(vector.direction_H.double() * vector.distance, means[0] - means[1], atol=1e-5, rtol=1e-5)
    assert (vector.over, vector.under) == ((labels == 1).sum(), (labels == -1).sum())


def test_labels_by_quantiles_need_both_confidence_and_variance() -> None:
    steps, _ = planted()
    bounds = Bounds(0.5, 0.8, 0.01, 0.02)
    for confidence, variance, label in zip(
        steps.confidence_N, steps.variance_N, label_steps(steps, bounds), strict=True
    ):
        over, under = confidence <= 0.5 and variance >= 0.02, confidence >= 0.8 and variance <= 0.01
        assert label == int(over) - int(under)


def test_words_of_the_lexicon_count_as_wholes() -> None:
    steps, _ = planted(steps=4)
    steps = replace(steps, confidence_N=np.array([0.7, 0.7, 0.95, 0.2]), texts=("BUT so", "butter", "butter", "x"))
    bounds = Bounds(0.5, 0.9, 0.0, 0.1)
    assert label_steps(steps, bounds, "release", ["but"]).tolist() == [1, 0, -1, 1]
    assert label_steps(replace(steps, texts=("?3", "3", "?", "3")), bounds, "release", ["?"]).tolist() == [1, 0, 1, 1]
    assert label_steps(steps, bounds, "words", ["but"]).tolist() == [1, -1, -1, -1]
    with pytest.raises(ValueError, match="lexicon is \\(\\), expected one word or more"):
        label_steps(steps, bounds, "words", [])


def test_what_cannot_be_fitted_is_refused() -> None:
    steps, _ = planted()
    few = planted(steps=16)[0]
    with pytest.raises(ValueError, match=f"16 steps behind the first of their traces, expected at least {FEWEST}"):
        fit_vector(few, Definition(RULES), "m", "t")
    with pytest.raises(ValueError, match=r"quantiles of the confidence of steps are 0\.5 and 0\.5"):
        fit_vector(replace(steps, confidence_N=np.full(400, 0.5)), Definition(RULES), "m", "t")
    with pytest.raises(ValueError, match=r"quantiles are \(0\.75, 0\.25\)"):
        bounds_of(steps, (0.75, 0.25))
    with pytest.raises(ValueError, match="steps of 1 trace, expected at least 2"):
        layer_fits(replace(steps, trace_N=np.zeros(400, dtype=np.int64)))
    sure_and_wild = replace(steps, variance_N=0.2 * steps.confidence_N)  # the unsure are steady
    with pytest.raises(ValueError, match="none of 400 steps is over-thinking"):
        fit_vector(sure_and_wild, Definition(RULES), "m", "t")
    same = replace(steps, states={2: torch.ones(400, 12)})
    with pytest.raises(ValueError, match="the prototypes of layer 2 are the same"):
        fit_vector(same, Definition(RULES), "m", "t")


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, SteeringVector]:
    vector = fit_vector(planted()[0], Definition(RULES, position="separator"), "m", "t")
    vector.save(tmp_path / "v")
    return tmp_path / "v", vector


def test_what_is_saved_is_loaded(saved) -> None:
    folder, vector = saved
    loaded = SteeringVector.load(folder, "m", "t", RULES)
    assert torch.equal(loaded.direction_H, vector.direction_H)
    for name in ("identity", "definition", "layer", "bounds", "distance", "labels", "steps", "over", "under", "fits"):
        assert getattr(loaded, name) == getattr(vector, name), name
    assert sorted(path.name for path in folder.iterdir()) == ["steering.json", "steering.safetensors"]


@pytest.mark.parametrize(
    ("model", "tokenizer", "rules", "message"),
    [
        ("other", "t", RULES, "fitted for model 'm', not 'other'"),
        ("m", "other", RULES, "fitted for tokenizer 't', not 'other'"),
        ("m", "t", StepRules(), "definition .*with ';', .* not .*with "),
    ],
)
def test_a_vector_of_something_else_is_refused(saved, model, tokenizer, rules, message) -> None:
    with pytest.raises(ValueError, match=message):
        SteeringVector.load(saved[0], model, tokenizer, rules)


def test_files_that_are_no_vector_are_refused(saved, tmp_path: Path) -> None:
    folder, _ = saved
    with pytest.raises(ValueError, match=r"holds no steering vector .*candor steer extract"):
        SteeringVector.load(tmp_path / "absent", "m", "t", RULES)
    weights, facts = folder / "steering.safetensors", folder / "steering.json"
    good, kept = json.loads(facts.read_text()), load_file(weights)
    for changes in ({"format": 2}, {"distance": 0.0}, {"bounds": {}}, {"definition": {"rules": {"tags": [1]}}}):
        facts.write_text(json.dumps(good | changes))
        with pytest.raises(ValueError, match="is not a steering vector"):
            SteeringVector.load(folder, "m", "t", RULES)
    facts.write_text(json.dumps(good))
    save_file({"direction": kept["direction"] * 2}, weights)
    with pytest.raises(ValueError, match="is not of length 1"):
        SteeringVector.load(folder, "m", "t", RULES)


def test_the_random_control_is_of_the_same_length_and_another_direction(saved) -> None:
    vector = saved[1]
    random = vector.random(3)
    assert random.direction_H.norm() == pytest.approx(1, abs=1e-6) and random.distance == vector.distance
    assert abs(float(random.direction_H @ vector.direction_H)) < 0.9
    assert torch.equal(random.direction_H, vector.random(3).direction_H)
    assert not torch.equal(random.direction_H, vector.random(4).direction_H)


@pytest.mark.parametrize("wrong", [{"kind": "mean"}, {"window": 1}, {"position": "last"}])
def test_definitions_that_are_none_are_refused(wrong) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} is {value!r}, expected"):
        Definition(**wrong)
