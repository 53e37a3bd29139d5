"""Steering while a model writes: what is moved, by how much, in which row, and that nothing is left of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from estimators.forward_passes import left_padded
from estimators.online.thresholds import Identity
from estimators.placing import KnownPlaces
from estimators.segmentation import StepRules, StepSegmenter, step_numbers
from estimators.steering.control import Balance, Bounds, Constant
from estimators.steering.extraction import read_steps, step_places
from estimators.steering.generation import SteeredRequest, Steering, blocks
from estimators.steering.vector import Definition, SteeringVector
from rewards.template import AnswerTemplate
from tests.factories import character_tokenizer, make_completions, tiny_model

PAD, END, LENGTH = 0, 1, 24
RULES = StepRules(separators=(";",), max_tokens=4)
BOUNDS = Bounds(0.2, 0.4, 1e-4, 1e-2)
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [14, 15]]


@pytest.fixture(scope="module")
def tokenizer():
    return character_tokenizer(AnswerTemplate())


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request, tokenizer):
    return tiny_model(request.param, vocabulary=tokenizer).eval()


@pytest.fixture(scope="module")
def opening(tokenizer) -> list[int]:
    return tokenizer.encode("<think>", add_special_tokens=False)


def vector(layer: int = 1, position: str = "first") -> SteeringVector:
    direction_H = torch.randn(16, generator=torch.Generator().manual_seed(1))
    definition = Definition(RULES, position=position)  # type: ignore[arg-type]
    return SteeringVector(
        Identity("m", "t", definition.text), definition, layer, BOUNDS, 2.0, direction_H / direction_H.norm(),
        "quantiles", 100, 20, 20,
    )  # fmt: skip


def steering(model, tokenizer, opening, **settings) -> Steering:
    of = settings.pop("vector", None) or vector()
    control = settings.pop("control", Balance(BOUNDS))
    return Steering(model, tokenizer, of, control, end_ids=[tokenizer.eos_token_id], opening_ids=opening, **settings)


def generated(model, prompts, opening, steers: Steering | None = None, **settings):
    ids, mask, _ = left_padded([[*each, *opening] for each in prompts], PAD)
    made = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=LENGTH, do_sample=False, pad_token_id=PAD,
        output_logits=True, return_dict_in_generate=True, **(steers.arguments() if steers else {}), **settings,
    )  # fmt: skip
    return made.sequences[:, ids.size(1) :], torch.stack(made.logits, dim=1)


@pytest.fixture(scope="module")
def free(model, opening):
    return generated(model, PROMPTS, opening)


def same(one, other) -> bool:
    return all(torch.equal(*pair) for pair in zip(one, other, strict=True))


@pytest.mark.parametrize("layer", [1, 2])
def test_coefficient_0_is_bit_identical_to_no_steering(model, tokenizer, opening, free, layer) -> None:
    steers = steering(model, tokenizer, opening, vector=vector(layer), coefficient=0.0)
    with steers.attached():
        assert same(generated(model, PROMPTS, opening, steers), free)
    assert sum(len(each.confidences) for each in steers.requests) > 8
    assert all(each.moved == 0 for each in steers.requests)


@pytest.mark.parametrize("layer", [1, 2])
def test_nothing_is_left_behind(model, tokenizer, opening, free, layer) -> None:
    before = {name: each.clone() for name, each in model.state_dict().items()}
    steers = steering(model, tokenizer, opening, vector=vector(layer), coefficient=3.0)
    with pytest.raises(KeyError), steers.attached():
        assert not same(generated(model, PROMPTS, opening, steers), free)
        raise KeyError
    assert same(generated(model, PROMPTS, opening), free)
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    hooks = [
        hook for each in model.modules() for name in ("_forward_pre_hooks", "_forward_hooks")
        for hook in getattr(each, name).values() if getattr(hook, "__self__", None) is steers
    ]  # fmt: skip
    assert hooks == []


def moves(model, opening, steers, prompts) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Tokens, and by pass what the block is given less what the one before gave it (rows, H), of the last token."""
    layer, seen = steers._vector.layer, []

    def gave(_, __, out) -> None:
        seen.append(-(out if isinstance(out, torch.Tensor) else out[0])[:, -1].clone())

    def given(_, inputs) -> None:
        seen[-1] += inputs[0][:, -1]

    before = blocks(model)[layer - 1].register_forward_hook(gave)
    with steers.attached():
        after = blocks(model)[layer].register_forward_pre_hook(given)
        tokens, _ = generated(model, prompts, opening, steers)
    before.remove()
    after.remove()
    return tokens, seen


