"""``candor train``: one recipe, on this process or on many."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.errors import ConfigError

if TYPE_CHECKING:
    from experiments.config.recipe import Recipe

HELP = "train one recipe"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    parser.add_argument("recipe", metavar="RECIPE", help="a shipped recipe (see candor recipes) or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as trainer.learning_rate=3e-4")
    parser.add_argument("--out", type=Path, help="folder of the run (default runs/RECIPE)")
    parser.add_argument("--resume", action="store_true", help="go on from the last complete checkpoint")
    parser.add_argument(
        "--launch", metavar="NAME", help="on many processes: cpu2, ddp, zero2, zero3, zero3_offload or a YAML file"
    )
    parser.add_argument("--num-processes", type=int, metavar="N", help="how many, one for each GPU of this machine")


def run(options: argparse.Namespace) -> int:
    """Train the recipe, or start the processes that do."""
    from experiments.config.recipe import load_recipe

    recipe = load_recipe(options.recipe, options.overrides)
    out = options.out or Path("runs") / recipe.name
    if options.launch is not None:
        from experiments.launch.launcher import launch

        arguments = [options.recipe, *options.overrides]
        launch(recipe, arguments, out, resume=options.resume, config=options.launch, processes=options.num_processes)
        return 0
    if options.num_processes is not None:
        raise ConfigError("--num-processes: has no effect without --launch, such as --launch ddp")
    from experiments.config.methods import METHODS
    from experiments.train import train

    if METHODS[recipe.method].measured:
        from experiments.routing.large import check_large

        check_large(recipe)  # of the probe at the end, before hours of training
    if "RANK" not in os.environ:  # else of a launch, which has looked
        from experiments.launch.estimate import ONE, check_machine

        check_machine(recipe, ONE, 1)
    final = train(recipe, out, resume=options.resume)
    if int(os.environ.get("RANK", "0")) == 0:
        _say(recipe, final)
    return 0


def _say(recipe: Recipe, final: Path) -> None:
    """What has come out, measured where the method is a whole route."""
    from experiments.config.methods import METHODS

    method, out = METHODS[recipe.method], final.parent / "probe"
    if not method.is_policy:
        print(f"{final} holds a reward model; model.reward_path={final} trains a policy against it")
        return
    if not method.measured:
        print(f"{final} holds the trained policy; measure it with: candor probe {final} --out {out}")
        return
    from experiments.commands.probe import probe
    from experiments.commands.terminal import print_metrics
    from rl.deepspeed import load_whole

    load_whole()
    print(f"{final} holds the trained policy")
    print_metrics(probe(out, checkpoint=str(final)))
    print(out / "report.html")
