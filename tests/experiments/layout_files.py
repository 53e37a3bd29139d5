"""Small files of the question sets known by name, with the columns that they have on the hub."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.tasks.layouts import LAYOUTS

CHOICES = {"text": ["a bank", "a park", "a car"], "label": ["A", "B", "C"]}
TITLES = [f"Title {n}" for n in range(10)]
HOTPOT = {
    "question": "Were both written by one man?", "answer": "yes", "type": "comparison", "level": "hard",
    "supporting_facts": {"title": ["Title 2", "Title 7", "Title 7"], "sent_id": [0, 1, 2]},
    "context": {"title": TITLES, "sentences": [[f"About {n}.", " More."] for n in range(10)]},
}  # fmt: skip
ROWS: dict[str, tuple[dict[str, Any], str, str]] = {
    "gsm8k": ({"question": "How many?", "answer": "Two and two are 4.\n#### 1,250"}, "1250", "1251"),
    "math": (
        {"problem": "What?", "level": "Level 5", "type": "Algebra", "solution": r"So $\boxed{\frac{1}{2}}$."},
        "0.5", "2",
    ),
    "big_math_digits": (
        {"problem": "What?", "answer": "-3", "source": "amc", "domain": ["Algebra"], "llama8b_solve_rate": 0.5},
        "-3", "3",
    ),
    "hotpotqa": ({"id": "5a7", **HOTPOT}, "Yes.", "no"),
    "triviaqa": (
        {
            "question": "Where?", "question_id": "tc_2", "answer": {
                "aliases": ["New York City", "NYC"], "normalized_aliases": ["nyc"], "value": "New York",
            },
        }, "nyc", "York",
    ),
    "simpleqa": (
        {"metadata": "{'topic': 'Art'}", "problem": "Who?", "answer": "Michio Sugeno"}, "michio sugeno", "Sugeno",
    ),
    "commonsenseqa": (
        {"id": "1", "question": "Where?", "question_concept": "x", "choices": CHOICES, "answerKey": "B"}, "B", "A",
    ),
    "mmlu": ({"question": "Which?", "subject": "algebra", "choices": ["0", "1", "2", "3"], "answer": 3}, "D", "A"),
    "openbookqa": ({"id": "7-1", "question_stem": "The sun is", "choices": CHOICES, "answerKey": "C"}, "a car", "B"),
    "medqa": (
        {
            "question": "A man has?", "answer": "Ibuprofen", "options": {"A": "Water", "B": "Ibuprofen"},
            "meta_info": "step1", "answer_idx": "B", "metamap_phrases": [],
        }, "B", "A",
    ),
    "gpqa": (
        {
            "Record ID": "rec1", "Question": "Which?", "Correct Answer": "right", "Incorrect Answer 1": "x",
            "Incorrect Answer 2": "y", "Incorrect Answer 3": "z", "High-level domain": "Physics",
        }, "right", "x",
    ),
    "reasoning_gym": (
        {"question": "4 + 3 =", "answer": "7", "metadata": {"source_dataset": "chain_sum", "source_index": 0}},
        "7", "8",
    ),
}  # fmt: skip
"""Layout -> a row of it, an answer that is right and one that is not."""
HELD_OUT = {"problem": "Held out?", "question": "Held out?", "question_stem": "Held out?", "Question": "Held out?"}


def files(folder: Path, layout: str, rows: list[dict[str, Any]]) -> str:
    """The rows under the name that the set's test has, in the kind of file that suits them."""
    known, nested = LAYOUTS[layout], layout in ("hotpotqa", "triviaqa", "commonsenseqa", "openbookqa")
    for number, (split, name) in enumerate(known.splits.items()):
        if len(set(known.splits.values())) == 1 and number:
            continue
        asked = rows if split == "test" or len(set(known.splits.values())) == 1 else [
            {key: f"{split}: {value}" if key in HELD_OUT else value for key, value in row.items()} for row in rows
        ]  # fmt: skip
        place = folder / (known.subset or "data")
        place.mkdir(exist_ok=True)
        if nested:
            pd.DataFrame(asked).to_parquet(place / f"{name}-00000-of-00001.parquet")
        elif layout in ("simpleqa", "gpqa"):
            pd.DataFrame(asked).to_csv(place / f"{name}.csv", index=False, quoting=csv.QUOTE_ALL)
        else:
            (place / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in asked))
    return str(folder)
