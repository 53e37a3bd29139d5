"""A classifier on hidden states: what a model's inside says of its answer, before, behind or beside what it writes.

A linear layer or a small network reads the states of chosen layers at one position and gives P(correct); at the
prompt's last position it does so before anything is generated (arXiv 2207.05221's P(IK); layers and probes as in arXiv
2304.13734). It is fitted to the verdicts of recorded completions and stopped when a held-out part of them stops getting
better. Weights are safetensors, the rest JSON, with the identity of the model and the tokenizer whose states it
knows; asked about another model it raises.

Shapes: B completions, F features (layers times hidden size).
"""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from estimators.estimator import HIDDEN_STATES, Completions, Estimate, nothing
from estimators.hidden_states import POSITIONS, HiddenStates, Identity, Place, Position
from estimators.token_statistics import TokenStatistics

Kind = Literal["linear", "mlp"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FEWEST = 20
"""Completions that a fit needs, right and wrong ones among them."""
_WIDTH, _HELD_OUT, _EPOCHS, _PATIENCE = 32, 0.2, 500, 20
_WEIGHTS, _FACTS, _FORMAT = "hidden_probe.safetensors", "hidden_probe.json", 1


@dataclass(frozen=True)
class HiddenProbeFacts:
    """What a hidden probe reads, of which model, and how it did on the records that it was not fitted to."""

    kind: Kind
    position: Position
    layers: tuple[int, ...]
    features: int
    identity: Identity
    records: int
    held_out: int
    held_out_log_loss: float
    base_log_loss: float
    """Mean negative log-likelihood, in nats, of the held-out verdicts under the probe, and under their base rate."""
    format: int = _FORMAT


class HiddenProbeModel(nn.Module):
    """Features (B, F), standardised, to the logit of P(correct) (B,)."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, features: int, kind: Kind) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        hidden: list[nn.Module] = [nn.Linear(features, _WIDTH), nn.GELU()] if kind == "mlp" else []
        self.layers = nn.Sequential(*hidden, nn.Linear(_WIDTH if kind == "mlp" else features, 1))

    def forward(self, features_BF: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers((features_BF - self.mean) / self.scale)
        return logits.squeeze(-1)


def places(position: Position, layers: Sequence[int]) -> tuple[Place, ...]:
    """The places that a probe reads. Raises ValueError for a position that there is not, no layer, or one twice."""
    if position not in POSITIONS:
        raise ValueError(f"hidden probe: {position!r} is not a position, allowed: {', '.join(POSITIONS)}")
    if not layers or len(set(layers)) != len(layers):
        raise ValueError(f"hidden probe: layers {list(layers)}, expected one or more, each once")
    return tuple((position, layer) for layer in layers)


def features_of(states: Mapping[Place, torch.Tensor], wanted: Sequence[Place]) -> torch.Tensor:
    """States of the places side by side (B, F)."""
    return torch.cat([states[place] for place in wanted], dim=1)


def fit_hidden_probe(
    hidden: HiddenStates,
    correct_B: torch.Tensor,
    *,
    position: Position,
    layers: Sequence[int],
    kind: Kind = "linear",
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> tuple[HiddenProbeModel, HiddenProbeFacts]:
    """Fit a probe to completions and their verdicts, 0 or 1 (NaN where nobody could judge, which is left out).

    A fifth of the ``groups`` (questions of one entity, say; each completion by itself if left out) is held out, and the
    weights with the lowest log-loss there are kept. The same seed gives the same probe. Raises ValueError for a kind
    that there is not, for verdicts or groups of another number than completions, for fewer than 20 usable completions
    (judged, and with states that are finite numbers), and where either part has right or wrong ones only.
    """
    if kind not in KINDS:
        raise ValueError(f"hidden probe: {kind!r} is not a kind, allowed: {', '.join(KINDS)}")
    features_BF = features_of(hidden.states, places(position, layers)).float()
    given = {"verdicts": len(correct_B), "groups": len(features_BF if groups is None else groups)}
    for what, count in given.items():
        if count != len(features_BF):
            raise ValueError(f"hidden probe: {count} {what} for {len(features_BF)} completions")
    usable = (~correct_B.isnan() & features_BF.isfinite().all(dim=1)).nonzero().flatten()
    if len(usable) < FEWEST:
        raise ValueError(
            f"hidden probe: {len(usable)} judged completions have the position {position}, expected at least {FEWEST}"
        )
    features_BF, correct_B = features_BF[usable], correct_B[usable].float()
    names = [str(row) for row in range(len(usable))] if groups is None else [groups[row] for row in usable.tolist()]
    generator = torch.Generator().manual_seed(seed)
    distinct = list(dict.fromkeys(names))
    order = torch.randperm(len(distinct), generator=generator).tolist()
    chosen = {distinct[place] for place in order[: max(round(len(distinct) * _HELD_OUT), 1)]}
    held_B = torch.tensor([name in chosen for name in names])
    for part in (correct_B[held_B], correct_B[~held_B]):
        if not 0 < part.sum() < len(part):
            raise ValueError(
                "hidden probe: the records, or their held-out part, are right throughout or wrong throughout"
            )
    model, loss = _fitted(features_BF, correct_B, held_B, kind, seed)
    base = correct_B[~held_B].mean()
    target = correct_B[held_B]
    base_loss = -(target * base.log() + (1 - target) * (1 - base).log()).mean().item()
    return model, HiddenProbeFacts(
        kind, position, tuple(layers), features_BF.size(1), hidden.identity, len(usable), int(held_B.sum()), loss,
        base_loss,
    )  # fmt: skip


def _fitted(
    features_BF: torch.Tensor, correct_B: torch.Tensor, held_B: torch.Tensor, kind: Kind, seed: int
) -> tuple[HiddenProbeModel, float]:
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        model = HiddenProbeModel(features_BF.size(1), kind)
        seen_BF = features_BF[~held_B]
        model.mean.copy_(seen_BF.mean(dim=0))
        model.scale.copy_(seen_BF.std(dim=0).clamp(min=1e-6))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
        loss_of = nn.functional.binary_cross_entropy_with_logits
        best, kept, since = math.inf, copy.deepcopy(model.state_dict()), 0
        for _ in range(_EPOCHS):
            optimizer.zero_grad()
            torch.autograd.backward(loss_of(model(seen_BF), correct_B[~held_B]))
            optimizer.step()
            with torch.no_grad():
                loss = loss_of(model(features_BF[held_B]), correct_B[held_B]).item()
            since += 1
            if loss < best - 1e-5:
                best, kept, since = loss, copy.deepcopy(model.state_dict()), 0
            elif since >= _PATIENCE:
                break
    model.load_state_dict(kept)
    return model.eval(), best


def save_hidden_probe(folder: str | Path, model: HiddenProbeModel, facts: HiddenProbeFacts) -> None:
    """Write a probe into a folder: weights as safetensors, facts as JSON."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{_WEIGHTS}.{os.getpid()}.partial"
    save_file(model.state_dict(), partial)
    os.replace(partial, folder / _WEIGHTS)
    (folder / _FACTS).write_text(json.dumps(asdict(facts), indent=2) + "\n", encoding="utf-8")


def load_hidden_probe(folder: str | Path) -> tuple[HiddenProbeModel, HiddenProbeFacts]:
    """Read a probe back. Raises ValueError, naming the file, for one that is missing or not what it should be."""
    folder = Path(folder)
    try:
        read: dict[str, Any] = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        facts = HiddenProbeFacts(**read)
        facts = replace(facts, layers=tuple(facts.layers), identity=Identity(**read["identity"]))
        if facts.format != _FORMAT or facts.kind not in KINDS:
            raise ValueError(f"format {facts.format!r} and kind {facts.kind!r}")
        places(facts.position, facts.layers)
        model = HiddenProbeModel(facts.features, facts.kind)
        model.load_state_dict(load_file(folder / _WEIGHTS))
    except OSError as error:
        how = "candor hidden-probe fit CHECKPOINT --records FILE --out DIR makes one"
        raise ValueError(f"{folder}: holds no hidden probe ({error.strerror or error}); {how}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder}: is not a hidden probe: {str(error).partition(chr(10))[0]}") from error
    return model.eval(), facts


_loaded = lru_cache(maxsize=8)(load_hidden_probe)


@dataclass(frozen=True)
class HiddenProbe:
    """P(correct) in [0, 1] from the model's hidden states, by a classifier that was fitted to records of its answers.

    Not valid where the completion lacks the position that is read. Raises ValueError where ``path`` holds no hidden
    probe, and for states of another model or tokenizer than it was fitted to.
    """

    needs: ClassVar[frozenset[str]] = frozenset({HIDDEN_STATES})
    is_probability: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    higher_is_surer: ClassVar[bool] = True
    cost: ClassVar[str] = "one forward pass; over the prompt alone, at its last position"
    source: ClassVar[str] = "arXiv 2207.05221"
    path: str
    """Folder that ``candor hidden-probe fit`` has written."""

    def reads(self, completions: Completions) -> torch.Tensor:
        """No token's statistics."""
        return nothing(completions)

    def check(self, identity: Identity) -> None:
        """Raise ValueError where ``path`` holds no hidden probe, or one that was fitted to another model."""
        facts = _loaded(self.path)[1]
        for what in ("tokenizer", "model"):
            if getattr(identity, what) != getattr(facts.identity, what):
                raise ValueError(
                    f"hidden_probe: {self.path} was fitted to another {what} ({facts.identity.architecture}) than the "
                    f"one that is asked ({identity.architecture}); fit one to this checkpoint"
                )

    @property
    def places(self) -> tuple[Place, ...]:
        """The places whose states it reads."""
        facts = _loaded(self.path)[1]
        return places(facts.position, facts.layers)

    def __call__(self, completions: Completions, statistics: TokenStatistics) -> Estimate:
        """The probability (B,)."""
        hidden = completions.hidden
        if hidden is None:
            raise ValueError("hidden_probe reads hidden states, and the completions have none")
        self.check(hidden.identity)
        model, _ = _loaded(self.path)
        features_BF = features_of(hidden.states, self.places).float()
        with torch.no_grad():
            probability_B = model(features_BF).sigmoid()
        device = completions.written_BT.device
        return Estimate.where(features_BF.isfinite().all(dim=1).to(device), probability_B.to(device))
