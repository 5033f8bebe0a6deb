"""What HAProxy is told before the replicas of a cluster, decided from what is known on this
machine: Ray's file, the environment, what ``up`` wrote down.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from deployments.ingress.haproxy.ray_config import ApplicationBackend, RayConfig
from deployments.ingress.haproxy.rules import (
    CATALOGUE,
    CIPHERS,
    FUNCTION,
    HOST,
    INNER,
    ONCE,
    SECRET,
)
from deployments.ingress.haproxy.syntax import is_loopback, quote_word
from deployments.ingress.tls.copies import CLIENTS, PAIR
from deployments.ingress.tls.files import TlsFiles
from deployments.ray_support.environment import (
    CONNECTIONS,
    HAPROXY_LOG,
    HTTP_HOST,
    LOOPBACK,
    MARK,
    TLS_FILES,
)
from deployments.ray_support.haproxy_names import INNER_SOCKET
from deployments.ray_support.secret_store import edge_secret, secret_of_token
from deployments.ray_support.texts import HEALTH_PATH


class DeployedCors(NamedTuple):
    """What of ``up.json`` decides.

    Attributes:
        policy: of the file (``CorsSpec`` as plain data); None: no page may call.
        prefixes: where applications that are ours and others meet (``decide_owners``).
    """

    policy: Mapping[str, Any] | None
    prefixes: Sequence[tuple[str, bool]] = ()


def decide_owners(applications: Iterable[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """Return the prefixes at which it changes whether an application is ours, the shortest first: a
    path has the word of the last one that it is at or below, and is ours where there is none.

    Args:
        applications: the prefix of each, and whether it is ours.
    """
    found: dict[str, bool] = {}
    for prefix, is_ours in sorted(applications, key=lambda one: len(one[0])):
        above = [found[one] for one in found if prefix.startswith(f"{one.rstrip('/')}/")]
        if is_ours is not (above[-1] if above else True):
            found[prefix] = is_ours
    return list(found.items())


def read_cors(home: Path) -> DeployedCors:
    """Return what ``up`` wrote down on this machine; no policy if it wrote nothing."""
    try:
        up = json.loads((home / "up.json").read_text(encoding="utf-8"))
        applications = [
            (app["route_prefix"], app["role"] != "other")
            for app in up["deployed"]
            if not app["hosted"] and app["route_prefix"]
        ]
        return DeployedCors(up.get("cors"), decide_owners(applications))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return DeployedCors(None)


class AccessTerms(NamedTuple):
    """How HAProxy asks for keys.

    Attributes:
        open: paths that a GET reads without one.
        open_below: likewise, beginnings of paths.
    """

    open: Sequence[str]
    open_below: Sequence[str]


LIVE: Final = "/v2/health/live"

CONSOLE: Final = "/console"
CONSOLE_FILES: Final = "/console/assets/"
"""The console's page, which says nothing of the server and asks its reader for a key, and its
files.
"""

SERVE_ACCESS: Final = AccessTerms((LIVE, HEALTH_PATH, CONSOLE), (CONSOLE_FILES,))
"""Before the replicas of a cluster; Ray's own path of health says as little as ours."""

RUN_ACCESS: Final = AccessTerms((LIVE, CONSOLE), (CONSOLE_FILES,))
"""Before the processes of a run."""


def asks_for_keys(home: Path) -> bool:
    """Whether calls need keys, as ``up`` wrote it down on this machine. They do where that cannot
    be read.
    """
    try:
        return bool(json.loads((home / "up.json").read_text(encoding="utf-8")).get("auth"))
    except (OSError, ValueError, AttributeError):
        return True


