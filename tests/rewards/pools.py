"""What tests of the verifier pool ask of its workers."""

from __future__ import annotations

import os
from pathlib import Path

from rewards.verifiers import pool as pool_module
from rewards.verifiers.pool import VerifierPool
from rewards.verifiers.verifier import EQUAL

HANGS = "9^{9^{9^{9}}}"
LIMIT_S = 1.0
START_S = 20.0
"""What a worker may take to start on a loaded machine."""


def works(pool: VerifierPool, number: int) -> bool:
    """Whether a pair that needs a worker, and is in no cache, is judged."""
    return pool.verify(golds=[f"{number}\\sin 1"], answers=[f"\\sin(1) \\cdot {number}"]) == [EQUAL]


def pids(pool: VerifierPool) -> list[int]:
    return [worker.process.pid for worker in pool._workers]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(pool_module.__file__).parents[2])}
