"""Stopping inside transformers' generation: each row ends where its recorded tokens say, whatever its neighbours do."""

from __future__ import annotations

import pytest
import torch

from estimators.forward_passes import completion_statistics, left_padded
from estimators.online.adapters.generation import GenerationWatch, trial_answers
from estimators.online.requests import Forcing, IdReading, Request, TextReading, distribution_confidence
from estimators.online.sampling import Trace, cut, lowest_group
from estimators.online.stopping import LowestGroup, Stop, TokenBudget, TrialExit
from estimators.placing import KnownPlaces
from estimators.segmentation import StepRules
from tests.factories import tiny_model

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [14, 15]]
PAD, END, CLOSE, LENGTH, WINDOW = 0, 1, (3, 4), 12, 3


@pytest.fixture(scope="module")
def model():
    return tiny_model("llama", vocabulary=23, initializer_range=0.5).eval()


def generated(model, prompts, watch: GenerationWatch | None = None, **settings) -> list[list[int]]:
    """Tokens that were written after each prompt, padding at the end left out."""
    ids, mask, _ = left_padded(prompts, PAD)
    made = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=LENGTH, do_sample=False, pad_token_id=PAD, eos_token_id=END,
        **(watch.arguments() if watch else {}), **settings,
    )  # fmt: skip
    rows = made[:, ids.size(1) :].tolist()
    return [row[: len(row) - next((n for n, token in enumerate(reversed(row)) if token != PAD), 0)] for row in rows]


def watching(rules, **settings) -> GenerationWatch:
    forcing = Forcing(END, CLOSE)
    confidence = distribution_confidence("token_confidence")
    return GenerationWatch(rules, confidence, lambda: IdReading(CLOSE), forcing, [END], **settings)


@pytest.fixture(scope="module")
def free(model) -> list[tuple[list[int], Trace]]:
    """What each prompt is answered without a rule, and its tokens' confidences from a forward pass."""
    rows = generated(model, PROMPTS)
    read = completion_statistics(model, PROMPTS, rows, pad_token_id=PAD).token_confidence
    return [(row, Trace("", values[: len(row)].double().numpy())) for row, values in zip(rows, read, strict=True)]


def test_rows_end_where_their_recorded_tokens_say(model, free) -> None:
    lowest = sorted(lowest_group(trace, WINDOW) for _, trace in free)
    rule = LowestGroup((lowest[1] + lowest[2]) / 2, WINDOW)  # two rows fall below it
    watch = watching([rule])
    rows = generated(model, PROMPTS, watch)
    offline = [cut(trace, [rule]).stop for _, trace in free]
    assert watch.stops == offline
    assert [each is not None for each in offline].count(True) == 2
    for row, stop, (whole, _) in zip(rows, offline, free, strict=True):
        assert row == (whole if stop is None else whole[: stop.tokens])


def test_a_row_does_not_see_its_neighbours(model, free) -> None:
    threshold = float(min(trace.confidences_T[:WINDOW].mean() for _, trace in free)) + 0.01
    together = watching([LowestGroup(threshold, WINDOW)])
    generated(model, PROMPTS, together)
    for prompt, stop in zip(PROMPTS, together.stops, strict=True):
        alone = watching([LowestGroup(threshold, WINDOW)])
        generated(model, [prompt], alone)
        assert alone.stops == [stop]


def test_a_closed_thought_is_closed_and_goes_on(model, free) -> None:
    watch = watching([TokenBudget(4)])
    rows = generated(model, PROMPTS, watch)
    for row, stop, (whole, _) in zip(rows, watch.stops, free, strict=True):
        assert stop == Stop("token budget", 4, answers=True)
        assert row[:4] == whole[:4] and tuple(row[4:6]) == CLOSE
        assert len(row) > 6  # free again


def test_no_rule_changes_nothing(model, free) -> None:
    assert generated(model, PROMPTS, watching([])) == [row for row, _ in free]


