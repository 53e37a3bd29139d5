"""Completions with recorded log-probabilities, as OpenAI-style servers and vLLM return them, and what they estimate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from estimators.estimator import LEVELS, TOKEN_STATISTICS, Estimate, Estimator
from estimators.recorded import RecordedToken, recorded_statistics
from estimators.written import log_probability, token_bytes, token_ends, token_entries
from experiments.errors import ConfigError
from experiments.probe.tables import Table
from rewards.template import AnswerTemplate
from rl.segments import DecodedCompletion, as_completions, step_rules

COLUMN = "logprobs"
_UNKNOWN_VOCABULARY = 2**62
"""More tokens than a record lists: what takes all of them cannot be read off it."""


def estimate_recorded(
    table: Table, texts: Sequence[str], template: AnswerTemplate, estimators: Mapping[str, Estimator]
) -> dict[str, Estimate]:
    """Name -> estimate (N,) of the completions of a table, from its column ``logprobs``.

    Each of its values lists the completion's tokens, ``{token, logprob, top_logprobs: [{token, logprob}, ...]}``, with
    ``bytes`` where a token is not text by itself, or is the ``logprobs`` of a server's reply as it came. What more is
    needed than was recorded leaves an estimate not valid. Raises DataError for tokens that are not the completion's
    text; see :func:`check_recorded` for estimators.
    """
    if COLUMN not in table.frame.columns:
        found = ", ".join(map(repr, table.frame.columns))
        raise table.error(0, COLUMN, f"is not there, only {found}; expected the tokens with their log-probabilities")
    ids: dict[bytes, int] = {}
    decoded, recorded, parsed = [], [], []
    for row, (text, tokens) in enumerate(zip(texts, table.frame[COLUMN], strict=True)):
        try:
            listed = token_entries(tokens) if isinstance(tokens, Mapping) else tokens
            entries = [(token_bytes(each), _token(each, ids)) for each in listed]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise table.error(row, COLUMN, f"cannot be read: {type(error).__name__} {error}") from error
        ends = token_ends([each for each, _ in entries])
        written = b"".join(each for each, _ in entries).decode("utf-8", errors="replace")
        if written != text:
            raise table.error(row, COLUMN, f"its tokens write {written[:60]!r}, the completion is {text[:60]!r}")
        decoded.append(DecodedCompletion(text, ends, finished=False))
        recorded.append([token for _, token in entries])
        parsed.append(template.parse(text, lenient=True))
    places = [[0] * len(each.ends) for each in decoded]
    completions = as_completions([[]] * len(places), places, parsed, decoded, rules=step_rules(template))
    statistics = recorded_statistics(recorded, _UNKNOWN_VOCABULARY)
    return {name: estimator(completions, statistics) for name, estimator in estimators.items()}


def check_recorded(needs: Mapping[str, frozenset[str]]) -> None:
    """Raise ConfigError for the first estimator, name -> needs, that log-probabilities of tokens are not enough for."""
    for name, needed in needs.items():
        if beyond := sorted(needed - {TOKEN_STATISTICS}):
            said = "confidence levels" if beyond == [LEVELS] else ", ".join(beyond)
            raise ConfigError(f"--estimators {name}: needs {said}, which recorded completions do not give")


def _token(entry: Mapping[str, Any], ids: dict[bytes, int]) -> RecordedToken:
    top = {
        ids.setdefault(token_bytes(each), len(ids)): log_probability(each)
        for each in _listed(entry.get("top_logprobs"))
    }
    return RecordedToken(log_probability(entry), top)


def _listed(values: Any) -> Sequence[Mapping[str, Any]]:
    return () if values is None else list(values)
