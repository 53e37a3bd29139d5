"""Completions with recorded log-probabilities, as OpenAI-style servers and vLLM return them, and what they estimate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from estimators.estimator import LEVELS, TOKEN_STATISTICS, Estimate, Estimator
from estimators.length import Length
from estimators.recorded import RecordedToken, recorded_statistics, recorded_token, without_appended
from estimators.written import token_bytes, token_ends, token_entries
from experiments.errors import ConfigError
from experiments.probe.tables import Table, is_null
from rewards.template import AnswerTemplate
from rl.segments import DecodedCompletion, as_completions, step_rules

COLUMN = "logprobs"
_UNKNOWN_VOCABULARY = 2**62
"""More tokens than a record lists: what takes all of them cannot be read off it."""
_SHOWN = 40
"""Characters that an error shows of each of two texts."""


def estimate_recorded(
    table: Table, texts: Sequence[str], template: AnswerTemplate, estimators: Mapping[str, Estimator]
) -> dict[str, Estimate]:
    """Name -> estimate (N,) of the completions of a table, from its column ``logprobs``.

    Each of its values lists the completion's tokens, ``{token, logprob, top_logprobs: [{token, logprob}, ...]}``, with
    ``bytes`` where a token is not text by itself, or is the ``logprobs`` of a server's reply as it came. What more is
    needed than was recorded leaves an estimate not valid, and so does a null what needs any token. One last token that
    the text lacks is what ended the completion. Raises DataError for other tokens than those of the completion's text;
    see :func:`check_recorded` for estimators.
    """
    if COLUMN not in table.frame.columns:
        found = ", ".join(map(repr, table.frame.columns))
        raise table.error(0, COLUMN, f"is not there, only {found}; expected the tokens with their log-probabilities")
    decoded, recorded, parsed, known = [], [], [], []
    for row, (text, cell) in enumerate(zip(texts, table.frame[COLUMN], strict=True)):
        entries = _entries(table, row, cell)
        known.append(entries is not None)
        shown = "" if entries is None else text
        decoded.append(_decoded(table, row, [each for each, _ in entries or ()], shown))
        recorded.append(without_appended([token for _, token in entries or ()]))
        parsed.append(template.parse(shown, lenient=True))
    places = [[0] * len(each.ends) for each in decoded]
    completions = as_completions([[]] * len(places), places, parsed, decoded, rules=step_rules(template))
    statistics, known_N = recorded_statistics(recorded, _UNKNOWN_VOCABULARY), torch.tensor(known)
    estimates = {name: estimator(completions, statistics) for name, estimator in estimators.items()}
    of_tokens = [
        name for name, each in estimators.items() if TOKEN_STATISTICS in each.needs or isinstance(each, Length)
    ]
    return estimates | {
        name: Estimate.where(estimates[name].valid_B & known_N, estimates[name].values_B) for name in of_tokens
    }


def check_recorded(needs: Mapping[str, frozenset[str]]) -> None:
    """Raise ConfigError for the first estimator, name -> needs, that log-probabilities of tokens are not enough for."""
    for name, needed in needs.items():
        if beyond := sorted(needed - {TOKEN_STATISTICS}):
            said = "confidence levels" if beyond == [LEVELS] else ", ".join(beyond)
            raise ConfigError(f"--estimators {name}: needs {said}, which recorded completions do not give")


def _entries(table: Table, row: int, cell: Any) -> list[tuple[bytes, RecordedToken]] | None:
    """The tokens of a record, each with what it wrote; None where none were recorded."""
    try:
        listed = token_entries(cell) if isinstance(cell, Mapping) else cell
        return None if is_null(listed) else [(token_bytes(each), recorded_token(each)) for each in listed]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        expected = "a list of {token, logprob, top_logprobs}, or a server's logprobs as they came"
        raise table.error(
            row, COLUMN, f"cannot be read: {type(error).__name__} {error}; expected {expected}"
        ) from error


def _decoded(table: Table, row: int, tokens: Sequence[bytes], text: str) -> DecodedCompletion:
    written = _text(tokens)
    if written == text:
        return DecodedCompletion(text, token_ends(tokens), finished=False)
    if tokens and _text(tokens[:-1]) == text:
        return DecodedCompletion(text, (*token_ends(tokens[:-1]), len(text)), finished=True)
    pairs = enumerate(zip(written, text, strict=False))
    place = next((place for place, (one, other) in pairs if one != other), min(len(written), len(text)))
    one, other = (each[place : place + _SHOWN] for each in (written, text))
    raise table.error(row, COLUMN, f"its tokens write {one!r} at character {place}, where the completion has {other!r}")


def _text(tokens: Sequence[bytes]) -> str:
    return b"".join(tokens).decode("utf-8", errors="replace")
