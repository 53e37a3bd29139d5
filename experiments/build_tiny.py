"""The embedded policies: tiny Llama models and their tokenizers, built from a seed by ``candor build-tiny``.

Both are warm-started by the recipe ``warm_start`` on the ``warmup`` split of ``arithmetic``: supervised on
demonstrations, with a confidence drawn out of habit (:mod:`rl.sft`). The small one mostly answers at once, though it
can work answers out, and is sure of nearly everything: what reinforcement learning starts from. The large one works
everything out and is what a router escalates to.
The third, ``tiny-facts``, has read the corpus of the task ``facts`` (recipe ``facts_warm_start``), whose words are its
tokens.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

from experiments.config.models import POLICIES
from experiments.files import writable
from experiments.tasks.biographies import vocabulary
from experiments.tasks.word_tokenizer import word_tokenizer
from rewards.template import AnswerTemplate

NUMBERS = 100
"""Numbers from 0 that are one token."""
_SHAPES = {
    "tiny-small": {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4},
    "tiny-large": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4},
    "tiny-facts": {"hidden_size": 96, "intermediate_size": 288, "num_hidden_layers": 3, "num_attention_heads": 4},
}
_SINGLE_STEPS = ("task.max_steps=1", "trainer.per_device_train_batch_size=128", "trainer.learning_rate=3.0e-3")
_STAGES = {
    # Stopped early, so that working answers out leaves it wrong on a third: a confidence has something to tell.
    "tiny-small": (
        (*_SINGLE_STEPS, "trainer.max_steps=800", "task.manners={direct: 0.5, worked: 0.5}"),
        (),
    ),
    # What a router escalates to works everything out.
    "tiny-large": (
        (*_SINGLE_STEPS, "trainer.max_steps=500", "task.manners={worked: 1.0}"),
        ("task.manners={worked: 0.9, checked: 0.1}", "trainer.max_steps=2600", "trainer.learning_rate=1.5e-3"),
    ),
    "tiny-facts": ((),),
}
"""What the recipe ``warm_start`` is changed by in each stage of a policy: single operations first, which are short and
the facts that everything else is made of, then whole chains."""
_WARM_STARTS = {"tiny-facts": "facts_warm_start"}
"""Recipe of a policy's warm start, where it is not ``warm_start``."""


def build_tiny(out: str | Path, *, seed: int = 0, policies: Sequence[str] = POLICIES) -> list[Path]:
    """Build policies from a seed into ``out`` and return their folders; weights are stored in float16.

    Raises ConfigError where ``out`` cannot be written, before anything is trained.
    """
    from experiments.config.recipe import load_recipe
    from experiments.train import train
    from rl.checkpoint import load_policy, read_template, write_calibration

    out = writable(out)
    folders = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in policies:
            start = Path(scratch) / name / "start"
            warm_start = _WARM_STARTS.get(name, "warm_start")
            template = load_recipe(warm_start).template
            words = name == "tiny-facts"
            tokenizer = word_tokenizer(template, vocabulary()) if words else build_tokenizer(template)
            untrained_policy(name, tokenizer, seed).save_pretrained(start)
            tokenizer.save_pretrained(start)
            final = start
            for number, changes in enumerate(_STAGES[name]):
                recipe = load_recipe(warm_start, [f"model.path={final}", f"trainer.seed={seed}", *changes])
                final = train(recipe, Path(scratch) / name / f"stage{number}")
            model, tokenizer = load_policy(final)
            folder = out / name
            if folder.exists():
                shutil.rmtree(folder)
            model.to(torch.float16).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            template = read_template(final)
            assert template is not None
            source = {**recipe.source, "model": {**recipe.source["model"], "path": f"untrained {name}"}}
            write_calibration(folder, template, None, source)
            folders.append(folder)
    return folders


def build_tokenizer(template: AnswerTemplate) -> PreTrainedTokenizerFast:
    """Tokenizer in which a number of at most two digits is one token, and so is each tag and level of the template."""
    numbers = [str(value) for value in range(NUMBERS)]
    tokens = ["<pad>", "<eos>", "<unk>", *numbers, *"+-*=?;. "]
    core = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="<unk>"))
    # A leading zero stands alone: no two texts read as the same tokens.
    core.pre_tokenizer = pre_tokenizers.Split(Regex("[1-9][0-9]|."), "isolated")
    core.decoder = decoders.Fuse()
    # Not special: they must survive decoding, which is where the parser reads them.
    core.add_tokens([AddedToken(text, special=False, normalized=False) for text in template.tokens])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )


def untrained_policy(name: str, tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A randomly initialised policy of one of the shipped shapes; numbers, where it has them, begin as waves."""
    set_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=128,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        **_SHAPES[name],
    )
    model = LlamaForCausalLM(config)
    numbers, known = [str(value) for value in range(NUMBERS)], tokenizer.get_vocab()
    if all(number in known for number in numbers):
        with torch.no_grad():
            waves = number_waves(config.hidden_size, config.initializer_range)
            model.get_input_embeddings().weight[[known[number] for number in numbers]] = waves
    return model


def number_waves(size: int, deviation: float) -> torch.Tensor:
    """Embeddings (NUMBERS, ``size``) whose coordinates are cosines and sines of the number, of the standard deviation.

    Numbers that are close begin close, and a sum turns angles: a policy learns the facts of addition from a third fewer
    examples than from noise. Frequencies are 1 to ``size``/2 a range, amplitudes fall with their square root.
    """
    frequencies = torch.arange(1, size // 2 + 1)
    angles = 2 * torch.pi / NUMBERS * torch.arange(NUMBERS).unsqueeze(1) * frequencies
    amplitudes = frequencies**-0.5
    waves = torch.cat([angles.cos() * amplitudes, angles.sin() * amplitudes], dim=1)
    return waves * (deviation / waves.pow(2).mean().sqrt())
