"""Lets pages of declared origins call (CORS): the answer to a browser's preflight, and the headers
of every other response.

Pure: headers in, headers out. The transports ask; on a cluster HAProxy does the same
(``deployments/ingress/haproxy/rules.cfg.j2``). A preflight reaches no function, and so wakes none.
An origin that is not declared gets no header, and its browser tells the page nothing.

Source: WHATWG Fetch, section 3.3 (CORS protocol).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runtime.declaration.http_section import ANY_ORIGIN, CorsSpec
from runtime.http.request_headers import Header

METHODS: Final = b"GET, HEAD, POST"

EXPOSED: Final = (
    b"accept-ranges, content-disposition, content-range, inference-header-content-length,"
    b" retry-after, server-timing, x-request-id"
)
"""Headers of responses that a page may read beside those that it always may."""

VARY: Final[Header] = (b"vary", b"origin")


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
