"""What the audit of a recipe's rubric has to know of its other sections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from experiments.config.methods import DEFAULT_METHOD, METHODS
from experiments.schema import from_mapping, one_of
from experiments.tasks.prompts import Template
from rewards.template import AnswerTemplate
from rewards.training import TrainingFacts, training_facts


@dataclass(frozen=True)
class _Templated:
    """What every task section has."""

    template: Template = field(default_factory=AnswerTemplate)


def recipe_facts(source: Mapping[str, Any]) -> TrainingFacts:
    """How a recipe trains, from its template and a few keys of its trainer; its files need not be there.

    Raises ConfigError for a template or a method that is not allowed.
    """
    sections = (source.get(name) for name in ("task", "trainer"))
    task, trainer = (dict(each) if isinstance(each, dict) else {} for each in sections)
    method = one_of("trainer.method", trainer.pop("method", DEFAULT_METHOD), METHODS)
    given = {"template": task["template"]} if task.get("template") else {}
    templated = from_mapping(_Templated, given, "task")
    return training_facts(trainer, templated.template, rollouts=METHODS[method].rollouts)
