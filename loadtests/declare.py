"""The files that are served, as plain data: shipped functions with other settings, and functions
made for one section. Written as JSON, which is YAML.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from runtime.declaration.config_file import read

Application = dict[str, Any]
"""An entry of ``applications``."""

CATALOGUE: Application = {
    "name": "catalogue",
    "route_prefix": "/",
    "import_path": "deployments:catalogue",
}
HOST: Application = {
    "name": "host",
    "route_prefix": "/v2/models",
    "import_path": "deployments:host",
}

SHIPPED = Path(__file__).parents[1] / "serve_config.yaml"

KEPT = "1000"
"""Of ``WAKEFUL_PROMOTE_WORK``: more cores of work than there are, so that all stay in the host."""


ROOM = {"WAKEFUL_LOGICAL_CPUS_PER_CORE": "16"}
"""Many workers find room on a few cores."""


@cache
def shipped() -> dict[str, dict[str, Any]]:
    """The ``args`` of the functions that ship with Wakeful, by name."""
    return {one["name"]: one["args"] for one in read(SHIPPED).raw["applications"] if "args" in one}


def function(name: str, graph: Sequence[Mapping[str, Any]], **args: Any) -> Application:
    """A function at the usual prefix."""
    return {
        "name": name,
        "route_prefix": f"/v2/models/{name}",
        "import_path": "deployments:function",
        "args": {"graph": list(graph), **args},
    }


def like(shipped_name: str, name: str = "", **changes: Any) -> Application:
    """A shipped function under a name, with other sections of its ``args``."""
    args = shipped()[shipped_name]
    return function(name or shipped_name, **{**args, **changes})


def example(shipped_name: str) -> dict[str, Any]:
    """The row that the shipped file shows for a function."""
    found: dict[str, Any] = shipped()[shipped_name]["example"]
    return found


def sleepy(delay_s: float, **more: Any) -> dict[str, Any]:
    """``autoscaling`` of a function that sleeps after so many seconds."""
    return {"min_replicas": 0, "max_replicas": 1, "downscale_to_zero_delay_s": delay_s, **more}


def write(
    file: Path, functions: Iterable[Application], http: Mapping[str, Any] | None = None
) -> Path:
    """A file with these functions, the catalogue and the host.

    Args:
        http: its section of this name.
    """
    options = {"host": "127.0.0.1", "port": 8000}
    content = {
        **({"http": http} if http else {}),
        "http_options": options,
        "applications": [CATALOGUE, HOST, *functions],
    }
    file.write_text(json.dumps(content, indent=1))
    return file
