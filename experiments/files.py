"""Folders that a command writes into, tried before the work is done and locked while it is; values as JSON has them."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.errors import ConfigError


def writable(out: str | Path) -> Path:
    """The folder ``out``, made if it is not there. Raises ConfigError where it cannot be made or written into."""
    return _tried(Path(out), Path(out))


def writable_file(out: str | Path) -> Path:
    """The file ``out``, whose folder is made if it is not there. Raises ConfigError where it cannot be written."""
    out = Path(out)
    if out.is_dir():
        raise ConfigError(f"--out {out}: cannot be written: it is a folder, expected the name of a file")
    _tried(out.parent, out)
    return out


def _tried(folder: Path, named: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ConfigError(f"--out {named}: cannot be written: {error.strerror}") from error


LOCK = ".lock"
_TAKEN = (errno.EACCES, errno.EAGAIN)


@contextmanager
def locked(out: str | Path) -> Iterator[Path]:
    """Context manager: the folder ``out``, made if it is not there, is this process's alone.

    The lock is one of the kernel on a file in the folder, which is free again when the process ends, however it does;
    processes that it has forked do not hold it. A file system that knows no locks is written to without. Raises
    ConfigError, naming the folder and the process, where another one holds it, and as :func:`writable` does.
    """
    out = writable(out)
    with (out / LOCK).open("a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _TAKEN:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise ConfigError(
                    f"--out {out}: is being written by {holder}; wait for it, or choose another"
                ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} ({' '.join(sys.argv[:3])})\n")
        file.flush()
        yield out


def without_nan(value: Any) -> Any:
    """The same with None for NaN and infinity, which JSON does not have; keys are texts.

    >>> without_nan({1: [float("nan"), 2.0]})
    {'1': [None, 2.0]}
    """
    if isinstance(value, Mapping):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
