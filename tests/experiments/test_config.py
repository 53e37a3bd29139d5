"""Recipes are checked whole before a model loads, and every refusal says which key, which value and what instead."""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import experiments
from experiments.config.methods import METHODS
from experiments.config.recipe import describe_recipes, load_recipe, recipe_names
from experiments.config.trainer import check_batch
from experiments.errors import ConfigError
from experiments.tasks import Arithmetic
from experiments.train import train
from rl.config import CalibratedGRPOConfig
from rl.files import mark_complete


@pytest.fixture(autouse=True)
def no_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*_: Any, **__: Any) -> None:
        pytest.fail("a model was loaded before the recipe was checked")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", loaded)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", loaded)


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


def refusal(name: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load_recipe(name, overrides)
    message = str(refused.value)
    assert "\n" not in message
    return message


def gsm8k_lines(folder: Path, *lines: str) -> list[str]:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(lines or ['{"question": "2+2?", "answer": "#### 4"}']) + "\n", encoding="utf-8")
    return [f"task.train_path={path}", f"task.test_path={path}"]


# -- what is shipped -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_valid(name: str, tmp_path: Path) -> None:
    local = gsm8k_lines(tmp_path) if "gsm8k" in name else []
    recipe = load_recipe(name, local)
    assert recipe.name == name
    assert recipe.rubric.weights.any()
    check_batch(recipe.trainer, recipe.method)


def test_listings_say_what_each_recipe_trains() -> None:
    described = {each["name"]: each for each in describe_recipes()}
    assert list(described) == recipe_names()
    own = described["candor"]["rubric"]
    assert {name: weight for name, weight in own.items() if "brier" not in name} == described["rlvr"]["rubric"]
    assert own["brier"] > 0  # rlvr's terms, and one of its own
    assert described["candor"]["model"] == described["rlvr"]["model"] == "tiny-small"
    assert described["warm_start"]["method"] == "sft"
    assert all(Path(each["path"]).is_file() for each in described.values())


def test_the_recipes_that_are_compared_differ_only_in_reward_and_credit() -> None:
    control, recommended = load_recipe("rlvr"), load_recipe("candor")
    changed = {key for key, value in recommended.trainer.items() if control.trainer.get(key) != value}
    assert changed == {"confidence_loss_weight", "confidence_entropy_coef", "confidence_entropy_end"}
    assert control.task == recommended.task
    assert control.model == recommended.model
    assert control.probe == dataclasses.replace(recommended.probe, confidence="verbalized")


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
            "rubric.brier.segments=[confidence]",
            "rubric.brier.weight=0.2",
            "probe.escalate_to=null",
            "task.template.levels=['0.1', '0.9']",
            "model.lora={r: 4}",
        ],
    )
    assert recipe.trainer["learning_rate"] == 1e-6
    assert recipe.trainer["max_steps"] == 7
    assert recipe.trainer["bf16"] is True
    assert recipe.trainer["save_strategy"] == "no"
    assert recipe.rubric.segments[recipe.rubric.names.index("brier")] == ("confidence",)
    assert recipe.rubric.weights[recipe.rubric.names.index("brier")] == 0.2
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
def test_an_override_that_cannot_be_read_is_refused(override: str, message: str) -> None:
    assert refusal("rlvr", override) == message


def test_an_unknown_recipe_names_the_nearest() -> None:
    message = refusal("cando")
    assert message.startswith("recipe 'cando' is not one of candor, candor_ppo, dcpo, rewarding_doubt, rlcr, ")
    assert message.endswith("(did you mean candor?)")
    assert refusal("absent/mine.yaml") == "recipe absent/mine.yaml: no such file"


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
def test_a_file_that_is_no_recipe_is_refused(written: Callable[..., str], content: Any, message: str) -> None:
    assert message in refusal(written(content))


@pytest.mark.parametrize(
    ("parent", "message"),
    [
        (3, "mine.yaml: extends: 3 is no text, expected the name of a recipe or a YAML file"),
        (["rlvr", "rlcr"], "mine.yaml: extends: ['rlvr', 'rlcr'] is no text, expected the name of a recipe or a YAML"),
        ({"name": "rlvr"}, "mine.yaml: extends: {'name': 'rlvr'} is no text"),
        (False, "mine.yaml: extends: False is no text"),
        ("x" * 5000, f"recipe '{'x' * 5000}' is not one of candor, "),
        ("x" * 5000 + ".yaml", "xxx.yaml: no such file"),
        ("a\0b.yaml", "b.yaml: no such file"),
        ("absent/base.yaml", "absent/base.yaml: no such file"),
    ],
)
def test_what_cannot_be_extended_is_refused_in_one_line(written: Callable[..., str], parent: Any, message: str) -> None:
    assert message in refusal(written({"extends": parent}))


