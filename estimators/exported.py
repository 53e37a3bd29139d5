"""The folder that ``candor export`` writes, as a router reads it: its manifest, and whether it is still what it was.

``calibration/calibration.json`` lists every file that was exported with a digest, and carries one of itself. Weights
need not be there (a router that runs no model needs the ``calibration`` folder alone), but those that are there must be
the ones that were measured. The standard library alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

CALIBRATION, MANIFEST = "calibration", "calibration.json"
GATE, RECALIBRATION, TEMPLATE = "gate.json", "recalibration.json", "template.json"
FORMAT = 1
LOADED = (
    "*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf", "*.h5", "*.msgpack", "*.json", "*.jinja", "*.model", "*.py",
    "vocab.txt", "merges.txt", "additional_chat_templates/*", f"{CALIBRATION}/*.json", f"{CALIBRATION}/*.yaml",
)  # fmt: skip
"""Files that loaders of weights, tokenizers and calibrations read, or run, where they find them."""
_WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")
_KINDS = {"estimator": str, "options": dict, "temperature": int | float, "measured": dict}
_WHOLE, _BLOCK, _BLOCKS = 16 * 2**20, 64 * 2**10, 256


def file_digest(path: str | Path) -> str:
    """A digest of a file: of all of it up to 16 MiB, else of its size, its first MiB and 256 blocks evenly spaced.

    So the identity of a large model is read in a fraction of a second; a change of single bytes far inside such a file
    may go unseen, another training run does not.
    """
    size = os.path.getsize(path)
    digest = hashlib.sha256(str(size).encode())
    with Path(path).open("rb") as file:
        if size <= _WHOLE:
            digest.update(file.read())
            return digest.hexdigest()
        digest.update(file.read(2**20))
        for number in range(_BLOCKS):
            file.seek(round(number * (size - _BLOCK) / (_BLOCKS - 1)))
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def weights_digest(folder: str | Path) -> str | None:
    """A digest of the weights that lie in a folder, of an adapter those of it alone; None where there are none."""
    files = sorted(path for kind in _WEIGHTS for path in Path(folder).glob(kind))
    if not files:
        return None
    return hashlib.sha256("".join(map(file_digest, files)).encode()).hexdigest()


def read_object(path: str | Path) -> dict[str, Any]:
    """The object that a JSON file holds. Raises ``ValueError`` naming the file for any other, NaN in it included."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, expected an object")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def write_manifest(folder: str | Path, content: Mapping[str, Any], files: Iterable[str]) -> Path:
    """Write the manifest of a folder with the digests of ``files``, names below the folder; returns its path."""
    folder = Path(folder)
    path = folder / CALIBRATION / MANIFEST
    whole = {"format": FORMAT, **content, "files": {name: file_digest(folder / name) for name in sorted(files)}}
    whole["hash"] = _hash(whole)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(whole, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(partial, path)
    return path


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of an exported folder, after every file was held against it.

    Raises ``ValueError`` naming the folder or the file: where there is no manifest, it was changed by hand, a file is
    another one than was exported, one of the calibration is missing, the weights or the base of an adapter are of
    another model, or a file was added that is one of :data:`LOADED`.
    """
    folder = Path(folder)
    path = folder / CALIBRATION / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder}: holds no {CALIBRATION}/{MANIFEST}; expected a folder that candor export wrote")
    content = read_object(path)
    if content.get("format") != FORMAT or not isinstance(content.get("files"), dict):
        raise ValueError(f"{path}: not a manifest of format {FORMAT}")
    if content.pop("hash", None) != _hash(content):
        raise ValueError(f"{path}: its hash does not fit its content: it was changed or cut off after the export")
    for name, kind in _KINDS.items():
        if not isinstance(content.get(name), kind):
            raise ValueError(f"{path}: {name} is {content.get(name)!r}; expected what candor export writes")
    for name, digest in content["files"].items():
        if not (folder / name).is_file():
            if name.startswith(f"{CALIBRATION}/"):
                raise ValueError(f"{folder}: {name} is missing; expected a folder as candor export wrote it")
        elif file_digest(folder / name) != digest:
            raise ValueError(f"{folder}: {name} is not the one that was measured; this calibration is another model's")
    base = content.get("base")
    if base is not None and Path(base["path"]).is_dir() and weights_digest(base["path"]) != base["weights"]:
        raise ValueError(f"{folder}: {base['path']} is not the base of its adapter that was measured")
    known = {*content["files"], f"{CALIBRATION}/{MANIFEST}"}
    found = {each.relative_to(folder).as_posix() for pattern in LOADED for each in folder.glob(pattern)}
    strange = sorted(found - known)
    if strange:
        raise ValueError(f"{folder}: {strange[0]} was not exported with this calibration, which is another model's")
    return content


def calibration_file(path: str | Path, name: str) -> Path:
    """``path`` itself if it is a file, or the file ``name`` in the calibration of an exported folder.

    Raises ``ValueError`` as :func:`read_manifest` does, and where the folder was exported without such a file.
    """
    if not Path(path).is_dir():
        return Path(path)
    if f"{CALIBRATION}/{name}" not in read_manifest(path)["files"]:
        raise ValueError(f"{path}: was exported without {name}")
    return Path(path) / CALIBRATION / name


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()
