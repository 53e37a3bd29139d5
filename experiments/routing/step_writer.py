"""A local policy that writes greedily and step by step, and reads what another wrote without reading anything twice."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from transformers import DynamicCache

from estimators.decoding import StreamDecoder
from estimators.segmentation import StepRules, StepSegmenter
from experiments.probe.generate import Policy
from experiments.routing.midstream import Step


class StepWriter:
    """One policy in a hand-over. ``processed`` counts tokens that have run through it, one a token and reading.

    The cache of what was read stays between calls: only tokens beyond the common beginning are read.
    """

    def __init__(self, policy: Policy, rules: StepRules) -> None:
        self.policy, self.rules = policy, rules
        self.parameters = sum(each.numel() for each in policy.model.parameters())
        self.processed = 0
        self._read: list[int] = []
        self._cache = DynamicCache()

    def write(self, ids: Sequence[int], most: int) -> Step:
        """The greedy step after ``ids``: up to a token that ends a step or the completion, or ``most`` tokens."""
        segmenter, decoder = StepSegmenter(self.rules), StreamDecoder(self.policy.tokenizer)
        for token in ids:
            segmenter.push(decoder.push(token))
        written: list[int] = []
        highest: list[float] = []
        ends = closes = False
        while len(written) < most and not ends and not closes:
            probability, token = self._after([*ids, *written])[-1].max(dim=-1)
            written.append(int(token))
            highest.append(float(probability))
            ends = written[-1] in self.policy.end_ids
            closes = segmenter.push(decoder.push(written[-1])).closes
        return Step(tuple(written), sum(highest) / max(len(highest), 1), ends)

    def next_confidence(self, ids: Sequence[int]) -> float:
        """The highest probability of the token after ``ids``."""
        return float(self._after(ids)[-1].max())

    def likelihood(self, ids: Sequence[int], step: Sequence[int]) -> float:
        """Geometric mean of the probabilities that this policy gives the tokens of a step after ``ids``."""
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
