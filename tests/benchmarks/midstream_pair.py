"""Hand-over in mid-stream between two policies of one vocabulary: accuracy, share of the large one, tokens and FLOPs.

``python tests/benchmarks/midstream_pair.py SMALL LARGE --recipe rlvr --questions 300`` prints a table. The mixture is
fitted on steps that the small policy writes on validation questions, without labels; thresholds are a grid, all of
which is shown. The share-matched controls draw the large policy's steps by lot at the share that each STEER row used.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from estimators.metrics.resampling import bootstrap, wilson
from estimators.segmentation import StepRules
from experiments.config.models import open_policy
from experiments.config.recipe import load_recipe
from experiments.probe.generate import Policy
from experiments.routing.midstream import FixedRate, Judge, Mixture, RandomShare, Solved, Steer, solve
from experiments.routing.step_writer import StepWriter
from rl.rollout import encode_prompt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("small")
    parser.add_argument("large")
    parser.add_argument("--recipe", default="rlvr")
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--separator", default=";")
    parser.add_argument("--prefix", default="", help="what every completion begins with, such as <think>")
    options = parser.parse_args()
    recipe = load_recipe(options.recipe)
    rules = StepRules(separators=(options.separator,))
    writers = []
    for path in (options.small, options.large):
        model, tokenizer = open_policy(path, "policy", attn_implementation="eager")
        writers.append(StepWriter(Policy(model.eval(), tokenizer, recipe.template), rules))
    small, large = writers
    rows = recipe.task.rows("test", options.questions, seed=0)
    held_out = recipe.task.rows("validation", min(options.questions, 100), seed=0)

    def prompt_ids(row: dict[str, Any]) -> list[int]:
        return encode_prompt(small.policy.tokenizer, row["prompt"] + options.prefix)

    limits = {"max_tokens": recipe.probe.max_new_tokens, "longest_step": 32}
    before, after = [], []
    for row in held_out:
        watched = _Watched()
        solve(small, large, watched, prompt_ids(row), **limits)
        before += watched.before_values
        after += watched.after_values
    mixtures = {"before": Mixture.fit(before), "after": Mixture.fit(after)}
    for moment, mixture in mixtures.items():
        print(moment, mixture)

    def run(name: str, make: Any) -> list[Solved]:
        return [solve(small, large, make(number), prompt_ids(row), **limits) for number, row in enumerate(rows)]

    with recipe.task.open_verifier() as verifier:

        def show(name: str, results: list[Solved], reference: np.ndarray | None) -> np.ndarray:
            texts = [small.policy.tokenizer.decode(each.ids) for each in results]
            answers = [recipe.template.parse(options.prefix + text, lenient=True).answer for text in texts]
            verdicts = verifier.verify(golds=[row["answer"] for row in rows], answers=answers)
            correct = np.array([float(verdict.correct or 0.0) for verdict in verdicts])
            accuracy = wilson(int(correct.sum()), len(correct), 0.95)
            gap = ""
            if reference is not None:
                paired = bootstrap(lambda values: float(values.mean()), correct - reference)
                gap = f"{paired.value:+.3f} ({paired.low:+.3f} to {paired.high:+.3f})"
            steps = [by_large for each in results for by_large in each.by_large]
            written = sum(len(each.ids) for each in results)
            print(
                f"{name:28} accuracy {accuracy.value:.3f} ({accuracy.low:.3f}-{accuracy.high:.3f})"
                f"  against large {gap or '-':26}"
                f"  steps by large {np.mean(steps):.3f}"
                f"  tokens by large {sum(each.written_by_large for each in results) / written:.3f}"
                f"  discarded {sum(each.discarded for each in results) / written:.3f}"
                f"  FLOPs {np.mean([each.flops for each in results]) / flops:.3f}",
                flush=True,
            )
            return correct

        alone = run("large", lambda _: FixedRate(1))
        flops = np.mean([each.flops for each in alone])
        reference = show("large alone", alone, None)
        show("small alone", run("small", lambda _: FixedRate(0)), reference)
        for moment in ("before", "after"):
            for threshold in (0.2, 0.5, 0.8, 0.95):
                steer = Steer(mixtures[moment], threshold, moment)
                results = run("steer", lambda _, steer=steer: steer)
                show(f"steer {moment} {threshold}", results, reference)
                share = float(np.mean([by_large for each in results for by_large in each.by_large]))
                lot = run("lot", lambda number, share=share: RandomShare(share, seed=number))
                show(f"  by lot at {share:.3f}", lot, reference)
        for every in (2, 3):
            show(f"every {every}", run("rate", lambda _, every=every: FixedRate(every)), reference)
        for threshold in (0.5, 0.9):
            show(f"judge {threshold}", run("judge", lambda _, threshold=threshold: Judge(threshold)), reference)


class _Watched:
    """Hands nothing over and keeps the confidences, before each step and after it."""

    def __init__(self) -> None:
        self.before_values: list[float] = []
        self.after_values: list[float] = []

    def before(self, number: int, confidence: Any) -> bool:
        self.before_values.append(confidence())
        return False

    def after(self, step: Any, judged: Any) -> bool:
        self.after_values.append(step.confidence)
        return False


if __name__ == "__main__":
    main()
