"""A kept critic as an estimator: its value at the answer's end, and what cannot be read as a probability is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from estimators.critic import CriticValue, KeptCritic, has_critic
from estimators.token_statistics import TokenStatistics
from tests.factories import make_completions, tiny_model

PROMPTS, COMPLETIONS = [[3, 4, 5], [6], [7]], [[7, 8, 9, 2], [10, 11], [12]]
ANSWER_BT = torch.tensor([[False, True, True, False], [False, True, False, False], [False] * 4])


def keep(
    folder: Path,
    *,
    right: Any = (None, 0.5),
    streams: Any = ("format", "accuracy"),
    width: int = 16,
    trunk: Any = None,
) -> Path:
    """A critic with weights of its own in the folder of a checkpoint."""
    generator = torch.Generator().manual_seed(0)
    tensors = {"head.weight": torch.randn(2, width, generator=generator), "head.bias": torch.tensor([0.3, -0.1])}
    (folder / "critic").mkdir(parents=True)
    if trunk is not None:
        tensors |= {f"trunk.{name}": each.clone() for name, each in trunk.base_model.state_dict().items()}
        trunk.base_model.config.save_pretrained(folder / "critic")
    kept = streams if right is None or streams is None else dict(zip(streams, right, strict=False))
    metadata = {} if kept is None else {"streams": json.dumps(kept)}
    save_file(tensors, folder / "critic" / "critic.safetensors", metadata=metadata)
    return folder


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("separate", [False, True])
def test_the_value_is_the_heads_of_the_state_that_has_read_the_answer(
    kind: str, separate: bool, tmp_path: Path
) -> None:
    policy, other = tiny_model(kind).eval(), tiny_model("llama", num_hidden_layers=1).eval()
    critic = KeptCritic.load(keep(tmp_path, trunk=other if separate else None))
    assert has_critic(tmp_path) and not has_critic(tmp_path / "critic")
    found_B = critic.values(policy, PROMPTS, COMPLETIONS, ANSWER_BT, pad_token_id=0)
    reader = other if separate else policy
    for row, end in enumerate((5, 2)):
        with torch.no_grad():
            ids = torch.tensor([PROMPTS[row] + COMPLETIONS[row]])
            state_H = reader.base_model(ids).last_hidden_state[0, end]
        expected = (state_H @ critic.weight_H - 0.1) / 0.5
        torch.testing.assert_close(found_B[row], expected, atol=1e-4, rtol=1e-4)
    assert found_B[2].isnan()


def test_an_estimate_is_cut_at_0_and_1_and_not_valid_without_an_answer() -> None:
    written_BT = torch.ones(4, 2, dtype=torch.bool)
    values_B = torch.tensor([-0.2, 0.25, 1.5, torch.nan])
    completions = make_completions(written_BT, critic_values_B=values_B)
    statistics = TokenStatistics.empty((4, 2))
    estimate = CriticValue()(completions, statistics)
    assert estimate.values_B[:3].tolist() == [0.0, 0.25, 1.0]
    assert estimate.valid_B.tolist() == [True, True, True, False]
    with pytest.raises(ValueError, match="critic reads a critic's values, and the completions have none"):
        CriticValue()(make_completions(written_BT), statistics)


def test_what_is_no_critic_of_correctness_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"keeps no critic, .*candor train candor_ppo"):
        KeptCritic.load(tmp_path)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"right": (None, None)}, r"no stream of its is of correctness alone \(format, accuracy\)"),
        ({"right": None}, "no stream of its is of correctness alone"),
        ({"right": (None, 0.0)}, "no stream of its is of correctness alone"),
        ({"streams": ("format",)}, r"is not a critic: ValueError 1 streams for a head of \(2, 16\)"),
        ({"streams": None}, "is not a critic: KeyError 'streams'"),
    ]
    for number, (change, message) in enumerate(refused):
        with pytest.raises(ValueError, match=message):
            KeptCritic.load(keep(tmp_path / str(number), **change))
    broken = keep(tmp_path / "broken")
    (broken / "critic" / "critic.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="is not a critic: "):
        KeptCritic.load(broken)
    without = keep(tmp_path / "without", trunk=tiny_model())
    (without / "critic" / "config.json").unlink()
    with pytest.raises(ValueError, match="is not a critic: "):
        KeptCritic.load(without)


def test_a_head_of_another_width_is_refused(tmp_path: Path) -> None:
    critic = KeptCritic.load(keep(tmp_path, width=8))
    with pytest.raises(ValueError, match="reads states of 8 numbers, and those of this model have 16"):
        critic.values(tiny_model(), PROMPTS, COMPLETIONS, ANSWER_BT, pad_token_id=0)
