"""What some estimators need beyond a pass over a completion: questions asked behind it, and further samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from estimators.agreement import SemanticEntropy, answer_clusters
from estimators.estimator import EXTRA_PASSES, SAMPLES
from estimators.forward_passes import completion_statistics
from estimators.p_true import FOLLOW_UPS, ask
from experiments.config.recipe import Recipe
from experiments.errors import ConfigError
from experiments.probe.estimates import Extras
from experiments.probe.generate import Generation, Policy, prompt_text
from rewards.verifiers.verifier import Verifier


def compares_samples(recipe: Recipe, names: Sequence[str]) -> bool:
    """Whether one of the recipe's estimators of these names compares several samples of a question."""
    return any(SAMPLES in recipe.estimators[name].needs for name in names if name in recipe.estimators)


def check_extras(recipe: Recipe, names: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ConfigError where one of the recipe's estimators needs samples and the recipe draws none, or asks in words
    that the tokenizer lacks."""
    for name in names:
        needs = recipe.estimators[name].needs if name in recipe.estimators else frozenset[str]()
        if SAMPLES in needs and not recipe.probe.samples:
            raise ConfigError(f"estimators.{name}: needs further samples of each question: probe.samples=N")
        if EXTRA_PASSES in needs and name in FOLLOW_UPS:
            _words(name, tokenizer)


def gather_extras(
    recipe: Recipe,
    names: Sequence[str],
    policy: Policy,
    rows: Sequence[dict[str, Any]],
    generations: Sequence[Generation],
    verifier: Verifier,
    drawn: Sequence[Generation],
) -> Extras:
    """What the recipe's estimators of these names need of each question's completion, and nothing if they need none.

    ``drawn`` are ``probe.samples`` further completions of each of the first questions; what compares samples has no
    value of the others. What cannot be given was refused by :func:`check_extras`.
    """
    needs = {name: recipe.estimators[name].needs for name in names if name in recipe.estimators}
    answers = [_answer(policy, each) for each in generations]
    asked = {
        name: _asked(name, policy, [row["prompt"] for row in rows], answers, recipe.probe.batch_size)
        for name, needed in needs.items()
        if EXTRA_PASSES in needed and name in FOLLOW_UPS
    }
    if not compares_samples(recipe, names):
        return Extras(asked)
    texts, samples = [_answer(policy, each) for each in drawn], recipe.probe.samples

    def same(gold: str, answer: str) -> bool:
        (verdict,) = verifier.verify(golds=[gold], answers=[answer])
        return verdict.correct == 1.0

    clusters = [
        answer_clusters([answers[place], *texts[place * samples : (place + 1) * samples]], same)
        for place in range(len(texts) // samples)
    ]
    compared = len(clusters)
    clusters += [[-1] * (samples + 1)] * (len(answers) - compared)
    clusters_NS = torch.tensor(clusters, dtype=torch.long).reshape(len(answers), samples + 1)
    estimators = [recipe.estimators[name] for name in needs]
    if not any(isinstance(each, SemanticEntropy) and each.weighted for each in estimators):
        return Extras(asked, clusters_NS)
    log_probs_NS = torch.zeros(clusters_NS.shape, dtype=torch.float64)
    log_probs_NS[:compared, 0] = _mean_log_probs(policy, generations[:compared], recipe.probe.batch_size)
    log_probs_NS[:compared, 1:] = _mean_log_probs(policy, drawn, recipe.probe.batch_size).view(compared, samples)
    return Extras(asked, clusters_NS, log_probs_NS)


def _mean_log_probs(policy: Policy, generations: Sequence[Generation], batch_size: int) -> torch.Tensor:
    """Mean log-probability of each completion's tokens (N,), float64."""
    ids = [each.completion_ids for each in generations]
    statistics = completion_statistics(
        policy.model,
        [each.prompt_ids for each in generations],
        ids,
        pad_token_id=policy.tokenizer.pad_token_id,
        batch_size=batch_size,
    )
    return statistics.log_prob.double().sum(dim=1).cpu() / torch.tensor([max(len(each), 1) for each in ids])


def _answer(policy: Policy, generation: Generation) -> str | None:
    decoded = generation.decoded
    return policy.template.parse(decoded.text, truncated=not decoded.finished, lenient=True).answer


def _asked(
    name: str, policy: Policy, prompts: Sequence[Any], answers: Sequence[str | None], batch_size: int
) -> torch.Tensor:
    """Log-probabilities (N, 2) of yes and no; NaN where there is no answer to ask about."""
    follow_up, tokenizer = FOLLOW_UPS[name], policy.tokenizer
    yes_id, no_id = _words(name, tokenizer)
    rows = [row for row, answer in enumerate(answers) if answer is not None]
    texts = [follow_up.prompt(prompt_text(prompts[row]), answers[row] or "") for row in rows]
    read = ask(
        policy.model,
        [tokenizer.encode(text) for text in texts],
        yes_id,
        no_id,
        pad_token_id=tokenizer.pad_token_id,
        batch_size=batch_size,
    )
    asked_N2 = torch.full((len(answers), 2), torch.nan, dtype=torch.float64)
    asked_N2[rows] = read.cpu()
    return asked_N2


def _words(name: str, tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """The tokens that yes and no begin with."""
    follow_up = FOLLOW_UPS[name]
    yes, no = (tokenizer.encode(word, add_special_tokens=False) for word in (follow_up.yes, follow_up.no))
    if not yes or not no or tokenizer.unk_token_id in (yes[0], no[0]) or yes[0] == no[0]:
        raise ConfigError(
            f"estimators.{name}: {follow_up.yes!r} and {follow_up.no!r} do not begin with tokens of this tokenizer's "
            "that differ, so that the model cannot be asked"
        )
    return yes[0], no[0]
