"""Token statistics read while a policy makes its completions, reduced in the forward pass that shows them.

Where the policy generates, its head makes the logits of every token anyway: a hook on the head reduces them as they
come, so that no token goes through the head again. Where others generate (vLLM), TRL scores the completions with the
policy before any reward is given: a hook on the trunk sends the tokens that are read through the head, a chunk at a
time.

What is kept, for B completions of T tokens and a vocabulary V: of a generation the statistics, B x T x (6 + levels)
float32, and the logits of the last forward pass as the model made them, B x V for one token a pass; of a scoring pass
the statistics alone. Beside them at most four copies of :data:`estimators.token_statistics.CHUNK` logits are alive,
and where a model scales or caps its logits one copy of those of a pass. Hidden states are not kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from estimators.forward_passes import logits_of, model_logits
from estimators.token_statistics import TokenStatistics, hidden_statistics, token_statistics


@dataclass(frozen=True, slots=True, eq=False)
class _Pass:
    """A forward pass: where its first token stands, up to where its tokens are sure, and they (B, n)."""

    start: int
    given: int
    ids_Bn: torch.Tensor


class GenerationStatistics:
    """Watches one policy; ``generates`` says whether the policy itself generates. ``level_ids`` are looked at too."""

    def __init__(self, policy: PreTrainedModel, *, generates: bool, level_ids: Sequence[int] = ()) -> None:
        self._policy, self._generates, self._level_ids = policy, generates, tuple(level_ids)
        self._config = policy.config.get_text_config()
        self._watching = False
        self._read_BT: torch.Tensor | None = None
        self._forget()
        if generates:
            policy.base_model.register_forward_pre_hook(self._before_a_pass, with_kwargs=True)
            policy.get_output_embeddings().register_forward_hook(self._after_the_head)
        else:
            policy.base_model.register_forward_hook(self._after_the_trunk, with_kwargs=True)

    def _forget(self) -> None:
        self._columns: dict[int, TokenStatistics] = {}
        """Position in the padded sequences -> statistics (B,) of the tokens there."""
        self._tokens: dict[int, torch.Tensor] = {}
        """Position -> the tokens (B,) that stand there, as far as a pass has been given them."""
        self._given = 0
        """Places before this one hold the tokens that the completions are known to have."""
        self._pass: _Pass | None = None
        self._pending: tuple[int, torch.Tensor] | None = None
        """First position of the last pass's logits (B, k, V), and they."""
        self._first_kept = -1
        """Position of the first logits that the first pass kept."""
        self._scored: list[TokenStatistics] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Context manager: the passes made inside it are read, until :meth:`take`."""
        self._forget()
        self._watching = True
        try:
            yield
        finally:
            self._watching = False
            self._forget()

    @property
    def expects_scores(self) -> bool:
        """Whether a pass over completions of others would be read now: while watching, and once."""
        return self._watching and not self._generates and not self._scored

    @contextmanager
    def scoring(self, read_BT: torch.Tensor) -> Iterator[None]:
        """Context manager: the passes inside are over prompts, then completions, of which ``read_BT`` (B, T) is read.

        The first such passes since :meth:`watching` began are read, until all rows were seen; a later pass over the
        same completions may be another model's.
        """
        self._read_BT = read_BT if self.expects_scores else None
        try:
            yield
        finally:
            self._read_BT = None

    def take(self, completion_ids: Sequence[Sequence[int]]) -> TokenStatistics:
        """Statistics (B, T) of completions that were watched as they were made; T is the length of the longest.

        They are 0 behind a completion's end, and NaN where :meth:`scoring` read no token. Forgets them. Raises
        RuntimeError where the passes that were seen are not those of these completions.
        """
        length = max(map(len, completion_ids), default=0)
        try:
            if self._generates:
                return self._of_generation(completion_ids, length)
            if sum(len(each.log_prob) for each in self._scored) != len(completion_ids):
                raise RuntimeError("the policy made no pass over the completions that could be read")
            return TokenStatistics.joined(self._scored)[:, :length]
        finally:
            self._watching = False
            self._forget()

    # -- a generation: logits of the pass before, tokens of the next one -----------------------------------------------
    def _before_a_pass(self, module: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if self._watching:
            cache = keywords.get("past_key_values")
            # From the cache, not by counting: a prompt may come in chunks, and guessed tokens be taken back.
            start = 0 if cache is None else int(cache.get_seq_length())
            ids_Bn = keywords["input_ids"] if "input_ids" in keywords else arguments[0]
            # Behind the first one of a pass stand guesses, unless it is of the whole sequence.
            self._pass = _Pass(start, start + ids_Bn.size(1) if cache is None else start + 1, ids_Bn)

    def _after_the_head(self, module: Any, arguments: tuple[Any, ...], output: torch.Tensor) -> None:
        """Take in a pass of a generation; TRL's scoring passes take the head's weights and do not call it."""
        if not self._watching or self._pass is None:
            return
        made, self._pass = self._pass, None
        if self._pending is not None:
            first, logits_BkV = self._pending
            for place in range(max(first + 1, made.start), min(first + 1 + logits_BkV.size(1), made.given)):
                self._reduce(place, logits_BkV[:, place - 1 - first], made.ids_Bn[:, place - made.start])
        self._given = made.given
        self._tokens |= {made.start + offset: column for offset, column in enumerate(made.ids_Bn.unbind(dim=1))}
        kept, width = output.size(1), made.ids_Bn.size(1)
        first = made.start + width - kept
        self._first_kept = first if self._first_kept < 0 else self._first_kept
        for offset in range(kept - 1):  # whose next token this pass was given; the last one's is yet to come
            self._reduce(first + offset + 1, output[:, offset], made.ids_Bn[:, width - kept + offset + 1])
        self._pending = first, output.detach()

    def _reduce(self, place: int, outputs_BV: torch.Tensor, tokens_B: torch.Tensor) -> None:
        with torch.no_grad():
            logits_BV = model_logits(outputs_BV.detach(), self._config)
            self._columns[place] = token_statistics(logits_BV, tokens_B.to(logits_BV.device), self._level_ids)

    def _of_generation(self, completion_ids: Sequence[Sequence[int]], length: int) -> TokenStatistics:
        if self._pending is None:
            raise RuntimeError("the policy made no pass over the completions that could be read")
        device = self._pending[1].device
        if not length:
            return TokenStatistics.empty((len(completion_ids), 0), len(self._level_ids), device)
        ids_BT = pad_sequence([torch.tensor(ids, dtype=torch.long) for ids in completion_ids], batch_first=True)
        ids_BT = ids_BT.to(device)
        lengths = torch.tensor([len(each) for each in completion_ids], device=device)
        written_BT = torch.arange(length, device=device) < lengths.unsqueeze(1)
        prompt = self._prompt_width(ids_BT, written_BT)
        # What follows was not given to a pass, or as guesses that may be wrong.
        first, logits_BkV = self._pending
        for place in range(max(self._given, prompt), prompt + length):
            self._reduce(place, logits_BkV[:, place - 1 - first], ids_BT[:, place - prompt])
        columns = [self._columns[prompt + step][:, None] for step in range(length)]
        return TokenStatistics.joined(columns, dim=1)[written_BT].spread(written_BT)

    def _prompt_width(self, ids_BT: torch.Tensor, written_BT: torch.Tensor) -> int:
        """Where completions (B, T) begin in the padded sequences: where the tokens that passes were given are theirs.

        Generation keeps the logits from the prompt's last token on; where it keeps more (a prompt that comes in
        chunks), the tokens alone say it.
        """
        assert self._pending is not None
        length, given = ids_BT.size(1), self._given
        seen_BL = torch.stack([self._tokens[place] for place in range(given)], dim=1).to(ids_BT.device)
        last = self._pending[0] + self._pending[1].size(1) + 1 - length
        for prompt in (self._first_kept + 1, *range(last, given - length, -1)):
            known = max(min(given - prompt, length), 0)
            if prompt > last or prompt < 1 or prompt + length <= given:
                continue
            same_BT = seen_BL[:, prompt : prompt + known] == ids_BT[:, :known]
            if bool((same_BT | ~written_BT[:, :known]).all()):
                return prompt
        raise RuntimeError(
            f"the policy was seen to write {given + 1} tokens a row, its prompts among them, and not these completions "
            f"of up to {length} tokens"
        )

    # -- completions that others have generated, scored by the policy --------------------------------------------------
    def _after_the_trunk(self, module: Any, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        if self._read_BT is None:
            return
        first = sum(len(each.log_prob) for each in self._scored)
        hidden_BLH = output.last_hidden_state.detach()
        ids_BL = keywords["input_ids"] if "input_ids" in keywords else arguments[0]
        read_BT = self._read_BT[first : first + len(ids_BL)].to(hidden_BLH.device)
        if len(read_BT) < len(ids_BL):
            return  # all rows have been seen
        length = read_BT.size(1)
        hidden_PH = hidden_BLH[:, -(length + 1) : -1][read_BT]
        with logits_of(self._policy) as project:
            read = hidden_statistics(
                hidden_PH, ids_BL[:, -length:][read_BT], project, self._config.vocab_size, self._level_ids
            )
        # An estimator that reads what was not read is not valid.
        self._scored.append(read.spread(read_BT, fill=torch.nan))
