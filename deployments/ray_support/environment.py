"""The environment that Ray's processes need to serve as measured, each variable with its reason.

Ray Serve reads most of these variables when it is imported, in every process: they must be set
before Ray starts, and a running cluster does not take others.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # HAProxy's program starts at each reload, and does without what this imports
    from runtime.settings import Settings

MARK: Final = "_WAKEFUL_CLUSTER"
"""Every process of a cluster that Wakeful started has it; its value is the state folder. ``down``
finds the processes by it.
"""

HARD_STOP: Final = "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"

HAPROXY_PROGRAM: Final = "RAY_SERVE_HAPROXY_BINARY_PATH"
"""What Serve starts as HAProxy."""

HAPROXY_LOG: Final = "RAY_SERVE_HAPROXY_LOG_TARGET"
"""Where HAProxy logs to. Ray's default is a syslog port, and each request is written to it whether
there is a syslog or not.
"""

BESIDE_HAPROXY: Final = "_WAKEFUL_BESIDE_HAPROXY"
"""What runs in the process that starts HAProxy, beside that: ``MODULE:COROUTINE``."""

HTTP_HOST: Final = "_WAKEFUL_HTTP_HOST"
"""The address that HAProxy listens on, of a cluster whose other processes listen on the loopback
address."""

TLS_FILES: Final = "_WAKEFUL_TLS"
"""The files of TLS (``TlsFiles.to_json``). It is fixed when Ray starts: were it read from what `up`
writes down, a file that is lost would have HTTP served in the clear.
"""


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable and why it has this value."""

    name: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class SidePorts:
    """Ports next to the one for HTTP that a cluster listens on. Ray has fixed numbers, so two
    clusters would collide.
    """

    haproxy_stats: int
    haproxy_metrics: int
    fallback_http: int
    fallback_grpc: int


CONNECTIONS: Final = 4096
"""Connections of clients that HAProxy has at once, of all functions."""

BUFFER_BYTES: Final = 72 * 1024
"""What HAProxy holds of a request: heads, and bodies of 64 KiB. It copies all of it for every call,
so that it can send the call again.
"""

RETRIES: Final = 8
"""How often HAProxy tries another server."""

CLIENT_S: Final = 30
"""A client that takes nothing of its answer for so long has left, and one that has not ended its
handshake of TLS: HAProxy 2.8 has one time for both. The kernel says that there is room when a third
of its 4 MiB is free: readers of 47 kB/s go on, and 64 KiB/s are asked for (``transport.peer``)."""