def test_a_recipe_nested_too_deep_is_refused_in_one_line(written: Callable[..., str]) -> None:
    deep = written("{extends: rlvr, rubric: " + "{a: " * 1000 + "1" + "}" * 1001)
    assert refusal(deep) == f"{deep}: nested more than 20 deep"
    assert refusal("rlvr", "rubric.accuracy=" + "[" * 1000).endswith("nested more than 20 deep")
    assert refusal("rlvr", "model.lora." + "a." * 1000 + "a=1").endswith("nested more than 20 deep")


@pytest.mark.parametrize("name", ["x" * 5000, "x" * 5000 + ".yaml", "a\0.yaml", "."])
def test_a_name_that_no_file_can_have_is_refused_in_one_line(name: str) -> None:
    assert refusal(name).startswith("recipe ")


def test_a_path_that_no_file_can_have_is_refused_in_one_line(tmp_path: Path) -> None:
    assert "is no file; expected GSM8K" in refusal("smollm2_gsm8k", f"task.train_path={'x' * 5000}", "task.test_path=x")
    message = training_refusal(tmp_path / "run", "rlvr", f"model.path={'x/' * 3000}y")
    assert "no such folder" in message


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00task")
    assert "mine.yaml: not YAML: " in refusal(str(tmp_path / "mine.yaml"))


