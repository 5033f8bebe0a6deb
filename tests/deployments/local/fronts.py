"""What HAProxy before the processes of a run is tested with."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from deployments.ray_support import ports

CORS = {"origins": ["https://app.example"], "credentials": False, "max_age_s": 600}


@contextmanager
def listening() -> Iterator[socket.socket]:
    """A bound socket."""
    (bound,) = ports.bind("127.0.0.1", 0, fix="")
    with bound:
        yield bound
