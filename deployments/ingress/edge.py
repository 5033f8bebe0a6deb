"""Whether a process of Ray's asks for the edge's secret (``runtime.http.transport.edge``), decided
from what ``up`` wrote down on this machine.

It does where calls need keys, or other machines reach its port: those of the cluster do, and with
them whatever else is on their network. HAProxy adds the secret in these cases, too. Keys can be
turned on while a cluster runs: processes look again when a request comes that is no short call of a
connection that they know, once a second at most; HAProxy's health checks are such. What is decided
then holds for the connections that they know as well, and nothing is on the way of a call until
then.

Not on clusters that ``up`` did not start: nothing says there that HAProxy has a configuration of
ours on each machine, and if it has not, nothing would be answered.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from deployments.control.machine_clocks import MachineClocks
from deployments.ingress.tls.files import TlsFiles
from deployments.ray_support.environment import LOOPBACK, MARK
from deployments.ray_support.secret_store import edge_secret, secret_of_token
from deployments.ray_support.texts import HEALTH_PATH
from runtime.http.transport.edge import LIVE, EdgeGuard

LOOK_S: Final = 1.0
"""How old may be what is known of the state folder."""

GRACE_S: Final = 10.0
"""After keys were turned on while a process runs: its HAProxy adds the secret from its next reload
on, which is asked for within a second or two.
"""


def wants_guard(up: Mapping[str, Any]) -> bool:
    """Whether processes of a cluster answer only what came through the edge.

    Args:
        up: as ``up`` wrote it down (``state_dir.ClusterState``).

    Raises:
        ValueError: it is not in that form.
    """
    is_alone = up.get("kind") == "own" and up.get("node_ip", LOOPBACK) == LOOPBACK
    files = TlsFiles.from_json(up.get("tls", ""))
    has_certificates = files is not None and files.asks_for_certificates
    return not is_alone or bool(up.get("auth")) or has_certificates


class Edge:
    """What this process asks of requests. Used on one event loop.

    Args:
        environ: of the process.

    Mutable state: ``_guard`` (None: nothing is asked), ``_clocks``; ``_looked_at`` and ``_seen``,
    when the state folder was looked at, seconds of ``time.monotonic``, and how its file was then.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        home, secret = environ.get(MARK, ""), secret_of_token(environ)
        self._file = Path(home, "up.json") if home and secret else None
        self._asking = (
            EdgeGuard(edge_secret(secret).encode(), secret.encode(), open_paths=(LIVE, HEALTH_PATH))
            if secret
            else None
        )
        self._guard: EdgeGuard | None = None
        self._clocks: MachineClocks | None = None
        self._seen: tuple[int, int, int] | None = None
        self._looked_at = float("-inf")

    @property
    def clocks(self) -> MachineClocks | None:
        """By which the arrival of calls from other machines is read; None: there are none."""
        return self._clocks

    @property
    def guard(self) -> EdgeGuard | None:
        """What tells requests that came through the edge; None: all are answered."""
        if self._file is not None:
            now = time.monotonic()
            if now >= self._looked_at + LOOK_S:
                self._looked_at = now
                self._look(self._file)
        return self._guard

    def _look(self, file: Path) -> None:
        """Until it is known, it is asked. A file that is gone is of a cluster that ends."""
        try:
            found = file.stat()
            seen = found.st_ino, found.st_mtime_ns, found.st_size
            if seen == self._seen:
                return
            up = json.loads(file.read_bytes())
            is_wanted, machine = wants_guard(up), up.get("node_ip", "")
            was_known = self._seen is not None and self._guard is None
            if is_wanted and was_known and time.time() < found.st_mtime + GRACE_S:
                return
        except (OSError, ValueError, AttributeError):
            if self._seen is not None:
                return
            seen, is_wanted, machine = None, True, ""
        self._seen = seen
        self._guard = self._asking if is_wanted else None
        if machine not in ("", LOOPBACK) and self._clocks is None:
            self._clocks = MachineClocks(machine)
