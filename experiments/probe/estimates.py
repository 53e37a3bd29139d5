"""Every estimator's value of a policy's completions, from one forward pass over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata

from estimators.corpus import CorpusEntity, CorpusPair
from estimators.estimator import (
    CRITIC,
    HIDDEN_STATES,
    LEVELS,
    TEXT,
    TOKEN_STATISTICS,
    Completions,
    Estimate,
    Estimator,
    read_by,
)
from estimators.forward_passes import completion_statistics
from estimators.hidden_probe import HiddenProbe
from estimators.hidden_states import HiddenStates, Identity, hidden_states
from estimators.token_statistics import TokenStatistics
from experiments.errors import ConfigError
from experiments.probe.generate import Generation, Policy
from experiments.probe.measure import RANKED
from rl.segments import LevelTokens, as_completions, step_rules


@dataclass(frozen=True)
class Extras:
    """Of N completions, what estimators need beyond a pass over them: see the fields of the same names of Completions.

    ``clusters_NS`` are None where there are no samples, ``sample_log_probs_NS`` where nothing weighs samples by them.
    """

    asked: Mapping[str, torch.Tensor]
    clusters_NS: torch.Tensor | None = None
    sample_log_probs_NS: torch.Tensor | None = None

    def beside(self, completions: Completions, first: int) -> Completions:
        """The same completions, the ``first`` of which is at that place among the N, with what is known of them."""
        rows = slice(first, first + len(completions))
        return replace(
            completions,
            asked={name: asked_N2[rows] for name, asked_N2 in self.asked.items()},
            clusters_BN=None if self.clusters_NS is None else self.clusters_NS[rows],
            sample_log_probs_BN=None if self.sample_log_probs_NS is None else self.sample_log_probs_NS[rows],
        )


def check_files(policy: Policy, estimators: Mapping[str, Estimator]) -> None:
    """Raise ConfigError where what an estimator reads is not there, or was fitted to another policy."""
    for name, estimator in estimators.items():
        try:
            if isinstance(estimator, HiddenProbe):
                estimator.check(Identity.of(policy.model, policy.tokenizer))
            elif isinstance(estimator, CorpusPair | CorpusEntity):
                estimator.check()
            elif CRITIC in estimator.needs and policy.critic is not None:
                policy.critic.check(policy.model)
        except ValueError as error:
            raise ConfigError(f"estimators.{name}: {error}") from error


def estimate_generations(
    policy: Policy,
    generations: Sequence[Generation],
    estimators: Mapping[str, Estimator],
    *,
    batch_size: int,
    extras: Extras | None = None,
) -> dict[str, Estimate]:
    """Name -> estimate (N,) of the completions, ``batch_size`` of them in a forward pass.

    ``extras`` are what estimators need beyond that pass. Completions are read leniently, as records are. Raises
    ValueError where an estimator needs confidence levels and the template has none, or one is not a token, for a
    hidden probe of another model, and for the critic of a policy that was opened without one.
    """
    asked = list(estimators.values())
    needs = frozenset[str]().union(*(each.needs for each in asked))
    levels = None
    if LEVELS in needs:
        levels = LevelTokens.of(policy.tokenizer, policy.template, policy.temperature)
    places = sorted({place for each in asked if isinstance(each, HiddenProbe) for place in each.places})
    identity = Identity.of(policy.model, policy.tokenizer) if HIDDEN_STATES in needs else None
    parts: dict[str, list[Estimate]] = {name: [] for name in estimators}
    for first in range(0, len(generations), batch_size):
        batch = generations[first : first + batch_size]
        decoded = [each.decoded for each in batch]
        parsed = [policy.template.parse(each.text, truncated=not each.finished, lenient=True) for each in decoded]
        prompt_ids, ids = [each.prompt_ids for each in batch], [each.completion_ids for each in batch]
        texts = policy.tokenizer.batch_decode(prompt_ids, skip_special_tokens=True) if TEXT in needs else ()
        completions = as_completions(prompt_ids, ids, parsed, decoded, levels, step_rules(policy.template), texts)
        if identity is not None:
            read = hidden_states(
                policy.model,
                prompt_ids,
                completions.completion_ids,
                completions.answer_BT,
                completions.confidence_BT,
                places,
                pad_token_id=policy.tokenizer.pad_token_id,
            )
            completions = replace(completions, hidden=HiddenStates(identity, read))
        if CRITIC in needs:
            if policy.critic is None:
                raise ValueError("estimators.critic: reads a critic, and the policy was opened without one")
            values_B = policy.critic.values(
                policy.model,
                prompt_ids,
                completions.completion_ids,
                completions.answer_BT,
                pad_token_id=policy.tokenizer.pad_token_id,
            )
            completions = replace(completions, critic_values_B=values_B)
        statistics = TokenStatistics.empty(completions.written_BT.shape)
        if TOKEN_STATISTICS in needs:
            # Of what is not read too, for nothing: with weights split over ranks all make the same number of passes.
            statistics = completion_statistics(
                policy.model,
                prompt_ids,
                completions.completion_ids,
                pad_token_id=policy.tokenizer.pad_token_id,
                read_BT=read_by(asked, completions),
                level_ids=completions.level_ids,
            )
        if extras is not None:
            completions = extras.beside(completions, first)
        completions = completions.to(statistics.log_prob.device)
        for name, estimator in estimators.items():
            parts[name].append(estimator(completions, statistics))
    return {name: _joined(each) for name, each in parts.items()}


def _joined(parts: Sequence[Estimate]) -> Estimate:
    if not parts:
        return Estimate(torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.bool))
    return Estimate(torch.cat([each.values_B for each in parts]), torch.cat([each.valid_B for each in parts]))


def with_estimate(records: pd.DataFrame, estimator: Estimator, estimate: Estimate) -> pd.DataFrame:
    """Records of the same completions with another confidence, 0 and unparsed where the estimate is not valid.

    What is meant as a probability is the confidence itself (``confidence_source`` computed). Of anything else only the
    order counts: the confidence is its rank among the records, in (0, 1), higher where the model is surer (ranked).
    """
    values, valid = estimate.values_B.cpu().numpy(), estimate.valid_B.cpu().numpy()
    source = "computed"
    if not estimator.is_probability:
        source, ranks = RANKED, np.full(len(values), np.nan)
        oriented = values[valid] if estimator.higher_is_surer else -values[valid]
        ranks[valid] = (rankdata(oriented) - 0.5) / max(valid.sum(), 1)
        values = ranks
    confidence = np.where(valid, values, 0.0)
    return records.assign(confidence=confidence, parsed=valid, confidence_source=np.where(valid, source, "unparsed"))
