"""Studies without a training: what is chosen, reported, drawn, kept of failures and tried again."""

from __future__ import annotations

import json
import math
import re
import sqlite3
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import yaml
from scipy import stats

from experiments.ablation import run as ablation_run
from experiments.ablation.page import write_page
from experiments.ablation.planned import Run
from experiments.ablation.plots import effect_figure, not_dominated
from experiments.ablation.run import ablate
from experiments.ablation.settings import Edge, in_a_name
from experiments.ablation.study import MEASURED, RESULTS, Selection, Study, Variant, load_study, planned_run
from experiments.ablation.summary import main_effects, over_seeds, paired
from experiments.ablation.tables import edges_in_words, markdown_summary
from experiments.ablation.trackers import publish, tracked_as
from experiments.cli import main
from experiments.config.recipe import load_recipe
from experiments.errors import ConfigError, RunError
from experiments.train import run_arguments
from rl.files import write_json

SMALL = {"probe.size": 20, "probe.escalate_to": None}
Value = Callable[[Run, str, int], float | None]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Run]]:
    """Puts measures in the place of trainings; a value of None at step 2 is a training that fails. The runs started.

    ``others`` are methods by which the final policy is read besides.
    """
    started: list[Run] = []

    def install(value: Value, others: Sequence[str] = ()) -> list[Run]:
        def run_jobs(_: Any, __: Any, runs: list[Run], *, jobs: int, go_on: bool) -> Iterator[tuple[Run, str | None]]:
            assert go_on
            for run in runs:
                started.append(run)
                accuracy = value(run, "accuracy", 2)
                if accuracy is None:
                    yield run, "no such weights"
                    continue
                entries: list[dict[str, Any]] = []
                for step, split in ((0, "validation"), (2, "validation"), (2, "test")):
                    entry = {"step": step, "split": split, "method": "verbalized"}
                    keys = ("accuracy", "brier", "ece", "auroc")
                    entries.append(entry | {key: value(run, f"{split}/{key}", step) for key in keys})
                for other in others:
                    read = {key: value(run, f"{other}/{key}", 2) for key in keys}
                    entries.append({"step": 2, "split": "test", "method": other, **read})
                run.folder.mkdir(parents=True, exist_ok=True)
                write_json(run.folder / "measures.json", entries)
                yield run, None

        monkeypatch.setattr(ablation_run, "run_jobs", run_jobs)
        monkeypatch.setattr(ablation_run, "open_executor", lambda *_: None)
        return started

    return install


def study(path: Path, **sections: Any) -> Study:
    whole = {
        "variants": {"a": {"recipe": "rlvr"}, "b": {"recipe": "rlcr"}},
        "seeds": [0, 1, 2],
        "set": SMALL,
        **sections,
    }
    path.write_text(yaml.safe_dump(whole))
    return load_study(str(path))


RATES = {"grid": {"trainer.learning_rate": [1e-4, 2e-4, 4e-4]}, "select": {"metric": "accuracy", "seeds": [8, 9]}}


def rate(run: Run) -> float:
    return run.setting["trainer.learning_rate"]


