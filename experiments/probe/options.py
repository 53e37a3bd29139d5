"""None of the above: does confidence fall where the right option is not there? Self-REF's rejection, with a control.

Each option is scored by the probability of being written as the answer, end included; the answer is the best option,
its confidence that probability or its share of all options'. From every question three sets are made: *intact*, the
right option *removed*, and as a *control* a wrong one removed. Removing an option leaves fewer of them, which alone
raises a share, so that telling removed from intact is only worth what telling removed from control is. Self-REF (arXiv
2410.13284) removes from half of the questions and has no control; here every question is in each set, and the sets of
one question are resampled together.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from estimators.metrics.abstention import rejected_at
from estimators.metrics.resampling import Interval, bootstrap, mean_interval
from estimators.metrics.selective import auroc
from experiments.errors import DataError
from experiments.probe.generate import Policy
from experiments.probe.tables import read_jsonl
from experiments.tasks.biographies import RELATIONS, UNKNOWN
from rl.monitoring.progress import Meter
from rl.rollout import encode_prompt

SETS = ("intact", "removed", "control")


@dataclass(frozen=True)
class Choice:
    """A question with its options, the right one first."""

    item: str
    """What other wordings of the question share."""
    prompt: Any
    options: tuple[str, ...]


def read_choices(path: Path) -> list[Choice]:
    """Questions of a JSON-lines file: ``question`` (or ``prompt``), ``choices`` and the right one as ``answer``.

    Raises DataError naming the line for fewer than three choices, and for an answer that is not one of them.
    """
    rows, places = read_jsonl(path)
    found = []
    for row, place in zip(rows, places, strict=True):
        question, options, answer = row.get("question", row.get("prompt")), row.get("choices"), row.get("answer")
        if not isinstance(question, str) or not isinstance(options, list) or len(set(map(str, options))) < 3:
            raise DataError(f"{path}, {place}: expected question, and choices with at least three different texts")
        if answer not in options:
            raise DataError(f"{path}, {place}: answer is {answer!r}, expected one of the choices")
        others = [str(each) for each in options if each != answer]
        found.append(Choice(str(row.get("id", place)), question, (str(answer), *others)))
    return found


def choices_of_facts(rows: Sequence[dict[str, Any]], count: int = 4, seed: int = 0) -> list[Choice]:
    """Questions of the task ``facts`` that have an answer, each with ``count - 1`` other values of its relation."""
    values = {relation.name: relation.values for relation in RELATIONS}
    found = []
    for row in rows:
        if row["answer"] != UNKNOWN:
            others = [each for each in values[row["relation"]] if each != row["answer"]]
            drawn = random.Random(f"options/{seed}/{row['id']}").sample(others, count - 1)
            found.append(Choice(row["item"], row["prompt"], (row["answer"], *drawn)))
    return found


@torch.no_grad()
def option_log_probs(policy: Policy, choices: Sequence[Choice], batch_size: int = 64) -> list[np.ndarray]:
    """Log-probability (K,) in nats of each option of each question as the whole answer, its closing tag included."""
    pairs, lengths = [], []
    for choice in choices:
        prompt = encode_prompt(policy.tokenizer, choice.prompt)
        opening = policy.tokenizer.encode("<answer>", add_special_tokens=False)
        for option in choice.options:
            answer = policy.tokenizer.encode(f"<answer>{option}</answer>", add_special_tokens=False)
            pairs.append((prompt + answer, len(prompt) + len(opening)))
        lengths.append(len(choice.options))
    device, pad = policy.model.device, policy.tokenizer.pad_token_id
    scores: list[float] = []
    policy.model.eval()
    with Meter(len(pairs), "options", unit="option") as meter:
        for first in range(0, len(pairs), batch_size):
            batch = pairs[first : first + batch_size]
            width = max(len(ids) for ids, _ in batch)
            ids = torch.tensor([each + [pad] * (width - len(each)) for each, _ in batch], device=device)
            mask = torch.tensor([[1] * len(each) + [0] * (width - len(each)) for each, _ in batch], device=device)
            logits = policy.model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
            chosen = logits.log_softmax(dim=-1).gather(-1, ids[:, 1:, None]).squeeze(-1).double().cpu()
            scores += [
                float(row[start - 1 : len(each) - 1].sum()) for row, (each, start) in zip(chosen, batch, strict=True)
            ]
            meter.reach(first + len(batch))
    return np.split(np.array(scores), np.cumsum(lengths)[:-1])


def confidences(log_probs: Sequence[np.ndarray], seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """``probability`` and ``share`` -> set -> confidence (N,) of the best option in it; ``right`` (N,) of intact.

    ``log_probs`` are those of :func:`option_log_probs`, the right option first.
    """
    found: dict[str, dict[str, list[float]]] = {name: {each: [] for each in SETS} for name in ("probability", "share")}
    right = []
    for number, each in enumerate(log_probs):
        left_out = random.Random(f"control/{seed}/{number}").randrange(1, len(each))
        for name, kept in (("intact", each), ("removed", each[1:]), ("control", np.delete(each, left_out))):
            best = float(np.exp(kept.max()))
            found["probability"][name].append(min(best, 1.0))
            found["share"][name].append(float(1.0 / np.exp(kept - kept.max()).sum()))
        right.append(float(each.argmax() == 0))
    tables = {kind: {name: np.array(values) for name, values in sets.items()} for kind, sets in found.items()}
    return tables | {"right": {"intact": np.array(right)}}


def measure_rejection(
    tables: dict[str, dict[str, np.ndarray]], items: Sequence[str], resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Confidence -> figure -> {value, low, high, n}; figures against ``intact`` and against ``control``.

    ``auroc_*`` is of telling removed from the other, ``rejected_at_fpr_*`` the share of removed that a threshold
    rejects where it rejects so much of the other; ``mean_*`` the mean confidences, ``accuracy`` that of intact.
    Questions of the same of ``items`` (N,) are resampled together.
    """
    codes = np.unique(np.asarray(items), return_inverse=True)[1]
    alone: dict[str, Any] = {"groups": codes, "resamples": resamples, "seed": seed}
    paired: dict[str, Any] = alone | {"groups": np.tile(codes, 2)}
    accuracy = asdict(mean_interval(tables["right"]["intact"], **alone))
    found: dict[str, Any] = {}
    for kind in ("share", "probability"):
        sets = tables[kind]
        n = len(sets["intact"])
        entries: dict[str, Interval] = {}
        for other in ("intact", "control"):
            values = np.concatenate([sets["removed"], sets[other]])
            gone = np.repeat([1.0, 0.0], n)
            entries[f"auroc_{other}"] = bootstrap(auroc, values, 1.0 - gone, **paired)
            for rate in (0.05, 0.1):
                entries[f"rejected_at_fpr_{rate}_{other}"] = bootstrap(
                    lambda a, b, rate=rate: rejected_at(a, b, rate), values, gone, **paired
                )
        entries |= {f"mean_{name}": mean_interval(sets[name], **alone) for name in SETS}
        found[kind] = {name: asdict(each) for name, each in entries.items()} | {"accuracy": accuracy}
    return found
