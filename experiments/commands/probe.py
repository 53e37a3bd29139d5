"""``candor probe``: one entry for checkpoints, foreign completions and bare confidences, one set of files out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.commands.numbers import seed
from experiments.commands.overrides import settle_checkpoint
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
    parser.add_argument(
        "--logs", type=Path, metavar="PATH", help="log of lm-eval, inspect_ai or lighteval, or a folder"
    )
    parser.add_argument("--metric", metavar="NAME", help="metric or scorer of --logs whose verdict counts (the first)")
    parser.add_argument("--filter", metavar="NAME", help="filter of lm-eval whose rows count (the first)")
    parser.add_argument(
        "--export", choices=["inspect"], help="confidences of --logs for inspect_ai's precomputed_scores"
    )
    parser.add_argument("--verifier", help="what judges the completions: math (default), choice, text, state")
    parser.add_argument("--recipe", help="task and probe settings for a checkpoint that carries no recipe")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for records, metrics and report")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the bootstrap (default 0)")


def run(options: argparse.Namespace) -> int:
    """Measure what was named and print the metrics."""
    settle_checkpoint(options)
    metrics = probe(
        options.out,
        checkpoint=options.checkpoint,
        completions=options.completions,
        records=options.records,
        logs=options.logs,
        metric=options.metric,
        filter_name=options.filter,
        export=options.export,
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
    logs: Path | None = None,
    metric: str | None = None,
    filter_name: str | None = None,
    export: str | None = None,
    verifier: str | None = None,
    recipe: str | None = None,
    overrides: Sequence[str] = (),
    seed: int = 0,
) -> Metrics:
    """Measure one source and write ``records.parquet``, ``metrics.json`` and ``report.html`` into ``out``.

    Exactly one of ``checkpoint``, ``completions``, ``records`` and ``logs`` is given; ``verifier`` (math if left out)
    judges completions. ``metric`` and ``filter_name`` say what counts in the logs of a harness, of which it is printed
    which column became what; ``export`` writes their confidences for inspect_ai as well. Raises ConfigError where what
    is asked for does not go together or the folder cannot be written, DataError for files that cannot be read.
    """
    # Imported here: the command line answers without pandas, and two of the sources are measured without torch.
    from experiments.files import writable
    from experiments.probe.measure import measure, write_metrics
    from experiments.probe.records import from_completions, read_completions, read_records, write_records
    from experiments.report.html import write_report
    from experiments.schema import one_of
    from rewards.template import AnswerTemplate
    from rewards.verifiers.pool import VERIFIERS, VerifierPool

    sources = {"CHECKPOINT": checkpoint, "--completions": completions, "--records": records, "--logs": logs}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) != 1:
        raise ConfigError(
            "probe: expected one of CHECKPOINT, --completions FILE, --records FILE, --logs PATH; "
            f"got {' and '.join(given) or 'none of them'}"
        )
    if checkpoint is None and (recipe or overrides):
        raise ConfigError(f"probe: --recipe and key=value are for a checkpoint, not for {given[0]}")
    if verifier is not None:
        if completions is None:
            raise ConfigError(f"probe: --verifier is for --completions, not for {given[0]}")
        one_of("--verifier", verifier, [name for name, kind in VERIFIERS.items() if not kind.graded])
    for option, value in {"--metric": metric, "--filter": filter_name, "--export": export}.items():
        if value is not None and logs is None:
            raise ConfigError(f"probe: {option} is for --logs, not for {given[0]}")
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
    elif logs is not None:
        frame = _read_logs(logs, metric, filter_name, out if export else None)
        meta["logs"] = logs.name
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
    from experiments.routing.large import check_large

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
    check_large(named)
    return named


def _probe_policy(checkpoint: str, settings: Recipe) -> pd.DataFrame:
    from experiments.probe.checkpoint import other_estimators, probe_checkpoint
    from experiments.routing.large import large_answers, with_large

    with settings.task.open_verifier() as verifier:
        large = None if settings.probe.escalate_to is None else large_answers(settings, verifier)
        records = probe_checkpoint(
            checkpoint,
            settings,
            "checkpoint",
            verifier,
            confidence=settings.probe.confidence,
            others=other_estimators(settings),
        )
    return records if large is None else with_large(records, large)


def _read_logs(path: Path, metric: str | None, filter_name: str | None, export: Path | None) -> pd.DataFrame:
    """Records of a harness's logs; prints which column became what, and writes scores below ``export``."""
    from experiments.commands.terminal import print_logs
    from experiments.probe.logs.read import log_records, read_logs
    from experiments.probe.logs.scores import write_inspect_scores

    logs = read_logs(path, metric=metric, filter_name=filter_name)
    foreign = [f"{log.path} is one of {log.harness}" for log in logs if log.harness != "inspect_ai"]
    if export is not None and foreign:
        raise ConfigError(f"probe: --export inspect is for logs of inspect_ai, {foreign[0]}")
    frame = log_records(logs)
    print_logs(logs)
    for file in write_inspect_scores(logs, frame, export) if export is not None else ():
        print(file)
    return frame