# -- sections --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("override", "message"),
    [
        # An unknown key in each section.
        (
            "task.stile=words",
            "task.stile: unknown key, allowed: verifier, verifier_beta, verifier_workers, ",
        ),
        ("task.template.thinkin=none", "task.template.thinkin: unknown key, allowed: thinking, "),
        ("model.dtyp=float32", "model.dtyp: unknown key, allowed: path, gguf_file, dtype, "),
        ("rubric.brir.weight=1", "rubric.brir is no reward term; expected one of accuracy, brier, "),
        ("rubric.brier.wieght=1", "rubric.brier.wieght is no option of brier; expected one of weight, "),
        (
            "estimators.answer_probabilty={}",
            "estimators.answer_probabilty: unknown key, allowed: verbalized, expected_confidence, answer_probability, ",
        ),
        (
            "estimators.answer_probability.reductoin=min",
            "estimators.answer_probability.reductoin: unknown key, allowed: reduction (did you mean reduction?)",
        ),
        ("trainer.lerning_rate=1", "trainer.lerning_rate: unknown key, allowed: the fields of CalibratedGRPOConfig"),
        ("probe.sise=3", "probe.sise: unknown key, allowed: split, size, "),
        # The nearest right name.
        ("task.stile=words", "(did you mean style?)"),
        ("rubric.brir.weight=1", "(did you mean brier?)"),
        ("trainer.lerning_rate=1", "(did you mean learning_rate?)"),
        ("probe.sise=3", "(did you mean size?)"),
        # A value that is none of the allowed ones, or of another type.
        (
            "task.name=arithmetics",
            "task.name: 'arithmetics' is not one of arithmetic, gsm8k, jsonl, rearrangement (did you mean arithmetic?)",
        ),
        ("task.name=null", "task.name: None is not one of arithmetic, gsm8k"),
        ("task.style=word", "task.style: 'word' is not one of symbols, words (did you mean words?)"),
        ("task.train_split=test", "task.train_split: 'test' is not one of warmup, train"),
        ("task.max_digits=9", "task.max_digits: 9 is not from 1 to 5"),
        ("task.max_digits=two", "task.max_digits: 'two' is no whole number"),
        ("task.train_size=0", "task.train_size: 0 is below 1"),
        ("task.chat=maybe", "task.chat: 'maybe' is no true or false"),
        ("task.template.levels=[0.1, null]", "task.template.levels: [0.1, None] is no list of texts or null"),
        ("task.template.levels=0.1", "task.template.levels: 0.1 is no list of texts or null"),
        ("task.template=0.1", "task.template: 0.1 is no mapping"),
        ("task.train_path=2024-01-01", "task.train_path: unknown key"),
        ("model.path=2024-01-01", "model.path: datetime.date(2024, 1, 1) is no number, text, list or mapping"),
        ("task.verifier_workers=0", "task.verifier_workers: 0 is below 1"),
        ("task.verifier_timeout_s=0", "task.verifier_timeout_s: 0.0 is not above 0 and finite"),
        ("task.verifier_timeout_s=.inf", "task.verifier_timeout_s: inf is not above 0 and finite"),
        ("task.template.levels=[high, low]", "task.template: AnswerTemplate.levels holds ['high', 'low']"),
        ("task.template.thinking=maybe", "expected one of ('none', 'optional', 'required')"),
        ("model.path=null", "model.path: missing, and it has no default"),
        ("model.path=3", "model.path: 3 is no text"),
        (
            "model.dtype=float31",
            "model.dtype: 'float31' is not one of float32, bfloat16, float16 (did you mean float32?)",
        ),
        ("model.lora=16", "model.lora: 16 is no mapping or null"),
        ("rubric.brier=0.5", "rubric.brier is 0.5, expected a mapping such as {weight: 1.0}"),
        ("rubric.accuracy.weight=-1", "rubric.accuracy.weight is -1, expected a finite number of at least 0"),
        ("rubric.accuracy.segments=[answr]", "rubric.accuracy.segments names 'answr'"),
        ("rubric.allow_hackable=perhaps", "rubric.allow_hackable: 'perhaps' is no true or false"),
        (
            "estimators.answer_probability.reduction=median",
            "estimators.answer_probability.reduction: 'median' is not one of product, mean",
        ),
        (
            "probe.confidence=verbalised",
            "probe.confidence: 'verbalised' is not one of verbalized, answer_probability, ",
        ),
        ("trainer.method=gropo", "trainer.method: 'gropo' is not one of grpo, ppo, sft"),
        ("trainer.method=gropo", "(did you mean grpo?)"),
        ("trainer.max_steps=many", "trainer.max_steps: 'many' is no whole number"),
        ("trainer.learning_rate=fast", "trainer.learning_rate: 'fast' is no number"),
        ("trainer.num_generations=8.5", "trainer.num_generations: 8.5 is no whole number"),
        ("trainer.lr_scheduler_type=cosin", "trainer.lr_scheduler_type: 'cosin' is not one of linear, cosine, "),
        ("trainer.lr_scheduler_type=cosin", "(did you mean cosine?)"),
        ("trainer.save_strategy=setps", "trainer.save_strategy: 'setps' is not one of no, steps, "),
        ("trainer.output_dir=runs/x", "trainer.output_dir: the run's folder is given by --out"),
        ("probe.split=tset", "probe.split: 'tset' is not one of warmup, train, validation, test, shifted"),
        ("probe.size=0", "probe.size: 0 is below 1"),
        ("probe.batch_size=-2", "probe.batch_size: -2 is below 1"),
        ("probe.size=all", "probe.size: 'all' is no whole number"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_is_allowed(override: str, message: str) -> None:
    assert message in refusal("rlvr", override)


def test_a_rubric_that_pays_for_wrong_answers_names_where_and_the_cure() -> None:
    message = refusal("rlcr", "rubric.brier.weight=2")
    assert "rubric is hackable: where P(correct) is in (0, 0.5), answering wrongly on purpose pays" in message
    assert "raise rubric.accuracy.weight from 1 to at least 2" in message
    assert load_recipe("rlcr", ["rubric.brier.weight=2", "rubric.allow_hackable=true"]).rubric.allow_hackable


@pytest.mark.parametrize(
    ("recipe", "override"),
    [
        ("candor", "rubric.brier.weight=2"),  # in closed form, no token of an answer earns it
        ("dcpo", "rubric.brier.weight=2"),  # credited to the confidence
        ("rewarding_doubt", "rubric.log.weight=1"),  # the paper's weight: nothing but the confidence is trained
    ],
)
def test_a_heavy_calibration_term_that_no_answer_earns_is_safe(recipe: str, override: str) -> None:
    assert load_recipe(recipe, [override]).rubric.audit().safe
    with pytest.raises(ConfigError, match="rubric is hackable"):
        load_recipe(
            recipe,
            [override, "trainer.credit=sequence", "trainer.confidence_loss_weight=0", "trainer.trained_tokens=all",
             "trainer.confidence_entropy_coef=0", "rubric.brier.target=own", "rubric.brier_log=null"],
        )  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["rubric.brier.scaling=batch"], "once advantages are scaled; set rubric.brier.scaling to none"),
        (["trainer.scaling=gdpo"], "once advantages are scaled; set trainer.scaling to none"),
        (["trainer.scaling=group"], "once advantages are scaled; set trainer.scaling to none"),
        (["rubric.truncated.value=5"], "being cut off by the length limit pays more than trying"),
        (["rubric.accuracy.truncated=1"], r"lower rubric.accuracy.truncated \(1\)"),
        (["rubric.accuracy.unjudged=1"], "an answer that the verifier cannot judge pays more than trying"),
        (["rubric.ternary.abstain=1", "rubric.accuracy=null"], r"lower rubric.ternary.abstain \(1\)"),
        (["rubric.accuracy=null", "rubric.brier=null", "rubric.rlsf.weight=1"], "nothing for being right"),
    ],
)
def test_what_pays_for_more_than_being_right_is_refused(overrides: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"rubric is hackable: where P\(correct\) is in \(0.*{reason}"):
        load_recipe("rlcr", overrides)


