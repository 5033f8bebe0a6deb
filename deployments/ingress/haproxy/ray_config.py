"""What only Ray knows, read from the file that it writes for HAProxy: ports, applications, servers,
its own rules. All else is of our template (``serve.cfg.j2``).

The file is read as HAProxy reads it: sections, lines, words (``syntax``). What must be there
and is not is a refusal: the file is of a Ray that is not known here. A directive that is not known
here is Ray's, and stays where it was: a later Ray may have more of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from deployments.ingress.haproxy.syntax import (
    Section,
    is_loopback,
    parse,
    split_address,
    words_of,
)
from deployments.ray_support.haproxy_names import (
    ACL_OF,
    FRONTEND,
    METRICS,
    NO_ROUTE,
    REPLICA_OF,
    STATISTICS,
)

SAID: Final = {
    "global": frozenset({"log", "stats socket", "stats timeout"}),
    "defaults": frozenset(
        {
            *("mode http", "log global", "option httplog", "option log-health-checks"),
            *("option abortonclose", "option splice-request", "option splice-response"),
            *("option redispatch", "timeout connect", "timeout http-request", "errorfile"),
        }
    ),
    "backend": frozenset({"log global", "http-reuse always", "server"}),
}
"""Directives that our template says itself, or from values that are read, by the kind of section:
each by its first word or its first two.
"""


LISTENS: Final = frozenset({"bind", "use_backend", "default_backend"})
"""Likewise, of what listens."""


class UnknownConfig(Exception):
    """Ray's file is not as any Ray that is known here writes it; with what is missing."""


@dataclass(frozen=True, slots=True)
class BackendServer:
    """A server of an application.

    Attributes:
        name: Ray's, of a replica or of Serve's proxy.
        address: ``HOST:PORT``.
        options: checks and the like, as Ray wrote them.
        deployment: the replica's; empty: it is Serve's proxy, for calls that no replica takes.
    """

    name: str
    address: str
    options: str
    deployment: str

    @property
    def is_far(self) -> bool:
        """Whether it is on another machine."""
        return not is_loopback(split_address(self.address)[0])


