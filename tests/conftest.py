"""Shared by all tests: no network, and a policy of a few thousand weights, trained on the spot to follow the template.

Heavy libraries are imported inside the fixtures, so that tests that need none of them start at once.
"""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from rewards.template import AnswerTemplate
from tests.factories import Refusal, character_tokenizer, tiny_model

os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    TRL_EXPERIMENTAL_SILENCE="1",
    TOKENIZERS_PARALLELISM="false",
    WANDB_MODE="offline",
)

# How long one example takes is a fact of the machine: on a loaded one scikit-learn's AUROC alone has taken longer than
# hypothesis's 200 ms, and a property that holds was reported as failed.
settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The suite draws the same examples every time, so that a change is judged by what it changed; `make test-slow` draws
# new ones.
settings.register_profile("candor", settings.get_profile("random"), derandomize=True)
settings.load_profile("candor")

LEVELS = ("0.0", "0.25", "0.5", "0.75", "1.0")
SUMS = [(left, right) for left in range(5) for right in range(5)]


@pytest.fixture(scope="module", autouse=True)
def what_is_imported_is_no_garbage() -> None:
    """Every training ends with a collection of garbage, which takes half a second over the objects of all libraries."""
    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class TinyPolicy:
    """A policy on disk, the template it follows and the rows of its task: sums of two digits below five."""

    path: Path
    template: AnswerTemplate
    rows: tuple[dict[str, str], ...]

    def load(self) -> tuple[Any, Any]:
        """A fresh copy of the model, and its tokenizer."""
        from rl.checkpoint import load_policy

        return load_policy(self.path, attn_implementation="eager")


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> TinyPolicy:
    """A policy with random weights: two layers of 32, and a token a character."""
    template = AnswerTemplate(levels=LEVELS)
    tokenizer = character_tokenizer(template)
    model = tiny_model(
        vocabulary=tokenizer, hidden=32, initializer_range=0.02, max_position_embeddings=64, tie_word_embeddings=True,
        attn_implementation="eager",
    )  # fmt: skip
    path = tmp_path_factory.mktemp("untrained")
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    rows = tuple({"prompt": f"{left}+{right}=", "answer": str(left + right)} for left, right in SUMS)
    return TinyPolicy(path, template, rows)


@pytest.fixture(scope="session")
def policy(untrained: TinyPolicy, tmp_path_factory: pytest.TempPathFactory) -> TinyPolicy:
    """The untrained policy after seconds of supervision: it follows the template, guesses a digit, with now and then
    the right one, and states all levels alike."""
    import torch

    model, tokenizer = untrained.load()
    draw, steps = random.Random(0), 100

    def example() -> list[int]:
        row = draw.choice(untrained.rows)
        answer = row["answer"] if draw.random() < 0.6 else str(draw.randrange(9))
        text = row["prompt"] + untrained.template.render(answer, draw.choice(LEVELS))
        return [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for _ in range(steps):
        ids_BT = torch.tensor([example() for _ in range(48)])  # all of eleven tokens
        labels_BT = ids_BT.clone()
        labels_BT[:, :4] = -100  # the prompt
        loss = model(input_ids=ids_BT, labels=labels_BT).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    path = tmp_path_factory.mktemp("policy")
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return TinyPolicy(path, untrained.template, untrained.rows)


@pytest.fixture(scope="session")
def verifier() -> Iterator[Any]:
    from rewards.verifiers.pool import VerifierPool

    with VerifierPool() as pool:
        yield pool


RUBRIC = {"accuracy": {"weight": 1.0}, "brier": {"weight": 1.0}, "format": {"weight": 0.5}}


@pytest.fixture
def make_trainer(policy: TinyPolicy, verifier: Any, tmp_path: Path) -> Callable[..., Any]:
    """Builds a trainer on a fresh copy of the policy; keywords are fields of its configuration.

    ``rubric``, ``template``, ``model``, ``tokenizer``, ``rows`` and ``peft_config`` stand in for the usual ones;
    ``method`` is grpo or ppo, which may take a ``critic``; the term reward_model takes a ``reward_model``.
    """

    def make(
        *,
        rubric: Any = None,
        template: AnswerTemplate | None = None,
        model: Any = None,
        tokenizer: Any = None,
        rows: Sequence[dict[str, str]] | None = None,
        peft_config: Any = None,
        method: str = "grpo",
        critic: Any = None,
        reward_model: Any = None,
        **config: Any,
    ) -> Any:
        from datasets import Dataset
        from transformers import PrinterCallback

        from rewards.rubric import Rubric
        from rl.config import CalibratedGRPOConfig
        from rl.grpo import CalibratedGRPOTrainer
        from rl.ppo import CalibratedPPOTrainer
        from rl.ppo_config import CalibratedPPOConfig

        configuration, kind, extra = CalibratedGRPOConfig, CalibratedGRPOTrainer, dict[str, Any]()
        if method == "ppo":
            configuration, kind, extra = CalibratedPPOConfig, CalibratedPPOTrainer, {"critic": critic}
        if reward_model is not None:
            extra["reward_model"] = reward_model
        if model is None:
            model, tokenizer = policy.load()
        settings = {
            "output_dir": str(tmp_path / "run"),
            "report_to": "none",
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "disable_tqdm": True,
            "save_strategy": "no",
            "logging_steps": 1,
            "max_steps": 2,
            "per_device_train_batch_size": 8,
            "max_completion_length": 10,
            "learning_rate": 1e-3,
        } | ({"num_generations": 4} if method == "grpo" else {})
        trainer = kind(
            model,
            **extra,
            rubric=rubric or Rubric.from_config(RUBRIC),
            template=template or policy.template,
            verifier=verifier,
            args=configuration(**{**settings, **config}),
            train_dataset=Dataset.from_list(list(rows or policy.rows)),
            processing_class=tokenizer,
            peft_config=peft_config,
        )
        trainer.remove_callback(PrinterCallback)
        return trainer

    return make


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Refusal:
    return Refusal(capsys)


@pytest.fixture
def no_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*_: Any, **__: Any) -> None:
        pytest.fail("a model was loaded before what was asked for was checked")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", loaded)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", loaded)


