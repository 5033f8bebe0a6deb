"""Which way requests take on the installed uvicorn: decided once in a process, before it serves, by
whether ``assumptions`` hold.

1. All do: short calls, large bodies and files go past uvicorn.
2. What the shortcuts build on is otherwise: every request goes through uvicorn. The answers are the
   same, and take longer.
3. What ``RequestProtocol`` builds on is otherwise: uvicorn serves with a protocol of its own.
   Requests as clients of HTTP/1.1 write them are answered the same; ``LOST`` is what is not.

2 and 3 are said once in the log, with uvicorn's version and what is otherwise.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import Any, Final

import uvicorn
from uvicorn.config import HTTP_PROTOCOLS

from runtime.http.transport.assumptions.reading import READING, SELECTION
from runtime.http.transport.assumptions.shortcuts import SHORTCUTS
from runtime.http.transport.protocol import UVICORN, RequestProtocol, SlowProtocol
from runtime.system.assumptions import faults

logger = logging.getLogger("wakeful.http")

ASSUMPTIONS: Final = (*READING, *SHORTCUTS, *SELECTION)
"""All that is assumed of uvicorn."""

LOST: Final = (
    "the body of a request that asks for another protocol is read as the next request, trailers "
    "are headers, what is no HTTP is refused in plain text, streams reach clients of HTTP/1.0 in "
    "chunks, what two programs could read as two requests is read as one of them, and a head that "
    "does not end, a client that does not read and the number of connections have no bound"
)
"""What uvicorn's own protocol does otherwise than ``RequestProtocol``."""


SAID: Final = 3
"""Things that are otherwise, in a line of the log: a name that is gone is missed by many checks."""


@dataclass(frozen=True, slots=True)
class Contract:
    """What of uvicorn is otherwise than assumed, a sentence each.

    Attributes:
        version: uvicorn's.
        reading: of what ``RequestProtocol`` needs.
        shortcuts: of what goes past uvicorn.
    """

    version: str
    reading: tuple[str, ...] = ()
    shortcuts: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """Of ``uvicorn.Config``, for a server of ours."""
        if self.reading:
            return {"http": "auto", "ws": "none"}
        return {**UVICORN, "http": SlowProtocol} if self.shortcuts else UVICORN

    def warning(self) -> str:
        """What a log says; empty where all is as assumed."""
        if self.reading:
            follows, found = f"it reads HTTP by itself: {LOST}", self.reading
        elif self.shortcuts:
            follows, found = "every call goes through it, and takes longer", self.shortcuts
        else:
            return ""
        more = f"; and {len(found) - SAID} more" if len(found) > SAID else ""
        return (
            f"uvicorn {self.version} is not as Wakeful knows it, so {follows}. "
            f"What is otherwise: {'; '.join(found[:SAID])}{more}. docs/install.md has the releases "
            "that are known."
        )


@functools.cache
def look() -> Contract:
    """Try what is assumed of the installed uvicorn, once; a log says what is otherwise. Takes a few
    milliseconds.
    """
    reading = tuple(faults(READING))
    # what goes past it stands on it
    contract = Contract(uvicorn.__version__, reading, () if reading else tuple(faults(SHORTCUTS)))
    if text := contract.warning():
        logger.warning(text)
    return contract


def choose(protocol: type[RequestProtocol]) -> None:
    """Have servers to come read HTTP by this protocol, where their own program leaves the choice to
    uvicorn: there is no other way to give it to a server that Ray Serve makes.
    """
    contract = look()
    if contract.reading:
        return
    if otherwise := faults(SELECTION):
        logger.warning(Contract(contract.version, tuple(otherwise)).warning())
        return
    protocol.is_fast = not contract.shortcuts
    HTTP_PROTOCOLS["auto"] = f"{protocol.__module__}:{protocol.__qualname__}"
