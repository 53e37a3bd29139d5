"""Tasks: each gives rows ``{id, prompt, answer, source, group}`` of a named split, and the template they ask for.

``prompt`` is text, or a list of chat messages where the task's ``chat`` is set; ``answer`` is the gold.
"""

from __future__ import annotations

from experiments.tasks.arithmetic import Arithmetic
from experiments.tasks.gsm8k import Gsm8k

Task = Arithmetic | Gsm8k
TASKS: dict[str, type[Arithmetic] | type[Gsm8k]] = {"arithmetic": Arithmetic, "gsm8k": Gsm8k}
