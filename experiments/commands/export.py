"""``candor export``: a checkpoint as a folder that a router can use without reading our code."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "a checkpoint with its calibration, gate and model card, as a folder for any engine and router"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, or that of a checkpoint")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write")
    parser.add_argument("--probe", type=Path, metavar="DIR", help="probe of the checkpoint (RUN/probe)")
    parser.add_argument("--estimator", metavar="NAME", help="what reads the confidence (the recipe's probe.confidence)")
    parser.add_argument("--gate", type=Path, metavar="FILE", help="a gate of candor gate fit (the checkpoint's own)")
    parser.add_argument("--recalibrate", metavar="METHOD", help="temperature, platt, beta, isotonic or histogram")
    parser.add_argument("--calibration", type=Path, metavar="RECORDS", help="records that --recalibrate is fitted on")
    parser.add_argument("--adapters", default="merge", help="a LoRA adapter: merge (default) or keep")
    parser.add_argument("--push", metavar="NAME", help="upload it to a private hub repository; needs HF_HUB_OFFLINE=0")


def run(options: argparse.Namespace) -> int:
    """Check, write and say where."""
    from experiments.export.folder import ADAPTERS, check_out, check_push, push, write_folder
    from experiments.export.sources import read_sources
    from experiments.files import writable
    from experiments.schema import one_of

    one_of("--adapters", options.adapters, ADAPTERS)
    if options.push:
        check_push(options.push)
    check_out(options.out)
    writable(options.out.resolve().parent)
    sources = read_sources(
        options.run,
        probe=options.probe,
        estimator=options.estimator,
        gate=options.gate,
        recalibrate=options.recalibrate,
        calibration=options.calibration,
    )
    for each in sources.unknown:
        print(f"note: {each}")
    print(write_folder(sources, options.out, adapters=options.adapters))
    if options.push:
        print(push(options.out, options.push))
    return 0
