"""One estimator, three sources of the same statistics: the hook in training, the probe's pass, recorded numbers."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaForCausalLM

from estimators import ESTIMATORS
from estimators.estimator import Completions
from estimators.forward_passes import completion_statistics
from estimators.recorded import RecordedToken, recorded_statistics
from estimators.token_statistics import TokenStatistics, token_statistics
from rl.generation_statistics import GenerationStatistics
from rl.signals import ESTIMATED
from tests.factories import tiny_model

VOCABULARY, PAD, END = 23, 0, 1
PROMPTS = [[5, 6, 7, 8, 9, 5, 6, 7, 8, 9, 5, 6], [8, 9], [4, 5, 6, 7]]
LEVELS = (3, 4, 11)
OF_TOKENS = [name for name in ESTIMATED if name != "prior_confidence"]
"""That one reads a field of the text."""
SHAPE = {"vocabulary": VOCABULARY, "initializer_range": 0.5, "pad_token_id": PAD, "eos_token_id": END}


def padded(rows: Sequence[Sequence[int]], left: bool) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([[PAD] * (width - len(r)) + list(r) if left else [*r, *[PAD] * (width - len(r))] for r in rows])


def sample(model: LlamaForCausalLM, prompts: list[list[int]], **options: Any) -> list[list[int]]:
    ids = padded(prompts, left=True)
    torch.manual_seed(1)
    written = model.generate(
        input_ids=ids, attention_mask=(ids != PAD).long(), **{"max_new_tokens": 9, "do_sample": True, **options}
    )
    rows = written[:, ids.size(1) :].tolist()
    return [row[: row.index(END) + 1] if END in row else row for row in rows]


def assert_same(one: TokenStatistics, other: TokenStatistics) -> None:
    for each in fields(one):
        torch.testing.assert_close(getattr(one, each.name), getattr(other, each.name), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.5, "top_k": 5},
        {"max_new_tokens": 1},
        {"prefill_chunk_size": 4},
        {"cache_implementation": "static"},
        {"use_cache": False},
    ],
    ids=str,
)
def test_a_generation_is_read_as_it_is_made_however_its_passes_come(options: dict[str, Any]) -> None:
    model = tiny_model(**SHAPE).eval()
    reader = GenerationStatistics(model, generates=True, level_ids=LEVELS)
    with reader.watching():
        completions = sample(model, PROMPTS, **options)
        read = reader.take(completions)
    assert_same(read, completion_statistics(model, PROMPTS, completions, pad_token_id=PAD, level_ids=LEVELS))


@pytest.mark.parametrize("prompt", [PROMPTS[0], [5, 5, 5, 5, 5, 5, 5], [2, 3, 2, 3, 2, 3, 2]])
@pytest.mark.parametrize("guesses", [1, 3, 8])
def test_guessed_tokens_that_are_taken_back_do_not_count(prompt: list[int], guesses: int) -> None:
    """Prompt lookup guesses several tokens a pass, and keeps those that the model would have written."""
    model, passes = tiny_model(**SHAPE).eval(), []
    model.base_model.register_forward_hook(
        lambda module, arguments, keywords, output: passes.append(keywords["input_ids"].size(1)), with_kwargs=True
    )
    reader = GenerationStatistics(model, generates=True, level_ids=LEVELS)
    with reader.watching():
        (written,) = sample(model, [prompt], do_sample=False, prompt_lookup_num_tokens=guesses, max_new_tokens=20)
        read = reader.take([written])
    assert max(passes[1:]) > 1 or END in written, "nothing was guessed"
    assert_same(read, completion_statistics(model, [prompt], [written], pad_token_id=PAD, level_ids=LEVELS))


def scored(model: LlamaForCausalLM, completions: list[list[int]]) -> Iterator[Any]:
    """TRL's pass over prompts and completions, two rows at a time, as batches for the model."""
    ids = torch.cat([padded(PROMPTS, left=True), padded(completions, left=False)], dim=1)
    for first in range(0, len(ids), 2):
        yield {"input_ids": ids[first : first + 2], "attention_mask": (ids[first : first + 2] != PAD).long()}


