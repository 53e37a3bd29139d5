"""``candor audit``: whether a rubric pays for wrong answers, at any step of its schedules."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.commands.terminal import Terminal

if TYPE_CHECKING:
    from rewards.rubric import Rubric

HELP = "audit the rubric of a recipe: does it ever pay to answer wrongly?"
EXIT_HACKABLE = 1


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    parser.add_argument("recipe", metavar="RECIPE", help="a shipped recipe (see candor recipes) or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as rubric.brier.weight=2")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the curve as a picture, SVG and PNG")
    parser.epilog = "Ends with status 0 for a safe rubric, 1 for a hackable one."


def run(options: argparse.Namespace) -> int:
    """Print the audit; the status says whether the rubric is safe."""
    from experiments.config.recipe import load_rubric

    found = audit_rubric(load_rubric(options.recipe, options.overrides))
    pictures: list[Path] = []
    if options.out is not None:
        from experiments.files import writable
        from experiments.report.reward_curve import save_reward_curve

        pictures = save_reward_curve(found["curve"], writable(options.out))
    if options.json:
        print(json.dumps({"recipe": options.recipe} | found, indent=2, allow_nan=False))
    else:
        from experiments.report.audit import audit_page

        Terminal().print(audit_page(options.recipe, found))
        for picture in pictures:
            print(picture)
    return 0 if found["safe"] else EXIT_HACKABLE


def audit_rubric(rubric: Rubric) -> dict[str, Any]:
    """What is to be known of a rubric before it trains anything, in values that JSON can hold.

    ``safe`` at every stage; ``terms`` as a recipe states them; ``training``, the fields of
    :class:`rewards.training.TrainingFacts`; ``unaudited``, those terms that pay by signals alone, which no audit sees;
    ``scaled_by_group``, calibration terms that are not proper as they are trained; ``declining``, terms that make
    declining to answer an action that is paid. ``stages`` has one entry a turning point, the last with ``step`` None,
    where all weights have arrived: ``weights``, the fields of :class:`rewards.audit.Audit` (``proper`` and
    ``strictly_proper`` None where nothing depends on the confidence, None for infinite numbers) and ``flaws``, the
    fields of :class:`rewards.safety.Flaw`. ``curve`` is :func:`rewards.audit.expected_reward_curve` of what an answer's
    tokens earn at the first stage that is hackable, at the last if none is, with that stage's ``step`` and, in words,
    its ``flaw`` and the ``flaw_range`` of P(correct).
    """
    from rewards.audit import expected_reward_curve
    from rewards.terms.abstention import ABSTAINING

    stages = [_stage(rubric, step) for step in rubric.turning_points()]
    drawn = next((stage for stage in stages if not stage["safe"]), stages[-1])
    p, honest, wrong = expected_reward_curve(rubric.safety(drawn["step"]).scheme("answer"))
    parts = list(zip(rubric.terms, rubric.weights.tolist(), rubric.calibrates, strict=True))
    flaw = drawn["flaws"][0] if drawn["flaws"] else None
    return {
        "safe": all(stage["safe"] for stage in stages),
        "terms": rubric.to_config(),
        "training": dataclasses.asdict(rubric.facts),
        "unaudited": [
            term.name for term, weight, by_confidence in parts if weight and term.signals and not by_confidence
        ],
        "scaled_by_group": list(rubric.safety().scaled_by_group),
        "declining": [term.name for term, weight, _ in parts if weight and isinstance(term, ABSTAINING)],
        "stages": stages,
        "curve": {
            "step": drawn["step"],
            "flaw": None if flaw is None else _IN_SHORT[flaw["event"]],
            "flaw_range": None if flaw is None else (flaw["low"], flaw["high"]),
            "p": p.tolist(),
            # What is the same but for rounding is drawn as one line.
            "honest": honest.round(12).tolist(),
            "wrong": round(float(wrong[0]), 12),
        },
    }


_IN_SHORT = {
    "wrong": "answering wrongly pays",
    "decreasing": "being right more often pays less",
    "untied": "certainty pays, right or wrong",
    "truncated": "being cut off pays",
    "unjudged": "an answer that cannot be judged pays",
    "abstained": "declining to answer pays",
    "unparsed": "what cannot be read pays",
}


def _stage(rubric: Rubric, step: int | None) -> dict[str, Any]:
    weights = rubric.weights_at(step).tolist()
    found = dataclasses.asdict(rubric.audit(step))
    if not any(weight and by_confidence for weight, by_confidence in zip(weights, rubric.calibrates, strict=True)):
        found["proper"] = found["strictly_proper"] = None
    return {
        "step": step,
        "weights": dict(zip(rubric.names, weights, strict=True)),
        **{key: None if isinstance(value, float) and math.isinf(value) else value for key, value in found.items()},
        "flaws": [dataclasses.asdict(flaw) for flaw in rubric.flaws(step)],
    }
