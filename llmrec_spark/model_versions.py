"""Which version an alias means, and which versions were champion before: aliases and tags of a registered model.

Every function takes an open MlflowClient; `registry` opens it. To set an alias is one atomic call that takes it from
the version it meant before, so `champion` always means a version. Tags are written first: whoever is stopped in
between has changed nothing that scores, and the same command goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from llmrec_spark.errors import ModelError, UsageError

CHAMPION, CHALLENGER = "champion", "challenger"
PROMOTED_AT, ROLLED_BACK_AT = "promoted_at", "rolled_back_at"  # UTC
REPLACED = "replaced_versions"  # champions before this version, the last one first: "3 2 1"
REMEMBERED = 100  # versions in that tag; MLflow keeps 5,000 characters
NOTHING = "none"  # in that tag: a tag cannot be empty


@dataclass(frozen=True)
class ModelVersion:
    """A version of a registered model; `digest` is of its manifest, where its registration logged it."""

    name: str
    number: str
    digest: str | None

    @property
    def uri(self) -> str:
        """As --model takes it, whatever the aliases say later."""
        return f"models:/{self.name}/{self.number}"


@dataclass(frozen=True)
class Contest:
    """Who wants to be champion, and who is; `champion` is None where the registry has none."""

    challenger: ModelVersion
    champion: ModelVersion | None


def open_contest(client: Any, uri: str) -> Contest:
    """The version behind models:/name@alias or models:/name/3, and the champion of the same model.

    Raises ModelError where there is no such version and UsageError where it is the champion already.
    """
    name, wanted = _parts(uri)
    aliases, versions = _aliases(client, name), _versions(client, name)
    number = aliases.get(wanted[1:]) if wanted.startswith("@") else wanted
    if number is None or number not in versions:
        known = ", ".join(sorted(versions, key=int)) or "none"
        raise ModelError(
            f"model {uri}: is not in the registry; versions of {name} there: {known}. Register one with "
            f"jobs/register_model.py --alias {wanted[1:] if wanted.startswith('@') else CHALLENGER}, or give --model "
            "another version."
        )
    champion = aliases.get(CHAMPION)
    if champion == number:
        raise UsageError(f"model {uri}: version {number} is the champion already. Give --model another version.")
    challenger = _model_version(client, name, versions[number])
    return Contest(challenger, None if champion is None else _model_version(client, name, versions[champion]))


def has_champion(client: Any, name: str) -> bool:
    """Whether a version is champion; no model has no versions."""
    return CHAMPION in _aliases(client, name)


def set_alias(client: Any, name: str, alias: str, number: str, tags: Mapping[str, str] | None = None) -> None:
    """Points an alias at a version; where it is `champion`, its tags say since when and whom it replaced."""
    before = _aliases(client, name).get(CHAMPION)
    if alias == CHAMPION and before != number:
        replaced = [] if before is None else [before, *_replaced(_versions(client, name)[before])]
        history = {PROMOTED_AT: _now(), REPLACED: " ".join(replaced[:REMEMBERED]) or NOTHING}
        _set_tags(client, name, number, {**history, **(tags or {})})
    client.set_registered_model_alias(name, alias, number)


def remove_alias(client: Any, name: str, alias: str, number: str) -> bool:
    """Takes an alias from a version; whether it had it."""
    had = _aliases(client, name).get(alias) == number
    if had:
        client.delete_registered_model_alias(name, alias)
    return had


def step_back(client: Any, name: str) -> tuple[str, str]:
    """Makes the version champion that was it before, of those still there; returns the old number and the new one.

    The rest of the history goes over to it, so the next step goes further back. Raises ModelError where there is no
    champion, or nobody before it.
    """
    versions, champion = _versions(client, name), _aliases(client, name).get(CHAMPION)
    if champion is None:
        raise ModelError(f"model {name}: has no alias {CHAMPION} to roll back. Run jobs/register_model.py.")
    before = [number for number in _replaced(versions[champion]) if number in versions]
    if not before:
        raise ModelError(
            f"model {name}: version {champion} is {CHAMPION}, and its tag {REPLACED} names no version before it that "
            f"is still there; there are: {', '.join(sorted(versions, key=int))}. Promote one with "
            f"jobs/promote_model.py --model models:/{name}/N --force."
        )
    number, *rest = before
    _set_tags(client, name, number, {REPLACED: " ".join(rest) or NOTHING})
    client.set_registered_model_alias(name, CHAMPION, number)
    _set_tags(client, name, champion, {ROLLED_BACK_AT: _now()})
    return champion, number


def _parts(uri: str) -> tuple[str, str]:
    """models:/name@alias -> name, @alias; models:/name/3 -> name, 3."""
    reference = uri.removeprefix("models:/")
    name, at, alias = reference.partition("@")
    if not at:
        name, _, alias = reference.partition("/")
    if reference == uri or not name or not alias:
        raise UsageError(
            f"model {uri}: only a registered version can be champion, models:/name@alias or models:/name/3."
        )
    return name, at + alias


def _aliases(client: Any, name: str) -> dict[str, str]:
    found = client.search_registered_models(filter_string=f"name = '{name}'")
    return {alias: str(number) for model in found for alias, number in model.aliases.items()}


def _versions(client: Any, name: str) -> dict[str, Any]:
    """Every version by its number."""
    page = client.search_model_versions(f"name = '{name}'")
    found = list(page)
    while page.token:
        page = client.search_model_versions(f"name = '{name}'", page_token=page.token)
        found += page
    return {str(version.version): version for version in found}


def _model_version(client: Any, name: str, version: Any) -> ModelVersion:
    params = client.get_run(version.run_id).data.params if version.run_id else {}
    return ModelVersion(name, str(version.version), params.get("model_digest"))


def _replaced(version: Any) -> list[str]:
    return [number for number in version.tags.get(REPLACED, NOTHING).split() if number != NOTHING]


def _set_tags(client: Any, name: str, number: str, tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        client.set_model_version_tag(name, number, key, value)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
