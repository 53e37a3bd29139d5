"""From sources to a folder in the layout of Hugging Face, written whole or not at all, and to a hub where asked."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from estimators.confidence import Confidence
from estimators.exported import (
    CALIBRATION,
    GATE,
    MANIFEST,
    RECALIBRATION,
    file_digest,
    weights_digest,
    write_manifest,
)
from estimators.metrics.calibration import reliability
from experiments.config.models import find_model
from experiments.errors import ConfigError
from experiments.export.card import model_card
from experiments.export.sources import Sources, judged
from experiments.files import without_nan
from experiments.report.figures import reliability_figure
from experiments.report.html import RECORDS
from experiments.schema import one_of
from rl.files import write_json, write_text

ADAPTERS = ("merge", "keep")
"""What becomes of a LoRA adapter: part of the weights, or a file of its own beside the name of its base."""
KEPT = (
    "config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json", "tokenizer*.json",
    "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt",
    "chat_template.jinja",
)  # fmt: skip
"""Files of a checkpoint that are exported; what else lies there, such as pickled training arguments, is not."""
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
DECISION = "decision_config.json"
LEVEL_TOKENS = ("expected_confidence", "confidence_token")
FIGURE = "reliability.svg"


def check_out(out: Path) -> None:
    """Raise ConfigError where ``out`` holds something else than an earlier export, or the command runs in it."""
    if Path.cwd().is_relative_to(out.resolve()):
        raise ConfigError(f"--out {out}: the command runs in this folder, which is replaced; run it from another one")
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not (out / CALIBRATION / MANIFEST).is_file():
        raise ConfigError(f"--out {out}: is not empty and no earlier export; choose another folder")


def write_folder(sources: Sources, out: Path, *, adapters: str = "merge") -> Path:
    """Write the exported folder, in place of an earlier export; returns ``out``.

    Raises ConfigError for weights that are not safetensors or not finite, for a checkpoint whose copy would not be read
    again, and as :func:`check_out` does.
    """
    one_of("--adapters", adapters, ADAPTERS)
    check_out(out)
    place = out.resolve()  # a link stays one
    partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        base = _copy_model(sources.checkpoint, partial, adapters)
        _write_calibration(sources, partial)
        listed = [str(path.relative_to(partial)) for path in partial.rglob("*") if path.is_file()]
        write_manifest(partial, _manifest(sources) | ({} if base is None else {"base": base}), listed)
        _check_readable(partial, sources.checkpoint)
        write_text(partial / "README.md", model_card(sources))
        if place.exists():
            shutil.rmtree(place)
        partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def push(out: Path, repository: str) -> str:
    """Upload an exported folder to a hub, into a private repository if there is none; returns its address.

    Raises ConfigError where the hub does not take it; the folder stays.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        url = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=str(out), commit_message="Export by candor")
    except Exception as error:  # the client's own errors, those of its transport, and files that it cannot read
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConfigError(
            f"--push: {repository} was not uploaded ({said}); {out} is whole: hf upload {repository} {out}"
        ) from error
    return str(url)


