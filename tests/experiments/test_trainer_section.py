"""What the trainer could not do is refused before a model loads: signals it does not read, evaluation without data."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from experiments.config.recipe import load_recipe
from experiments.config.trainer import check_generation, check_trackers
from experiments.errors import ConfigError
from experiments.train import train
from rl.signals import MODEL_SIGNALS, SIGNALS
from tests.factories import Refusal


@pytest.mark.parametrize(
    ("overrides", "key", "value", "nearest"),
    [
        (["rubric.rlsf.signal=answr_margin"], "rubric.rlsf.signal", "answr_margin", "answer_margin"),
        (["rubric.capo.signal=confidense"], "rubric.capo.signal", "confidense", "confidence"),
        (
            ["rubric.brier.target=soft", "rubric.brier.soft_signal=tokenf1", "rubric.accuracy.unjudged=0"],
            "rubric.brier.soft_signal",
            "tokenf1",
            "token_f1",
        ),
        (["rubric.pessimistic.signals=[token_f1, entrpy]"], "rubric.pessimistic.signals", "entrpy", "entropy"),
        (
            ["rubric.rlsf={weight: 0, signal: step_confidences}"],
            "rubric.rlsf.signal",
            "step_confidences",
            "step_confidence",
        ),
    ],
)
def test_an_unknown_signal_is_named_with_what_is_allowed(
    overrides: list[str], key: str, value: str, nearest: str, refusal: Refusal
) -> None:
    message = refusal.recipe("rlcr", *overrides)
    assert message.startswith(f"{key}: {value!r} is not one of {', '.join(SIGNALS)}")
    assert message.endswith(f"(did you mean {nearest}?)")


def test_the_stated_confidence_is_allowed_where_a_term_ranks_by_it(refusal: Refusal) -> None:
    ranked = ["rubric.rlsf.signal=confidence", "rubric.rlsf.weight=0"]  # with a weight it would pay for the highest
    assert load_recipe("rlcr", [*ranked, "rubric.capo.signal=confidence"]).rubric.signals == ()
    mixed = [*ranked, "rubric.intuitor.weight=0.1"]
    assert load_recipe("rlcr", mixed).rubric.signals == ("self_certainty",)
    compared = refusal.recipe("rlcr", "rubric.rlsf.signal=agreement", "rubric.rlsf.weight=0")
    assert compared == "rubric.rlsf.signal: agreement needs samples, which training does not give"
    assert "'confidence' is not one of" in refusal.recipe("rlcr", "rubric.pessimistic.signals=[confidence, token_f1]")


def test_a_signal_that_is_not_read_need_not_exist() -> None:
    assert load_recipe("rlcr", ["rubric.brier.soft_signal=later", "rubric.intuitor.weight=0.1"])


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("learning_rate", -1e-4, "at least 0"),
        ("adam_beta2", 1.5, "from 0 to below 1"),
        ("adam_epsilon", -1.0, "at least 0"),
        ("weight_decay", -0.1, "at least 0"),
        ("max_steps", 0, "at least 1, or -1"),
        ("max_steps", -5, "at least 1, or -1"),
        ("temperature", 0.0, "above 0"),
        ("top_p", 3.0, "above 0 and at most 1"),
        ("max_completion_length", 0, "at least 1"),
        ("max_grad_norm", -1.0, "at least 0"),
        ("save_steps", 0, "above 0"),
        ("logging_steps", 0, "above 0"),
        ("per_device_train_batch_size", 0, "at least 1"),
        ("gradient_accumulation_steps", -2, "at least 1"),
        ("seed", -1, "from 0 to below"),
        ("vllm_gpu_memory_utilization", -1, "above 0 and at most 1"),
        ("vllm_gpu_memory_utilization", 0.0, "above 0 and at most 1"),
        ("vllm_gpu_memory_utilization", 1.5, "above 0 and at most 1"),
        ("vllm_max_model_length", 0, "at least 1"),
        ("vllm_tensor_parallel_size", 0, "at least 1"),
        ("vllm_server_port", 65536, "from 1 to 65535"),
        ("vllm_server_timeout", 0, "above 0"),
        ("warmup_steps", -1, "at least 0"),
        ("top_entropy_quantile", 1.5, "from 0 to 1"),
    ],
)
def test_a_number_out_of_its_range_is_refused_before_anything_loads(key: str, value: object, allowed: str) -> None:
    with pytest.raises(ConfigError, match=f"^trainer.{key}: .* is not {re.escape(allowed)}"):
        load_recipe("candor", [f"trainer.{key}={value}"])


def test_numbers_at_the_edge_of_their_range_are_taken() -> None:
    edges = {"learning_rate": 0, "adam_beta1": 0, "max_steps": -1, "top_p": 1.0, "max_grad_norm": 0, "beta": 0}
    assert load_recipe("candor", [f"trainer.{key}={value}" for key, value in edges.items()])


@pytest.mark.parametrize("name", [name for name in SIGNALS if name != "prior_confidence"])  # it needs its field
def test_every_signal_can_be_ranked_by(name: str) -> None:
    reward_path = ["model.reward_path=models/reward"] if name in MODEL_SIGNALS else []
    assert load_recipe("rlcr", [f"rubric.rlsf.signal={name}", *reward_path]).rubric.signals == (name,)


@pytest.mark.parametrize("strategy", ["steps", "epoch"])
def test_evaluation_without_an_evaluation_set_is_refused(strategy: str, refusal: Refusal) -> None:
    for recipe in ("rlcr", "warm_start"):
        with pytest.raises(ConfigError, match=f"trainer.eval_strategy: '{strategy}' needs an evaluation set.*'no'"):
            load_recipe(recipe, [f"trainer.eval_strategy={strategy}"])
        assert load_recipe(recipe, ["trainer.eval_strategy=no"]).trainer["eval_strategy"] == "no"
    assert "is not one of no, steps, epoch" in refusal.recipe("rlcr", "trainer.eval_strategy=stps")


# -- what trains on the confidence alone, and what generates -----------------------------------------------------------
def test_training_on_the_confidence_alone_needs_one_that_is_rewarded() -> None:
    recipe = load_recipe("rewarding_doubt")
    assert recipe.trainer["trained_tokens"] == "confidence"
    assert recipe.rubric.audit().safe
    with pytest.raises(ConfigError, match=r"trainer\.trained_tokens: 'confidence' leaves nothing to train"):
        load_recipe("rewarding_doubt", ["rubric.log=null", "rubric.format=null"])
    with pytest.raises(ConfigError, match=r"trainer\.trained_tokens: 'confidence' needs one, task\.template"):
        load_recipe(
            "rewarding_doubt", ["task.template.confidence=none", "task.template.levels=null", "rubric.log=null"]
        )


def test_the_hybrid_recipe_holds_the_confidence_to_verdict_and_group() -> None:
    (brier,) = (term for term in load_recipe("dcpo").rubric.terms if term.name == "brier")
    assert (brier.target, brier.mix) == ("hybrid", 0.5)


def test_vllm_is_asked_for_before_the_model_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refusal
) -> None:
    monkeypatch.setattr("experiments.config.trainer.importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("experiments.config.models.open_policy", lambda *_, **__: pytest.fail("the model was loaded"))
    for mode in ("colocate", "server"):
        recipe = load_recipe("rlcr", ["trainer.use_vllm=true", f"trainer.vllm_mode={mode}"])
        with pytest.raises(ConfigError, match=r"trainer\.use_vllm: vLLM is not installed; the extra vllm installs it"):
            train(recipe, tmp_path / mode)
    assert refusal.recipe("rlcr", "trainer.use_vllm=true", "trainer.vllm_mode=colocated") == (
        "trainer.vllm_mode: 'colocated' is not one of server, colocate (did you mean colocate?)"
    )
    check_generation({"use_vllm": False})
    monkeypatch.setattr("experiments.config.trainer.importlib.util.find_spec", lambda name: object())
    check_generation({"use_vllm": True})


def test_trackers_are_known_and_installed_before_the_model_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refusal
) -> None:
    unknown = refusal.recipe("rlcr", "trainer.report_to=[tensorboard, wandbb]")
    assert unknown.startswith("trainer.report_to: 'wandbb' is not one of none, all, ") and "mean wandb?" in unknown
    monkeypatch.setattr("experiments.config.models.open_policy", lambda *_, **__: pytest.fail("the model was loaded"))
    name = "transformers.integrations.integration_utils.get_available_reporting_integrations"
    monkeypatch.setattr(name, lambda: ["tensorboard"])
    check_trackers({"report_to": ["tensorboard", "flyte"]})
    with pytest.raises(ConfigError, match=r"trainer\.report_to: wandb is not installed"):
        train(load_recipe("rlcr", ["trainer.report_to=wandb"]), tmp_path)
