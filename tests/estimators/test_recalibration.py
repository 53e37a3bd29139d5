"""Recalibration maps: recovered parameters, what keeps a ranking, files, groups, and numpy alone when applied."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from estimators.metrics import auroc, brier, ece, nll
from estimators.recalibration import METHODS, Recalibration, fit

ROOT = Path(__file__).resolve().parents[2]


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def draw(seed, n=4000, temperature=2.5, offset=0.0):
    """Confidences whose logits are too far out by ``temperature``."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0.5, 1.2, n)
    return sigmoid(temperature * z), (rng.random(n) < sigmoid(z + offset)).astype(int)


@pytest.mark.parametrize("method", METHODS)
def test_held_out_calibration_improves(method):
    recalibrate = fit(method, *draw(0))
    confidence, correct = draw(1)
    better = recalibrate(confidence)
    assert ece(better, correct) < 0.5 * ece(confidence, correct)
    assert brier(better, correct) < brier(confidence, correct)
    assert nll(better, correct) < nll(confidence, correct)


def test_known_parameters_are_found():
    assert fit("temperature", *draw(2, 40000)).parameters == pytest.approx((2.5,), rel=0.05)
    slope, intercept = fit("platt", *draw(3, 40000, offset=-0.7)).parameters
    assert (slope, intercept) == (pytest.approx(0.4, rel=0.05), pytest.approx(-0.7, abs=0.05))
    a, b, c = fit("beta", *draw(4, 40000, offset=-0.7)).parameters  # equal exponents are Platt's line
    assert (a, b) == (pytest.approx(0.4, abs=0.06), pytest.approx(0.4, abs=0.06)) and c == pytest.approx(-0.7, abs=0.1)


def test_isotonic_is_scikit_learns_at_any_confidence():
    confidence, correct = draw(5, 500)
    grid = np.linspace(0, 1, 301)
    theirs = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(confidence, correct).predict(grid)
    assert np.allclose(fit("isotonic", confidence, correct)(grid), theirs)


@pytest.mark.parametrize("method", METHODS)
def test_which_maps_keep_the_ranking(method):
    confidence, correct = draw(6, 2000)
    moved = fit(method, confidence, correct)(np.sort(confidence))
    if method in ("temperature", "platt", "beta"):
        assert np.all(np.diff(moved) > 0)
    if method == "isotonic":
        assert np.all(np.diff(moved) >= 0) and len(np.unique(moved)) < len(np.unique(confidence))
    if method == "histogram":
        assert len(np.unique(moved)) <= 10


def test_a_map_for_each_group_can_change_a_ranking():
    easy, hard = draw(7, 3000, offset=1.5), draw(8, 3000, offset=-1.5)
    confidence, correct = np.concatenate([easy[0], hard[0]]), np.concatenate([easy[1], hard[1]])
    groups = np.repeat(["easy", "hard"], 3000)
    apart, together = fit("platt", confidence, correct, groups), fit("platt", confidence, correct)
    assert auroc(apart(confidence, groups), correct) > auroc(together(confidence), correct) + 0.05
    assert auroc(together(confidence), correct) == pytest.approx(auroc(confidence, correct))
    unknown = apart([0.3], ["neither"])
    assert unknown == pytest.approx(together([0.3]))
    with pytest.raises(ValueError, match="fitted per group"):
        apart([0.3])


def test_small_groups_have_no_map_of_their_own():
    confidence, correct = draw(9, 200)
    groups = np.where(np.arange(200) < 30, "small", "large")
    assert set(fit("temperature", confidence, correct, groups).groups) == {"large"}


@pytest.mark.parametrize("method", METHODS)
def test_files_bring_back_the_same_map(method, tmp_path):
    confidence, correct = draw(10, 600)
    one = fit(method, confidence, correct, np.where(np.arange(600) % 2, "a", "b"))
    other = Recalibration.load(one.save(tmp_path / "calibration" / "recalibration.json"))
    assert other == one
    assert [each.name for each in (tmp_path / "calibration").iterdir()] == ["recalibration.json"]


@pytest.mark.parametrize("method", METHODS)
def test_edges_one_class_and_constants(method):
    for confidence, correct in (
        ([0.0, 1.0, 0.5], [1, 0, 1]),
        ([0.3] * 4, [1, 1, 1, 1]),
        ([0.7] * 6, [0, 1] * 3),
        ([1.0], [0]),
    ):
        found = fit(method, confidence, correct)([0.0, 0.2, 1.0])
        assert np.all((found >= 0) & (found <= 1))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "not valid JSON"),
        ("[]", "holds a list, expected an object"),
        ('{"format": 1, "method": "platt", "parameters": [NaN, 0]}', "not valid JSON: NaN is not a number"),
        ('{"format": 1, "method": "platt", "parameters": [1' + "0" * 400 + ", 0]}", "expected a list of numbers"),
        ('{"format": 2}', "not a recalibration of format 1"),
        ('{"format": 1, "method": "pickle"}', "method is 'pickle', expected one of temperature"),
        ('{"format": 1, "method": "platt", "parameters": [1]}', "1 numbers do not make a map by platt"),
        ('{"format": 1, "method": "temperature", "parameters": [-1]}', "expected a number above 0"),
        ('{"format": 1, "method": "platt", "parameters": [1, "2"]}', "expected a list of numbers"),
        ('{"format": 1, "method": "isotonic", "parameters": [0.5, 0.1, 0, 2]}', "rising places"),
    ],
)
def test_bad_files_are_named(content, problem, tmp_path):
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=problem) as caught:
        Recalibration.load(path)
    assert str(path) in str(caught.value)
    with pytest.raises(ValueError, match=r"none\.json: no such file"):
        Recalibration.load(tmp_path / "none.json")


def test_bad_columns_are_named():
    with pytest.raises(ValueError, match=r"confidence\[1\] is 1.5"):
        fit("platt", [0.5, 1.5], [0, 1])
    with pytest.raises(ValueError, match=r"correct\[1\] is neither 0 nor 1"):
        fit("platt", [0.5, 0.5], [0, 0.5])
    with pytest.raises(ValueError, match="method is 'plat', expected one of"):
        fit("plat", [0.5], [0])


def test_applying_needs_numpy_alone(tmp_path):
    path = fit("isotonic", *draw(11, 300)).save(tmp_path / "r.json")
    program = f"""
import sys
class Refuse:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("torch", "scipy", "pandas", "sklearn", "transformers"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
from estimators.recalibration import Recalibration
print(Recalibration.load({json.dumps(str(path))})([0.2, 0.9]).tolist())
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
