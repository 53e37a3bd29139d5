"""What a method that trains on the policy's own answers is trained on: rows of tokens, and a file that says of which.

``annotated.parquet`` has the answers (see :mod:`experiments.probe.own_answers`) with ``target``, what the answer was to
state, and ``learnt``: "answer and confidence", "confidence" or why nothing was. ``preferences.parquet`` has a row a
pair: ``question_id prompt chosen rejected``, the confidence and the verdict of each, and the ``margin``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from accelerate import PartialState
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from estimators import ESTIMATORS
from experiments.config.recipe import Recipe
from experiments.errors import ConfigError
from experiments.probe.generate import Policy
from experiments.probe.own_answers import own_answers
from rewards.verifiers.verifier import Verifier
from rl.confidence_tokens import (
    IGNORED,
    Example,
    JudgedAnswer,
    add_marks,
    drawn_down,
    marked_example,
    restated_example,
    solve_rates,
)
from rl.files import replacing
from rl.own_answers_config import VERDICT
from rl.segments import decode_completion
from rl.self_feedback import preference_pairs

Questions = Sequence[dict[str, Any]]
"""``id``, ``prompt`` and ``answer`` of each question that the policy answers."""
ANNOTATED, PREFERENCES = "annotated.parquet", "preferences.parquet"


@dataclass(frozen=True)
class Preparation:
    """How the training rows of a method come about, once its policy is loaded."""

    rows: Callable[[Recipe, Any, Policy, Verifier, Path, Questions], list[dict[str, Any]]]
    """Rows of tokens, from ``(recipe, arguments, policy, verifier, run, questions)``."""
    example: dict[str, Any]
    """A row as they are, for a trainer that is built without training."""
    ready: Callable[[Recipe, PreTrainedModel, PreTrainedTokenizerBase], None] = lambda recipe, model, tokenizer: None
    """Makes the policy what is trained, behind its answers."""

    def dataset(
        self,
        recipe: Recipe,
        arguments: Any,
        model: Any,
        tokenizer: Any,
        verifier: Any,
        run: Path,
        questions: Dataset,
    ) -> Dataset:
        """The rows to train on, from ``questions`` as the run asks them. Raises ConfigError where there are none."""
        policy = Policy(model.to(arguments.device), tokenizer, recipe.template)
        rows = self.rows(recipe, arguments, policy, verifier, run, questions.to_list())
        if not rows:
            raise ConfigError(
                f"trainer.method: {recipe.method} finds nothing to learn in the policy's own answers, see {run}"
            )
        return Dataset.from_list(rows)


def _with_marks(recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    if recipe.template.confidence == "token":
        add_marks(model, tokenizer, recipe.template.levels or ())


def _marked(
    recipe: Recipe, arguments: Any, policy: Policy, verifier: Verifier, run: Path, questions: Questions
) -> list[dict[str, Any]]:
    frame = own_answers(recipe, arguments, policy, verifier, run, questions)
    answers = _answers(policy, frame)
    _with_marks(recipe, policy.model, policy.tokenizer)
    examples = [marked_example(policy.tokenizer, recipe.template, each, arguments.trained_answers) for each in answers]
    usable = [row for row, each in enumerate(examples) if each is not None]
    stay = drawn_down([frame["correct"][row] != 1.0 for row in usable], arguments.unconfident_ratio, arguments.seed)
    left_out = {row for row, kept in zip(usable, stay, strict=True) if not kept}
    targets = [None] * len(answers)
    if recipe.template.confidence == "token":
        marks = recipe.template.levels or ()
        targets = [None if each.correct is None else marks[each.correct == 1.0] for each in answers]
    return _annotated(frame, examples, targets, left_out, arguments.max_length, run)


def _restated(
    recipe: Recipe, arguments: Any, policy: Policy, verifier: Verifier, run: Path, questions: Questions
) -> list[dict[str, Any]]:
    frame = own_answers(recipe, arguments, policy, verifier, run, questions)
    answers = _answers(policy, frame)
    verdicts = [each.correct for each in answers]
    targets = verdicts
    if arguments.confidence_target == "question":
        targets = solve_rates(frame["question_id"].tolist(), verdicts)
    examples = [
        None
        if target is None
        else restated_example(policy.tokenizer, recipe.template, each, target, arguments.trained_answers)
        for each, target in zip(answers, targets, strict=True)
    ]
    return _annotated(frame, examples, targets, set(), arguments.max_length, run)


def _annotated(
    frame: pd.DataFrame,
    examples: Sequence[Example | None],
    targets: Sequence[Any],
    left_out: set[int],
    max_length: int | None,
    run: Path,
) -> list[dict[str, Any]]:
    """The rows of the examples, and the file that says which of the answers they are."""
    learnt, rows = [], []
    for row, (example, verdict) in enumerate(zip(examples, frame["correct"], strict=True)):
        if example is None:
            learnt.append("nothing: not judged" if pd.isna(verdict) else "nothing: not read, or nothing to say of it")
        elif row in left_out:
            learnt.append("nothing: one wrong answer too many")
        elif max_length is not None and len(example.input_ids) > max_length:
            learnt.append("nothing: longer than trainer.max_length")
        else:
            whole = sum(label != IGNORED for label in example.labels) > 2  # beside a mark and the end
            learnt.append("answer and confidence" if whole else "confidence")
            rows.append({"input_ids": example.input_ids, "labels": example.labels})
    if PartialState().is_main_process:
        with replacing(run / ANNOTATED) as partial:
            frame.assign(target=list(targets), learnt=learnt).to_parquet(partial, index=False)
    return rows


def feedback_estimator(recipe: Recipe, arguments: Any) -> Any:
    """The estimator that ranks, as the recipe configures it; None for verdicts, and where nothing is ranked."""
    name = getattr(arguments, "feedback", VERDICT)
    return None if name == VERDICT else recipe.estimators.get(name) or ESTIMATORS[name]()


def _pairs(
    recipe: Recipe, arguments: Any, policy: Policy, verifier: Verifier, run: Path, questions: Questions
) -> list[tuple[Any, Any, Any]]:
    """Rows of the chosen and of the rejected answer, and the margin, of every pair."""
    ranks = feedback_estimator(recipe, arguments) or ESTIMATORS["answer_margin"]()
    frame = own_answers(recipe, arguments, policy, verifier, run, questions, ranks)
    if arguments.feedback == VERDICT:
        frame["confidence"] = frame["correct"].fillna(0.0)
    found = []
    for _, group in frame.groupby("question_id", sort=False):
        rows = list(group.itertuples())
        pairs = preference_pairs(
            group["confidence"].tolist(),
            [None if pd.isna(each) else each for each in group["voted_as"]],
            [None if pd.isna(each) else each for each in group["correct"]],
            among=arguments.pairs_among,
            least_confidence=arguments.least_confidence,
            least_lead=arguments.least_lead,
            most=arguments.pairs_per_question,
        )
        found += [(rows[pair.chosen], rows[pair.rejected], pair.margin) for pair in pairs]
    if PartialState().is_main_process:
        with replacing(run / PREFERENCES) as partial:
            pd.DataFrame([_described(*each) for each in found]).to_parquet(partial, index=False)
    return found


def _described(chosen: Any, rejected: Any, margin: float) -> dict[str, Any]:
    sides = {"chosen": chosen, "rejected": rejected}
    return {
        "question_id": chosen.question_id,
        "prompt": chosen.prompt,
        **{name: each.completion for name, each in sides.items()},
        **{f"{name}_confidence": each.confidence for name, each in sides.items()},
        **{f"{name}_correct": each.correct for name, each in sides.items()},
        "margin": margin,
    }


def _compared(
    recipe: Recipe, arguments: Any, policy: Policy, verifier: Verifier, run: Path, questions: Questions
) -> list[dict[str, Any]]:
    return [
        {
            "prompt_ids": list(chosen.prompt_ids),
            "chosen_ids": list(chosen.completion_ids),
            "rejected_ids": list(rejected.completion_ids),
        }
        for chosen, rejected, _ in _pairs(recipe, arguments, policy, verifier, run, questions)
    ]


def _weighed(
    recipe: Recipe, arguments: Any, policy: Policy, verifier: Verifier, run: Path, questions: Questions
) -> list[dict[str, Any]]:
    return [
        {
            "chosen_ids": [*chosen.prompt_ids, *chosen.completion_ids],
            "rejected_ids": [*rejected.prompt_ids, *rejected.completion_ids],
            "margin": margin,
        }
        for chosen, rejected, margin in _pairs(recipe, arguments, policy, verifier, run, questions)
    ]


def _answers(policy: Policy, frame: pd.DataFrame) -> list[JudgedAnswer]:
    """The answers of a frame, decoded and read anew: its tokens are what counts."""
    answers, alone = [], dict[int, str]()
    for row in frame.itertuples():
        ids = tuple(int(token) for token in row.completion_ids)
        decoded = decode_completion(policy.tokenizer, ids, (*policy.end_ids, policy.tokenizer.pad_token_id), alone)
        parsed = policy.template.parse(decoded.text, truncated=not decoded.finished, lenient=True)
        correct = None if pd.isna(row.correct) else float(row.correct)
        prompt_ids = tuple(int(token) for token in row.prompt_ids)
        answers.append(JudgedAnswer(row.question_id, prompt_ids, ids, decoded, parsed, correct))
    return answers


_LABELLED = {"input_ids": [0, 0], "labels": [0, 0]}
PREPARATIONS = {
    "self_ref": Preparation(_marked, _LABELLED, _with_marks),
    "recalibrate": Preparation(_restated, _LABELLED),
    "rlsf_dpo": Preparation(_compared, {"prompt_ids": [0], "chosen_ids": [0], "rejected_ids": [0]}),
    "rlsf_reward": Preparation(_weighed, {"chosen_ids": [0], "rejected_ids": [0], "margin": 1.0}),
}
"""Name of a method -> how its rows come about; the others have theirs from the task alone."""