def test_a_setting_is_chosen_by_the_mean_over_selecting_seeds_on_validation_alone(
    tmp_path: Path, measured: Callable[..., list[Run]]
) -> None:
    """Seed 8 alone would take the first rate, the test questions the second; the mean on validation the last."""
    by_seed = {8: [0.9, 0.1, 0.6], 9: [0.1, 0.1, 0.6]}

    def value(run: Run, key: str, step: int) -> float:
        if key != "validation/accuracy" or run.seed not in by_seed:
            return 0.99 if rate(run) == 2e-4 else 0.5
        return by_seed[run.seed][[1e-4, 2e-4, 4e-4].index(rate(run))]

    started = measured(value)
    summary = ablate(study(tmp_path / "s.yaml", **RATES), tmp_path / "out", say=lambda _: None)
    for row in summary["variants"].values():
        assert row["setting"] == {"trainer.learning_rate": 4e-4}
        assert row["edges"] == [{"key": "trainer.learning_rate", "value": 4e-4, "end": "highest"}]
        assert set(row["accuracy"]["seeds"]) == {"0", "1", "2"}
    assert len(started) == 2 * (3 * 2 + 3)
    assert "a: trainer.learning_rate 0.0004 is the highest that was tried" in edges_in_words(summary)[0]
    assert "| `a` | learning_rate 0.0004 (highest tried) | 3 | 0.500 (0.500-0.500) |" in markdown_summary(summary)
    ablate(study(tmp_path / "s.yaml", **RATES), tmp_path / "out", say=lambda _: None)
    assert len(started) == 2 * (3 * 2 + 3), "what is done is not run again"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a", "b", *RESULTS}


def test_a_setting_that_unlearns_to_answer_and_says_so_is_not_chosen(
    tmp_path: Path, measured: Callable[..., list[Run]]
) -> None:
    """Right on 6% at confidence 0 has a Brier score of .06; right on 64% with a Brier score of .2 is worth more."""

    def value(run: Run, key: str, _: int) -> float:
        collapsed = rate(run) == 4e-4
        return {"accuracy": 0.06 if collapsed else 0.64, "brier": 0.06 if collapsed else 0.2}.get(
            key.split("/")[-1], 0.5
        )

    measured(value)
    for select, chosen in (({"seeds": [8]}, 1e-4), ({"metric": "brier", "seeds": [8]}, 4e-4)):
        made = study(tmp_path / "s.yaml", **{**RATES, "select": select})
        summary = ablate(made, tmp_path / str(chosen), say=lambda _: None)
        assert summary["variants"]["b"]["setting"] == {"trainer.learning_rate": chosen}


def test_edges_are_of_numbers_that_differ() -> None:
    grid = {"a.n": [3, 1, 2], "a.word": ["x", "y"], "a.flag": [False, True], "a.one": [5]}
    made = Study({"v": Variant("rlvr")}, [0], grid=grid, select=Selection(seeds=[9]))
    ends = {number: [edge.end for edge in made.edges("v", {"a.n": number, "a.word": "x", "a.flag": True, "a.one": 5})]
            for number in (1, 2, 3)}  # fmt: skip
    assert ends == {1: ["lowest"], 2: [], 3: ["highest"]}


def test_a_setting_that_leaves_a_key_out_has_tried_the_recipes_own_value() -> None:
    rate, weight = "trainer.learning_rate", "rubric.accuracy.weight"
    grid = [{rate: 1e-4}, {rate: 2e-4}, {rate: 2e-4, "trainer.beta": 0.01}, {rate: 2e-4, "trainer.beta": 0.1}]
    made = Study({"v": Variant("rlvr")}, [0], grid=grid, select=Selection(seeds=[9]))
    assert made.settings() == grid
    assert made.edges("v", grid[2]) == [Edge(rate, 2e-4, "highest")]  # rlvr has no KL: .01 lies between 0 and .1
    assert made.edges("v", grid[3]) == [Edge(rate, 2e-4, "highest"), Edge("trainer.beta", 0.1, "highest")]
    held = Study(made.variants, [0], grid=grid, set={"trainer.beta": 0.3}, select=made.select)
    assert [(edge.value, edge.end) for edge in held.edges("v", grid[2])] == [(2e-4, "highest"), (0.01, "lowest")]
    one = Study({"v": Variant("rlvr")}, [0], grid=[{rate: 1e-4}, {rate: 4e-4, weight: 1.0}], select=made.select)
    assert [edge.key for edge in one.edges("v", {rate: 4e-4, weight: 1.0})] == [rate]
    paid = {"trainer.credit": "sequence", "rubric.brier": {"weight": 5.0}}  # refused where no setting allows it
    allowed = [{"rubric.allow_hackable": True}, {"rubric.allow_hackable": True, "trainer.beta": 0.1}]
    hackable = Study({"v": Variant("rlvr", paid)}, [0], grid=allowed, select=made.select)
    assert hackable.edges("v", allowed[1]) == [Edge("trainer.beta", 0.1, "highest")]


