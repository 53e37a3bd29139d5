"""The two commands that say what a rubric pays for before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.cli import main
from experiments.commands.audit import audit_rubric
from experiments.config.recipe import load_rubric
from experiments.errors import ConfigError
from rewards.catalogue import catalogue, markdown_table
from rewards.rubric import Rubric
from rewards.terms import TERMS
from tests.factories import Refusal

LATE = ("rubric.accuracy.start_step=10", "rubric.accuracy.warmup_steps=20")
Command = Callable[..., tuple[int, str]]


@pytest.fixture
def candor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command on a terminal of 100 columns and returns its status and what it printed."""
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        status = main([str(each) for each in arguments])
        return status, capsys.readouterr().out

    return run


def audited(**weights: float) -> dict[str, Any]:
    return audit_rubric(Rubric.from_config({name: {"weight": w} for name, w in weights.items()}, allow_hackable=True))


# -- the audit in values ---------------------------------------------------------------------------------------------
@settings(deadline=None, max_examples=20)
@given(accuracy=st.floats(0.1, 5.0), brier=st.floats(0.1, 5.0), form=st.floats(0.0, 2.0))
def test_the_whole_rubric_decides_and_the_curve_shows_it(accuracy: float, brier: float, form: float) -> None:
    if abs(accuracy - brier) < 1e-3:
        return
    found = audited(accuracy=accuracy, brier=brier, format=form)
    curve = found["curve"]
    p, honest = np.array(curve["p"]), np.array(curve["honest"])
    np.testing.assert_allclose(honest, accuracy * p + brier * (p**2 - p) + form, atol=1e-9)
    assert curve["wrong"] == pytest.approx(form)
    assert found["safe"] == (brier <= accuracy)
    if found["safe"]:
        assert (curve["flaw"], curve["flaw_range"], found["stages"][0]["flaws"]) == (None, None, [])
        assert (honest >= curve["wrong"] - 1e-9).all()
    else:
        assert curve["flaw_range"] == pytest.approx((0.0, 1 - accuracy / brier), abs=1e-6)
        inside = (p > 0) & (p < curve["flaw_range"][1] - 1e-6)
        assert (honest[inside] < curve["wrong"]).all()
    assert json.loads(json.dumps(found, allow_nan=False))["stages"][0]["weights"]["brier"] == brier


def test_every_stage_of_the_schedules_is_audited() -> None:
    found = audit_rubric(load_rubric("rlcr", LATE))
    assert [stage["step"] for stage in found["stages"]] == [0, 9, 10, None]
    assert [stage["weights"]["accuracy"] for stage in found["stages"]] == [0.0, 0.0, 0.0, 1.0]
    assert [stage["safe"] for stage in found["stages"]] == [False, False, False, True]
    assert found["safe"] is False
    assert (found["curve"]["step"], found["curve"]["flaw"]) == (0, "answering wrongly pays")
    assert found["stages"][0]["flaws"][0]["cures"] == ("bring rubric.brier in later (start_step, warmup_steps)",)
    assert found["curve"]["flaw_range"] == pytest.approx((0.0, 1.0), abs=1e-6)


def test_terms_that_no_audit_sees_are_named() -> None:
    assert audited(accuracy=1, intuitor=0.1, repetition=1, rlsf=0, brier=1)["unaudited"] == ["intuitor", "repetition"]
    soft = Rubric.from_config({"accuracy": {"unjudged": 0.0}, "brier": {"target": "soft"}})
    assert audit_rubric(soft)["unaudited"] == []


def test_nothing_is_called_proper_that_leaves_the_confidence_alone() -> None:
    assert audited(accuracy=1, format=0.2, brier=0)["stages"][0]["proper"] is None
    (stage,) = audited(accuracy=1, linear=0.5)["stages"]
    assert (stage["proper"], stage["strictly_proper"], stage["safe"]) == (False, False, True)


def test_a_flaw_without_a_wrong_answer_that_pays_is_drawn_too() -> None:
    curve = audited(accuracy=1, linear=2)["curve"]
    assert curve["flaw"] == "being right more often pays less"
    assert curve["flaw_range"] == pytest.approx((0.1, 0.125), abs=2e-3)


# -- candor audit ----------------------------------------------------------------------------------------------------
def test_a_safe_rubric_ends_with_0_and_a_hackable_one_with_1(candor: Command) -> None:
    status, page = candor("audit", "rlcr")
    assert (status, page.splitlines()[0]) == (0, "rlcr: the rubric is safe")
    status, page = candor("audit", "rlcr", "rubric.brier.weight=2")
    assert (status, page.splitlines()[0]) == (1, "rlcr: the rubric is hackable")
    assert "P(correct) is in (0, 0.5), answering wrongly on purpose pays more than trying" in page
    assert "remedy: raise rubric.accuracy.weight from 1 to at least 2 or lower rubric.brier.weight (2)" in page
    assert max(map(len, page.splitlines())) <= 100
    assert candor("audit", "rlcr", "rubric.brier.weight=2", "rubric.allow_hackable=true")[0] == 1


