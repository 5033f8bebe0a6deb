"""Asks a cluster over HTTP: which prefixes it serves, what the catalogue knows of functions,
whether the host and the placement controller have taken new versions, and whether keys are asked
for.

Where they are, a request carries the secret of calls of functions by functions instead of a key: of
whichever user has the state folder (``StateDir.call_secret``). With TLS it is sent to the socket
that this user alone can open (``StateDir.inner_socket``), which asks for no certificate.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import time
import urllib.parse
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any, Final

from deployments.ingress.haproxy.rules import SECRET
from deployments.ray_support.driver_client import RayError
from deployments.ray_support.texts import ROUTES_PATH
from runtime.system.messages import list_names

POLL_S: Final = 0.1

DECIDED_S: Final = 60.0
"""Longest wait; the former version serves meanwhile, and afterwards until the new one is loaded."""

AWAKE: Final = ("ready", "waking", "draining")


def serving_functions(entries: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The functions with a version loaded; a sleeping one takes the new version when it wakes."""
    return frozenset(entry["name"] for entry in entries if entry["state"] in AWAKE)


def is_decided(entry: Mapping[str, Any], version: str) -> bool:
    """Whether a function has taken or refused ``version``, or sleeps and takes it when it wakes."""
    if entry["update"] == "loading":
        return False
    return bool(entry["update"]) or entry["version"] == version or entry["state"] not in AWAKE


def refused_functions(
    url: str,
    versions: Mapping[str, str],
    secret: str = "",
    inner: Path | None = None,
    *,
    timeout_s: float = DECIDED_S,
) -> dict[str, str]:
    """Waits until each function has taken another version, or refused it; blocking.

    Args:
        url: of the server.
        versions: the version hash that each is to take, by name.
        secret, inner: as of the module; empty and None: no keys are asked for, and there is no TLS.

    Returns:
        The reason, for each that did not take it.
    """
    until = time.monotonic() + timeout_s
    undecided = dict(versions)
    why: dict[str, str] = {}
    while undecided:
        for entry in fetch_index(url, secret, inner) or ():  # None while the catalogue restarts
            if entry["name"] in undecided and is_decided(entry, undecided[entry["name"]]):
                del undecided[entry["name"]]
                why[entry["name"]] = entry["update"]
        if time.monotonic() > until:
            why |= dict.fromkeys(undecided, f"it has not loaded within {timeout_s:g} s.")
            break
        time.sleep(POLL_S)
    return {name: reason for name, reason in why.items() if reason}


ROUTE_POLL_S: Final = 0.02

UNAUTHORIZED: Final = 401
"""What a call without a key is answered, once HAProxy knows the keys."""

TIMEOUT_S: Final = 3.0


def served_prefixes(url: str, secret: str = "", inner: Path | None = None) -> frozenset[str]:
    """The prefixes that are served at an address now; none if nothing listens."""
    return frozenset(_get(url, ROUTES_PATH, secret, inner) or ())


def fetch_index(
    url: str, secret: str = "", inner: Path | None = None
) -> list[dict[str, Any]] | None:
    """Every function, as the catalogue at an address shows it; None if no catalogue answers."""
    found = _get(url, "/", secret, inner)
    return found.get("functions") if isinstance(found, dict) else None


def wait_index(
    url: str, secret: str = "", inner: Path | None = None, *, timeout_s: float = DECIDED_S
) -> list[dict[str, Any]] | None:
    """As ``fetch_index``, from the first answer of a catalogue that may be restarting: blocking.
    None: it has not answered in time, which is not the same as no functions.
    """
    until = time.monotonic() + timeout_s
    while (found := fetch_index(url, secret, inner)) is None and time.monotonic() < until:
        time.sleep(POLL_S)
    return found


def fetch_explanation(
    url: str, name: str, secret: str = "", inner: Path | None = None
) -> dict[str, Any] | None:
    """One function and the decisions about it; None if no catalogue answers, or it does not know
    the function.
    """
    found = _get(url, f"/functions/{urllib.parse.quote(name)}", secret, inner)
    return found if isinstance(found, dict) else None


def fetch_lacking(url: str, secret: str = "", inner: Path | None = None) -> dict[str, list[str]]:
    """The promises that HAProxy does not keep on other machines than the catalogue's, by their
    addresses; none if no catalogue answers.
    """
    status, body = _ask(url, "/metrics", {SECRET: secret} if secret else {}, inner)
    found: dict[str, list[str]] = {}
    for machine, promise in _OFF.findall(body.decode()) if status == 200 else ():
        found.setdefault(machine, []).append(promise)
    return found


_OFF: Final = re.compile(
    r'^wakeful_haproxy_promise\{process="haproxy-([^"]+)",promise="(\w+)"\} 0$', re.MULTILINE
)


def _get(url: str, path: str, secret: str, inner: Path | None) -> Any:
    """The JSON that a URL answers with status 200; None for anything else."""
    status, body = _ask(url, path, {SECRET: secret} if secret else {}, inner)
    with contextlib.suppress(ValueError):
        return json.loads(body) if status == 200 else None
    return None


def is_live(url: str, inner: Path | None = None) -> bool:
    """Whether a server answers at all; that takes no key."""
    return _ask(url, "/v2/health/live", {}, inner)[0] == http.HTTPStatus.OK


class _InnerConnection(http.client.HTTPConnection):
    """To a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Open it."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(str(self._path))


def _connection(url: str, inner: Path | None) -> http.client.HTTPConnection:
    if inner is not None:
        return _InnerConnection(inner)
    at = urllib.parse.urlsplit(url)
    kind = http.client.HTTPSConnection if at.scheme == "https" else http.client.HTTPConnection
    return kind(at.hostname or "", at.port, timeout=TIMEOUT_S)


def _ask(url: str, path: str, headers: Mapping[str, str], inner: Path | None) -> tuple[int, bytes]:
    """Status and body of an answer; 0 if there is none."""
    connection = _connection(url, inner)
    try:
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def wait_closed(url: str, inner: Path | None = None, *, timeout_s: float) -> None:
    """Returns as soon as HAProxy knows the keys, and refuses what comes without one; blocking.

    Raises:
        RayError: it is answered still.
    """
    until = time.monotonic() + timeout_s
    while _ask(url, "/v2", {}, inner)[0] != UNAUTHORIZED:
        if time.monotonic() > until:
            raise RayError(
                f"keys are on, and {url} does not ask for one: HAProxy has not taken its new "
                "configuration, or knows no keys. `wakeful status` says why; `wakeful down` closes "
                "it."
            )
        time.sleep(POLL_S)


def wait_routed(
    url: str,
    prefixes: Set[str],
    secret: str = "",
    inner: Path | None = None,
    *,
    timeout_s: float,
) -> None:
    """Returns as soon as every prefix is served; blocking.

    Raises:
        RayError: some are not served in time.
    """
    until = time.monotonic() + timeout_s
    while missing := prefixes - (served := served_prefixes(url, secret, inner)):
        if time.monotonic() > until:
            raise RayError(
                f"{', '.join(sorted(missing))} is not reached at {url}; reached are "
                f"{list_names(sorted(served))}. `wakeful status` says whether Ray still has it, "
                "and the proxy's log, among Ray's, whether HAProxy took its new configuration."
            )
        time.sleep(ROUTE_POLL_S)
