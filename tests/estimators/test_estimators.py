"""What every estimator keeps to: no tokens, no answer and no level are no values, and its options are its fields."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from estimators import ESTIMATORS
from estimators.estimator import NEEDS, Completions
from estimators.token_statistics import TokenStatistics


def made(name: str) -> Any:
    """An estimator with its defaults, and a folder that is not there where it needs one."""
    return ESTIMATORS[name](*(["nowhere"] if name in FROM_FILES else []))


def nothing_written(rows: int, width: int) -> Completions:
    """Completions that wrote no token at all, padded to a width."""
    none_BT = torch.zeros(rows, width, dtype=torch.bool)
    return Completions(
        prompt_ids=[[1]] * rows,
        completion_ids=[[]] * rows,
        written_BT=none_BT,
        reasoning_BT=none_BT,
        answer_BT=none_BT,
        confidence_BT=none_BT,
        steps_BT=torch.full((rows, width), -1),
        stated_B=torch.full((rows,), torch.nan, dtype=torch.float64),
        level_ids=(3, 4),
        level_values=(0.0, 1.0),
        level_positions_B=torch.full((rows,), -1),
        asked={name: torch.full((rows, 2), torch.nan) for name in ("p_true", "yes_no")},
        clusters_BN=torch.full((rows, 4), -1),
        critic_values_B=torch.full((rows,), torch.nan),
        prompts=[""] * rows,
        answers=[None] * rows,
    )


FROM_FILES = ("corpus_pair", "corpus_entity", "hidden_probe")
"""Those that read what was fitted or built before, which their options name."""


@pytest.mark.parametrize("width", [0, 3])
@pytest.mark.parametrize("name", [each for each in ESTIMATORS if each not in FROM_FILES])
def test_an_empty_completion_has_no_value(name: str, width: int) -> None:
    completions, estimator = nothing_written(2, width), made(name)
    estimate = estimator(completions, TokenStatistics.empty((2, width), levels=2))
    assert estimate.values_B.shape == estimate.valid_B.shape == (2,)
    assert estimate.valid_B.tolist() == [name in ("length", "base_rate")] * 2
    assert estimator.reads(completions).shape == (2, width)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_its_declarations_are_in_the_words_of_the_protocol(name: str) -> None:
    kind = ESTIMATORS[name]
    assert kind.needs <= set(NEEDS)
    low, high = kind.bounds
    assert low < high and (not kind.is_probability or (low, high) == (0.0, 1.0))
    assert dataclasses.is_dataclass(kind) and kind.cost and kind.source and kind.__doc__
    with pytest.raises(dataclasses.FrozenInstanceError):
        made(name).anything = 1  # type: ignore[attr-defined]


def test_the_list_names_what_it_has_and_nothing_else() -> None:
    assert "entropy" in ESTIMATORS and "entrpy" not in ESTIMATORS
    assert len(set(ESTIMATORS)) == len(ESTIMATORS)
    with pytest.raises(KeyError):
        ESTIMATORS["entrpy"]