@pytest.mark.parametrize("position", ["first", "separator"])
def test_states_are_moved_where_the_definition_says_and_as_far_as_the_control_says(
    model, tokenizer, opening, position
) -> None:
    steers = steering(model, tokenizer, opening, vector=vector(1, position), control=Constant(-1.5), coefficient=0.5)
    tokens, seen = moves(model, opening, steers, PROMPTS)
    assert torch.equal(seen[0], torch.zeros_like(seen[0]))  # the prompts
    moved = 0
    for row, ids in enumerate(tokens.tolist()):
        ids = ids[: ids.index(END)] if END in ids else ids
        segmenter = StepSegmenter(RULES)
        placed = [segmenter.push(piece) for piece in ["<think>", *(tokenizer.decode([token]) for token in ids)]][1:]
        places = step_places([each.step for each in placed], "first")
        if position == "separator":  # of the last step too, which nothing follows
            places = [place for place, each in enumerate(placed) if each.closes and each.step >= 0]
        for place, delta_RH in enumerate(seen[1 : len(ids) + 1]):
            expected_H = -1.5 * 0.5 * 2.0 * steers._vector.direction_H * (place in places)
            torch.testing.assert_close(delta_RH[row], expected_H, atol=1e-5, rtol=1e-4)
            moved += place in places
    assert moved >= 8


def test_steering_at_the_last_layer_moves_what_the_head_is_given(model, tokenizer, opening, free) -> None:
    steers = steering(model, tokenizer, opening, vector=vector(2), control=Constant(), coefficient=4.0)
    with steers.attached():
        _, logits = generated(model, PROMPTS, opening, steers)
    both = min(logits.size(1), free[1].size(1))
    rows, places = (logits[:, :both] != free[1][:, :both]).any(-1).nonzero(as_tuple=True)
    first = {row: int(places[rows == row][0]) for row in set(rows.tolist())}
    head = model.get_output_embeddings().weight
    for row, place in first.items():  # nothing came before that was moved
        expected = free[1][row, place] - 4.0 * 2.0 * (head @ steers._vector.direction_H)
        torch.testing.assert_close(logits[row, place], expected, atol=1e-3, rtol=1e-3)
    assert len(first) >= 3 and min(first.values()) >= 4


@pytest.mark.parametrize("position", ["first", "separator"])
def test_a_row_knows_nothing_of_its_neighbours_nor_of_the_call_before(model, tokenizer, opening, position) -> None:
    steers = steering(model, tokenizer, opening, vector=vector(1, position), coefficient=2.0)
    with steers.attached():
        alone = []
        for prompt in PROMPTS:
            tokens, _ = generated(model, [prompt], opening, steers)
            alone.append((tokens[0].tolist(), steers.requests[0].confidences, steers.requests[0].moved))
        assert sum(moved for _, _, moved in alone) > 4
        for order in (range(4), (3, 1, 0, 2), (2, 2, 2, 0)):
            tokens, _ = generated(model, [PROMPTS[each] for each in order], opening, steers)
            for row, each in enumerate(order):
                ids, confidences, moved = alone[each]
                assert tokens[row, : len(ids)].tolist() == ids
                assert steers.requests[row].confidences == pytest.approx(confidences, abs=1e-4)
                assert steers.requests[row].moved == moved


