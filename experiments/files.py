"""Folders that a command writes into, tried before the work is done."""

from __future__ import annotations

import tempfile
from pathlib import Path

from experiments.errors import ConfigError


def writable(out: str | Path) -> Path:
    """The folder ``out``, made if it is not there. Raises ConfigError where it cannot be made or written into."""
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            return out
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written: {error.strerror}") from error