SERVING: Final = (
    Variable(
        "RAY_SERVE_ENABLE_HA_PROXY",
        "1",
        "HTTP goes through HAProxy straight into the replica: 3160 to 6473 requests/s of a "
        "trivial function, 192 to 304 without.",
    ),
    Variable(
        "RAY_SERVE_THROUGHPUT_OPTIMIZED",
        "1",
        "A replica's code runs on the loop that reads its requests: no hop between threads.",
    ),
    Variable(
        "RAY_SERVE_RUN_SYNC_IN_THREADPOOL",
        "1",
        "Ray 2.60 does; 2.59 would run a method that is no coroutine on the loop that answers.",
    ),
    Variable(
        "RAY_SERVE_LOG_TO_STDERR",
        "1",
        "What a stage prints stays in its replica's output files; Serve would hold it back "
        "or drop it.",
    ),
    Variable(
        "RAY_SERVE_HAPROXY_NBTHREAD",
        "1",
        "One thread of HAProxy is far from busy here; Ray's default of 4 crowds small machines.",
    ),
    Variable(
        "RAY_SERVE_HAPROXY_RETRY_ON",
        "conn-failure",
        "What no replica had accepted is sent to another one. What a dying one had "
        "accepted is as well, where the function allows it: "
        "`deployments.ingress.haproxy_config`.",
    ),
    Variable(
        "RAY_SERVE_HAPROXY_RETRIES",
        str(RETRIES),
        "Two replicas may die of a call, and either is tried again before HAProxy knows; 4 "
        "ran out.",
    ),
    Variable(
        "RAY_SERVE_HAPROXY_OBSERVE_MARK_DOWN_ENABLED",
        "1",
        "HAProxy learns from calls which replica is dead; Ray 2.59 asks for it, 2.60 does it.",
    ),
    Variable(
        "RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT",
        "1",
        "A replica that refuses a connection is dead; Ray tries it twice more.",
    ),
    Variable(
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER",
        "1s",
        "A replica that hangs gets nothing new after 2 to 3 s; Ray: 10.",
    ),
    Variable(
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE",
        str(BUFFER_BYTES),
        "What is sent again must fit the buffer: heads, and bodies of 64 KiB; Ray: 16 KiB.",
    ),
    Variable(
        "RAY_SERVE_HAPROXY_MAXCONN",
        str(CONNECTIONS),
        "Each may hold two buffers. At most a quarter of them wait for a replica "
        "(`deployments.ingress.replay`).",
    ),
    Variable(
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S",
        str(CLIENT_S),
        "A client that takes nothing of its answer, or does not end its handshake of TLS, for so "
        "long has left; Ray: 3600. Streams and answers that come late do not count: only what "
        "waits to be taken does.",
    ),
    Variable(
        "RAY_SERVE_HAPROXY_METRICS_ENABLED",
        "0",
        "Ray would parse one datagram a request in Python; replicas count for themselves.",
    ),
    Variable(
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH",
        "deployments.ingress.middleware:middlewares",
        "A caller's headers cannot switch off Serve's deadline, and Serve does not watch "
        "for disconnects next to our own watch.",
    ),
    Variable(
        "RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH",
        "deployments.ray_support.ray_internals:prepare_controller",
        "HAProxy that dies is started again at once, and so is a proxy of Serve's; by Ray's own "
        "means HTTP was gone for 24 to 27 s.",
    ),
    Variable(
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S",
        "0.5",
        "How often Serve looks whether its proxies live; Ray: 10. One that is only busy has three "
        "times 10 s to answer, or more.",
    ),
    Variable(
        "RAY_preload_python_modules",
        "deployments.ingress.middleware",
        "A process that is started ahead (`WAKEFUL_SPARE_PROCESSES`) has imported Serve "
        "before it is given a replica: 1.0 s.",
    ),
    Variable(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO",
        "1",
        "A function on CPUs sees no GPU; Ray would leave it those of its node to touch.",
    ),
    Variable(
        "CUDA_DEVICE_ORDER",
        "PCI_BUS_ID",
        "CUDA numbers GPUs as the driver and Ray do; by default the fastest comes first.",
    ),
    Variable(
        "RAY_worker_niceness",
        "0",
        "Ray's default of 15 lets any other process of the machine go before a request.",
    ),
    Variable(
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S",
        "1",
        "A stopping replica holds its memory this long; Ray: 30.",
    ),
    Variable(
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S",
        "0.2",
        "A tick of the controller costs 4 ms: 2 % of a core; at Ray's 0.1 twice that.",
    ),
    Variable(
        "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS",
        "1000",
        "Ray's ten exports a second take CPU from requests.",
    ),
    Variable(
        "RAY_SERVE_SLOW_STARTUP_WARNING_S",
        "5",
        "Then `status` says which resources a function waits for; Ray: 30.",
    ),
    Variable(
        "RAY_SERVE_SLOW_STARTUP_WARNING_PERIOD_S", "5", "How often that is looked at; Ray: 30."
    ),
    Variable(
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S",
        "30",
        "Serve kills a proxy that has not started within three times as long, and its start fails "
        "with it; on a busy machine HAProxy's took longer than Ray's 15 s. Ray: 5.",
    ),
    Variable(
        "RAY_ROTATION_MAX_BYTES",
        str(16 * 1024 * 1024),
        "A full output file of a process is kept under another name; without this one file grows "
        "until the disk is full.",
    ),
    Variable(
        "RAY_ROTATION_BACKUP_COUNT",
        "2",
        "So many are kept, then the oldest is deleted: 48 MB of each of a process's two streams.",
    ),
    Variable("RAY_USAGE_STATS_ENABLED", "0", "Ray reports nothing to the outside."),
    Variable(
        "MALLOC_ARENA_MAX",
        "2",
        "glibc keeps a heap for every thread otherwise, and each of them grows.",
    ),
    Variable(
        "TOKENIZERS_PARALLELISM",
        "false",
        "A replica has the threads it declares; a tokenizer's own pool would come on top.",
    ),
)
"""For every cluster, whether or not Wakeful starts it."""


