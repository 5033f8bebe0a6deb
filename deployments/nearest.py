"""Who answers when a function of a host calls another: the host itself where it has that one loaded, else whoever HAProxy finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deployments.calling import Calling
from runtime.batching.rows import Ask
from runtime.library import Library
from runtime.neighbours import Neighbours
from runtime.wire.rows_codec import Outcome


class Nearest:
    """Callees of a host's functions; see ``runtime.callees.Callees``.

    A function that sleeps is called over HTTP, so that it wakes where it belongs: in a host of its hash, or in a deployment of its own.

    Mutable state: ``_library``, None until ``within``.
    """

    def __init__(self, calling: Calling) -> None:
        self.calling = calling
        self._library: Library | None = None

    def within(self, library: Library) -> None:
        """From now on what this library has loaded is called in its process."""
        self._library = library
        self._neighbours = Neighbours(library)

    async def call(self, name: str, rows: Sequence[dict[str, Any]], ask: Ask) -> Sequence[Outcome]:
        """See ``Callees``."""
        is_here = self._library is not None and self._library.keeps(name)
        return await (self._neighbours if is_here else self.calling).call(name, rows, ask)

    async def close(self) -> None:
        """Ends the idle connections."""
        await self.calling.close()