def test_completions_of_others_are_read_where_they_are_scored_and_once() -> None:
    model = tiny_model(**SHAPE).eval()
    completions = [[7, 8, END], [9, 10, 11, 12, END], [13]]
    read_BT = torch.tensor([[True, False, True, False, False], [True] * 5, [False] * 5])
    rows: list[int] = []
    reader = GenerationStatistics(model, generates=False, level_ids=LEVELS)
    model.lm_head.register_forward_hook(lambda module, arguments, output: rows.append(len(output)))
    with torch.no_grad(), reader.watching():
        for batch in scored(model, completions):
            model.base_model(**batch)  # not announced: another's
        for _ in range(2):  # the second time for the reference of a KL
            with reader.scoring(read_BT):
                for batch in scored(model, completions):
                    model.base_model(**batch)
        assert sum(rows) == 7, "what is not read does not go through the head"
        read = reader.take(completions)
    expected = completion_statistics(model, PROMPTS, completions, pad_token_id=PAD, level_ids=LEVELS, read_BT=read_BT)
    assert_same(read[read_BT], expected[read_BT])
    assert read.log_prob[~read_BT].isnan().all()


def test_other_completions_than_those_that_were_made_are_an_error() -> None:
    model = tiny_model(**SHAPE).eval()
    reader = GenerationStatistics(model, generates=True)
    with reader.watching():
        completions = sample(model, PROMPTS)
        others = [[*each[:-1], 22 - each[-1] // 2] for each in completions]
        others[0][0] = (completions[0][0] + 1) % VOCABULARY
        with pytest.raises(RuntimeError, match="and not these completions of up to 9 tokens"):
            reader.take(others)
    with reader.watching(), pytest.raises(RuntimeError, match="made no pass over the completions"):
        reader.take(completions)


# -- every estimator, from each source ---------------------------------------------------------------------------------


def of_answers(completions: list[list[int]]) -> Completions:
    """Completions whose second and third tokens are the answer, and whose fourth states the confidence."""
    lengths = torch.tensor([len(each) for each in completions]).unsqueeze(1)
    places_T = torch.arange(int(lengths.max()))
    written_BT = places_T < lengths
    stated_BT = (places_T == 3) & written_BT
    return Completions(
        prompt_ids=PROMPTS, completion_ids=completions, written_BT=written_BT,
        reasoning_BT=(places_T == 0) & written_BT,
        answer_BT=(places_T > 0) & (places_T < 3) & written_BT, confidence_BT=stated_BT,
        steps_BT=torch.where(places_T < 2, places_T, -1).expand_as(written_BT),
        stated_B=torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64), level_ids=LEVELS, level_values=(0.0, 0.5, 1.0),
        level_positions_B=torch.where(stated_BT.any(dim=1), 3, -1),
    )  # fmt: skip


def recorded(model: LlamaForCausalLM, completions: list[list[int]]) -> list[list[RecordedToken]]:
    """What a server would send: every token's log-probability, and those of all others."""
    records = []
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *completion]])).logits[0].double()
        log_probs = torch.log_softmax(logits, dim=-1)[len(prompt) - 1 :]
        rows = zip(completion, log_probs.tolist(), strict=False)
        records.append([RecordedToken(row[token], dict(enumerate(row))) for token, row in rows])
    return records


