"""A local policy that writes greedily and step by step, and reads what another wrote without reading anything twice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from estimators.placing import KnownPlaces
from experiments.probe.generate import Policy
from experiments.routing.midstream import Step
from rl.checkpoint import vocabulary_digest
from rl.rollout import encode_prompt
from rl.segments import step_rules


class StepWriter:
    """One policy in a hand-over. ``processed`` counts tokens that have run through it, one a token and reading.

    The cache of what was read stays between calls: only tokens beyond the common beginning are read.
    """

    def __init__(self, policy: Policy, prefix: str = "") -> None:
        """``prefix`` is what every completion begins with."""
        self.policy, self.prefix = policy, prefix
        self._places = KnownPlaces(policy.tokenizer, step_rules(policy.template))
        self.vocabulary = vocabulary_digest(policy.tokenizer)
        self.parameters = sum(each.numel() for each in policy.model.parameters())
        self.processed = 0
        self._read: list[int] = []
        self._cache = DynamicCache()

    def begin(self, prompt: Any) -> list[int]:
        """The ids of a prompt, a text or the messages of a chat, and of the prefix."""
        if isinstance(prompt, str):
            return list(encode_prompt(self.policy.tokenizer, prompt + self.prefix))
        return [*encode_prompt(self.policy.tokenizer, prompt), *self._ids(self.prefix)]

    def reads(self, step: Step) -> list[int]:
        """A step as ids of its own vocabulary: those written, or its text where another vocabulary wrote it."""
        return list(step.ids) if step.vocabulary == self.vocabulary else self._ids(step.text)

    def _ids(self, text: str) -> list[int]:
        return list(self.policy.tokenizer(text, add_special_tokens=False)["input_ids"])

    def write(self, ids: Sequence[int], most: int) -> Step:
        """The greedy step after ``ids``: up to a token that ends a step or the completion, or ``most`` tokens."""
        sequence = self._places.sequence()
        for token in ids:
            sequence.push(token)
        written: list[int] = []
        texts: list[str] = []
        highest: list[float] = []
        ends = closes = False
        while len(written) < most and not ends and not closes:
            probability, token = self._after([*ids, *written])[-1].max(dim=-1)
            written.append(int(token))
            highest.append(float(probability))
            ends = written[-1] in self.policy.end_ids
            piece, (_, closes) = sequence.push(written[-1])
            texts.append("" if ends else piece)
        confidence = sum(highest) / max(len(highest), 1)
        return Step(tuple(written), "".join(texts), confidence, ends, self.vocabulary)

    def next_confidence(self, ids: Sequence[int]) -> float:
        """The highest probability of the token after ``ids``."""
        return float(self._after(ids)[-1].max())

    def likelihood(self, ids: Sequence[int], step: Sequence[int]) -> float:
        """Geometric mean of the probabilities that this policy gives the tokens of a step after ``ids``; 1 for none."""
        if not step:
            return 1.0
        said = self._after([*ids, *step[:-1]], rows=len(step))
        chosen = said[torch.arange(len(step)), torch.tensor(list(step))].double()
        return math.exp(float(chosen.log().mean()))

    @torch.no_grad()
    def _after(self, ids: Sequence[int], rows: int = 1) -> torch.Tensor:
        """Distributions (rows, V) of the token after each of the last ``rows`` places of ``ids``."""
        known = 0
        while known < min(len(self._read), len(ids) - rows) and self._read[known] == ids[known]:
            known += 1
        if not known:
            self._cache = DynamicCache()
        elif len(self._read) > known:
            self._cache.crop(known - len(self._read))
        new = torch.tensor([list(ids[known:])], device=self.policy.model.device)
        logits = self.policy.model(input_ids=new, past_key_values=self._cache, use_cache=True).logits[0, -rows:]
        self.processed += new.shape[1]
        self._read = list(ids)
        return torch.softmax(logits.float(), dim=-1).cpu()
