"""How often a local corpus names something, and two things together: an index that is built once and then asked.

The index is SQLite's full-text index (FTS5) of words and their places, without the texts. It is built document by
document, so that memory stays flat whatever the corpus's size, and answers for any phrase, not for a list made in
advance. Words are compared in lower case, by whole words, however their accents are encoded (as Unicode's NFC); a
script that writes no spaces between words is not cut.

Nothing here needs torch: a router asks the same index.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

WINDOW = 1000
"""Words that two phrases may stand apart to stand together (QuCo-RAG's, arXiv 2512.19134)."""
LONGEST_DOCUMENT = 100_000
"""Words of a document; a longer one counts as several."""
LONGEST_PHRASE = 200
"""Characters of a phrase that is looked up; a longer one is not a name."""

_HOW = "candor corpus build FILES --out DIR makes one"
_INDEX, _FACTS, _FORMAT = "index.sqlite", "corpus.json", 2
_WORD = re.compile(r"[^\W_]+")  # FTS5 takes an underscore for a space
_CHUNK = 2**20


@dataclass(frozen=True)
class CorpusFacts:
    """What an index was built from."""

    documents: int
    words: int
    files: tuple[str, ...]
    format: int = _FORMAT


def build_index(files: Sequence[str | Path], out: str | Path) -> CorpusFacts:
    """Index text and JSON-lines files into the folder ``out`` and say what was seen; one document is in memory.

    Of ``.jsonl`` each line is an object whose ``text`` is a document; of any other file a document ends at a blank
    line. Documents without a word are left out. An index that is there is replaced at the end, and kept where the
    build fails. Raises ValueError naming file and line for what cannot be read, where no document is found, and for a
    file that is named twice, whose documents would count twice.
    """
    met: set[str] = set()
    for path in files:
        if (real := os.path.realpath(path)) in met:
            raise ValueError(f"{path}: is named twice, its documents would be counted twice")
        met.add(real)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    partial = out / f".{_INDEX}.{os.getpid()}.partial"
    seen = {"documents": 0, "words": 0}

    def rows() -> Iterator[tuple[int, str]]:
        for path in files:
            for document in _documents(Path(path)):
                seen["documents"] += 1
                seen["words"] += sum(1 for _ in _WORD.finditer(document))
                yield seen["documents"], document

    try:
        with closing(sqlite3.connect(partial)) as connection, connection:
            connection.execute("PRAGMA journal_mode = OFF")  # a build that fails is thrown away whole
            connection.execute(
                "CREATE VIRTUAL TABLE corpus USING fts5(text, content='', columnsize=0, "
                "tokenize='unicode61 remove_diacritics 0')"
            )
            connection.executemany("INSERT INTO corpus(rowid, text) VALUES (?, ?)", rows())
        if not seen["documents"]:
            raise ValueError(f"{', '.join(map(str, files)) or 'no file'}: holds no document")
        facts = CorpusFacts(seen["documents"], seen["words"], files=tuple(Path(path).name for path in files))
        os.replace(partial, out / _INDEX)
        (out / _FACTS).write_text(json.dumps(asdict(facts), indent=2) + "\n", encoding="utf-8")
        return facts
    finally:
        partial.unlink(missing_ok=True)


class CorpusIndex:
    """An index that :func:`build_index` has made, opened to be read. Raises ValueError for a folder that is not one."""

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        self.facts = _facts(folder)
        uri = f"{(folder / _INDEX).resolve().as_uri()}?mode=ro"
        try:
            self._connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
            self._connection.execute("PRAGMA trusted_schema = OFF")
            self._matches('"a"')
        except sqlite3.Error as error:
            raise ValueError(f"{folder}: holds an index that cannot be asked: {error}; {_HOW}") from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def count(self, phrase: str) -> int | None:
        """Number of documents in which the words of a phrase stand one after another; None for one without words."""
        return self._matches(_quoted(phrase))

    def count_pair(self, first: str, second: str, window: int = WINDOW) -> int | None:
        """Number of documents in which two phrases stand at most ``window`` words apart; None where one has no words.

        The order is free, and a phrase that stands within the other counts as beside it. Raises ValueError for a window
        below 0.
        """
        if window < 0:
            raise ValueError(f"window is {window}, expected a number of words, at least 0")
        phrases = _quoted(first), _quoted(second)
        if None in phrases:
            return None
        if not all(map(self._matches, phrases)):  # FTS5 leaves out what it knows no letter of, and counts the other
            return 0
        return self._matches(f"NEAR({phrases[0]} {phrases[1]}, {int(window)})")

    def _matches(self, query: str | None) -> int | None:
        if query is None:
            return None
        found = self._connection.execute("SELECT count(*) FROM corpus WHERE corpus MATCH ?", (query,)).fetchone()
        return int(found[0])


def _quoted(phrase: str) -> str | None:
    """A phrase as FTS5 reads it, which takes nothing between quotation marks for an operator."""
    if len(phrase) > LONGEST_PHRASE:
        return None
    phrase = normal(phrase).replace('"', " ").replace("\0", " ")
    return f'"{phrase}"' if _WORD.search(phrase) else None


def normal(text: str) -> str:
    """A text as it is indexed and looked up: its accents composed, with a question mark for half a surrogate pair.

    >>> normal("Jose\\u0301") == "Jos\\u00e9"
    True
    """
    return unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode("utf-8"))


def _facts(folder: Path) -> CorpusFacts:
    if not (folder / _INDEX).is_file() or not (folder / _FACTS).is_file():
        raise ValueError(f"{folder}: holds no corpus index; {_HOW}")
    try:
        read = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        facts = CorpusFacts(**{**read, "files": tuple(read["files"])})
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{folder / _FACTS}: is not an index's description: {error}") from error
    if facts.format != _FORMAT:
        raise ValueError(f"{folder}: is an index of format {facts.format!r}, expected {_FORMAT}; {_HOW}")
    return facts


def _documents(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as lines:
            parts = _json_texts(path, lines) if path.suffix == ".jsonl" else _paragraphs(path, lines)
            for document in parts:
                yield from _pieces(normal(document))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error


def _json_texts(path: Path, lines: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record: Any = json.loads(line.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}:{number}: not JSON: {error}") from error
        text = record.get("text") if isinstance(record, dict) else None
        if not isinstance(text, str):
            found = json.dumps(record, ensure_ascii=False)[:60]
            raise ValueError(f"{path}:{number}: expected an object with a document under text, found {found}")
        yield text


def _paragraphs(path: Path, lines: Any) -> Iterator[str]:
    """Texts between blank lines; a line without an end is read a chunk at a time, so that memory stays flat."""
    held: list[str] = []
    size = 0
    while line := lines.readline(_CHUNK):
        if b"\0" in line:  # which text never has, and compressed files, parquet and UTF-16 do
            raise ValueError(f"{path}: is no text in UTF-8, it holds a byte of 0; expected text or .jsonl")
        text = line.decode("utf-8", errors="replace")
        if text.strip():
            held.append(text)
            size += len(text)
        if not text.strip() or size > LONGEST_DOCUMENT * 8:
            yield "".join(held)
            held, size = [], 0
    yield "".join(held)


def _pieces(document: str) -> Iterator[str]:
    """A document whole, or cut where it is longer than :data:`LONGEST_DOCUMENT`; nothing where it has no word."""
    start = count = 0
    for count, word in enumerate(_WORD.finditer(document), start=1):
        if count % LONGEST_DOCUMENT == 0:
            yield document[start : word.end()]
            start = word.end()
    if count % LONGEST_DOCUMENT:
        yield document[start:]
