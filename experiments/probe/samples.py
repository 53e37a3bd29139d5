"""Samples: several completions of each question, with what a vote and a stopping rule need to know of each.

One row a sample. Needed: ``question_id``; ``answer``, null where none was read; ``correct`` 0 or 1; ``confidences``, a
list with the confidence of each token that was written, 0 or more, higher where surer, null where unknown: their means
weigh votes. Taken where present: ``vote_as``, an answer that stands for all that mean the same (else ``answer``);
``thought_tokens``, how many of the tokens, from the first, belong to the thought (else all); and trial answers at the
ends of steps, five lists of one length: ``trial_places``, how many tokens stand before each, rising,
``trial_answers``, ``trial_correct``, ``trial_confidences``, ``trial_tokens``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from estimators.online.sampling import Trace, Trial
from experiments.errors import DataError
from experiments.probe.tables import FLOAT_NOISE, Table, is_null, read_table
from rl.files import replacing

NEEDED = ("question_id", "answer", "correct", "confidences")
TRIALS = ("trial_places", "trial_answers", "trial_correct", "trial_confidences", "trial_tokens")
OPTIONAL = ("vote_as", "thought_tokens", *TRIALS)


@dataclass(frozen=True)
class Question:
    """The traces of one question in the order in which they were drawn, and which of their answers are right."""

    id: str
    traces: tuple[Trace, ...]
    right: Mapping[str, float]

    def correct(self, answer: str | None) -> float:
        """1 for a right answer, 0 for a wrong one and for none."""
        return 0.0 if answer is None else self.right[answer]


def read_samples(path: str | Path) -> list[Question]:
    """Read samples (parquet or JSON lines), questions in the order in which they appear.

    Raises DataError, naming file, line or row, column, value and what was expected; also where one answer to a question
    is right in one row and wrong in another.
    """
    table = read_table(path)
    table.require(NEEDED, OPTIONAL)
    frame = table.frame
    ids = table.text("question_id")
    named = table.text("vote_as" if "vote_as" in frame else "answer", nullable=True)
    correct = table.binary("correct")
    confidences = _numbers(table, "confidences")
    thought = table.count("thought_tokens", nullable=True) if "thought_tokens" in frame else [pd.NA] * len(frame)
    trials = _trials(table, list(map(len, confidences)))
    rows: dict[str, list[int]] = {}
    for row, question in enumerate(ids):
        rows.setdefault(str(question), []).append(row)
    questions = []
    for question, members in rows.items():
        right: dict[str, float] = {}
        traces = []
        for row in members:
            answer = None if is_null(named[row]) else str(named[row])
            verdicts = [] if answer is None else [(answer, float(correct[row]))]
            verdicts += [(each.answer, verdict) for each, verdict in trials[row] if each.answer is not None]
            for given, verdict in verdicts:
                if right.setdefault(given, verdict) != verdict:
                    raise table.error(
                        row, "correct", f"{given!r} is right in one row of {question} and wrong in another"
                    )
            length = None if is_null(thought[row]) else int(thought[row])
            if length is not None and length > len(confidences[row]):
                there = f"{length} found, expected at most {len(confidences[row])}, as many as there are confidences"
                raise table.error(row, "thought_tokens", there)
            traces.append(Trace(answer, confidences[row], length, tuple(each for each, _ in trials[row])))
        questions.append(Question(question, tuple(traces), right))
    return questions


def write_samples(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write samples as parquet, whole or not at all; returns the path."""
    path = Path(path)
    with replacing(path) as partial:
        frame.to_parquet(partial, index=False)
    return path


def _cells(table: Table, column: str, row: int) -> Sequence[Any]:
    value = table.frame[column].iloc[row]
    if isinstance(value, np.ndarray | list | tuple):
        return list(value)
    raise table.error(row, column, f"{value!r} found, expected a list")


def _numbers(table: Table, column: str) -> list[np.ndarray]:
    read = []
    for row in range(len(table.frame)):
        cells = [math.nan if is_null(each) else each for each in _cells(table, column, row)]
        wrong = [each for each in cells if isinstance(each, bool) or not isinstance(each, int | float | np.number)]
        if wrong:
            raise table.error(row, column, f"{wrong[0]!r} found, expected numbers")
        values = np.array(cells, dtype=np.float64)
        unusable = values[(values < -FLOAT_NOISE) | np.isinf(values)]
        if len(unusable):
            raise table.error(
                row,
                column,
                f"{unusable[0]} found, expected finite numbers of 0 or more, whose means can weigh votes; give a "
                "log-probability as a probability, and one of minus infinity from before top-k or top-p",
            )
        read.append(np.clip(values, 0.0, None))
    return read


def _trials(table: Table, lengths: Sequence[int]) -> list[list[tuple[Trial, float]]]:
    """Trial answers of each row, of so many tokens, and whether they are right."""
    there = [column for column in TRIALS if column in table.frame]
    if not there:
        return [[] for _ in range(len(table.frame))]
    missing = [column for column in TRIALS if column not in there]
    if missing:
        raise DataError(f"{table.path}: {there[0]!r} without {missing[0]!r}: trial answers need {', '.join(TRIALS)}")
    cells: list[tuple[Any, ...]] = []
    owners: list[int] = []
    for row in range(len(table.frame)):
        columns = [_cells(table, column, row) for column in TRIALS]
        if len(set(map(len, columns))) > 1:
            raise table.error(row, TRIALS[0], f"lists of {', '.join(str(len(each)) for each in columns)} trial answers")
        cells += zip(*columns, strict=True)
        owners += [row] * len(columns[0])
    flat = Table(table.path, pd.DataFrame(cells, columns=TRIALS, dtype="object"), [table.places[row] for row in owners])
    answers = flat.text("trial_answers", nullable=True)
    places, tokens = flat.count("trial_places"), flat.count("trial_tokens")
    confidences, correct = flat.number("trial_confidences", 0.0, 1.0), flat.binary("trial_correct")
    read: list[list[tuple[Trial, float]]] = [[] for _ in lengths]
    for number, (row, place) in enumerate(zip(owners, places, strict=True)):
        least = read[row][-1][0].place + 1 if read[row] else 1
        if not least <= place <= lengths[row]:
            expected = f"places that rise, up to the row's {lengths[row]} tokens: at least {least} here"
            raise flat.error(number, "trial_places", f"{place} found, expected {expected}")
        answer = None if is_null(answers[number]) else str(answers[number])
        trial = Trial(int(place), answer, float(confidences[number]), int(tokens[number]))
        read[row].append((trial, float(correct[number])))
    return read


def voting_names(answers: Mapping[str, Sequence[str]], verifier: Any) -> dict[str, dict[str, str]]:
    """Question -> answer -> the first of the question's answers that means the same, as ``verifier`` has it.

    ``answers`` are each question's distinct answers in their order. One that cannot be judged stands for itself.
    """
    pairs = [(question, *pair) for question, given in answers.items() for pair in itertools.combinations(given, 2)]
    verdicts = verifier.verify(golds=[first for _, first, _ in pairs], answers=[other for _, _, other in pairs])
    same = {pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict.correct == 1.0}
    names: dict[str, dict[str, str]] = {}
    for question, given in answers.items():
        named: dict[str, str] = {}
        for answer in given:
            firsts = dict.fromkeys(named.values())
            named[answer] = next((first for first in firsts if (question, first, answer) in same), answer)
        names[question] = named
    return names
