"""Hand-over measured on the shipped pair: what must hold whatever the policies do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments import cli


@pytest.mark.slow
def test_every_rule_is_measured_beside_its_controls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["midstream", "tiny-small", "tiny-large", "--recipe", "rlvr", "--prefix", "<think>", "--questions", "4"]
    assert cli.main([*asked, "--fitted", "3", "--out", str(tmp_path), "probe.max_new_tokens=12"]) == 0
    assert "by lot at the share of steer before" in " ".join(capsys.readouterr().out.split())
    found = json.loads((tmp_path / "midstream.json").read_text())
    large, small = found["large alone"], found["small alone"]
    assert (large["steps_by_large"]["value"], small["steps_by_large"]["value"]) == (1.0, 0.0)
    assert large["flops_saved"]["value"] == large["against_large"]["value"] == 0.0
    assert small["large_tokens_saved"]["value"] == 1.0 and 0.3 < small["flops_saved"]["value"] < 1.0
    for moment in ("before", "after"):
        share = found[f"steer {moment}"]["steps_by_large"]["value"]
        assert abs(found[f"by lot at the share of steer {moment}"]["steps_by_large"]["value"] - share) < 0.6
        assert found[f"steer {moment}"]["threshold"]["value"] in (0.05, 0.2, 0.5, 0.8, 0.95)
    assert found["steer before"]["discarded"]["value"] == 0.0


def test_pairs_that_cannot_hand_over_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["midstream", "tiny-small", "tiny-facts", "--recipe", "rlvr", "--out", str(tmp_path)]
    assert cli.main([*asked, "--questions", "1"]) == 2
    assert "--questions is 1, expected a whole number of at least 2" in capsys.readouterr().err
