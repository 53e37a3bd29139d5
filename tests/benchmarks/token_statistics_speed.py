"""What statistics of tokens cost beside the head's matrix product and beside a log-softmax of the same logits.

    python tests/benchmarks/token_statistics_speed.py [--vocabulary 49152] [--hidden 576] [--tokens 8192] [--pairs 5]

All are run on the same hidden states and logits, one after another in each pair, so that what else the machine does
falls on all of them; the ratios are of a pair, their median is printed with the smallest and the largest. Times are
those of the processor that the process was given, of one thread, or on a GPU those that pass. Memory is the peak that
the process takes beyond what it held before, of a process of its own for each; with ``--device cuda``, of the GPU's.

    statistics / product      all token statistics of logits that are there, against making them
    hidden -> statistics      statistics through the head, a chunk at a time, against the product alone
    worst error               against float64, of rows drawn at random, absolute or relative, the smaller
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from clock import timed

from estimators.token_statistics import TokenStatistics, hidden_statistics, token_statistics


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("vocabulary", 49152), ("hidden", 576), ("tokens", 8192), ("pairs", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of states and head")
    parser.add_argument("--peak-of", choices=("nothing", "log_softmax", "statistics"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device, dtype = options.device, getattr(torch, options.dtype)
    hidden_PH = torch.randn(options.tokens, options.hidden).to(device, dtype)
    head_VH = (torch.randn(options.vocabulary, options.hidden) * 0.2).to(device, dtype)
    tokens_P = torch.randint(0, options.vocabulary, (options.tokens,)).to(device)
    if options.peak_of:
        print(peak(options.peak_of, hidden_PH @ head_VH.T, tokens_P))
        return
    hidden_statistics(hidden_PH[:64], tokens_P[:64], lambda chunk: chunk @ head_VH.T, options.vocabulary)
    found: dict[str, object] = {"statistics / product": [], "hidden -> statistics / product": []}
    for _ in range(options.pairs):
        product, logits_PV = timed(lambda: hidden_PH @ head_VH.T, device)
        alone, read = timed(lambda made=logits_PV: token_statistics(made, tokens_P), device)
        rows = torch.randperm(options.tokens)[:32].to(device)
        error = worst_error(read[rows], logits_PV[rows], tokens_P[rows])
        del logits_PV
        through, _ = timed(
            lambda: hidden_statistics(hidden_PH, tokens_P, lambda chunk: chunk @ head_VH.T, options.vocabulary), device
        )
        found["statistics / product"].append(alone / product)  # type: ignore[attr-defined]
        found["hidden -> statistics / product"].append(through / product)  # type: ignore[attr-defined]
    ratios = {
        name: {"median": statistics.median(each), "low": min(each), "high": max(each)} for name, each in found.items()
    }  # type: ignore[call-overload]
    before, softmax, ours = (peak_of_a_process(what) for what in ("nothing", "log_softmax", "statistics"))
    memory = {"log_softmax_mib": softmax - before, "statistics_mib": ours - before}
    memory["statistics / log_softmax"] = memory["statistics_mib"] / memory["log_softmax_mib"]
    print(json.dumps({**ratios, "worst error": error, "extra peak memory": memory}, indent=2))


def worst_error(read: TokenStatistics, logits_PV: torch.Tensor, tokens_P: torch.Tensor) -> float:
    """Largest distance of any statistic from its value in float64, absolute or relative, whichever is smaller."""
    log_probs = logits_PV.double().log_softmax(-1)
    ordered = log_probs.topk(20).values
    expected = {
        "log_prob": log_probs.gather(1, tokens_P[:, None])[:, 0],
        "entropy": -(log_probs.exp() * log_probs).sum(-1),
        "max_probability": ordered[:, 0].exp(),
        "margin": ordered[:, 0].exp() - ordered[:, 1].exp(),
        "self_certainty": -log_probs.mean(-1) - math.log(logits_PV.size(1)),
        "token_confidence": -ordered.mean(-1),
    }
    distances = {name: (getattr(read, name).double() - values).abs() for name, values in expected.items()}
    return max(float((each / expected[name].abs().clamp(min=1.0)).max()) for name, each in distances.items())


def peak(what: str, logits_PV: torch.Tensor, tokens_P: torch.Tensor) -> float:
    """MiB that this process has held at most, with the work done; of the GPU where the logits are on one."""
    if what == "log_softmax":
        torch.log_softmax(logits_PV, dim=-1)
    elif what == "statistics":
        token_statistics(logits_PV, tokens_P)
    if logits_PV.device.type != "cpu":
        return torch.cuda.max_memory_allocated() / 2**20
    # Not ru_maxrss, which a process takes over from the one that started it.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def peak_of_a_process(what: str) -> float:
    """The same in a process of its own, with this one's options."""
    command = [sys.executable, *sys.argv, "--peak-of", what]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
