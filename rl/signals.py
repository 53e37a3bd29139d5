"""Which estimator values a rubric needs, and where they are read: in a pass over the completions that is made anyway.

Generation runs the policy over every completion token, and where generation is elsewhere (vLLM) TRL scores the
completions with the policy before any reward is given. A hook keeps the last hidden states of that pass; the head
turns them into statistics, a thousand tokens at a time. Only ``reference_probability`` needs a pass of its own: the
model has not written the gold answer, so it must be asked (arXiv 2506.18254): one forward of every completion up to
its answer, and for ``reference_probability_prior`` one of every prompt.

Shapes: B completions of this rank, T completion tokens (padded), P tokens read, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn.functional import linear
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations import is_deepspeed_zero3_enabled

from estimators.token_statistics import TokenStatistics, completion_statistics, hidden_statistics
from rewards.completion import ParsedCompletion
from rewards.markup import TAG_NAMES
from rewards.verifiers.text import token_f1
from rl.losses import model_logits
from rl.rollout import VerifiedRollout
from rl.segments import DecodedCompletion, field_mask, first_token

_NGRAM = 4

COMPLETION_SIGNALS: dict[str, str] = {
    "mean_log_prob": "log_prob",
    "entropy": "entropy",
    "self_certainty": "self_certainty",
}
"""Signal -> the token statistic whose mean over the whole completion it is."""
ANSWER_SIGNALS: dict[str, str] = {
    "answer_log_prob": "log_prob",
    "answer_entropy": "entropy",
    "answer_self_certainty": "self_certainty",
    "answer_max_probability": "max_probability",
    "answer_margin": "margin",
    "answer_probability": "log_prob",
    "answer_min_probability": "log_prob",
}
"""Signal -> the token statistic over the answer that it reduces: by the mean, but for the last two, which are the
probability of the whole answer and of its least likely token."""
REFERENCE_SIGNALS = ("reference_probability", "reference_probability_prior")


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
    "prior_confidence": lambda parsed, ids, gold: _stakes(parsed)[0],
    "token_f1": lambda parsed, ids, gold: token_f1(gold=gold, answer=parsed.answer or ""),
}
"""Signals that need no model."""
SIGNALS = (*COMPLETION_SIGNALS, *ANSWER_SIGNALS, *REFERENCE_SIGNALS, *TEXT_SIGNALS)
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

    It keeps the last hidden states while the policy makes the completions: B x T x H numbers, until they are read.
    ``generates`` says whether the policy itself generates, token by token; if not, the hidden states come from the
    pass in which TRL scores the completions, padded to a multiple of ``multiple`` tokens. Passes of the reader's own
    take ``batch_size`` completions at a time, all at once where it is left out. Raises ValueError for a name that is no
    signal.
    """

    def __init__(
        self,
        names: Sequence[str],
        policy: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        generates: bool,
        multiple: int | None = None,
        batch_size: int | None = None,
    ) -> None:
        unknown = [name for name in names if name not in SIGNALS]
        if unknown:
            raise ValueError(f"rubric: {', '.join(unknown)} is no signal, allowed: {', '.join(SIGNALS)}")
        self._names, self._policy, self._tokenizer = names, policy, tokenizer
        self._generates, self._multiple, self._batch_size = generates, multiple or 1, batch_size
        self._kept: list[torch.Tensor] | None = None
        if self.watches:
            policy.base_model.register_forward_hook(self._keep)

    @property
    def watches(self) -> bool:
        """Whether a signal is asked for that is read off the policy's own pass over the completions."""
        return any(name in COMPLETION_SIGNALS or name in ANSWER_SIGNALS for name in self._names)

    @property
    def asks(self) -> bool:
        """Whether a signal is asked for that takes a pass of its own, over the prompts and the golds."""
        return any(name in REFERENCE_SIGNALS for name in self._names)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, the hidden states of the completions are kept, until :meth:`read`."""
        self._kept = [] if self.watches else None
        try:
            yield
        finally:
            self._kept = None

    def read(
        self,
        rollout: VerifiedRollout,
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        golds: Sequence[str],
        references: Sequence[str] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Every signal asked for, in the order of the rubric, each (B,); NaN where it is undefined.

        ``prompt_ids`` are looked at only where the reader :attr:`asks`; it asks for ``references``, answers as a policy
        would write them, or the golds themselves. Raises RuntimeError where the policy was not watched as it wrote.
        """
        values: dict[str, torch.Tensor] = {}
        if self.watches:
            values = self._completion_signals(rollout, completion_ids)
        if self.asks:
            values |= self._references(rollout, prompt_ids, completion_ids, references or golds)
        for name, measure in TEXT_SIGNALS.items():
            if name in self._names:
                rows = zip(rollout.parsed, completion_ids, golds, strict=True)
                values[name] = torch.tensor([measure(*row) for row in rows], dtype=torch.float64)
        return {name: values[name] for name in self._names}

    def _completion_signals(
        self, rollout: VerifiedRollout, completion_ids: Sequence[Sequence[int]]
    ) -> dict[str, torch.Tensor]:
        hidden_BTH = self._hidden_states(completion_ids)
        device, length = hidden_BTH.device, hidden_BTH.size(1)
        tokens_BT = pad_sequence([torch.tensor(ids, dtype=torch.long) for ids in completion_ids], batch_first=True)
        ends_B = torch.tensor([len(each.ends) for each in rollout.decoded], device=device)
        written_BT = torch.arange(length, device=device) < ends_B.unsqueeze(1)
        answer_BT = field_mask(rollout.parsed, rollout.decoded, "answer", length).to(device)
        # With a large vocabulary the head is what this costs: only tokens that a signal is read off go through it.
        read_BT = written_BT if any(name in COMPLETION_SIGNALS for name in self._names) else answer_BT
        statistics_BT = self._statistics(hidden_BTH[read_BT], tokens_BT.to(device)[read_BT]).spread(read_BT)
        return _reduced(self._names, statistics_BT, written_BT, answer_BT)

    def _hidden_states(self, completion_ids: Sequence[Sequence[int]]) -> torch.Tensor:
        """Of the positions (B, T, H) that wrote the completions' tokens."""
        kept, self._kept = self._kept, None
        if not kept:
            raise RuntimeError("the policy made no pass over the completions whose hidden states could be read")
        size, length = len(completion_ids), max(map(len, completion_ids))
        if self._generates:
            hidden_BTH = torch.cat(kept[:length], dim=1)
        else:
            padded = -(-length // self._multiple) * self._multiple
            hidden_BTH = torch.cat(kept, dim=0)[:size, -(padded + 1) : -1][:, :length]
        if hidden_BTH.shape[:2] != (size, length):
            raise RuntimeError(f"saw hidden states of {tuple(hidden_BTH.shape[:2])} tokens, expected {(size, length)}")
        return hidden_BTH

    def _statistics(self, hidden_PH: torch.Tensor, tokens_P: torch.Tensor) -> TokenStatistics:
        head, config = self._policy.get_output_embeddings(), self._policy.config.get_text_config()
        project = head
        with ExitStack() as gathered:
            if is_deepspeed_zero3_enabled():
                import deepspeed

                # Calling the head would gather its weights once a part, and ranks may have different numbers of parts.
                gathered.enter_context(deepspeed.zero.GatheredParameters(list(head.parameters())))
                project = partial(linear, weight=head.weight, bias=head.bias)

            def logits_of(rows: torch.Tensor) -> torch.Tensor:
                return model_logits(project(rows.to(head.weight.dtype)).float(), config)

            return hidden_statistics(hidden_PH, tokens_P, logits_of)

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
        means = [row.log_prob[scored].exp().mean().item() for row, (_, scored) in zip(read, texts, strict=True)]
        return torch.tensor(means, dtype=torch.float64)

    def _keep(self, module, arguments, output) -> None:
        if self._kept is not None:
            hidden = output.last_hidden_state.detach()
            # The prompt's last position writes the first token; the rest of the prompt writes nothing that was sampled.
            # A copy, since a view would keep the rest alive.
            self._kept.append(hidden[:, -1:].clone() if self._generates else hidden)


def _reduced(
    names: Sequence[str], statistics_BT: TokenStatistics, written_BT: torch.Tensor, answer_BT: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Those of ``names`` that are read off tokens, each (B,), from the masks of all and of those of the answer.

    NaN where there are no tokens to read.
    """
    values: dict[str, torch.Tensor] = {}
    for name in names:
        if name in COMPLETION_SIGNALS:
            values[name] = _mean(getattr(statistics_BT, COMPLETION_SIGNALS[name]), written_BT)
        elif name == "answer_probability":
            log_prob_BT = torch.where(answer_BT, statistics_BT.log_prob, 0.0)
            values[name] = _where_any(answer_BT, log_prob_BT.sum(dim=1).exp())
        elif name == "answer_min_probability":
            log_prob_BT = torch.where(answer_BT, statistics_BT.log_prob, 0.0)
            values[name] = _where_any(answer_BT, log_prob_BT.amin(dim=1).exp())
        elif name in ANSWER_SIGNALS:
            values[name] = _mean(getattr(statistics_BT, ANSWER_SIGNALS[name]), answer_BT)
    return values


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


def _mean(values_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    return _where_any(mask_BT, torch.where(mask_BT, values_BT, 0.0).sum(dim=1) / mask_BT.sum(dim=1))


def _where_any(mask_BT: torch.Tensor, values_B: torch.Tensor) -> torch.Tensor:
    return torch.where(mask_BT.any(dim=1), values_B, torch.nan)
