"""How a question becomes a prompt, and the template that it asks for."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

from rewards.template import AnswerTemplate


def _lists_of_texts(template: Any) -> Any:
    """Levels that a recipe gives without quotation marks as the texts that they are to a policy; lists as tuples."""
    if not isinstance(template, dict):
        return template
    lists = {name: each for name, each in template.items() if isinstance(each, list)}
    if "levels" in lists:
        lists["levels"] = [str(each) if isinstance(each, (int, float)) else each for each in lists["levels"]]
    return template | {name: tuple(each) for name, each in lists.items()}


Template = Annotated[AnswerTemplate, BeforeValidator(_lists_of_texts)]
"""The ``template`` of a task's section."""


def build_prompt(
    question: str, template: AnswerTemplate, *, chat: bool, instructions: bool
) -> str | list[dict[str, Any]]:
    """The question, with the template's instructions before it if asked; as one user message if ``chat``."""
    text = f"{template.instructions()}\n\n{question}" if instructions else question
    return [{"role": "user", "content": text}] if chat else text
