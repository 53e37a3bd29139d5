from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rewards.rubric import Rubric
from rewards.schedule import SCALINGS
from rl.advantages import batch_scale, centred_rewards, segment_advantages, sequence_advantages, term_advantages
from tests.factories import make_outcomes

GROUP, TERMS = 4, 3
WEIGHTS = torch.tensor([1.0, 0.5, 0.25])
LINEAR = ("none", "leave_one_out")

rewards = arrays(np.float64, (3 * GROUP, TERMS), elements=st.floats(-5, 5))
rewards_with_gaps = arrays(
    np.float64, (3 * GROUP, TERMS), elements=st.one_of(st.floats(-5, 5), st.just(float("nan")), st.just(0.0))
)


def centred(values: np.ndarray, scaling: str) -> np.ndarray:
    return centred_rewards(torch.tensor(values), GROUP, scaling).numpy()


def reference(values: np.ndarray, scaling: str) -> np.ndarray:
    """The definitions once more, one reward at a time."""
    result = np.zeros_like(values)
    for k in range(values.shape[1]):
        judged_of_batch = values[~np.isnan(values[:, k]), k]
        for row in range(len(values)):
            first = row // GROUP * GROUP
            group = values[first : first + GROUP, k]
            judged = group[~np.isnan(group)]
            if np.isnan(values[row, k]) or len(judged) < 2:
                continue
            if scaling == "leave_one_out":
                others = np.delete(group, row - first)
                result[row, k] = values[row, k] - others[~np.isnan(others)].mean()
                continue
            spread = {"none": 1.0, "group": judged.std(ddof=1) + 1e-4, "batch": judged_of_batch.std(ddof=1) + 1e-4}
            result[row, k] = (values[row, k] - judged.mean()) / spread[scaling]
    return result


@pytest.mark.parametrize("scaling", SCALINGS)
@settings(deadline=None, max_examples=60)
@given(values=rewards_with_gaps)
def test_agrees_with_the_definitions(scaling: str, values: np.ndarray) -> None:
    np.testing.assert_allclose(centred(values, scaling), reference(values, scaling), atol=1e-6)


@pytest.mark.parametrize("scaling", SCALINGS)
@settings(deadline=None, max_examples=60)
@given(values=rewards_with_gaps)
def test_every_group_has_mean_zero_and_no_advantage_is_nan(scaling: str, values: np.ndarray) -> None:
    advantages = centred(values, scaling)
    assert np.isfinite(advantages).all()
    np.testing.assert_allclose(advantages.reshape(-1, GROUP, TERMS).sum(axis=1), 0, atol=1e-6)
    assert (advantages[np.isnan(values)] == 0).all()


@pytest.mark.parametrize("scaling", SCALINGS)
@settings(deadline=None, max_examples=60)
@given(values=rewards, shift=st.floats(-10, 10))
def test_a_constant_added_to_a_reward_changes_nothing(scaling: str, values: np.ndarray, shift: float) -> None:
    np.testing.assert_allclose(centred(values + shift, scaling), centred(values, scaling), atol=1e-6)


@pytest.mark.parametrize("scaling", [scaling for scaling in SCALINGS if scaling != "batch"])
@settings(deadline=None, max_examples=60)
@given(values=rewards, seed=st.integers(0, 99))
def test_a_constant_may_differ_between_groups(scaling: str, values: np.ndarray, seed: int) -> None:
    shift = np.random.default_rng(seed).normal(size=(3, 1, TERMS)).repeat(GROUP, axis=1).reshape(-1, TERMS)
    np.testing.assert_allclose(centred(values + shift, scaling), centred(values, scaling), atol=1e-6)


