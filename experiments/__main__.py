"""The ``candor`` command as it is installed, and ``python -m experiments``, which launchers start once a rank."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line of this process and return its exit status, also where it is interrupted while it loads."""
    try:
        from experiments import cli
        from experiments.launch import launcher
    except KeyboardInterrupt:
        print("\ncandor: interrupted", file=sys.stderr)
        return 130
    given = sys.argv[1:]
    return launcher.run_rank(cli.run, given) if launcher.launched() else cli.main(given)


if __name__ == "__main__":
    sys.exit(main())
