"""Token statistics against lm-polygraph's perplexity, mean token entropy and self-certainty: same model, same texts.

    make smollm2 && pip download --no-deps --dest /tmp/lm-polygraph lm-polygraph
    python tests/benchmarks/lm_polygraph_speed.py --wheel /tmp/lm-polygraph/lm_polygraph-*.whl [--pairs 3]

The texts are this repository's README, cut into rows of equal length; one forward pass of the model gives the logits of
all tokens but each row's first, and both sides start from these, so that the pass itself is not counted.
Of lm-polygraph only the modules that compute these are read, from its wheel, so that its other requirements need not be
installed. Its time is taken twice. As a whole it is what these three cost whoever asks it for them: its calculator of
log-probabilities, which lists alternatives to every token too, given a model that writes the texts with these logits
(a check of each step's logits and their log-softmax, as its own model does), its entropy calculator and its three
estimators. The arithmetic alone is the log-softmax in one piece, the entropy calculator and the estimators. Ours is
that of all statistics and the three means. All take turns in one process of one thread; seconds are those of the
processor, or with `--device cuda`, where the logits lie on the GPU, those that pass: lm-polygraph takes them to the
processor, where its calculators work.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clock import timed

from estimators import ESTIMATORS
from estimators.estimator import Completions
from estimators.token_statistics import token_statistics
from experiments.config.models import open_policy

OURS = {"Perplexity": "mean_log_prob", "MeanTokenEntropy": "entropy", "SelfCertainty": "self_certainty"}
"""Theirs -> ours. Theirs are higher where the model is less sure: perplexity and self-certainty are ours, negated."""

StatsOf = Callable[[dict[str, Any], torch.Tensor, torch.Tensor], dict[str, Any]]
"""lm-polygraph's parts, logits (B, T, V) and tokens (B, T) -> what its estimators read."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--model", default="smollm2-135m-instruct", help="a shipped policy, a folder or a hub name")
    for name, default in (("completions", 8), ("tokens", 64), ("pairs", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logits_BTV, tokens_BT = read_texts(options.model, options.completions, options.tokens, options.device)
    theirs = lm_polygraph(options.wheel)
    sides = {"as a whole": calculated, "its arithmetic alone": log_softmax_alone}
    ratios: dict[str, list[float]] = {name: [] for name in sides}
    difference = 0.0
    of_ours(logits_BTV, tokens_BT)  # what is loaded at the first call is nobody's time
    for _ in range(options.pairs):
        own_seconds, own = timed(lambda: of_ours(logits_BTV, tokens_BT), options.device)
        for side, stats_of in sides.items():
            work = partial(of_lm_polygraph, theirs, stats_of, logits_BTV, tokens_BT)
            seconds, values = timed(work, options.device)
            ratios[side].append(seconds / own_seconds)
            difference = max(difference, *(float(np.abs(values[name] - own[name]).max()) for name in OURS))
    spread = {
        side: {"median": statistics.median(each), "low": min(each), "high": max(each)} for side, each in ratios.items()
    }
    shape = dict(zip(("completions", "tokens", "vocabulary"), logits_BTV.shape, strict=True))
    print(json.dumps({"times as fast": spread, "largest difference": difference} | shape, indent=2))


def read_texts(name: str, completions: int, tokens: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (B, T, V) of a model over rows of text, and the tokens (B, T) that stand there."""
    model, tokenizer = open_policy(name, "--model")
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    ids = tokenizer.encode(text, add_special_tokens=False)[: completions * (tokens + 1)]
    ids_BT = torch.tensor(ids, device=device).reshape(completions, tokens + 1)
    with torch.no_grad():
        return model.eval().to(device)(ids_BT).logits[:, :-1].float(), ids_BT[:, 1:]


def lm_polygraph(wheel: Path) -> dict[str, Any]:
    """The calculator and the estimators, by name, from their files alone."""
    sys.path.insert(0, str(wheel))
    for name in ("lm_polygraph", "lm_polygraph.estimators", "lm_polygraph.stat_calculators", "lm_polygraph.utils"):
        package = types.ModuleType(name)
        package.__path__ = [f"{wheel}/{name.replace('.', '/')}"]
        sys.modules[name] = package  # in place of its own, which imports all that there is
    # What they name and do not use here comes with everything that it requires.
    unused = {
        "utils.model": {"WhiteboxModel": object},
        "model_adapters": {"WhiteboxModel": object, "WhiteboxModelvLLM": object},
        "utils.common": {"polygraph_module_init": lambda function: function},  # which keeps arguments for printing
        "stat_calculators.stat_calculator": {"StatCalculator": object},
    }
    for name, members in unused.items():
        module = types.ModuleType(f"lm_polygraph.{name}")
        module.__dict__.update(members)
        sys.modules[module.__name__] = module
    places = {
        "EntropyCalculator": "stat_calculators.entropy",
        "GreedyProbsCalculator": "stat_calculators.greedy_probs",
        "Perplexity": "estimators.perplexity",
        "MeanTokenEntropy": "estimators.token_entropy",
        "SelfCertainty": "estimators.self_certainty",
    }
    found = {name: getattr(importlib.import_module(f"lm_polygraph.{each}"), name) for name, each in places.items()}
    plain = {"GreedyProbsCalculator": {"output_attentions": False}}  # which nothing here asks for
    return {name: each(**plain.get(name, {})) for name, each in found.items()}


def of_lm_polygraph(
    theirs: dict[str, Any], stats_of: StatsOf, logits_BTV: torch.Tensor, tokens_BT: torch.Tensor
) -> dict[str, np.ndarray]:
    """Its three values of each completion."""
    stats = stats_of(theirs, logits_BTV, tokens_BT)
    stats |= theirs["EntropyCalculator"](stats)
    return {name: theirs[name](stats) for name in OURS}


def calculated(theirs: dict[str, Any], logits_BTV: torch.Tensor, tokens_BT: torch.Tensor) -> dict[str, Any]:
    """Its log-probabilities as its calculator makes them of what a model writes."""
    model = Writer(logits_BTV, tokens_BT)
    return theirs["GreedyProbsCalculator"]({}, [""] * len(tokens_BT), model, max_new_tokens=tokens_BT.size(1))


def log_softmax_alone(theirs: dict[str, Any], logits_BTV: torch.Tensor, tokens_BT: torch.Tensor) -> dict[str, Any]:
    """The same log-probabilities and no more."""
    log_probs = list(torch.log_softmax(logits_BTV, dim=-1).cpu().numpy())
    chosen = [
        [row[place, token] for place, token in enumerate(tokens)]
        for row, tokens in zip(log_probs, tokens_BT.tolist(), strict=True)
    ]
    return {"greedy_log_probs": log_probs, "greedy_log_likelihoods": chosen}


class Writer:
    """What lm-polygraph's calculator takes for a model: it writes given tokens, with given logits."""

    model_type = "CausalLM"

    def __init__(self, logits_BTV: torch.Tensor, tokens_BT: torch.Tensor) -> None:
        """Keep what is to be written, after a prompt of one token."""
        self.logits_BTV, self.tokens_BT = logits_BTV, tokens_BT
        self.generation_parameters = types.SimpleNamespace(allow_newlines=True)
        self.tokenizer = types.SimpleNamespace(eos_token_id=-1, decode=lambda ids: "")

    def tokenize(self, texts: list[str]) -> dict[str, torch.Tensor]:
        """The prompt of each text."""
        return {"input_ids": torch.zeros((len(texts), 1), dtype=torch.long)}

    def device(self) -> str:
        """Where the logits are."""
        return self.logits_BTV.device.type

    def generate(self, input_ids: torch.Tensor, **asked: Any) -> Any:
        """The tokens, and of each step what lm-polygraph's own model keeps: log-probabilities of checked logits."""
        steps = self.logits_BTV.unbind(1)
        scores = [logits_BV.log_softmax(-1) for logits_BV in steps if torch.isfinite(logits_BV).all()]
        return types.SimpleNamespace(scores=scores, sequences=torch.cat([input_ids, self.tokens_BT], dim=1))


def of_ours(logits_BTV: torch.Tensor, tokens_BT: torch.Tensor) -> dict[str, np.ndarray]:
    """Ours of each completion, with the sign of theirs."""
    read = token_statistics(logits_BTV, tokens_BT)
    written_BT, none_BT = torch.ones_like(tokens_BT, dtype=torch.bool), torch.zeros_like(tokens_BT, dtype=torch.bool)
    completions = Completions(
        prompt_ids=[[1]] * len(tokens_BT),
        completion_ids=tokens_BT.tolist(),
        written_BT=written_BT,
        reasoning_BT=none_BT,
        answer_BT=none_BT,
        confidence_BT=none_BT,
        steps_BT=torch.full_like(tokens_BT, -1),
        stated_B=torch.full((len(tokens_BT),), torch.nan, dtype=torch.float64, device=tokens_BT.device),
    )
    found = {}
    for name, ours in OURS.items():
        estimator = ESTIMATORS[ours]()
        values = estimator(completions, read).values_B.cpu().numpy()
        found[name] = -values if estimator.higher_is_surer else values
    return found


if __name__ == "__main__":
    main()
