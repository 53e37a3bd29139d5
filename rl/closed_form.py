"""The calibration terms of a rubric in closed form, where the confidence is one token of a known set.

Shapes: B completions of this rank, T completion tokens, C calibration terms, L levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from estimators.forward_passes import model_logits
from rewards.completion import STATED
from rewards.outcomes import Outcomes
from rewards.rubric import Rubric
from rewards.scoring_rules import Scheme
from rewards.template import AnswerTemplate
from rewards.terms import PriorConfidenceTerm
from rl.losses import expected_reward_loss, level_entropy, mass_hinge
from rl.rollout import VerifiedRollout
from rl.segments import confidence_token, first_token, level_token_ids


class ConfidenceLoss:
    """Expected calibration reward of the token that states a confidence, read off the policy's own forward pass.

    ``field`` is where it is stated, one of :data:`rewards.completion.STATED`; the terms are those of the rubric that
    pay for it. Raises ValueError where the template declares no levels or a level is not one token of the tokenizer.
    """

    def __init__(
        self,
        policy: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        template: AnswerTemplate,
        rubric: Rubric,
        temperature: float,
        field: str = "confidence",
    ) -> None:
        if template.levels is None:
            raise ValueError(
                "trainer.confidence_loss_weight: the closed form needs task.template.levels, a known set of "
                "confidences of one token each"
            )
        ids = level_token_ids(tokenizer, template.levels)
        self._level_ids = frozenset(ids)
        self.field = field
        self._indices = [index for index, each in enumerate(rubric.pays_for) if each == field]
        self._terms = [rubric.terms[index] for index in self._indices]
        values = np.array(template.level_values)
        self._rewards = [
            tuple(torch.tensor(side(values), dtype=torch.float32) for side in (scheme.right, scheme.wrong))
            for scheme in map(_rule, self._terms)
        ]
        # What a token that is not a level earns, which leaves the confidence unparsed.
        self._unparsed = [term.unparsed for term in self._terms]
        self.masses = torch.empty(0)
        """Probability in [0, 1] of all levels together at each position of the last loss, those of -1 left out."""
        self._positions_B: torch.Tensor | None = None
        self._log_probabilities_BL: torch.Tensor | None = None
        head, config = policy.get_output_embeddings(), policy.config.get_text_config()

        def read_level_probabilities(module, arguments, output):
            # Runs inside the policy's own forward pass, where ZeRO-3 gathers the head and the hidden state is at hand.
            if self._positions_B is not None:
                rows = torch.arange(len(self._positions_B), device=self._positions_B.device)
                logits = model_logits(head(output.last_hidden_state[rows, self._positions_B]).float(), config)
                self._log_probabilities_BL = torch.log_softmax(logits / temperature, dim=-1)[:, ids]

        policy.base_model.register_forward_hook(read_level_probabilities)

    @property
    def term_indices(self) -> list[int]:
        """Columns of the reward matrix whose terms are taken in closed form."""
        return self._indices

    def targets(self, outcomes: Outcomes) -> torch.Tensor:
        """What each term wants the confidence to be, (N, C) in [0, 1], for the whole batch; NaN where unknown."""
        return torch.tensor(np.stack([term.targets(outcomes) for term in self._terms], axis=1), dtype=torch.float32)

    def positions(
        self, rollout: VerifiedRollout, completion_ids_BT: torch.Tensor, targets_BC: torch.Tensor
    ) -> torch.Tensor:
        """Index (B,) of the token in each completion that states its confidence, or had to.

        That is the first token of the field's content where no confidence could be read of it: which other token the
        policy took there is one draw from what the closed form is the expectation of. -1 where there is no such field,
        a level is spelled in several tokens, the model does not see the token, or no term has a target.
        """
        known_B = (~targets_BC.isnan()).any(dim=1).tolist()
        positions = []
        for row, ids in enumerate(completion_ids_BT.tolist()):
            parsed, decoded = rollout.parsed[row], rollout.decoded[row]
            token = confidence_token(parsed, decoded, ids, self._level_ids, self.field)
            span = parsed.spans.get(self.field)
            if token is None and getattr(parsed, self.field) is None and span is not None and span.start < span.end:
                token = first_token(span.start, decoded)
            seen = token is not None and ids[token] >= 0
            positions.append(token if seen and known_B[row] else -1)
        return torch.tensor(positions, device=completion_ids_BT.device)

    @contextmanager
    def reading(self, positions_B: torch.Tensor, prompt_length: int) -> Iterator[None]:
        """Context manager: the policy's forward pass is read at the confidence tokens (B,) of its completions.

        ``prompt_length`` is the number of tokens, padding included, that stand before each completion.
        """
        # The logits that choose completion token t stand one position before it.
        self._positions_B = prompt_length + positions_B.clamp(min=0) - 1
        try:
            yield
        finally:
            self._positions_B = None

    def losses(self, inputs: dict[str, Any], weights_K: torch.Tensor, *coefficients: float) -> torch.Tensor:
        """Losses (B,) of a batch that holds the positions and targets of the field, by the weights of the rubric."""
        positions_B, targets_BC = inputs[f"{self.field}_positions"], inputs[f"{self.field}_targets"]
        return self(positions_B, targets_BC, weights_K[self._indices].to(positions_B.device), *coefficients)

    def __call__(
        self,
        positions_B: torch.Tensor,
        targets_BC: torch.Tensor,
        weights_C: torch.Tensor,
        entropy_coef: float = 0.0,
        mass_coef: float = 0.0,
    ) -> torch.Tensor:
        """Losses (B,) of the completions last read: the terms' weighted sum in each, read or not.

        With an ``entropy_coef`` tau above 0 the entropy H of the levels joins the reward: a softmax policy climbs
        E[R] + tau H at a linear rate, E[R] alone at a rate of 1/t, because a level's gradient is proportional to its
        probability (arXiv 2005.06392). The best response to P(correct) is then no single level but
        p_l ~ exp(R_l / tau) around the nearest one.
        ``mass_coef`` is the factor of the hinge on the levels' mass (:func:`rl.losses.mass_hinge`).
        An unparsed completion and an unknown target count with 0: a mean does not depend on how a batch is split.
        """
        assert self._log_probabilities_BL is not None
        log_probabilities_BL, self._log_probabilities_BL = self._log_probabilities_BL, None
        probabilities_BL, read_B = log_probabilities_BL.exp(), positions_B >= 0
        log_mass_B = log_probabilities_BL.logsumexp(dim=-1)
        self.masses = log_mass_B.detach().exp()[read_B]
        total_B = (mass_coef * mass_hinge(log_mass_B) - entropy_coef * level_entropy(log_probabilities_BL)) * read_B
        for term, (right_L, wrong_L) in enumerate(self._rewards):
            known_B = read_B & ~targets_BC[:, term].isnan()
            losses_B = expected_reward_loss(
                probabilities_BL,
                right_L.to(probabilities_BL.device),
                wrong_L.to(probabilities_BL.device),
                self._unparsed[term],
                targets_BC[:, term].nan_to_num(),
            )
            total_B = total_B + weights_C[term] * losses_B * known_B
        return total_B


def closed_forms(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    template: AnswerTemplate,
    rubric: Rubric,
    temperature: float,
) -> list[ConfidenceLoss]:
    """One loss for each field in which a confidence is stated that a term of the rubric holds to a target.

    Raises ValueError where there is none, and as :class:`ConfidenceLoss` does.
    """
    fields = [field for field in STATED if field in rubric.pays_for]
    if not fields:
        raise ValueError(
            "trainer.confidence_loss_weight: no term of the rubric rewards the stated confidence "
            f"({', '.join(rubric.names)})"
        )
    return [ConfidenceLoss(policy, tokenizer, template, rubric, temperature, field) for field in fields]


def _rule(term: Any) -> Scheme:
    """What a term pays at each confidence of its field, were its target 1 and 0."""
    rule: Scheme = term.rule() if isinstance(term, PriorConfidenceTerm) else term.scheme()
    return rule
