"""``candor ablate``: variants of a recipe at their best setting, over seeds."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from experiments.errors import ConfigError, RunError
from experiments.files import locked
from experiments.launch.jobs import CLUSTERS

HELP = "compare variants of a recipe over settings and seeds"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    parser.add_argument("study", metavar="STUDY", help="a shipped study, such as terms, or a YAML file")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="recipe keys set in every variant, none that a variant or the grid sets",
    )
    parser.add_argument("--out", type=Path, help="folder (default runs/STUDY); finished runs in it are kept")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time (default %(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="say how many runs, hours and disk, and run nothing")
    parser.add_argument("--retry-failed", action="store_true", help="try runs again that failed before")
    parser.add_argument("--cluster", choices=CLUSTERS, default=CLUSTERS[0], help="where (default %(default)s)")
    parser.add_argument(
        "--request",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="what each job asks of Slurm: timeout_min=600 gpus_per_node=1 cpus_per_task=8 slurm_partition=gpu",
    )


def run(options: argparse.Namespace) -> int:
    """Run the study and print its summary."""
    from experiments.ablation.run import ablate
    from experiments.ablation.study import load_study
    from experiments.ablation.tables import edges_in_words, markdown_summary
    from experiments.launch.jobs import check_request

    if options.jobs < 1:
        raise ConfigError(f"--jobs: {options.jobs} is below 1")
    request = _request(options.request)
    check_request(options.cluster, request)
    study = load_study(options.study, options.overrides)
    out = options.out or Path("runs") / Path(options.study).stem
    if options.dry_run:
        from experiments.ablation.plan import in_words, plan

        print(in_words(plan(study, out)))
        return 0
    with locked(out):
        summary = ablate(
            study,
            out,
            jobs=options.jobs,
            cluster=options.cluster,
            request=request,
            retry_failed=options.retry_failed,
        )
    print(markdown_summary(summary), end="")
    for line in edges_in_words(summary):
        print(f"candor: {line}", file=sys.stderr)
    if summary["failures"]:
        first, count = summary["failures"][0], len(summary["failures"])
        more = f" (the first of {count}; --retry-failed tries them again)"
        raise RunError(f"{first['folder']} failed{more}: {first['error']}")
    return 0


def _request(asked: list[str]) -> dict[str, Any]:
    request: dict[str, Any] = {}
    for each in asked:
        key, equals, value = each.partition("=")
        if not equals:
            raise ConfigError(f"--request {each!r}: expected KEY=VALUE")
        try:
            request[key] = json.loads(value)
        except ValueError:  # a text; YAML would make a number of 1:30:00
            request[key] = value
    return request
