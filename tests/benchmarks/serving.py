"""A served export against its probe: the same answers, none lost under load, memory, a kill, escalation, throughput.

    python tests/benchmarks/serving.py EXPORTED PROBE [--escalate-to MODEL] [--against-transformers]

EXPORTED is a folder of ``candor export``, PROBE the folder of the probe that it was exported with. Everything goes
through the openai client, to a server in a process of its own on a free port.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pandas as pd

from estimators.gate import Gate
from estimators.metrics.resampling import wilson
from rewards.verifiers.pool import VerifierPool


@contextmanager
def server(*command: str, ready: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server as a process, and its URL up to /v1."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([*command, "--port", str(port)], text=True, stdout=subprocess.DEVNULL)
    try:
        wait(lambda: httpx.get(f"http://127.0.0.1:{port}{ready}").status_code == 200, process)
        yield process, f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def wait(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        try:
            if there():
                return
        except httpx.HTTPError:
            pass
        if process.poll() is not None:
            raise SystemExit("the server has ended")
        time.sleep(0.25)
    raise SystemExit("the server did not come up")


def candor(folder: Path, *options: str) -> Any:
    command = (sys.executable, "-m", "experiments", "serve", str(folder), "--batch", "64", *options)
    return server(*command, ready="/health")


def ask_all(url: str, model: str, prompts: Sequence[str], at_once: int, **options: Any) -> tuple[list[Any], float]:
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=600)

    def ask(prompt: str) -> Any:
        asked: Any = [{"role": "user", "content": prompt}]
        return client.chat.completions.create(model=model, messages=asked, **options)

    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(ask, prompts)), time.perf_counter() - began


def memory_mb(process: subprocess.Popen[str]) -> float:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def share(values: Sequence[float]) -> str:
    found = wilson(int(np.sum(values)), len(values))
    return f"{found.value:.3f} ({found.low:.3f}-{found.high:.3f}) of {len(values)}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("probe", type=Path)
    parser.add_argument("--escalate-to")
    parser.add_argument("--against-transformers", action="store_true")
    options = parser.parse_args()
    folder, model = options.folder, options.folder.resolve().name
    records = pd.read_parquet(options.probe / "records.parquet")
    rows = records[records["method"] == "checkpoint"].reset_index(drop=True)
    prompts, gate = rows["prompt"].tolist(), Gate.load(folder)
    found: dict[str, Any] = {}
    with candor(folder) as (process, url):
        replies, seconds = ask_all(url, model, prompts, 64)
        found["equal_completions"] = sum(
            reply.choices[0].message.content == text for reply, text in zip(replies, rows["completion"], strict=True)
        )
        read = np.array([reply.candor["read"] if reply.candor["read"] is not None else np.nan for reply in replies])
        found["largest_difference_of_confidence"] = float(np.nanmax(np.abs(read - rows["confidence"])))
        decided = [reply.candor["decision"] for reply in replies]
        found["equal_decisions"] = int((np.array(decided) == gate.actions(rows["confidence"])).sum())
        found["questions"], found["questions_a_second"] = len(rows), len(rows) / seconds
        before = memory_mb(process)
        for _ in range(3):
            many, _ = ask_all(url, model, prompts[:200], 200)
            assert len(many) == 200 and all(each.choices[0].message.content for each in many)
        found["memory_mb"] = {"before 3 x 200 at once": before, "after": memory_mb(process)}
        with ThreadPoolExecutor(50) as pool:
            asked = [pool.submit(ask_all, url, model, [prompt], 1) for prompt in prompts[:50]]
            time.sleep(0.05)
            process.kill()
            found["failed_at_the_kill"] = sum(isinstance(each.exception(), openai.APIError) for each in asked)
    with candor(folder) as (_, url):
        again, _ = ask_all(url, model, prompts[:50], 50)
        texts = [reply.choices[0].message.content for reply in again]
        found["equal_after_the_restart"] = sum(a == b for a, b in zip(texts, rows["completion"], strict=False))
    if options.escalate_to:
        with candor(folder, "--escalate-to", options.escalate_to) as (_, url), VerifierPool("math", workers=1) as pool:
            replies, _ = ask_all(url, model, prompts, 64)
            answers = [answer_of(reply.choices[0].message.content) for reply in replies]
            right = [verdict.correct for verdict in pool.verify(golds=rows["gold"].tolist(), answers=answers)]
            small = [y for y, reply in zip(right, replies, strict=True) if reply.candor["answered_by"] == model]
            found["pair"] = {
                "right": share(right),
                "escalated": share([reply.candor["answered_by"] != model for reply in replies]),
                "wrong of what the small model answered": share([1 - y for y in small]),
                "small alone": share(rows["correct"]),
                "large alone": share(rows["large_correct"].dropna()),
                "promise": f"{gate.promise} <= {gate.alpha} with probability {1 - gate.delta}",
            }
    if options.against_transformers:
        transformers = str(Path(sys.executable).with_name("transformers"))
        with server(transformers, "serve", "--host", "127.0.0.1", "--log-level", "error", ready="/health") as (_, url):
            given = {"max_tokens": int(rows["completion_tokens"].max()), "temperature": 0}
            ask_all(url, str(folder), prompts[:2], 1, **given)
            _, seconds = ask_all(url, str(folder), prompts, 64, **given)
            found["transformers_questions_a_second"] = len(rows) / seconds
    print(json.dumps(found, indent=2))


def answer_of(text: str) -> str | None:
    from rewards.template import AnswerTemplate

    return AnswerTemplate(analysis="optional").parse(text, lenient=True).answer


if __name__ == "__main__":
    main()
