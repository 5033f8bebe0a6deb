"""Of Ray's environment: each variable that Wakeful sets is one that the installed Ray reads."""

from __future__ import annotations

import mmap
import re
from functools import cache
from pathlib import Path
from typing import Final

from deployments.ray_support import deadlines, environment
from runtime.system.assumptions import Assumption, require

READERS: Final = ("serve", "_private", "_common", "util", "autoscaler/_private/kuberay")
"""Folders of Ray's package with Python that reads variables."""


def rays_variables() -> list[str]:
    """The names of Ray's variables that are set for some cluster."""
    ports = environment.SidePorts(1, 2, 3, 4)
    variables = (
        *environment.SERVING,
        *environment.OPEN_CLUSTER,
        environment.LOCAL_CLUSTER,
        *environment.local_variables(Path("/"), ports, is_alone=False),
        deadlines.hard_stop(1),
        deadlines.proxy_patience(1),
    )
    names = {one.name for one in variables} | {
        environment.HAPROXY_PROGRAM,
        environment.HAPROXY_LOG,
        "RAY_AUTH_TOKEN",
    }
    return sorted(name for name in names if name.startswith("RAY_"))


@cache
def _package() -> Path:
    import ray

    return Path(ray.__file__).parent


@cache
def _read_by_python() -> frozenset[str]:
    """The names that stand between quotes."""
    texts = (
        path.read_text(encoding="utf-8")
        for folder in READERS
        for path in (_package() / folder).rglob("*.py")
    )
    return frozenset(name for text in texts for name in re.findall(r'"(RAY_\w+)"', text))


@cache
def _read_by_binary(name: str) -> bool:
    """A setting of Ray's core is in its library by its name, which in the environment has ``RAY_``
    before it.
    """
    library = next(_package().glob("_raylet*"))
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as code:
        wanted = (name, name.removeprefix("RAY_"))
        return any(code.find(b"\0" + one.encode() + b"\0") >= 0 for one in wanted)


def _assumption(name: str) -> Assumption:
    def check() -> None:
        is_read = name in _read_by_python() or _read_by_binary(name)
        require(is_read, "nothing in the installed Ray reads it")

    reasons = {one.name: one.reason for one in environment.SERVING}
    return Assumption(name, reasons.get(name, "See `ray_support.environment`."), "", check)


NAMES: Final = tuple(map(_assumption, rays_variables()))
