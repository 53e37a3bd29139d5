"""Which prompts a generation batch asks: by difficulty, or in an order that a resumed run finds again.

Difficulty goes by the binary outcome and never by shaped reward: :mod:`rewards.pessimism` says why.

TRL's data loader reads batches ahead of training, so a sampler inside it would choose prompts before the outcomes that
it goes by are known, and a resumed run would choose at other moments than one that was never stopped. So the loader
only says when a batch is due and how large it is; the trainer draws the prompts itself, at the moment it generates,
from the outcomes of all batches before: on every rank the same, because outcomes are gathered, and after a resume the
same, because the state is saved with each checkpoint.

Shapes: P training prompts, G groups of the global batch, N its completions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch.utils.data import Sampler
from trl.trainer.utils import RepeatSampler

from rewards.nearest import nearest
from rewards.pessimism import DIFFICULTY_BINS, difficulty_weights, of_difficulty

UNMEASURED = "unmeasured"
STATE_FILE = "solve_rates.safetensors"
_NEWS = 0.5
"""Weight of a prompt's latest group in its solve rate: older groups were an older policy's."""


def checked_mix(mix: Mapping[str, float]) -> dict[str, float]:
    """Shares of a mix, made to add up to 1; :data:`UNMEASURED` has 1/4 where it is left out.

    Raises ValueError, to stand behind the mix's key, for what is not a difficulty, and for shares that are not finite
    numbers of at least 0, or all 0 but that of the unmeasured.

    >>> checked_mix({"hard": 1, "medium": 2})
    {'hard': 0.25, 'medium': 0.5, 'unmeasured': 0.25}
    """
    allowed = (*DIFFICULTY_BINS, UNMEASURED)
    for name, share in mix.items():
        if name not in allowed:
            hint = nearest(name, allowed)
            raise ValueError(f".{name}: unknown difficulty, allowed: {', '.join(allowed)}{hint}")
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < math.inf:
            raise ValueError(f".{name}: {share!r} is not a finite number of at least 0")
    measured = math.fsum(share for name, share in mix.items() if name != UNMEASURED)
    if not measured:
        raise ValueError(f": {dict(mix)} gives no share to any of {', '.join(DIFFICULTY_BINS)}")
    shares = {UNMEASURED: measured / 3} | dict(mix)
    return {name: shares[name] / math.fsum(shares.values()) for name in allowed if name in shares}


class DifficultySampler:
    """Draws prompts so that each difficulty comes in its share of ``mix``, and learns solve rates from the outcomes.

    A prompt's solve rate is the share of right answers in its groups so far, each one counting half as much as the
    next. Prompts without one yet are drawn in the share of ``unmeasured``, and in that of every difficulty in which no
    prompt is known: all of a run's first batch. What could not be judged is not drawn again while there are others.

    ``prompts`` is P; the same ``seed`` and outcomes give the same draws on every rank. For ``mix`` see
    :func:`checked_mix`; why a mix: :func:`rewards.pessimism.difficulty_weights`.
    """

    def __init__(self, prompts: int, mix: Mapping[str, float], seed: int) -> None:
        self.mix, self._seed = checked_mix(mix), seed
        self.solve_rates = np.full(prompts, np.nan)
        self.asked = np.zeros(prompts, dtype=bool)
        self._draws = 0

    def weights(self) -> np.ndarray:
        """Probability (P,) that a batch's first prompt is this one; 0 for all where the mix asks for none there is."""
        wanted = {name: self.mix[name] for name in DIFFICULTY_BINS if self.mix.get(name)}
        found = {name: share for name, share in wanted.items() if of_difficulty(self.solve_rates, name).any()}
        share = math.fsum(found.values())
        weights_P = share * difficulty_weights(self.solve_rates, found) if found else np.zeros(len(self.asked))
        if not self.asked.all():
            weights_P[~self.asked] = max(1 - share, 0.0) / (~self.asked).sum()
        return weights_P / (weights_P.sum() or 1.0)

    def draw(self, groups: int) -> np.ndarray:
        """Indices (G,) of different prompts, in random order. Raises ValueError where there are fewer than ``groups``.

        Where the mix asks for fewer prompts than that, others fill the batch, all alike, measured ones first.
        """
        if groups > len(self.asked):
            raise ValueError(f"{groups} groups a batch for {len(self.asked)} training prompts")
        generator = np.random.default_rng([self._seed, self._draws])
        self._draws += 1
        weights_P = self.weights()
        wanted = min(groups, np.count_nonzero(weights_P))
        drawn = generator.choice(len(weights_P), wanted, replace=False, p=weights_P) if wanted else np.empty(0, int)
        others = np.setdiff1d(np.flatnonzero(~np.isnan(self.solve_rates)), drawn)
        if len(others) < groups - wanted:
            others = np.setdiff1d(np.arange(len(weights_P)), drawn)
        return np.concatenate([drawn, generator.choice(others, groups - wanted, replace=False)])

    def shares(self, drawn_G: np.ndarray) -> dict[str, float]:
        """Share of each difficulty among drawn prompts, as they are known before their outcomes are recorded."""
        inside = {name: of_difficulty(self.solve_rates, name) for name in DIFFICULTY_BINS} | {UNMEASURED: ~self.asked}
        return {name: float(inside_P[drawn_G].mean()) for name, inside_P in inside.items()}

    def record(self, drawn_G: np.ndarray, correct_N: np.ndarray) -> None:
        """Take in the verdicts (N,) in [0, 1] of the groups drawn, siblings adjacent; right from 1/2 on, NaN none."""
        self.asked[drawn_G] = True
        for prompt, correct in zip(drawn_G, correct_N.reshape(len(drawn_G), -1), strict=True):
            judged = correct[~np.isnan(correct)]
            if judged.size:
                share, before = np.mean(judged >= 0.5), self.solve_rates[prompt]
                self.solve_rates[prompt] = share if np.isnan(before) else before + _NEWS * (share - before)

    def save(self, checkpoint: str | Path) -> None:
        """Write the state into a checkpoint's folder."""
        state = {"solve_rates": self.solve_rates, "asked": self.asked, "draws": np.array([self._draws])}
        save_file(state, Path(checkpoint) / STATE_FILE)

    def load(self, checkpoint: str | Path) -> None:
        """Take the state from a checkpoint's folder. Raises ValueError where it is not there or of other prompts."""
        path = Path(checkpoint) / STATE_FILE
        if not path.is_file():
            raise ValueError(f"{path} is missing: the checkpoint was written without trainer.difficulty_mix")
        state = load_file(path)
        if len(state["asked"]) != len(self.asked):
            raise ValueError(f"{path} is of {len(state['asked'])} training prompts, there are {len(self.asked)}")
        self.solve_rates, self.asked, self._draws = state["solve_rates"], state["asked"], int(state["draws"][0])


class EpochShuffleSampler(Sampler[int]):
    """TRL's order of prompts, found again in every pass over them from the seed and the number of passes before it.

    TRL's own sampler draws each pass's order from a generator that has drawn those before, so that a run resumed in its
    second pass would ask in the order of the first. ``passes_before`` is called as a pass begins.
    """

    def __init__(self, sampler: RepeatSampler, passes_before: Callable[[], int]) -> None:
        self._sampler, self._passes_before = sampler, passes_before

    def __iter__(self) -> Iterator[int]:
        if self._sampler.shuffle:
            self._sampler.generator.manual_seed(self._sampler.seed)
            for _ in range(self._passes_before()):
                torch.randperm(self._sampler.num_samples, generator=self._sampler.generator)
        return iter(self._sampler)

    def __len__(self) -> int:
        return len(self._sampler)
