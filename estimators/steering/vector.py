"""A steering vector with what it was fitted to, saved so that no other model can be steered by it.

Weights are safetensors, the rest JSON. Shapes: H hidden size.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from estimators.online.thresholds import Identity
from estimators.segmentation import StepRules
from estimators.steering.control import Bounds
from estimators.step_confidence import Kind

Position = Literal["first", "separator"]
POSITIONS: tuple[Position, ...] = get_args(Position)
"""The token whose state is read and moved: the first one of a step, or the one that ended the step before it."""
_WEIGHTS, _FACTS, _FORMAT = "steering.safetensors", "steering.json", 1


@dataclass(frozen=True, slots=True)
class Definition:
    """What a step, its confidence and its variance are, and which token's state is meant.

    ``kind`` is the mean of p_max over a step, ``window`` the number of steps that a variance is of. Raises ValueError
    for what is none of these.
    """

    rules: StepRules = field(default_factory=StepRules)
    kind: Kind = "geometric"
    window: int = 2
    position: Position = "first"

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind is {self.kind!r}, expected one of {', '.join(get_args(Kind))}")
        if self.window < 2:
            raise ValueError(f"window is {self.window!r}, expected 2 steps or more")
        if self.position not in POSITIONS:
            raise ValueError(f"position is {self.position!r}, expected one of {', '.join(POSITIONS)}")

    @property
    def text(self) -> str:
        """The definition in words, which a file is compared by."""
        rules = self.rules
        return (
            f"{self.kind} p_max of steps that end with {' or '.join(map(repr, rules.separators))}, {rules.min_tokens} "
            f"to {rules.max_tokens} tokens, inside {''.join(rules.tags)}; variance of {self.window} steps; state of "
            f"the {self.position} token"
        )


@dataclass(frozen=True, slots=True, eq=False)
class SteeringVector:
    """The unit ``direction_H`` from the prototype of under-thinking to that of over-thinking, and their ``distance``.

    ``layer`` is numbered as transformers numbers hidden states: 1 what the second block is given, the number of blocks
    what the head is given. ``bounds`` are of the ``steps`` that it was fitted to, ``over`` and ``under`` of which made
    the prototypes, by ``labels`` (:func:`estimators.steering.extraction.label_steps`) and the words of ``lexicon``.
    ``fits`` has, by layer, the share of the variance of confidences that its states explain on traces held out.
    """

    identity: Identity
    definition: Definition
    layer: int
    bounds: Bounds
    distance: float
    direction_H: torch.Tensor
    labels: str
    steps: int
    over: int
    under: int
    lexicon: tuple[str, ...] = ()
    fits: Mapping[int, float] = field(default_factory=dict)

    def random(self, seed: int = 0) -> SteeringVector:
        """The control: another direction, drawn at random from all directions alike, with everything else the same."""
        generator = torch.Generator().manual_seed(seed)
        drawn_H = torch.randn(self.direction_H.shape, generator=generator, dtype=torch.float64)
        return replace(self, direction_H=(drawn_H / drawn_H.norm()).float())

    def save(self, folder: str | Path) -> None:
        """Write it into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "format": _FORMAT,
            **{name: asdict(getattr(self, name)) for name in ("identity", "definition", "bounds")},
            **{name: getattr(self, name) for name in _PLAIN},
            "lexicon": list(self.lexicon),
            "fits": {str(layer): value for layer, value in self.fits.items()},
        }
        parts = [folder / f".{name}.{os.getpid()}.partial" for name in (_WEIGHTS, _FACTS)]
        try:
            save_file({"direction": self.direction_H.float().cpu().contiguous()}, parts[0])
            parts[1].write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n", encoding="utf-8")
            for part, name in zip(parts, (_WEIGHTS, _FACTS), strict=True):
                os.replace(part, folder / name)
        finally:
            for part in parts:
                part.unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: str | Path, model: str, tokenizer: str, rules: StepRules) -> SteeringVector:
        """Read one that was fitted to this model and tokenizer, by their fingerprints, and to these steps.

        Raises ValueError, naming the folder, where it is missing or not what it should be, and where it was fitted to
        another model, tokenizer or definition, naming both.
        """
        folder = Path(folder)
        try:
            found = cls._read(folder)
        except OSError as error:
            how = "candor steer extract CHECKPOINT --out DIR makes one"
            raise ValueError(f"{folder}: holds no steering vector ({error.strerror or error}); {how}") from error
        except (ValueError, TypeError, KeyError, AttributeError, SafetensorError) as error:
            raise ValueError(f"{folder}: is not a steering vector: {str(error).partition(chr(10))[0]}") from error
        expected = Identity(model, tokenizer, replace(found.definition, rules=rules).text)
        wrong = found.identity.differences(expected)
        if wrong:
            raise ValueError(f"{folder}: fitted for {'; '.join(wrong)}; extract a vector for what is to be steered")
        return found

    @classmethod
    def _read(cls, folder: Path) -> SteeringVector:
        facts: dict[str, Any] = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        if facts["format"] != _FORMAT:
            raise ValueError(f"format {facts['format']!r}, expected {_FORMAT}")
        direction_H = load_file(folder / _WEIGHTS)["direction"]
        if direction_H.dim() != 1 or not math.isclose(float(direction_H.double().norm()), 1.0, abs_tol=1e-4):
            raise ValueError(f"a direction of shape {tuple(direction_H.shape)} that is not of length 1")
        if not (math.isfinite(facts["distance"]) and facts["distance"] > 0):
            raise ValueError(f"a distance of {facts['distance']!r}")
        rules: dict[str, Any] = facts["definition"]["rules"]
        rules = {name: tuple(each) if isinstance(each, list) else each for name, each in rules.items()}
        return cls(
            identity=Identity(**facts["identity"]),
            definition=Definition(**{**facts["definition"], "rules": StepRules(**rules)}),
            bounds=Bounds(**facts["bounds"]),
            direction_H=direction_H,
            lexicon=tuple(facts["lexicon"]),
            fits={int(layer): value for layer, value in facts["fits"].items()},
            **{name: facts[name] for name in _PLAIN},
        )


_PLAIN = tuple(
    each.name
    for each in fields(SteeringVector)
    if each.name not in ("identity", "definition", "bounds", "direction_H", "lexicon", "fits")
)
"""Fields that JSON holds as they are."""
