"""Thresholds fitted to one model, one tokenizer and one definition of confidence, saved so that no other can use them.

A threshold of another model is a number without a meaning: DeepConf's token confidence averages -log p over the k
likeliest tokens, and its scale goes with the model, with k and with the window. A file therefore says what it was
fitted for, and loading it for anything else is an error that names both.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

LOW_SHARE, HIGH_SHARE = 0.1, 0.9
"""Shares of the warm-up traces that DeepConf-low and DeepConf-high would have kept."""
_VALUES_OF_A_TENSOR = 64
_SHOWN = 16


@dataclass(frozen=True, slots=True)
class Identity:
    """What thresholds are fitted for: model and tokenizer, each a name or a fingerprint, and the definition in words.

    The definition says which statistic of which tokens is compared, with its numbers: "lowest group confidence, window
    2048, top 20, temperature 1".
    """

    model: str
    tokenizer: str
    definition: str

    def differences(self, expected: Identity) -> list[str]:
        """What is not as expected, naming both; nothing where they are the same."""
        pairs = {each.name: (getattr(self, each.name), getattr(expected, each.name)) for each in fields(self)}
        return [f"{name} {own!r}, not {other!r}" for name, (own, other) in pairs.items() if own != other]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Named thresholds, finite, with what they were fitted for and the number of traces they were fitted on."""

    identity: Identity
    values: Mapping[str, float]
    traces: int
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What else was fitted with them, in plain JSON values."""

    def __post_init__(self) -> None:
        for name, value in self.values.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"threshold {name!r} is {value!r}, expected a finite number")

    def save(self, path: str | Path) -> None:
        """Write them as JSON, whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            partial.write_text(json.dumps(asdict(self), indent=2, allow_nan=False) + "\n", encoding="utf-8")
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path, expected: Identity) -> Thresholds:
        """Read thresholds that were fitted for ``expected``.

        Raises ValueError, naming the file, where it was fitted for another model, tokenizer or definition, naming
        both; and where it is missing or does not hold thresholds.
        """
        path = Path(path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            found = cls(
                Identity(**{each.name: str(content["identity"][each.name]) for each in fields(Identity)}),
                dict(content["values"]),
                int(content["traces"]),
                dict(content.get("extra", {})),
            )
        except FileNotFoundError:
            raise ValueError(f"{path}: no such file; thresholds are fitted on warm-up traces and saved first") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: holds no thresholds: {type(error).__name__}: {error}") from error
        wrong = found.identity.differences(expected)
        if wrong:
            raise ValueError(f"{path}: fitted for {'; '.join(wrong)}; fit thresholds for what is to be stopped")
        return found

    def __getitem__(self, name: str) -> float:
        if name not in self.values:
            raise KeyError(f"no threshold {name!r}, only {', '.join(map(repr, self.values))}")
        return self.values[name]


def keeping(values: ArrayLike, share: float) -> float:
    """The threshold from which ``share`` of the warm-up traces is kept: the (1 - share) quantile of ``values`` (N,).

    ``values`` are those of complete traces, higher where surer, NaN where a trace has none; linear interpolation, as
    numpy's. A trace is kept where its value is not below the threshold, so that equal values keep all. ``share`` .1
    is DeepConf-low, the 90th percentile, which stops most traces; .9 is DeepConf-high, the 10th. Raises ValueError for
    a share outside (0, 1], where no trace has a value, and for an infinite one (of the likeliest tokens one cannot
    come, as behind top-k sampling), which stands on no scale.

    >>> keeping(range(11), LOW_SHARE), keeping(range(11), HIGH_SHARE)
    (9.0, 1.0)
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share!r}, expected a number above 0 and at most 1")
    given = np.asarray(values, dtype=np.float64)
    known = given[~np.isnan(given)]
    if not len(known):
        raise ValueError(f"no value among {len(given)} warm-up traces to fit a threshold on: all are empty")
    if np.isinf(known).any():
        raise ValueError(
            "a warm-up trace has an infinite confidence, as some of the likeliest tokens cannot come: read log-"
            "probabilities from before top-k or top-p cuts them"
        )
    return float(np.quantile(known, round(1 - share, 9)))


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """The same for tokenizers that number the same tokens alike: 16 hexadecimal digits of a hash of the vocabulary."""
    return _digest(f"{token!r}:{number}" for token, number in sorted(tokenizer.get_vocab().items()))


def model_fingerprint(model: nn.Module) -> str:
    """The same for models with the same weights, whatever the precision they are held in: 16 hexadecimal digits.

    A hash of every parameter's name and shape and of up to 64 of its values, evenly spaced and rounded to bfloat16:
    a model that was trained on differs in them. Weights that are split over ranks have no fingerprint: ValueError.
    """
    import torch

    parts = []
    for name, parameter in model.named_parameters():
        values = parameter.detach().flatten()
        if not len(values):
            raise ValueError(f"parameter {name} is empty here: its weights are split over ranks, or it was not loaded")
        at = torch.linspace(0, len(values) - 1, min(len(values), _VALUES_OF_A_TENSOR), dtype=torch.float64).long()
        taken = values[at.to(values.device)].to(torch.bfloat16).float().tolist()
        parts.append(f"{name}{tuple(parameter.shape)}{taken}")
    return _digest(sorted(parts))


def _digest(parts: Iterable[str]) -> str:
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(part.encode("utf-8", "surrogatepass") + b"\n")
    return hashed.hexdigest()[:_SHOWN]
