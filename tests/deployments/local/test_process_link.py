"""What a process of `wakeful run --workers` is told of the others."""

from __future__ import annotations

import asyncio
from multiprocessing import Pipe
from types import SimpleNamespace

from deployments.local.process_link import ALIVE, GROUP, LEAVING, GroupState, ProcessLink
from runtime.http.catalogue.process_share import CatalogueSources
from runtime.library.capture.captures import Order


class Library:
    """As much of one as the link uses; `f` is quarantined from the start."""

    quarantined = {"f": "it hangs"}  # noqa: RUF012

    def __init__(self):
        self.told = []

    def set_quarantined(self, reasons):
        """Keep what was told."""
        self.told.append(dict(reasons))

    @property
    def entries(self):
        """Itself."""
        return self

    def require(self, name):
        """Of any function, that it is not kept."""
        return SimpleNamespace(is_kept=False)


class Repository:
    """Notes what is pinned."""

    def __init__(self):
        self.pinned = []

    async def pin(self, name):
        """Note it."""
        self.pinned.append(name)


class Captures:
    """Notes what is ordered."""

    def __init__(self):
        self.orders = []

    async def start(self, name, order):
        """Note it."""
        self.orders.append((name, order))


class Server:
    """Ends when it is told to."""

    def __init__(self):
        self.ended = asyncio.Event()

    def drain(self):
        """Note it."""
        self.ended.set()


def test_a_process_takes_what_holds_for_all_and_ends_with_the_one_that_started_it(tmp_path):
    """Quarantines beside its own, pins, orders to record calls that are not over, and the end of
    the pipe.
    """

    async def live():
        ours, theirs = Pipe()
        link = ProcessLink(theirs, 0, 2, tmp_path, is_first=True)
        library, repository, server, captures = Library(), Repository(), Server(), Captures()
        own = CatalogueSources(None, None, repository, None, None, captures)
        link.share.join(library, own)
        link.serve(server, 4001, lambda: None)
        assert [ours.recv(), ours.recv()] == [(ALIVE, None), ("serving", 4001)]
        order, over = Order(1.0, 4e9), Order(1.0, 5.0)
        pinned, captured = frozenset({"h"}), {"h": order, "g": over}
        ours.send((GROUP, GroupState({0: 4001}, {"g": "it crashes"}, pinned, captured)))
        ours.send((GROUP, GroupState({0: 4001}, {"g": "it crashes"}, pinned, captured)))
        async with asyncio.timeout(20):
            while not (library.told and repository.pinned[1:]):
                await asyncio.sleep(0)
        assert captures.orders == [("h", order)]
        assert library.told == [{"f": "it hangs", "g": "it crashes"}]
        assert set(repository.pinned) == {"h"}
        link.share.on_leaving()
        assert ours.recv() == (LEAVING, None)
        ours.close()
        async with asyncio.timeout(20):
            await server.ended.wait()
        theirs.close()

    asyncio.run(live())
