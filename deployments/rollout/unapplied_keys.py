"""Keys of a file that a command does not act on: ``wakeful run`` warns of them, ``wakeful up``
refuses those that it would have to ignore.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runtime.declaration.config_file import ConfigFile
from runtime.errors import Problem

ONLY_SERVE_DEPLOY: Final = ("runtime_env", "deployments", "autoscaling_policy")
"""Keys of an application that Ray's Python interface has no place for; ``serve deploy`` applies
them.
"""

_UNUSED_BY_RUN: Final[Mapping[str, str]] = {
    "runtime_env": "`wakeful run` and `wakeful up` install and set nothing: stages import what is"
    ' installed beside Wakeful, and get variables by `with: {NAME: "${VARIABLE}"}`. `serve'
    " deploy` applies it.",
    "deployments": "no effect under `wakeful run`, and `wakeful up` refuses it; `serve deploy`"
    " applies it.",
    "autoscaling_policy": "no effect under `wakeful run`, and `wakeful up` refuses it; `serve"
    " deploy` applies it.",
    "target_capacity": "no effect under `wakeful run`, and `wakeful up` refuses it; `serve deploy`"
    " applies it.",
    "logging_config": "no effect under `wakeful run`: it is of Ray Serve's own logs. What stages"
    " log: docs/logging.md.",
    "tracing_config": "no effect under `wakeful run`: it is of Ray Serve's own traces. Those of"
    " calls: docs/traces.md.",
    "grpc_options": "no effect under `wakeful run`, which has no gRPC.",
    "controller_options": "no effect under `wakeful run`, which has no controller of Ray Serve's.",
}
"""What is said of a key that one process does not act on."""

_UNUSED_HTTP: Final[Mapping[str, str]] = {
    "root_path": "no effect under `wakeful run`: functions are at their `route_prefix`. Let the"
    " proxy take the path away.",
    "request_timeout_s": "no effect under `wakeful run`: a function's deadline is"
    " `limits: {request_timeout_s: SECONDS}`.",
    "keep_alive_timeout_s": "no effect under `wakeful run`, which keeps an idle connection for"
    " 90 s.",
}


def unused_keys(file: ConfigFile) -> list[Problem]:
    """Keys of Ray's that a file has and ``wakeful run`` does not act on, to be warned of."""
    found = [
        file.problem(key, message)
        for key, message in _UNUSED_BY_RUN.items()
        if file.raw.get(key) is not None
    ]
    found += [
        file.problem(f"{file.key_of(function.name)}.{key}", message)
        for function in file.functions
        for key, message in _UNUSED_BY_RUN.items()
        if file.raw["applications"][file.positions[function.name]].get(key) is not None
    ]
    http = file.raw.get("http_options") or {}
    found += [
        file.problem(f"http_options.{key}", message)
        for key, message in _UNUSED_HTTP.items()
        if http.get(key) not in (None, "")
    ]
    return sorted(found, key=lambda problem: problem.line)


def uncounted_keys(file: ConfigFile) -> list[Problem]:
    """Likewise, where no HAProxy stands before the process that other machines reach."""
    if file.connections_per_address is None:
        return []
    message = (
        "no effect where one process serves by itself, which closes the connections that have"
        " waited longest for others. With keys, TLS or `--workers` HAProxy counts them."
    )
    return [file.problem("http.connections_per_address", message)]


def unappliable_problems(file: ConfigFile) -> list[Problem]:
    """Keys of a file that ``up`` would have to ignore, and refuses instead."""
    message = "`wakeful up` has no way to apply this; `serve deploy` has. Remove it, or use that."
    problems = [
        file.problem(f"applications[{index}].{key}", message)
        for index, data in enumerate(file.raw["applications"])
        for key in ONLY_SERVE_DEPLOY
        if data.get(key) is not None
    ]
    if file.raw.get("target_capacity") is not None:
        problems.append(file.problem("target_capacity", message))
    if file.host is not None and file.catalogue is None:
        index = file.raw["applications"].index(file.host)
        problems.append(
            file.problem(
                f"applications[{index}]",
                "a host needs the catalogue, which owns placement, and another application of the"
                " file is at `/`. Give that one a prefix of its own.",
            )
        )
    return sorted(problems, key=lambda problem: problem.line)
