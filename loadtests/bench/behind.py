"""The floor behind an HAProxy that buffers, splices and sends again as ours does: what the way through it costs, whoever serves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from deployments.haproxy import binary
from deployments.rayenv import SERVING
from loadtests.bench.children import Child
from loadtests.bench.serving import HOST, free_port

_SET: Final = {variable.name.removeprefix("RAY_SERVE_HAPROXY_"): variable.value for variable in SERVING}

CONFIGURATION: Final = f"""\
global
    maxconn 100
    nbthread {_SET["NBTHREAD"]}
    tune.bufsize {_SET["TUNE_BUFSIZE"]}
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 60s
    timeout http-request 30s
    option abortonclose
    option http-buffer-request
    option http-no-delay
    option splice-request
    option splice-response
    option redispatch 1
    retry-on {_SET["RETRY_ON"]}
    retries {_SET["RETRIES"]}
frontend in
    bind {HOST}:{{port}}
    default_backend floor
backend floor
    server floor {HOST}:{{floor_port}}
"""


@contextlib.contextmanager
def behind(floor_port: int, folder: Path) -> Iterator[int]:
    """HAProxy before a server of this machine; gives its port.

    Raises:
        ChildFailed: it does not start.
        FileNotFoundError: there is no HAProxy.
    """
    port, config = free_port(), folder / "behind.cfg"
    config.write_text(CONFIGURATION.format(port=port, floor_port=floor_port))
    with Child([binary(), "-f", str(config)], folder / "behind.log") as child:
        child.listens(HOST, port)
        yield port
