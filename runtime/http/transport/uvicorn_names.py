"""The classes of uvicorn that this folder builds on, none of which its documentation has. Where a
release has no such module any more, they are classes that no server has an instance of:
``assumptions`` says so, and uvicorn serves by itself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
else:
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
    except ImportError:

        class HttpToolsProtocol(asyncio.Protocol):
            """Of no connection."""

        class RequestResponseCycle:
            """Of no request."""


__all__ = ["HttpToolsProtocol", "RequestResponseCycle"]