@dataclass(frozen=True, slots=True)
class ApplicationBackend:
    """A backend to which paths lead.

    Attributes:
        name: the backend's.
        prefix: of its paths.
        servers: its replicas, and Serve's proxy.
        lines: what else Ray says of it: checks, timeouts.
    """

    name: str
    prefix: str
    servers: tuple[BackendServer, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listener:
    """What listens at a port: HTTP, the exporter, the statistics.

    Attributes:
        host: empty or ``*``: any address.
        port: a number.
        rules: what else Ray says of it, without the routes.
        routes: ``use_backend`` lines, in Ray's order.
    """

    host: str
    port: str
    rules: tuple[str, ...]
    routes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RayConfig:
    """The file that Ray wrote.

    Attributes:
        logs: the lines that say where HAProxy logs to.
        socket: the path of the one that takes commands.
        buffer_bytes: what HAProxy holds of a request or an answer.
        settings: what else Ray says of HAProxy itself: connections, threads, buffer, files.
        defaults: what else Ray says of all sections: timeouts, retries, balance.
        others: sections of what is none of ours: gRPC, Ray's router of requests.
    """

    logs: tuple[str, ...]
    socket: str
    buffer_bytes: int
    settings: tuple[str, ...]
    defaults: tuple[str, ...]
    http: Listener
    metrics: Listener
    statistics: Listener
    applications: tuple[ApplicationBackend, ...]
    others: tuple[Section, ...]

    @property
    def folder(self) -> str:
        """Where HAProxy's files are."""
        return self.socket.rpartition("/")[0]


def read(text: str) -> RayConfig:
    """Read a file of Ray's.

    Raises:
        UnknownConfig: what only Ray knows is not where it was.
    """
    taken = _Sections(parse(text))
    process, defaults = taken.one("global"), taken.one("defaults")
    frontend, no_route = taken.one("frontend", FRONTEND), taken.one("backend", NO_ROUTE)
    metrics, statistics = taken.one("frontend", METRICS), taken.one("listen", STATISTICS)
    if _values(frontend, "default_backend") != [NO_ROUTE]:
        raise _fault(frontend, ["default_backend"], f"is {NO_ROUTE}")
    if any(words[:2] != ["http-request", "return"] for words in no_route.words()):
        raise UnknownConfig(f"`{no_route.head}` no longer answers by itself alone")
    http = _listener(frontend)
    prefixes = _prefixes(http)
    own = [taken.one("backend", name) for name in prefixes]
    _number(process, "maxconn")  # without a bound each client takes memory
    return RayConfig(
        logs=tuple(line for line in process.lines if words_of(line)[0] == "log"),
        socket=_path(process, "stats", "socket"),
        buffer_bytes=_number(process, "tune.bufsize"),
        settings=_unsaid(process),
        defaults=_unsaid(defaults),
        http=http,
        metrics=_listener(metrics),
        statistics=_listener(statistics),
        applications=tuple(_application(one, prefixes[one.name]) for one in own),
        others=taken.rest(),
    )


class _Sections:
    """The sections of a file, each to be taken once."""

    def __init__(self, sections: Sequence[Section]) -> None:
        self._left = list(sections)

    def one(self, kind: str, name: str = "") -> Section:
        found = [one for one in self._left if (one.kind, one.name) == (kind, name)]
        if len(found) != 1:
            count = "no" if not found else "more than one"
            raise UnknownConfig(f"{count} section `{f'{kind} {name}'.strip()}`")
        self._left.remove(found[0])
        return found[0]

    def rest(self) -> tuple[Section, ...]:
        """What nothing has taken."""
        for one in self._left:
            if one.kind in ("global", "defaults"):
                raise UnknownConfig(f"a second section `{one.head}`")
        return tuple(self._left)


def _values(section: Section, *directive: str) -> list[str]:
    """The words behind the only directive of this name."""
    count = len(directive)
    found = [words[count:] for words in section.words() if tuple(words[:count]) == directive]
    if len(found) != 1 or not found[0]:
        raise _fault(section, directive, "is there once, with a value")
    return found[0]


def _number(section: Section, *directive: str) -> int:
    value = _values(section, *directive)[0]
    if not value.isdecimal():
        raise _fault(section, directive, "has a number")
    return int(value)


def _path(section: Section, *directive: str) -> str:
    value = _values(section, *directive)[0]
    if not value.startswith("/"):
        raise _fault(section, directive, "has a path")
    return value


def _fault(section: Section, directive: Sequence[str], expected: str) -> UnknownConfig:
    return UnknownConfig(f"`{' '.join(directive)}` in `{section.head}` no longer {expected}")


def _unsaid(section: Section) -> tuple[str, ...]:
    """What the template does not say itself."""
    said = SAID[section.kind]
    return tuple(
        line
        for line, words in zip(section.lines, section.words(), strict=True)
        if words[0] not in said and " ".join(words[:2]) not in said
    )


def _listener(section: Section) -> Listener:
    address, *options = _values(section, "bind")
    host, port = split_address(address)
    if options or not port.isdecimal():
        raise _fault(section, ["bind"], "has an address and a port alone")
    by_word = [(words_of(line)[0], line) for line in section.lines]
    return Listener(
        host,
        port,
        tuple(line for word, line in by_word if word not in LISTENS),
        tuple(line for word, line in by_word if word == "use_backend"),
    )


def _prefixes(http: Listener) -> dict[str, str]:
    """The prefix of each application, by its backend: ``acl is_<backend> path <prefix>``. Each
    route is one of theirs.
    """
    acls = [words_of(line) for line in http.rules]
    prefixes = {
        one[1].removeprefix(ACL_OF): " ".join(one[3:])
        for one in acls
        if len(one) > 3 and (one[0], one[2]) == ("acl", "path") and one[1].startswith(ACL_OF)
    }
    known = {f"{ACL_OF}{name}" for name in prefixes}
    for route in http.routes:
        if known.isdisjoint(words_of(route)):
            raise UnknownConfig(f"`{route}` is of no application whose path is said")
    return prefixes


def _application(section: Section, prefix: str) -> ApplicationBackend:
    servers = tuple(_server(words) for words in section.words() if words[0] == "server")
    return ApplicationBackend(section.name, prefix, servers, _unsaid(section))


def _server(words: Sequence[str]) -> BackendServer:
    _, name, address, *options = *words, *("",) * (3 - len(words))
    parts = name.removeprefix(REPLICA_OF).rsplit("-", 2)
    is_replica = name.startswith(REPLICA_OF) and len(parts) == 3
    if not address or not (is_replica or "backup" in options):
        raise UnknownConfig(f"`{' '.join(words)}` is neither a replica nor a backup")
    return BackendServer(name, address, " ".join(options), parts[1] if is_replica else "")
