"""Token statistics against lm-polygraph's perplexity, mean token entropy and self-certainty: same model, same texts.

    make smollm2 && pip download --no-deps --dest /tmp/lm-polygraph lm-polygraph
    python tests/benchmarks/lm_polygraph_speed.py --wheel /tmp/lm-polygraph/lm_polygraph-*.whl [--pairs 3]

The texts are this repository's README, cut into rows of equal length; one forward pass of the model gives the logits of
all tokens but each row's first, and both sides start from these, so that the pass itself is not counted.
Of lm-polygraph only the four modules that compute these are read, from its wheel, so that its other requirements need
not be installed: it is given what its pipeline gives them, log-probabilities of every token as arrays. The time counted
as its is that of the log-softmax, its entropy calculator and its three estimators; ours is that of all statistics and
the three means. Both take turns in one process of one thread; seconds are those of the processor.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

from estimators import ESTIMATORS
from estimators.estimator import Completions
from estimators.token_statistics import token_statistics
from experiments.config.models import open_policy

OURS = {"Perplexity": "mean_log_prob", "MeanTokenEntropy": "entropy", "SelfCertainty": "self_certainty"}
"""Theirs -> ours. Theirs are higher where the model is less sure: perplexity and self-certainty are ours, negated."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--model", default="smollm2-135m-instruct", help="a shipped policy, a folder or a hub name")
    for name, default in (("completions", 8), ("tokens", 64), ("pairs", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logits_BTV, tokens_BT = read_texts(options.model, options.completions, options.tokens)
    theirs = lm_polygraph(options.wheel)
    ratios, difference = [], 0.0
    for _ in range(options.pairs):
        seconds, values = timed(lambda: of_lm_polygraph(theirs, logits_BTV, tokens_BT))
        own_seconds, own = timed(lambda: of_ours(logits_BTV, tokens_BT))
        ratios.append(seconds / own_seconds)
        difference = max(difference, *(float(np.abs(values[name] - own[name]).max()) for name in OURS))
    spread = {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
    shape = dict(zip(("completions", "tokens", "vocabulary"), logits_BTV.shape, strict=True))
    print(json.dumps({"times as fast": spread, "largest difference": difference} | shape, indent=2))


def read_texts(name: str, completions: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (B, T, V) of a model over rows of text, and the tokens (B, T) that stand there."""
    model, tokenizer = open_policy(name, "--model")
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    ids = tokenizer.encode(text, add_special_tokens=False)[: completions * (tokens + 1)]
    ids_BT = torch.tensor(ids).reshape(completions, tokens + 1)
    with torch.no_grad():
        return model.eval()(ids_BT).logits[:, :-1].float(), ids_BT[:, 1:]


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
        "utils.common": {"polygraph_module_init": lambda function: function},  # which keeps arguments for printing
        "stat_calculators.stat_calculator": {"StatCalculator": object},
    }
    for name, members in unused.items():
        module = types.ModuleType(f"lm_polygraph.{name}")
        module.__dict__.update(members)
        sys.modules[module.__name__] = module
    places = {
        "EntropyCalculator": "stat_calculators.entropy",
        "Perplexity": "estimators.perplexity",
        "MeanTokenEntropy": "estimators.token_entropy",
        "SelfCertainty": "estimators.self_certainty",
    }
    return {name: getattr(importlib.import_module(f"lm_polygraph.{each}"), name)() for name, each in places.items()}


def of_lm_polygraph(theirs: dict[str, Any], logits_BTV: torch.Tensor, tokens_BT: torch.Tensor) -> dict[str, np.ndarray]:
    """Its three values of each completion."""
    log_probs = list(torch.log_softmax(logits_BTV, dim=-1).numpy())
    chosen = [
        [row[place, token] for place, token in enumerate(tokens)]
        for row, tokens in zip(log_probs, tokens_BT.tolist(), strict=True)
    ]
    stats = {"greedy_log_probs": log_probs, "greedy_log_likelihoods": chosen}
    stats |= theirs["EntropyCalculator"](stats)
    return {name: theirs[name](stats) for name in OURS}


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
        steps_BT=torch.full(tokens_BT.shape, -1),
        stated_B=torch.full((len(tokens_BT),), torch.nan, dtype=torch.float64),
    )
    found = {}
    for name, ours in OURS.items():
        estimator = ESTIMATORS[ours]()
        values = estimator(completions, read).values_B.numpy()
        found[name] = -values if estimator.higher_is_surer else values
    return found


def timed(function: Any) -> tuple[float, Any]:
    """Seconds of the processor that a call takes, and what it returns."""
    started = time.process_time()
    result = function()
    return time.process_time() - started, result


if __name__ == "__main__":
    main()