def test_c2gspg_takes_the_loss_that_it_is_the_gradient_of() -> None:
    with pytest.raises(ConfigError, match=r"rubric.c2gspg: .*set trainer.loss_type from 'dapo' to 'grpo'"):
        load_recipe("rlvr", ["rubric.c2gspg.weight=0.01"])
    assert load_recipe("rlvr", ["rubric.c2gspg.weight=0.01", "trainer.loss_type=grpo"]).rubric.audit().safe


def test_a_split_has_to_be_the_tasks_own(tmp_path: Path) -> None:
    paths = gsm8k_lines(tmp_path)
    message = refusal("smollm2_gsm8k", *paths, "probe.split=validation")
    assert message == "probe.split: 'validation' is not one of train, test"


def test_missing_data_names_the_key_and_the_file(tmp_path: Path) -> None:
    paths = gsm8k_lines(tmp_path)
    message = refusal("smollm2_gsm8k", paths[0], "task.test_path=absent.jsonl")
    assert message == "task.test_path: absent.jsonl is no file; expected GSM8K in JSON lines"


def test_the_closed_form_needs_levels_and_a_term_to_take() -> None:
    message = refusal("candor", "task.template.levels=null")
    assert message.startswith("trainer.confidence_loss_weight: the closed form needs task.template.levels")
    for override in ("rubric.brier=null", "rubric.brier.weight=0"):
        message = refusal("candor", "rubric.brier_log=null", override)
        assert message.startswith("trainer.confidence_loss_weight: has nothing to take in closed form")
    free = ["task.template.levels=null", "trainer.confidence_loss_weight=0"]
    assert "estimators.expected_confidence: needs task.template.levels" in refusal("candor", *free)
    assert load_recipe("candor", [*free, "estimators.expected_confidence=null", "probe.confidence=verbalized"])


def test_a_supervised_recipe_takes_the_fields_of_its_own_method() -> None:
    message = refusal("warm_start", "trainer.num_generations=8")
    assert "trainer.num_generations: unknown key, allowed: the fields of CalibratedSFTConfig, method sft" in message


def test_what_ppo_has_no_groups_or_no_critic_for_is_refused() -> None:
    assert refusal("rlvr", "trainer.gae_lambda=0.95").startswith("trainer.gae_lambda: unknown key")
    message = refusal("candor_ppo", "rubric.brier.target=leave_one_out")
    assert message.startswith("trainer.num_generations: 1 leaves rubric.brier nothing to compare with")
    assert load_recipe("candor_ppo", ["rubric.brier.target=leave_one_out", "trainer.num_generations=4"])
    assert refusal("candor_ppo", "rubric.brier.scaling=group").startswith("rubric.brier.scaling: 'group' is of groups")
    for name, own in (("rlvr", []), ("candor_ppo", []), ("candor_ppo", ["trainer.value_model=head"])):
        message = refusal(name, "model.critic_path=tiny-large", *own)
        assert message.startswith("model.critic_path: has no effect without a separate critic")
    separate = load_recipe("candor_ppo", ["model.critic_path=tiny-large", "trainer.value_model=separate"])
    assert separate.model.critic_path == "tiny-large"


