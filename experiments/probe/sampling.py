"""Draw samples from a checkpoint: several completions of each question, and trial answers where steps end."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from estimators.forward_passes import completion_statistics
from estimators.online.adapters.generation import trial_answers
from estimators.segmentation import StepSegmenter
from experiments.config.recipe import Recipe
from experiments.errors import ConfigError
from experiments.probe.checkpoint import open_checkpoint, probe_rows, sample_questions, sampled_rows
from experiments.probe.generate import Generation, Policy, verify_generations
from experiments.probe.samples import TRIALS, voting_names
from rewards.markup import TAG_NAMES
from rewards.verifiers.verifier import Verifier
from rl.segments import step_rules

_LONGEST_TRIAL = 24
"""Tokens of a trial answer; what is longer is cut off."""


@dataclass(frozen=True)
class _Thought:
    """How many tokens of a completion are of its thought, and after how many of them each step but the last ends."""

    tokens: int
    ends: tuple[int, ...]


def sample_checkpoint(path: str, recipe: Recipe, verifier: Verifier, *, trials: bool) -> tuple[pd.DataFrame, Policy]:
    """Samples of a checkpoint on the recipe's probe questions, and the policy that wrote them.

    Of each of the first ``probe.sampled_size`` questions ``probe.samples`` completions at ``probe.temperature``; the
    confidences are ``token_confidence`` at temperature 1. With ``trials`` a trial answer is drawn where a step of a
    thought ends. Raises ConfigError where no samples are asked for, and for trial answers of a policy that closes its
    answers with more than one token.
    """
    settings = recipe.probe
    if settings.samples < 1:
        raise ConfigError(
            "probe.samples is 0: say how many completions of a question to draw, such as probe.samples=16"
        )
    policy = open_checkpoint(path, recipe, "vote")
    ask_ids, close_id = _asking(policy) if trials else ([], -1)
    rows = probe_rows(recipe)
    generations = sample_questions(recipe, policy, rows, "samples")
    records = verify_generations(
        policy, sampled_rows(recipe, rows), generations, "samples", verifier, recipe.task.manner
    )
    thoughts = [_thought(policy, each) for each in generations]
    frame = pd.DataFrame(
        {
            "question_id": records["question_id"],
            "group": records["group"],
            "gold": records["gold"],
            "completion": records["completion"],
            "answer": records["answer"],
            "correct": records["correct"],
            "confidences": _confidences(policy, generations, settings.batch_size),
            "thought_tokens": [each.tokens for each in thoughts],
        }
    )
    if trials:
        frame = frame.assign(**_trials(policy, generations, thoughts, records["gold"], verifier, ask_ids, close_id))
    return _named(frame, verifier), policy


def _asking(policy: Policy) -> tuple[list[int], int]:
    """Tokens that close a thought and open an answer, and the one that closes an answer."""

    def ids(text: str) -> list[int]:
        return list(policy.tokenizer(text, add_special_tokens=False)["input_ids"])

    closing = f"</{TAG_NAMES['answer']}>"
    found = ids(closing)
    if len(found) != 1:
        raise ConfigError(
            f"trial answers: {closing} is {len(found)} tokens of this tokenizer, expected one "
            "(model.add_template_tokens makes it one)"
        )
    return ids(f"</{TAG_NAMES['reasoning']}><{TAG_NAMES['answer']}>"), found[0]


def _thought(policy: Policy, generation: Generation) -> _Thought:
    segmenter, text = StepSegmenter(step_rules(policy.template)), generation.decoded.text
    tokens, ends = 0, []
    for place, (start, end) in enumerate(itertools.pairwise((0, *generation.decoded.ends)), 1):
        closes = segmenter.push(text[start:end]).closes
        if segmenter.inside:
            tokens = place
            ends += [place] * closes
    return _Thought(tokens, tuple(ends))


def _confidences(policy: Policy, generations: Sequence[Generation], batch_size: int) -> list[list[float]]:
    read = []
    for first in range(0, len(generations), batch_size):
        batch = generations[first : first + batch_size]
        ids = [each.completion_ids for each in batch]
        statistics = completion_statistics(
            policy.model, [each.prompt_ids for each in batch], ids, pad_token_id=policy.tokenizer.pad_token_id
        )
        rows = statistics.token_confidence.tolist()
        read += [row[: len(each)] for row, each in zip(rows, ids, strict=True)]
    return read


def _trials(
    policy: Policy,
    generations: Sequence[Generation],
    thoughts: Sequence[_Thought],
    golds: Sequence[str],
    verifier: Verifier,
    ask_ids: Sequence[int],
    close_id: int,
) -> dict[str, list[list[Any]]]:
    contexts = [
        [(*each.prompt_ids, *each.completion_ids[:place]) for place in thought.ends]
        for each, thought in zip(generations, thoughts, strict=True)
    ]
    distinct = sorted({each for row in contexts for each in row}, key=len)
    draw = partial(
        trial_answers,
        policy.model,
        ask_ids=ask_ids,
        end_ids=[*policy.end_ids, close_id],
        pad_token_id=policy.tokenizer.pad_token_id,
        max_new_tokens=_LONGEST_TRIAL,
    )
    drawn: dict[tuple[int, ...], tuple[str | None, float, int]] = {}
    for first in range(0, len(distinct), 256):
        batch = distinct[first : first + 256]
        for context, (ids, confidence) in zip(batch, draw(batch), strict=True):
            text = policy.tokenizer.decode(ids).strip()
            drawn[context] = text or None, confidence, len(ask_ids) + len(ids) + 1
    answers = [[drawn[each] for each in row] for row in contexts]
    asked = [(gold, answer) for gold, row in zip(golds, answers, strict=True) for answer, _, _ in row]
    verdicts = iter(verifier.verify(golds=[gold for gold, _ in asked], answers=[answer for _, answer in asked]))
    return dict(
        zip(
            TRIALS,
            (
                [list(each.ends) for each in thoughts],
                [[answer for answer, _, _ in row] for row in answers],
                [[float(next(verdicts).correct or 0.0) for _ in row] for row in answers],
                [[confidence for _, confidence, _ in row] for row in answers],
                [[tokens for _, _, tokens in row] for row in answers],
            ),
            strict=True,
        )
    )


def _named(frame: pd.DataFrame, verifier: Verifier) -> pd.DataFrame:
    """The samples with equivalent answers under one name, those of trials too; what could not be judged is wrong."""
    given: dict[str, dict[str, None]] = {}
    columns = [
        frame["answer"].map(lambda each: [each]),
        *([frame["trial_answers"]] if "trial_answers" in frame else ()),
    ]
    for column in columns:
        for question, answers in zip(frame["question_id"], column, strict=True):
            given.setdefault(question, {}).update(dict.fromkeys(a for a in answers if isinstance(a, str)))
    names = voting_names({question: list(answers) for question, answers in given.items()}, verifier)

    def named(question: str, answer: Any) -> str | None:
        return names[question][answer] if isinstance(answer, str) else None

    pairs = list(zip(frame["question_id"], frame["answer"], strict=True))
    frame = frame.assign(vote_as=[named(*pair) for pair in pairs], correct=frame["correct"].fillna(0.0))
    if "trial_answers" in frame:
        rows = zip(frame["question_id"], frame["trial_answers"], strict=True)
        frame["trial_answers"] = [[named(question, each) for each in row] for question, row in rows]
    return frame
