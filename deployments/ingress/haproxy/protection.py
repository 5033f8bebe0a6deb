"""The least that HAProxy gets: a file of another program with the edges that protect. It asks less
of the file than ``ray_config``, so it holds for files that are not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from deployments.ingress.haproxy.lacks import CLOSED
from deployments.ingress.haproxy.rules import EDGE, KEPT
from deployments.ingress.haproxy.syntax import (
    LOOPBACK,
    Section,
    is_loopback,
    parse,
    quote_word,
    split_address,
    words_of,
    write,
)
from deployments.ingress.haproxy.terms import TlsTerms, decide_hosts
from deployments.ray_support.environment import CONNECTIONS
from deployments.ray_support.haproxy_names import FRONTEND, GRPC_FRONTEND, METRICS, STATISTICS
from deployments.ray_support.texts import ROUTES_PATH

HTTP: Final = f"frontend {FRONTEND}"

CALLED: Final = frozenset({HTTP, f"frontend {GRPC_FRONTEND}"})
"""Sections that clients reach; ports of others are for this machine."""

FAMILIES: Final = frozenset({"", "ipv4", "ipv6", "tcp", "tcp4", "tcp6"})
"""Before an address and ``@``; others have no port, or are not TCP's."""

SERVERS: Final = frozenset({"server", "server-template"})

ANSWERS: Final = [
    ["http-request", one]
    for one in ("return", "deny", "redirect", "reject", "tarpit", "use-service")
]
"""Of a backend: with one of them it may need no server."""

ANY_ADDRESS: Final = frozenset({"", "*", "0.0.0.0", "::", "[::]"})


REFUSAL: Final = (
    "http-request return status 503 content-type application/json lf-string "
    '\'{"error":"calls need a key, and HAProxy does not compare keys; `wakeful status` says why.",'
    '"code":"unavailable","where":"","request_id":"%[uuid]"}\' hdr retry-after 1 '
    "unless METH_GET { path /v2/health/live }"
)
"""Where keys are on and HAProxy does not take what asks for them. A rule of this kind goes before
every choice of a backend, and before those of its kind that stand behind it.
"""

EMPTY: Final = (
    "http-request return status 503 content-type application/json lf-string "
    '\'{"error":"HAProxy has just started and gets all servers within a second; ask again.",'
    '"code":"unavailable","where":"","request_id":"%[uuid]"}\' hdr retry-after 1 '
    f"if {{ path -i {ROUTES_PATH} }}"
)
"""Where an application has no servers yet: ``up`` waits for the routes, which a manager that has
just started gets before it gets servers.
"""

REJECTION: Final = "tcp-request connection reject"
"""Likewise, of what is not HTTP."""


def protect(
    text: str,
    *,
    is_ours: bool,
    host: str = "",
    edge: str = "",
    answers_nothing: bool = False,
    tls: TlsTerms | None = None,
) -> str:
    """Return the file with these edges: only the user that started HAProxy commands it, what
    clients do not call is for this machine alone, connections are bounded, processes know that a
    request came this way, HTTP is not in the clear where it must not be, and no routes are listed
    while calls to one of them cannot be answered.

    Args:
        is_ours: the cluster is one that ``up`` started.
        host: as of ``terms.Deployed``.
        edge: as of ``terms.ServeTerms``.
        answers_nothing: keys are on: what clients reach answers nothing, but that it lives.
        tls: how TLS is ended, if it is.
    """
    sections = parse(text)
    http = [
        split_address(words[1])[0]
        for one in sections
        if one.head == HTTP
        for words in one.words()
        if words[0] == "bind" and len(words) > 1
    ]
    is_local = is_ours or any(map(is_loopback, http))
    closed = (close(one, is_local=is_local, host=host, tls=tls) for one in sections)
    # processes that other machines reach answer nothing without it
    mark = f"http-request set-header {EDGE} {edge}"
    marked = [_with_first(one, mark) if edge and one.head == HTTP else one for one in closed]
    if _has_empty(sections):
        marked = [_with_first(one, EMPTY) if one.head == HTTP else one for one in marked]
    return write(_refuse_all(marked) if answers_nothing else marked)


def _with_first(section: Section, rule: str) -> Section:
    return replace(section, lines=(rule, *section.lines))


def _has_empty(sections: Iterable[Section]) -> bool:
    """Whether one of HTTP's applications has neither a server nor a rule by which it answers."""
    backends = {one.name: one for one in sections if one.kind == "backend"}
    http = [one for one in sections if one.head == HTTP]
    used = [
        words[1] for one in http for words in one.words() if words[0] == "use_backend" and words[1:]
    ]
    return any(
        not any(words[0] in SERVERS or words[:2] in ANSWERS for words in backends[name].words())
        for name in used
        if name in backends
    )


def _refuse_all(sections: Iterable[Section]) -> Iterator[Section]:
    """All that listens refuses, but for HAProxy's own pages."""
    mode = ""
    for section in sections:
        own = next((words[1] for words in section.words() if words[0] == "mode"), "")
        if section.kind == "defaults":
            mode = own
        elif section.kind in ("frontend", "listen") and section.name not in (METRICS, STATISTICS):
            rule = REFUSAL if (own or mode) == "http" else REJECTION
            section = _with_first(section, rule)
        yield section


def close(
    section: Section, *, is_local: bool, host: str = "", tls: TlsTerms | None = None
) -> Section:
    """Return a section with these edges.

    Args:
        is_local: what clients do not call is for this machine alone.
        host: as of ``terms.Deployed``.
        tls: as of ``protect``.
    """
    lines = [
        edited for line in section.lines for edited in _edges(line, section, is_local, host, tls)
    ]
    if section.kind == "global":
        if not any(one[0] == "maxconn" for one in section.words()):
            lines.append(f"maxconn {CONNECTIONS}")
        lines.append(f"set-var {KEPT} str({CLOSED})")
    return replace(section, lines=tuple(lines))


def _edges(
    line: str, section: Section, is_local: bool, host: str, tls: TlsTerms | None
) -> list[str]:
    """The lines in the place of one; the same one, blanks in quotes included, if it is no edge."""
    words = words_of(line)
    if words[:2] == ["stats", "socket"]:
        place = words.index("mode") if "mode" in words else len(words)
        return [" ".join([*words[:place], "mode", "600", *words[place + 2 :]])]
    if words[0] != "bind" or len(words) < 2:
        return [line]
    if section.head == HTTP:
        bound, port = split_address(words[1])
        hosts = decide_hosts(bound, host) if port.isdecimal() else ()
        rest, inner = words[2:], list[str]()
        if tls is not None:
            rest, inner = [*rest, *tls.options()], [f"bind unix@{quote_word(tls.inner)} mode 600"]
        elif not hosts:
            return [line]
        addresses = [f"{one}:{port}" for one in hosts] or [words[1]]
        return [*(" ".join(["bind", one, *rest]) for one in addresses), *inner]
    addresses = words[1].split(",")
    local = [_local(one) for one in addresses]
    if not is_local or section.head in CALLED or local == addresses:
        return [line]
    return [" ".join(["bind", ",".join(local), *words[2:]])]


def _local(address: str) -> str:
    """The port of any address of this machine, or several (``*:80-82``), at the loopback one."""
    family, _, place = address.rpartition("@")
    bound, port = split_address(place)
    if family not in FAMILIES or bound not in ANY_ADDRESS or not port.replace("-", "").isdecimal():
        return address
    return f"{LOOPBACK}:{port}"
