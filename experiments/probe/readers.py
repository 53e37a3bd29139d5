"""The confidences that can be read off a policy's completions without being asked for: one function an estimator."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from estimators.answer_span import answer_probability
from estimators.expected_confidence import expected_confidence, level_log_probabilities
from estimators.token_statistics import completion_statistics
from experiments.probe.generate import Generation, Policy
from rewards.completion import ParsedCompletion
from rl.closed_form import level_token_ids
from rl.segments import confidence_token, tokens_inside


def answer_probabilities(
    policy: Policy, generations: Sequence[Generation], *, reduction: str, batch_size: int
) -> list[float | None]:
    """Probability that the policy gave its own answer tokens; None where the completion states no answer."""
    values: list[float | None] = []
    for first in range(0, len(generations), batch_size):
        batch = generations[first : first + batch_size]
        statistics = completion_statistics(
            policy.model,
            [each.prompt_ids for each in batch],
            [each.completion_ids for each in batch],
            pad_token_id=policy.tokenizer.pad_token_id,
        )
        for each, row in zip(batch, statistics, strict=True):
            span = _parse(policy, each).spans.get("answer")
            tokens = [] if span is None else tokens_inside(span.start, span.end, each.decoded)
            values.append(answer_probability(row.log_prob[tokens], reduction) if tokens else None)
    return values


def expected_confidences(policy: Policy, generations: Sequence[Generation], *, batch_size: int) -> list[float | None]:
    """Mean of the template's levels under the policy, where it states one of them; None where it states none.

    Raises ValueError where the template declares no levels or one is not a token.
    """
    levels = policy.template.levels
    if levels is None:
        raise ValueError("expected_confidence needs task.template.levels, a known set of confidences")
    level_ids = level_token_ids(policy.tokenizer, levels)
    placed = [
        (each, confidence_token(_parse(policy, each), each.decoded, each.completion_ids, level_ids))
        for each in generations
    ]
    values: list[float | None] = []
    # What states no level is read too, for nothing: with weights split over ranks all make the same number of passes.
    for first in range(0, len(placed), batch_size):
        batch = placed[first : first + batch_size]
        log_probabilities_BL = level_log_probabilities(
            policy.model,
            [[*each.prompt_ids, *each.completion_ids[: token or 0]] for each, token in batch],
            level_ids,
            pad_token_id=policy.tokenizer.pad_token_id,
        )
        read_B = expected_confidence(log_probabilities_BL, policy.template.level_values).tolist()
        values += [None if token is None else value for (_, token), value in zip(batch, read_B, strict=True)]
    return values


READERS: dict[str, Callable[..., list[float | None]]] = {
    "answer_probability": answer_probabilities,
    "expected_confidence": expected_confidences,
}
"""Name in a recipe's ``estimators`` section -> how it is read, with the options of the section as keywords."""


def _parse(policy: Policy, generation: Generation) -> ParsedCompletion:
    return policy.template.parse(generation.decoded.text, truncated=not generation.decoded.finished, lenient=True)
