"""Files of web servers, by httpx, which reads ``HTTPS_PROXY`` and ``SSL_CERT_FILE`` itself.

A part of a file is asked for by ``Range`` and ``If-Range`` (RFC 9110, 13.1.5 and 14.2). Redirects
are followed by hand: to ``https`` alone from ``https``, and the password of a host (``~/.netrc``,
``NETRC``) goes to that host alone. Where a redirect leads is in no message: such addresses are
often signed.
"""

from __future__ import annotations

import asyncio
import netrc
import re
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urljoin, urlsplit

from runtime.artifacts.remote.objects import Interrupted, OpenedObject
from runtime.errors import StoreError
from runtime.system.model_locations import without_credentials

if TYPE_CHECKING:
    import httpx

CONNECT_S: Final = 15.0
SILENCE_S: Final = 30.0
"""Without a byte."""

MAX_REDIRECTS: Final = 5

DEADLINE_S: Final = 60.0
"""For an answer's head, and for each piece of its body."""

PIECE_BYTES: Final = 4 << 20
PIECE_S: Final = 1.0
"""After which a piece is handed on, however small."""

REDIRECTS: Final = (301, 302, 303, 307, 308)

LATER: Final = (408, 425, 429, 500, 502, 503, 504)
"""Statuses upon which a request is made again."""

_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+)")


T = TypeVar("T")

NO_PASSWORD: Final = (
    "Give the host's user and password in ~/.netrc (chmod 600), or in the file that NETRC names."
)


