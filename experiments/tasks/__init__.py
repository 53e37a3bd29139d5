"""Tasks: each gives rows ``{id, prompt, answer, source, group}`` of a named split, and the template they ask for.

``prompt`` is text, or a list of chat messages where the task's ``chat`` is set; ``answer`` is the gold. Where the gold
is not what a policy would write, ``demonstration`` is a right answer to imitate.
"""

from __future__ import annotations

from experiments.tasks.arithmetic import Arithmetic
from experiments.tasks.arithmetic_words import ArithmeticWords
from experiments.tasks.dataset import Dataset
from experiments.tasks.facts import Facts
from experiments.tasks.rearrangement import Rearrangement

Task = Arithmetic | ArithmeticWords | Dataset | Facts | Rearrangement
TASKS: dict[str, type[Task]] = {
    "arithmetic": Arithmetic,
    "arithmetic_words": ArithmeticWords,
    "dataset": Dataset,
    "facts": Facts,
    "rearrangement": Rearrangement,
}
