"""What Ray writes for people, or for HTTP, and Wakeful reads: messages of status, output files of
processes, error pages and headers. None of it is documented. Pure.

The titles of processes are in ``processes``, the file for HAProxy is read in
``deployments.ingress.haproxy``; that all of it is as here, ``assumptions`` sees.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

_WAITS: Final = re.compile(
    r"Resources required for each replica: (\{.*?\}), total resources available: (\{.*?\})"
)
_NUMBER: Final = re.compile(r"""["']([^"']+)["']: ?([0-9.]+)""")
_ERROR: Final = re.compile(
    r"^(?:[A-Za-z_]\w*\.)*(?P<kind>[A-Za-z_]\w*(?:Error|Exception|Exit|Interrupt)): "
    r"(?P<message>.+)$",
    re.MULTILINE,
)
_DEATH: Final = re.compile(
    r"Actor\w*Error: .*\n\tclass_name: (?P<actor>\S+)\n(?:\t.*\n)*(?P<why>.+)"
)
_LOADS: Final = "to initialize"


class WantedAndFree(NamedTuple):
    """Resources by Ray's names, as text."""

    wanted: dict[str, str]
    free: dict[str, str]


class RaisedError(NamedTuple):
    """The last error of a traceback: its class without the module, and its message."""

    kind: str
    message: str


class ActorDeath(NamedTuple):
    """An actor that died: what it was, and why."""

    actor: str
    why: str


def read_wait(message: str) -> WantedAndFree | None:
    """What a replica waits for that is not placed yet, and what is free; None: the message is
    another. Ray says so too of a replica whose process takes long to start, though there is room.
    """
    found = _WAITS.search(message)
    if found is None:
        return None
    wanted, free = (dict(_NUMBER.findall(text)) for text in found.groups())
    return WantedAndFree(wanted, free)


def is_loading(message: str) -> bool:
    """Whether it is about a replica whose constructor takes long."""
    return _LOADS in message


def read_error(message: str) -> RaisedError | ActorDeath | None:
    """The last error in a message, with a traceback perhaps."""
    errors = list(_ERROR.finditer(message))
    if not errors:
        return None
    if death := _DEATH.search(message, errors[-1].start()):
        return ActorDeath(death["actor"], death["why"])
    return RaisedError(errors[-1]["kind"], errors[-1]["message"])


LAST_SESSION: Final = "session_latest"
"""A link in Ray's folder to that of its last session."""

OUTPUT_FILES: Final = "worker-*.*"
"""The output files of processes in a session's log folder."""

HEAD_BYTES: Final = 500
"""Within these first bytes of an output file Ray writes which actor it belongs to."""

_OUTPUT: Final = re.compile(r"(worker-.+)\.(?:out|err)(?:\.(\d+))?$")
_OWN_LINE: Final = re.compile(r"^:(job_id|actor_name|task_name):")
_STAMP: Final = re.compile(r"^\w+ (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) (\S+)")
_ACTOR: Final = b":actor_name:"


class OutputFile(NamedTuple):
    """An output file: of which process, and the number of a full one, 0 of the one that goes on."""

    process: str
    number: int


class RecordHead(NamedTuple):
    """How Ray Serve and ``function_context`` begin a record: when, in local time, and the
    function.
    """

    at: str
    function: str


def read_output_name(name: str) -> OutputFile | None:
    """Whose output a file of this name has."""
    found = _OUTPUT.match(name)
    return OutputFile(found[1], int(found[2] or 0)) if found else None


def read_record_head(line: str) -> RecordHead | None:
    """None: the line belongs to the record above."""
    found = _STAMP.match(line)
    return RecordHead(found[1], found[2]) if found else None


def is_rays_line(line: str) -> bool:
    """Whether Ray writes the line for itself: which actor the output belongs to."""
    return _OWN_LINE.match(line) is not None


def names_an_actor(head: bytes) -> bool:
    """Whether the beginning of an output file says whose it is."""
    return _ACTOR in head


def names_replica(head: bytes, applications: Iterable[str]) -> bool:
    """Whether it says that it is a replica's, of one of these applications."""
    return any(_ACTOR + f"ServeReplica:{name}:".encode() in head for name in applications)


SERVE_PATHS: Final = "/-/"
"""Paths that Serve answers itself: HAProxy checks the proxy's health there, however many calls
wait.
"""

HEALTH_PATH: Final = "/-/healthz"
"""Where HAProxy asks each process whether it serves."""

ROUTES_PATH: Final = "/-/routes"
"""Where Serve, or HAProxy, says which prefixes are served: plain JSON, names by prefix."""

TIMEOUT_HEADER: Final = b"x-request-timeout-seconds"
"""A caller's deadline, which Serve obeys."""

NO_DISCONNECT_HEADER: Final = b"x-request-disconnect-disabled"
"""Serve then does not look whether the caller is there still."""


def is_error_page(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a response is Serve's own error page and no answer of a function's: whose errors are
    JSON.
    """
    if status < 500 and status != 408:
        return False
    kinds = [value for key, value in headers if key.lower() == b"content-type"]
    return not kinds or not kinds[0].startswith(b"application/json")
