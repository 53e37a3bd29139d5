"""``[CHECKPOINT] [key=value ...]`` on a command line, where the checkpoint may be left out."""

from __future__ import annotations

import argparse
from pathlib import Path


def settle_checkpoint(options: argparse.Namespace) -> None:
    """Give a ``key=value`` that argparse took for the ``checkpoint`` of these options back to their ``overrides``."""
    first = options.checkpoint
    if first is not None and "=" in first and not Path(first).exists():
        options.checkpoint, options.overrides = None, [first, *options.overrides]
