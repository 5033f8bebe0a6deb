"""The declared functions of a library by name and by route prefix, and the switch from one version
of a function to the next while it serves.

The next version is loaded and warmed up next to the one that serves and takes its place in one step
of the event loop: no call waits. If it does not load, the one that serves goes on until the
function is declared again. If there is no memory for both, or the one that serves is unloaded
first, callers wait for the next version as for any function that sleeps.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator

from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import NotFound
from runtime.library.entry import DeclaredFunction, LibraryEntry
from runtime.library.eviction import LoadedSet
from runtime.library.loading import SingleFlightLoader
from runtime.system.messages import KnownPaths, did_you_mean, known_names


class Registry:
    """The entries of a library.

    Args:
        loaded_set: unloads superseded versions.
        loader: loads next versions.
        on_change: called with the name of a function whose version has changed, or whose next
            version has failed.

    Mutable state, on the event loop only: ``_entries`` (by name; each knows its next version),
    ``_prefixes`` (the same by route prefix) and ``_public_prefixes`` (once a client has missed).
    """

    def __init__(
        self, loaded_set: LoadedSet, loader: SingleFlightLoader, on_change: Callable[[str], None]
    ) -> None:
        self._loaded_set = loaded_set
        self._loader = loader
        self._on_change = on_change
        self._entries: dict[str, LibraryEntry] = {}
        self._prefixes: dict[str, LibraryEntry] = {}
        self._longest_prefix = 0
        self._public_prefixes: KnownPaths | None = None

    def __iter__(self) -> Iterator[LibraryEntry]:
        """In the order of declaration."""
        return iter(tuple(self._entries.values()))

    def declare(self, declared: Iterable[DeclaredFunction]) -> None:
        """Replace the set of functions: unload those that are gone, load the next version of those
        that changed, apply live settings at once, keep the rest.
        """
        previous, self._entries = self._entries, {}
        for function in declared:
            name = function.spec.name
            entry = previous.pop(name, None)
            self._entries[name] = (
                LibraryEntry(function) if entry is None else self._update(entry, function)
            )
        for entry in previous.values():
            self._supersede(entry)
        self._index_prefixes()
        self._loaded_set.recompute_next_unload()

    def get(self, name: str) -> LibraryEntry | None:
        """Return the version that answers a call made now."""
        entry = self._entries.get(name)
        if (
            entry is None
            or entry.function is not None
            or entry.next_version is None
            or entry.next_version.reason
        ):
            return entry
        return self._promote_next(entry)

    def require(self, name: str) -> LibraryEntry:
        """Return the same as ``get``.

        Raises:
            NotFound: no such function is declared.
        """
        entry = self.get(name)
        if entry is None:
            raise NotFound(
                f"no function is named so{did_you_mean(name, known_names(self._entries)) or '.'}"
            )
        return entry

    @property
    def specs(self) -> dict[str, FunctionSpec]:
        """Every function's declaration by name."""
        return {name: entry.spec for name, entry in self._entries.items()}

    def find(self, path: str) -> LibraryEntry | None:
        """Return the function whose prefix the path is under; the longest prefix wins, on whole
        segments.
        """
        prefix = path[: self._longest_prefix + 1]
        while True:
            entry = self._prefixes.get(prefix)
            if entry is not None:
                return entry
            cut = prefix.rfind("/")
            if cut < 0:
                return None
            prefix = prefix[:cut]

    @property
    def public_prefixes(self) -> KnownPaths:
        """The prefixes that a client may have meant; only functions know of split stages."""
        if self._public_prefixes is None:
            self._public_prefixes = KnownPaths(
                prefix
                for prefix, entry in self._prefixes.items()
                if not entry.spec.deployed.part_of
            )
        return self._public_prefixes

    def _update(self, entry: LibraryEntry, declared: DeclaredFunction) -> LibraryEntry:
        """Return the entry that has the name after another declaration of it."""
        if entry.apply_declaration(declared):
            self._supersede_next(entry)
            return entry
        if entry.next_version is not None and not entry.next_version.apply_declaration(declared):
            self._supersede_next(entry)
        next_version = entry.take_next_version() or LibraryEntry(declared)
        if entry.function is None:
            self._supersede(entry)
            return next_version
        entry.set_next_version(next_version)
        if next_version.load_task is None:
            next_version.require_warm_up()  # no caller waits for it
            now = time.monotonic()
            task = self._loader.start(next_version, now, now)
            task.add_done_callback(
                lambda task: self._on_next_version_loaded(entry, next_version, task)
            )
        return entry

    def _on_next_version_loaded(
        self, entry: LibraryEntry, next_version: LibraryEntry, task: asyncio.Task[None]
    ) -> None:
        if entry.next_version is not next_version or task.cancelled():
            return
        # It is loaded; or there was no memory for it, and there is when the previous one has gone.
        if not next_version.reason:
            self._promote_next(entry)
        self._on_change(entry.name)

    def _promote_next(self, entry: LibraryEntry) -> LibraryEntry:
        next_version = entry.take_next_version()
        assert next_version is not None
        self._entries[entry.name] = next_version
        self._index_prefixes()
        self._supersede(entry)
        return next_version

    def _supersede(self, entry: LibraryEntry) -> None:
        self._supersede_next(entry)
        entry.supersede()
        self._loaded_set.unload(entry, "changed")

    def _supersede_next(self, entry: LibraryEntry) -> None:
        next_version = entry.take_next_version()
        if next_version is not None:
            self._supersede(next_version)

    def _index_prefixes(self) -> None:
        self._prefixes = {entry.spec.route_prefix: entry for entry in self._entries.values()}
        self._longest_prefix = max(map(len, self._prefixes), default=0)
        self._public_prefixes = None
