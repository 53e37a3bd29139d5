"""What a user can put right. The command prints such an error as one line and ends with status 2, no traceback."""

from __future__ import annotations


class ConfigError(ValueError):
    """A recipe, an option or a folder that cannot be used; the message says what was expected."""


class DataError(ValueError):
    """An input file that cannot be used; the message says where, what was found and what was expected."""
