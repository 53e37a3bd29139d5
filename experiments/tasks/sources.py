"""Where the rows of a data set are: files here, a folder, or the hub; each row with the place that an error names.

JSON lines and CSV are read by the standard library, a row at a time, so that "007", "NA" and "1984-04-04" stay the
texts that they are, parquet by pyarrow; what was saved by ``datasets`` and the hub go through that. Nothing is held but
the row at hand, unless a ``.json`` file is one list.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rewards.nearest import nearest

Record = Mapping[str, Any]
Placed = tuple[str, int, Record | ValueError]
"""File, number of the line or row in it from 1, and what it holds, or why it cannot be read."""
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
GYM = "reasoning-gym"
"""The source that is a package which writes questions; ``subset`` names families of it, joined by a plus sign."""
_GYM_SIZES = {"train": 20_000, "validation": 1_000, "test": 2_000}
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def check_source(path: str, key: str) -> None:
    """Raise ValueError for what is neither a file that can be read, a folder, nor a name that the hub may have."""
    if path == GYM:
        if importlib.util.find_spec("reasoning_gym") is None:
            raise ValueError(f"{key}: {GYM} is not installed (pip install {GYM}); or name a file of its questions")
    elif os.path.isfile(path):
        if Path(path).suffix not in SUFFIXES:
            raise ValueError(f"{key}: {path} is not one of {', '.join(SUFFIXES)}")
    elif not os.path.isdir(path) and (Path(path).suffix in SUFFIXES or not _HUB_NAME.fullmatch(path)):
        raise ValueError(
            f"{key}: {path} is not a file or folder here, nor a hub name (owner/name); files end in "
            f"{', '.join(SUFFIXES)}"
        )


def read_source(
    paths: Sequence[str], subset: str | None, split: str, streaming: bool, known_file: str | None
) -> Iterator[Placed]:
    """Every row of a split of each source, in order. Raises ValueError for a split or a data set that is not there.

    In a folder the files of a split are those whose name, or whose folder's name, begins with the split's, or else
    ``known_file``; what ``datasets`` saved there is read as such. ``subset`` is a folder in it, or the hub's
    configuration. On the hub ``streaming`` reads over the network, otherwise it is downloaded once.
    """
    for path in paths:
        if os.path.isfile(path):
            yield from _file(Path(path))
        elif path == GYM:
            yield from _numbered(f"{path}/{split}", _gym(subset or "chain_sum", split))
        elif not os.path.isdir(path):
            yield from _numbered(f"{path}/{split}", _hub(path, subset, split, streaming=streaming))
        elif any(os.path.isfile(os.path.join(path, name)) for name in ("dataset_dict.json", "state.json")):
            yield from _numbered(f"{path}/{split}", _saved(path, split))
        else:
            for file in _of_split(Path(path), subset, split, known_file):
                yield from _file(file)


def _of_split(folder: Path, subset: str | None, split: str, known_file: str | None) -> list[Path]:
    base = folder / subset if subset and (folder / subset).is_dir() else folder
    files = [path for path in sorted(base.rglob("*")) if path.suffix in SUFFIXES]
    named = re.compile(rf"{re.escape(split)}(?![A-Za-z0-9])")
    found = [path for path in files if any(named.match(part) for part in path.relative_to(base).parts)]
    if not found:
        found = [path for path in files if path.name == known_file]
    if not found:
        names = sorted({re.split(r"[-.]", path.relative_to(base).parts[0])[0] for path in files})
        there = f"its files are of {', '.join(names)}{nearest(split, names)}" if names else "there are no files in it"
        known = f" and no {known_file}" if known_file else ""
        raise ValueError(f"{base} has no file of split {split!r}{known}, {there}")
    return found


def _file(path: Path) -> Iterator[Placed]:
    match path.suffix:
        case ".parquet":
            yield from _numbered(str(path), _parquet(path))
        case ".csv":
            yield from _csv(path)
        case ".json" if _is_list(path):
            try:
                records = json.loads(path.read_text("utf-8-sig"))
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}: not JSON: {error}") from error
            yield from _numbered(str(path), records)
        case _:
            with path.open("rb") as lines:  # bytes: only a newline ends a line of JSON, and a bad one has its number
                for number, line in enumerate(lines, start=1):
                    if line.strip():
                        yield str(path), number, _record(line)


def _is_list(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return file.read(64).lstrip().startswith("[")


def _record(line: bytes) -> Record | ValueError:
    try:
        record = json.loads(line.decode("utf-8-sig"))  # some programs put a byte order mark first
    except (ValueError, RecursionError) as error:
        return ValueError(f"not JSON: {error}")
    return _mapping(record)


def _parquet(path: Path) -> Iterator[Record]:
    """By pyarrow itself: streamed through ``datasets``, ten million rows took 1.6 GiB."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=1000, use_threads=False):
            yield from batch.to_pylist()


def _csv(path: Path) -> Iterator[Placed]:
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for row in reader:
                whole = None not in row and None not in row.values()
                bad = ValueError(f"{len(row)} cells do not suit the header {', '.join(reader.fieldnames or [])}")
                yield str(path), reader.line_num, row if whole else bad
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}:{reader.line_num + 1}: not CSV: {error}") from error


def _numbered(name: str, records: Any) -> Iterator[Placed]:
    try:
        for number, record in enumerate(records, start=1):
            yield name, number, _mapping(record)
    except Exception as error:  # of any kind: it is what a library makes of a broken file
        raise _broken(name, error) from error


def _broken(name: str, error: Exception) -> ValueError:
    return ValueError(f"{name} cannot be read: {str(error).strip().partition(chr(10))[0]}")


def _mapping(record: Any) -> Record | ValueError:
    if isinstance(record, Mapping):
        return record
    return ValueError(f"expected an object with a question and its answer, found {repr(record)[:60]}")


def _gym(families: str, split: str) -> Iterator[Record]:
    """Questions of each family in turn, those of a split by a seed of its own."""
    import reasoning_gym

    names, size = families.split("+"), _GYM_SIZES[split]
    known = list(reasoning_gym.factory.DATASETS)
    for name in names:
        if name not in known:
            raise ValueError(f"task.subset: {name!r} is not a family of {GYM}{nearest(name, known)}")
    seed = list(_GYM_SIZES).index(split)
    written = [reasoning_gym.create_dataset(name, size=-(-size // len(names)), seed=seed) for name in names]
    return (dataset[number] for number in range(len(written[0])) for dataset in written)


def _saved(path: str, split: str) -> Any:
    import datasets

    try:
        saved = datasets.load_from_disk(path)
    except Exception as error:  # of any kind, as above
        raise _broken(path, error) from error
    if not isinstance(saved, datasets.DatasetDict):
        return saved
    if split not in saved:
        raise ValueError(f"{path} has no split {split!r}, it has {', '.join(saved)}{nearest(split, list(saved))}")
    return saved[split]


def _hub(path: str, subset: str | None, split: str, *, streaming: bool) -> Any:
    import datasets

    online = os.environ.get("HF_HUB_OFFLINE") == "0"
    try:
        return datasets.load_dataset(path, subset, split=split, streaming=streaming and online)
    except Exception as error:  # of any kind: a network, a cache and a data set's own files have a part in it
        reason = str(error).strip().partition("\n")[0]
        if not online:
            reason = "the hub is not asked unless HF_HUB_OFFLINE=0 is set; task.path may name a folder with its files"
        raise ValueError(f"{path} ({subset or 'no subset'}, {split}) is not a folder here: {reason}") from error
