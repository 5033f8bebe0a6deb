"""Where a model of an MLflow server lies: asked by its REST interface, which takes fewer requests
than its client has packages (``mlflow-skinny`` brings twenty).

Sources: MLflow's *REST API* (``model-versions/get-download-uri``, ``runs/get``,
``logged-models/get``, ``mlflow-artifacts/artifacts``), *Tracking server* (``MLFLOW_TRACKING_…``).
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final
from urllib.parse import quote, urlencode

from runtime.artifacts.remote.web import WebObject
from runtime.errors import StoreError
from runtime.settings import MlflowServer
from runtime.system.model_locations import (
    MlflowLocation,
    ObjectLocation,
    has_credentials,
    parse_location,
)

MAX_ANSWER_BYTES: Final = 4 << 20

RUN: Final = ("run", "info", "artifact_uri")
LOGGED: Final = ("model", "info", "artifact_uri")
OF_RUN: Final = "runs:/"
"""How the source of a version begins that is a folder of a run."""

LOGGED_MODEL: Final = "models:/m-"
"""How the source of a version begins that is a model of MLflow 3, which lies by itself."""

ADVICE: Final = (
    "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
)


def find_artifact(location: MlflowLocation, server: MlflowServer) -> ObjectLocation | WebObject:
    """Where the file lies: an address of its own, or the server itself, which hands artifacts on.

    Raises:
        StoreError: there is no server, no such model, or it lies where it cannot be fetched.
        Interrupted: the server did not answer.
    """
    if not server.url.startswith(("https://", "http://")):
        raise StoreError(
            f"{location}: MLFLOW_TRACKING_URI is no address of a server. Set it, as"
            " https://mlflow.example; a store of files or a database is not read."
        )
    if location.run:
        root = _run_folder(location, server, location.run)
    else:
        version = urlencode({"name": location.model, "version": location.version})
        root = _ask(location, server, f"model-versions/get-download-uri?{version}", "artifact_uri")
        if root.startswith(LOGGED_MODEL):
            logged = quote(root.removeprefix("models:/").strip("/"))
            root = _ask(location, server, f"logged-models/{logged}", *LOGGED)
        elif root.startswith(OF_RUN):
            run, _, path = root.removeprefix(OF_RUN).partition("/")
            root = f"{_run_folder(location, server, run).rstrip('/')}/{path}"
    return _locate(location, server, f"{root.rstrip('/')}/{location.path}")


def _run_folder(location: MlflowLocation, server: MlflowServer, run: str) -> str:
    """Where the artifacts of a run lie."""
    return _ask(location, server, "runs/get?" + urlencode({"run_id": run}), *RUN)


def _locate(location: MlflowLocation, server: MlflowServer, uri: str) -> ObjectLocation | WebObject:
    scheme, _, rest = uri.partition(":")
    if scheme == "mlflow-artifacts":
        # mlflow-artifacts:/PATH, or //HOST/PATH of a server that is this one
        path = rest.lstrip("/") if not rest.startswith("//") else rest[2:].partition("/")[2]
        base = f"{server.url.rstrip('/')}/api/2.0/mlflow-artifacts/artifacts/"
        return WebObject(base + quote(path), str(location), headers=_headers(server), advice=ADVICE)
    found = None if has_credentials(uri) else parse_location(uri)
    if isinstance(found, ObjectLocation):
        return found
    raise StoreError(
        f"{location}: its artifacts lie at {scheme}:, which is not read here. s3:, gs:, https: and"
        " artifacts that the MLflow server hands on (--serve-artifacts) are."
    )


def _ask(location: MlflowLocation, server: MlflowServer, path: str, *keys: str) -> str:
    """The text at these keys of the server's answer.

    Raises:
        StoreError: it refuses, or does not answer as MLflow does.
        Interrupted: it does not answer.
    """
    url = f"{server.url.rstrip('/')}/api/2.0/mlflow/{path}"
    remote = WebObject(url, str(location), headers=_headers(server), advice=ADVICE)
    body = bytearray()
    with remote.open(0, "") as opened:
        for chunk in opened.chunks:
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise StoreError(f"{location}: the answer of MLFLOW_TRACKING_URI does not end.")
    try:
        found: Any = json.loads(bytes(body))
        for key in keys:
            found = found[key]
    except (ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, str) or not found:
        raise StoreError(
            f"{location}: MLFLOW_TRACKING_URI answers, and not as MLflow does. Correct it."
        )
    return found


def _headers(server: MlflowServer) -> dict[str, str]:
    if server.token:
        return {"authorization": f"Bearer {server.token}"}
    if server.user:
        pair = base64.b64encode(f"{server.user}:{server.password}".encode()).decode()
        return {"authorization": f"Basic {pair}"}
    return {}
