"""A study: refused before anything is trained, each variant at its best setting, finished runs kept."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import wandb
import yaml

from experiments.ablation.plan import in_words, plan
from experiments.ablation.run import ablate
from experiments.ablation.study import load_study, study_names
from experiments.ablation.tables import markdown_summary
from experiments.cli import main
from experiments.config.recipe import load_recipe
from experiments.errors import ConfigError
from experiments.launch.shapes import shape_of

ROOT = Path(__file__).parents[2]
METHODS = ["answer_probability", "answer_probability_isotonic", "verbalized_isotonic"]
HOW = ("sequence", "segment", "closed")
TRAINED_FIRST = ("after", "longer", "smollm2", "smollm2_after", "smollm2_terms")
TWO_RATES = {"grid": {"trainer.learning_rate": [1e-4, 1e-3]}}


def write(path: Path, **sections: Any) -> str:
    path.write_text(yaml.safe_dump(sections))
    return str(path)


@pytest.fixture
def recipe(policy: Any, tmp_path: Path) -> str:
    return write(
        tmp_path / "short.yaml",
        task={
            "name": "arithmetic",
            "max_steps": 1,
            "train_size": 50,
            "template": {"levels": list(policy.template.levels)},
        },
        model={"path": str(policy.path), "attn_implementation": "eager"},
        rubric={"accuracy": {"weight": 1.0}, "brier": {"weight": 1.0}},
        trainer={
            "max_steps": 4,
            "learning_rate": 1e-3,
            "per_device_train_batch_size": 8,
            "num_generations": 4,
            "max_completion_length": 10,
            "gradient_checkpointing": False,
            "use_cpu": True,
        },
        probe={"size": 40, "max_new_tokens": 10, "escalate_to": str(policy.path)},
    )


def test_the_shipped_study_can_be_run() -> None:
    study = load_study("credit", ["trainer.max_steps=3"])
    assert list(study.variants) == [f"{rule}_{how}" for rule in ("own", "candor") for how in HOW]
    assert len(study.settings()) == 21
    assert not {*study.seeds} & {*study.select.seeds} and study.baseline == "own_sequence"
    assert study.set["trainer.max_steps"] == 3 and study.set["probe.confidence"] == "expected_confidence"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"select": {"metric": "brir"}}, "did you mean brier"),
        ({"seeds": []}, "seeds"),
        ({"variants": {"a": {"recipe": "rlvrr"}}}, "did you mean rlvr"),
        ({"variants": {"a": {"recipe": "rlvr", "set": {"trainer.learning_rat": 1}}}}, "did you mean learning_rate"),
        *(({"variants": {name: {"recipe": "rlvr"}}}, "names a folder") for name in ("a/b", "..", ".", ".jobs", "")),
        ({"variants": {"summary.json": {"recipe": "rlvr"}}}, "a file of the study's results has this name"),
        ({"grid": {"trainer.learning_rate": 1}}, "list of values"),
        ({"grid": {"trainer.learning_rate": ["fast"]}}, "'fast'"),
        ({"grid": {"trainer.learning_rate": [1e-4, 1e-3]}}, "2 settings needs seeds to choose with"),
        (TWO_RATES | {"select": {"seeds": [1, 0]}}, "study.select.seeds: 0 is among seeds too"),
        (TWO_RATES | {"select": {"seeds": [5, 5]}}, "study.select.seeds: 5 stands twice"),
        (
            TWO_RATES | {"grid": {"trainer.learning_rate": [1e-4, 1e-4]}},
            "study.grid: learning_rate=0.0001 stands",
        ),
        ({"cross": {"trainer.num_generations": [4, 4]}}, "study.cross: num_generations=4 stands twice"),
        (
            {"cross": {"trainer.beta": [0.0, 0.1]}, "grid": {"trainer.beta": [0.2]}},
            r"study\.cross\.trainer\.beta: grid has values of its own for it",
        ),
        (
            {"variants": {"a": {"recipe": "rlvr", "set": {"trainer.beta": 0.1}}}, "grid": {"trainer.beta": [0.2]}},
            r"study\.variants\.a\.set\.trainer\.beta: grid has values",
        ),
        (
            {
                "variants": {"a": {"recipe": "rlcr", "set": {"rubric.brier": {"weight": 2.0}}}},
                "cross": {"rubric.brier.weight": [1.0, 3.0]},
            },
            r"study\.variants\.a\.set\.rubric\.brier\.weight: cross has values",
        ),
        (
            {"set": {"trainer.beta": 0.1}, "grid": {"trainer.beta": [0.2]}},
            r"study\.set\.trainer\.beta: grid has values",
        ),
        ({"set": {"rubric.brier.weight": 2.0, "rubric.brier": {"weight": 1.0}}}, "brier.weight, which stands after it"),
        ({"set": {"trainer.save_strategy": "no"}}, "trainer.save_strategy: 'no' in variant a, only 'steps' is allowed"),
        ({"set": {"trainer": {"seed": 3}}}, r"study\.set\.trainer\.seed: is set by the study itself"),
        ({"variants": {"a": {"recipe": "rlsf_dpo", "set": {"trainer.rounds": 2}}}}, "trainer.rounds: 2 in variant a"),
        ({"set": {"trainer.num_generations": 3}}, "3 does not divide the generation batch"),
        ({"select": {"seeds": [5]}}, "nothing to choose"),
        ({"select": {"size": 50}}, "study.select.size: there are no seeds to choose with"),
        ({"baseline": "b"}, "study.baseline: 'b' is not one of a"),
        ({"cross": {"trainer.credit": "segment"}}, "study.cross.trainer.credit: 'segment' is not a list"),
        ({"set": {"trainer.seed": 1}}, "study.set.trainer.seed: is set by the study itself"),
        ({"grid": [{"trainer.seed": 1}]}, "study.grid.trainer.seed: is set by the study itself"),
        ({"every": 0}, "below 1"),
        ({"evry": 5}, "did you mean every"),
    ],
)
def test_what_cannot_be_run_is_refused_first(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    study = {"variants": {"a": {"recipe": "rlvr"}}, "seeds": [0]} | changes
    with pytest.raises(ConfigError, match=said):
        load_study(write(tmp_path / "study.yaml", **study))


def test_a_study_trains_chooses_measures_and_draws(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    path = write(
        tmp_path / "tiny.yaml",
        variants={"whole": {"recipe": recipe, "set": {"trainer.credit": "sequence"}}},
        set={
            "trainer.report_to": "wandb",
            "estimators.answer_probability": {},
            "probe.recalibrate": {"answer_probability": ["isotonic"], "verbalized": ["isotonic"]},
            "probe.recalibration_size": 40,
        },
        grid={"trainer.learning_rate": [1e-9, 1e-2]},
        select={"seeds": [7], "size": 30},
        seeds=[0],
        every=2,
    )
    out = tmp_path / "out"
    said: list[str] = []
    summary = ablate(load_study(path), out, jobs=2, say=said.append)
    wandb.teardown()  # or this process would keep WANDB_DIR
    rows = pd.read_parquet(out / "results.parquet")
    others = rows[(rows["metric"] == "brier") & (rows["method"] != "verbalized")]
    assert set(others["method"]) == set(METHODS) and len(others) == 3 * 3
    brier = rows[(rows["metric"] == "brier") & (rows["method"] == "verbalized")]
    assert len(brier) == 3 * 4, "two settings to choose and one run to report, at steps 0, 2, 4 and the end"
    assert set(brier[brier["role"] == "selection"]["seed"]) == {7}
    assert set(brier[brier["role"] == "reporting"]["seed"]) == {0}
    kept = pd.concat([pd.read_parquet(path) for path in out.glob("whole/*/seed-0/records.parquet")])
    assert len(kept) == 40 * 4 and set(kept["method"]) == {"probe", *(f"probe_{each}" for each in METHODS)}
    asked = {seed: next(out.glob(f"whole/*/seed-{seed}/log.txt")).read_text() for seed in (0, 7)}
    assert "question 30 of 30" in asked[7] and "question 30 of 30" not in asked[0]
    row = summary["variants"]["whole"]
    assert list(summary["readings"]["whole"]) == METHODS
    own = rows[(rows["role"] == "selection") & (rows["step"] == 4) & (rows["split"] == "validation")]
    judged = own.pivot(index="setting", columns="metric", values="value")
    assert json.loads((judged["accuracy"] - judged["brier"]).idxmax()) == row["setting"]
    assert [edge["end"] for edge in row["edges"]] in (["lowest"], ["highest"]), "both of two values are ends"
    test = brier[(brier["role"] == "reporting") & (brier["split"] == "test")]
    assert list(test["value"]) == [row["brier"]["value"]] and row["brier"]["low"] is None
    assert 0.0 <= row["escalation_rate_to_parity"]["value"] <= 1.0
    assert markdown_summary(summary) == (out / "summary.md").read_text()
    assert (out / "curves.png").stat().st_size > 10_000
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 4, "three runs and their summary"
    media = [path.name for path in tmp_path.glob("wandb/offline-run-*/files/media/*/study/*")]
    assert sorted(name.split("_")[0] for name in media) == ["accuracy", "accuracy", "curves", "variants"]
    logs = [path.read_bytes() for path in tmp_path.glob("wandb/offline-run-*/*.wandb")]
    assert all(b"tiny" in log for log in logs) and sum(b"whole only" in log or b"whole l" in log for log in logs) == 3
    trained = {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")}
    assert len(trained) == 3 * 3
    ablate(load_study(path), out, jobs=1, say=said.append)
    wandb.teardown()
    assert {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")} == trained


def test_a_dry_run_says_what_a_study_takes_and_runs_nothing(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    variants = {"a": {"recipe": recipe}, "b": {"recipe": recipe, "set": {"trainer.credit": "sequence"}}}
    grid = {"trainer.learning_rate": [1e-3, 1e-2]}
    study = write(
        tmp_path / "study.yaml", variants=variants, grid=grid, select={"seeds": [9]}, seeds=[0, 1, 2], every=2
    )
    out = tmp_path / "out"
    assert main(["ablate", study, "--out", str(out), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "runs: 10, 4 to choose settings and 6 to report; 0 done\nhours: not known" in said and not out.exists()
    done = out / "a" / "learning_rate=0.001" / "seed-0"
    done.mkdir(parents=True)
    (done / "measures.json").write_text("[]")
    (done / "metrics.jsonl").write_text('{"step": 4}\n{"step": 4, "train_runtime": 3600.0}\n')
    assert main(["ablate", study, "--out", str(out), "--dry-run"]) == 0
    assert "1 done\nhours: 9.0, one after another" in capsys.readouterr().out
    found = plan(load_study(study), out)
    parameters = shape_of(load_recipe(recipe).model.path)[0].parameters
    assert found.disk == 10 * parameters * (2 * 12 + 4), "two checkpoints with their optimizer, and the final weights"


@pytest.mark.parametrize("every", [2, 3])
def test_the_disk_of_adapters_is_theirs_and_the_last_step_has_a_checkpoint(
    every: int, recipe: str, tmp_path: Path
) -> None:
    """Of 4 steps, every second or every third, two checkpoints are left; by hand, adapters of rank 2 and of rank 4."""
    study = write(
        tmp_path / "study.yaml",
        variants={"whole": {"recipe": recipe}, "adapted": {"recipe": recipe, "set": {"model.lora": {}}}},
        cross={"model.lora.r": [2, 4]},
        seeds=[0],
        every=every,
    )
    shape = shape_of(load_recipe(recipe).model.path)[0]
    found = plan(load_study(study), tmp_path / "out")
    assert found.disk == 2 * (shape.adapter(2) + shape.adapter(4)) * 4 * (2 * 3 + 1)


def test_a_separate_critic_lies_beside_each_checkpoint_and_steps_may_be_unknown(tmp_path: Path) -> None:
    sections: dict[str, Any] = {"variants": {"a": {"recipe": "candor_ppo"}}, "seeds": [0], "every": 100}
    one = plan(load_study(write(tmp_path / "a.yaml", **sections)), tmp_path).disk
    two = plan(load_study(write(tmp_path / "b.yaml", **sections, set={"trainer.value_model": "separate"})), tmp_path)
    assert one is not None and two.disk == 2 * one
    unknown = plan(load_study(write(tmp_path / "c.yaml", **sections, set={"trainer.max_steps": -1})), tmp_path)
    assert unknown.disk is None and "the number of its steps" in in_words(unknown)


@pytest.mark.parametrize("name", study_names())
def test_every_shipped_study_can_be_planned(name: str) -> None:
    study = load_study(name, ["probe.size=20", "probe.escalate_to=null"])
    assert study.name == name and study.baseline in study.variants
    found = plan(study, Path("absent"))
    assert found.tuning == len(study.variants) * len(study.settings()) * len(study.select.seeds)
    assert (found.disk is None) == (name in TRAINED_FIRST), "its policy is trained first"
    assert ("disk: not known" in in_words(found)) == (name in TRAINED_FIRST)


def test_the_study_of_terms_has_its_cells() -> None:
    study = load_study("terms", ["probe.size=20", "probe.escalate_to=null"])
    assert len(study.variants) == 12 and len(study.settings()) == 4 and len(study.seeds) == 3
    assert plan(study, Path("absent")).tuning == 48


def test_a_folder_with_a_run_of_other_settings_is_refused(recipe: str, tmp_path: Path) -> None:
    study = write(tmp_path / "study.yaml", variants={"a": {"recipe": recipe}}, seeds=[0])
    kept = tmp_path / "out" / "a" / "only" / "seed-0"
    kept.mkdir(parents=True)
    (kept / "recipe.yaml").write_text("another: run\n")
    (kept / "measures.json").write_text("[]")
    with pytest.raises(ConfigError, match="differs from the recipe asked for"):
        ablate(load_study(study), tmp_path / "out")


@pytest.mark.slow
def test_a_run_that_fails_names_its_log(
    recipe: str, policy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(policy.path, broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    variants = {"a": {"recipe": recipe, "set": {"model.path": str(broken)}}}
    study = write(tmp_path / "study.yaml", variants=variants, seeds=[0])
    assert main(["ablate", study, "--out", str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert "seed-0 failed (the first of 1; --retry-failed tries them again): model.path: " in message
    assert message.endswith("log.txt")


def running(folder: Path) -> list[str]:
    """Command lines of the processes that have a folder in theirs."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = each.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found += [line] if str(folder) in line else []
    return found


@pytest.mark.slow
@pytest.mark.parametrize("whole_group", [True, False])
def test_an_interrupt_ends_a_study_and_its_jobs_in_one_line(whole_group: bool, recipe: str, tmp_path: Path) -> None:
    """A terminal sends it to every process of the command, ``kill -INT`` to one."""
    changes = {"trainer.max_steps": 100_000}
    variants = {"a": {"recipe": recipe, "set": changes}, "b": {"recipe": recipe, "set": changes}}
    study = write(tmp_path / "study.yaml", variants=variants, seeds=[0], every=50_000)
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments", "ablate", study, "--jobs", "2", "--out", str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 250
    while len(list(out.glob("*/*/seed-0/metrics.jsonl"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    if whole_group:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.split("\n") == ["", "candor: interrupted; the same command goes on with what is left", ""], errors
    assert "Traceback" not in said
    while running(out):
        assert time.monotonic() < deadline, "jobs outlive their study"
        time.sleep(0.1)
