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

    ``safe`` at every stage; ``terms`` as a recipe states them; ``unaudited``, those of them that pay by signals alone,
    which no audit sees. ``stages`` has one entry a turning point, the last with ``step`` None, where all weights have
    arrived: ``weights``, the fields of :class:`rewards.audit.Audit` (``proper`` and ``strictly_proper`` None where
    nothing depends on the confidence, None for infinite numbers), ``weakness``, the reason why it is hackable, and
    ``remedies``. ``curve`` is :func:`rewards.audit.expected_reward_curve` at the first stage that is hackable, at the
    last if none is, with that stage's ``step`` and, in words, its ``flaw`` and the ``flaw_range`` of P(correct).
    """
    from rewards.audit import expected_reward_curve

    stages = [_stage(rubric, step) for step in rubric.turning_points()]
    drawn = next((stage for stage in stages if not stage["safe"]), stages[-1])
    p, honest, wrong = expected_reward_curve(rubric.scheme(drawn["step"]))
    parts = zip(rubric.terms, rubric.weights.tolist(), rubric.calibrates, strict=True)
    return {
        "safe": all(stage["safe"] for stage in stages),
        "terms": rubric.to_config(),
        "unaudited": [
            term.name for term, weight, by_confidence in parts if weight and term.signals and not by_confidence
        ],
        "stages": stages,
        "curve": {
            "step": drawn["step"],
            "flaw": _flaw(drawn),
            "flaw_range": drawn["hackable_range"] or drawn["decreasing_range"],
            "p": p.tolist(),
            # What is the same but for rounding is drawn as one line.
            "honest": honest.round(12).tolist(),
            "wrong": round(float(wrong[0]), 12),
        },
    }


def _flaw(stage: dict[str, Any]) -> str | None:
    if stage["safe"]:
        return None
    return "answering wrongly pays" if stage["hackable_range"] else "being right more often pays less"


def _stage(rubric: Rubric, step: int | None) -> dict[str, Any]:
    weights = rubric.weights_at(step).tolist()
    found = dataclasses.asdict(rubric.audit(step))
    if not any(weight and by_confidence for weight, by_confidence in zip(weights, rubric.calibrates, strict=True)):
        found["proper"] = found["strictly_proper"] = None
    reason, remedies = rubric.weakness(step) or (None, ())
    return {
        "step": step,
        "weights": dict(zip(rubric.names, weights, strict=True)),
        **{key: None if isinstance(value, float) and math.isinf(value) else value for key, value in found.items()},
        "weakness": reason,
        "remedies": list(remedies),
    }
