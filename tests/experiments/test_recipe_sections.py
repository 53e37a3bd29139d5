"""Every section is checked whole, and a refusal says which key, which value and what instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.config.recipe import load_recipe
from experiments.errors import ConfigError
from experiments.tasks import Arithmetic
from tests.factories import Refusal, gsm8k_lines

pytestmark = pytest.mark.usefixtures("no_model_is_loaded")


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
        ("rubric.brir.weight=1", "rubric.brir is not a reward term; expected one of accuracy, brier, "),
        ("rubric.brier.wieght=1", "rubric.brier.wieght is not an option of brier; expected one of weight, "),
        (
            "estimators.answer_probabilty={}",
            "estimators.answer_probabilty: unknown key, allowed: verbalized, prior_confidence, ",
        ),
        (
            "estimators.answer_probability.reductoin=min",
            "estimators.answer_probability.reductoin: unknown key, allowed: reduction (did you mean reduction?)",
        ),
        ("trainer.lerning_rate=1", "trainer.lerning_rate: unknown key, allowed: the fields of CalibratedGRPOConfig"),
        ("probe.sise=3", "probe.sise: unknown key, allowed: split, size, "),
        # The nearest right name.
        ("task.max_step=2", "(did you mean max_steps?)"),
        ("rubric.brir.weight=1", "(did you mean brier?)"),
        ("trainer.lerning_rate=1", "(did you mean learning_rate?)"),
        ("probe.sise=3", "(did you mean size?)"),
        # A value that is none of the allowed ones, or of another type.
        (
            "task.name=arithmetics",
            "task.name: 'arithmetics' is not one of arithmetic, arithmetic_words, dataset, facts, rearrangement "
            "(did you mean arithmetic?)",
        ),
        ("task.name=null", "task.name: None is not one of arithmetic, arithmetic_words, dataset"),
        ("task.train_split=test", "task.train_split: 'test' is not one of warmup, train"),
        ("task.max_steps=19", "task.max_steps: 19 is not from 1 to 12"),
        ("task.max_steps=two", "task.max_steps: 'two' is not a whole number"),
        ("task.train_size=0", "task.train_size: 0 is below 1"),
        ("task.chat=maybe", "task.chat: 'maybe' is not true or false"),
        ("task.template.levels=[0.1, null]", "task.template.levels: [0.1, None] is not a list of texts or null"),
        ("task.template.levels=0.1", "task.template.levels: 0.1 is not a list of texts or null"),
        ("task.template=0.1", "task.template: 0.1 is not a mapping"),
        ("task.train_path=2024-01-01", "task.train_path: unknown key"),
        ("model.path=2024-01-01", "model.path: datetime.date(2024, 1, 1) is not a number, text, list or mapping"),
        ("task.verifier_workers=0", "task.verifier_workers: 0 is below 1"),
        ("task.verifier_timeout_s=0", "task.verifier_timeout_s: 0.0 is not above 0 and finite"),
        ("task.verifier_timeout_s=.inf", "task.verifier_timeout_s: inf is not a number"),
        ("task.template.levels=[high, low]", "task.template: AnswerTemplate.levels holds ['high', 'low']"),
        ("task.template.thinking=maybe", "expected one of ('none', 'optional', 'required')"),
        ("model.path=null", "model.path: missing, and it has no default"),
        ("model.path=3", "model.path: 3 is not a text"),
        (
            "model.dtype=float31",
            "model.dtype: 'float31' is not one of float32, bfloat16, float16 (did you mean float32?)",
        ),
        ("model.lora=16", "model.lora: 16 is not a mapping or null"),
        ("model.lora={rank: 4}", "model.lora.rank: unknown key, allowed: "),
        ("model.lora={r: many}", "model.lora.r: 'many' is not a whole number"),
        ("rubric.brier=0.5", "rubric.brier is 0.5, expected a mapping such as {weight: 1.0}"),
        ("rubric.accuracy.weight=-1", "rubric.accuracy.weight is -1, expected a finite number of at least 0"),
        ("rubric.accuracy.segments=[answr]", "rubric.accuracy.segments names 'answr'"),
        ("rubric.allow_hackable=perhaps", "rubric.allow_hackable: 'perhaps' is not true or false"),
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
        ("trainer.max_steps=many", "trainer.max_steps: 'many' is not a whole number"),
        ("trainer.learning_rate=fast", "trainer.learning_rate: 'fast' is not a number"),
        ("trainer.num_generations=8.5", "trainer.num_generations: 8.5 is not a whole number"),
        ("trainer.lr_scheduler_type=cosin", "trainer.lr_scheduler_type: 'cosin' is not one of linear, cosine, "),
        ("trainer.lr_scheduler_type=cosin", "(did you mean cosine?)"),
        ("trainer.save_strategy=setps", "trainer.save_strategy: 'setps' is not one of no, steps, "),
        ("trainer.output_dir=runs/x", "trainer.output_dir: the run's folder is given by --out"),
        ("trainer.resume_from_checkpoint=x", "trainer.resume_from_checkpoint: a run goes on from its own folder"),
        ("probe.split=tset", "probe.split: 'tset' is not one of warmup, train, validation, test, shifted"),
        ("probe.size=0", "probe.size: 0 is below 1"),
        ("probe.batch_size=-2", "probe.batch_size: -2 is below 1"),
        ("probe.size=all", "probe.size: 'all' is not a whole number"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_is_allowed(override: str, message: str, refusal: Refusal) -> None:
    assert message in refusal.recipe("rlvr", override)


def test_a_rubric_that_pays_for_wrong_answers_names_where_and_the_cure(refusal: Refusal) -> None:
    message = refusal.recipe("rlcr", "rubric.brier.weight=2")
    assert "rubric is hackable: where P(correct) is in (0, 0.5), answering wrongly on purpose pays" in message
    assert "raise rubric.accuracy.weight from 1 to at least 2" in message
    assert load_recipe("rlcr", ["rubric.brier.weight=2", "rubric.allow_hackable=true"]).rubric.allow_hackable


@pytest.mark.parametrize(
    ("recipe", "override"),
    [
        ("candor", "rubric.brier={weight: 2, target: hybrid}"),  # in closed form, no token of an answer earns it
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
             "trainer.confidence_entropy_coef=0", "rubric.brier.target=own", "rubric.spherical=null"],
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


def test_a_split_has_to_be_the_tasks_own(tmp_path: Path, refusal: Refusal) -> None:
    paths = gsm8k_lines(tmp_path)
    message = refusal.recipe("smollm2_gsm8k", *paths, "probe.split=validation")
    assert message == "probe.split: 'validation' is not one of train, test"


def test_missing_data_names_the_key_and_the_file(tmp_path: Path, refusal: Refusal) -> None:
    paths = gsm8k_lines(tmp_path)
    message = refusal.recipe("smollm2_gsm8k", *paths, "task.path.test=absent.jsonl")
    assert message.startswith("task.path: absent.jsonl is not a file or folder here, nor a hub name")


def test_the_closed_form_needs_levels_and_a_term_to_take(refusal: Refusal) -> None:
    message = refusal.recipe("candor", "task.template.levels=null")
    assert message.startswith("trainer.confidence_loss_weight: the closed form needs task.template.levels")
    for override in ("rubric.spherical=null", "rubric.spherical.weight=0"):
        message = refusal.recipe("candor", override)
        assert message.startswith("trainer.confidence_loss_weight: has nothing to take in closed form")
    free = ["task.template.levels=null", "trainer.confidence_loss_weight=0"]
    assert "estimators.expected_confidence: needs task.template.levels" in refusal.recipe("candor", *free)
    assert load_recipe("candor", [*free, "estimators.expected_confidence=null", "probe.confidence=verbalized"])


def test_a_supervised_recipe_takes_the_fields_of_its_own_method(refusal: Refusal) -> None:
    message = refusal.recipe("warm_start", "trainer.num_generations=8")
    assert "trainer.num_generations: unknown key, allowed: the fields of CalibratedSFTConfig, method sft" in message


def test_what_ppo_has_no_groups_or_no_critic_for_is_refused(refusal: Refusal) -> None:
    assert refusal.recipe("rlvr", "trainer.gae_lambda=0.95").startswith("trainer.gae_lambda: unknown key")
    message = refusal.recipe("candor_ppo", "rubric.brier.target=leave_one_out")
    assert message.startswith("trainer.num_generations: 1 leaves rubric.brier nothing to compare with")
    assert load_recipe("candor_ppo", ["rubric.brier.target=leave_one_out", "trainer.num_generations=4"])
    assert refusal.recipe("candor_ppo", "rubric.brier.scaling=group").startswith(
        "rubric.brier.scaling: 'group' is of groups"
    )
    for name, own in (("rlvr", []), ("candor_ppo", []), ("candor_ppo", ["trainer.value_model=head"])):
        message = refusal.recipe(name, "model.critic_path=tiny-large", *own)
        assert message.startswith("model.critic_path: has no effect without a separate critic")
    separate = load_recipe("candor_ppo", ["model.critic_path=tiny-large", "trainer.value_model=separate"])
    assert separate.model.critic_path == "tiny-large"


def test_the_template_is_the_tasks() -> None:
    recipe = load_recipe("rlvr")
    assert isinstance(recipe.task, Arithmetic)
    assert recipe.template is recipe.task.template


def test_adapters_that_could_not_be_loaded_again_are_refused(refusal: Refusal) -> None:
    message = refusal.recipe("candor", "model.lora={r: 4}", "model.add_template_tokens=true")
    assert message.startswith("model.lora: an adapter does not hold the new tokens of model.add_template_tokens")
    message = refusal.recipe("candor", "model.lora={r: 4}", "model.path=smollm2-135m-instruct")
    assert message.startswith("model.lora: an adapter on smollm2-135m-instruct finds no base")
