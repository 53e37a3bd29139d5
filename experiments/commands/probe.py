"""``candor probe``: one entry for checkpoints, foreign completions and bare confidences, one set of files out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.commands.terminal import print_metrics
from experiments.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from experiments.config.recipe import Recipe
    from experiments.probe.measure import Metrics

HELP = "measure a checkpoint, or completions and confidences of any system"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    parser.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT", help="a folder, a shipped policy or a hub name")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as probe.size=500; for a checkpoint")
    parser.add_argument("--completions", type=Path, metavar="FILE", help="parquet or JSONL of prompt, gold, completion")
    parser.add_argument("--records", type=Path, metavar="FILE", help="parquet or JSONL of confidence, correct")
    parser.add_argument("--verifier", help="what judges the completions: math (default), choice, text, state")
    parser.add_argument("--recipe", help="task and probe settings for a checkpoint that carries no recipe")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for records, metrics and report")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default 0)")


def run(options: argparse.Namespace) -> int:
    """Measure what was named and print the metrics."""
    metrics = probe(
        options.out,
        checkpoint=options.checkpoint,
        completions=options.completions,
        records=options.records,
        verifier=options.verifier,
        recipe=options.recipe,
        overrides=options.overrides,
        seed=options.seed,
    )
    print_metrics(metrics)
    print(options.out / "report.html")
    return 0


def probe(
    out: str | Path,
    *,
    checkpoint: str | None = None,
    completions: Path | None = None,
    records: Path | None = None,
    verifier: str | None = None,
    recipe: str | None = None,
    overrides: Sequence[str] = (),
    seed: int = 0,
) -> Metrics:
    """Measure one source and write ``records.parquet``, ``metrics.json`` and ``report.html`` into ``out``.

    Exactly one of ``checkpoint``, ``completions`` and ``records`` is given; ``verifier`` (math if left out)
    judges completions. Raises ConfigError where it is not or the folder cannot be written, DataError for files that
    cannot be read.
    """
    # Imported here: the command line answers without pandas, and two of the sources are measured without torch.
    from experiments.files import writable
    from experiments.probe.measure import measure, write_metrics
    from experiments.probe.records import from_completions, read_completions, read_records, write_records
    from experiments.report.html import write_report
    from experiments.schema import one_of
    from rewards.template import AnswerTemplate
    from rewards.verifiers.pool import VERIFIERS, VerifierPool

    given = [name for name, value in _named(checkpoint, completions, records) if value is not None]
    if len(given) != 1:
        raise ConfigError(
            "probe: expected one of CHECKPOINT, --completions FILE, --records FILE; "
            f"got {' and '.join(given) or 'none of them'}"
        )
    if checkpoint is None and (recipe or overrides):
        raise ConfigError(f"probe: --recipe and key=value are for a checkpoint, not for {given[0]}")
    if verifier is not None:
        if completions is None:
            raise ConfigError(f"probe: --verifier is for --completions, not for {given[0]}")
        one_of("--verifier", verifier, [name for name, kind in VERIFIERS.items() if not kind.graded])
    settings = None if checkpoint is None else checkpoint_recipe(checkpoint, recipe, overrides)
    out = writable(out)
    resamples = 1000
    meta: dict[str, Any] = {"bootstrap seed": seed}
    if checkpoint is not None and settings is not None:
        frame = _probe_policy(checkpoint, settings)
        resamples = settings.probe.resamples
        meta |= {"checkpoint": checkpoint, "task": settings.source["task"]["name"], "split": settings.probe.split}
        meta["verifier"] = ", ".join(settings.task.verifier_names)
    elif completions is not None:
        with VerifierPool(verifier or "math", workers=2) as pool:
            frame = from_completions(read_completions(completions), AnswerTemplate(analysis="optional"), pool)
        meta["completions"] = completions.name
    else:
        assert records is not None
        frame = read_records(records)
        meta["records"] = records.name
    write_records(frame, out / "records.parquet")
    metrics = measure(frame, resamples=resamples, seed=seed)
    write_metrics(metrics, out / "metrics.json")
    write_report(out, meta=meta)
    return metrics


def checkpoint_recipe(checkpoint: str, recipe: str | None, overrides: Sequence[str]) -> Recipe:
    """The recipe that says how to probe a checkpoint: the named one, else the one saved beside its weights.

    Raises ConfigError where there is no checkpoint, no recipe, a verifier that grades, or no model to escalate to.
    """
    from experiments.config.models import find_model
    from experiments.config.recipe import load_recipe

    named = None if recipe is None else load_recipe(recipe, overrides)
    gguf_file = named.model.gguf_file if named is not None and named.model.path == checkpoint else None
    folder = Path(find_model(checkpoint, "probe", gguf_file))
    if named is None:
        saved = folder / "calibration" / "recipe.yaml"
        if not saved.is_file():
            found = "carries no calibration/recipe.yaml" if folder.is_dir() else "is not a folder here"
            raise ConfigError(f"probe: {checkpoint} {found}; a recipe has to say which task to probe: --recipe RECIPE")
        named = load_recipe(str(saved), overrides)
    named.task.require_binary()
    if named.probe.escalate_to is not None:
        find_model(named.probe.escalate_to, "probe.escalate_to")
    return named


def _probe_policy(checkpoint: str, settings: Recipe) -> pd.DataFrame:
    from experiments.probe.checkpoint import large_verdicts, other_estimators, probe_checkpoint

    with settings.task.open_verifier() as verifier:
        large = None if settings.probe.escalate_to is None else large_verdicts(settings, verifier)
        return probe_checkpoint(
            checkpoint,
            settings,
            "checkpoint",
            verifier,
            confidence=settings.probe.confidence,
            others=other_estimators(settings),
            large_correct=large,
        )


def _named(checkpoint: Any, completions: Any, records: Any) -> list[tuple[str, Any]]:
    return [("CHECKPOINT", checkpoint), ("--completions", completions), ("--records", records)]
