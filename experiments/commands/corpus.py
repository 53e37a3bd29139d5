"""``candor corpus``: index a corpus that confidence is read from, ask it, or write that of the task ``facts``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from experiments.errors import ConfigError, DataError

HELP = "index text files, and ask the index what stands in them"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser("build", help="index text and JSONL files")
    build.add_argument("files", nargs="+", type=Path, metavar="FILE", help="text, or JSONL with a document under text")
    build.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the index")
    count = actions.add_parser("count", help="documents in which a phrase stands, or two beside each other")
    count.add_argument("index", type=Path, metavar="DIR", help="folder of an index")
    count.add_argument("phrases", nargs="+", metavar="PHRASE", help="one or two")
    facts = actions.add_parser("facts", help="write the corpus of the task facts as JSONL")
    facts.add_argument("--world", type=int, default=0, help="seed of the world (default 0, the shipped policy's)")
    facts.add_argument("--out", type=Path, required=True, metavar="FILE")


def run(options: argparse.Namespace) -> int:
    """Do what was asked and say what was seen."""
    return {"build": _build, "count": _count, "facts": _facts}[options.action](options)


def _build(options: argparse.Namespace) -> int:
    from estimators.corpus_index import build_index
    from experiments.files import writable

    try:
        facts = build_index(options.files, writable(options.out))
    except ValueError as error:
        raise error if isinstance(error, ConfigError) else DataError(str(error)) from error
    print(f"{options.out}: files {len(facts.files):,}, documents {facts.documents:,}, words {facts.words:,}")
    return 0


def _count(options: argparse.Namespace) -> int:
    from estimators.corpus_index import CorpusIndex

    if len(options.phrases) > 2:
        raise ConfigError(f"corpus count: {len(options.phrases)} phrases, expected one or two")
    try:
        index = CorpusIndex(options.index)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    count = index.count(*options.phrases) if len(options.phrases) == 1 else index.count_pair(*options.phrases)
    if count is None:
        raise ConfigError(f"corpus count: {' and '.join(map(repr, options.phrases))} holds no word to look up")
    print(f"{count} of {index.facts.documents} documents")
    return 0


def _facts(options: argparse.Namespace) -> int:
    from experiments.files import writable_file
    from experiments.tasks.biographies import documents
    from rl.files import write_text

    writable_file(options.out)
    lines = [json.dumps({"text": document}) + "\n" for document in documents(options.world)]
    write_text(options.out, "".join(lines))
    print(f"{options.out}: {len(lines)} documents")
    return 0
