"""Recipes are read, extended and overridden, and what cannot be read is refused in one line."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from experiments.config.recipe import describe_recipes, load_recipe, recipe_names
from experiments.config.trainer import check_batch
from tests.factories import Refusal, gsm8k_lines

pytestmark = pytest.mark.usefixtures("no_model_is_loaded")


@pytest.fixture
def written(tmp_path: Path) -> Callable[[Any], str]:
    """Writes a recipe, text as it is and anything else as YAML, and returns its path."""

    def write(content: Any, name: str = "mine.yaml") -> str:
        path = tmp_path / name
        path.write_text(
            content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False), encoding="utf-8"
        )
        return str(path)

    return write


# -- what is shipped -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_valid(name: str, tmp_path: Path) -> None:
    local = gsm8k_lines(tmp_path) if "gsm8k" in name else []
    recipe = load_recipe(name, local)
    assert recipe.name == name
    assert recipe.rubric.weights.any()
    if "/" not in name:  # those of a size are for a number of GPUs, see test_sized_recipes
        check_batch(recipe.trainer, recipe.method)


def test_listings_say_what_each_recipe_trains() -> None:
    described = {each["name"]: each for each in describe_recipes()}
    assert list(described) == recipe_names()
    own = described["candor"]["rubric"]
    assert {name: weight for name, weight in own.items() if name != "spherical"} == described["rlvr"]["rubric"]
    assert own["spherical"] > 0  # rlvr's terms, and one of its own
    assert described["candor"]["model"] == described["rlvr"]["model"] == "tiny-small"
    assert described["warm_start"]["method"] == "sft"
    assert all(Path(each["path"]).is_file() for each in described.values())


def test_the_recipes_that_are_compared_differ_only_in_reward_credit_and_each_ones_best_rate() -> None:
    control, candor = load_recipe("rlvr"), load_recipe("candor")
    changed = {key for key, value in candor.trainer.items() if control.trainer.get(key) != value}
    assert changed == {"confidence_loss_weight", "confidence_entropy_coef", "confidence_entropy_end", "learning_rate"}
    assert control.task == candor.task
    assert control.model == candor.model
    assert control.probe == dataclasses.replace(candor.probe, confidence="verbalized")


def test_ppo_and_its_control_differ_from_the_others_in_the_method_alone() -> None:
    for ppo, grpo in (("candor_ppo", "candor"), ("rlvr_ppo", "rlvr")):
        ours, theirs = load_recipe(ppo), load_recipe(grpo)
        assert ours.method == "ppo" and theirs.method == "grpo"
        assert ours.rubric.names == theirs.rubric.names
        assert ours.rubric.weights.tolist() == theirs.rubric.weights.tolist()
        assert (ours.task, ours.model, ours.probe) == (theirs.task, theirs.model, theirs.probe)
    treated, control = load_recipe("candor_ppo"), load_recipe("rlvr_ppo")
    assert {key for key in treated.trainer.keys() | control.trainer.keys()
            if treated.trainer.get(key) != control.trainer.get(key)} <= {
        "confidence_loss_weight", "confidence_entropy_coef", "confidence_entropy_end"
    }  # fmt: skip


# -- overrides and files ---------------------------------------------------------------------------------------------
def test_overrides_are_read_as_yaml_in_the_type_of_their_field() -> None:
    recipe = load_recipe(
        "candor",
        [
            "trainer.learning_rate=1e-6",
            "trainer.max_steps=7",
            "trainer.bf16=true",
            "trainer.save_strategy=no",
            "rubric.spherical.segments=[confidence]",
            "rubric.spherical.weight=0.2",
            "probe.escalate_to=null",
            "task.template.levels=['0.1', '0.9']",
            "model.lora={r: 4}",
        ],
    )
    assert recipe.trainer["learning_rate"] == 1e-6
    assert recipe.trainer["max_steps"] == 7
    assert recipe.trainer["bf16"] is True
    assert recipe.trainer["save_strategy"] == "no"
    assert recipe.rubric.segments[recipe.rubric.names.index("spherical")] == ("confidence",)
    assert recipe.rubric.weights[recipe.rubric.names.index("spherical")] == 0.2
    assert recipe.probe.escalate_to is None
    assert recipe.template.levels == ("0.1", "0.9")
    assert load_recipe("rlvr", ["task.template.levels=[0, 0.5, 1.0]"]).template.levels == ("0", "0.5", "1.0")
    assert recipe.model.lora == {"r": 4}
    assert recipe.source["trainer"]["max_steps"] == 7


def test_a_file_extends_a_shipped_recipe_or_one_beside_it(written: Callable[..., str]) -> None:
    written({"extends": "rlcr", "trainer": {"max_steps": 3}, "rubric": {"format": None}}, "base.yaml")
    recipe = load_recipe(written({"extends": "base.yaml", "trainer": {"num_generations": 4}}))
    assert recipe.name == "mine"
    assert (recipe.trainer["max_steps"], recipe.trainer["num_generations"]) == (3, 4)
    assert recipe.trainer["credit"] == "sequence"
    assert recipe.rubric.names == ("accuracy", "brier")


def test_of_several_that_are_extended_the_later_changes_the_earlier(written: Callable[..., str]) -> None:
    written({"trainer": {"max_steps": 3, "num_generations": None}, "model": {"dtype": "bfloat16"}}, "size.yaml")
    recipe = load_recipe(written({"extends": ["rlcr", "size.yaml"], "trainer": {"save_steps": 1}}))
    assert (recipe.trainer["max_steps"], recipe.trainer["save_steps"], recipe.model.dtype) == (3, 1, "bfloat16")
    assert "num_generations" not in recipe.trainer and recipe.trainer["credit"] == "sequence"


def test_what_a_run_keeps_is_a_recipe_again(written: Callable[..., str]) -> None:
    first = load_recipe("candor", ["trainer.max_steps=3", "rubric.brier.weight=0.25"])
    again = load_recipe(written(first.source))
    assert again.source == first.source
    assert again.trainer == first.trainer
    assert np.array_equal(again.rubric.weights, first.rubric.weights)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.max_steps", "override 'trainer.max_steps': expected SECTION.KEY=VALUE"),
        ("=3", "override '=3': expected SECTION.KEY=VALUE"),
        ("trainer.=3", "override 'trainer.=3': expected SECTION.KEY=VALUE"),
        (
            "trainer.max_steps=[",
            "override 'trainer.max_steps=[': not YAML: while parsing a flow node expected the node content, but found "
            "'<stream end>' in \"<unicode string>\", line 1, column 2: [ ^",
        ),
        (
            "trainr.max_steps=3",
            "override 'trainr.max_steps=3': unknown section 'trainr', allowed: "
            "task, model, rubric, estimators, trainer, monitors, probe (did you mean trainer?)",
        ),
        (
            "task.name.more=3",
            "override 'task.name.more=3': task.name holds 'arithmetic', not a mapping",
        ),
    ],
)
def test_an_override_that_cannot_be_read_is_refused(override: str, message: str, refusal: Refusal) -> None:
    assert refusal.recipe("rlvr", override) == message


def test_an_unknown_recipe_names_the_nearest(refusal: Refusal) -> None:
    message = refusal.recipe("cando")
    assert message.startswith("recipe 'cando' is not one of candor, candor_after, candor_ppo, dcpo, ")
    assert message.endswith("(did you mean candor?)")
    assert refusal.recipe("absent/mine.yaml") == "recipe absent/mine.yaml: no such file"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("task: [unclosed", "not YAML: while parsing"),
        ("just text", "expected sections task, model, rubric, estimators, trainer, monitors, probe, got str"),
        ("", "got NoneType"),
        ({"extends": "rlvr", "modle": {}}, "unknown section 'modle', allowed: extends, task, model, "),
        ({"extends": "rlvr", "modle": {}}, "(did you mean model?)"),
        ({"extends": "mine.yaml"}, "extends goes round in a circle"),
        ({"extends": "rlrv"}, "recipe 'rlrv' is not one of"),
        ({"task": {"name": "arithmetic"}}, "trainer: this section is missing from the recipe"),
        ({"extends": "rlvr", "model": None}, "model: this section is missing from the recipe"),
        ({"extends": "rlvr", "model": "tiny-small"}, "model: expected a mapping, got 'tiny-small'"),
        ({"extends": "rlvr", "rubric": ["accuracy"]}, "rubric: expected a mapping, got ['accuracy']"),
        ({"extends": "rlvr", "estimators": "p_true"}, "estimators: expected a mapping, got 'p_true'"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(
    written: Callable[..., str], content: Any, message: str, refusal: Refusal
) -> None:
    assert message in refusal.recipe(written(content))


@pytest.mark.parametrize(
    ("parent", "message"),
    [
        (3, "mine.yaml: extends: 3 is not a text, expected the name of a recipe or a YAML file"),
        (
            ["rlvr", 3],
            "mine.yaml: extends: 3 is not a text, expected the name of a recipe or a YAML file",
        ),
        ({"name": "rlvr"}, "mine.yaml: extends: {'name': 'rlvr'} is not a text"),
        (False, "mine.yaml: extends: False is not a text"),
        ("x" * 5000, f"recipe '{'x' * 5000}' is not one of candor, "),
        ("x" * 5000 + ".yaml", "xxx.yaml: no such file"),
        ("a\0b.yaml", "b.yaml: no such file"),
        ("absent/base.yaml", "absent/base.yaml: no such file"),
    ],
)
def test_what_cannot_be_extended_is_refused_in_one_line(
    written: Callable[..., str], parent: Any, message: str, refusal: Refusal
) -> None:
    assert message in refusal.recipe(written({"extends": parent}))


def test_a_recipe_nested_too_deep_is_refused_in_one_line(written: Callable[..., str], refusal: Refusal) -> None:
    deep = written("{extends: rlvr, rubric: " + "{a: " * 1000 + "1" + "}" * 1001)
    assert refusal.recipe(deep) == f"{deep}: nested more than 20 deep"
    assert refusal.recipe("rlvr", "rubric.accuracy=" + "[" * 1000).endswith("nested more than 20 deep")
    assert refusal.recipe("rlvr", "model.lora." + "a." * 1000 + "a=1").endswith("nested more than 20 deep")


@pytest.mark.parametrize("name", ["x" * 5000, "x" * 5000 + ".yaml", "a\0.yaml", "."])
def test_a_name_that_no_file_can_have_is_refused_in_one_line(name: str, refusal: Refusal) -> None:
    assert refusal.recipe(name).startswith("recipe ")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00task")
    assert "mine.yaml: not YAML: " in refusal.recipe(str(tmp_path / "mine.yaml"))