def test_numbers_with_an_exponent_have_edges_and_the_names_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "{variants: {a: {recipe: rlcr}}, seeds: [0], select: {seeds: [9]}, cross: {rubric.brier.weight: [1e-1, 1e-5]},"
        " grid: {trainer.learning_rate: [1e-4, 2e-4]}, set: {probe.size: 20, probe.escalate_to: null}}"
    )
    made = load_study(str(path))
    assert list(made.variants) == ["a-weight=0.1", "a-weight=1e-05"]
    assert [edge.end for edge in made.edges("a-weight=0.1", {"trainer.learning_rate": 1e-4})] == ["lowest"]
    run = planned_run(made, "a-weight=1e-05", made.settings()[1], 0, tmp_path)
    assert run.folder.parent.name == "learning_rate=0.0002"
    weights = dict(zip((of := load_recipe(run.recipe, run.overrides).rubric).names, of.weights, strict=True))
    assert weights["brier"] == 1e-5


def test_a_setting_of_a_list_may_differ_from_what_is_set_for_all() -> None:
    made = Study(
        {"v": Variant("rlvr")}, [0], set={"a.m": 5}, grid=[{"a.n": 1}, {"a.m": 2}], select=Selection(seeds=[9])
    )
    assert made.settings() == [{"a.n": 1}, {"a.m": 2}]


