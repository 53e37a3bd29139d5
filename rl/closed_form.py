"""The calibration terms of a rubric in closed form, where the confidence is one token of a known set.

Shapes: B completions of this rank, T completion tokens, C calibration terms, L levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from estimators.token_statistics import model_logits
from rewards.outcomes import Outcomes
from rewards.rubric import Rubric
from rewards.template import AnswerTemplate
from rl.losses import expected_reward_loss, level_entropy
from rl.rollout import VerifiedRollout
from rl.segments import confidence_token, level_token_ids


class ConfidenceLoss:
    """Expected calibration reward of the confidence token, read off the policy's own forward pass.

    The levels are read at temperature 1, whatever the temperature that completions are sampled at: so the estimator
    ``expected_confidence`` reads them, and the likeliest level is the same at any.
    Raises ValueError where the template declares no levels, a level is not one token of the tokenizer, or the rubric
    has no calibration term.
    """

    def __init__(
        self,
        policy: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        template: AnswerTemplate,
        rubric: Rubric,
    ) -> None:
        if template.levels is None:
            raise ValueError(
                "trainer.confidence_loss_weight: the closed form needs task.template.levels, a known set of "
                "confidences of one token each"
            )
        ids = level_token_ids(tokenizer, template.levels)
        self._level_ids = frozenset(ids)
        self._indices = [index for index, calibrates in enumerate(rubric.calibrates) if calibrates]
        self._terms = [rubric.terms[index] for index in self._indices]
        if not self._terms:
            raise ValueError(
                "trainer.confidence_loss_weight: no term of the rubric rewards the stated confidence "
                f"({', '.join(rubric.names)})"
            )
        values = np.array(template.level_values)
        self._rewards = [
            tuple(torch.tensor(side(values), dtype=torch.float32) for side in (scheme.right, scheme.wrong))
            for scheme in (term.scheme() for term in self._terms)
        ]
        # What a token that is not a level earns, which leaves the confidence unparsed.
        self._unparsed = [term.unparsed for term in self._terms]
        self._positions_B: torch.Tensor | None = None
        self._log_probabilities_BL: torch.Tensor | None = None
        head, config = policy.get_output_embeddings(), policy.config.get_text_config()

        def read_level_probabilities(module, arguments, output):
            # Runs inside the policy's own forward pass, where ZeRO-3 gathers the head and the hidden state is at hand.
            if self._positions_B is not None:
                rows = torch.arange(len(self._positions_B), device=self._positions_B.device)
                logits = model_logits(head(output.last_hidden_state[rows, self._positions_B]).float(), config)
                self._log_probabilities_BL = torch.log_softmax(logits, dim=-1)[:, ids]

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
        """Index (B,) of each confidence token in its completion, -1 where none is read or no term has a target."""
        known_B = (~targets_BC.isnan()).any(dim=1).tolist()
        positions = []
        for row, ids in enumerate(completion_ids_BT.tolist()):
            token = confidence_token(rollout.parsed[row], rollout.decoded[row], ids, self._level_ids)
            positions.append(-1 if token is None or not known_B[row] else token)
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

    def __call__(
        self, positions_B: torch.Tensor, targets_BC: torch.Tensor, weights_C: torch.Tensor, entropy_coef: float = 0.0
    ) -> torch.Tensor:
        """Losses (B,) of the completions last read: the terms' weighted sum in each, read or not.

        With an ``entropy_coef`` tau above 0 the entropy H of the levels joins the reward: a softmax policy climbs
        E[R] + tau H at a linear rate, E[R] alone at a rate of 1/t, because a level's gradient is proportional to its
        probability (arXiv 2005.06392). The best response to P(correct) is then no single level but
        p_l ~ exp(R_l / tau) around the nearest one.
        An unparsed completion and an unknown target count with 0: a mean does not depend on how a batch is split.
        """
        assert self._log_probabilities_BL is not None
        log_probabilities_BL, self._log_probabilities_BL = self._log_probabilities_BL, None
        probabilities_BL = log_probabilities_BL.exp()
        total_B = -entropy_coef * level_entropy(log_probabilities_BL) * (positions_B >= 0)
        for term, (right_L, wrong_L) in enumerate(self._rewards):
            known_B = (positions_B >= 0) & ~targets_BC[:, term].isnan()
            losses_B = expected_reward_loss(
                probabilities_BL,
                right_L.to(probabilities_BL.device),
                wrong_L.to(probabilities_BL.device),
                self._unparsed[term],
                targets_BC[:, term].nan_to_num(),
            )
            total_B = total_B + weights_C[term] * losses_B * known_B
        return total_B
