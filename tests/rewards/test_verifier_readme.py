"""The table of examples in rewards/README.md says what the verifiers do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rewards.verifiers import choice, text
from rewards.verifiers.math import math

README = Path(__file__).resolve().parents[2] / "rewards" / "README.md"
JUDGES = {"math": math.judge, "text": text.judge, "choice": choice.judge}
ROW = re.compile(r"\| (math|text|choice) \| `(.*?)` \| `(.*?)` \| ([01]) \|.*\|")
ROWS = [match.groups() for match in map(ROW.fullmatch, README.read_text(encoding="utf-8").splitlines()) if match]


def test_every_row_of_the_table_is_read() -> None:
    table = README.read_text(encoding="utf-8").partition("<!-- verifier examples")[2].split("\n\n")[0]
    assert len(ROWS) == table.count("\n|") - 2 > 40


@pytest.mark.parametrize(("verifier", "gold", "answer", "right"), ROWS)
def test_example(verifier: str, gold: str, answer: str, right: str) -> None:
    assert JUDGES[verifier](gold, answer).correct == float(right)