@pytest.mark.parametrize("scaling", SCALINGS)
@settings(deadline=None, max_examples=60)
@given(values=rewards_with_gaps, seed=st.integers(0, 99))
def test_order_of_siblings_and_of_groups_does_not_matter(scaling: str, values: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    order = np.concatenate([g * GROUP + rng.permutation(GROUP) for g in rng.permutation(3)])
    np.testing.assert_allclose(centred(values[order], scaling), centred(values, scaling)[order], atol=1e-6)


@pytest.mark.parametrize("scaling", LINEAR)
@settings(deadline=None, max_examples=60)
@given(values=rewards_with_gaps)
def test_unscaled_advantages_are_as_large_as_the_rewards_differ(scaling: str, values: np.ndarray) -> None:
    np.testing.assert_allclose(centred(values * 3, scaling), centred(values, scaling) * 3, atol=1e-6)


def test_group_scaling_cancels_the_magnitude_of_a_scoring_rule() -> None:
    """The trap: two groups with confidences a hair and a world apart get the same advantages (arXiv 2508.11800)."""
    hair, world = (-((np.array([0.5 - e, 0.5, 0.5, 0.5 + e]) - 1) ** 2)[:, None] for e in (0.005, 0.3))
    ratio = {}
    for scaling in SCALINGS:
        advantages = centred(np.concatenate([hair, world]), scaling)[:, 0]
        ratio[scaling] = np.ptp(advantages[GROUP:]) / np.ptp(advantages[:GROUP])
    magnitude = np.ptp(world) / np.ptp(hair)
    assert magnitude == pytest.approx(60)
    assert ratio["group"] == pytest.approx(1, abs=0.05)
    for scaling in ("none", "batch", "leave_one_out"):
        assert ratio[scaling] == pytest.approx(magnitude)


def test_leave_one_out_is_the_centred_reward_times_g_over_g_less_one() -> None:
    values = np.random.default_rng(0).normal(size=(2 * GROUP, 1))
    np.testing.assert_allclose(centred(values, "leave_one_out"), centred(values, "none") * GROUP / (GROUP - 1))


@pytest.mark.parametrize("scaling", SCALINGS)
def test_an_only_judged_sibling_has_nothing_to_be_compared_with(scaling: str) -> None:
    values = np.array([[5.0], [np.nan], [np.nan], [np.nan], [1.0], [1.0], [1.0], [1.0]])
    assert (centred(values, scaling) == 0).all()


@pytest.mark.parametrize("scaling", SCALINGS)
@given(constants=arrays(np.float32, 4, elements=st.floats(-10, 10, width=32)), size=st.sampled_from([3, 7, 8, 16]))
def test_siblings_of_equal_rewards_have_no_advantage_not_even_a_bit(
    scaling: str, constants: np.ndarray, size: int
) -> None:
    # In float32 the mean of eight times .1 is not .1; gdpo divides what is left by its own deviation.
    rewards_N1 = torch.tensor(constants).repeat_interleave(size).unsqueeze(1)
    advantages = term_advantages(rewards_N1, size, [scaling])
    assert (advantages == 0).all()
    summed = sequence_advantages(rewards_N1.repeat(1, 2), torch.tensor([1.0, 0.3]), size, scaling)
    assert (summed == 0).all()
    assert (summed / batch_scale(summed) == 0).all()


@pytest.mark.parametrize("scaling", ["group", "batch"])
def test_what_could_not_be_judged_among_equal_siblings_adds_no_bit(scaling: str) -> None:
    rewards_NK = torch.tensor([[0.1, 1.0]] * 7 + [[torch.nan, 1.0]] + [[0.7, 0.3]] * 8)
    assert (sequence_advantages(rewards_NK, torch.tensor([1.0, 0.7]), 8, scaling) == 0).all()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="7 rewards do not divide into groups of 4"):
        centred_rewards(torch.zeros(7, 1), 4, "none")
    with pytest.raises(ValueError, match="'std' is not one of none, batch, group, leave_one_out"):
        centred_rewards(torch.zeros(8, 1), 4, "std")  # type: ignore[arg-type]


