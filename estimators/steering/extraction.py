"""A steering vector from traces: one pass over them, prototypes of two ways to think, and the layer that tells most.

Kept of ReBalance (arXiv 2603.12372): over-thinking steps are unsure and of varying confidence, under-thinking ones sure
and steadily so, by quantiles over the traces; the direction is that between the mean states of the two. Its release
labels by a lexicon of hesitation and by confidence instead (``release``), SEAL (arXiv 2504.07986) by words alone
(``words``). The release's choice of a layer is the one here: that whose states, through principal components and a
ridge regression, say most of the confidence of their steps. Changed: the
held-out part is of whole traces, and states are of the tokens that the model wrote, never of text that is tokenised
again. The first step of a trace, which has no step to vary from, is left out.

Shapes: B traces, T tokens of the longest, N steps, H hidden size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from estimators.decoding import AS_WRITTEN, Tokenizer
from estimators.estimator import Completions
from estimators.forward_passes import left_padded, logits_of
from estimators.online.thresholds import Identity
from estimators.steering.control import Bounds
from estimators.steering.vector import Definition, Position, SteeringVector
from estimators.step_confidence import step_confidences, window_variances
from estimators.token_statistics import hidden_statistics

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LEXICON = (
    "alternatively", "another", "but", "check again", "double check", "hmm", "hold on", "however", "let me check",
    "let me verify", "maybe", "on second thought", "perhaps", "re-check", "think again", "wait",
)  # fmt: skip
"""Words of hesitation, for traces in English; those of a policy that writes something else are to be named."""
Labels = Literal["quantiles", "release", "words"]
LABELS: tuple[Labels, ...] = get_args(Labels)
FEWEST = 20
"""Steps behind the first of their traces that a fit needs."""
_COMPONENTS, _RIDGE, _HELD_OUT = 64, 1.0, 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """N steps of traces: the number of the trace, confidence, variance, text, and states (N, H) by layer, float32."""

    trace_N: NDArray[np.int64]
    confidence_N: NDArray[np.float64]
    variance_N: NDArray[np.float64]
    texts: tuple[str, ...]
    states: Mapping[int, torch.Tensor]

    def __len__(self) -> int:
        return len(self.trace_N)


def read_steps(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    completions: Completions,
    definition: Definition,
    layers: Sequence[int],
    *,
    pad_token_id: int,
    batch_size: int,
) -> Steps:
    """Steps of traces, from one forward pass over ``batch_size`` of them at a time.

    Kept are the states of one token a step, N x layers x H numbers in all. Raises ValueError for a layer that the model
    does not have, and where a trace has no prompt.
    """
    check_layers(model, layers)
    if any(len(prompt) == 0 for prompt in completions.prompt_ids):
        raise ValueError("an empty prompt gives the first token of a trace no logits; start it with a BOS token")
    traces: list[int] = []
    confidences: list[float] = []
    variances: list[float] = []
    texts: list[str] = []
    states: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
    for first in range(0, len(completions), batch_size):
        rows = range(first, min(first + batch_size, len(completions)))
        found, by_layer = _one_pass(model, completions, rows, definition, layers, pad_token_id)
        for row, steps in zip(rows, found, strict=True):
            spread = window_variances(steps, definition.window)
            tokens, numbers = completions.completion_ids[row], completions.steps_BT[row].tolist()
            for step in range(1, len(steps)):
                ids = [token for token, number in zip(tokens, numbers, strict=False) if number == step]
                traces.append(row)
                confidences.append(steps[step])
                variances.append(spread[step])
                texts.append(str(tokenizer.decode(ids, **AS_WRITTEN)))
        for layer in layers:
            states[layer].append(by_layer[layer])
    width = model.config.get_text_config().hidden_size
    return Steps(
        np.array(traces, dtype=np.int64),
        np.array(confidences),
        np.array(variances),
        tuple(texts),
        {layer: torch.cat(parts) if parts else torch.empty(0, width) for layer, parts in states.items()},
    )


def check_layers(model: PreTrainedModel, layers: Sequence[int]) -> None:
    """Raise ValueError for a layer that a vector cannot be of; the embeddings, layer 0, are not one that thinks."""
    last = model.config.get_text_config().num_hidden_layers
    for layer in layers:
        if not 1 <= layer <= last:
            raise ValueError(f"steering: layer {layer} is missing, the model has 1 to {last}")


def _one_pass(
    model: PreTrainedModel,
    completions: Completions,
    rows: range,
    definition: Definition,
    layers: Sequence[int],
    pad_token_id: int,
) -> tuple[list[list[float]], dict[int, torch.Tensor]]:
    """Confidence of every step of each trace, and by layer the states of all steps behind the first."""
    sequences = [[*completions.prompt_ids[row], *completions.completion_ids[row]] for row in rows]
    ids, mask, positions = (each.to(model.device) for each in left_padded(sequences, pad_token_id))
    steps_BT = completions.steps_BT[rows.start : rows.stop].cpu()
    # Sequences end together, at the right.
    starts = [ids.size(1) - len(completions.completion_ids[row]) for row in rows]
    with torch.no_grad():
        trunk = model.base_model(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, output_hidden_states=True
        )
        inside, tokens = (steps_BT >= 0).nonzero(as_tuple=True)
        places = torch.tensor(starts)[inside] + tokens
        hidden, written = trunk.last_hidden_state[inside, places - 1], ids[inside, places]
        with logits_of(model) as project:
            read = hidden_statistics(hidden, written, project, model.config.get_text_config().vocab_size)
    highest_BT = torch.ones(steps_BT.shape)
    highest_BT[inside, tokens] = read.max_probability.cpu()
    confidences_BS = step_confidences(highest_BT, steps_BT, definition.kind).tolist()
    counts = [int(steps_T.max()) + 1 if steps_T.numel() else 0 for steps_T in steps_BT]
    found = [steps[:count] for steps, count in zip(confidences_BS, counts, strict=True)]
    where = [
        (row, start + place)
        for row, (start, steps_T) in enumerate(zip(starts, steps_BT, strict=True))
        for place in step_places(steps_T.tolist(), definition.position)
    ]
    at_rows, at_places = (torch.tensor([each[side] for each in where], dtype=torch.long) for side in (0, 1))
    return found, {layer: trunk.hidden_states[layer][at_rows, at_places].float().cpu() for layer in layers}


def step_places(steps: Sequence[int], position: Position) -> list[int]:
    """The token of each step behind the first whose state is meant; ``steps`` are the step numbers of the tokens.

    >>> step_places([-1, 0, 0, 1, 1, -1, 2, -1], "first"), step_places([-1, 0, 0, 1, 1, -1, 2, -1], "separator")
    ([3, 6], [2, 4])
    """
    last: dict[int, int] = {}
    places = []
    for place, step in enumerate(steps):
        if step > 0 and step not in last:
            places.append(place if position == "first" else last[step - 1])
        last[step] = place
    return places


def bounds_of(steps: Steps, quantiles: tuple[float, float] = (0.25, 0.75)) -> Bounds:
    """The two quantiles of the confidences and of the variances.

    Raises ValueError for quantiles that are not 0 < low < high < 1, for too few steps, and as :class:`Bounds` does.
    """
    if not 0 < quantiles[0] < quantiles[1] < 1:
        raise ValueError(f"quantiles are {quantiles!r}, expected two numbers in (0, 1), the lower one first")
    if len(steps) < FEWEST:
        raise ValueError(
            f"{len(steps)} steps behind the first of their traces, expected at least {FEWEST}: more traces, longer "
            "ones, or other step_separators in the template"
        )
    confidence, variance = (np.quantile(each, quantiles) for each in (steps.confidence_N, steps.variance_N))
    return Bounds(float(confidence[0]), float(confidence[1]), float(variance[0]), float(variance[1]))


def lexicon_hits(steps: Steps, lexicon: Sequence[str]) -> NDArray[np.bool_]:
    """Whether a step has a word of the lexicon (N,): as a whole word, in either case.

    Raises ValueError for an empty lexicon.
    """
    if not lexicon or not all(lexicon):
        raise ValueError(f"lexicon is {tuple(lexicon)!r}, expected one word or more, none of them empty")
    whole = (rf"(?<!\w){re.escape(each)}(?!\w)" if each[0].isalnum() else re.escape(each) for each in lexicon)
    words = re.compile("|".join(whole), re.IGNORECASE)
    return np.array([words.search(text) is not None for text in steps.texts], dtype=bool)


def label_steps(
    steps: Steps, bounds: Bounds, labels: Labels = "quantiles", lexicon: Sequence[str] = LEXICON
) -> NDArray[np.int64]:
    """1 of an over-thinking step, -1 of an under-thinking one, 0 of any other (N,).

    ``quantiles``: by confidence and variance, the paper's. ``release``: 1 with a word of the lexicon or of low
    confidence, -1 of high confidence and without one. ``words``: 1 with a word of the lexicon, -1 without one.
    """
    if labels == "quantiles":
        pairs = list(zip(steps.confidence_N.tolist(), steps.variance_N.tolist(), strict=True))
        return np.array([bounds.overthinks(*each) - bounds.underthinks(*each) for each in pairs], dtype=np.int64)
    over_N = lexicon_hits(steps, lexicon)
    under_N = ~over_N
    if labels == "release":
        over_N = over_N | (steps.confidence_N < bounds.confidence_low)
        under_N = under_N & (steps.confidence_N > bounds.confidence_high)
    return over_N.astype(np.int64) - under_N


def layer_fits(steps: Steps, seed: int = 0) -> dict[int, float]:
    """By layer, R^2 of a ridge regression of the confidences on the layer's states, on a fifth of the traces held out.

    Raises ValueError where there are fewer than two traces.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline

    traces = np.unique(steps.trace_N)
    if len(traces) < 2:
        raise ValueError(f"steps of {len(traces)} trace, expected at least 2 to choose a layer by")
    chosen = np.random.default_rng(seed).permutation(traces)[: max(round(len(traces) * _HELD_OUT), 1)]
    held_N = np.isin(steps.trace_N, chosen)
    fits = {}
    for layer, states_NH in steps.states.items():
        seen_NH, other_NH = states_NH[torch.from_numpy(~held_N)].numpy(), states_NH[torch.from_numpy(held_N)].numpy()
        regression = make_pipeline(PCA(min(_COMPONENTS, *seen_NH.shape)), Ridge(alpha=_RIDGE))
        regression.fit(seen_NH, steps.confidence_N[~held_N])
        error = np.square(steps.confidence_N[held_N] - regression.predict(other_NH)).sum()
        spread = np.square(steps.confidence_N[held_N] - steps.confidence_N[held_N].mean()).sum()
        fits[layer] = float(1 - error / spread) if spread > 0 else float("-inf")
    return fits


