"""Learning is a test: stated confidences move to the known P(correct) under a proper rule, and away under the trap."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from rewards.terms import TERMS
from rl.advantages import centred_rewards
from rl.losses import expected_reward_loss
from tests.factories import make_outcomes

LEVELS = torch.linspace(0.0, 1.0, 11)
TRUTHS = torch.tensor([0.1, 0.3, 0.6, 0.9])
"""P(correct) of four questions, each with a distribution over the levels of its own: the policy."""
GROUP, GROUPS, STEPS = 8, 64, 300


def pays(name: str, options: dict[str, Any]) -> torch.Tensor:
    """What a term pays (2, L) each level, for a wrong and for a right answer, by calling it as training does."""
    term, size = TERMS[name](**options), len(LEVELS)
    rewards = []
    for outcome in (0.0, 1.0):
        facts = make_outcomes(outcome, LEVELS.double().numpy(), group=np.arange(size))
        rewards.append(torch.tensor(term(facts)))
    return torch.stack(rewards)


def draw_outcomes(generator: torch.Generator, shared: bool) -> torch.Tensor:
    """Correctness (Q, GROUPS, GROUP): of each completion on its own, or ``shared`` by the group as in a forecast."""
    shape = (len(TRUTHS), GROUPS, 1 if shared else GROUP)
    drawn = torch.rand(shape, generator=generator) < TRUTHS.view(-1, 1, 1)
    return drawn.float().expand(len(TRUTHS), GROUPS, GROUP)


def learn(objective: str, *, shared: bool = False, seed: int = 0, name: str = "brier", **options: Any) -> torch.Tensor:
    """Mean stated confidence (Q,) after training by a scaling of the policy gradient, or by the closed form."""
    generator = torch.Generator().manual_seed(seed)
    wrong, right = paid_2L = pays(name, options).float()
    logits_QL = torch.zeros(len(TRUTHS), len(LEVELS), requires_grad=True)
    optimizer = torch.optim.Adam([logits_QL], lr=0.05)
    for _ in range(STEPS):
        outcomes = draw_outcomes(generator, shared)
        log_probs_QL = logits_QL.log_softmax(dim=1)
        if objective == "closed_form":
            probabilities = log_probs_QL.exp().repeat_interleave(GROUPS * GROUP, dim=0)
            loss = expected_reward_loss(probabilities, right, wrong, -1.0, outcomes.flatten()).mean()
        else:
            stated = torch.multinomial(log_probs_QL.exp(), GROUPS * GROUP, replacement=True, generator=generator)
            rewards = paid_2L[outcomes.flatten().long(), stated.flatten()]
            advantages = centred_rewards(rewards.unsqueeze(1), GROUP, objective)
            loss = -(advantages.view_as(stated) * log_probs_QL.gather(1, stated)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return logits_QL.detach().softmax(dim=1) @ LEVELS


@pytest.mark.parametrize("objective", ["none", "leave_one_out", "batch", "closed_form"])
@pytest.mark.parametrize("shared", [False, True])
def test_confidence_moves_to_the_probability_of_being_right(objective: str, shared: bool) -> None:
    torch.testing.assert_close(learn(objective, shared=shared), TRUTHS, atol=0.08, rtol=0)


def test_under_group_scaling_confidence_moves_to_the_endpoints() -> None:
    """The known bias where a group shares its outcome: only the sign of the rule survives (arXiv 2508.11800)."""
    stated = learn("group", shared=True)
    assert (stated[:2] < 0.05).all() and (stated[3:] > 0.95).all()
    assert stated[2] > 0.7
    own = learn("group", shared=False)
    assert (own - TRUTHS)[[1, 3]].abs().max() > 0.08, "biased also where siblings differ"


# -- every family of rules, and every target ---------------------------------------------------------------------------

PROPER = {
    "brier": {}, "log": {}, "spherical": {}, "brier_log": {}, "overconfidence": {"k": 4.0},
    "underconfidence": {"k": 4.0}, "threshold_prior": {"a": 1.0, "b": 1.0},
}  # fmt: skip


def at_rest(paid_2L: torch.Tensor, truth: float) -> torch.Tensor:
    """Shares (L,) of the levels at which the expected policy gradient of a softmax over them comes to rest.

    By the natural gradient, under which a level gains its advantage; it has the fixed points of the plain one.
    """
    paid_L = (1 - truth) * paid_2L[0] + truth * paid_2L[1]
    logits = torch.zeros(len(LEVELS), dtype=torch.float64)
    for _ in range(4000):
        logits = logits + 2.0 * (paid_L - logits.softmax(dim=0) @ paid_L)
    return logits.softmax(dim=0)


def fixed_point(name: str, truth: float, **options: Any) -> float:
    return float(at_rest(pays(name, options), truth) @ LEVELS.double())


@pytest.mark.parametrize("name", PROPER)
@pytest.mark.parametrize("truth", [0.1, 0.3, 0.6, 0.9])
def test_a_proper_rule_comes_to_rest_at_the_probability_of_being_right(name: str, truth: float) -> None:
    assert fixed_point(name, truth, **PROPER[name]) == pytest.approx(truth, abs=0.01)


@pytest.mark.parametrize("name", PROPER)
def test_under_group_scaling_every_proper_rule_is_pushed_to_the_ends(name: str) -> None:
    """A shared verdict makes a vote of the rule: of each group only the ranking of its confidences is left."""
    scaled, unscaled = (learn(each, shared=True, name=name, **PROPER[name]) for each in ("group", "none"))
    assert (scaled[:2] < 0.02).all() and scaled[2] > 0.75 and scaled[3] > 0.98
    torch.testing.assert_close(unscaled, TRUTHS, atol=0.05, rtol=0)


@pytest.mark.parametrize(("truth", "end"), [(0.1, 0.1), (0.4, 0.1), (0.6, 0.9), (0.9, 0.9)])
def test_the_stake_rule_goes_to_an_end_whatever_the_probability(truth: float, end: float) -> None:
    """Levels beyond the clip are paid like the one at it, and keep their share."""
    stated = float(at_rest(pays("linear", {}), truth) @ LEVELS.double().clamp(0.1, 0.9))
    assert stated == pytest.approx(end, abs=0.01)


@pytest.mark.parametrize(("truth", "side"), [(0.6, 0), (0.7, 0), (0.9, 1)])
def test_a_single_threshold_teaches_its_side_and_no_more(truth: float, side: int) -> None:
    probabilities = at_rest(pays("threshold", {"threshold": 0.75}), truth)
    above = LEVELS > 0.75
    assert float(probabilities[above].sum()) == pytest.approx(side, abs=0.01)
    on_it = probabilities[above if side else ~above]
    assert float(on_it.max() - on_it.min()) < 1e-6, "all levels of the side stay alike"


@pytest.mark.parametrize(("noise", "truth"), [(0.1, 0.0), (0.1, 1.0), (0.3, 0.0), (0.3, 0.2), (0.3, 0.7), (0.3, 1.0)])
@pytest.mark.parametrize("name", ["brier", "spherical", "threshold_prior"])
def test_noise_shrinks_the_fixed_point_towards_one_half(name: str, noise: float, truth: float) -> None:
    nearest = round(truth * (1 - 2 * noise) + noise, 1)
    assert fixed_point(name, truth, noise=noise) == pytest.approx(nearest, abs=0.01)
    assert fixed_point(name, truth) == pytest.approx(truth, abs=0.01)
    assert abs(nearest - 0.5) < abs(truth - 0.5)


def sampled_gradients(target: str, truth: float, draws: int = 4000) -> torch.Tensor:
    """Gradient (draws, L) of the closed form for one group each, at a policy that states all levels alike."""
    term = TERMS["brier"](target=target)
    generator = np.random.default_rng(0)
    correct_N = (generator.random(draws * GROUP) < truth).astype(float)
    size = len(correct_N)
    facts = make_outcomes(correct_N, 0.5, group=np.arange(size) // GROUP)
    targets_N = torch.tensor(term.targets(facts))
    scheme, levels = term.scheme(), LEVELS.double().numpy()
    right_L, wrong_L = torch.tensor(scheme.right(levels)), torch.tensor(scheme.wrong(levels))
    logits = torch.zeros(size, len(LEVELS), dtype=torch.float64, requires_grad=True)
    expected_reward_loss(logits.softmax(dim=1), right_L, wrong_L, -1.0, targets_N).sum().backward()
    return logits.grad.view(draws, GROUP, len(LEVELS))[:, 0]


@pytest.mark.parametrize("truth", [0.3, 0.8])
def test_targets_of_the_group_pull_to_the_same_place_with_less_variance(truth: float) -> None:
    """Of one completion: the mean of G - 1 verdicts varies 1 / (G - 1) as much as one; of half and half, in between."""
    gradients = {target: sampled_gradients(target, truth) for target in ("own", "leave_one_out", "hybrid")}
    own = gradients["own"]
    error = own.std(dim=0) / len(own) ** 0.5
    for target, each in gradients.items():
        assert ((each.mean(dim=0) - own.mean(dim=0)).abs() <= 4 * error + 1e-12).all(), target
    variance = {target: each.var(dim=0)[0].item() for target, each in gradients.items()}
    assert variance["leave_one_out"] / variance["own"] == pytest.approx(1 / (GROUP - 1), rel=0.1)
    # Own share 1/2 + 1/2G, each of the others' 1/2G.
    mixed = (0.5 + 0.5 / GROUP) ** 2 + (GROUP - 1) * (0.5 / GROUP) ** 2
    assert variance["hybrid"] / variance["own"] == pytest.approx(mixed, rel=0.1)


@pytest.mark.parametrize("target", ["leave_one_out", "hybrid"])
@pytest.mark.parametrize("name", ["brier", "log", "spherical"])
def test_targets_of_the_group_come_to_rest_at_the_probability_too(name: str, target: str) -> None:
    """The closed form on sampled groups of verdicts."""
    term, generator = TERMS[name](target=target), torch.Generator().manual_seed(0)
    scheme, values = term.scheme(), LEVELS.double().numpy()
    right, wrong = (torch.tensor(each(values), dtype=torch.float32) for each in (scheme.right, scheme.wrong))
    logits_QL = torch.zeros(len(TRUTHS), len(LEVELS), requires_grad=True)
    optimizer = torch.optim.Adam([logits_QL], lr=0.05)
    for _ in range(STEPS):
        correct = draw_outcomes(generator, shared=False).flatten().double().numpy()
        size = len(correct)
        facts = make_outcomes(correct, 0.5, group=np.arange(size) // GROUP)
        targets = torch.tensor(term.targets(facts), dtype=torch.float32)
        probabilities = logits_QL.softmax(dim=1).repeat_interleave(GROUPS * GROUP, dim=0)
        loss = expected_reward_loss(probabilities, right, wrong, term.unparsed, targets).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(logits_QL.detach().softmax(dim=1) @ LEVELS, TRUTHS, atol=0.08, rtol=0)


# -- a real policy -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_answer(policy: Any) -> Any:
    """A policy that answers ``2+2=`` with 4, at any level of confidence."""
    model, tokenizer = policy.load()
    levels = policy.template.levels
    ids_BT = tokenizer(
        [f"2+2={policy.template.render('4', each)}<eos>" for each in levels], return_tensors="pt"
    ).input_ids
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        model(input_ids=ids_BT, labels=ids_BT.masked_fill(torch.arange(ids_BT.size(1)) < 4, -100)).loss.backward()
        optimizer.step()
    return model, tokenizer


@pytest.mark.parametrize("truth", [0.25, 0.75])
def test_a_trained_policy_states_how_often_it_is_right(truth: float, make_trainer: Any, one_answer: Any) -> None:
    """The real trainer, on a question whose gold is what the policy answers in a known share of the rows."""
    model, tokenizer = copy.deepcopy(one_answer[0]), one_answer[1]
    rows = [{"prompt": "2+2=", "answer": "4" if row < truth * 16 else "1234"} for row in range(16)]
    trainer = make_trainer(
        model=model, tokenizer=tokenizer, rows=rows, confidence_loss_weight=1.0, learning_rate=2e-3,
        lr_scheduler_type="constant", max_steps=40, per_device_train_batch_size=32, max_completion_length=8,
    )  # fmt: skip
    level_ids = tokenizer.convert_tokens_to_ids(list(trainer.template.levels))

    def mean_confidence() -> float:
        ids = tokenizer("2+2=<answer>4</answer><confidence>", return_tensors="pt")
        with torch.no_grad():
            probabilities = trainer.model.eval()(**ids).logits[0, -1].softmax(dim=0)[level_ids]
        assert probabilities.sum() > 0.95
        return (probabilities @ torch.tensor([float(level) for level in trainer.template.levels])).item()

    assert abs(mean_confidence() - 0.5) < 0.05
    trainer.train()
    assert mean_confidence() == pytest.approx(truth, abs=0.1)
    first, *_, last = (record for record in trainer.state.log_history if "loss" in record)
    assert last["confidence_loss"] < first["confidence_loss"]
    assert min(first["parse/ok"], last["parse/ok"]) > 0.8
