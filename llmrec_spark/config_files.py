"""A YAML file of conf/ with `--set key=value` overrides, read; what is wrong in it is named by its key.

An unknown key is refused with the nearest known one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from llmrec_spark.config import Config
from llmrec_spark.errors import ConfigError


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration in `path` with `key=value` overrides (values are YAML) applied.

    Raises ConfigError naming the file, the key, what was found and the nearest known key.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text ({error.reason}, byte {error.start}).") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). Give --config a YAML file of conf/.") from error
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: found {type(values).__name__}, expected keys such as inputs, tables and mlflow.")
    for override in overrides:
        _override(values, override)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {_explain(detail)}" for detail in error.errors())) from error


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise ConfigError(f"--set {override}: expected key=value, such as match.beta=0.5.")
    *sections, last = key.split(".")
    place = values
    model: Any = Config
    for section in sections:
        field = getattr(model, "model_fields", {}).get(section)
        if place.get(section) is None:  # one entry of a mapping changes that entry, not the others
            default = None if field is None else field.get_default(call_default_factory=True)
            place[section] = dict(default) if isinstance(default, dict) else {}
        model = None if field is None else field.annotation
        place = place[section]
        if not isinstance(place, dict):
            raise ConfigError(f"--set {override}: {section} is a value, not a section.{_nearest(key)}")
    try:
        place[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: {value!r} is not YAML.") from error


def _explain(detail: Any) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{key}: unknown key.{_nearest(key)}"
    if detail["type"] == "missing":
        return f"{key}: is missing. See conf/production.yaml for every key."
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] in ("tuple_type", "list_type"):
        message = "input should be a list such as [a, b]"
    found = "" if key.startswith("notify") else f"found {detail['input']!r}; "  # URLs and arguments may hold secrets
    return f"{key or 'file'}: {found}{message[:1].lower()}{message[1:]}."


def _nearest(key: str) -> str:
    close = difflib.get_close_matches(key, list(known_keys()), n=1, cutoff=0.3)
    return f" Did you mean {close[0]}?" if close else ""


def known_keys(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Every dotted key a file may hold."""
    for name, field in section.model_fields.items():
        yield prefix + name
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from known_keys(kind, f"{prefix}{name}.")
