"""What is asked of a cluster over HTTP: which prefixes it reaches, and what the catalogue knows."""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
from collections.abc import Set
from typing import Any, Final

from deployments.children import RayError

POLL_S: Final = 0.02
TIMEOUT_S: Final = 3.0


def routed(url: str) -> frozenset[str]:
    """The prefixes that are served at an address now; none if nobody listens."""
    return frozenset(_get(url, "/-/routes") or ())


def index(url: str) -> list[dict[str, Any]] | None:
    """Every function, as the catalogue at an address shows it; None if none answers."""
    found = _get(url, "/")
    return found.get("functions") if isinstance(found, dict) else None


def explained(url: str, name: str) -> dict[str, Any] | None:
    """One function and the decisions about it; None if no catalogue answers, or it knows of none."""
    found = _get(url, f"/functions/{urllib.parse.quote(name)}")
    return found if isinstance(found, dict) else None


def _get(url: str, path: str) -> Any:
    """What a URL answers with 200, decoded from JSON; None for everything else."""
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
    """Return as soon as every prefix is served.

    Raises:
        RayError: some are not in time.
    """
    until = time.monotonic() + timeout_s
    while missing := prefixes - routed(url):
        if time.monotonic() > until:
            raise RayError(f"{', '.join(sorted(missing))} is not reached at {url}, though Ray calls it running.")
        time.sleep(POLL_S)
