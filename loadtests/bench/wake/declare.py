"""The files that are served: the shipped functions with other settings, and functions made for one section, as plain data.

Written as JSON, which is YAML; so there is nothing to keep in step with the shipped file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runtime.specfile import read

Application = dict[str, Any]
"""An entry of ``applications``."""

CATALOGUE: Application = {"name": "catalogue", "route_prefix": "/", "import_path": "deployments:catalogue"}
HOST: Application = {"name": "host", "route_prefix": "/v2/models", "import_path": "deployments:host"}

KEPT = "1000"
"""Of ``WAKEFUL_PROMOTE_WORK``: as many cores of work as nothing does, so that everything stays in the host."""


def shipped(file: Path) -> dict[str, Application]:
    """The applications of a file, by name."""
    return {application["name"]: application for application in read(file).raw["applications"]}


def function(name: str, graph: Sequence[Mapping[str, Any]], **args: Any) -> Application:
    """A function at the usual prefix."""
    prefix = f"/v2/models/{name}"
    return {"name": name, "route_prefix": prefix, "import_path": "deployments:function", "args": {"graph": list(graph), **args}}


def like(application: Application, name: str, **changes: Any) -> Application:
    """The same function under another name, with other sections of its ``args``."""
    args = {**application["args"], **changes}
    return function(name, **args)


def sleepy(delay_s: float, **more: Any) -> dict[str, Any]:
    """``autoscaling`` of a function that sleeps after so many seconds."""
    return {"min_replicas": 0, "max_replicas": 1, "downscale_to_zero_delay_s": delay_s, **more}


def write(file: Path, functions: Iterable[Application]) -> Path:
    """A file with these functions, the catalogue and the host."""
    http = {"host": "127.0.0.1", "port": 8000}
    file.write_text(json.dumps({"http_options": http, "applications": [CATALOGUE, HOST, *functions]}, indent=1))
    return file
