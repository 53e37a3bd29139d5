"""How a question becomes a prompt, and the template that it asks for."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

from rewards.template import AnswerTemplate


def _levels_as_text(template: Any) -> Any:
    """Levels that a recipe gives without quotation marks, as the texts that they are to a policy."""
    if not isinstance(template, dict) or not isinstance(template.get("levels"), list):
        return template
    levels = (str(each) if isinstance(each, (int, float)) else each for each in template["levels"])
    return template | {"levels": tuple(levels)}


Template = Annotated[AnswerTemplate, BeforeValidator(_levels_as_text)]
"""The ``template`` of a task's section."""


def build_prompt(
    question: str, template: AnswerTemplate, *, chat: bool, instructions: bool
) -> str | list[dict[str, Any]]:
    """The question, with the template's instructions before it if asked; as one user message if ``chat``."""
    text = f"{template.instructions()}\n\n{question}" if instructions else question
    return [{"role": "user", "content": text}] if chat else text
