"""The shape of a policy, for calculations before anything is downloaded."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from experiments.config.models import find_model
from experiments.errors import ConfigError


@dataclass(frozen=True)
class Shape:
    """What memory and time depend on."""

    parameters: float
    layers: int
    hidden: int
    intermediate: int
    key_value: int
    """Width of the keys, and of the values, of a layer: heads of them times their size."""
    vocabulary: int

    def adapter(self, rank: int) -> float:
        """Parameters of adapters of a rank on every linear layer of the trunk."""
        ends = 4 * self.hidden + 2 * (self.hidden + self.key_value) + 3 * (self.hidden + self.intermediate)
        return float(rank * self.layers * ends)

    @property
    def tables(self) -> float:
        """Parameters of the tables of the vocabulary: of both, or of the one where they are tied."""
        layer = 2 * self.hidden * (self.hidden + self.key_value) + 3 * self.hidden * self.intermediate
        table = float(self.vocabulary * self.hidden)
        return min(max(self.parameters - self.layers * layer, table), 2 * table)


KNOWN = {
    "smollm2-135m-instruct": Shape(0.1345e9, 30, 576, 1536, 192, 49152),
    "HuggingFaceTB/SmolLM2-135M": Shape(0.1345e9, 30, 576, 1536, 192, 49152),
    "Qwen/Qwen2.5-0.5B": Shape(0.494e9, 24, 896, 4864, 128, 151936),
    "Qwen/Qwen2.5-1.5B": Shape(1.544e9, 28, 1536, 8960, 256, 151936),
    "Qwen/Qwen2.5-3B": Shape(3.09e9, 36, 2048, 11008, 256, 151936),
    "Qwen/Qwen2.5-7B": Shape(7.62e9, 28, 3584, 18944, 512, 152064),
    "Qwen/Qwen2.5-Math-7B": Shape(7.62e9, 28, 3584, 18944, 512, 152064),
    "Qwen/Qwen2.5-14B": Shape(14.8e9, 48, 5120, 13824, 1024, 152064),
    "Qwen/Qwen2.5-32B": Shape(32.8e9, 64, 5120, 27648, 1024, 152064),
    "Qwen/Qwen3-8B": Shape(8.19e9, 36, 4096, 12288, 1024, 151936),
    "Qwen/Qwen3-32B": Shape(32.8e9, 64, 5120, 25600, 1024, 151936),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": Shape(7.62e9, 28, 3584, 18944, 512, 152064),
    "meta-llama/Meta-Llama-3-8B": Shape(8.03e9, 32, 4096, 14336, 1024, 128256),
    "meta-llama/Llama-3.1-8B": Shape(8.03e9, 32, 4096, 14336, 1024, 128256),
    "meta-llama/Llama-3.1-70B": Shape(70.6e9, 80, 8192, 28672, 1024, 128256),
}
"""Hub name, without what an instructed one ends with -> its shape, from the configuration published there."""
_SIZED = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)b(?![a-z])", re.IGNORECASE)


class UnknownShape(ConfigError):
    """Nothing says how large a model is."""


def shape_of(path: str) -> tuple[Shape, str]:
    """The shape of a model, and in words where it is from: its configuration, the list here, or its name's size.

    Raises UnknownShape for a model that is not here and whose name does not say how large it is.

    >>> shape_of("meta-llama/Llama-3.1-8B-Instruct")[0].layers, shape_of("some/model-7B")[1]
    (32, 'the shape of Qwen/Qwen2.5-7B, scaled to the 7B in its name')
    """
    name = re.sub(r"-(Instruct|Base|Chat)$", "", path)
    if name in KNOWN:
        return KNOWN[name], f"the configuration of {name}"
    folder = Path(path) if not path.startswith("runs/") or Path(path).is_dir() else None
    if folder is not None:
        found = find_model(path, "model.path")
        if isinstance(found, Path) and (found / "config.json").is_file():
            return _configured(json.loads((found / "config.json").read_text("utf-8"))), str(found / "config.json")
    sized = _SIZED.search(path.replace("/", " ").replace("-", " ").replace("_", " "))
    if sized is None:
        raise UnknownShape(
            f"model.path: {path} is not here and its name does not say how many parameters it has; give the folder of "
            "one that is, or candor memory --parameters"
        )
    wanted = float(sized[1]) * 1e9
    nearest = min(KNOWN, key=lambda each: abs(KNOWN[each].parameters - wanted))
    known, factor = KNOWN[nearest], wanted / KNOWN[nearest].parameters
    near = known if 0.8 < factor < 1.25 else None
    widths = (round(width * factor**0.5) for width in (known.hidden, known.intermediate, known.key_value))
    return near or Shape(
        wanted, known.layers, *widths, known.vocabulary
    ), f"the shape of {nearest}, scaled to the {sized[1]}B in its name"


def _configured(config: dict[str, int]) -> Shape:
    hidden, layers, vocabulary = config["hidden_size"], config["num_hidden_layers"], config["vocab_size"]
    heads = config["num_attention_heads"]
    size = config.get("head_dim") or hidden // heads
    key_value, intermediate = size * config.get("num_key_value_heads", heads), config["intermediate_size"]
    tied = 1 if config.get("tie_word_embeddings") else 2
    layer = 2 * hidden * size * heads + 2 * hidden * key_value + 3 * hidden * intermediate
    return Shape(
        float(layers * layer + tied * vocabulary * hidden), layers, hidden, intermediate, key_value, vocabulary
    )
