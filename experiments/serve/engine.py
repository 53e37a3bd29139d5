"""A model in a thread of its own: requests wait in a queue, and as many as wait are written and read as one batch.

Batches are calls of ``generate``, not transformers' continuous batching: that one returns no log-probabilities of the
tokens that were not chosen, so that a level's confidence would cost a pass more, and on a CPU its paged cache is far
slower. A batch takes as long as its longest answer; who comes meanwhile waits for the next one.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import LogitsProcessorList, StoppingCriteriaList

from estimators.estimator import Estimator
from experiments.probe.estimates import estimate_generations
from experiments.probe.generate import Generation, Policy, left_padded
from experiments.serve.rows import OwnEnds, OwnSampling, Row
from rl.segments import decode_completion

GATHER_S = 0.005
"""Seconds that a batch waits for more requests."""


@dataclass(frozen=True)
class Answer:
    """What a row became: its generation, and the confidence in [0, 1] that was read, None where there is none.

    The generation is of the text that is sent, without what a stop text has cut off.
    """

    row: Row
    generation: Generation
    confidence: float | None


class Engine:
    """Writes and reads with one policy. ``estimator`` None reads what is stated; ``batch`` is the most rows at once."""

    def __init__(self, policy: Policy, estimator: Estimator | None, *, batch: int = 32) -> None:
        self.policy, self.estimator, self.batch = policy, estimator, batch
        self._queue: queue.Queue[tuple[Row | Generation, Future[Answer]] | None] = queue.Queue()
        self._alone: dict[int, str] = {}
        self._thread = threading.Thread(target=self._work, daemon=True, name="candor-engine")
        self._thread.start()

    def submit(self, asked: Row | Generation) -> Future[Answer]:
        """Have a row written and read, or a completion that somebody else has written read alone.

        Raises RuntimeError once the engine was closed.
        """
        if not self._thread.is_alive():  # a request would wait for ever
            raise RuntimeError("the engine has ended")
        future: Future[Answer] = Future()
        self._queue.put((asked, future))
        return future

    def close(self) -> None:
        """End the thread when what waits is done."""
        self._queue.put(None)
        self._thread.join()

    @property
    def context(self) -> int:
        """Tokens of a prompt and its answer together."""
        config = self.policy.model.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", None) or 2**20)

    def generation(self, prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> Generation:
        """Token ids as a generation, with their text."""
        ends = (*self.policy.end_ids, self.policy.tokenizer.pad_token_id)
        decoded = decode_completion(self.policy.tokenizer, completion_ids, ends, self._alone)
        return Generation(tuple(prompt_ids), tuple(completion_ids[: len(decoded.ends)]), decoded)

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            taken, ending = [first], False
            while len(taken) < self.batch and not ending:
                try:
                    more = self._queue.get(timeout=GATHER_S)
                except queue.Empty:
                    break
                ending = more is None
                taken += [more] if more is not None else []
            # One that was cancelled while it waited is left out, and one that is begun can no longer be.
            self._answer([each for each in taken if each[1].set_running_or_notify_cancel()])
            if ending:
                return

    def _answer(self, taken: Sequence[tuple[Row | Generation, Future[Answer]]]) -> None:
        """Answer a batch; what goes wrong is what its requests are told, and the next batch is another matter."""
        try:
            for rows in self._groups([each for each, _ in taken if isinstance(each, Row) and not each.cancelled]):
                self._write(rows)
            for asked, future in taken:
                if isinstance(asked, Row) and asked.error is not None:
                    future.set_exception(asked.error)
            taken = [each for each in taken if not each[1].done()]
            written = [self._written(asked) if isinstance(asked, Row) else asked for asked, _ in taken]
            confidences = self._read(written)
        except Exception as error:
            for _, future in taken:
                if not future.done():
                    future.set_exception(error)
            return
        for (asked, future), generation, confidence in zip(taken, written, confidences, strict=True):
            row = asked if isinstance(asked, Row) else Row(list(asked.prompt_ids), 0)
            future.set_result(Answer(row, generation, confidence))

    def _groups(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Rows that are written together: the longest prompt and the longest answer of each group fit the model.

        A row that is finished is written on with the others, and a model with absolute positions has none for it
        beyond its context.
        """
        groups: list[list[Row]] = []
        for row in rows:
            for group in groups:
                beside = [*group, row]
                longest = max(len(each.prompt_ids) for each in beside) + max(each.max_tokens for each in beside)
                if longest <= self.context:
                    group.append(row)
                    break
            else:
                groups.append([row])
        return groups

    def _written(self, row: Row) -> Generation:
        """What a row has written and is sent."""
        generation = self.generation(row.prompt_ids, row.kept_ids)
        decoded, length = generation.decoded, len(row.text)
        if len(decoded.text) <= length:
            return generation
        ends = tuple(min(end, length) for end in decoded.ends)
        return replace(generation, decoded=replace(decoded, text=decoded.text[:length], ends=ends))

    def _write(self, rows: Sequence[Row]) -> None:
        policy, pad = self.policy, self.policy.tokenizer.pad_token_id
        ids, mask = left_padded([row.prompt_ids for row in rows], pad)
        sampling = OwnSampling(rows, policy.tokenizer, policy.end_ids)
        ends = OwnEnds(rows, policy.tokenizer, policy.end_ids)
        policy.model.eval()
        with torch.no_grad():
            policy.model.generate(
                input_ids=ids.to(policy.model.device),
                attention_mask=mask.to(policy.model.device),
                max_new_tokens=max(row.max_tokens for row in rows),
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                repetition_penalty=1.0,
                pad_token_id=pad,
                eos_token_id=list(policy.end_ids),
                logits_processor=LogitsProcessorList([sampling]),
                stopping_criteria=StoppingCriteriaList([ends]),
            )

    def _read(self, generations: Sequence[Generation]) -> list[float | None]:
        """The confidence of each, as a probe reads it."""
        found: list[float | None] = [None] * len(generations)
        whole = [place for place, each in enumerate(generations) if each.completion_ids]
        if self.estimator is None:
            for place in whole:
                each = generations[place].decoded
                parsed = self.policy.template.parse(each.text, truncated=not each.finished, lenient=True)
                found[place] = parsed.confidence
            return found
        asked = {"read": self.estimator}
        kept = [generations[place] for place in whole]
        estimate = estimate_generations(self.policy, kept, asked, batch_size=self.batch)["read"]
        values, valid = estimate.values_B.tolist(), estimate.valid_B.tolist()
        for place, value, known in zip(whole, values, valid, strict=True):
            found[place] = float(value) if known else None
        return found


def count_tokens(answer: Answer) -> dict[str, Any]:
    """The ``usage`` of a reply."""
    prompt, written = len(answer.generation.prompt_ids), len(answer.row.ids)
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}