@pytest.fixture
def replay() -> Callable[..., None]:
    """Makes a trainer sample given completions: generation ``n`` of the run takes the ``n``-th list, round and round.

    A completion is a text, which ends with the end-of-sequence token, or a list of token ids, taken as they are.
    """

    def install(trainer: Any, *generations: Sequence[str | list[int]]) -> None:
        tokenizer, turns = trainer.processing_class, iter(range(10**9))

        def ids_of(completion: str | list[int]) -> list[int]:
            if isinstance(completion, list):
                return completion
            return [*tokenizer.encode(completion, add_special_tokens=False), tokenizer.eos_token_id]

        def generate(prompt_ids: Any, *_: Any, **__: Any) -> tuple[list[list[int]], None]:
            completions = generations[next(turns) % len(generations)]
            assert len(completions) == len(prompt_ids)
            return [ids_of(each) for each in completions], None

        trainer._generate_single_turn = generate

    return install


@pytest.fixture(scope="session")
def write_recipe(policy: TinyPolicy, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a recipe that trains the policy on one-digit arithmetic in seconds; keywords change its sections' keys."""
    import yaml

    trainer = {
        "max_steps": 6,
        "save_steps": 3,
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 8,
        "gradient_checkpointing": False,
        "use_cpu": True,
    }
    of_method = {
        "grpo": {"confidence_loss_weight": 1.0, "num_generations": 4, "max_completion_length": 10},
        "ppo": {"confidence_loss_weight": 1.0, "max_completion_length": 10},
        "sft": {"max_length": 64},
        "self_ref": {"answers_max_tokens": 10},
        "recalibrate": {"answers_max_tokens": 10, "answers_per_question": 2},
        "rlsf_dpo": {"answers_max_tokens": 10, "answers_per_question": 3},
        "rlsf_reward": {"answers_max_tokens": 10, "answers_per_question": 3},
    }

    def write(method: str = "grpo", **changes: dict[str, Any]) -> Path:
        template = {"levels": list(policy.template.levels)}
        sections: dict[str, dict[str, Any]] = {
            "task": {"name": "arithmetic", "max_steps": 1, "max_value": 19, "train_size": 200, "template": template},
            "model": {"path": str(policy.path), "attn_implementation": "eager"},
            "rubric": {name: dict(options) for name, options in RUBRIC.items()},
            "trainer": {"method": method, **trainer, **of_method[method]},
            "probe": {"size": 20, "max_new_tokens": 10, "resamples": 20},
        }
        for section, values in changes.items():
            sections[section] = {**sections.get(section, {}), **values}
        path = tmp_path_factory.mktemp("recipe") / f"short_{method}.yaml"
        path.write_text(yaml.safe_dump(sections))
        return path

    return write