def read_machine(home: Path) -> str:
    """Return this machine's address, as `up` or `join` wrote it down; empty where the cluster has
    one machine.
    """
    try:
        up = json.loads((home / "up.json").read_text(encoding="utf-8"))
        return "" if up["node_ip"] == LOOPBACK else str(up["node_ip"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


PART: Final = 4
"""Of the connections one address holds such a part, where the file says nothing: a client that
forgets its connections, or opens them to keep others out, has three beside it that are answered.
"""


def decide_per_address(declared: int | None, hosts: Iterable[str], most: int) -> int:
    """Return how many connections one address may hold at once; 0: as many as there are, since none
    is counted where this machine alone is heard.

    Args:
        declared: ``http.connections_per_address`` of the file, if it has that.
        hosts: the addresses of HTTP.
        most: connections that there are.
    """
    if all(map(is_loopback, hosts)):
        return 0
    allowed = max(1, most // PART) if declared is None else declared
    return allowed if allowed < most else 0


def own_addresses(hosts: Iterable[str]) -> tuple[str, ...]:
    """Return those that are addresses of this machine, by which it may call itself; a name, or one
    that stands for all, is none.
    """
    found = []
    for host in hosts:
        with contextlib.suppress(ValueError):
            address = ipaddress.ip_address(host.strip("[]"))
            if not address.is_unspecified and not address.is_loopback:
                found.append(str(address))
    return tuple(dict.fromkeys(found))


def read_per_address(home: Path) -> int | None:
    """Return what the file says of the connections of one address, as ``up`` wrote it down on this
    machine.
    """
    try:
        found = json.loads((home / "up.json").read_text(encoding="utf-8"))["per_address"]
        return None if found is None else int(found)
    except (OSError, ValueError, KeyError, TypeError):
        return None


class TlsTerms(NamedTuple):
    """How TLS is ended: paths in HAProxy's folder.

    Attributes:
        pair: the certificate and its key.
        clients: the authorities of clients; empty: clients need no certificate.
        inner: the socket of this user's own processes.
    """

    pair: str
    clients: str
    inner: str

    @classmethod
    def of(cls, folder: Path, files: TlsFiles | None) -> TlsTerms | None:
        """Where the file says so; None: HTTP is in the clear."""
        if files is None:
            return None
        clients = "" if files.client_ca is None else str(folder / CLIENTS)
        return cls(str(folder / PAIR), clients, str(folder / INNER_SOCKET))

    def options(self) -> list[str]:
        """What stands behind the address of a ``bind``."""
        clients = ["ca-file", quote_word(self.clients), "verify", "required"]
        return [
            *("ssl", "crt", quote_word(self.pair), "alpn", "h2,http/1.1"),
            *("ssl-min-ver", "TLSv1.2", "ciphers", CIPHERS),
            *(clients if self.clients else ()),
        ]


@dataclass(frozen=True, slots=True)
class Deployed:
    """What is known on this machine when HAProxy starts, beside Ray's file.

    Attributes:
        is_ours: ``up`` started the cluster.
        host: the address of HTTP that HAProxy alone has; empty: where Serve listens.
        logs: the user names where HAProxy logs to.
        secret: of calls of functions by functions; empty where the cluster has no token.
        hidden: prefixes of stages that have deployments of their own.
        cors: what pages of other origins may do; None on a cluster that is not ours.
        asks_for_keys: calls need keys.
        machine: its address in a cluster of several machines; else empty.
        tls: the files of TLS, if HTTP is not in the clear.
        per_address: as of ``decide_per_address``.
    """

    is_ours: bool = False
    host: str = ""
    logs: bool = False
    secret: str = ""
    hidden: tuple[str, ...] = ()
    cors: DeployedCors | None = None
    asks_for_keys: bool = False
    machine: str = ""
    tls: TlsFiles | None = None
    per_address: int | None = None

    @property
    def edge(self) -> str:
        """What is added to requests; empty where no process asks for it (``edge.wants_guard``)."""
        has_certificates = self.tls is not None and self.tls.asks_for_certificates
        is_asked = self.asks_for_keys or self.machine or has_certificates
        return edge_secret(self.secret) if self.secret and is_asked else ""

    @classmethod
    def here(cls, environ: Mapping[str, str] = os.environ) -> Deployed:
        """Of this process's environment, and of what ``up`` wrote down before.

        Raises:
            ValueError: it is not known whether HTTP may be in the clear.
        """
        home, secret = environ.get(MARK), secret_of_token(environ)
        return cls(
            is_ours=bool(home),
            host=environ.get(HTTP_HOST, ""),
            logs=bool(environ.get(HAPROXY_LOG)),
            secret=secret,
            hidden=tuple(split_stage_prefixes(Path(home))) if home and secret else (),
            cors=read_cors(Path(home)) if home else None,
            asks_for_keys=asks_for_keys(Path(home)) if home else False,
            machine=read_machine(Path(home)) if home else "",
            tls=TlsFiles.from_json(environ.get(TLS_FILES, "")),
            per_address=read_per_address(Path(home)) if home else None,
        )


def split_stage_prefixes(home: Path) -> list[str]:
    """Return the prefixes of the split stages on this machine, as ``up`` wrote them down before."""
    try:
        deployed = json.loads((home / "up.json").read_text(encoding="utf-8"))["deployed"]
        return [app["route_prefix"] for app in deployed if app.get("part_of")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


@dataclass(frozen=True, slots=True)
class ServeTerms:
    """What is decided of HAProxy before the replicas of a cluster.

    Attributes:
        hosts: the addresses of HTTP.
        is_closed: what is not HTTP is for this machine alone.
        logs: Ray's target of HAProxy's log is the user's.
        inner: matches calls of functions by functions.
        is_secret_known: by a secret that nothing else has.
        edge: what is added to every request, by which processes know that it came through HAProxy;
            empty: nothing is.
        hidden: prefixes of stages that have deployments of their own.
        cors: what pages of other origins may do; None: on a cluster that is not ours.
        access: how keys are asked for; None: they are not.
        machine: this one's address in a cluster of several; empty in one of one.
        tls: how TLS is ended; None: HTTP is in the clear.
        per_address: connections that one address holds at once; 0: as many as there are.
        own: addresses of this machine, besides the loopback ones.
        calls: of each application by its backend: ``replayed``, ``once``, or empty where that is
            not ours to say.
        console: the catalogue, which pages of the console follow; None: it has no replica.
    """

    hosts: Sequence[str]
    is_closed: bool
    logs: bool
    inner: str
    is_secret_known: bool
    edge: str
    hidden: Sequence[str]
    cors: DeployedCors | None
    access: AccessTerms | None
    machine: str
    tls: TlsTerms | None
    per_address: int
    own: Sequence[str]
    calls: Mapping[str, str]
    console: ApplicationBackend | None


def decide_console(applications: Iterable[ApplicationBackend]) -> ApplicationBackend | None:
    """Return the catalogue; None: it has no replica, and Serve's proxy takes what comes."""
    for application in applications:
        if any(server.deployment == CATALOGUE for server in application.servers):
            return application
    return None


def decide_calls(application: ApplicationBackend, is_replayed: Callable[[str], bool]) -> str:
    """Return ``replayed`` or ``once``; empty where that is not ours to say. The names of its
    servers decide; where there is none but Serve's proxy, what it may wait for.

    Args:
        is_replayed: whether calls of a prefix may be sent again; called where no server is up.
    """
    deployments = [one.deployment for one in application.servers if one.deployment]
    if ONCE in deployments:
        return "once"
    if deployments:
        return "replayed" if {FUNCTION, HOST, CATALOGUE}.issuperset(deployments) else ""
    return "replayed" if is_replayed(application.prefix) else ""


def decide_hosts(ray_host: str, own_host: str) -> tuple[str, ...]:
    """Return the addresses of HTTP. One that HAProxy alone has is beside the loopback one, where
    the servers behind it listen.
    """
    if not own_host or not is_loopback(ray_host):
        return (ray_host,)
    return (own_host,) if own_host == "0.0.0.0" else (ray_host, own_host)


def decide_terms(
    ray: RayConfig, deployed: Deployed, is_replayed: Callable[[str], bool]
) -> ServeTerms:
    """Decide what HAProxy is told."""
    secret, hosts = deployed.secret, decide_hosts(ray.http.host, deployed.host)
    return ServeTerms(
        hosts=hosts,
        is_closed=deployed.is_ours or is_loopback(ray.http.host),
        logs=deployed.logs,
        inner=f"req.hdr({SECRET}) -m str {secret}" if secret else INNER,
        is_secret_known=bool(secret),
        edge=deployed.edge,
        hidden=deployed.hidden,
        cors=deployed.cors,
        access=SERVE_ACCESS if deployed.asks_for_keys else None,
        machine=deployed.machine,
        tls=TlsTerms.of(Path(ray.folder), deployed.tls),
        per_address=(
            decide_per_address(deployed.per_address, hosts, CONNECTIONS) if deployed.is_ours else 0
        ),
        own=own_addresses((*hosts, deployed.machine)),
        calls={one.name: decide_calls(one, is_replayed) for one in ray.applications},
        console=decide_console(ray.applications),
    )