class Letters:
    """Token 2 is a blank line, the others are letters."""

    def decode(self, ids, **_) -> str:
        return "".join("\n\n" if each == 2 else chr(97 + each) for each in ids)


def test_trials_are_drawn_at_the_end_of_steps_for_the_rows_that_need_one(model) -> None:
    asked: list[list[list[int]]] = []

    def trial(contexts) -> list[float]:
        asked.append([list(each) for each in contexts])
        return [0.99 if len(asked) == 2 else 0.5] * len(contexts)

    places = KnownPlaces(Letters(), StepRules(max_tokens=3))
    watch = GenerationWatch(
        [TrialExit(0.9)], distribution_confidence("margin"), lambda: TextReading(places, inside=True),
        Forcing(END, CLOSE), [END], trial, prompt_lengths=[3, 2],
    )  # fmt: skip
    prompts = [PROMPTS[0], [PAD, *PROMPTS[1]]]  # a prompt that begins with a token which is the padding too
    whole = generated(model, prompts)
    rows = generated(model, prompts, watch)
    so_far = [[*prompt, *row] for prompt, row in zip(prompts, whole, strict=True)]
    assert all(any(context == row[: len(context)] for row in so_far) for context in asked[0])
    stop = next(each for each in watch.stops if each is not None)
    row = rows[watch.stops.index(stop)]
    assert stop.reason == "trial answer" and tuple(row[stop.tokens : stop.tokens + 2]) == CLOSE


def test_a_trial_answer_is_greedy_and_its_confidence_that_of_its_tokens(model) -> None:
    ask = [3, 4]
    made = trial_answers(model, PROMPTS, ask_ids=ask, end_ids=[END], pad_token_id=PAD, max_new_tokens=3)
    contexts = [[*prompt, *ask] for prompt in PROMPTS]
    read = completion_statistics(model, contexts, [tokens for tokens, _ in made], pad_token_id=PAD)
    for row, (tokens, confidence) in enumerate(made):
        assert 1 <= len(tokens) <= 3 and END not in tokens
        expected = read.max_probability[row, : len(tokens)].double().log().mean().exp()
        assert confidence == pytest.approx(float(expected), abs=1e-5)
    alone = trial_answers(model, PROMPTS[:1], ask_ids=ask, end_ids=[END], pad_token_id=PAD, max_new_tokens=3)
    assert alone[0][0] == made[0][0]
    first = made[0][0][0]  # an answer that ends at once has no token
    assert trial_answers(model, PROMPTS[:1], ask_ids=ask, end_ids=[first], pad_token_id=PAD, max_new_tokens=3) == [
        ([], 0.0)
    ]


def test_beams_and_rules_without_what_they_need_are_refused(model) -> None:
    with pytest.raises(RuntimeError, match="rows have moved"):
        generated(model, PROMPTS, watching([]), num_beams=3)
    with pytest.raises(ValueError, match=r"prompt_lengths is \[3, 99\], expected 1 of 0 to 3 tokens"):
        generated(model, PROMPTS[:1], watching([], prompt_lengths=[3, 99]))
    with pytest.raises(ValueError, match="trial is None"):
        watching([TrialExit()])
    with pytest.raises(ValueError, match="no token ids that close it"):
        Request([TokenBudget(3)], IdReading(), Forcing(END))
    with pytest.raises(ValueError, match="confidence 'entropy', expected one of max_probability, margin"):
        distribution_confidence("entropy")


def test_what_is_forced_is_all_that_is_left() -> None:
    watch = watching([LowestGroup(1e9, 1)])
    ids = torch.tensor([[5], [6]])
    watch.processor(ids, torch.randn(2, 23))
    assert watch.criteria(torch.tensor([[5, 7], [6, 8]]), None).tolist() == [True, True]
    forced = watch.processor(torch.tensor([[5, 7], [6, 8]]), torch.randn(2, 23))
    assert forced.argmax(dim=-1).tolist() == [END, END] and forced.isfinite().sum() == 2