def ingress_variables() -> tuple[Variable, ...]:
    """HAProxy with Wakeful's configuration, where the program for it is installed."""
    program = Path(sys.executable).parent / "wakeful-haproxy"
    if not program.exists():
        return ()
    return (
        Variable(
            HAPROXY_PROGRAM,
            str(program),
            "Gives HAProxy a configuration of ours, and becomes it: "
            "`deployments.ingress.haproxy_config`.",
        ),
    )


OPEN_CLUSTER: Final = (
    Variable(
        "RAY_health_check_initial_delay_ms",
        "1000",
        "A machine that is lost is found within 3 to 12 s; Ray's values: 20 to 65.",
    ),
    Variable("RAY_health_check_period_ms", "1000", "Likewise: asked so often,"),
    Variable("RAY_health_check_timeout_ms", "3000", "with so long a wait for the answer,"),
    Variable(
        "RAY_health_check_failure_threshold", "3", "and lost after so many that did not come."
    ),
)
"""For the head of a cluster of several machines."""

NO_AGENT_METRICS: Final = Variable(
    "RAY_enable_metrics_collection",
    "0",
    "Ray's agent on each machine would tell its metrics, names of functions among them, at a port "
    "of every address, and asks for no token there.",
)
"""For every machine of a cluster of several that Wakeful starts."""

HEAD: Final = {"node:__internal_head__": 0.001}
"""A resource that only Ray's head has. A deployment that must end with the head asks for it; an
affinity to a node's id, the public way, cannot be written into a deployment's options."""

LOCAL_CLUSTER: Final = Variable(
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER",
    "0",
    "Ray takes 127.0.0.1 for the address of this machine and listens there only.",
)
"""For a cluster that no other machine may join."""


def local_variables(
    home: Path,
    ports: SidePorts,
    *,
    is_alone: bool = True,
    http_host: str = "",
    tls: str = "",
) -> tuple[Variable, ...]:
    """What a machine needs as well when Wakeful starts its Ray.

    Args:
        home: the state folder; holds the token, HAProxy's files and Ray's.
        ports: free ones.
        is_alone: no other machine may join.
        http_host: the address of HAProxy alone; empty: HAProxy listens where Serve does.
        tls: its files, as of ``TLS_FILES``; empty: HTTP is in the clear.
    """
    # short, as is the socket: HAProxy takes 97 characters, of which the node's id is 56
    proxy = home / "hap"
    return (
        Variable(MARK, str(home), "Tells our processes from others'."),
        Variable(
            BESIDE_HAPROXY,
            "deployments.ingress.access_table:keep",
            "HAProxy is told of keys by the process that starts it, which is on each machine, and "
            "with which it ends.",
        ),
        *((LOCAL_CLUSTER,) if is_alone else (*OPEN_CLUSTER, NO_AGENT_METRICS)),
        *(
            (
                Variable(
                    HTTP_HOST,
                    http_host,
                    "HAProxy alone is heard there; what is behind it listens on 127.0.0.1.",
                ),
            )
            if http_host
            else ()
        ),
        *((Variable(TLS_FILES, tls, "HAProxy ends TLS with these files."),) if tls else ()),
        Variable(
            "RAY_AUTH_MODE",
            "token",
            "A client that reaches an open Ray port could run code: a token is asked for.",
        ),
        Variable(
            "RAY_AUTH_TOKEN_PATH", str(home / "token"), "That token, readable by its owner only."
        ),
        Variable(
            "RAY_TMPDIR", str(home / "ray"), "Ray's files, apart from those of any other Ray."
        ),
        Variable(
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC",
            str(proxy / "haproxy.cfg"),
            "HAProxy's files in a folder of the owner's:",
        ),
        Variable(
            "RAY_SERVE_HAPROXY_SOCKET_PATH",
            str(proxy / "s"),
            "its admin socket is open to every process that can reach the file.",
        ),
        Variable("RAY_SERVE_HAPROXY_SERVER_STATE_BASE", str(proxy), "Likewise."),
        Variable("RAY_SERVE_HAPROXY_SERVER_STATE_FILE", str(proxy / "server-state"), "Likewise."),
        Variable("RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH", str(proxy / "metrics.sock"), "Likewise."),
        Variable(
            "RAY_SERVE_HAPROXY_STATS_PORT",
            str(ports.haproxy_stats),
            "Ray's number, 8404, or a free one if that is taken.",
        ),
        Variable(
            "RAY_SERVE_HAPROXY_METRICS_PORT",
            str(ports.haproxy_metrics),
            "Ray's number, 9101, or a free one.",
        ),
        Variable(
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
            str(ports.fallback_http),
            "Ray's number, 8500, or a free one.",
        ),
        Variable(
            "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT",
            str(ports.fallback_grpc),
            "Ray's number, 9500, or a free one.",
        ),
    )


