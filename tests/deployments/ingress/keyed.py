"""HAProxy that asks for keys, before two servers in place of replicas."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from deployments.ingress.haproxy.access import ALL, access_maps, write_files
from deployments.ingress.haproxy.rules import FUNCTION, SECRET
from deployments.ingress.haproxy.terms import Deployed, DeployedCors
from runtime.declaration.access.keys import AccessKey, KeyDigest, digest_of, make_key
from tests.deployments.ingress.haproxy.proxies import (
    Replica,
    Running,
    at,
    free,
    ours,
    replicas,
    started,
    written,
)
from tests.deployments.projects import wait_until

SECRET_OF_CALLS = "c0ffee"

KEYED = Deployed(is_ours=True, secret=SECRET_OF_CALLS, cors=DeployedCors(None), asks_for_keys=True)

PREFIXES = {
    "/f/a": "a",
    "/f/a/b": "nested",
    "/f/ab": "ab",
    "/f/heads": "heads",
    "/f/watched": "watched",
    "/f/half": "half",
    "/f/other": ALL,
}
"""All are answered by the application at `/f`."""


class Keys:
    """Keys by their names, with what clients send."""

    def __init__(self) -> None:
        self.sent: dict[str, str] = {}
        self.known: list[AccessKey] = []

    def add(self, name: str, *, until: float | None = None, **more: object) -> str:
        """Another key; returns what its client sends."""
        key = self.sent[name] = make_key()
        self.known.append(AccessKey(name, (KeyDigest(digest_of(key), until),), **more))  # type: ignore[arg-type]
        return key

    def headers(self, name: str) -> dict[str, str]:
        """Of its client."""
        return {"x-api-key": self.sent[name]}


@contextmanager
def proxied(
    folder: Path,
    keys: Sequence[AccessKey] | None,
    prefixes: Mapping[str, str] = PREFIXES,
    deployed: Deployed = KEYED,
    *,
    change: Callable[[str], str] = lambda text: text,
    **options: object,
) -> Iterator[Running]:
    """Our HAProxy with these keys, before two replicas that have seen nothing yet.

    Args:
        keys: None: the files of the maps are there already.
        change: of the text of its configuration.
        options: of ``proxies.written``.
    """
    with replicas() as ports:
        port = free()
        if keys is not None:
            write_files(folder, access_maps(keys, prefixes))
        text = change(ours(written(folder, port, at(ports), **options), deployed))  # type: ignore[arg-type]
        with started(folder, text, port, ports) as running:
            inner = {SECRET: SECRET_OF_CALLS}
            wait_until(
                lambda: httpx.post(f"{running.url}/f", headers=inner, timeout=60).status_code == 200
            )
            for number, _ in enumerate(ports):  # a busy machine answers health checks late
                server = f"http-f/SERVE_REPLICA_f-{FUNCTION}-r{number}"
                running.tell(f"disable health {server}")
                running.tell(f"set server {server} health up")
            Replica.forget()
            yield running


def ask(
    proxy: Running, target: str, *lines: str, method: str = "POST", version: str = "1.1"
) -> bytes:
    """The whole answer to a request as it is written here, byte by byte; with an id, where it has no
    other, so that answers may be compared.
    """
    if not any(line.startswith("x-request-id") for line in lines):
        lines = (*lines, "x-request-id: one")
    body = "content-length: 0" if method in ("POST", "PUT") else "x-none: 1"
    head = "\r\n".join([f"{method} {target} HTTP/{version}", "host: h", *lines, body])
    return proxy.send(f"{head}\r\nconnection: close\r\n\r\n".encode())


def status_of(answer: bytes) -> int:
    """Of an answer."""
    return int(answer.split(b" ", 2)[1])


@contextmanager
def held(proxy: Running, target: str, *lines: str) -> Iterator[socket.socket]:
    """A call that is under way until the end of the block, or longer."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as caller:
        head = "\r\n".join([f"POST {target} HTTP/1.1", "host: h", *lines, "content-length: 0"])
        caller.sendall(f"{head}\r\n\r\n".encode())
        yield caller
