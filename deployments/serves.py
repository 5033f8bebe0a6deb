"""What the edge of a process needs to know of the object that Ray deployed in it."""

from __future__ import annotations

from typing import Protocol

from starlette.types import Receive, Scope, Send


class Routes(Protocol):
    """An ASGI application under a prefix.

    Attributes:
        prefix: where it is mounted; None or empty before it is known.
    """

    @property
    def prefix(self) -> str | None: ...
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class Serves:
    """The base of the classes whose calls go the short way.

    Attributes:
        routes: set at the end of the constructor.
        address: ``host:port`` where the process listens itself, behind HAProxy, once an exchange has told.
    """

    routes: Routes | None = None
    address: str = ""