@pytest.mark.parametrize(
    ("override", "where"),
    [
        ("trainer.learning_rate=1e-3", "the grid has a value of its own for trainer.learning_rate"),
        ("trainer.credit=segment", "variant a-num_generations=4 has a value of its own for trainer.credit"),
        ("trainer.num_generations=8", "variant a-num_generations=4 has a value of its own for trainer.num_generations"),
        ("rubric.brier.weight=2", "variant a-num_generations=4 has a value of its own for rubric.brier.weight"),
        ("trainer={seed: 3}", "is set by the study itself"),
    ],
)
def test_an_override_that_would_not_hold_in_every_run_is_refused(override: str, where: str, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    own = {"trainer.credit": "sequence", "rubric.brier": {"weight": 1.0}}
    whole = {
        "variants": {"a": {"recipe": "rlcr", "set": own}},
        "cross": {"trainer.num_generations": [4, 8]},
        "seeds": [0],
        **RATES,
    }
    path.write_text(yaml.safe_dump(whole))
    with pytest.raises(ConfigError, match=rf"^override '{re.escape(override)}': {where}"):
        load_study(str(path), [override])


def test_an_override_holds_over_what_is_set_for_all(tmp_path: Path) -> None:
    study(tmp_path / "s.yaml")
    made = load_study(str(tmp_path / "s.yaml"), ["probe.size=30", "trainer.max_steps=3"])
    for name in made.variants:
        run = planned_run(made, name, {}, 0, tmp_path)
        recipe = load_recipe(run.recipe, run.overrides)
        assert recipe.probe.size == 30 and recipe.trainer["max_steps"] == 3


def test_a_failed_run_ends_no_other_and_is_tried_again_only_where_asked(
    tmp_path: Path, measured: Callable[..., list[Run]], capsys: pytest.CaptureFixture[str]
) -> None:
    broken = {("a", 4e-4, 8), ("b", 1e-4, 1)}

    def value(run: Run, key: str, _: int) -> float | None:
        if (run.variant, rate(run), run.seed) in broken:
            return None
        return rate(run) * 1000 if run.variant == "a" else 0.5  # of a, the rate that fails would be best

    started = measured(value)
    made, out = study(tmp_path / "s.yaml", **RATES), tmp_path / "out"
    summary = ablate(made, out, say=lambda _: None)
    assert len(started) == 2 * (3 * 2 + 3)
    assert summary["variants"]["a"]["setting"] == {"trainer.learning_rate": 2e-4}
    assert set(summary["variants"]["b"]["brier"]["seeds"]) == {"0", "2"}
    assert [(each["variant"], each["seed"], each["error"]) for each in summary["failures"]] == [
        ("a", 8, "no such weights"),
        ("b", 1, "no such weights"),
    ]
    assert "- `" in markdown_summary(summary) and "no such weights" in (out / "report.html").read_text()
    assert main(["ablate", str(tmp_path / "s.yaml"), "--out", str(out)]) == 1
    printed = capsys.readouterr()
    *edges, said = printed.err.splitlines()
    assert "| `a` | learning_rate 0.0002 | 3 |" in printed.out, "the table is there all the same"
    assert edges == [
        "candor: b: trainer.learning_rate 0.0001 is the lowest that was tried; a better one may lie beyond"
    ]
    assert "seed-8 failed (the first of 2; --retry-failed tries them again): no such weights" in said
    assert len(started) == 2 * (3 * 2 + 3), "left as they are"
    broken.clear()
    summary = ablate(made, out, retry_failed=True, say=lambda _: None)
    assert summary["failures"] == [] and not list(out.rglob("failure.json"))
    assert summary["variants"]["a"]["setting"] == {"trainer.learning_rate": 4e-4}
    again = [(run.variant, rate(run), run.seed) for run in started[2 * (3 * 2 + 3) :]]
    assert again == [("a", 4e-4, 8), *(("a", 4e-4, seed) for seed in (0, 1, 2)), ("b", 1e-4, 1)]


def test_a_variant_of_which_everything_failed_is_shown_without_values(
    tmp_path: Path, measured: Callable[..., list[Run]]
) -> None:
    measured(lambda run, *_: None if run.variant == "a" else 0.5)
    summary = ablate(study(tmp_path / "s.yaml", baseline="a", **RATES), tmp_path / "out", say=lambda _: None)
    assert summary["variants"]["a"] == {"setting": None, "edges": []} and summary["differences"] == {}
    assert "| `a` | none: a run of each failed | 0 | \N{EN DASH}" in markdown_summary(summary)


def test_results_have_one_row_a_value(tmp_path: Path, measured: Callable[..., list[Run]]) -> None:
    measured(lambda run, key, _: None if key.endswith("auroc") else 0.1 * run.seed)
    ablate(study(tmp_path / "s.yaml", **RATES), tmp_path / "out", say=lambda _: None)
    rows = pd.read_parquet(tmp_path / "out" / "results.parquet")
    key = ["variant", "setting", "seed", "role", "split", "step", "method", "metric"]
    assert list(rows.columns) == [*key, "value"] and not rows.duplicated(key).any()
    assert len(rows) == 2 * (3 * 2 + 3) * 3 * 4
    assert rows.groupby("role")["seed"].unique().map(sorted).to_dict() == {"reporting": [0, 1, 2], "selection": [8, 9]}
    assert rows[rows["metric"] == "auroc"]["value"].isna().all()
    at = rows[(rows["metric"] == "ece") & (rows["seed"] == 2)]
    assert (at["value"] == 0.2).all() and {"trainer.learning_rate"} == set(json.loads(at["setting"].iloc[0]))


def test_differences_are_paired_by_seed_and_worked_by_hand(tmp_path: Path, measured: Callable[..., list[Run]]) -> None:
    """Seeds differ by far more than variants do: paired, the difference is plain; unpaired it would be lost."""
    gain = {0: 0.01, 1: 0.02, 2: 0.03}
    measured(lambda run, *_: 0.3 * run.seed + (gain[run.seed] if run.variant == "b" else 0.0))
    summary = ablate(study(tmp_path / "s.yaml", baseline="a"), tmp_path / "out", say=lambda _: None)
    assert list(summary["differences"]) == ["b"]
    found = summary["differences"]["b"]["brier"]
    half = stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3)
    assert [found["value"], found["low"], found["high"]] == pytest.approx([0.02, 0.02 - half, 0.02 + half])
    assert found["low"] < 0.0 < summary["variants"]["b"]["brier"]["low"] + 0.1, "not cut off at zero"
    assert "| less `a` | seeds | accuracy |" in markdown_summary(summary)
    assert "+0.020 (-0.005 to +0.045)" in markdown_summary(summary)


