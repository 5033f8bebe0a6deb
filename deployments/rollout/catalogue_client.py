"""Asks a cluster over HTTP: which prefixes it serves, what the catalogue knows of functions, and
whether the host and the placement controller have taken new versions.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
from collections.abc import Iterable, Mapping, Set
from typing import Any, Final

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
    url: str, versions: Mapping[str, str], *, timeout_s: float = DECIDED_S
) -> dict[str, str]:
    """Waits until each function has taken another version, or refused it; blocking.

    Args:
        url: of the server.
        versions: the version hash that each is to take, by name.

    Returns:
        The reason, for each that did not take it.
    """
    until = time.monotonic() + timeout_s
    undecided = dict(versions)
    why: dict[str, str] = {}
    while undecided:
        for entry in fetch_index(url) or ():  # None while the catalogue restarts
            if entry["name"] in undecided and is_decided(entry, undecided[entry["name"]]):
                del undecided[entry["name"]]
                why[entry["name"]] = entry["update"]
        if time.monotonic() > until:
            why |= dict.fromkeys(undecided, f"it has not loaded within {timeout_s:g} s.")
            break
        time.sleep(POLL_S)
    return {name: reason for name, reason in why.items() if reason}


ROUTE_POLL_S: Final = 0.02
TIMEOUT_S: Final = 3.0


def served_prefixes(url: str) -> frozenset[str]:
    """The prefixes that are served at an address now; none if nothing listens."""
    return frozenset(_get(url, ROUTES_PATH) or ())


def fetch_index(url: str) -> list[dict[str, Any]] | None:
    """Every function, as the catalogue at an address shows it; None if no catalogue answers."""
    found = _get(url, "/")
    return found.get("functions") if isinstance(found, dict) else None


def fetch_explanation(url: str, name: str) -> dict[str, Any] | None:
    """One function and the decisions about it; None if no catalogue answers, or it does not know
    the function.
    """
    found = _get(url, f"/functions/{urllib.parse.quote(name)}")
    return found if isinstance(found, dict) else None


def _get(url: str, path: str) -> Any:
    """The JSON that a URL answers with status 200; None for anything else."""
    at = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return json.loads(response.read()) if response.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def wait_routed(url: str, prefixes: Set[str], *, timeout_s: float) -> None:
    """Returns as soon as every prefix is served; blocking.

    Raises:
        RayError: some are not served in time.
    """
    until = time.monotonic() + timeout_s
    while missing := prefixes - (served := served_prefixes(url)):
        if time.monotonic() > until:
            raise RayError(
                f"{', '.join(sorted(missing))} is not reached at {url}; reached are "
                f"{list_names(sorted(served))}. `wakeful status` says whether Ray still has it, "
                "and the proxy's log, among Ray's, whether HAProxy took its new configuration."
            )
        time.sleep(ROUTE_POLL_S)
