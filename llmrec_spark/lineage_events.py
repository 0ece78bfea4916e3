"""A run as OpenLineage tells it: one event as JSON, with tables named as its specification names them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

PRODUCER = "urn:llmrec-spark"  # the code that sent an event


def run_event(
    namespace: str,
    *,
    job: str,
    run_id: str,
    run_date: date,
    event: str,
    inputs: Mapping[str, str | None],
    outputs: Sequence[str],
    error: str,
) -> str:
    """A RunEvent as JSON. inputs: place -> version; outputs: places; a FAIL says `error`."""
    from openlineage.client import event_v2 as lineage  # here: half a second, for who has configured it
    from openlineage.client.facet_v2 import RunFacet, dataset_version_dataset, error_message_run, nominal_time_run
    from openlineage.client.serde import Serde

    midnight = f"{run_date}T00:00:00Z"
    facets: dict[str, RunFacet] = {"nominalTime": nominal_time_run.NominalTimeRunFacet(midnight, producer=PRODUCER)}
    if event == "FAIL":
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(error, "PYTHON", producer=PRODUCER)
    read = [lineage.InputDataset(*dataset_name(place, namespace=namespace)) for place in inputs]
    for dataset, version in zip(read, inputs.values(), strict=True):
        if version is not None:
            facet = dataset_version_dataset.DatasetVersionDatasetFacet(version, producer=PRODUCER)
            dataset.facets = {"version": facet}
    return Serde.to_json(
        lineage.RunEvent(
            eventType=lineage.RunState(event),
            eventTime=datetime.now(UTC).isoformat(timespec="milliseconds"),
            run=lineage.Run(str(uuid5(NAMESPACE_URL, f"{PRODUCER}:{job}:{run_id}")), facets=facets),
            job=lineage.Job(namespace, job),
            producer=PRODUCER,
            inputs=read,
            outputs=[lineage.OutputDataset(*dataset_name(place, namespace=namespace)) for place in outputs],
        )
    )


def dataset_name(place: str, *, namespace: str) -> tuple[str, str]:
    """OpenLineage's namespace and name of a table: (s3://bucket, key), (file, path), or (ours, the name in a catalog).

    place: a URI, a folder (it has a /), either as Spark SQL names it (delta.`...`), or a name in a catalog.
    """
    place = re.sub(r"^delta\.`(.*)`$", r"\1", place).rstrip("/")
    if "://" not in place and "/" not in place:
        return namespace, place
    scheme, separator, rest = re.sub(r"^s3[an]://", "s3://", place).partition("://")
    if not separator or scheme == "file":
        return "file", str(Path(rest or place.removeprefix("file:")).resolve())
    authority, _, key = rest.partition("/")
    return f"{scheme}://{authority}", f"/{key}" if scheme == "hdfs" else key
