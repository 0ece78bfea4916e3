"""What every part of the configuration is, and what of it may be shown."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the configuration: immutable, and a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def without_secrets(text: str) -> str:
    """The text with its web addresses cut after the host, and passwords and queries cut out of other URIs."""
    text = re.sub(r"\b(https?://)(?:[^\s/?#]*@)?([^\s/?#]*)\S*", r"\1\2", text, flags=re.IGNORECASE)
    text = re.sub(r"(?<=://)[^\s/?#@]*:[^\s/?#]*@", "", text)
    text = re.sub(r"\b(?!abfss?:|wasbs?:)(\w[\w+.-]*://)[^\s/?#@]*@", r"\1", text)  # abfss://container@account is none
    return re.sub(r"(\w://[^\s?]*)\?\S*", r"\1", text)


def public(value: Any) -> Any:
    """A configuration as plain values, each text of it without_secrets."""
    if isinstance(value, dict):
        return {key: public(one) for key, one in value.items()}
    if isinstance(value, list):
        return [public(one) for one in value]
    return without_secrets(value) if isinstance(value, str) else value