def check_push(repository: str) -> None:
    """Raise ConfigError unless the environment allows a hub, and it could have a repository of this name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if os.environ.get("HF_HUB_OFFLINE", "1") != "0":
        raise ConfigError("--push: the hub is not asked unless HF_HUB_OFFLINE=0 is set")
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ConfigError(f"--push: {error}") from error


def _copy_model(checkpoint: Path, out: Path, adapters: str) -> dict[str, str] | None:
    """Copy the weights and what goes with them; returns the base of an adapter that is kept, as the manifest has it."""
    from rl.checkpoint import check_finite, saved_weights

    is_adapter = (checkpoint / ADAPTER_FILES[0]).is_file()
    wanted = KEPT if not is_adapter else tuple(each for each in KEPT if "model*" not in each) + ADAPTER_FILES
    files = sorted({path for pattern in wanted for path in checkpoint.glob(pattern)})
    if not any(path.suffix == ".safetensors" for path in files):
        raise ConfigError(f"export: {checkpoint} holds no weights as safetensors")
    try:
        check_finite(saved_weights(checkpoint))
    except (ValueError, SafetensorError) as error:
        raise ConfigError(f"export: {checkpoint}: {error}") from error
    merged = is_adapter and adapters == "merge"
    for path in files:
        if not (merged and path.name in ADAPTER_FILES):
            shutil.copyfile(path, out / path.name)
    if merged:
        _merge(checkpoint, out)
    return _kept_base(out) if is_adapter and not merged else None


def _kept_base(out: Path) -> dict[str, str]:
    """Write the base of an adapter by a name that holds from anywhere; its path and the digest of its weights.

    Raises ConfigError for one that is not a folder here: what was measured could not be told from what is loaded.
    """
    written = out / ADAPTER_FILES[0]
    content = json.loads(written.read_text(encoding="utf-8"))
    named = content["base_model_name_or_path"]
    base = Path(find_model(named, "export: the base of the adapter")).resolve()
    weights = weights_digest(base)
    if weights is None:
        raise ConfigError(
            f"--adapters keep: its base {named} is no folder with weights here; run it where the base lies, or merge"
        )
    write_json(written, content | {"base_model_name_or_path": str(base)})
    return {"path": str(base), "weights": weights}


def _check_readable(folder: Path, checkpoint: Path) -> None:
    """Raise ConfigError where what was written could not be read again, but for the weights."""
    from transformers import AutoConfig, AutoTokenizer

    from rl.checkpoint import check_tokenizer, read_template

    try:
        if read_template(folder) is None:
            raise ValueError("no calibration/template.json")
        Confidence.load(folder)
        check_tokenizer(folder, AutoTokenizer.from_pretrained(folder))
        if not (folder / ADAPTER_FILES[0]).is_file():  # whose base has the configuration
            AutoConfig.from_pretrained(folder)
    except Exception as error:  # transformers reads what others wrote, and raises what it likes
        reason = str(error).strip().partition("\n")[0].replace(str(folder), str(checkpoint))
        raise ConfigError(f"export: {checkpoint} would not be read again: {reason}") from error


def _merge(checkpoint: Path, out: Path) -> None:
    from peft import PeftModel

    from experiments.config.models import open_policy

    base = json.loads((checkpoint / ADAPTER_FILES[0]).read_text(encoding="utf-8"))["base_model_name_or_path"]
    model, _ = open_policy(base, "export: the base of the adapter")
    PeftModel.from_pretrained(model, str(checkpoint)).merge_and_unload().save_pretrained(out)


def _write_calibration(sources: Sources, out: Path) -> None:
    calibration = out / CALIBRATION
    calibration.mkdir()
    for path in sorted((sources.checkpoint / CALIBRATION).iterdir()):
        if path.suffix in (".json", ".yaml") and path.name not in (GATE, RECALIBRATION, MANIFEST):
            shutil.copyfile(path, calibration / path.name)
    if sources.gate is not None:
        sources.gate.save(calibration / GATE)
    if sources.recalibration is not None:
        sources.recalibration.save(calibration / RECALIBRATION)
    if sources.estimator in LEVEL_TOKENS:
        write_json(out / DECISION, {"format_version": 1, "temperature": sources.temperature})
    confidence, correct = judged(sources.records)
    parsed = sources.records.loc[sources.records["correct"].notna(), "parsed"].to_numpy(bool)
    figure = reliability_figure("reliability", confidence, correct, parsed)
    write_text(calibration / FIGURE, figure.replace("<svg ", '<svg style="background:white" ', 1))


def _manifest(sources: Sources) -> dict[str, Any]:
    """What a router needs to know before it reads a confidence, and where each figure comes from."""
    confidence, correct = judged(sources.records)
    bins = {sources.estimator: [dataclasses.asdict(each) for each in reliability(confidence, correct)]}
    if sources.recalibration is not None:
        mapped = sources.recalibration(confidence)
        bins["recalibrated"] = [dataclasses.asdict(each) for each in reliability(mapped, correct)]
    content = {
        "estimator": sources.estimator,
        "options": sources.options,
        "temperature": sources.temperature,
        "measured": sources.figures,
        "reliability": bins,
        "asked": {
            "chat": sources.recipe.task.chat,
            "instructions": sources.recipe.task.instructions,
            "max_new_tokens": sources.recipe.probe.max_new_tokens,
            "dtype": sources.recipe.model.dtype,
            "attn_implementation": sources.recipe.model.attn_implementation,
        },
        "data": {
            **{name: sources.meta.get(name) for name in ("task", "split", "verifier")},
            "rows": len(sources.records),
            "records": file_digest(sources.probe / RECORDS),
        },
    }
    clean = without_nan(content)
    assert isinstance(clean, dict)
    return clean