# -- batches ---------------------------------------------------------------------------------------------------------
def batch_refusal(monkeypatch: pytest.MonkeyPatch, processes: int | None, **trainer: Any) -> str | None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if processes is not None:
        monkeypatch.setenv("WORLD_SIZE", str(processes))
    try:
        check_batch(trainer)
    except ConfigError as error:
        return str(error)
    return None


def test_a_batch_is_made_of_whole_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    assert batch_refusal(monkeypatch, None, per_device_train_batch_size=16, num_generations=8) is None
    assert batch_refusal(monkeypatch, None, per_device_train_batch_size=12, num_generations=8) == (
        "trainer.num_generations: 8 does not divide the generation batch of 12 completions, "
        "12 a device x 1 processes x 1 steps a generation; use a batch of 8 or 16"
    )
    below_one_group = batch_refusal(monkeypatch, None, per_device_train_batch_size=4, num_generations=8)
    assert below_one_group is not None
    assert below_one_group.endswith("use a batch of 8")


def test_all_processes_of_the_launch_make_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert batch_refusal(monkeypatch, 2, per_device_train_batch_size=4, num_generations=8) is None
    refused = batch_refusal(monkeypatch, 3, per_device_train_batch_size=4, num_generations=8)
    assert refused is not None
    assert "batch of 12 completions, 4 a device x 3 processes" in refused


def test_accumulation_and_an_explicit_generation_batch_count(monkeypatch: pytest.MonkeyPatch) -> None:
    few: dict[str, Any] = {"per_device_train_batch_size": 2, "num_generations": 8}
    assert batch_refusal(monkeypatch, None, **few, gradient_accumulation_steps=4) is None
    assert batch_refusal(monkeypatch, None, **few, gradient_accumulation_steps=3) is not None
    assert batch_refusal(monkeypatch, None, **few, gradient_accumulation_steps=3, steps_per_generation=4) is None
    assert batch_refusal(monkeypatch, None, **few, generation_batch_size=24) is None
    assert batch_refusal(monkeypatch, None, **few, generation_batch_size=20) is not None


def test_groups_of_one_and_empty_batches_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = batch_refusal(monkeypatch, None, num_generations=1)
    assert alone is not None
    assert alone.startswith("trainer.num_generations: 1 is below 2")
    empty = batch_refusal(monkeypatch, None, per_device_train_batch_size=0)
    assert empty is not None
    assert "generation batch of 0 completions is empty" in empty


def test_ppo_takes_completions_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    check_batch({"per_device_train_batch_size": 5}, "ppo")
    check_batch({"num_generations": 1}, "ppo")
    with pytest.raises(ConfigError, match="4 does not divide the generation batch of 6 completions"):
        check_batch({"per_device_train_batch_size": 6, "num_generations": 4}, "ppo")
    with pytest.raises(ConfigError, match=r"trainer\.num_generations: 0 is below 1"):
        check_batch({"num_generations": 0}, "ppo")


@pytest.mark.parametrize("per_device", [3, 8, 12, 16])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_trl_agrees_on_which_batches_are_made_of_whole_groups(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, per_device: int, accumulation: int
) -> None:
    settings = {"per_device_train_batch_size": per_device, "gradient_accumulation_steps": accumulation}
    refused = batch_refusal(monkeypatch, None, **settings)
    try:
        CalibratedGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", **settings)
    except ValueError:
        assert refused is not None
    else:
        assert refused is None


def test_a_recipe_for_many_processes_can_be_read_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert load_recipe("rlvr", ["trainer.per_device_train_batch_size=1"]).trainer["num_generations"] == 4


