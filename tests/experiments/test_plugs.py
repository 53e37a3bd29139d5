"""The snippets of the README run as they stand there, each against a served folder, where its package is installed."""

from __future__ import annotations

import asyncio
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from estimators import Confidence
from tests.experiments.conftest import Exported
from tests.experiments.served import serve as endpoint
from tests.experiments.test_serve import ask, served

README = Path(__file__).resolve().parents[2] / "experiments" / "README.md"
SNIPPETS = re.findall(r"^```py\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module", autouse=True)
def nothing_is_fetched() -> Iterator[None]:
    """LiteLLM asks the network for prices as it is imported, LangChain's tracing wherever the environment says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        patch.setenv("LANGSMITH_TRACING", "false")
        patch.setenv("OPENAI_API_KEY", "none")  # which RouteLLM wants when it is imported
        yield


def needs(package: str) -> pytest.MarkDecorator:
    """Skips before anything is trained and served for a plug that is not installed."""
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


@pytest.fixture(scope="module")
def url(exported: Exported) -> Iterator[str]:
    with served(exported.folder) as address:
        yield address


@pytest.fixture(scope="module")
def decisions(url: str, exported: Exported) -> dict[str, str]:
    """Prompt -> what the gate decides."""
    frame = pd.read_parquet(exported.probe / "records.parquet")
    prompts = frame.loc[frame["method"] == "checkpoint", "prompt"].head(12)
    found = {prompt: ask(url, prompt).candor["decision"] for prompt in prompts}
    assert set(found.values()) == {"answer", "escalate"}
    return found


def run(package: str, *changes: tuple[str, str]) -> dict[str, Any]:
    """The names that the snippet which imports ``package`` leaves, with texts of it changed."""
    (snippet,) = [each for each in SNIPPETS if f"import {package}" in each or f"from {package}" in each]
    for old, new in changes:
        assert old in snippet
        snippet = snippet.replace(old, new)
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(snippet, str(README), "exec"), names)
    return names


def test_no_snippet_is_longer_than_thirty_lines() -> None:
    assert len(SNIPPETS) == 4 and all(len(each.splitlines()) <= 30 for each in SNIPPETS)


def test_no_snippet_waits_for_ever() -> None:
    """A client's own limit is ten minutes, three times over."""
    asking = [each for each in SNIPPETS if "openai.OpenAI(" in each]
    assert len(asking) == 3 and all(each.count("openai.OpenAI(") == each.count("timeout=60") for each in asking)


@needs("routellm")
def test_routellm(url: str, decisions: dict[str, str]) -> None:
    names = run("routellm", ("http://127.0.0.1:8000/v1", url))
    router, pair = names["router"], SimpleNamespace(strong="strong", weak="weak")
    threshold = names["calibrate_threshold"](router, list(decisions), 0.5)
    routed = [router.route(prompt, threshold, pair) for prompt in decisions]
    assert 0.4 <= routed.count("strong") / len(routed) <= 0.6 and str(router) == "candor"
    reply = ask(url, next(iter(decisions)))
    assert router.calculate_strong_win_rate(next(iter(decisions))) == pytest.approx(1 - reply.candor["confidence"])


@needs("litellm")
def test_litellm(url: str, decisions: dict[str, str]) -> None:
    with endpoint(lambda prompt: f"large {prompt}") as large:
        names = run("litellm", ("http://127.0.0.1:8000/v1", url), ("http://127.0.0.1:8001/v1", large.url))
        for prompt, decision in decisions.items():
            reply = names["router"].completion(model="small", messages=[{"role": "user", "content": prompt}])
            said = reply.choices[0].message.content
            assert (said == f"large {prompt}") == (decision == "escalate"), (prompt, said)


@needs("litellm")
def test_litellm_as_a_gateway_keeps_the_confidence(url: str, decisions: dict[str, str]) -> None:
    import litellm

    messages = [{"role": "user", "content": next(iter(decisions))}]
    reply = litellm.completion(model="openai/small", api_base=url, api_key="none", timeout=60, messages=messages)
    assert reply.choices[0].message.content == ask(url, messages[0]["content"]).choices[0].message.content
    assert reply.model_dump()["candor"]["decision"] == decisions[messages[0]["content"]]


@needs("inspect_ai")
def test_inspect(url: str, decisions: dict[str, str], exported: Exported) -> None:
    names = run("inspect_ai", ("runs/exported", str(exported.folder)))
    from inspect_ai.model import ModelOutput
    from inspect_ai.scorer import Target

    reply = ask(url, next(iter(decisions)), logprobs=True, top_logprobs=20)
    choice = reply.choices[0].model_dump()
    message = {"role": "assistant", "content": choice["message"]["content"]}
    output = ModelOutput.model_validate(
        {"model": "small", "choices": [{"message": message, "logprobs": choice["logprobs"], "stop_reason": "stop"}]}
    )
    score = asyncio.run(names["brier_of_confidence"]()(SimpleNamespace(output=output), Target(reply.candor["answer"])))
    reading = Confidence.load(exported.folder).of_response(reply)
    assert reading["source"] == "measured" == score.metadata["source"]
    assert score.value == pytest.approx((reading["confidence"] - 1.0) ** 2)


@needs("langchain_core")
def test_langchain(url: str, decisions: dict[str, str]) -> None:
    names = run("langchain_core", ("http://127.0.0.1:8000/v1", url))
    from langchain_core.runnables import RunnableLambda

    chain = names["sure_or"](RunnableLambda(lambda prompt: f"large {prompt}"))
    for prompt, decision in decisions.items():
        assert (chain.invoke(prompt) == f"large {prompt}") == (decision == "escalate")
