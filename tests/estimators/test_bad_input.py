"""What stands at the edges: every estimator, rule, adapter, index and map has a stated value there or a clear error."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from estimators import ESTIMATORS, recalibration
from estimators.corpus_index import CorpusIndex, build_index
from estimators.forward_passes import completion_statistics
from estimators.group_confidence import GroupAccumulator, group_means
from estimators.hidden_probe import fit_hidden_probe
from estimators.hidden_states import HiddenStates, Identity
from estimators.online.adapters.streams import StreamWatch, recorded_confidence
from estimators.online.sampling import DeepConf, FullVote, Trace, recorded
from estimators.online.stopping import ConfidenceDynamics, LowestGroup, Monitor, Token, TrialExit
from estimators.online.thresholds import keeping
from estimators.recorded import RecordedToken, recorded_statistics
from estimators.segmentation import Placed
from estimators.step_confidence import StepAccumulator, step_confidences
from estimators.token_statistics import TokenStatistics, token_statistics
from tests.factories import make_completions, tiny_model

OF_TOKENS = [name for name, kind in ESTIMATORS.items() if kind.needs <= {"token_statistics", "levels"}]
OF_ALL = [name for name in ESTIMATORS if name not in ("corpus_pair", "corpus_entity", "hidden_probe")]
IMPOSSIBLE = -torch.inf
LOGITS = {
    "equal": [0.0] * 40,
    "one token possible": [0.0] + [IMPOSSIBLE] * 39,
    "the token written is impossible": [IMPOSSIBLE, *[0.0] * 39],
    "no token possible": [IMPOSSIBLE] * 40,
    "two levels impossible": [0.0, 0.0, 0.0, IMPOSSIBLE, IMPOSSIBLE, *[-1.0] * 35],
}


def one_token(logits: list[float]) -> tuple[Any, TokenStatistics]:
    """A completion of one token, number 0, that is the thought, the answer and the confidence, and what is known."""
    written_BT = torch.ones(1, 1, dtype=torch.bool)
    completions = make_completions(
        written_BT, reasoning_BT=written_BT, answer_BT=written_BT, confidence_BT=written_BT,
        steps_BT=torch.zeros(1, 1, dtype=torch.long), level_ids=(3, 4), level_values=(0.0, 1.0),
        level_positions_B=torch.tensor([0]), asked=dict.fromkeys(("p_true", "yes_no"), torch.full((1, 2), -torch.inf)),
        clusters_BN=torch.tensor([[0, -1, -1]]), prompts=[""], answers=["1"], critic_values_B=torch.tensor([0.5]),
    )  # fmt: skip
    return completions, token_statistics(torch.tensor([[logits]]), torch.tensor([[0]]), (3, 4))


@pytest.mark.parametrize("case", LOGITS)
@pytest.mark.parametrize("name", OF_ALL)
def test_a_completion_of_one_token_has_a_value_within_bounds_or_none(name: str, case: str) -> None:
    estimator = ESTIMATORS[name]()
    completions, statistics = one_token(LOGITS[case])
    estimate = estimator(completions, statistics)
    low, high = estimator.bounds
    if estimate.valid_B.item():
        assert low - 1e-6 <= estimate.values_B.item() <= high + 1e-6
    else:
        assert estimate.values_B.isnan().all()
    if name in OF_TOKENS and case == "equal" and name != "verbalized":
        assert estimate.valid_B.item(), "one token, one value"
    if name in ("mean_max_probability", "entropy", "trace_confidence", "answer_probability", "lowest_step_confidence"):
        assert estimate.valid_B.item() == (case != "no token possible")


def test_a_vocabulary_that_is_larger_than_the_tokenizer_counts_with_all_its_tokens() -> None:
    """Logits that no token of the tokenizer belongs to are a part of the distribution, as they are when it is drawn."""
    model = tiny_model(vocabulary=64).eval()
    read = completion_statistics(model, [[3, 4]], [[5, 6]], pad_token_id=0)
    with torch.no_grad():
        logits = model(torch.tensor([[3, 4, 5, 6]])).logits[:, 1:3]
    expected = token_statistics(logits, torch.tensor([[5, 6]]))
    torch.testing.assert_close(read.entropy, expected.entropy, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="token 64 is none of the model's 64"):
        completion_statistics(model, [[3]], [[64]], pad_token_id=0)
    with pytest.raises(ValueError, match="logits of 1 token, expected at least 2"):
        token_statistics(torch.zeros(1, 1), torch.zeros(1, dtype=torch.long))


def test_a_token_whose_confidence_is_not_known_leaves_its_own_windows_unknown() -> None:
    values = [4.0, math.nan, 2.0, 1.0, 1.0]
    groups = GroupAccumulator(window=2)
    pushed = [groups.push(value) for value in values]
    whole = group_means(torch.tensor([values]), torch.ones(1, 5, dtype=torch.bool), 2)[0].tolist()
    np.testing.assert_array_equal(pushed, whole)
    np.testing.assert_array_equal(pushed, [4.0, math.nan, math.nan, 1.5, 1.0])
    whole_of = (groups.average, groups.lowest, groups.bottom, groups.tail, groups.head)
    assert all(math.isnan(each) for each in whole_of), "as of a whole completion that has such a token"
    monitor = Monitor([LowestGroup(threshold=1.2, window=2)])
    stops = [monitor.token(Token(value)) for value in values]
    assert [each is not None for each in stops] == [False] * 4 + [True]


def test_a_step_with_a_token_that_is_not_known_is_not_known_either() -> None:
    steps = StepAccumulator()
    steps.push(0.5, Placed(0, closes=False))
    closed = steps.push(math.nan, Placed(0, closes=True))
    assert closed is not None and math.isnan(closed.geometric) and math.isnan(closed.arithmetic)
    assert step_confidences(torch.tensor([[0.5, math.nan]]), torch.tensor([[0, 0]])).isnan().all()


def test_rules_and_thresholds_that_could_never_speak_are_refused() -> None:
    for make, message in [
        (lambda: LowestGroup(1.0, window=0), "window is 0, expected a number of tokens, at least 1"),
        (lambda: TrialExit(math.nan), r"threshold is nan, expected a number in \[0, 1\]"),
        (lambda: TrialExit(1.5), r"threshold is 1.5, expected a number in \[0, 1\]"),
        (lambda: ConfidenceDynamics(first=math.nan), "first nan, last 0.98: expected two numbers"),
        (lambda: ConfidenceDynamics(degeneration=math.nan), "degeneration nan: expected"),
        (lambda: keeping([1.0, math.inf], 0.5), "a warm-up trace has an infinite confidence"),
        (lambda: keeping([math.nan], 0.5), "no value among 1 warm-up traces"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.parametrize("confidences", [[], [2.0], [2.0] * 5])
def test_equal_short_and_empty_traces_are_voted_on(confidences: list[float]) -> None:
    traces = [Trace("7", np.array(confidences)) for _ in range(4)]
    for plan in (
        FullVote(),
        FullVote(window=3),
        FullVote(3, share=0.1),
        DeepConf(3, warmup=2),
        DeepConf(3, threshold=2.0),
    ):
        drawn = plan(recorded(traces), 4)
        assert drawn.vote.answer == "7" and all(each.stop is None for each in drawn.traces)
    with pytest.raises(ValueError, match="infinite confidence"):
        DeepConf(3, warmup=2)(recorded([Trace("7", np.array([math.inf]))] * 4), 4)


def chat(*entries: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "logprobs": {"content": list(entries)}}]}


def completion(**logprobs: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "logprobs": logprobs}]}


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (chat({"logprob": -0.1}), r"content\[0\]: KeyError 'token'"),
        (chat("a"), r"content\[0\]: "),
        (chat({"token": "a"}), r"content\[0\]: .*'logprob'"),
        (chat({"token": "a", "logprob": 0.5}), r"content\[0\]: .*logprob 0.5 of 'a' is not a log-probability"),
        (chat({"token": "a", "logprob": None}), r"content\[0\]: "),
        (chat({"token": "a", "logprob": -1.0, "top_logprobs": [{"token": "b"}]}), r"content\[0\]: .*'logprob'"),
        (chat({"token": "a", "logprob": -1.0, "bytes": [700]}), r"content\[0\]: "),
        (completion(tokens=["a"]), "'token_logprobs'"),
        (completion(tokens=["a"], token_logprobs=[]), "shorter"),
        (completion(tokens=["a"], token_logprobs=[1.0]), "logprob 1.0 of 'a' is not a log-probability"),
        (completion(tokens=["a"], token_logprobs=[-1.0], top_logprobs=[{"b": math.nan}]), "logprob nan of 'b'"),
    ],
)  # fmt: skip
def test_a_stream_that_is_none_is_refused_with_its_place(chunk: dict[str, Any], message: str) -> None:
    watch = StreamWatch([LowestGroup(1.0, 2)], recorded_confidence("token_confidence", 100))
    with pytest.raises(ValueError, match=message):
        watch.push(chunk)


def test_a_stream_that_records_little_or_nothing_stops_nothing() -> None:
    watch = StreamWatch([LowestGroup(99.0, 1)], recorded_confidence("token_confidence", 100))
    assert watch.push({"choices": []}) == {}
    assert watch.push({"choices": [{"index": 0, "logprobs": None, "finish_reason": "stop"}]}) == {0: None}
    assert watch.push(chat({"token": "a", "logprob": -math.inf, "top_logprobs": [{"token": "b", "logprob": 0.0}]})) == {
        0: None
    }


def test_records_of_a_vocabulary_that_cannot_be_are_refused() -> None:
    token = RecordedToken(-0.1, {0: -0.1, 1: -3.0, 2: -4.0})
    for vocabulary in (0, 1):
        with pytest.raises(ValueError, match=f"vocabulary is {vocabulary}, expected at least 2"):
            recorded_statistics([[token]], vocabulary)
    with pytest.raises(ValueError, match="3 tokens recorded of a vocabulary of 2"):
        recorded_statistics([[token]], 2)
    assert recorded_statistics([], 10).log_prob.shape == (0, 0)
    assert recorded_statistics([[]], 10).log_prob.shape == (1, 0)


def test_an_index_that_is_broken_or_asked_nonsense_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Ada Brook was born in Vienna.", encoding="utf-8")
    build_index([tmp_path / "a.txt"], tmp_path / "index")
    index = CorpusIndex(tmp_path / "index")
    assert index.count("Ada Brook") == index.count_pair("Ada", "Vienna") == 1
    assert index.count("") is index.count("?!") is index.count_pair("Ada", "") is None
    for strange in ("_", "Ada \ud800", 'a" OR "b', "Ada\x00Brook", "NEAR(a b)"):
        assert index.count(strange) in (None, 0, 1)
        assert index.count_pair(strange, "Vienna") in (None, 0, 1)
    with pytest.raises(ValueError, match="window is -1, expected a number of words, at least 0"):
        index.count_pair("Ada", "Vienna", window=-1)
    index.close()
    (tmp_path / "index" / "index.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(ValueError, match="cannot be asked"):
        CorpusIndex(tmp_path / "index")


@pytest.mark.parametrize("method", recalibration.METHODS)
@pytest.mark.parametrize("confidence", [0.0, 0.5, 1.0])
def test_maps_of_equal_confidences_say_how_often_they_were_right_or_nothing_new(
    method: str, confidence: float, tmp_path: Path
) -> None:
    fitted = recalibration.fit(method, [confidence] * 8, [1, 1, 1, 0, 0, 0, 0, 0])
    (found,) = fitted([confidence])
    assert 0.0 <= found <= 1.0
    # A temperature turns no confidence over: what is above a half stays there.
    expected = 0.5 if method == "temperature" and confidence >= 0.5 else 0.375
    assert found == pytest.approx(expected, abs=0.02)
    saved = recalibration.Recalibration.load(fitted.save(tmp_path / "map.json"))
    assert saved([0.0, 0.3, 1.0]).tolist() == fitted([0.0, 0.3, 1.0]).tolist()
    assert len(fitted([])) == 0
    alone = recalibration.fit(method, [confidence], [1])
    assert 0.0 <= alone([confidence])[0] <= 1.0
    with pytest.raises(ValueError, match="at least one row"):
        recalibration.fit(method, [], [])


def test_hidden_states_that_are_no_numbers_are_not_fitted_to() -> None:
    states_BH = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    correct_B = (states_BH[:, 0] > 0).double()
    broken_BH = states_BH.clone()
    broken_BH[:45, 1] = torch.inf
    identity = Identity("model", "tokenizer", "llama")

    def fit(states_BH: torch.Tensor, correct_B: torch.Tensor, **more: Any) -> Any:
        hidden = HiddenStates(identity, {("answer", 1): states_BH})
        return fit_hidden_probe(hidden, correct_B, position="answer", layers=[1], **more)

    with pytest.raises(ValueError, match="15 judged completions have the position answer"):
        fit(broken_BH, correct_B)
    with pytest.raises(ValueError, match="59 verdicts for 60 completions"):
        fit(states_BH, correct_B[:-1])
    with pytest.raises(ValueError, match="1 groups for 60 completions"):
        fit(states_BH, correct_B, groups=["a"])
    _, facts = fit(torch.ones(60, 4), correct_B)
    assert math.isfinite(facts.held_out_log_loss) and json.dumps(replace(facts).held_out_log_loss)
