"""The critic that PPO has kept, as an estimator: what it expects of a completion whose answer is written.

A checkpoint of ``candor train candor_ppo`` holds its critic in ``critic/``: a value head on the policy's last hidden
states, or on those of a model of its own. Its stream of correctness was trained, by squares, on what accuracy pays for
the tokens from there to the end of the answer's field, so that its value at the answer's last token, divided by what a
right answer is paid, is the critic's estimate of P(right) (arXiv 2607.12687 reads a critic so; with gamma below 1 it is
lower by a factor gamma for each token of the closing tag). What writes the folder is :mod:`rl.critic`.

Shapes: B completions, T tokens of the longest, H hidden size, R credit streams.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from safetensors import SafetensorError, safe_open

from estimators.estimator import CRITIC, Completions, Estimate, nothing
from estimators.hidden_states import Place, hidden_states
from estimators.token_statistics import TokenStatistics

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CRITIC_FOLDER, CRITIC_FILE, CRITIC_CONFIG = "critic", "critic.safetensors", "config.json"
STREAMS = "streams"
"""Metadata of the file, JSON: name of each of the R streams -> what it pays for a right answer beyond a wrong one, null
where it pays for other things too. One key, since safetensors writes several in any order."""
_HEAD, _TRUNK = "head.", "trunk."


def has_critic(checkpoint: str | Path) -> bool:
    """Whether the folder of a checkpoint holds a critic."""
    return (Path(checkpoint) / CRITIC_FOLDER / CRITIC_FILE).is_file()


@dataclass(frozen=True, eq=False)
class KeptCritic:
    """A critic's stream of correctness: weight (H,) and bias of its head, what a right answer is paid, its own trunk.

    ``trunk`` is None where the head reads the policy's hidden states.
    """

    weight_H: torch.Tensor
    bias: float
    right: float
    trunk: PreTrainedModel | None = None

    @classmethod
    def load(cls, checkpoint: str | Path) -> KeptCritic:
        """Read the critic of a checkpoint.

        Raises ValueError, naming the folder, where there is none, where none of its streams is of correctness alone
        (with ``credit: sequence`` one value covers all rewards), and for files that are not a critic's.
        """
        path = Path(checkpoint) / CRITIC_FOLDER / CRITIC_FILE
        if not path.is_file():
            raise ValueError(
                f"{checkpoint} keeps no critic, there is no {CRITIC_FOLDER}/{CRITIC_FILE} in it; a run by PPO "
                "(candor train candor_ppo) keeps one in its checkpoints"
            )
        try:
            with safe_open(path, framework="pt") as file:
                facts = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            streams = json.loads(facts[STREAMS])
            paid = list(streams.values()) if isinstance(streams, dict) else []  # a list of names in older files
            of_right = {row: each for row, each in enumerate(paid) if each}
            weight_RH, bias_R = tensors[f"{_HEAD}weight"].float(), tensors[f"{_HEAD}bias"].float()
            if weight_RH.shape[:1] != bias_R.shape or len(streams) != len(bias_R):
                raise ValueError(f"{len(streams)} streams for a head of {tuple(weight_RH.shape)}")
            trunk = {name[len(_TRUNK) :]: each for name, each in tensors.items() if name.startswith(_TRUNK)}
            own = _trunk(path.parent, trunk) if trunk else None
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            first = str(error).strip().partition("\n")[0]
            raise ValueError(f"{path}: is not a critic: {type(error).__name__} {first}") from error
        if not of_right:
            raise ValueError(
                f"{path}: no stream of its is of correctness alone ({', '.join(streams)}), so that no value of it is a "
                "probability of being right; train with credit: segment and a weight for rubric.accuracy"
            )
        row, right = next(iter(of_right.items()))
        return cls(weight_RH[row], float(bias_R[row]), float(right), own)

    def check(self, policy: PreTrainedModel) -> None:
        """Raise ValueError where the head does not fit the states that it would read."""
        reader = policy if self.trunk is None else self.trunk
        width = reader.config.get_text_config().hidden_size
        if width != len(self.weight_H):
            raise ValueError(
                f"the critic reads states of {len(self.weight_H)} numbers, and those of this model have {width}: it is "
                "another model's"
            )

    def values(
        self,
        policy: PreTrainedModel,
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        answer_BT: torch.Tensor,
        *,
        pad_token_id: int,
    ) -> torch.Tensor:
        """Value (B,) at the last token of each answer in units of what a right one is paid; NaN without an answer.

        One forward pass of the model whose states the head reads. Raises as :meth:`check`, and for an empty prompt.
        """
        self.check(policy)
        reader = policy if self.trunk is None else self.trunk.to(policy.device)  # type: ignore[arg-type]
        place: Place = ("answer", reader.config.get_text_config().num_hidden_layers)
        none_BT = torch.zeros_like(answer_BT)
        read = hidden_states(
            reader, prompt_ids, completion_ids, answer_BT, none_BT, [place], pad_token_id=pad_token_id
        )[place]
        return (read @ self.weight_H + self.bias) / self.right


def _trunk(folder: Path, tensors: dict[str, torch.Tensor]) -> PreTrainedModel:
    """The critic's own model, with the weights that were kept."""
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    dtype = next(iter(tensors.values())).dtype
    model: PreTrainedModel = AutoModel.from_config(  # type: ignore[no-untyped-call]
        config, dtype=dtype, trust_remote_code=False
    )
    model.load_state_dict(tensors)
    model.eval()  # type: ignore[no-untyped-call]
    return model


@dataclass(frozen=True)
class CriticValue:
    """P(right) in [0, 1] by the critic that PPO kept with the checkpoint: its value of correctness at the answer's end.

    The value is cut at 0 and 1, and not valid without an answer. Raises ValueError where the completions have none of
    a critic's values, which a checkpoint of ``candor train candor_ppo`` gives alone.
    """

    needs: ClassVar[frozenset[str]] = frozenset({CRITIC})
    is_probability: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    higher_is_surer: ClassVar[bool] = True
    cost: ClassVar[str] = "one forward pass, of the critic's own model where it has one"
    source: ClassVar[str] = "arXiv 2607.12687"

    def reads(self, completions: Completions) -> torch.Tensor:
        """No token's statistics."""
        return nothing(completions)

    def __call__(self, completions: Completions, statistics: TokenStatistics) -> Estimate:
        """The probability (B,)."""
        values_B = completions.critic_values_B
        if values_B is None:
            raise ValueError("critic reads a critic's values, and the completions have none")
        return Estimate.where(~values_B.isnan(), values_B.clamp(0.0, 1.0))