def fit_vector(
    steps: Steps,
    definition: Definition,
    model: str,
    tokenizer: str,
    *,
    quantiles: tuple[float, float] = (0.25, 0.75),
    labels: Labels = "quantiles",
    lexicon: Sequence[str] = LEXICON,
    seed: int = 0,
) -> SteeringVector:
    """The vector of the layer, among those of the steps, whose states say most of the confidence.

    ``model`` and ``tokenizer`` are fingerprints; ``labels`` as in :func:`label_steps`. Raises ValueError where one of
    the two kinds has no step, where the prototypes are one, and as :func:`bounds_of` and :func:`layer_fits` do.
    """
    bounds = bounds_of(steps, quantiles)
    labels_N = label_steps(steps, bounds, labels, lexicon)
    counts = {"over-thinking": int((labels_N > 0).sum()), "under-thinking": int((labels_N < 0).sum())}
    for name, count in counts.items():
        if not count:
            raise ValueError(f"none of {len(steps)} steps is {name} by {labels} and {bounds}; more traces, or others")
    fits = layer_fits(steps, seed) if len(steps.states) > 1 else {}
    layer = max(fits, key=lambda each: fits[each]) if fits else next(iter(steps.states))
    states_NH = steps.states[layer].double()
    over_H, under_H = (states_NH[torch.from_numpy(labels_N == label)].mean(dim=0) for label in (1, -1))
    difference_H = over_H - under_H
    distance = float(difference_H.norm())
    if not distance > 0:
        raise ValueError(f"the prototypes of layer {layer} are the same: there is no direction between them")
    return SteeringVector(
        identity=Identity(model, tokenizer, definition.text),
        definition=definition,
        layer=layer,
        bounds=bounds,
        distance=distance,
        direction_H=(difference_H / distance).float(),
        labels=labels,
        steps=len(steps),
        over=counts["over-thinking"],
        under=counts["under-thinking"],
        lexicon=() if labels == "quantiles" else tuple(lexicon),
        fits=fits,
    )
