"""What a user can put right: the command prints such an error as one line, no traceback, and ends with status 2.

A run that fails on its way, RunError, ends with status 1.
"""

from __future__ import annotations

import errno
import signal

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Numbers of the errors that say that a disk, a quota or a file is full."""

REFUSED = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG),
    *(errno.EEXIST, errno.EISDIR, errno.ENOTDIR),
)
"""Numbers of the errors by which the system refuses a path that a user named: by its rights or by what it is."""


class ConfigError(ValueError):
    """A recipe, an option or a folder that cannot be used; the message says what was expected."""


class DataError(ValueError):
    """An input file that cannot be used; the message says where, what was found and what was expected."""


class RunError(RuntimeError):
    """A run that ended before it was done; the message says why and how to go on."""


class Stopped(KeyboardInterrupt):
    """A signal that ended the command, as an interrupt does; ``saved`` names the checkpoint that was taken first."""

    def __init__(self, number: int, saved: str | None = None) -> None:
        super().__init__(signal.Signals(number).name)
        self.number, self.saved = number, saved