# -- the learning rate's schedule --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("schedule", "options", "message"),
    [
        (
            "cosine",
            "{num_cycle: 2}",
            "trainer.lr_scheduler_kwargs.num_cycle: unknown key, allowed: num_cycles (did you mean num_cycles?)",
        ),
        ("cosine", "{optimizer: sgd}", "trainer.lr_scheduler_kwargs.optimizer: unknown key, allowed: num_cycles"),
        ("cosine", "{num_cycles: many}", "trainer.lr_scheduler_kwargs: {'num_cycles': 'many'} does not suit "),
        (
            "linear",
            "{power: 2}",
            "trainer.lr_scheduler_kwargs.power: unknown key, allowed: none, linear takes no options",
        ),
        ("reduce_lr_on_plateau", "{factr: 0.5}", "does not suit lr_scheduler_type reduce_lr_on_plateau: "),
        ("polynomial", "{lr_end: 1.0}", "does not suit lr_scheduler_type polynomial: "),
        ("cosine_with_min_lr", "{num_cycles: 0.5}", "does not suit lr_scheduler_type cosine_with_min_lr: "),
        ("cosine", "'{num_cycles'", "trainer.lr_scheduler_kwargs: '{num_cycles' is neither a mapping nor JSON"),
        ("cosine", "'[1]'", "trainer.lr_scheduler_kwargs: [1] is no mapping"),
        ("cosine", "[1]", "trainer.lr_scheduler_kwargs: [1] is no mapping or text or null"),
    ],
)
def test_options_that_the_schedule_does_not_take_are_refused(schedule: str, options: str, message: str) -> None:
    chosen = [f"trainer.lr_scheduler_type={schedule}", f"trainer.lr_scheduler_kwargs={options}"]
    for recipe in ("rlvr", "warm_start"):
        assert message in refusal(recipe, *chosen)


@pytest.mark.parametrize(
    ("schedule", "options"),
    [
        ("cosine", {"num_cycles": 2}),
        ("cosine_with_restarts", {"num_cycles": 2}),
        ("polynomial", {"power": 2.0, "lr_end": 1e-7}),
        ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
        ("warmup_stable_decay", {"num_decay_steps": 10, "decay_type": "cosine"}),
        ("inverse_sqrt", {"timescale": 100}),
        ("reduce_lr_on_plateau", {"factor": 0.5}),
        ("linear", {}),
    ],
)
def test_options_that_the_schedule_takes_are_taken(schedule: str, options: dict[str, Any]) -> None:
    chosen = [f"trainer.lr_scheduler_type={schedule}", f"trainer.lr_scheduler_kwargs={json.dumps(options)}"]
    assert load_recipe("rlvr", chosen).trainer["lr_scheduler_kwargs"] == options


# -- methods -----------------------------------------------------------------------------------------------------------
def test_a_method_without_rollouts_takes_any_batch() -> None:
    check_batch({"per_device_train_batch_size": 0}, "sft")
    assert refusal("warm_start", "monitors.window=3") == (
        "monitors: watch the rollouts of reinforcement learning, method sft has none"
    )


@pytest.mark.parametrize("path", sorted(Path(experiments.__file__).parent.rglob("*.py")), ids=lambda path: path.stem)
def test_no_module_asks_a_method_for_its_name(path: Path) -> None:
    compared = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare)
        and any(isinstance(each, ast.Constant) and each.value in METHODS for each in ast.walk(node))
    ]
    assert compared == []


def test_each_method_has_a_configuration() -> None:
    assert {name: method.configuration().__name__ for name, method in METHODS.items()} == {
        "grpo": "CalibratedGRPOConfig",
        "ppo": "CalibratedPPOConfig",
        "sft": "CalibratedSFTConfig",
    }


# -- what training refuses before it loads a model -------------------------------------------------------------------
def training_refusal(out: Path, name: str, *overrides: str, resume: bool = False) -> str:
    recipe = load_recipe(name, overrides)
    with pytest.raises(ConfigError) as refused:
        train(recipe, out, resume=resume)
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.per_device_train_batch_size=14", "4 does not divide the generation batch of 14 completions"),
        ("trainer.scale_rewards=group", "trainer.scale_rewards: 'group' has no effect here, set trainer.scaling"),
        ("trainer.credit=segmnt", "trainer.credit: 'segmnt' is not one of sequence, segment"),
        ("trainer.scaling=std", "trainer.scaling: 'std' is not one of none, "),
        ("trainer.confidence_entropy_end=-1", "trainer.confidence_entropy_end: -1.0 is below 0"),
        ("trainer.confidence_loss_weight=0", "trainer.confidence_entropy_coef: has no effect without the closed form"),
        ("trainer.confidence_loss_weight=-1", "trainer.confidence_loss_weight: -1.0 is below 0"),
        ("trainer.auto_find_batch_size=true", "trainer: auto_find_batch_size is not supported by GRPO"),
        ("model.lora={rank: 4}", "model.lora.rank: unknown key, allowed: "),
        ("model.path=./absent", "model.path: ./absent: no such folder"),
    ],
)
def test_training_refuses_before_it_loads_or_writes(tmp_path: Path, override: str, message: str) -> None:
    assert message in training_refusal(tmp_path / "run", "candor", override)
    # The folder is as good as new: the same command with the value put right is not told that a run is there.
    assert list((tmp_path / "run").iterdir()) == []