# -- sequence credit: TRL's numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", ["none", "group", "batch", "gdpo"])
def test_sequence_credit_gives_the_advantages_of_trl(scaling: str, policy: Any, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    table = np.random.default_rng(0).normal(size=(8, TERMS)).round(2)
    table[4:, :] = table[4, :]  # a group that agrees

    def term(index: int) -> Callable[..., list[float | None]]:
        return lambda **_: [None if np.isnan(value) else float(value) for value in table[:, index]]

    model, tokenizer = policy.load()
    settings = GRPOConfig(
        output_dir=str(tmp_path), scale_rewards="none" if scaling == "gdpo" else scaling,
        multi_objective_aggregation="normalize_then_sum" if scaling == "gdpo" else "sum_then_normalize",
        reward_weights=WEIGHTS.tolist(), num_generations=GROUP,
        per_device_train_batch_size=8, max_completion_length=2, report_to="none", use_cpu=True, bf16=False,
    )  # fmt: skip
    rows = Dataset.from_list(list(policy.rows[:2]))
    trainer = GRPOTrainer(
        model, [term(k) for k in range(TERMS)], settings, train_dataset=rows, processing_class=tokenizer
    )
    inputs = [row for row in rows for _ in range(GROUP)]
    trls = trainer._generate_and_score_completions(inputs)["advantages"]
    rewards_NK = torch.tensor(table, dtype=torch.float32)
    if scaling == "gdpo":
        ours = sequence_advantages(rewards_NK, WEIGHTS, GROUP, scaling, ("group",) * TERMS)
        ours = ours / batch_scale(ours)
    else:
        ours = sequence_advantages(rewards_NK, WEIGHTS, GROUP, scaling)
    torch.testing.assert_close(ours, trls.cpu(), rtol=1e-5, atol=1e-6)
    assert ours[:4].abs().min() > 0.01
    assert ours[4:].abs().max() == 0


def summed_reference(values: np.ndarray, weights: np.ndarray, scaling: str) -> np.ndarray:
    """Terms centred over their judged siblings and summed, then divided by the deviation of what each completion earns
    if a term that could not be judged earns the mean of its siblings, of the batch where the group has none."""
    centred_N = reference(values, scaling if scaling == "leave_one_out" else "none") @ weights
    if scaling in ("none", "leave_one_out"):
        return centred_N
    groups = values.reshape(-1, GROUP, values.shape[1]).copy()
    for k in range(values.shape[1]):
        for group in groups[:, :, k]:
            others = group if not np.isnan(group).all() else values[:, k]
            known = others[~np.isnan(others)]
            group[np.isnan(group)] = known.mean() if len(known) else 0.0
    total = groups.reshape(values.shape) @ weights
    total[np.isnan(values).all(axis=1)] = np.nan
    return reference(total[:, None], scaling)[:, 0]


@pytest.mark.parametrize("scaling", SCALINGS)
@settings(deadline=None, max_examples=60)
@given(values=rewards_with_gaps)
def test_a_sequence_is_the_sum_of_its_centred_terms(scaling: str, values: np.ndarray) -> None:
    ours = sequence_advantages(torch.tensor(values), WEIGHTS.double(), GROUP, scaling)
    expected = summed_reference(values, WEIGHTS.double().numpy(), scaling)
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-6)
    if scaling in ("group", "batch"):  # a positive factor of the unscaled ones
        unscaled = reference(values, "none") @ WEIGHTS.double().numpy()
        assert (np.sign(ours.numpy().round(6)) * np.sign(unscaled.round(6)) >= 0).all()


@pytest.mark.parametrize("scaling", SCALINGS)
def test_what_could_not_be_judged_among_wrong_siblings_is_no_better_than_they(scaling: str) -> None:
    """Accuracy, Brier score and format: the first completion is unreadable to the verifier, its siblings are wrong."""
    wrong = [[0.0, -0.81, 1.0], [0.0, -0.49, 1.0], [0.0, -0.64, 1.0]]
    rewards_NK = torch.tensor([[torch.nan, torch.nan, 1.0], *wrong])
    for own in (None, (None, scaling, None)):
        advantages = sequence_advantages(rewards_NK, torch.tensor([1.0, 1.0, 0.5]), GROUP, scaling, own)
        assert advantages[0].abs() < 1e-6, "it has the format of all, and nothing else is known of it"


@settings(deadline=None, max_examples=40)
@given(values=rewards_with_gaps)
def test_a_raw_term_keeps_its_rewards(values: np.ndarray) -> None:
    raw, missing = centred(values, "raw"), np.isnan(values)
    np.testing.assert_array_equal(raw[~missing], values[~missing])
    # One that could not be judged gets what its siblings get on average.
    for row, term in np.argwhere(missing):
        first = row // GROUP * GROUP
        group = values[first : first + GROUP, term]
        known = group[~np.isnan(group)]
        assert raw[row, term] == pytest.approx(known.mean() if known.size else 0.0, abs=1e-9)


@pytest.mark.parametrize("right", [1, 4, 7])
@pytest.mark.parametrize("credit", ["sequence", "segment"])
def test_the_sign_of_capo_is_the_verdict(right: int, credit: str) -> None:
    """With one right and seven wrong completions a baseline would end five wrong ones positive."""
    rubric = Rubric.from_config({"capo": {}})
    correct = np.repeat([1.0, 0.0], [right, 8 - right])
    matrix = rubric.score(make_outcomes(correct, mean_log_prob=-np.random.default_rng(right).random(8)))
    rewards_NK, (own,) = torch.tensor(matrix.values), [each.scaling for each in rubric.schedules]
    if credit == "sequence":
        advantages = sequence_advantages(rewards_NK, torch.ones(1).double(), 8, "none", (own,))
    else:
        advantages = term_advantages(rewards_NK, 8, [own or "none"])[:, 0]
    assert (np.sign(advantages.numpy()) == 2 * correct - 1).all()


@pytest.mark.parametrize("scaling", SCALINGS)
@settings(deadline=None, max_examples=40)
@given(values=rewards_with_gaps)
def test_a_term_of_weight_zero_is_as_if_it_were_not_there(scaling: str, values: np.ndarray) -> None:
    """Also where it is the only one that could be judged: not to be judged is not to earn 0."""
    weights_K = torch.tensor([1.0, 0.0, 0.25]).double()
    ours = sequence_advantages(torch.tensor(values), weights_K, GROUP, scaling)
    without = sequence_advantages(torch.tensor(values[:, [0, 2]]), weights_K[[0, 2]], GROUP, scaling)
    torch.testing.assert_close(ours, without)


