"""A model's folder as MLflow stores it: an adapted one without the encoder it was adapted from, which another has."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from llmrec_spark.errors import ModelError

ENCODER = "encoder"
GONE = "RESOURCE_DOES_NOT_EXIST"  # an error code of MLflow


def to_store(folder: Path, fetch: Callable[[str], Path]) -> Path:
    """What MLflow is to keep of a model's folder: all of it, or of an adapted one, all but what its base has.

    `fetch` gives the stored folder behind a registry URI; where that is not the base it was, all is kept.
    """
    from llmrec_spark.model.encoder_adapter import FOLDER
    from llmrec_spark.model.whole_folder import link_or_copy

    if _base(folder) is None:
        return folder
    stored = _scratch()
    for file in _files(folder):
        if file.parts[0] != ENCODER or FOLDER in file.parts:
            (stored / file).parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(folder / file, stored / file)
    try:
        from_store(stored, fetch)
    except ModelError:
        return folder
    return stored


def from_store(folder: Path, fetch: Callable[[str], Path]) -> Path:
    """The whole folder of a model that MLflow gave back; `fetch` gives the stored folder behind a registry URI.

    It lives as long as the process where it is not `folder` itself. Raises ModelError where the base is gone or is
    another one.
    """
    from llmrec_spark.model.checkpoint import verify_model
    from llmrec_spark.model.whole_folder import link_or_copy

    base = _base(folder)
    if base is None or (folder / ENCODER / "config.json").exists():
        return folder
    try:
        lent = fetch(base)
    except Exception as error:
        if getattr(error, "error_code", None) != GONE and not isinstance(error, FileNotFoundError):
            raise
        raise ModelError(
            f"model {folder}: was adapted from {base}, whose encoder it reads, and which cannot be had "
            f"({type(error).__name__}). Restore that version, or adapt one that is there with jobs/adapt_encoder.py."
        ) from error
    whole = _scratch()
    for source in (lent / ENCODER, folder):
        for file in _files(source):
            target = whole / (ENCODER if source != folder else "") / file
            target.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(source / file, target)
    verify_model(whole)
    return whole


def inside(version: Path) -> Path:
    """The model's folder in what MLflow stored of a version: there it has the name that it had when it was logged."""
    [folder] = (version / "artifacts").iterdir()
    return folder


def _base(folder: Path) -> str | None:
    """What ModelConfig.base says; None where it cannot be read, which verify_model tells."""
    try:
        found: str | None = json.loads((folder / "config.json").read_bytes()).get("base")
    except (OSError, ValueError, AttributeError):
        return None
    return found


def _files(folder: Path) -> list[Path]:
    return sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())


def _scratch() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="llmrec_model_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