def test_a_critic_that_is_not_there_is_named_before_the_policy_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.config.models.open_policy", None)
    separate = ("trainer.value_model=separate", "model.critic_path=./absent", "task.train_size=200")
    message = training_refusal(tmp_path / "run", "candor_ppo", *separate)
    assert message.startswith("model.critic_path: ./absent: no such folder")


def test_broken_training_data_names_file_and_line(tmp_path: Path) -> None:
    paths = gsm8k_lines(tmp_path, '{"question": "2+2?", "answer": "#### 4"}', '{"question": "2+3?"')
    message = training_refusal(tmp_path / "run", "smollm2_gsm8k", *paths)
    assert f"task: {tmp_path}/rows.jsonl:2: not JSON: " in message


def test_more_training_data_than_there_is_is_refused(tmp_path: Path) -> None:
    message = training_refusal(tmp_path / "run", "smollm2_gsm8k", *gsm8k_lines(tmp_path), "task.train_size=5")
    assert message.endswith("rows.jsonl has 1 questions, 5 were asked for")


def test_a_warm_start_cannot_write_what_its_rows_do_not_have(tmp_path: Path) -> None:
    message = training_refusal(tmp_path / "run", "warm_start", "task.template.analysis=required", "task.train_size=5")
    assert message.startswith("task: a completion with ")
    assert "missing_field" in message


def kept_run(out: Path, *overrides: str) -> None:
    out.mkdir()
    (out / "recipe.yaml").write_text(yaml.safe_dump(load_recipe("rlvr", overrides).source, sort_keys=False))


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path) -> None:
    kept_run(tmp_path / "run")
    message = training_refusal(tmp_path / "run", "rlvr")
    assert message == f"--out {tmp_path}/run: holds a run already; add --resume to go on with it, or choose another"


def test_a_run_is_not_resumed_with_another_recipe(tmp_path: Path) -> None:
    kept_run(tmp_path / "run", "trainer.max_steps=3")
    message = training_refusal(tmp_path / "run", "rlvr", "trainer.max_steps=4", resume=True)
    assert message == f"--resume {tmp_path}/run: its recipe.yaml differs from the recipe asked for"


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    kept_run(tmp_path / "run")
    (tmp_path / "run" / "final").mkdir()
    mark_complete(tmp_path / "run" / "final", 300)
    assert train(load_recipe("rlvr"), tmp_path / "run", resume=True) == tmp_path / "run" / "final"


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = training_refusal(tmp_path / "file" / "run", "rlvr")
    assert message == f"--out {tmp_path}/file/run: cannot be written: Not a directory"


def test_only_the_main_process_looks_at_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_run(tmp_path / "run")
    monkeypatch.setenv("RANK", "1")
    # It gets as far as the model: its folder is the main process's business.
    assert "model.path" in training_refusal(tmp_path / "run", "rlvr", "model.path=./absent")


def test_the_template_is_the_tasks() -> None:
    recipe = load_recipe("rlvr")
    assert isinstance(recipe.task, Arithmetic)
    assert recipe.template is recipe.task.template


def test_adapters_that_could_not_be_loaded_again_are_refused() -> None:
    message = refusal("candor", "model.lora={r: 4}", "model.add_template_tokens=true")
    assert message.startswith("model.lora: an adapter does not hold the new tokens of model.add_template_tokens")
    message = refusal("candor", "model.lora={r: 4}", "model.path=smollm2-135m-instruct")
    assert message.startswith("model.lora: an adapter on smollm2-135m-instruct finds no base")


def test_a_mix_needs_as_many_prompts_as_a_batch_has_groups(tmp_path: Path) -> None:
    mix = "trainer.difficulty_mix={hard: 1, easy: 1}"
    message = training_refusal(tmp_path / "run", "rlvr", mix, "task.train_size=8")
    assert message == "trainer.difficulty_mix: a batch asks 32 different prompts and the task has 8 to train on"


def test_ppo_trains_all_tokens(tmp_path: Path) -> None:
    message = training_refusal(tmp_path / "run", "candor_ppo", "trainer.trained_tokens=confidence")
    assert message.startswith("trainer.trained_tokens: 'confidence' leaves rewards of answers without a token")
