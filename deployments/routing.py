"""Which prefixes HTTP reaches: HAProxy learns of them after Ray Serve calls an application running."""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
from collections.abc import Set
from typing import Final

from deployments.children import RayError

POLL_S: Final = 0.02
TIMEOUT_S: Final = 1.0


def routed(url: str) -> frozenset[str]:
    """The prefixes that are served at an address now; none if nobody listens."""
    at = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/-/routes")
        response = connection.getresponse()
        return frozenset(json.loads(response.read())) if response.status == 200 else frozenset()
    except (OSError, http.client.HTTPException, ValueError):
        return frozenset()
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
