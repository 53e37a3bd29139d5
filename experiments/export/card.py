"""The model card of an exported folder: what it is for, how it is read, what was measured, what was not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.export.sources import Sources
from experiments.report.glossary import METRICS, cell_text, plain

_HEAD = """\
---
library_name: transformers
pipeline_tag: text-generation
tags:
- candor
- calibration
- confidence
---
# {name}: a language model with a measured confidence

The confidence that comes with each answer of this model was measured on held-out questions, and `calibration/` says how
to read it. It is read by **{estimator}** ({what}).

## Reading it

```python
from estimators import Confidence

confidence = Confidence.load("this folder")
reading = confidence.of_response(client.chat.completions.create(..., logprobs=True, top_logprobs=20))
print(reading["confidence"], reading["source"], reading["decision"])
```

numpy suffices; `candor serve` answers with the same reading. A question as it was asked, and what it answered:

~~~
{prompt}
~~~

~~~
{completion}
~~~
"""
_WHAT = {
    "verbalized": "what it states in its answer; needs the text alone",
    "expected_confidence": "the mean of its confidence levels under its own distribution over them, at temperature "
    "{temperature:g}; needs log-probabilities",
    "confidence_token": "the probability of its surest level against its least sure one, at temperature "
    "{temperature:g}; needs log-probabilities",
    "answer_probability": "the probability of its answer's tokens; needs log-probabilities",
    "answer_min_probability": "the probability of the least likely token of its answer; needs log-probabilities",
}


def model_card(sources: Sources) -> str:
    """The text of the card; every figure in it is one of the probe's, with its 95% interval."""
    task, split = plain(sources.meta.get("task", "?"), 80), plain(sources.meta.get("split", "?"), 80)
    what = _WHAT[sources.estimator].format(temperature=sources.temperature)
    name = plain(sources.checkpoint.resolve().parent.name, 60)
    example = sources.records.iloc[0]
    prompt, completion = (plain(example[each], 1500).replace("~~~", "~ ~ ~") for each in ("prompt", "completion"))
    head = _HEAD.format(name=name, estimator=sources.estimator, what=what, prompt=prompt, completion=completion)
    parts = [
        head,
        f"## Figures\n\n{len(sources.records):,} held-out questions of the task `{task}`, split `{split}`, one greedy "
        f"answer each; 95% intervals.\n\n{_table(sources.figures)}\n\n"
        f"![Reliability of the confidence by {sources.estimator}](calibration/reliability.svg)",
        _gate(sources),
        f"## Intended use\n\nQuestions like those of `{task}`, by a system that answers, escalates or abstains by the "
        "confidence. Fit the gate again on judged traffic of your own before its promise is relied on: it holds for "
        "questions like those that it was fitted on, and `Gate.drift` says when they are no longer.",
        f"## What it was not tested on\n\n- other tasks than `{task}`, other languages, other instructions than those "
        "of the example\n- several turns, system messages, tools\n- sampled answers: the figures are of greedy ones\n"
        "- quantised weights and other engines, whose log-probabilities differ\n- questions made to deceive it",
        "## Provenance\n\nTask and training: `calibration/recipe.yaml`, `calibration/rubric.json`; versions of "
        "packages: `calibration/versions.json`; digests of all files: `calibration/calibration.json`. A folder whose "
        "files were changed or exchanged is refused when it is loaded."
        + "".join(f" {each}" for each in sources.unknown),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _table(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    shown = [metric for metric in METRICS if any(metric.key in entries for entries in metrics.values())]
    lines = [
        "| read by | " + " | ".join(f"{metric.label} {metric.arrow}" for metric in shown) + " |",
        "| --- |" + " --- |" * len(shown),
    ]
    for name, entries in metrics.items():
        lines.append(f"| {plain(name, 60)} | " + " | ".join(cell_text(metric, entries) for metric in shown) + " |")
    return "\n".join(lines)


def _gate(sources: Sources) -> str:
    gate = sources.gate
    if gate is None:
        return "## Gate\n\nNone was exported: fit one with `candor gate fit`."
    rates = {"error": "of its answers are wrong", "cost": "of the questions are escalated",
             "parity": "of the accuracy of the large model are lost"}  # fmt: skip
    (tier,) = gate.tiers
    promise = f"at most {gate.alpha:.2%} {rates[gate.promise]}, with probability {1 - gate.delta:.0%} over the rows"
    source = plain(gate.source, 120)
    if tier.threshold is None:
        why = f"{tier.status}: {plain(tier.reason, 200)}"
        return f"## Gate\n\nPromise: {promise}. No threshold keeps it ({why}), so it answers nothing."
    recalibrated = (
        " The threshold is of the confidence as it is read, before the recalibration in `recalibration.json`."
        if sources.recalibration is not None
        else ""
    )
    return (
        f"## Gate\n\nIt answers from a confidence of {tier.threshold:.4f} on and else chooses to {gate.otherwise}. "
        f"Promise: {promise}. Fitted on {gate.rows:,} judged rows ({source}), of which it answers {tier.coverage:.1%}."
        + recalibrated
    )
