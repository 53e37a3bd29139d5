"""A policy's own answers to the questions that it is to be trained on, written down and judged before the first step.

The file ``own_answers.parquet`` of a run has a row an answer: ``question_id prompt gold completion answer correct``
(null where nobody could judge), ``status``, ``confidence`` where the run ranks by one, with the estimator that gave it
and its options as ``feedback``, ``voted_as`` (a text that all answers to the question share which mean the same),
``prompt_ids`` and ``completion_ids``, and ``vocabulary``, a digest of the tokenizer that these are of. It is written in
parts, so that a run that was stopped goes on with those that are missing.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from estimators.estimator import Estimator
from experiments.config.recipe import Recipe
from experiments.errors import ConfigError, DataError
from experiments.probe.estimates import estimate_generations
from experiments.probe.generate import Generation, Policy, first_tokens, generate, prompt_text
from experiments.probe.samples import voting_names
from experiments.probe.tables import read_table
from rewards.verifiers.verifier import Verifier
from rl.checkpoint import vocabulary_digest, whole_parameters
from rl.files import replacing
from rl.monitoring.progress import tell

OWN_ANSWERS = "own_answers.parquet"
_PARTS = "own_answers"
_PART = 2000
"""Answers in a part."""
NEEDED = ("question_id", "completion", "correct", "prompt_ids", "completion_ids", "vocabulary")


def own_answers(
    recipe: Recipe,
    arguments: Any,
    policy: Policy,
    verifier: Verifier,
    out: Path,
    questions: Sequence[dict[str, Any]],
    estimator: Estimator | None = None,
) -> pd.DataFrame:
    """The judged answers that a run in the folder ``out`` trains on: read where they are there, else written.

    ``arguments`` are a :class:`rl.own_answers_config.OwnAnswersConfig`; ``questions`` have ``id``, ``prompt`` and
    ``answer``; of a file of another run's answers those to longer prompts than ``task.max_prompt_tokens`` are left out.
    ``estimator`` gives the column ``confidence``, 0 where it has no value. Every rank answers its share of the
    questions, with whole weights where ZeRO-3 has split them, and has all answers in the end. Raises ConfigError for a
    file of answers that cannot be used.
    """
    if arguments.own_answers is not None:
        given = _checked(Path(arguments.own_answers), policy, estimator)
        return to_short_prompts(given, recipe.task.max_prompt_tokens)
    state, kept = PartialState(), out / OWN_ANSWERS
    if _there(kept):
        return _checked(kept, policy, estimator)
    branches = getattr(arguments, "answers_decoding", "sampled") == "branches"
    asked = max(_PART // arguments.answers_per_question, 1)
    frames = []
    for number, first in enumerate(range(0, len(questions), asked)):
        part = out / _PARTS / f"{number:05d}.parquet"
        if not _there(part):
            share = list(enumerate(questions[first : first + asked]))[state.process_index :: state.num_processes]
            seed = arguments.seed + 1000 * number + state.process_index
            asked_rows = [row for _, row in share]
            with whole_parameters(list(policy.model.parameters()), changed=False):
                written = _answer(recipe, arguments, policy, verifier, asked_rows, branches, seed, estimator)
            per = arguments.answers_per_question
            numbered = [(share[place // per][0], place, each) for place, each in enumerate(written)]
            gathered = gather_object(numbered) if state.num_processes > 1 else numbered
            if state.is_main_process:
                frame = pd.DataFrame([each for *_, each in sorted(gathered, key=lambda each: each[:2])])
                with replacing(part) as partial:
                    frame.to_parquet(partial, index=False)
            state.wait_for_everyone()
        frames.append(pd.read_parquet(part))
        if state.is_main_process:
            done = min(first + asked, len(questions))
            tell(f"{recipe.name}: {done} of {len(questions)} training questions answered")
    frame = pd.concat(frames, ignore_index=True)
    if state.is_main_process:
        with replacing(kept) as partial:
            frame.to_parquet(partial, index=False)
        shutil.rmtree(out / _PARTS, ignore_errors=True)
    state.wait_for_everyone()
    return frame


def _answer(
    recipe: Recipe,
    arguments: Any,
    policy: Policy,
    verifier: Verifier,
    rows: Sequence[dict[str, Any]],
    branches: bool,
    seed: int,
    estimator: Estimator | None,
) -> list[dict[str, Any]]:
    """Answers to the questions of ``rows``, those to one after another."""
    per, size = arguments.answers_per_question, arguments.answers_batch_size
    begun = None
    if branches:
        found = first_tokens(policy, [row["prompt"] for row in rows], per, batch_size=size)
        begun = [[token] for tokens in found for token in tokens]
    repeated = [row for row in rows for _ in range(per)]
    generations = generate(
        policy,
        [row["prompt"] for row in repeated],
        max_new_tokens=arguments.answers_max_tokens,
        batch_size=size,
        title=None,
        temperature=arguments.answers_temperature,
        seed=seed,
        begun=begun,
    )
    return _judged(policy, repeated, generations, verifier, estimator, size)


def _judged(
    policy: Policy,
    rows: Sequence[dict[str, Any]],
    generations: Sequence[Generation],
    verifier: Verifier,
    estimator: Estimator | None,
    batch_size: int,
) -> list[dict[str, Any]]:
    parsed = [
        policy.template.parse(each.decoded.text, truncated=not each.decoded.finished, lenient=True)
        for each in generations
    ]
    verdicts = verifier.verify(golds=[row["answer"] for row in rows], answers=[each.answer for each in parsed])
    confidences: list[float | None] = [None] * len(rows)
    voted: list[str | None] = [each.answer for each in parsed]
    if estimator is not None:
        estimate = estimate_generations(policy, generations, {"feedback": estimator}, batch_size=batch_size)["feedback"]
        confidences = torch.where(estimate.valid_B, estimate.values_B, 0.0).tolist()
        given: dict[str, dict[str, None]] = {}
        for row, each in zip(rows, parsed, strict=True):
            given.setdefault(row["id"], {}).update({} if each.answer is None else {each.answer: None})
        names = voting_names({question: list(answers) for question, answers in given.items()}, verifier)
        voted = [
            None if each.answer is None else names[row["id"]][each.answer]
            for row, each in zip(rows, parsed, strict=True)
        ]
    vocabulary = vocabulary_digest(policy.tokenizer)
    return [
        {
            "question_id": str(row["id"]),
            "prompt": prompt_text(row["prompt"]),
            "gold": row["answer"],
            "completion": generation.decoded.text,
            "answer": each.answer,
            "correct": verdict.correct,
            "status": str(each.status),
            "confidence": confidence,
            "voted_as": vote,
            "prompt_ids": list(generation.prompt_ids),
            "completion_ids": list(generation.completion_ids),
            "vocabulary": vocabulary,
            "feedback": None if estimator is None else repr(estimator),
        }
        for row, generation, each, verdict, confidence, vote in zip(
            rows, generations, parsed, verdicts, confidences, voted, strict=True
        )
    ]


def check_own_answers(arguments: Any, ranks: Estimator | None) -> None:
    """Raise ConfigError, before a model loads, for a file of answers that is not there or lacks a column.

    So too for one whose confidence is of another estimator than ``ranks``, where that ranks the answers.
    """
    if arguments.own_answers is None:
        return
    try:
        table = read_table(arguments.own_answers)
        table.require((*NEEDED, *([] if ranks is None else ["confidence", "feedback"])), ())
    except DataError as error:
        raise ConfigError(f"trainer.own_answers: {error}") from error
    others = [] if ranks is None else sorted(set(table.frame["feedback"].fillna("nothing")) - {repr(ranks)})
    if others:
        raise ConfigError(
            f"trainer.own_answers: {arguments.own_answers} holds the confidence by {others[0]}, and trainer.feedback "
            f"{arguments.feedback} is {ranks!r}; leave trainer.own_answers out to have them answered and read anew"
        )


def _checked(path: Path, policy: Policy, estimator: Estimator | None) -> pd.DataFrame:
    try:
        frame = read_table(path).frame
    except DataError as error:
        raise ConfigError(f"trainer.own_answers: {error}") from error
    if set(frame["vocabulary"]) != {vocabulary_digest(policy.tokenizer)}:
        raise ConfigError(f"trainer.own_answers: {path} holds tokens of another tokenizer than that of model.path")
    if estimator is not None and ("confidence" not in frame or frame["confidence"].isna().any()):
        raise ConfigError(f"trainer.own_answers: {path} holds answers without the confidence that ranks them")
    return frame


def to_short_prompts(frame: pd.DataFrame, limit: int | None) -> pd.DataFrame:
    """The answers to prompts of at most ``limit`` tokens. Raises ConfigError where there are none."""
    if limit is None:
        return frame
    lengths = frame["prompt_ids"].map(len)
    if lengths.min() > limit:
        raise ConfigError(f"task.max_prompt_tokens: {limit} leaves no prompt, the shortest has {lengths.min()} tokens")
    if PartialState().is_main_process and lengths.max() > limit:
        longer = f"{(lengths > limit).sum():,} of {len(frame):,} answers"
        tell(f"task.max_prompt_tokens: {longer} are to prompts of more than {limit} tokens and are left out")
    return frame[lengths <= limit].reset_index(drop=True)


def _there(path: Path) -> bool:
    """Whether the main process sees a file; the same on every rank."""
    found = [path.is_file()]
    if PartialState().num_processes > 1:
        broadcast_object_list(found)
    return found[0]