def test_other_readings_of_the_final_policies_are_the_controls_of_the_baseline(
    tmp_path: Path, measured: Callable[..., list[Run]]
) -> None:
    """The baseline's confidence is mapped after the fact: that is what another variant's has to beat, by hand .1."""
    mapped = {0: 0.3, 1: 0.35, 2: 0.4}

    def value(run: Run, key: str, _: int) -> float:
        if key == "temperature/brier":
            return mapped[run.seed]
        return mapped[run.seed] - 0.1 if run.variant == "b" and key == "test/brier" else 0.5

    measured(value, others=("temperature",))
    out = tmp_path / "out"
    summary = ablate(study(tmp_path / "s.yaml", baseline="a"), out, say=lambda _: None)
    assert summary["variants"]["a"]["brier"]["value"] == 0.5
    assert summary["readings"]["a"]["temperature"]["brier"]["value"] == pytest.approx(0.35)
    assert set(summary["readings"]["b"]) == {"temperature"} and list(summary["controls"]) == ["temperature"]
    found = summary["controls"]["temperature"]["b"]["brier"]
    assert [found["value"], found["low"], found["high"]] == pytest.approx([-0.1] * 3)
    said = markdown_summary(summary)
    assert "| `b` | temperature | 3 | 0.500 (0.500-0.500) |" in said
    assert "| less `a` | read by | seeds | accuracy |" in said and "| `b` | temperature | 3 | +0.000" in said
    rows = pd.read_parquet(out / "results.parquet")
    assert rows.groupby("method").size().to_dict() == {"verbalized": 2 * 3 * 3 * 4, "temperature": 2 * 3 * 4}
    assert "Against other readings of a" in (out / "report.html").read_text()


def test_differences_take_the_seeds_that_both_have() -> None:
    found = paired({0: 0.5, 1: None, 2: 0.9, 3: 0.1}, {0: 0.25, 1: 0.1, 2: None, 3: 0.35})
    assert found["seeds"] == {0: 0.25, 3: pytest.approx(-0.25)} and found["value"] == pytest.approx(0.0)
    assert paired({0: 0.5}, {1: 0.5})["value"] is None
    assert over_seeds({0: None})["value"] is None


def test_main_effects_of_a_crossed_study_are_means_over_the_other_key() -> None:
    """Accuracy is 0.1 for a large group and 0.2 for segments, and 0.3 more for both: by hand 0.1/0.35 and 0.05/0.4."""
    cross = {"trainer.credit": ["sequence", "segment"], "trainer.num_generations": [4, 8]}
    made = Study({"v": Variant("rlcr")}, [0, 1], cross=cross)
    assert list(made.variants)[:2] == ["v-credit=sequence-num_generations=4", "v-credit=sequence-num_generations=8"]
    level = {(variant.set["trainer.credit"], variant.set["trainer.num_generations"]): name
             for name, variant in made.variants.items()}  # fmt: skip
    accuracy = {("sequence", 4): 0.0, ("sequence", 8): 0.1, ("segment", 4): 0.2, ("segment", 8): 0.6}
    measured = {level[each]: {"accuracy": {0: value, 1: value + 0.1}} for each, value in accuracy.items()}
    effects = main_effects(made, measured)
    assert set(effects) == set(cross), "the recipe is one and the same"
    means = {
        key: {each: found["accuracy"]["seeds"] for each, found in levels.items()} for key, levels in effects.items()
    }
    assert means["trainer.credit"] == {
        "sequence": pytest.approx({0: 0.05, 1: 0.15}),
        "segment": pytest.approx({0: 0.4, 1: 0.5}),
    }
    assert means["trainer.num_generations"] == {
        "4": pytest.approx({0: 0.1, 1: 0.2}),
        "8": pytest.approx({0: 0.35, 1: 0.45}),
    }
    del measured[level["segment", 8]]["accuracy"][1]
    assert main_effects(made, measured)["trainer.credit"]["segment"]["accuracy"]["seeds"] == pytest.approx({0: 0.4})