def test_a_metric_does_not_make_the_best_of_what_could_not_be_judged() -> None:
    penalty, metric = [-1.0, -2.0, -3.0, np.nan], [0.0] * 4
    values = torch.tensor(np.stack([penalty, metric], axis=1))
    advantages = sequence_advantages(values, torch.tensor([1.0, 0.0]), GROUP, "none")
    assert advantages.tolist() == [1.0, 0.0, -1.0, 0.0]


# -- terms that are scaled in their own way ----------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(values=rewards_with_gaps)
def test_each_term_is_scaled_in_its_own_way(values: np.ndarray) -> None:
    own = ("group", "none", "batch")
    ours = term_advantages(torch.tensor(values), GROUP, own).numpy()
    expected = np.concatenate([reference(values[:, [k]], own[k]) for k in range(TERMS)], axis=1)
    np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize("scaling", SCALINGS)
@settings(deadline=None, max_examples=40)
@given(values=rewards_with_gaps)
def test_a_sequence_sums_the_others_before_and_joins_the_terms_of_their_own_after(
    scaling: str, values: np.ndarray
) -> None:
    weights = WEIGHTS.double().numpy()
    ours = sequence_advantages(torch.tensor(values), WEIGHTS.double(), GROUP, scaling, (None, "group", None))
    expected = summed_reference(values[:, [0, 2]], weights[[0, 2]], scaling)
    expected = expected + weights[1] * reference(values[:, [1]], "group")[:, 0]
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-6)


def test_the_scale_of_a_batch_is_its_standard_deviation_and_never_zero() -> None:
    values = torch.tensor([3.0, -1.0, -1.0, -1.0])
    assert batch_scale(values).item() == pytest.approx(2.0, abs=2e-4)
    for flat in (torch.zeros(4), torch.zeros(1)):  # one completion is a batch that an evaluation may have
        assert (flat / batch_scale(flat)).tolist() == [0.0] * len(flat)


# -- segment credit ----------------------------------------------------------------------------------------------------


def random_masks(completions: int, segments: int = 4, tokens: int = 9) -> torch.Tensor:
    """Each token in one segment, the last two of each completion padding; every segment is somewhere."""
    rng = np.random.default_rng(0)
    masks = torch.zeros(completions, segments, tokens)
    for row in range(completions):
        for column in range(tokens - 2):
            masks[row, column if column < segments else rng.integers(segments), column] = 1
    return masks


@pytest.mark.parametrize("scaling", LINEAR)
@settings(deadline=None, max_examples=40)
@given(values=rewards)
def test_terms_that_credit_everything_give_the_sequence_its_advantage(scaling: str, values: np.ndarray) -> None:
    rewards_NK, weights_K, masks = torch.tensor(values), WEIGHTS.double(), random_masks(len(values)).double()
    advantages = segment_advantages(
        centred_rewards(rewards_NK, GROUP, scaling), weights_K, torch.ones(TERMS, 4).double(), masks
    )
    scalar = sequence_advantages(rewards_NK, weights_K, GROUP, scaling)
    torch.testing.assert_close(advantages, scalar.unsqueeze(1) * masks.sum(dim=1))


def test_each_term_lands_on_its_own_segments_alone() -> None:
    masks_BST = random_masks(2)
    credit_KS = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    advantages_BK = torch.tensor([[1.0, -2.0, 0.0], [0.0, 3.0, 8.0]])
    advantages_BT = segment_advantages(advantages_BK, WEIGHTS, credit_KS, masks_BST)
    in_segment = [[advantages_BT[b][masks_BST[b, s] == 1].unique().tolist() for s in range(4)] for b in range(2)]
    assert in_segment[0] == [[1.0], [1.0], [0.0], [-1.0]]
    assert in_segment[1] == [[2.0], [2.0], [2.0], [3.5]]
    assert (advantages_BT[masks_BST.sum(dim=1) == 0] == 0).all(), "padding gets nothing"


def test_a_term_whose_field_was_left_out_falls_on_the_whole_completion() -> None:
    masks_BST = random_masks(2)
    masks_BST[0, 0] += masks_BST[0, 3]
    masks_BST[0, 3] = 0  # the first completion has no confidence
    advantages_BT = segment_advantages(
        torch.tensor([[-1.0], [-1.0]]), torch.ones(1), torch.tensor([[0.0, 0.0, 0.0, 1.0]]), masks_BST
    )
    torch.testing.assert_close(advantages_BT[0], -masks_BST[0].sum(dim=0))
    torch.testing.assert_close(advantages_BT[1], -masks_BST[1, 3])