class WebObject:
    """A file of a web server.

    Args:
        url: its address, encoded.
        name: for messages.
        headers: that go with each request to that host, such as a token.
        netrc: the user's file of passwords; None: there is none.
        advice: what to do where the server allows nothing.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        headers: Mapping[str, str] | None = None,
        netrc: Path | None = None,
        advice: str = NO_PASSWORD,
    ) -> None:
        self._url = url
        self._name = name
        self._headers = dict(headers or {})
        self._netrc = netrc
        self._advice = advice

    @contextmanager
    def open(self, begin: int, mark: str) -> Iterator[OpenedObject]:
        """See ``RemoteObject``."""
        import httpx  # 60 ms that most commands do without

        # asynchronous, since a server may send its head a byte at a time: a deadline ends that
        with _client_errors(self._name), _event_loop() as loop:

            def within(work: Coroutine[Any, Any, T]) -> T:
                return loop.run_until_complete(asyncio.wait_for(work, DEADLINE_S))

            timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_S)
            client = httpx.AsyncClient(timeout=timeout, follow_redirects=False)
            try:
                response = within(self._get(client, begin, mark))
                is_another = response.status_code == 206 and _mark_of(response) != mark
                if begin and (is_another or response.status_code == 416):  # it has changed
                    within(response.aclose())
                    response = within(self._get(client, 0, ""))
                yield self._opened(response, begin, _chunks(response, within))
            finally:
                within(client.aclose())

    async def _get(self, client: httpx.AsyncClient, begin: int, mark: str) -> httpx.Response:

        url = self._url
        for _ in range(MAX_REDIRECTS + 1):
            headers = {"accept-encoding": "identity", "accept": "*/*"}
            if urlsplit(url)[:2] == urlsplit(self._url)[:2]:
                headers |= self._headers
            if begin:
                headers |= {"range": f"bytes={begin}-", "if-range": mark}
            request = client.build_request("GET", url, headers=headers)
            response = await client.send(request, stream=True, auth=self._passwords(url))
            if response.status_code not in REDIRECTS:
                return response
            await response.aclose()
            url = self._next_url(url, response.headers.get("location", ""))
        raise StoreError(
            f"{self._name}: it leads on more than {MAX_REDIRECTS} times. Write the address of the"
            " file itself."
        )

    def _passwords(self, url: str) -> httpx.NetRCAuth | None:
        """The user's passwords; they go over no connection that others can read.

        Raises:
            StoreError: the file of them is none.
        """
        import httpx

        if self._netrc is None or not url.startswith("https:"):
            return None
        try:
            return httpx.NetRCAuth(str(self._netrc))
        except netrc.NetrcParseError as error:  # whose text may have a password in it
            raise StoreError(f"{self._netrc}:{error.lineno}: cannot be read. Correct it.") from None
        except OSError as error:
            raise StoreError(f"{self._netrc} cannot be read ({error.strerror}).") from error

    def _next_url(self, url: str, location: str) -> str:
        """Where a redirect leads.

        Raises:
            StoreError: away from HTTP, from what is encrypted to what is not, or nowhere.
        """
        following = urljoin(url, location)
        scheme = urlsplit(following).scheme
        if not location or scheme not in ("https", "http"):
            what = f"to {scheme}:, which is no web server" if location else "nowhere"
            raise StoreError(f"{self._name}: it leads on {what}. Write the file's own address.")
        if scheme == "http" and url.startswith("https:"):
            raise StoreError(
                f"{self._name}: it leads on from https to http, where others could change the file."
                " Write the address of a server that does not."
            )
        return following

    def _opened(
        self, response: httpx.Response, begin: int, chunks: Iterator[bytes]
    ) -> OpenedObject:
        status = response.status_code
        if status in LATER:
            raise Interrupted(f"the server answered {status}", _retry_after_s(response))
        if status in (401, 403):
            raise StoreError(f"{self._name}: the server answered {status}. {self._advice}")
        if status in (404, 410):
            raise StoreError(f"{self._name} is not there: the server answered {status}.")
        found = _RANGE.fullmatch(response.headers.get("content-range", ""))
        is_part = status == 206 and found is not None and int(found[1]) == begin
        if status != 200 and not is_part:
            raise StoreError(f"{self._name}: the server answered {status} to a GET of a file.")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise StoreError(
                f"{self._name}: the server sends it compressed, though it is asked not to. Have it"
                " sent as it is."
            )
        if found is not None and is_part:
            return OpenedObject(begin, int(found[2]), _mark_of(response), chunks)
        length = response.headers.get("content-length", "")
        size = int(length) if length.isdecimal() else None
        return OpenedObject(0, size, _mark_of(response), chunks)


@contextmanager
def _event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop. ``asyncio.Runner`` asks for the signal's handler at each run, and Python then
    writes the task of the run before, with all bytes that it returned, into a text that it throws
    away: 200 MB took 4.4 s of a processor instead of 0.8.
    """
    loop = asyncio.new_event_loop()
    try:
        yield loop
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _chunks(
    response: httpx.Response, within: Callable[[Coroutine[Any, Any, bytes]], bytes]
) -> Iterator[bytes]:
    """The body in pieces, of what is read of it; what has come before a failure comes first."""
    body, failure = response.aiter_raw(), list[Exception]()

    async def read() -> bytes:
        piece, until = bytearray(), time.monotonic() + PIECE_S
        try:
            while len(piece) < PIECE_BYTES and time.monotonic() < until:
                if (chunk := await anext(body, None)) is None:
                    break
                piece += chunk
        except Exception as error:
            failure.append(error)
        return bytes(piece)

    while piece := within(read()):
        yield piece
        if failure:
            break
    if failure:
        raise failure[0]


@contextmanager
def _client_errors(name: str) -> Iterator[None]:
    """Turns what the client raises into advice.

    Raises:
        StoreError: the server is not to be trusted, or its address is none.
        Interrupted: in the place of everything else.
    """
    import httpx

    try:
        yield
    except (TimeoutError, httpx.TimeoutException) as error:
        raise Interrupted(f"nothing came within {SILENCE_S:g} s") from error
    except httpx.TransportError as error:
        text = without_credentials(str(error)).rstrip(".") or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in text:
            raise StoreError(
                f"{name}: the server's certificate is not trusted here. Name the file with its"
                " authority's in SSL_CERT_FILE."
            ) from error
        raise Interrupted(f"the connection failed ({text})") from error
    except httpx.InvalidURL as error:
        raise StoreError(f"{name} is no address: {without_credentials(str(error))}.") from error


def _mark_of(response: httpx.Response) -> str:
    """What ``If-Range`` takes: a strong ETag, or the time of the last change."""
    tag = str(response.headers.get("etag", ""))
    return tag if tag.startswith('"') else str(response.headers.get("last-modified", ""))


def _retry_after_s(response: httpx.Response) -> float:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else 0.0