@pytest.mark.parametrize("name", OF_TOKENS)
def test_every_estimator_says_the_same_in_training_in_the_probe_and_of_records(name: str) -> None:
    model, estimator = tiny_model(**SHAPE).eval(), ESTIMATORS[name]()
    reader = GenerationStatistics(model, generates=True, level_ids=LEVELS)
    with reader.watching():
        written = sample(model, PROMPTS, min_new_tokens=5)
        completions = of_answers(written)
        in_training = estimator(completions, reader.take(written))
    in_the_probe = estimator(
        completions,
        completion_statistics(
            model, PROMPTS, written, pad_token_id=PAD, level_ids=LEVELS, read_BT=estimator.reads(completions)
        ),
    )
    of_records = estimator(completions, recorded_statistics(recorded(model, written), VOCABULARY, LEVELS))
    assert in_training.valid_B.all() and (in_training.values_B.unique().numel() > 1 or not estimator.needs)
    for other in (in_the_probe, of_records):
        assert torch.equal(other.valid_B, in_training.valid_B)
        torch.testing.assert_close(other.values_B, in_training.values_B, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", OF_TOKENS)
def test_every_estimator_is_surer_of_what_the_model_is_surer_of(name: str) -> None:
    """A peaked distribution against a flat one, the token written being the likeliest of both."""
    if not ESTIMATORS[name].needs:
        pytest.skip("looks at no distribution")
    completions, estimator = of_answers([[7, 8, 9, 4]] * 3), ESTIMATORS[name]()
    values = []
    for weight in (1.0, 3.0):
        logits = torch.zeros(3, 4, VOCABULARY)
        logits[..., 9] = weight
        logits[:, 3, LEVELS[-1]] = weight  # the confidence of 1
        chosen = torch.full((3, 4), 9)
        values.append(estimator(completions, token_statistics(logits, chosen, LEVELS)).values_B[0].item())
    flat, peaked = values
    assert (peaked > flat) == estimator.higher_is_surer
    if estimator.is_probability:
        assert 0 <= flat <= 1 and 0 <= peaked <= 1


def test_records_of_a_few_tokens_leave_out_what_they_cannot_say() -> None:
    token = RecordedToken(math.log(0.5), {9: math.log(0.5), LEVELS[0]: math.log(0.25), 8: math.log(0.1)})
    read = recorded_statistics([[token], []], VOCABULARY, LEVELS)
    assert read.log_prob.tolist() == [[pytest.approx(math.log(0.5))], [0.0]]
    assert read.margin[0, 0].item() == pytest.approx(0.25)
    assert read.entropy[0, 0].isnan() and read.self_certainty[0, 0].isnan()
    assert read.level_log_probs[0, 0].isnan().tolist() == [False, True, True]


# -- memory ------------------------------------------------------------------------------------------------------------


class _Live(TorchDispatchMode):
    """Counts the bytes of tensors that are alive, and the most that were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for each in output if isinstance(output, (tuple, list)) else (output,):
            if isinstance(each, torch.Tensor):
                self._count(each.untyped_storage())
        return output

    def _count(self, storage: Any) -> None:
        place, size = storage._cdata, storage.nbytes()
        if place not in self._known:
            self._known.add(place)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, place, size)

    def _gone(self, place: int, size: int) -> None:
        self._known.discard(place)
        self.now -= size


@contextmanager
def live() -> Iterator[_Live]:
    with _Live() as counted:
        yield counted


def test_a_pass_never_holds_the_logits_of_all_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peak of the probe's pass: far below B x T x V, and bounded by chunks whatever B and T are."""
    vocabulary = 4096
    monkeypatch.setattr("estimators.token_statistics.CHUNK", 8 * vocabulary)
    model = tiny_model(**SHAPE | {"vocabulary": vocabulary}).eval()
    prompts, completions = [[5, 6]] * 32, [[7, 8, 9, 10] * 16] * 32
    with live() as counted:
        completion_statistics(model, prompts, completions, pad_token_id=PAD)
    logits = 32 * 64 * vocabulary * 4
    assert counted.peak < logits / 4


def test_the_peak_of_a_watched_generation_does_not_grow_by_states_or_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten times as many tokens it keeps five numbers each, not their hidden states, let alone their logits."""
    vocabulary, hidden, rows = 4096, 64, 8
    monkeypatch.setattr("estimators.token_statistics.CHUNK", rows * vocabulary)
    model = tiny_model(**SHAPE | {"vocabulary": vocabulary, "hidden": hidden}).eval()
    reader = GenerationStatistics(model, generates=True)
    peaks = []
    for tokens in (4, 40):
        for watched in (False, True):
            with live() as counted, reader.watching() if watched else nullcontext():
                sample(model, [[5, 6, 7]] * rows, max_new_tokens=tokens, min_new_tokens=tokens)
                peaks.append(counted.peak)
    short, long = peaks[1] - peaks[0], peaks[3] - peaks[2]
    assert long - short < 36 * rows * hidden * 4 / 2, "half of the hidden states of the tokens more"
    assert not reader._columns and reader._pending is None, "nothing is kept behind the watch"


def test_the_peak_of_a_watched_scoring_pass_is_below_the_logits_of_its_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = 4096
    monkeypatch.setattr("estimators.token_statistics.CHUNK", 8 * vocabulary)
    model = tiny_model(**SHAPE | {"vocabulary": vocabulary}).eval()
    reader = GenerationStatistics(model, generates=False)
    ids = torch.randint(2, vocabulary, (32, 66))
    read_BT = torch.ones(32, 64, dtype=torch.bool)
    with torch.no_grad(), live() as counted, reader.watching(), reader.scoring(read_BT):
        model.base_model(input_ids=ids)
    assert counted.peak < 32 * 64 * vocabulary * 4 / 4


def test_what_was_not_read_where_others_generate_has_no_value() -> None:
    """TRL hides truncated completions from the policy where it masks them: their estimates are not valid, not sure."""
    model, name = tiny_model(**SHAPE).eval(), "mean_log_prob"
    completions = [[7, 8, END], [9, 10, 11], [13, END]]
    read_BT = torch.tensor([[True] * 3, [False] * 3, [True, True, False]])
    reader = GenerationStatistics(model, generates=False)
    with torch.no_grad(), reader.watching():
        with reader.scoring(read_BT):
            for batch in scored(model, completions):
                model.base_model(**batch)
        read = reader.take(completions)
    assert ESTIMATORS[name]()(of_answers(completions), read).valid_B.tolist() == [True, False, True]
