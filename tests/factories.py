"""What tests of several packages make alike: facts of a batch, tiny models, files of a task, refusals.

Heavy libraries are imported inside, so that tests that need none of them start at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

from rewards.completion import ParseStatus
from rewards.outcomes import Outcomes
from rewards.template import AnswerTemplate


def make_outcomes(
    correct: ArrayLike = 0.0,
    confidence: ArrayLike = np.nan,
    status: ParseStatus | Sequence[ParseStatus] = ParseStatus.OK,
    *,
    group: ArrayLike = 0,
    length: ArrayLike = 1,
    abstained: ArrayLike | None = None,
    **signals: ArrayLike,
) -> Outcomes:
    """Facts of N completions, each a list of N values or one value for all; every other keyword is a signal.

    What is left out is a wrong answer without a confidence, read without fault, one token long, all in one group.
    """
    status = (status,) if isinstance(status, ParseStatus) else tuple(status)
    given = [np.asarray(each) for each in (correct, confidence, group, length, *signals.values())]
    (size,) = np.broadcast_shapes((1,), *(each.shape for each in given), (len(status),))

    def full(values: ArrayLike, dtype: type | None = None) -> np.ndarray:
        return np.broadcast_to(np.asarray(values, dtype=dtype), size).copy()

    return Outcomes(
        correct=full(correct, float),
        confidence=full(confidence, float),
        status=status * (size if len(status) == 1 else 1),
        group=full(group),
        length=full(length),
        signals={name: full(values, float) for name, values in signals.items()},
        **({} if abstained is None else {"abstained": full(abstained, bool)}),
    )


def make_completions(written_BT: Any, **fields: Any) -> Any:
    """Completions of tokens 0 that are written where the mask (B, T) says so; what is left out is in no other mask."""
    import torch

    from estimators.estimator import Completions

    none_BT = torch.zeros_like(written_BT)
    given = {
        "prompt_ids": [[1]] * len(written_BT),
        "completion_ids": [[0] * int(row_T.sum()) for row_T in written_BT],
        "written_BT": written_BT,
        "reasoning_BT": none_BT,
        "answer_BT": none_BT,
        "confidence_BT": none_BT,
        "steps_BT": torch.full(written_BT.shape, -1),
        "stated_B": torch.full((len(written_BT),), torch.nan, dtype=torch.float64),
    }
    return Completions(**{**given, **fields})


def tiny_model(kind: str = "llama", *, vocabulary: Any = 23, hidden: int = 16, **config: Any) -> Any:
    """A model of two layers with the same random weights each time, which leaves the random numbers of a test alone.

    ``kind`` is llama, gpt2 (learnt absolute positions), gemma2 (capped logits), granite or cohere (scaled logits);
    ``vocabulary`` a number of tokens, or a tokenizer whose padding and end the model takes; ``config`` more fields of
    its configuration. The weights are wide by default, so that distributions differ from place to place.
    """
    import torch
    import transformers

    if not isinstance(vocabulary, int):
        config = {"pad_token_id": vocabulary.pad_token_id, "eos_token_id": vocabulary.eos_token_id} | config
        vocabulary = len(vocabulary)
    prefix, own = {
        "llama": ("Llama", {}),
        "gpt2": ("GPT2", {}),
        "gemma2": ("Gemma2", {"head_dim": 16, "final_logit_softcapping": 1.5}),
        "granite": ("Granite", {"logits_scaling": 3.0}),
        "cohere": ("Cohere", {"logit_scale": 0.5}),
    }[kind]
    shape = {"vocab_size": vocabulary, "initializer_range": 0.3, "bos_token_id": None, "eos_token_id": None}
    if kind == "gpt2":
        shape |= {"n_embd": hidden, "n_layer": 2, "n_head": 2, "n_positions": 64}
    else:
        shape |= {
            "hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 2, "max_position_embeddings": 256,
        }  # fmt: skip
    configuration = getattr(transformers, f"{prefix}Config")(**{**shape, **own, **config})
    head = "GPT2LMHeadModel" if kind == "gpt2" else f"{prefix}ForCausalLM"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return getattr(transformers, head)(configuration)


def character_tokenizer(template: AnswerTemplate) -> Any:
    """A tokenizer in which each character of arithmetic is one token, and so is each tag and level of the template."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = ["<pad>", "<eos>", "<unk>", *"0123456789+-*=?;. "]
    core = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    core.decoder = decoders.Fuse()
    core.add_tokens([AddedToken(text, special=False, normalized=False) for text in template.tokens])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )


def json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def gsm8k_lines(folder: Path, *lines: str) -> list[str]:
    """The override that gives a recipe on GSM8K its questions: the lines given, or one good one, and one to test on."""
    for name, held in (("train", lines or ['{"question": "2+2?", "answer": "#### 4"}']), ("test", [_HELD_OUT])):
        (folder / f"{name}.jsonl").write_text("\n".join(held) + "\n", encoding="utf-8")
    return [f"task.path={{train: {folder / 'train.jsonl'}, test: {folder / 'test.jsonl'}}}"]


_HELD_OUT = '{"question": "7+7?", "answer": "#### 14"}'


class Refusal:
    """The one line that says why something is refused; that there is one line and no more is asserted."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def of(self, function: Callable[..., Any], *arguments: Any, **settings: Any) -> str:
        """Of a call that raises ConfigError."""
        from experiments.errors import ConfigError

        with pytest.raises(ConfigError) as refused:
            function(*arguments, **settings)
        message = str(refused.value)
        assert "\n" not in message
        return message

    def recipe(self, name: str, *overrides: str) -> str:
        """Of a recipe with these overrides, as it is loaded."""
        from experiments.config.recipe import load_recipe

        return self.of(load_recipe, name, overrides)

    def command(self, *arguments: object) -> str:
        """Of ``candor`` with these arguments, which ends with status 2."""
        from experiments.cli import main

        self._capsys.readouterr()
        assert main([str(each) for each in arguments]) == 2
        lines = self._capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        (line,) = lines
        assert line.startswith("candor: ")
        return line.removeprefix("candor: ")
