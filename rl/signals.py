"""Which values a rubric needs beside the verdicts, and where they are read.

An estimator's value is a signal by the estimator's name. It is read in a pass over the completions that is made anyway
(:mod:`rl.generation_statistics`). Only ``reference_probability`` needs a pass of its own: the model has not written the
gold answer, so it must be asked (arXiv 2506.18254): one forward of every completion up to its answer, and for
``reference_probability_prior`` one of every prompt.

Shapes: B completions of this rank, T completion tokens (padded).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from estimators import ESTIMATORS
from estimators.estimator import LEVELS, PRIOR, TOKEN_STATISTICS, Completions, Estimator, read_by
from estimators.forward_passes import completion_statistics
from estimators.token_statistics import TokenStatistics
from rewards.completion import ParsedCompletion
from rewards.markup import TAG_NAMES
from rewards.template import AnswerTemplate
from rewards.terms.preference import REWARD_MODEL
from rewards.verifiers.text import token_f1
from rl.generation_statistics import GenerationStatistics
from rl.reward_model import RewardModel
from rl.rollout import ReadCompletions, VerifiedRollout, read_completions
from rl.segments import DecodedCompletion, LevelTokens, as_completions, first_token, step_rules

_NGRAM = 4

READABLE = frozenset({TOKEN_STATISTICS, LEVELS, PRIOR})
"""What training knows of its own completions: estimators that need no more are signals."""
ESTIMATED = tuple(name for name, kind in ESTIMATORS.items() if kind.needs <= READABLE)
MODEL_SIGNALS = (REWARD_MODEL,)
"""What another model says of a completion (:mod:`rl.reward_model`)."""
REFERENCE_SIGNALS = ("reference_probability", "reference_probability_prior")


def unreadable(name: str) -> list[str]:
    """What an estimator of this name needs that training does not know of its completions; nothing of another signal.

    >>> unreadable("agreement"), unreadable("entropy"), unreadable("repetition")
    (['samples'], [], [])
    """
    return sorted(ESTIMATORS[name].needs - READABLE) if name in ESTIMATORS else []


def repeated_ngrams(ids: Sequence[int]) -> float:
    """Share in [0, 1] of a completion's 4-grams of tokens that occurred before in it; 0 where it has none.

    >>> round(repeated_ngrams([1, 2, 3, 4, 1, 2, 3, 4]), 6)
    0.2
    """
    ngrams = [tuple(ids[first : first + _NGRAM]) for first in range(len(ids) - _NGRAM + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def _stakes(parsed: ParsedCompletion) -> list[float]:
    return [value for value, _ in parsed.step_confidences if value is not None] or [float("nan")]


TEXT_SIGNALS: dict[str, Callable[[ParsedCompletion, Sequence[int], str], float]] = {
    "repetition": lambda parsed, ids, gold: repeated_ngrams(ids),
    "step_confidence": lambda parsed, ids, gold: sum(_stakes(parsed)) / len(_stakes(parsed)),
    "token_f1": lambda parsed, ids, gold: token_f1(gold=gold, answer=parsed.answer or ""),
}
"""Signals that need no model, from a completion, its ids and its gold."""
SIGNALS = (*ESTIMATED, *REFERENCE_SIGNALS, *MODEL_SIGNALS, *TEXT_SIGNALS)
"""Every name that a term may ask for."""


@dataclass(frozen=True, slots=True)
class PlacedGold:
    """A gold answer in the place of a completion's own: behind tokens, and behind text that is no token's end."""

    before_ids: Sequence[int]
    """The prompt, and what the completion wrote before its answer, in whole tokens."""
    bridge: str
    """Text between them and the gold, encoded together with it."""
    gold: str


class SignalReader:
    """Reads the signals of a rubric off the completions of a policy, for one rank.

    ``options`` are the estimators as a recipe configures them; those it leaves out have their defaults. ``generates``
    says whether the policy itself generates, token by token; if not, its scoring pass is read, see :meth:`scoring`.
    ``temperature`` is the one that the policy samples at. Passes of the reader's own take ``batch_size`` completions at
    a time, all at once where it is left out. Raises ValueError for a name that is not a signal, for an estimator that
    needs further samples or passes of its own, for one that needs confidence levels where the template has none of
    one token each or a confidence before the answer that it does not have, and for "reward_model" without one.
    """

    def __init__(
        self,
        names: Sequence[str],
        policy: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        template: AnswerTemplate,
        *,
        generates: bool,
        options: Mapping[str, Estimator] | None = None,
        batch_size: int | None = None,
        temperature: float = 1.0,
        reward_model: RewardModel | None = None,
    ) -> None:
        if REWARD_MODEL in names and reward_model is None:
            raise ValueError("rubric: the signal reward_model needs a reward model, none is given")
        self._reward_model = reward_model
        for name in names:
            if beyond := unreadable(name):
                raise ValueError(f"rubric: {name} needs {', '.join(beyond)}, which training does not give")
        unknown = [name for name in names if name not in SIGNALS]
        if unknown:
            raise ValueError(f"rubric: {', '.join(unknown)} is not a signal, allowed: {', '.join(SIGNALS)}")
        self._names, self._policy, self._tokenizer, self._template = names, policy, tokenizer, template
        self._batch_size = batch_size
        self._read: ReadCompletions = {}
        self._estimators = {
            name: (options or {}).get(name) or ESTIMATORS[name]() for name in names if name in ESTIMATED
        }
        needs = frozenset[str]().union(*(each.needs for each in self._estimators.values()))
        if PRIOR in needs and template.prior_confidence == "none":
            raise ValueError("rubric: prior_confidence needs task.template.prior_confidence: required")
        self._levels = LevelTokens.of(tokenizer, template, temperature) if LEVELS in needs else None
        self._rules = step_rules(template)
        self._statistics: GenerationStatistics | None = None
        if TOKEN_STATISTICS in needs:
            level_ids = () if self._levels is None else self._levels.ids
            self._statistics = GenerationStatistics(policy, generates=generates, level_ids=level_ids)

    @property
    def watches(self) -> bool:
        """Whether a signal is asked for that is read off the policy's own pass over the completions."""
        return self._statistics is not None

    def check_visible(self, args: Any) -> None:
        """Raise ValueError where no pass over the completions would show what is asked for, by a trainer's ``args``."""
        blind = ""
        if args.use_transformers_continuous_batching:
            blind = "use_transformers_continuous_batching: true"
        elif args.use_vllm and not args.vllm_importance_sampling_correction:
            blind = "vllm_importance_sampling_correction: false"
        if self.watches and blind:
            raise ValueError(
                f"trainer.{blind} shows no token statistics, which the rubric needs for {', '.join(self._names)}"
            )

    @property
    def asks(self) -> bool:
        """Whether a signal is asked for that takes a pass of its own, over the prompts and the golds."""
        return any(name in REFERENCE_SIGNALS for name in self._names)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Context manager: the policy's passes over completions inside it are read, until :meth:`read`."""
        if self._statistics is None:
            yield
            return
        with self._statistics.watching():
            yield

    @contextmanager
    def scoring(
        self, ids_BT: torch.Tensor, mask_BT: torch.Tensor, stop_ids: Collection[int] | None = None
    ) -> Iterator[None]:
        """Context manager: the passes inside it are over completions (B, T) that others have generated.

        Only the tokens that an estimator reads go through the head, whose text is parsed for that. A completion whose
        mask is 0 throughout is not seen by the model, and has no signals. ``stop_ids`` are the tokens that end one.
        """
        if self._statistics is None or not self._statistics.expects_scores:
            yield
            return
        ids = [row[seen == 1].tolist() for row, seen in zip(ids_BT, mask_BT, strict=True)]
        decoded, parsed = read_completions(self._tokenizer, self._template, ids, stop_ids, self._read)
        completions = as_completions([[]] * len(ids), ids, parsed, decoded, self._levels, self._rules)
        read_BT = torch.zeros_like(mask_BT, dtype=torch.bool)
        found_BT = read_by(list(self._estimators.values()), completions)
        read_BT[:, : found_BT.size(1)] = found_BT.to(read_BT.device)
        with self._statistics.scoring(read_BT):
            yield

    def take_read(self) -> ReadCompletions:
        """The completions that :meth:`scoring` has parsed, to be verified without parsing them again; forgets them."""
        read, self._read = self._read, {}
        return read

    def read(
        self,
        rollout: VerifiedRollout,
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        golds: Sequence[str],
        references: Sequence[str] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Every signal asked for, in the order of the rubric, each (B,); NaN where it is not valid.

        Where the reader :attr:`asks`, it asks for ``references``, answers as a policy
        would write them, or the golds themselves. Raises RuntimeError where the policy was not watched as it wrote.
        """
        values: dict[str, torch.Tensor] = {}
        if self._estimators:
            completions = as_completions(
                prompt_ids, completion_ids, rollout.parsed, rollout.decoded, self._levels, self._rules
            )
            statistics = self._of_tokens(completions)
            completions = completions.to(statistics.log_prob.device)
            values = {name: each(completions, statistics).values_B for name, each in self._estimators.items()}
        if self.asks:
            values |= self._references(rollout, prompt_ids, completion_ids, references or golds)
        if self._reward_model is not None and REWARD_MODEL in self._names:
            written = [ids[: len(each.ends)] for ids, each in zip(completion_ids, rollout.decoded, strict=True)]
            values[REWARD_MODEL] = self._reward_model(prompt_ids, written, self._policy.device)
        for name, measure in TEXT_SIGNALS.items():
            if name in self._names:
                rows = zip(rollout.parsed, completion_ids, golds, strict=True)
                values[name] = torch.tensor([measure(*row) for row in rows], dtype=torch.float64)
        return {name: values[name] for name in self._names}

    def _of_tokens(self, completions: Completions) -> TokenStatistics:
        if self._statistics is None:
            return TokenStatistics.empty(completions.written_BT.shape)
        return self._statistics.take(completions.completion_ids)

    def _references(
        self,
        rollout: VerifiedRollout,
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        golds: Sequence[str],
    ) -> dict[str, torch.Tensor]:
        values: dict[str, torch.Tensor] = {}
        if "reference_probability" in self._names:
            # A completion without an answer gives the gold no place to stand: probability 0.
            places = [before_answer(*each) for each in zip(rollout.parsed, rollout.decoded, strict=True)]
            rows = zip(prompt_ids, completion_ids, places, golds, strict=True)
            read = self._gold_probabilities(
                [
                    PlacedGold([*prompt, *ids[: place[0]]], place[1], gold) if place else PlacedGold(prompt, "", gold)
                    for prompt, ids, place, gold in rows
                ]
            )
            found = torch.tensor([place is not None for place in places])
            values["reference_probability"] = torch.where(found | read.isnan(), read, 0.0)
        if "reference_probability_prior" in self._names:
            opening = f"<{TAG_NAMES['answer']}>"
            values["reference_probability_prior"] = self._gold_probabilities(
                [PlacedGold(prompt, opening, gold) for prompt, gold in zip(prompt_ids, golds, strict=True)]
            )
        return values

    def _gold_probabilities(self, placed: Sequence[PlacedGold]) -> torch.Tensor:
        """Mean probability (B,) of each gold's tokens where it is placed; NaN for a blank gold."""
        texts = [_encode(self._tokenizer, each.bridge, each.gold) for each in placed]
        read = completion_statistics(
            self._policy,
            [each.before_ids for each in placed],
            [ids for ids, _ in texts],
            pad_token_id=self._tokenizer.pad_token_id,
            batch_size=self._batch_size,
        )
        rows = zip(read.log_prob, texts, strict=True)
        means = [log_probs[scored].exp().mean().item() for log_probs, (_, scored) in rows]
        return torch.tensor(means, dtype=torch.float64)


def before_answer(parsed: ParsedCompletion, decoded: DecodedCompletion) -> tuple[int, str] | None:
    """How many tokens stand whole before a completion's answer, and the text between them and it; None without one."""
    span = parsed.spans.get("answer")
    if span is None:
        return None
    count = first_token(span.start, decoded)
    return count, decoded.text[decoded.ends[count - 1] if count else 0 : span.start]


def _encode(tokenizer: PreTrainedTokenizerBase, bridge: str, gold: str) -> tuple[list[int], list[int]]:
    """Token ids of ``bridge + gold`` and the indices of those that hold a character of the gold."""
    encoded = tokenizer(bridge + gold, add_special_tokens=False, return_offsets_mapping=True)
    inside = [index for index, (_, end) in enumerate(encoded["offset_mapping"]) if end > len(bridge)]
    return encoded["input_ids"], inside if gold.strip() else []
