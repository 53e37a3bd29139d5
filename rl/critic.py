"""The critic of PPO: what each credit stream still pays, read inside the policy's own forward pass.

``head`` is a linear value head on the policy trunk's last hidden states; ``separate`` gives it a trunk of its own. Both
hang below the policy, so that one optimizer, one DeepSpeed engine and one ``accelerate.prepare`` see policy and critic,
and run in a hook of the policy's trunk: under DDP and ZeRO-3 parameters have to be used inside the model's own forward
pass. A checkpoint keeps them apart: the policy's folder stays one that ``AutoModelForCausalLM`` loads, the critic lies
in ``critic/`` beside it, where :mod:`estimators.critic` reads it as a confidence.

Shapes: B completions, L tokens of prompt and completion, T of the completion, H hidden width, R credit streams.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from estimators.critic import CRITIC_FILE, CRITIC_FOLDER, STREAMS, has_critic

VALUE_MODELS = ("head", "separate")
_NAME = "critic"


class Critic(nn.Module):
    """Values of the credit streams, in units of reward, of the state before each token of a completion.

    With a ``trunk`` (the base model of a second causal language model with the policy's vocabulary) it reads prompts
    and completions itself; without one it reads the policy's hidden states, and trains them only where
    ``trains_policy`` is set. The head starts at 0: until it has learnt something, advantages are plain returns. Raises
    ValueError where the trunk knows fewer tokens than the policy.
    """

    def __init__(
        self,
        policy: PreTrainedModel,
        streams: Sequence[str],
        trunk: PreTrainedModel | None = None,
        trains_policy: bool = False,
    ) -> None:
        super().__init__()
        reader = policy if trunk is None else trunk
        check_vocabulary(policy, reader)
        self.streams, self.trunk, self.trains_policy = tuple(streams), trunk, trains_policy
        # In the policy's type: ZeRO-3 gathers parameters of one type together.
        self.head = nn.Linear(reader.config.get_text_config().hidden_size, len(streams), dtype=policy.dtype)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self._tokens: int | None = None
        self._read: list[torch.Tensor] = []
        # Below the policy from here on: seen by its optimizer, left out of what it saves.
        policy.add_module(_NAME, self)
        kept = policy._keys_to_ignore_on_save or ()
        policy._keys_to_ignore_on_save = {*kept, *(f"{_NAME}.{name}" for name in self.state_dict())}
        policy.base_model.register_forward_hook(self._read_values, with_kwargs=True)

    def forward(self, hidden_BLH: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Value (B, L, R) of the state after each token, in float32."""
        if self.trunk is not None:
            read = self.trunk(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
            hidden_BLH = read.last_hidden_state
        elif not self.trains_policy:
            hidden_BLH = hidden_BLH.detach()
        return self.head(hidden_BLH.to(self.head.weight.dtype)).float()

    def _read_values(self, module: nn.Module, arguments: Any, keywords: dict[str, Any], output: Any) -> None:
        if self._tokens is not None:
            values_BLR = self(output.last_hidden_state, keywords["input_ids"], keywords["attention_mask"])
            # The state before completion token t ends one position before it.
            self._read.append(values_BLR[:, -self._tokens - 1 : -1].transpose(1, 2))

    @contextmanager
    def reading(self, tokens: int) -> Iterator[list[torch.Tensor]]:
        """Context manager: each forward pass of the policy adds its values (B, R, T) to the list; T is ``tokens``."""
        self._tokens, self._read = tokens, []
        try:
            yield self._read
        finally:
            self._tokens, self._read = None, []


def check_vocabulary(policy: PreTrainedModel, critic: PreTrainedModel) -> None:
    """Raise ValueError where the critic has no embedding for some of the policy's tokens."""
    ours, theirs = (model.config.get_text_config().vocab_size for model in (policy, critic))
    if theirs < ours:
        raise ValueError(f"model.critic_path: its vocabulary of {theirs} tokens is smaller than the policy's {ours}")


def critic_tensors(critic: Critic, state: Mapping[str, torch.Tensor] | None) -> dict[str, torch.Tensor]:
    """The critic's weights, its own or, where they are split over ranks, those in the policy's gathered ``state``."""
    if state is None:
        return dict(critic.state_dict())
    parted = {name: name.rpartition(f"{_NAME}.") for name in state}
    return {rest: state[name] for name, (before, found, rest) in parted.items() if found and before[-1:] in ("", ".")}


def save_critic(
    folder: str | Path, critic: Critic, tensors: Mapping[str, torch.Tensor], right: Sequence[float | None]
) -> None:
    """Write ``critic/`` below a checkpoint: weights, and beside those of a trunk its configuration.

    In the metadata, in the order of the head, stand the streams, each with its ``right``: what it pays for a right
    answer beyond a wrong one, None where it pays for other things too.
    """
    place = Path(folder) / CRITIC_FOLDER
    place.mkdir(parents=True, exist_ok=True)
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    paid = dict(zip(critic.streams, right, strict=True))
    save_file(whole, place / CRITIC_FILE, metadata={STREAMS: json.dumps(paid)})
    if critic.trunk is not None:
        critic.trunk.config.save_pretrained(place)


def load_critic(folder: str | Path, critic: Critic) -> None:
    """Read back what :func:`save_critic` wrote. Raises ValueError where it is not there or of another rubric."""
    path = Path(folder) / CRITIC_FOLDER / CRITIC_FILE
    if not has_critic(folder):
        raise ValueError(f"{folder}: holds no critic, there is no {CRITIC_FOLDER}/{CRITIC_FILE} in it")
    tensors = load_file(path)
    shapes, theirs = (
        {name: tuple(each.shape) for name, each in state.items()} for state in (critic.state_dict(), tensors)
    )
    if shapes != theirs:
        different = sorted(name for name in shapes.keys() | theirs.keys() if shapes.get(name) != theirs.get(name))
        raise ValueError(f"{path}: holds another critic, {', '.join(different)} differ")
    critic.load_state_dict(tensors)