def test_the_page_says_what_the_audit_found(candor: Command) -> None:
    _, page = candor("audit", "rlcr", "--json")
    assert json.loads(page) == {"recipe": "rlcr"} | json.loads(json.dumps(audit_rubric(load_rubric("rlcr"))))
    rows = {line[:29].strip(): line[29:].split("  ") for line in candor("audit", "rlcr", *LATE)[1].splitlines()}
    cells = {name: [cell.strip() for cell in row if cell.strip()] for name, row in rows.items()}
    assert cells["accuracy"] == ["0", "0", "0", "1"]
    assert cells["proper"] == ["strictly"] * 4
    assert cells["safe"] == ["no", "no", "no", "yes"]
    assert cells["rewards"] == ["-0.8 to 0.2"] * 3 + ["-0.8 to 1.2"]
    assert cells["wrong pays at P(correct) in"] == ["(0, 1)"] * 3 + ["–"]
    assert "Not audited: intuitor." in candor("audit", "rlcr", "rubric.intuitor.weight=0.1")[1]


@pytest.mark.parametrize(("weight", "share"), [(1.0, 0.0), (2.0, 0.5), (5.0, 0.8)])
def test_the_curve_dips_below_the_wrong_answer_where_that_pays(weight: float, share: float, candor: Command) -> None:
    _, page = candor("audit", "rlcr", f"rubric.brier.weight={weight}")
    lines = [line[10:] for line in page.splitlines() if line[9:10] == "│"]
    (dashed,) = [row for row, line in enumerate(lines) if "╌" in line]
    below = {column for line in lines[dashed + 1 :] for column, cell in enumerate(line) if cell != " "}
    assert bool(below) == (share > 0)
    assert all(column <= share * len(lines[0]) for column in below)
    marked = next((line.count("▔") for line in page.splitlines() if set(line.strip()) == {"▔"}), 0)
    assert marked == pytest.approx(share * 56, abs=1)


def test_pictures_are_drawn_on_request(tmp_path: Path, candor: Command) -> None:
    _, page = candor("audit", "rlcr", "--out", tmp_path / "new", *LATE)
    svg, png = [Path(line) for line in page.splitlines()[-2:]]
    texts = [each.text for each in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert {"expected reward at step 0", "shaded: answering wrongly pays", "P(correct)"} <= set(texts)
    assert png.read_bytes().startswith(b"\x89PNG")
    first = svg.read_bytes()
    status, page = candor("audit", "rlcr", "--json", *LATE, "--out", tmp_path / "new")
    assert (status, json.loads(page)["safe"]) == (1, False)
    assert svg.read_bytes() == first
    candor("audit", "rlcr", "rubric.accuracy=null", "rubric.brier=null", "--out", tmp_path)
    assert "shaded" not in (tmp_path / "reward_curve.svg").read_text()


def test_what_cannot_be_read_ends_with_2(tmp_path: Path, refusal: Refusal) -> None:
    assert refusal.command("audit", "cander").endswith("(did you mean candor?)")
    assert "(did you mean weight?)" in refusal.command("audit", "rlcr", "rubric.brier.wieght=2")
    assert "rubric: this section is missing" in refusal.command("audit", "rlcr", "rubric=null")
    assert "rubric.allow_hackable: 'maybe'" in refusal.command("audit", "rlcr", "rubric.allow_hackable=maybe")
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refusal.command("audit", "rlcr", "--out", tmp_path / "file" / "pictures")


def test_only_the_rubric_of_a_recipe_is_read() -> None:
    assert load_rubric("rlcr", ["trainer.max_stps=1", "rubric.brier.weight=3"]).weights.tolist() == [1.0, 0.2, 3.0]
    with pytest.raises(ConfigError, match="unknown section"):
        load_rubric("rlcr", ["trainr.max_steps=1"])


# -- candor rewards --------------------------------------------------------------------------------------------------
def test_the_terms_are_listed_in_full(candor: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(candor("rewards", "--json")[1]) == catalogue()
    assert candor("rewards", "--markdown")[1] == markdown_table() + "\n"
    _, narrow = candor("rewards")
    lines = narrow.splitlines()
    assert max(map(len, lines)) <= 100
    assert "…" not in narrow
    after_a_gap = [line.split()[0] for gap, line in pairwise(lines) if line.strip() and not gap.strip()]
    assert after_a_gap == list(TERMS)
    monkeypatch.setenv("COLUMNS", "200")
    _, wide = candor("rewards")
    for entry in catalogue():
        assert entry["formula"] in wide
        assert entry["range"] in wide
        assert entry["paper"].removeprefix("arXiv ") in wide
        assert not entry["signals"] or f"reads {', '.join(entry['signals'])}" in wide
