"""The closed form of several calibration terms at once: what they read, what they are held to, what they add up to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from rewards.outcomes import Outcomes
from rewards.rubric import Rubric
from rewards.verifiers.verifier import Verdict
from rl.closed_form import ConfidenceLoss, closed_forms
from rl.rollout import VerifiedRollout
from rl.segments import decode_completion
from tests.factories import make_outcomes

NAN = float("nan")
COMPLETIONS = [
    "<answer>3</answer><confidence>0.75</confidence>",
    "<answer>4</answer><confidence>1.0</confidence>",
    "<think>2</think><answer>3</answer><confidence>0.0</confidence>",
    "<answer>3</answer>",
]
PROMPT = "1+2="


@pytest.fixture(scope="module")
def loaded(policy: Any) -> Any:
    return policy.load()


def rubric_of(**terms: dict[str, Any]) -> Rubric:
    return Rubric.from_config({"accuracy": {"weight": 4.0}, **terms}, allow_hackable=True)


def loss_of(loaded: Any, policy: Any, rubric: Rubric, temperature: float = 1.0) -> ConfidenceLoss:
    model, tokenizer = loaded
    return ConfidenceLoss(model, tokenizer, policy.template, rubric, temperature)


def rollout_of(loaded: Any, policy: Any, verdicts: Sequence[float | None]) -> tuple[VerifiedRollout, torch.Tensor]:
    _, tokenizer = loaded
    ids = [[*tokenizer.encode(each, add_special_tokens=False), tokenizer.eos_token_id] for each in COMPLETIONS]
    decoded = tuple(decode_completion(tokenizer, each) for each in ids)
    parsed = tuple(policy.template.parse(each.text) for each in decoded)
    width = max(map(len, ids))
    padded = torch.tensor([[*each, *[tokenizer.pad_token_id] * (width - len(each))] for each in ids])
    return VerifiedRollout(decoded, parsed, tuple(Verdict(each, "") for each in verdicts)), padded


def outcomes_of(rollout: VerifiedRollout, signals: dict[str, list[float]] | None = None) -> Outcomes:
    return make_outcomes(
        [NAN if each.correct is None else each.correct for each in rollout.verdicts],
        [NAN if each.confidence is None else each.confidence for each in rollout.parsed],
        [each.status for each in rollout.parsed],
        **(signals or {}),
    )


def level_probabilities(loaded: Any, policy: Any, ids_T: list[int], temperature: float) -> np.ndarray:
    model, tokenizer = loaded
    ids = [*tokenizer.encode(PROMPT, add_special_tokens=False), *ids_T]
    with torch.no_grad():
        probabilities = (model(input_ids=torch.tensor([ids])).logits[0, -1].double() / temperature).softmax(dim=0)
    return probabilities[tokenizer.convert_tokens_to_ids(list(policy.template.levels))].numpy()


def read(loss: ConfidenceLoss, loaded: Any, ids_BT: torch.Tensor, positions_B: torch.Tensor) -> None:
    model, tokenizer = loaded
    prompt = torch.tensor([tokenizer.encode(PROMPT, add_special_tokens=False)] * len(ids_BT))
    with loss.reading(positions_B, prompt.size(1)):
        model(input_ids=torch.cat([prompt, ids_BT], dim=1))


# -- which completions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "signals", "expected"),
    [
        ({"brier": {}}, None, [4, -1, 7, -1]),
        # The second's own verdict is unknown; the others' are not, nor is its signal.
        ({"brier": {"target": "leave_one_out"}}, None, [4, 4, 7, -1]),
        ({"brier": {"target": "hybrid"}}, None, [4, -1, 7, -1]),
        ({"brier": {"target": "soft"}}, {"token_f1": [NAN, 0.5, 0.5, 0.5]}, [-1, 4, 7, -1]),
        ({"brier": {}, "log": {"target": "leave_one_out"}}, None, [4, 4, 7, -1]),
        ({"brier": {}, "log": {"target": "soft"}}, {"token_f1": [0.5, NAN, NAN, 1.0]}, [4, -1, 7, -1]),
    ],
)
def test_a_confidence_is_trained_where_any_term_knows_what_it_should_be(
    terms: dict[str, Any], signals: Any, expected: list[int], loaded: Any, policy: Any
) -> None:
    loss = loss_of(loaded, policy, rubric_of(**terms))
    rollout, ids_BT = rollout_of(loaded, policy, [1.0, None, 0.0, 1.0])
    targets_BC = loss.targets(outcomes_of(rollout, signals))
    assert loss.positions(rollout, ids_BT, targets_BC).tolist() == expected


def test_the_targets_are_those_of_the_terms(loaded: Any, policy: Any) -> None:
    rubric = rubric_of(brier={}, format={}, log={"target": "leave_one_out"}, spherical={"noise": 0.1})
    loss = loss_of(loaded, policy, rubric)
    rollout, _ = rollout_of(loaded, policy, [1.0, None, 0.0, 1.0])
    assert loss.term_indices == [1, 3, 4]
    expected = torch.tensor([[1, 0.5, 0.9], [NAN, 2 / 3, NAN], [0, 1, 0.1], [1, 0.5, 0.9]])
    torch.testing.assert_close(loss.targets(outcomes_of(rollout)), expected, equal_nan=True)


# -- the sum of the terms ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_loss_is_the_weighted_sum_of_what_each_term_pays_over_its_own_target(
    temperature: float, loaded: Any, policy: Any
) -> None:
    """One token of the vocabulary after another, each paid by the term itself."""
    rubric = rubric_of(brier={"weight": 2.0}, log={"weight": 0.5, "target": "leave_one_out"}, linear={"noise": 0.2})
    loss = loss_of(loaded, policy, rubric, temperature)
    rollout, ids_BT = rollout_of(loaded, policy, [1.0, None, 0.0, 1.0])
    targets_BC = loss.targets(outcomes_of(rollout))
    positions_B = loss.positions(rollout, ids_BT, targets_BC)
    weights_C = torch.tensor([2.0, 0.5, 1.0])
    read(loss, loaded, ids_BT, positions_B)
    got = loss(positions_B, targets_BC, weights_C).mean()

    levels = np.array(policy.template.level_values)
    paid = []
    for row, position in enumerate(positions_B.tolist()):
        paid.append(0.0)
        if position < 0:
            continue
        probabilities_L = level_probabilities(loaded, policy, ids_BT[row, :position].tolist(), temperature)
        probabilities = np.append(probabilities_L, 1 - probabilities_L.sum())
        for term, weight, target in zip(
            [rubric.terms[index] for index in loss.term_indices], weights_C.tolist(), targets_BC[row].tolist(),
            strict=True,
        ):  # fmt: skip
            if np.isnan(target):
                continue
            stated = np.append(levels, NAN)
            size = len(stated)
            for outcome, share in ((1.0, target), (0.0, 1 - target)):
                facts = make_outcomes(outcome, stated, group=np.arange(size))
                plain = type(term)()  # its own target, no noise: paid for this verdict
                paid[-1] += weight * share * (probabilities @ plain(facts))
    assert got.item() == pytest.approx(-np.mean(paid), rel=1e-4)
    assert got.item() > 0.1


def test_a_term_of_weight_zero_and_an_unknown_target_add_nothing(loaded: Any, policy: Any) -> None:
    both = loss_of(loaded, policy, rubric_of(brier={}, log={}))
    alone = loss_of(loaded, policy, rubric_of(brier={}))
    rollout, ids_BT = rollout_of(loaded, policy, [1.0, 0.0, 0.0, 1.0])
    targets_BC = both.targets(outcomes_of(rollout))
    positions_B = both.positions(rollout, ids_BT, targets_BC)
    losses = []
    for loss, targets, weights in (
        (alone, targets_BC[:, :1], [1.0]),
        (both, targets_BC, [1.0, 0.0]),
        (both, torch.stack([targets_BC[:, 0], torch.full((4,), NAN)], dim=1), [1.0, 5.0]),
        (both, targets_BC, [1.0, 5.0]),
    ):
        read(loss, loaded, ids_BT, positions_B)
        losses.append(loss(positions_B, targets, torch.tensor(weights)).mean().item())
    assert losses[:3] == pytest.approx([losses[0]] * 3)
    assert abs(losses[3] - losses[0]) > 0.1
    assert np.isfinite(losses).all()


def test_a_batch_in_parts_has_the_same_mean(loaded: Any, policy: Any) -> None:
    loss = loss_of(loaded, policy, rubric_of(brier={"target": "leave_one_out"}))
    rollout, ids_BT = rollout_of(loaded, policy, [1.0, None, 0.0, 1.0])
    targets_BC = loss.targets(outcomes_of(rollout))
    positions_B, weights_C = loss.positions(rollout, ids_BT, targets_BC), torch.ones(1)
    losses = []
    for part in (slice(0, 4), slice(0, 2), slice(2, 4)):
        read(loss, loaded, ids_BT[part], positions_B[part])
        losses.append(loss(positions_B[part], targets_BC[part], weights_C).mean().item())
    assert losses[0] == pytest.approx((losses[1] + losses[2]) / 2)
    assert losses[1] != pytest.approx(losses[2])


def test_a_rubric_without_a_calibration_term_is_refused(loaded: Any, policy: Any) -> None:
    with pytest.raises(ValueError, match=r"confidence_loss_weight: no term .* stated confidence \(accuracy, format\)"):
        closed_forms(*loaded, policy.template, rubric_of(format={}), 1.0)


# -- through the trainer -----------------------------------------------------------------------------------------------


def test_the_siblings_verdicts_train_a_completion_whose_own_is_unknown(
    make_trainer: Any, replay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unlike a gold that cannot be used, which leaves a whole group without a verdict."""
    trainer = make_trainer(
        rubric=Rubric.from_config({"accuracy": {}, "brier": {"target": "leave_one_out"}}), confidence_loss_weight=1.0
    )
    verify = trainer.verifier.verify

    def forget_the_first(**pairs: Any) -> list[Verdict]:
        return [Verdict(None, "bad_gold"), *verify(**pairs)[1:]]

    monkeypatch.setattr(trainer.verifier, "verify", forget_the_first)
    replay(trainer, [*COMPLETIONS[:2], *COMPLETIONS[:2]] * 2)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    batch = trainer._generate_and_score_completions([{"prompt": PROMPT, "answer": "3"}] * 8)
    assert batch["confidence_positions"].tolist() == [4] * 8
    expected = [1 / 3, 0.5, 0.0, 0.5, 1 / 3, 2 / 3, 1 / 3, 2 / 3]
    torch.testing.assert_close(batch["confidence_targets"], torch.tensor(expected).unsqueeze(1))
    assert torch.isfinite(trainer._compute_loss(trainer.model, batch))


def test_an_entropy_bonus_is_paid_where_a_confidence_is_read(loaded: Any, policy: Any) -> None:
    model, tokenizer = loaded
    rubric = rubric_of(brier={"weight": 1.0})
    rollout, ids_BT = rollout_of(loaded, policy, [1.0, 0.0, 1.0, None])
    values = []
    for coefficient in (0.0, 0.25):
        loss = ConfidenceLoss(model, tokenizer, policy.template, rubric, 1.0)
        targets_BC = loss.targets(outcomes_of(rollout))
        positions_B = loss.positions(rollout, ids_BT, targets_BC)
        read(loss, loaded, ids_BT, positions_B)
        values.append(loss(positions_B, targets_BC, torch.tensor([1.0]), coefficient).mean().item())
    entropies = []
    for row, position in enumerate(positions_B.tolist()):
        if position >= 0:
            levels = level_probabilities(loaded, policy, ids_BT[row, :position].tolist(), 1.0)
            shares = levels / levels.sum()
            entropies.append(-(shares * np.log(shares)).sum())
    assert len(entropies) == 3
    assert values[0] - values[1] == pytest.approx(0.25 * sum(entropies) / 4, rel=1e-4)
