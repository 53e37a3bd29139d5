r"""Verdicts and throughput of the "math" verifier against sequential math-verify, in one run.

    python tests/benchmarks/verifier_throughput.py --golds gsm8k/test.jsonl --traces math-500.parquet

``--golds`` is GSM8K's JSONL (``answer`` ends with ``#### number``): each gold is judged against itself and against a
number that is off by one, ten times too large, or of the other sign. ``--traces`` is a parquet table with the columns
``gold`` and ``completion``, whose answers are read by the default template.

The baseline is ``verify(parse(gold), parse(answer))`` one pair after the other, as users of math-verify call it. It
reads LaTeX between dollar signs only, so golds, and answers without delimiters and sentences, are put between them;
``--bare`` measures the texts as they are. The pool has two workers. Warm: its workers have started, its cache is empty.
Cold: the time from creating it. Rows repeat pairs, as groups of completions do, and the pool judges each pair once;
the last rows are for distinct pairs.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from math_verify import parse, verify

from rewards.template import AnswerTemplate
from rewards.verifiers.pool import Verdict, VerifierPool

WORKERS = 2
WARM_UP = [(r"2\sin 1", rf"\sin(1) \cdot {factor}") for factor in range(2, 2 + WORKERS)]
Pairs = Sequence[tuple[str, str]]

_DELIMITER = re.compile(r"\$|\\\(|\\\[|\\boxed")
_SENTENCE = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{4,}\s")


def gold_pairs(path: Path, rows: int | None) -> list[tuple[str, str]]:
    draw = random.Random(0)
    lines = path.read_text(encoding="utf-8").splitlines()[:rows]
    golds = [json.loads(line)["answer"].rpartition("####")[2].strip() for line in lines]

    def perturbed(gold: str) -> str:
        number = int(gold.replace(",", ""))
        return str(draw.choice([number + 1, 10 * number, -number]) if number else 1)

    return [pair for gold in golds for pair in ((gold, gold), (gold, perturbed(gold)))]


def trace_pairs(path: Path, rows: int | None) -> list[tuple[str, str]]:
    frame, template = pd.read_parquet(path).iloc[:rows], AnswerTemplate()
    answers = [template.parse(text, lenient=True).answer or "" for text in frame["completion"]]
    return list(zip(frame["gold"], answers, strict=True))


def in_dollars(text: str) -> str:
    return text if _DELIMITER.search(text) or _SENTENCE.search(text) else f"${text}$"


def sequential(pairs: Pairs, spell: Callable[[str], str]) -> tuple[list[bool], float]:
    verify(parse(r"$\pi$"), parse("$1$"))
    started = time.perf_counter()
    verdicts = [bool(verify(parse(spell(gold)), parse(spell(answer)))) for gold, answer in pairs]
    return verdicts, time.perf_counter() - started


def pooled(pairs: Pairs, *, warm: bool) -> tuple[list[Verdict], float]:
    started = time.perf_counter()
    with VerifierPool("math", workers=WORKERS) as pool:
        if warm:
            judge(pool, WARM_UP)
            started = time.perf_counter()
        verdicts = judge(pool, pairs)
        return verdicts, time.perf_counter() - started


def judge(pool: VerifierPool, pairs: Pairs) -> list[Verdict]:
    return pool.verify(golds=[gold for gold, _ in pairs], answers=[answer for _, answer in pairs])


def measure(name: str, pairs: Pairs, spell: Callable[[str], str]) -> None:
    theirs, sequential_s = sequential(pairs, spell)
    ours, warm_s = pooled(pairs, warm=True)
    again, cold_s = pooled(pairs, warm=False)
    assert ours == again, "the pool's verdicts depend on when they are asked for"
    print(f"{name:22} {len(pairs):5} pairs   math-verify {sequential_s:6.2f} s", end="")
    for start, taken_s in (("warm", warm_s), ("cold", cold_s)):
        print(f"   {start} {taken_s:5.2f} s, {sequential_s / taken_s:5.1f} times", end="")
    print()
    differing = Counter(
        (f"{verdict.reason} here, {'equal' if equal else 'different'} there", gold, answer)
        for (gold, answer), verdict, equal in zip(pairs, ours, theirs, strict=True)
        if (verdict.correct == 1.0) != equal
    )
    print(f"  {len(differing)} distinct pairs ({differing.total()} rows) judged differently")
    for (kind, gold, answer), rows in sorted(differing.items()):
        print(f"    {kind} x{rows}: {gold!r} | {answer[:160]!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--golds", type=Path, help="GSM8K's JSONL")
    parser.add_argument("--traces", type=Path, help="a parquet table with the columns gold and completion")
    parser.add_argument("--rows", type=int, help="read that many rows of each file (default: all)")
    parser.add_argument("--bare", action="store_true", help="give math-verify the texts as they are")
    arguments = parser.parse_args()
    if arguments.golds is None and arguments.traces is None:
        parser.error("give --golds, --traces or both")
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    spell = str if arguments.bare else in_dollars
    sets = []
    if arguments.golds is not None:
        sets.append((arguments.golds.stem, gold_pairs(arguments.golds, arguments.rows)))
    if arguments.traces is not None:
        sets.append((arguments.traces.stem, trace_pairs(arguments.traces, arguments.rows)))
        sets.append((f"{arguments.traces.stem}, distinct", list(dict.fromkeys(sets[-1][1]))))
    for name, pairs in sets:
        measure(name, pairs, spell)


if __name__ == "__main__":
    main()