def test_the_front_has_what_no_other_betters() -> None:
    points = {"cheap": (0.1, 0.4), "worse": (0.2, 0.4), "good": (0.2, 0.6), "dear": (0.9, 0.6), "same": (0.1, 0.4)}
    assert not_dominated(points) == ["cheap", "same", "good"]


def test_names_of_folders_are_readable_and_never_shared() -> None:
    assert in_a_name({"trainer.learning_rate": 1e-4}) == "learning_rate=0.0001"
    assert in_a_name({"rubric.brier.weight": 1, "rubric.log.weight": 2}) == "rubric.brier.weight=1-rubric.log.weight=2"
    values = ["a/b", "a_b", "../..", "x" * 50, "x" * 51, {"weight": 1}, [1, 2], None, True]
    names = {in_a_name({"model.path": value}) for value in values}
    assert len(names) == len(values) and not any("/" in name or len(name) > 60 for name in names)


def test_a_policy_that_is_not_there_is_told_before_anything_is_started(tmp_path: Path) -> None:
    made = study(tmp_path / "s.yaml", set={**SMALL, "model.path": str(tmp_path / "none" / "final")})
    with pytest.raises(ConfigError, match=r"model\.path: .*none/final: no such folder"):
        ablate(made, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_starts_from_the_policy_of_its_own_seed(tmp_path: Path) -> None:
    """Of an earlier study, say; and every seed's is looked for before the first job."""
    for seed in (0, 1):
        (tmp_path / f"seed-{seed}").mkdir()
        (tmp_path / f"seed-{seed}" / "config.json").write_text("{}")
    made = Study({"v": Variant("rlvr", {"model.path": f"{tmp_path}/seed-{{seed}}"})}, [0, 1, 2])
    starts = [load_recipe(*planned_recipe(made, seed, tmp_path)).model.path for seed in made.seeds]
    assert starts == [f"{tmp_path}/seed-{seed}" for seed in made.seeds]
    with pytest.raises(ConfigError, match="seed-2: no such folder"):
        ablate(made, tmp_path / "out")


def planned_recipe(made: Study, seed: int, out: Path) -> tuple[str, tuple[str, ...]]:
    run = planned_run(made, "v", {}, seed, out)
    return run.recipe, run.overrides


def test_runs_share_their_study_in_wandb_where_it_is_asked_for(tmp_path: Path) -> None:
    made = study(tmp_path / "mine.yaml")
    run = planned_run(made, "b", {}, 2, tmp_path)
    assert tracked_as(run, load_recipe("rlcr")) == {}
    for trackers in ("wandb", '["tensorboard", "wandb"]'):
        recipe = load_recipe("rlcr", [f"trainer.report_to={trackers}"])
        assert tracked_as(run, recipe) == {
            "WANDB_RUN_GROUP": "mine",
            "WANDB_JOB_TYPE": "b",
            "WANDB_NAME": "b only seed 2",
        }
    recipe = load_recipe("rlcr", ["trainer.report_to=trackio"])
    assert tracked_as(run, recipe) == {"TRACKIO_PROJECT": "mine", "TRACKIO_RUN_NAME": "b only seed 2"}


def test_a_run_has_the_names_in_trackio_that_its_study_gave_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_PROJECT", "mine")
    monkeypatch.setenv("TRACKIO_RUN_NAME", "b only seed 2")
    logged = run_arguments(load_recipe("rlcr", ["trainer.report_to=trackio"]), tmp_path)
    assert (logged.project, logged.run_name) == ("mine", "b only seed 2")
    own = run_arguments(load_recipe("rlcr", ["trainer.report_to=trackio", "trainer.run_name=mine"]), tmp_path)
    assert own.run_name == "mine"
    assert run_arguments(load_recipe("rlcr"), tmp_path).project != "mine"


TRACKED = {
    "variants": {
        name: {
            "setting": {},
            "edges": [],
            **{metric: {"value": value, "low": None, "high": None} for metric in MEASURED},
        }
        for name, value in (("a", 0.25), ("b", 0.5))
    }
}


@pytest.mark.skipif(find_spec("trackio") is None, reason="needs trackio")
def test_trackio_holds_the_table_and_the_pictures_of_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "kept"))  # read when it is imported
    told = (
        f"import json; from experiments.ablation.trackers import *; publish('mine', json.loads({json.dumps(TRACKED)!r})"
    )
    subprocess.run([sys.executable, "-c", f"{told}, Path({str(tmp_path)!r}), ['trackio'])"], check=True)
    (picture,) = (tmp_path / "kept").rglob("*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    with closing(sqlite3.connect(tmp_path / "kept" / "mine.db")) as kept:
        ((logged,),) = kept.execute("SELECT metrics FROM metrics").fetchall()
    assert "brier_low" in str(logged) and "accuracy_against_brier" in str(logged)


def test_a_tracker_that_refuses_is_named_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise ValueError("no API key")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=refuse))
    with pytest.raises(RunError, match=r"the summary is written, but wandb did not take it: no API key"):
        publish("mine", TRACKED, tmp_path, ["wandb"])