def shared_variables() -> tuple[Variable, ...]:
    """What a cluster that Wakeful did not start needs as well: `ray start` asks for a token as soon
    as there is one, other processes only with this variable.
    """
    if "RAY_AUTH_MODE" in os.environ or not (Path.home() / ".ray" / "auth_token").exists():
        return ()
    return (
        Variable(
            "RAY_AUTH_MODE",
            "token",
            "There is a token in Ray's folder, and `ray start` asks for it; this makes "
            "others send it.",
        ),
    )


def path_variables(settings: Settings, file: Path | None, search: str = "") -> tuple[Variable, ...]:
    """Where replicas find models and the stages that a file names.

    Args:
        search: the ``PYTHONPATH`` before.
    """
    folders = [*import_folders(settings, file), *filter(None, search.split(os.pathsep))]
    return (
        Variable(
            "WAKEFUL_ROOT",
            str(settings.root),
            "Relative paths of declarations start here, wherever Ray runs a replica.",
        ),
        Variable("WAKEFUL_MODELS", str(settings.models), "The folder of pulled models."),
        Variable("WAKEFUL_CAPTURES", str(settings.captures), "The folder of recorded calls."),
        Variable(
            "PYTHONPATH",
            os.pathsep.join(dict.fromkeys(folders)),
            "Stages import from the root and from the folder of the file.",
        ),
    )


def import_folders(settings: Settings, file: Path | None) -> list[str]:
    """The folders that stages are imported from before any other: the root, and the file's own."""
    return list(
        dict.fromkeys([str(settings.root), *([str(file.resolve().parent)] if file else [])])
    )


def library_variables() -> dict[str, str]:
    """What of ``SERVING`` is for the libraries in a replica, and not for Ray."""
    return to_mapping(one for one in SERVING if not one.name.startswith("RAY_"))


def to_mapping(variables: Iterable[Variable]) -> dict[str, str]:
    """The variables as an environment."""
    return {variable.name: variable.value for variable in variables}


def inherited_variables(added: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a child: this process's, and what is added to it.

    The settings do not pass through here; a child must get the variables of its caller (``PATH``,
    ``HOME``, proxies) unread.
    """
    return {
        **os.environ,
        **added,
        "PYTHONUNBUFFERED": "1",
        "PATH": _path(os.environ.get("PATH", "")),
    }


def search_path() -> str:
    """The caller's ``PYTHONPATH``."""
    return os.environ.get("PYTHONPATH", "")


def _path(path: str) -> str:
    """The environment's programs first, as if it were activated: Ray finds its helpers by name."""
    return os.pathsep.join(
        [str(Path(sys.executable).parent), *filter(None, path.split(os.pathsep))]
    )


LOOPBACK: Final = "127.0.0.1"
