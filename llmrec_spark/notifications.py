"""What leaves the system when a run ends: alerts to hooks, run events to OpenLineage, gauges to Prometheus.

Nothing here fails a job: what went wrong comes back as a line for the caller to print. Such a line has a URL's scheme,
host and port only, since user, path and query may be secrets. What goes out are names, counts and versions.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from threading import Thread
from typing import Any, Literal
from urllib.parse import urlsplit

import requests
from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from llmrec_spark.config import HookConfig, NotifyConfig
from llmrec_spark.config_section import without_secrets
from llmrec_spark.lineage_events import run_event

LINEAGE_ENDPOINT = "/api/v1/lineage"
LINEAGE_SECONDS = 5.0
LONGEST_ERROR = 1_000  # characters


def call_hooks(hooks: Sequence[HookConfig], message: Mapping[str, Any]) -> list[str]:
    """Gives each hook the message as JSON, one after the other; one line for each that failed.

    message: job, run_date, run_id, and alerts, a list of name, value, bound and reason. A value that JSON lacks (NaN,
    infinity) is null there. A hook fails when its command cannot start, runs longer than `timeout_seconds` (it is
    killed with all it started) or exits with anything but 0, or when its URL does not answer 2xx within them.
    """
    body = json.dumps(_for_json(message), ensure_ascii=False, default=str)
    failures = []
    for number, hook in enumerate(hooks):
        if hook.command is not None:
            who, expected = f"command {without_secrets(hook.command[0])}", "exit code 0"
            wrong = _run(hook.command, body, hook.timeout_seconds)
        else:
            who, expected = f"webhook {without_secrets(str(hook.webhook))}", "a 2xx answer"
            wrong = _post(str(hook.webhook), body, hook.timeout_seconds)
        if wrong is not None:
            failures.append(
                f"notify.hooks.{number} ({who}): {wrong}, expected {expected} within {hook.timeout_seconds:g} s."
            )
    return failures


def write_prometheus(path: str | Path, gauges: Mapping[str, float], labels: Mapping[str, str]) -> str | None:
    """Replaces a text file for the node exporter's textfile collector in one step; a line when that failed.

    {job} in the path becomes the label `job`. A gauge is llmrec_ and its name, each run of other characters than
    letters, digits and _ being one _. NaN is left out; of two names that become the same, the second in order is.
    """
    path = Path(str(path).replace("{job}", labels.get("job", "job")))
    registry = CollectorRegistry()
    names: dict[str, str] = {}
    for name in sorted(name for name, value in gauges.items() if not math.isnan(value)):
        names.setdefault("llmrec_" + re.sub(r"[^a-zA-Z0-9_]+", "_", name), name)
    try:
        for metric, name in names.items():
            gauge = Gauge(metric, name, labelnames=list(labels), registry=registry)
            (gauge.labels(**labels) if labels else gauge).set(float(gauges[name]))
        write_to_textfile(str(path), registry)
    except (OSError, ValueError) as error:
        return (
            f"notify.prometheus_file ({path}): cannot be written ({_reason(error)}), expected a file in a folder that "
            "this user may write to."
        )
    return None


def emit_lineage(
    config: NotifyConfig,
    *,
    job: str,
    run_id: str,
    run_date: date,
    event: Literal["START", "COMPLETE", "FAIL"],
    inputs: Mapping[str, str],
    input_versions: Mapping[str, str],
    outputs: Sequence[str],
    error: str | None = None,
) -> str | None:
    """POSTs an OpenLineage run event where a URL is configured; a line when that failed.

    inputs: name -> its path, URI or name in a catalog; outputs: such places without names. Events of one job and
    run_id share one run in OpenLineage, those of a later try too. `error` goes out as one line, the secrets of its
    URLs cut; it must hold no id of a person.
    """
    if config.openlineage_url is None:
        return None
    try:
        body = run_event(
            config.openlineage_namespace,
            job=job,
            run_id=run_id,
            run_date=run_date,
            event=event,
            inputs={without_secrets(where): input_versions.get(name) for name, where in inputs.items()},
            outputs=[without_secrets(where) for where in outputs],
            error=" ".join(without_secrets(error or "").split())[:LONGEST_ERROR],
        )
        parts = urlsplit(config.openlineage_url)
        url = parts._replace(path=parts.path.rstrip("/") + LINEAGE_ENDPOINT).geturl()
        wrong = _post(url, body, LINEAGE_SECONDS)
    except Exception as found:  # whatever it is, the run itself stands
        wrong = f"the event cannot be made ({type(found).__name__})"
    if wrong is None:
        return None
    return (
        f"notify.openlineage_url ({without_secrets(config.openlineage_url)}): {event} of run {run_id}: {wrong}, "
        f"expected a 2xx answer within {LINEAGE_SECONDS:g} s."
    )


def _for_json(value: Any) -> Any:
    """The value with null for the numbers that JSON lacks."""
    if isinstance(value, Mapping):
        return {str(key): _for_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_for_json(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _run(command: Sequence[str], text: str, seconds: float) -> str | None:
    """What went wrong with a command that reads the text on its standard input; its output goes nowhere."""
    with tempfile.TemporaryFile() as errors:  # no pipe: what the command leaves behind could hold it open
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
            )
        except (OSError, ValueError) as error:
            return f"cannot be started ({_reason(error)})"
        try:
            process.communicate(text.encode(), timeout=seconds)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # it leads a session of its own
            process.wait()
            return "was still running and was killed"
        if process.returncode == 0:
            return None
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - LONGEST_ERROR))
        said = without_secrets(errors.read().decode(errors="replace")).strip().splitlines()
        return f"exit code {process.returncode} ({said[-1][:200] if said else 'nothing on its standard error'})"


def _post(url: str, body: str, seconds: float) -> str | None:
    """What went wrong with a POST of JSON, without its URL; None when it was answered 2xx in time.

    In a thread, because a time-out of requests is for one wait on the network: not for finding the host, and a server
    that sends a byte now and then has no end.
    """
    found: list[str | None] = []
    thread = Thread(target=lambda: found.append(_answer(url, body, seconds)), daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else "no answer"


def _answer(url: str, body: str, seconds: float) -> str | None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    try:  # a redirect could lead anywhere; the body of the answer is not read
        with requests.post(
            url, data=body.encode(), headers=headers, timeout=seconds, allow_redirects=False, stream=True
        ) as answer:
            return None if 200 <= answer.status_code < 300 else f"answered {answer.status_code}"
    except requests.Timeout:
        return "no answer"
    except Exception as error:  # of several libraries, and their messages hold the URL
        return f"cannot be reached ({_reason(error)})"


def _reason(error: BaseException) -> str:
    """The operating system's words for the innermost cause, which hold no URL; otherwise the kind of error."""
    reason, cause = type(error).__name__, error
    while True:
        if isinstance(cause, OSError) and cause.strerror:
            reason = cause.strerror
        inner = cause.__cause__ or cause.__context__
        if inner is None:
            return reason
        cause = inner
