"""Every estimator's value of a policy's completions, from one forward pass over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata

from estimators.estimator import LEVELS, TOKEN_STATISTICS, Estimate, Estimator, read_by
from estimators.token_statistics import TokenStatistics, completion_statistics
from experiments.probe.generate import Generation, Policy
from experiments.probe.measure import RANKED
from rl.segments import LevelTokens, as_completions, step_rules


def estimate_generations(
    policy: Policy, generations: Sequence[Generation], estimators: Mapping[str, Estimator], *, batch_size: int
) -> dict[str, Estimate]:
    """Name -> estimate (N,) of the completions, ``batch_size`` of them in a forward pass.

    Completions are read leniently, as records are. Raises ValueError where an estimator needs confidence levels and
    the template has none, or one is not a token.
    """
    asked = list(estimators.values())
    needs = frozenset[str]().union(*(each.needs for each in asked))
    levels = LevelTokens.of(policy.tokenizer, policy.template) if LEVELS in needs else None
    parts: dict[str, list[Estimate]] = {name: [] for name in estimators}
    for first in range(0, len(generations), batch_size):
        batch = generations[first : first + batch_size]
        decoded = [each.decoded for each in batch]
        parsed = [policy.template.parse(each.text, truncated=not each.finished, lenient=True) for each in decoded]
        prompt_ids, ids = [each.prompt_ids for each in batch], [each.completion_ids for each in batch]
        completions = as_completions(prompt_ids, ids, parsed, decoded, levels, step_rules(policy.template))
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
