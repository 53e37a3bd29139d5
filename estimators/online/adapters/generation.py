"""Stopping rules in transformers' generation, batched, each row with a state of its own.

    watch = GenerationWatch(rules, confidence, reading, forcing, end_ids)
    model.generate(..., **watch.arguments())

A row that is given up ends where it was stopped, the others go on. A thought that is closed has the closing tokens
forced upon it and is free again behind them. Beam search moves rows and is refused.

Shapes: B rows, L tokens of prompts and completions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import torch

from estimators.forward_passes import left_padded
from estimators.online.requests import Confidence, Forcing, Reading, Request, force
from estimators.online.stopping import Rule, Stop

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TrialAnswers = Callable[[Sequence[Sequence[int]]], Sequence[float]]
"""Prompts with the thoughts so far, as token ids -> the confidence of a trial answer of each, in [0, 1]."""


class GenerationWatch:
    """Watches one call of ``generate``; make another for the next call.

    ``rules`` stop every row; ``confidence`` reads the logits that the model made, before temperature; ``reading()``
    makes what places the tokens of one row; ``end_ids`` end a completion by themselves. ``trial`` is asked where a rule
    wants a trial answer, for all rows of a step at once; ``prompt_lengths`` are how many tokens each row's prompt has
    behind its padding, the whole width where they are left out. Raises ValueError where a rule wants a trial answer and
    there is no ``trial``, and for another number of lengths than rows or one beyond the width.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        confidence: Confidence,
        reading: Callable[[], Reading],
        forcing: Forcing,
        end_ids: Collection[int],
        trial: TrialAnswers | None = None,
        prompt_lengths: Sequence[int] | None = None,
    ) -> None:
        if trial is None and any(rule.reads_trials for rule in rules):
            raise ValueError("a rule reads trial answers, but nothing draws them: trial is None")
        self._rules, self._reading, self._forcing = rules, reading, forcing
        self._confidence, self._end_ids, self._trial = confidence, frozenset(end_ids), trial
        self._requests: list[Request] = []
        self._ended: list[bool] = []
        self._prompt_lengths = prompt_lengths
        self._padded: list[int] = []
        """Tokens of padding before each row's prompt."""
        self._ids_BL: torch.Tensor | None = None

    @property
    def stops(self) -> list[Stop | None]:
        """Why each row was stopped; None for one that was not."""
        return [each.monitor.stopped for each in self._requests]

    def arguments(self) -> dict[str, Any]:
        """What ``generate`` is given so that it is watched."""
        from transformers import LogitsProcessorList, StoppingCriteriaList

        return {
            "logits_processor": LogitsProcessorList([self.processor]),
            "stopping_criteria": StoppingCriteriaList([self.criteria]),
        }

    def processor(self, ids_BL: torch.Tensor, logits_BV: torch.Tensor) -> torch.Tensor:
        """Read the logits of the next tokens, and leave forced rows nothing else; a transformers LogitsProcessor."""
        if self._ids_BL is None:
            self._requests = [Request(self._rules, self._reading(), self._forcing) for _ in ids_BL]
            self._ended = [False] * len(ids_BL)
            self._padded = self._padding(*ids_BL.shape)
        elif ids_BL.shape != self._ids_BL.shape or not torch.equal(ids_BL, self._ids_BL):
            raise RuntimeError("rows have moved between two tokens, as in beam search, which cannot be watched")
        with torch.no_grad():
            seen = self._confidence(logits_BV.float()).tolist()
        for request, confidence in zip(self._requests, seen, strict=True):
            request.saw(confidence)
        self._ids_BL = ids_BL
        return force(logits_BV, [each.forced for each in self._requests])

    def criteria(self, ids_BL: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Take in the tokens that were drawn, and end the rows that are given up; a transformers StoppingCriteria."""
        known = self._ids_BL
        if known is None or len(known) != len(ids_BL) or not torch.equal(ids_BL[:, : known.size(1)], known):
            raise RuntimeError("rows have moved between two tokens, as in beam search, which cannot be watched")
        for row, token in enumerate(ids_BL[:, -1].tolist()):
            if not self._ended[row]:
                self._requests[row].wrote(token)
                self._ended[row] = token in self._end_ids
        self._try(ids_BL)
        self._ids_BL = ids_BL
        given_up = [each is not None and not each.answers for each in self.stops]
        return torch.tensor(given_up, device=ids_BL.device)

    def _padding(self, rows: int, width: int) -> list[int]:
        lengths = [width] * rows if self._prompt_lengths is None else list(self._prompt_lengths)
        if len(lengths) != rows or not all(0 <= length <= width for length in lengths):
            raise ValueError(f"prompt_lengths is {lengths}, expected {rows} of 0 to {width} tokens, one a row")
        return [width - length for length in lengths]

    def _try(self, ids_BL: torch.Tensor) -> None:
        due = [row for row, each in enumerate(self._requests) if each.monitor.trial_due and not self._ended[row]]
        if due and self._trial is not None:
            contexts = [ids_BL[row, self._padded[row] :].tolist() for row in due]
            for row, confidence in zip(due, self._trial(contexts), strict=True):
                self._requests[row].tried(confidence)


def trial_answers(
    model: PreTrainedModel,
    contexts: Sequence[Sequence[int]],
    *,
    ask_ids: Sequence[int],
    end_ids: Collection[int],
    pad_token_id: int,
    max_new_tokens: int,
) -> list[tuple[list[int], float]]:
    """Token ids and confidence in [0, 1] of a greedy answer to each context: a prompt and an unfinished thought.

    ``ask_ids`` are put behind a context: what closes the thought and opens the answer. The answer ends before the first
    of ``end_ids``, such as what closes the answer's tag. Its confidence is the geometric mean of the likeliest tokens'
    probabilities, 0 for an answer without a token (arXiv 2504.15895).
    """
    ids_BL, mask_BL, _ = left_padded([[*each, *ask_ids] for each in contexts], pad_token_id)
    with torch.no_grad():
        made = model.generate(  # type: ignore[operator]
            input_ids=ids_BL.to(model.device),
            attention_mask=mask_BL.to(model.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            repetition_penalty=1.0,
            pad_token_id=pad_token_id,
            eos_token_id=list(end_ids),
            return_dict_in_generate=True,
            output_logits=True,
        )
    log_probs_BT = torch.stack([torch.log_softmax(each.float(), -1).amax(-1) for each in made.logits], dim=1)
    answers = []
    for tokens, log_probs in zip(made.sequences[:, ids_BL.size(1) :].tolist(), log_probs_BT.tolist(), strict=True):
        length = next((place for place, token in enumerate(tokens) if token in end_ids), len(tokens))
        mean = sum(log_probs[:length]) / length if length else -float("inf")
        answers.append((tokens[:length], float(torch.tensor(mean).exp())))
    return answers
