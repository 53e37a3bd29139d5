"""Recipes of the sizes that people train: they fit the launch that they name, and a trainer can be built of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments.cli import main
from experiments.config.methods import METHODS
from experiments.config.models import lora_config
from experiments.config.recipe import load_recipe, recipe_names
from experiments.config.trainer import check_batch
from experiments.launch.estimate import ONE, Facts, check_fits, facts_of, gpu_bytes, hours, smallest, states
from experiments.launch.launcher import launch_file, launch_kind
from experiments.launch.memory import GIB, LAUNCHES, generation_seconds, memory
from experiments.launch.shapes import KNOWN, Shape, shape_of
from tests.experiments.layout_files import ROWS, files
from tests.factories import Refusal, character_tokenizer

ROOT = Path(__file__).parents[2]
LAUNCH = {
    "7b": ("zero2", 8, 80), "7b_lora": ("zero2", 8, 80), "32b": ("zero3", 32, 80),
    "1.5b": (ONE, 1, 24), "0.5b": (ONE, 1, 24),
}  # fmt: skip
"""Size -> the launch that its recipes are for, its GPUs, and GiB of one of them."""
SIZED = [name for name in recipe_names() if "/" in name]
EVERYWHERE = {
    "rlvr",
    "rlcr",
    "rlcr_segment",
    "dcpo",
    "candor",
    "candor_ppo",
    "rewarding_doubt",
    "capo",
    "truthrl",
    "intuitor",
}
EVERYWHERE |= {"rlpr", "rlsf", "self_ref"}


def test_every_method_is_there_in_every_size() -> None:
    for size in LAUNCH:
        there = {name.partition("/")[2] for name in SIZED if name.startswith(f"{size}/")}
        assert there >= ({"rlcr", "candor"} if size == "0.5b" else EVERYWHERE)


@pytest.mark.parametrize("name", SIZED)
def test_a_recipe_fits_the_launch_that_it_is_for(name: str) -> None:
    launch, count, gpu = LAUNCH[name.partition("/")[0]]
    recipe = load_recipe(name)
    check_batch(recipe.trainer, recipe.method, count)
    facts = facts_of(recipe)
    check_fits(facts, name, launch, count, gpu * GIB)
    assert 0 < sum(hours(facts, count)) < 100
    text = (ROOT / "experiments" / "recipes" / f"{name}.yaml").read_text()
    assert text.startswith("# ") and len(text.splitlines()) <= 40


@pytest.mark.parametrize("method", sorted(EVERYWHERE))
def test_a_step_has_as_many_completions_on_four_nodes_as_on_one(method: str) -> None:
    one, four = (facts_of(load_recipe(f"{size}/{method}")) for size in ("7b", "32b"))
    assert one.micro * one.steps_per_update * 8 == four.micro * four.steps_per_update * 32
    assert one.generated_at_once(8) * 8 == four.generated_at_once(32) * 32


def test_rlcr_has_its_published_settings() -> None:
    recipe = load_recipe("7b/rlcr")
    facts, trainer = facts_of(recipe), recipe.trainer
    assert facts.micro * facts.steps_per_update * 8 == 2048
    published = {"num_generations": 32, "temperature": 0.7, "beta": 0.0, "learning_rate": 1e-6, "scaling": "none"}
    published |= {"max_completion_length": 1536, "credit": "sequence"}
    assert {key: trainer[key] for key in published} == published
    weights = dict(zip(recipe.rubric.names, recipe.rubric.weights.tolist(), strict=True))
    assert weights == {"accuracy": 0.5, "format": 0.5, "brier": 0.5}
    assert load_recipe("7b/rlcr_segment").trainer == trainer | {"credit": "segment"}


# -- down to the trainer ---------------------------------------------------------------------------------------------
@pytest.fixture
def shrunk(tmp_path: Path) -> Any:
    """Writes a model of a recipe's architecture, of a megabyte, and questions of its task; the overrides with them."""

    def write(name: str) -> list[str]:
        from transformers import AutoConfig, AutoModelForCausalLM

        recipe = load_recipe(name)
        folder, data = tmp_path / "model", tmp_path / "data"
        data.mkdir()
        tokenizer = character_tokenizer(recipe.template)
        tokenizer.chat_template = "{% for each in messages %}{{ each['content'] }}{% endfor %}"
        path = recipe.model.path
        kind = "llama" if "lama" in path else "qwen3" if "Qwen3" in path else "qwen2"
        shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
        shape |= {"num_key_value_heads": 2, "vocab_size": len(tokenizer), "max_position_embeddings": 40_000}
        ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
        AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape, **ends)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        assert (folder / "model.safetensors").stat().st_size < 2**20
        source = load_recipe(name).source["task"]
        row = {"question": "1+1?", "problem": "1+1?", "answer": "2", "category": "Physics"}
        row = ROWS[source["layout"]][0] if "layout" in source else row
        asked = next(key for key in ("question", "problem") if key in row)
        rows = [{**row, asked: f"{n}+1?"} for n in range(60)]
        if "layout" in source:
            files(data, source["layout"], rows)
        else:
            lines = {split: rows if split == "train" else [{**row, asked: "9+9?"}] for split in ("train", "test")}
            for split, each in lines.items():
                (data / f"{split}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in each))
        own = ["trainer.use_cpu=true", "trainer.bf16=false", "task.train_size=null"]
        own += ["trainer.use_vllm=false"] if METHODS[recipe.method].rollouts else []
        return [*own, f"task.path={data}", f"model.path={folder}", "trainer.max_steps=1", "trainer.save_steps=1"]

    return write


def built(name: str, overrides: list[str], out: Path) -> Any:
    """The trainer of a recipe, as a run builds it."""
    from datasets import Dataset

    from experiments.config.models import open_weights
    from experiments.probe.self_training import PREPARATIONS
    from experiments.train import build_trainer, run_arguments, training_set

    if METHODS[load_recipe(name, overrides).method].rollouts:
        group = load_recipe(name, overrides).trainer.get("num_generations", 1)
        overrides = [*overrides, f"trainer.per_device_train_batch_size={max(group, 2)}",
                     "trainer.gradient_accumulation_steps=1", "trainer.steps_per_generation=1"]  # fmt: skip
    recipe = load_recipe(name, overrides)
    arguments = run_arguments(recipe, out)
    dataset = training_set(recipe, arguments.seed)
    model, tokenizer = open_weights(recipe, recipe.model.path, "model.path")
    if recipe.method in PREPARATIONS:  # a random policy answers nothing that could be learnt
        PREPARATIONS[recipe.method].ready(recipe, model, tokenizer)
        dataset = Dataset.from_list([PREPARATIONS[recipe.method].example] * 4)
    with recipe.task.open_verifier() as verifier:
        return recipe, build_trainer(recipe, arguments, model, tokenizer, dataset, verifier)


SAMPLE = [*(name for name in SIZED if name.startswith("7b/")), "7b_lora/rlcr", "32b/dcpo", "1.5b/candor_ppo"]


@pytest.mark.parametrize(
    "name", [name if name in SAMPLE else pytest.param(name, marks=pytest.mark.slow) for name in SIZED]
)
def test_a_trainer_is_built_of_a_shrunk_model(name: str, shrunk: Any, tmp_path: Path) -> None:
    recipe, trainer = built(name, shrunk(name), tmp_path / "run")
    trained = sum(each.numel() for each in trainer.model.parameters() if each.requires_grad)
    everything = sum(each.numel() for each in trainer.model.parameters())
    assert (trained < everything) == (lora_config(recipe.model) is not None)
    if recipe.method == "grpo":
        assert trainer.rubric.names == recipe.rubric.names and trainer.args.scaling == recipe.trainer["scaling"]


@pytest.mark.slow
@pytest.mark.parametrize("launch", ["zero2", "zero3"])
@pytest.mark.parametrize("name", ["7b/rlcr", "7b/candor", "7b/candor_ppo", "7b_lora/rlcr", "32b/dcpo"])
def test_a_step_is_taken_under_deepspeed(name: str, launch: str, shrunk: Any, tmp_path: Path) -> None:
    short = [
        "trainer.per_device_train_batch_size=4",
        "trainer.gradient_accumulation_steps=1",
        "task.template.levels=null",
    ]
    short += ["trainer.max_completion_length=8", "trainer.steps_per_generation=1"]
    short += [] if name.endswith("ppo") else ["trainer.num_generations=4"]
    if "candor" in name:
        short.remove("task.template.levels=null")
    arguments = ["train", name, *shrunk(name), *short, "--launch", launch, "--num-processes", "2"]
    # In a process of its own: a launch leaves its variables in the environment of the one that makes it.
    command = [sys.executable, "-m", "experiments", *arguments, "--out", str(tmp_path / "run")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert (tmp_path / "run" / "final").is_dir()


# -- by calculation --------------------------------------------------------------------------------------------------
def facts(**changes: Any) -> Facts:
    shape = KNOWN["Qwen/Qwen2.5-7B"]
    usual = {
        "shape": shape, "origin": "", "trained": shape.parameters, "width": 2, "frozen_reference": False,
        "critic": False,
        "micro": 2, "prompt": 100, "completion": 1000, "checkpointing": True, "steps_per_update": 4,
        "steps_per_generation": 4, "generation_batch_size": None, "vllm_share": 0.0, "vllm": False, "rollouts": True,
        "answered_at_once": 0, "answers": 0, "answer": 0, "max_steps": 10, "rounds": 1,
        "num_iterations": 1,
    }  # fmt: skip
    return Facts(**{**usual, **changes})


def test_what_is_trained_whole_has_the_states_of_the_table_of_memory() -> None:
    for launch in LAUNCHES[1:]:
        found = gpu_bytes(facts(), launch, 8, 80 * GIB)
        assert found["states"] == memory(7.62e9, launch, 8).update
    assert (
        gpu_bytes(facts(width=4), "ddp", 8, 80 * GIB)["states"] == 2 * gpu_bytes(facts(), "ddp", 8, 80 * GIB)["states"]
    )
    assert gpu_bytes(facts(vllm=True, vllm_share=0.4), "zero2", 8, 80 * GIB)["vllm"] == 32 * GIB


@pytest.mark.parametrize(
    ("change", "part"),
    [({"micro": 4}, "logits"), ({"micro": 4}, "activations"), ({"checkpointing": False}, "activations"),
     ({"frozen_reference": True}, "states"), ({"critic": True}, "states"), ({"completion": 2000}, "logits")],
)  # fmt: skip
def test_more_of_anything_takes_more(change: dict[str, Any], part: str) -> None:
    more, less = (gpu_bytes(each, "zero2", 8, 80 * GIB) for each in (facts(**change), facts()))
    assert more[part] > less[part] and more["together"] > less["together"]


def test_adapters_take_what_their_weights_take(policy: Any) -> None:
    from peft import LoraConfig, get_peft_model

    model = policy.load()[0]
    config = model.config
    shape = shape_of(str(policy.path))[0]
    assert shape.parameters == pytest.approx(sum(each.numel() for each in model.parameters()), rel=0.05)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    trained = sum(each.numel() for each in adapted.parameters() if each.requires_grad)
    assert shape.adapter(4) == trained and shape.hidden == config.hidden_size


@pytest.mark.parametrize(
    "name", ["Qwen/Qwen2.5-7B", "meta-llama/Llama-3.1-8B", "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-32B"]
)
def test_the_list_of_shapes_adds_up(name: str) -> None:
    shape = KNOWN[name]
    layer = 2 * shape.hidden * (shape.hidden + shape.key_value) + 3 * shape.hidden * shape.intermediate
    tied = 1 if shape.parameters < 2e9 else 2
    assert shape.layers * layer + tied * shape.vocabulary * shape.hidden == pytest.approx(shape.parameters, rel=0.02)


def test_a_separate_critic_is_trained_whole_beside_adapters() -> None:
    """By hand: a frozen base in bfloat16, a million parameters of adapters, and the critic's states."""
    adapted = facts(trained=1e6, critic=True)
    critic = 7.62e9 * 8  # weights, gradients and Adam in bfloat16
    assert states(adapted, "ddp", 8).update == pytest.approx(7.62e9 * 2 + 1e6 * 16 + critic)
    critic = memory(7.62e9, "zero2", 8).update
    assert states(adapted, "zero2", 8).update == pytest.approx(7.62e9 * 2 + memory(1e6, "zero2", 8).update + critic)
    offloaded = states(adapted, "zero3_offload", 16, per_node=8)
    assert offloaded.host == pytest.approx((2 * 7.62e9 + 18 * 1e6 + 18 * 7.62e9) / 2)
    assert offloaded.weights == 0.0, "a frozen base is offloaded too"


def test_a_rollout_serves_as_many_steps_as_it_is_gone_over() -> None:
    once, twice = (hours(facts(num_iterations=count, frozen_reference=True), 8) for count in (1, 2))
    assert twice[1] == pytest.approx(once[1] / 2)
    assert twice[0] == pytest.approx(once[0] * 9 / 10), "the reference scores a rollout once"
    assert facts_of(load_recipe("7b/rlcr", ["trainer.num_iterations=3"])).num_iterations == 3
    assert facts_of(load_recipe("7b/self_ref")).num_iterations == 1


def test_a_batch_of_generation_is_shared_by_the_processes() -> None:
    asked = facts(generation_batch_size=128)
    assert asked.generated_at_once(8) == 16 and facts().generated_at_once(8) == 8
    assert hours(asked, 8)[1] == pytest.approx(hours(facts(), 8)[1] / 2), "twice as many at once, half as often"
    more, less = (gpu_bytes(each, "zero3", 8, 80 * GIB)["generation"] for each in (asked, facts()))
    assert more > less
    assert facts_of(load_recipe("rlvr", ["trainer.generation_batch_size=256"])).generated_at_once(2) == 128
    assert facts_of(load_recipe("self_ref")).generated_at_once(1) == 0
    found = smallest(facts(generation_batch_size=2 * 5), 80 * GIB)
    assert found is not None and found[1] == 1, "five micro-batches are shared by no two, four or eight GPUs"


def test_answers_before_the_training_take_their_time() -> None:
    """By hand: 10,000 answers of 8 GPUs, 32 at once, are 40 turns of 32 tokens."""
    alone = facts(rollouts=False)
    answering = facts(rollouts=False, answered_at_once=32, answers=10_000, answer=32)
    assert hours(alone, 8)[1] == 0
    assert hours(answering, 8)[1] == pytest.approx(40 * generation_seconds(7.62e9, 32) / 3600)
    asked = facts_of(load_recipe("7b/self_ref"))
    assert (asked.answers, asked.answer, asked.answered_at_once) == (10_000, 32, 32)
    assert facts_of(load_recipe("7b/self_ref", ["trainer.answers_per_question=3"])).answers == 30_000
    assert facts_of(load_recipe("7b/self_ref", ["trainer.own_answers=answers.parquet"])).answers == 0


def test_rounds_are_trained_and_answered_each() -> None:
    once, thrice = (facts_of(load_recipe("rlsf_dpo", each)) for each in ([], ["trainer.rounds=3"]))
    assert once.answers > 0 and thrice.answers == 3 * once.answers
    assert hours(thrice, 1) == pytest.approx([3 * each for each in hours(once, 1)])
    given = facts_of(load_recipe("rlsf_dpo", ["trainer.rounds=3", "trainer.own_answers=answers.parquet"]))
    assert given.answers == 2 * once.answers and given.answered_at_once == once.answered_at_once > 0


def test_main_memory_is_told_where_states_are_offloaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refusal: Refusal, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "7b/rlcr", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    *others, offloaded = [row["main_memory"] for row in rows]
    assert set(others) == {0.0} and offloaded == round(18 * 7.62e9 / GIB, 1)
    assert main(["show", "7b/rlcr"]) == 0
    said = capsys.readouterr().out
    assert "main memory of a node" in said and f"{offloaded}" in said

    class Large:
        total_memory = 80 * GIB

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: Large)
    monkeypatch.setattr("os.sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 64 * GIB // 4096}.__getitem__)
    launch = ("--launch", "zero3_offload", "--num-processes", "8")
    message = refusal.command("train", "7b/rlcr", "--out", tmp_path / "run", *launch)
    assert f"takes {offloaded} GiB of main memory of a node, and this one has 64.0" in message


def test_the_smallest_launch_that_fits_is_found_and_one_smaller_does_not() -> None:
    found = smallest(facts(), 80 * GIB)
    assert found is not None and found[:2] == ("zero2", 4)
    assert all(gpu_bytes(facts(), launch, 2, 80 * GIB)["together"] > 80 * GIB for launch in ("zero2", "zero3"))
    assert smallest(facts(micro=400), 80 * GIB) is None


# -- the verb --------------------------------------------------------------------------------------------------------
def test_a_launch_that_does_not_exist_is_told_before_anything_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "7b/rlcr", "--launch", "zero5"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("candor: --launch: 'zero5' is not one of ddp")


def test_show_refuses_what_does_not_fit_and_names_what_does(refusal: Refusal) -> None:
    message = refusal.command("show", "7b/rlcr", "--launch", "ddp")
    assert message.startswith("7b/rlcr under ddp on 8 takes ")
    assert (
        "of a GPU of 80 (states " in message and "the smallest that fits is --launch zero3 --num-processes 4" in message
    )
    assert refusal.command("show", "7b/rlcr", "model.path=some/model").startswith(
        "model.path: some/model is not here and"
    )


@pytest.mark.parametrize("launch", [(), ("--launch", "zero2", "--num-processes", "8"), ("--launch", "cpu2")])
def test_train_refuses_what_the_machine_cannot_hold(
    launch: tuple[str, ...], refusal: Refusal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 24 * GIB // 4096}
    monkeypatch.setattr("os.sysconf", sizes.__getitem__)
    message = refusal.command("train", "7b/rlcr", "task.path=absent/set", "--out", tmp_path / "run", *launch)
    assert "and no GPU is seen, only main memory of 24.0 GiB; on GPUs of 80 GiB the smallest that fits is" in message

    class Small:
        total_memory = 40 * GIB

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: Small)
    message = refusal.command("train", "7b/rlcr", "--out", tmp_path / "run", *launch)
    assert ("of a GPU of 40" in message) == ("cpu2" not in launch)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"distributed_type": "MULTI_GPU"}, "ddp"),
        ({"distributed_type": "MULTI_GPU", "gpu_ids": "-1,-1"}, "cpu"),
        ({"distributed_type": "FSDP"}, "zero3"),
        ({"distributed_type": "DEEPSPEED", "deepspeed_config": {"zero_stage": 1}}, "ddp"),
        ({"distributed_type": "DEEPSPEED", "deepspeed_config": {"zero_stage": 2}}, "zero2"),
    ],
)
def test_a_launch_file_of_ones_own_is_known_by_what_it_splits(
    settings: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(json.dumps(settings))
    assert launch_kind(path) == kind
    for name in LAUNCHES:
        assert launch_kind(launch_file(name)) == name


def test_show_prints_recipe_memory_hours_and_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_text("".join(json.dumps({"prompt": f"{n}+1?", "answer": str(n + 1)}) + "\n" for n in range(50)))
    task = f"task={{name: dataset, path: {mine}, held_out: 0.2}}"
    assert main(["show", "7b/rlcr", task, "--launch", "zero2", "--data"]) == 0
    said = capsys.readouterr().out
    for part in (
        "num_generations: 32",
        "zero3_offload",
        "312 steps on 8 H100",
        "train: 50 read",
        "gold: '",
        "test: 50 read",
    ):
        assert part in said, part
    assert main(["show", "7b/rlcr", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["launch"] for row in rows] == [ONE, *LAUNCHES] and rows[2]["fits"] and not rows[1]["fits"]
    assert main(["show", "--layouts"]) == 0
    assert "hotpotqa" in capsys.readouterr().out


def test_recipes_are_listed_by_size_with_their_names_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(any(line.split()[:1] == [name] for line in lines) for name in recipe_names())
    assert all(any(line.strip() == size for line in lines) for size in LAUNCH)


def test_a_size_in_a_name_is_taken_where_nothing_else_is_known() -> None:
    shape, origin = shape_of("someone/great-14b-chat")
    assert isinstance(shape, Shape) and shape.parameters == pytest.approx(14e9, rel=0.25) and "14" in origin