def test_confidences_while_writing_are_those_of_the_finished_trace(model, tokenizer, opening) -> None:
    steers = steering(model, tokenizer, opening, coefficient=0.0)
    with steers.attached():
        tokens, _ = generated(model, PROMPTS, opening, steers)
    ids = [[*opening, *(row[: row.index(END)] if END in row else row)] for row in tokens.tolist()]
    numbers = [step_numbers([tokenizer.decode([token]) for token in each], RULES) for each in ids]
    width = max(map(len, ids))
    steps_BT = torch.tensor([row + [-1] * (width - len(row)) for row in numbers])
    completions = make_completions(steps_BT >= -1, prompt_ids=PROMPTS, completion_ids=ids, steps_BT=steps_BT)
    read = read_steps(model, tokenizer, completions, vector().definition, [1], pad_token_id=PAD, batch_size=2)
    compared = 0
    for row, request in enumerate(steers.requests):
        offline, online = read.confidence_N[read.trace_N == row], request.confidences[1:]
        assert online == pytest.approx(offline[: len(online)], abs=1e-5)
        assert len(online) >= len(offline) - 1  # the last one may not have ended
        compared += len(online)
    assert compared > 8


def test_there_and_back_again(model, tokenizer, opening) -> None:
    """A coefficient and its negative at the same place leave the state as it was, up to rounding."""
    there = steering(model, tokenizer, opening, control=Constant(1.0))
    back = steering(model, tokenizer, opening, control=Constant(1.0), coefficient=-1.0)
    hidden = torch.randn(2, 1, 16)
    there._strengths, back._strengths = [0.7, 0.0], [-0.7, 0.0]
    moved = there._moved(hidden)
    assert not torch.equal(moved[0], hidden[0]) and torch.equal(moved[1], hidden[1])
    torch.testing.assert_close(back._moved(moved), hidden, atol=1e-6, rtol=1e-6)


def test_the_first_step_follows_nothing_and_a_request_ends_with_its_thought(tokenizer) -> None:
    def strengths(position: str, text: str) -> list[float]:
        definition = Definition(StepRules(separators=(";",)), position=position)  # type: ignore[arg-type]
        request = SteeredRequest(KnownPlaces(tokenizer, definition.rules), definition, Constant(-1.0), 2.0)
        found = []
        for token in tokenizer.encode(text, add_special_tokens=False):
            request.saw(0.5)
            found.append(request.wrote(token))
        return found

    assert strengths("first", "<think>1;22;3</think>4;5") == [0, 0, 0, -2, 0, 0, -2, 0, 0, 0, 0]
    assert strengths("separator", "<think>1;22;3</think>4;5") == [0, 0, -2, 0, 0, -2, 0, 0, 0, 0, 0]
    assert strengths("first", "1;2;3") == [0] * 5
    assert strengths("separator", "<think></think>7") == [0, 0, 0]


def test_what_cannot_be_steered_is_refused(model, tokenizer, opening) -> None:
    with pytest.raises(ValueError, match="steering: places of StepRules"):
        SteeredRequest(KnownPlaces(tokenizer, StepRules()), Definition(RULES), Constant(1.0), 1.0)
    with pytest.raises(ValueError, match="layer 3 is missing, the model has 1 to 2"):
        steering(model, tokenizer, opening, vector=vector(3))
    with pytest.raises(ValueError, match="a direction of 5 numbers, the model has 16"):
        steering(model, tokenizer, opening, vector=replace(vector(), direction_H=torch.ones(5)))
    with pytest.raises(ValueError, match="made to begin with tags, not with a part of a step"):
        steering(model, tokenizer, [*opening, 5])._request()
    steers = steering(model, tokenizer, opening)
    with steers.attached(), pytest.raises(RuntimeError, match="beam search, which cannot be steered"):
        generated(model, PROMPTS, opening, steers, num_beams=2)
    steers._strengths = [1.0, 1.0]
    with pytest.raises(RuntimeError, match="one token of each row a pass"):
        steers._moved(torch.zeros(2, 3, 16))
