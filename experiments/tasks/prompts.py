"""How a question becomes a prompt."""

from __future__ import annotations

from typing import Any

from rewards.template import AnswerTemplate


def build_prompt(
    question: str, template: AnswerTemplate, *, chat: bool, instructions: bool
) -> str | list[dict[str, Any]]:
    """The question, with the template's instructions before it if asked; as one user message if ``chat``."""
    text = f"{template.instructions()}\n\n{question}" if instructions else question
    return [{"role": "user", "content": text}] if chat else text
