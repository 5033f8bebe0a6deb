"""What a server says of itself, read no further and no longer than it may be: a wrong URL may be of
anything.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

import httpx

from deployments.ingress.tls.clients import ClientFiles

MOST_BYTES: Final = 64 << 20
"""Of an answer."""


def open_client(url: str, headers: Mapping[str, str], trust: ClientFiles) -> httpx.Client:
    """A client of a server, which is asked directly: a proxy of the environment may know another by
    that name.

    Args:
        trust: files with which it is asked, if it speaks TLS.
    """
    verify = trust.context() or httpx.create_ssl_context() if url.startswith("https:") else True
    return httpx.Client(base_url=url, headers=headers, trust_env=False, verify=verify)


def ask(client: httpx.Client, path: str, within_s: float) -> httpx.Response:
    """A server's answer to ``GET``; of its head only the status is kept.

    Args:
        within_s: of the whole answer.

    Raises:
        httpx.HTTPError: none came, in this time or not within ``MOST_BYTES``.
    """
    until = time.monotonic() + within_s
    headers = {"accept": "application/json, text/plain"}
    body = bytearray()
    with client.stream("GET", path, timeout=within_s, headers=headers) as answer:
        for part in answer.iter_bytes():
            body += part
            if len(body) > MOST_BYTES:
                raise httpx.ReadError(f"its answer has more than {MOST_BYTES >> 20} MiB")
            if time.monotonic() > until:
                raise httpx.ReadTimeout(f"its answer is not whole after {within_s:g} s")
    return httpx.Response(answer.status_code, content=bytes(body), request=answer.request)
