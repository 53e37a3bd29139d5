"""``candor estimate``: what recorded log-probabilities give and what they cannot, and what a checkpoint is asked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from estimators import ESTIMATORS
from experiments.cli import main
from tests.factories import Refusal

TOKENS = ["<think>", "1", "+2", ".\n\n", "so ", "\u6f22", "</think>", "<answer>", "3", "</answer>"]


def entry(token: str, chosen: float, second: float, listed: int = 20) -> dict:
    """A token as an OpenAI-style server records it; it is the likeliest one."""
    top = [{"token": token, "logprob": math.log(chosen)}, {"token": "?", "logprob": math.log(second)}]
    rest = math.log((1 - chosen - second) / 30)
    top += [{"token": f"t{place}", "logprob": rest} for place in range(listed - 2)]
    return {"token": token, "logprob": math.log(chosen), "top_logprobs": top}


def completions(folder: Path, tokens: list[str] = TOKENS, *, text: str | None = None, **settings: int) -> Path:
    entries = [entry(each, 0.9 - 0.05 * place, 0.05, **settings) for place, each in enumerate(tokens)]
    whole = "".join(tokens) if text is None else text
    row = {"prompt": "1+2", "gold": "3", "completion": whole, "logprobs": entries}
    path = folder / "written.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return path


def estimated(folder: Path, path: Path, *arguments: str) -> pd.DataFrame:
    assert main(["estimate", "--completions", str(path), "--out", str(folder / "out"), *arguments]) == 0
    return pd.read_parquet(folder / "out" / "records.parquet").set_index("method")


def test_recorded_log_probabilities_are_estimated(tmp_path: Path) -> None:
    records = estimated(tmp_path, completions(tmp_path), "--estimators", "answer_probability,answer_max_probability")
    assert records["confidence"].tolist() == pytest.approx([0.5, 0.5])  # of the ninth token
    assert records["correct"].tolist() == [1.0, 1.0] and set(records["confidence_source"]) == {"computed"}
    everything = estimated(tmp_path, completions(tmp_path))
    assert set(everything.index) == {name for name, kind in ESTIMATORS.items() if kind.needs <= {"token_statistics"}}
    assert not everything.loc[["self_certainty", "entropy", "verbalized"], "parsed"].any(), "a record has the likeliest"
    assert everything.loc[["trace_confidence", "lowest_step_confidence", "mean_log_prob"], "parsed"].all()
    cut = estimated(tmp_path, completions(tmp_path, listed=5), "--estimators", "trace_confidence,mean_max_probability")
    assert cut["parsed"].tolist() == [False, True]


def written_down(folder: Path, *rows: tuple[str, Any]) -> Path:
    """A file of completions with these texts and log-probabilities."""
    path = folder / "written.jsonl"
    lines = [{"prompt": "q", "gold": "3", "completion": text, "logprobs": listed} for text, listed in rows]
    path.write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
    return path


def listed(token: str, own: float, *tops: tuple[str, float]) -> dict:
    return {"token": token, "logprob": own, "top_logprobs": [{"token": t, "logprob": v} for t, v in tops]}


def test_likely_tokens_that_write_the_same_are_all_counted(tmp_path: Path) -> None:
    tops = [("\ufffd", -0.2), ("x", -2.5), ("\ufffd", -4.0), *((f"y{n}", -5.0) for n in range(17))]
    tags = [listed(tag, -0.1, *((f"t{n}", -0.1 - n) for n in range(20))) for tag in ("<answer>", "</answer>")]
    path = written_down(tmp_path, ("<answer>\ufffd</answer>", [tags[0], listed("\ufffd", -0.2, *tops), tags[1]]))
    records = estimated(tmp_path, path, "--estimators", "trace_confidence,answer_max_probability,answer_margin")
    assert records["parsed"].all(), "twenty are listed"
    assert records.loc["answer_max_probability", "confidence"] == pytest.approx(math.exp(-0.2))


def test_a_drawn_token_that_was_appended_is_none_of_the_likeliest(tmp_path: Path) -> None:
    tag = listed("<answer>", -0.01, ("<answer>", -0.01))
    drawn = listed("3", -3.0, ("5", -0.6), ("3", -3.0))
    path = written_down(tmp_path, ("<answer>3</answer>", [tag, drawn, {**tag, "token": "</answer>"}]))
    records = estimated(tmp_path, path, "--estimators", "answer_margin,answer_max_probability")
    assert records["parsed"].tolist() == [False, True]
    assert records.loc["answer_max_probability", "confidence"] == pytest.approx(math.exp(-0.6))


def test_the_token_that_ended_a_completion_and_a_record_without_tokens_are_accepted(tmp_path: Path) -> None:
    text, tokens = "".join(TOKENS), [listed(each, -0.5) for each in TOKENS]
    ended = [*tokens, listed("<|im_end|>", -0.1)]
    path = written_down(tmp_path, (text, tokens), (text, ended), (text, None), (text, {"content": None}))
    records = estimated(tmp_path, path)
    assert records.loc["length", "parsed"].tolist() == [True, True, False, False]
    assert records.loc["mean_log_prob", "parsed"].tolist() == [True, True, False, False]
    assert records.loc["answer_probability", "confidence"].tolist() == pytest.approx([math.exp(-0.5)] * 2 + [0.0] * 2)
    assert records.loc["base_rate", "parsed"].all() and set(records["correct"]) == {1.0}


@pytest.mark.parametrize("file", ["written.jsonl", "written.parquet"])
def test_log_probabilities_may_be_recorded_as_a_server_sent_them(file: str, tmp_path: Path) -> None:
    row = json.loads(completions(tmp_path).read_text(encoding="utf-8"))
    entries = row["logprobs"]
    own = {name: [each[key] for each in entries] for name, key in (("tokens", "token"), ("token_logprobs", "logprob"))}
    for sent in ({"content": entries, "refusal": None}, own):
        frame = pd.DataFrame([row | {"logprobs": sent}])
        path = tmp_path / file
        frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_json(path, orient="records", lines=True)
        records = estimated(tmp_path, path, "--estimators", "answer_probability")
        assert records["confidence"].tolist() == pytest.approx([0.5])


def test_what_recorded_completions_cannot_give_is_refused(tmp_path: Path, refusal: Refusal) -> None:
    path, out = completions(tmp_path), ("--out", tmp_path / "out")

    def asked(*arguments: object) -> str:
        return refusal.command("estimate", *arguments, *out)

    recorded = ("--completions", path)
    assert "expected one of CHECKPOINT and --completions FILE" in asked()
    assert "'entrpy'" in asked(*recorded, "--estimators", "entrpy") and "entropy" in asked(
        *recorded, "--estimators", "entrpy"
    )
    assert "agreement: needs samples" in asked(*recorded, "--estimators", "agreement")
    assert "p_true: needs extra_passes" in asked(*recorded, "--estimators", "p_true")
    assert "hidden_probe: needs hidden_states" in asked(*recorded, "--estimators", "hidden_probe")
    assert "critic: needs critic" in asked(*recorded, "--estimators", "critic")
    assert "are for a checkpoint" in asked(*recorded, "--recipe", "candor")
    other = completions(tmp_path, text="<answer>3</answer>")
    assert "column 'logprobs': its tokens write 'think>1+2" in (said := asked("--completions", other))
    assert "at character 1, where the completion has 'answer>3</answer>'" in said
    for given, read in ((",", ""), ("length, length", "length,length")):
        message = asked(*recorded, "--estimators", given)
        assert f"--estimators: {read!r}, expected some of verbalized, " in message and "each once" in message
    path.write_text(json.dumps({"prompt": "1", "gold": "1", "completion": "1"}) + "\n", encoding="utf-8")
    assert "expected the tokens with their log-probabilities" in asked("--completions", path)
    for bad in ([{"token": "1"}], [{"token": "1", "logprob": 0.5}], "1"):
        path.write_text(
            json.dumps({"prompt": "1", "gold": "1", "completion": "1", "logprobs": bad}) + "\n", encoding="utf-8"
        )
        assert "column 'logprobs': cannot be read" in (said := asked("--completions", path))
        assert "expected a list of {token, logprob, top_logprobs}" in said


def test_a_checkpoint_is_sampled_and_asked_only_where_an_estimator_compares_or_asks(
    tmp_path: Path, refusal: Refusal, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("tiny-small", "probe.size=6", "probe.batch_size=6", "--out", tmp_path / "out")
    assert "agreement: needs further samples" in refusal.command("estimate", *common, "--estimators", "agreement")
    assert "do not begin with tokens" in refusal.command("estimate", *common, "--estimators", "p_true")
    names = "agreement,semantic_entropy,lowest_step_confidence,base_rate"
    assert main(["estimate", *map(str, common), "--estimators", names, "probe.samples=2"]) == 0
    records = pd.read_parquet(tmp_path / "out" / "records.parquet")
    assert records["method"].unique().tolist() == names.split(",") and len(records) == 24
    agreed = records.loc[records["method"] == "agreement"]
    assert set((agreed.loc[agreed["parsed"], "confidence"] * 3).round(9)) <= {1.0, 2.0, 3.0}
    assert "AUROC" in capsys.readouterr().out


def test_samples_may_be_weighed_by_their_log_probabilities(tmp_path: Path, refusal: Refusal) -> None:
    common = ("tiny-small", "probe.size=6", "probe.batch_size=4", "--out", tmp_path / "out")
    weighted = ("estimators.semantic_entropy.weighted=true", "--estimators", "semantic_entropy")
    assert "needs samples, which a recipe does not give" in refusal.command("estimate", *common, *weighted)
    ranks = []
    for asked in (weighted, weighted[1:]):
        assert main(["estimate", *map(str, common), "probe.samples=3", *asked]) == 0
        records = pd.read_parquet(tmp_path / "out" / "records.parquet")
        assert records["parsed"].any() and len(records) == 6
        ranks.append(records["confidence"].tolist())
    assert ranks[0] != ranks[1]


def test_a_checkpoint_of_ppo_is_read_by_the_critic_that_it_keeps(
    make_trainer: Any, write_recipe: Callable[..., Path], policy: Any, tmp_path: Path, refusal: Refusal
) -> None:
    trainer = make_trainer(method="ppo", credit="segment")
    with torch.no_grad():
        trainer._critic.head.bias.fill_(0.25)
    trainer.save_model(str(tmp_path / "kept"))
    rest = ("--recipe", write_recipe(), "--out", tmp_path / "out", "probe.size=8", "probe.max_new_tokens=10")
    assert main(["estimate", *map(str, (tmp_path / "kept", *rest)), "--estimators", "critic,length"]) == 0
    records = pd.read_parquet(tmp_path / "out" / "records.parquet").set_index("method").loc["critic"]
    assert len(records) == 8 and set(records.loc[records["parsed"], "confidence"]) == {0.25}
    assert (records["parsed"] == records["answer"].notna()).all() and records["parsed"].any()
    assert "estimators.critic: " in (said := refusal.command("estimate", policy.path, *rest, "--estimators", "critic"))
    assert "keeps no critic" in said and "candor train candor_ppo" in said


def test_an_estimator_that_reads_a_file_is_not_asked_without_one(tmp_path: Path, refusal: Refusal) -> None:
    common = ("tiny-small", "probe.size=2", "--out", tmp_path / "out")
    for name, option in (("hidden_probe", "path"), ("corpus_pair", "index")):
        assert f"estimators.{name}.{option}" in refusal.command("estimate", *common, "--estimators", name)
