"""Lets pages of declared origins call (CORS): the answer to a browser's preflight, and the headers
of every other response. Requests of other sites' pages are refused.

Pure: headers in, headers out. The transports ask; on a cluster HAProxy does the same
(``deployments/ingress/haproxy/rules.cfg.j2``). A preflight reaches no function, and so wakes none.
An origin that is not declared gets no header, and its browser tells the page nothing; but a page
can have a browser send a plain request to any address, whose answer it does not want to read, and
that would wake a function, or call it, on the machine whose user looks at the page. A browser says
of each request where it comes from: ``Sec-Fetch-Site``, to addresses that it trusts (HTTPS and the
loopback ones), and ``Origin``, with all that is no plain GET. Programs say neither.

Source: WHATWG Fetch, sections 3.3 (CORS protocol) and 3.2 (``Origin``); W3C Fetch Metadata.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from runtime.declaration.http_section import ANY_ORIGIN, CorsSpec
from runtime.errors import Forbidden
from runtime.http.request_headers import Header

METHODS: Final = b"GET, HEAD, POST"

EXPOSED: Final = (
    b"accept-ranges, content-disposition, content-range, inference-header-content-length,"
    b" retry-after, server-timing, x-request-id"
)
"""Headers of responses that a page may read beside those that it always may."""

VARY: Final[Header] = (b"vary", b"origin")

ORIGIN: Final = b"origin"
FETCH_SITE: Final = b"sec-fetch-site"
SAID_BY_BROWSERS: Final = frozenset({ORIGIN, FETCH_SITE})
"""Headers by which a browser says where a request comes from."""

OWN_SITES: Final = frozenset({b"same-origin", b"none"})
"""Values of ``Sec-Fetch-Site`` of a request of this server's own pages, or of the user itself."""

PAGES: Final = frozenset(
    {
        *("/", "/console", "/docs", "/openapi.json", "/metrics"),
        *("/v2", "/v2/health/live", "/v2/health/ready", "/v2/repository/index"),
    }
)
"""What a link on another site's page may lead a browser to: it wakes nothing."""

CONSOLE: Final = "/console"
"""No page of another origin reads what is there, or below, whatever the file says."""

FOREIGN: Final = (
    "a page of another site has sent this, and may not call here. `http.cors.origins` of the file"
    " names pages that may."
)


class CorsPolicy:
    """What the origins of a file come to.

    Args:
        spec: the declaration.
    """

    def __init__(self, spec: CorsSpec) -> None:
        self._is_open = ANY_ORIGIN in spec.origins
        self._max_age = (b"access-control-max-age", b"%d" % spec.max_age_s)
        names = (ANY_ORIGIN,) if self._is_open else spec.origins
        more: list[Header] = [(b"access-control-expose-headers", EXPOSED)]
        if spec.credentials:
            more.append((b"access-control-allow-credentials", b"true"))
        self._headers: dict[bytes, Sequence[Header]] = {
            name.encode(): (
                (b"access-control-allow-origin", name.encode()),
                *more,
                *(() if self._is_open else (VARY,)),
            )
            for name in names
        }

    def headers_for(self, origin: bytes) -> Sequence[Header]:
        """Return what a response has for a page of this origin.

        Args:
            origin: value of the ``Origin`` header; empty where there is none.
        """
        if self._is_open:
            return self._headers[b"*"]
        return self._headers.get(origin, (VARY,))

    def preflight_headers(self, origin: bytes, asked: bytes) -> Sequence[Header]:
        """Return what the response to a preflight has beside ``headers_for``.

        Args:
            asked: value of ``Access-Control-Request-Headers``, names that the page wants to send.
        """
        if not self._is_open and origin not in self._headers:
            return ()
        allowed: list[Header] = [(b"access-control-allow-methods", METHODS), self._max_age]
        if asked:
            allowed.append((b"access-control-allow-headers", asked))
        return allowed


def is_of_console(path: str) -> bool:
    """Whether a path is the console's."""
    return path == CONSOLE or path.startswith(f"{CONSOLE}/")


class ForeignPages:
    """Tells requests of other sites' pages that may not call.

    Args:
        spec: the declaration; None: no page of another site may.
    """

    def __init__(self, spec: CorsSpec | None) -> None:
        names = () if spec is None else spec.origins
        self._is_open = ANY_ORIGIN in names
        self._origins = frozenset(name.encode() for name in names)

    def refuses(self, method: str, path: str, fields: Mapping[bytes, bytes]) -> bool:
        """Whether a request is refused.

        Args:
            fields: its headers, by name in lower case.
        """
        if SAID_BY_BROWSERS.isdisjoint(fields) or self._is_open:
            return False
        return fields.get(ORIGIN, b"") not in self._origins and is_foreign(method, path, fields)


def is_foreign(
    method: str, path: str, fields: Mapping[bytes, bytes], pages: Collection[str] = PAGES
) -> bool:
    """Whether a page of another site sends a request, and not a link to one of these pages. A
    preflight does nothing by itself (``CorsPolicy``).

    Args:
        fields: as of ``ForeignPages.refuses``.
    """
    if method == "OPTIONS":
        return False
    site = fields.get(FETCH_SITE)
    if site is None:
        return ORIGIN in fields and not _is_of_host(fields[ORIGIN], fields)
    is_link = fields.get(b"sec-fetch-mode") == b"navigate" and method in ("GET", "HEAD")
    return site not in OWN_SITES and not (is_link and path in pages)


def _is_of_host(origin: bytes, fields: Mapping[bytes, bytes]) -> bool:
    """Whether an origin is this server's own, as the client names it or a proxy in front does: no
    page can say ``X-Forwarded-Host`` without a preflight.
    """
    authority = origin.partition(b"://")[2].lower()
    hosts = (fields.get(b"host", b""), fields.get(b"x-forwarded-host", b""))
    return bool(authority) and authority in (host.lower() for host in hosts)


def foreign_error() -> Forbidden:
    """Return the error of such a request."""
    return Forbidden(FOREIGN)
