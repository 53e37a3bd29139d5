"""A hidden probe from the records of a checkpoint: what was written is read again, and its states are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from estimators.hidden_probe import HiddenProbeFacts, Kind, fit_hidden_probe, places, save_hidden_probe
from estimators.hidden_states import HiddenStates, Identity, Position, hidden_states
from experiments.config.models import open_policy
from experiments.config.recipe import Recipe
from experiments.errors import DataError
from experiments.probe.generate import Policy
from rl.checkpoint import read_template
from rl.rollout import encode_prompt
from rl.segments import as_completions, decode_completion


def fit_from_records(
    checkpoint: str | Path,
    recipe: Recipe,
    records: pd.DataFrame,
    out: Path,
    *,
    position: Position,
    layers: Sequence[int],
    kind: Kind = "linear",
    seed: int = 0,
) -> tuple[HiddenProbeFacts, int]:
    """Fit a hidden probe to a records table of the checkpoint, save it in ``out``; returns its facts and what was left.

    A record whose text this tokenizer does not write in as many tokens as were counted, or in other letters, was not
    written so and is left out: the second value is their number. Completions that several methods share count once.
    Raises DataError where prompts, completions or verdicts are missing, ValueError as
    :func:`estimators.hidden_probe.fit_hidden_probe` and :func:`estimators.hidden_states.hidden_states` do.
    """
    wanted = places(position, layers)
    told = records.dropna(subset=["prompt", "completion", "correct"]).drop_duplicates(["question_id", "completion"])
    if told.empty:
        raise DataError("hidden-probe: no record has a prompt, a completion and a verdict")
    model, tokenizer = open_policy(
        checkpoint, "hidden-probe", dtype=recipe.model.dtype, attn_implementation=recipe.model.attn_implementation
    )
    policy = Policy(model.eval(), tokenizer, read_template(str(checkpoint)) or recipe.template)
    kept, prompts, ids, decoded = [], [], [], []
    for row in told.itertuples():
        tokens = [*tokenizer.encode(row.completion, add_special_tokens=False), tokenizer.eos_token_id]
        if not pd.isna(row.completion_tokens):
            tokens = tokens[: int(row.completion_tokens)]  # one that was cut off has no end
        read = decode_completion(tokenizer, tokens, policy.end_ids)
        if read.text == row.completion and (pd.isna(row.completion_tokens) or len(tokens) == row.completion_tokens):
            kept.append(row.Index)
            prompts.append(encode_prompt(tokenizer, _asked(row.prompt, recipe)))
            ids.append(tokens)
            decoded.append(read)
    told, left = told.loc[kept], len(told) - len(kept)
    parsed = [policy.template.parse(each.text, truncated=not each.finished, lenient=True) for each in decoded]
    completions = as_completions(prompts, ids, parsed, decoded)
    states = hidden_states(
        model,
        prompts,
        completions.completion_ids,
        completions.answer_BT,
        completions.confidence_BT,
        wanted,
        pad_token_id=tokenizer.pad_token_id,
        batch_size=recipe.probe.batch_size,
    )
    probe, facts = fit_hidden_probe(
        HiddenStates(Identity.of(model, tokenizer), states),
        torch.tensor(told["correct"].to_numpy(dtype=float)),
        position=position,
        layers=layers,
        kind=kind,
        groups=told["question_id"].tolist(),
        seed=seed,
    )
    save_hidden_probe(out, probe, facts)
    return facts, left


def _asked(prompt: str, recipe: Recipe) -> str | list[dict[str, str]]:
    """A prompt as the task asked it: records hold a chat's one message as ``user: text``."""
    if not recipe.task.chat:
        return prompt
    return [{"role": "user", "content": prompt.removeprefix("user: ")}]
