"""``python -m experiments``: the ``candor`` command, also as launchers start it, once a rank."""

from __future__ import annotations

import sys

from experiments import cli
from experiments.launch import launcher

if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(launcher.run_rank(cli.run, given) if launcher.launched() else cli.main(given))