def test_seeds_are_paired_by_the_order_of_the_data(tmp_path: Path) -> None:
    """A run's seed is the trainer's, from which the order of the questions is drawn, whatever the variant."""
    made = study(tmp_path / "s.yaml")
    seeds = {
        (name, seed): load_recipe(each.recipe, each.overrides).trainer["seed"]
        for name in made.variants
        for seed in made.seeds
        for each in [planned_run(made, name, {}, seed, tmp_path)]
    }
    assert seeds == {(name, seed): seed for name in "ab" for seed in (0, 1, 2)}


def test_the_page_is_self_contained_and_escapes(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    values = {metric: over_seeds({0: 0.4, 1: 0.6}) for metric in ("accuracy", "brier", "escalation_rate_to_parity")}
    failure = {"variant": "a", "setting": "only", "seed": 0, "folder": "x", "error": hostile}
    row = {"setting": {"task.name": hostile}, "edges": [], **values}
    chosen = {"setting": {"n": 1, "m": 2}, "edges": [{"key": "n", "value": 1, "end": "lowest"}], **values}
    summary = {
        "baseline": "a",
        "variants": {"a": row, "b": chosen},
        "differences": {"b": values},
        "readings": {"a": {hostile: values}},
        "controls": {hostile: {"b": values}},
        "effects": {"model.path": {"$x": values, "y" * 80: values}},
        "failures": [failure],
    }
    page = write_page(hostile, summary, tmp_path).read_text()
    assert "<script" not in page and "http://" not in page and "https://" not in page
    assert page.count("data:image/svg+xml;base64,") == 3
    assert '<span class="value">n 1 (lowest tried), m 2</span>' in page
    assert write_page(hostile, summary, tmp_path).read_text() == page, "the same summary gives the same page"
    assert ElementTree.fromstring(effect_figure({"$a": values, "b": values})).tag.endswith("svg")
