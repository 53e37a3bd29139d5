"""The sections ``model`` and ``probe`` of a recipe, with what each key takes and has where it is left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from experiments.config.endpoint import EndpointSection
from experiments.schema import AtLeastOne, AtLeastZero


@dataclass(frozen=True)
class ModelSection:
    """Which weights a run starts from."""

    path: str
    """``tiny-small`` or ``tiny-large`` (shipped), a local folder, or a hub name."""
    gguf_file: str | None = None
    """File of that folder to read instead of safetensors."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attn_implementation: str | None = None
    add_template_tokens: bool = False
    """Make each tag and confidence level of the template one new token; for supervised warm starts."""
    lora: dict[str, Any] | None = None
    """Fields of peft's ``LoraConfig``."""
    critic_path: str | None = None
    """Weights that PPO's separate critic starts from, the policy's where left out."""
    reward_path: str | None = None
    """A reward model, for the term ``reward_model``."""


@dataclass(frozen=True)
class ProbeSection:
    """The held-out measurement of a checkpoint."""

    split: str = "test"
    size: AtLeastOne = 2000
    seed: int = 0
    batch_size: AtLeastOne = 250
    max_new_tokens: AtLeastOne = 16
    escalate_to: str | None = None
    """What questions are escalated to: a model, the URL of an endpoint, or a file of outcomes; None: nothing."""
    endpoint: EndpointSection | None = None
    """How to ask the endpoint."""
    resamples: AtLeastOne = 1000
    confidence: str = "verbalized"
    """The estimator by which the checkpoint is measured: the stated confidence or one of the ``estimators``."""
    samples: AtLeastZero = 0
    """Completions to sample of a question beside the greedy one: what training sees, and how often each is right."""
    sampled_size: AtLeastOne = 256
    """Questions, the first of them, that are sampled."""
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Temperature of those samples; the completions that a checkpoint is measured by are greedy."""
    recalibrate: dict[str, list[str]] = field(default_factory=dict)
    """Estimator -> maps fitted on its confidences on validation questions, each one more method of the probe."""
    recalibration_size: AtLeastOne = 1000
    """Validation questions that they are fitted on."""
    every: AtLeastZero = 0
    """Steps between two measurements on held-out questions in training, by ``confidence``: ``heldout/*``; 0: none."""
    every_size: AtLeastOne = 256
    """Questions of each of them: from the task's validation split, or from ``split`` where it has none."""
