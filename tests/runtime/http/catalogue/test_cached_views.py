"""What is shown of all functions, and for how long."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from runtime.errors import Unavailable
from runtime.http.catalogue import cached_views
from runtime.http.catalogue.app import catalogue
from runtime.http.catalogue.cached_views import (
    FEW,
    MOST_TEXTS,
    SHORT_BYTES,
    CachedText,
    CachedView,
    entries_last_s,
    text_lasts_s,
)
from runtime.system.messages import KnownPaths


@pytest.mark.parametrize(
    ("count", "lasts_s"), [(0, 0.0), (FEW, 0.0), (FEW + 1, 0.065), (1000, 1.0), (30_000, 1.0)]
)
def test_how_long_functions_are_shown(count, lasts_s):
    """Of few they are as they are now."""
    assert entries_last_s(range(count)) == pytest.approx(lasts_s)


@pytest.mark.parametrize(
    ("size", "lasts_s"), [(SHORT_BYTES, 0.0), (SHORT_BYTES + 1, 0.065537), (9_000_000, 1.0)]
)
def test_how_long_a_text_is_shown(size, lasts_s):
    """Likewise."""
    assert text_lasts_s(bytes(size)) == pytest.approx(lasts_s)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        """In the place of ``time``'s."""
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """Of views."""
    clock = Clock()
    monkeypatch.setattr(cached_views, "time", clock)
    return clock


class Counted:
    """Makes a view, and counts it."""

    def __init__(self) -> None:
        self.made = 0
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def make(self) -> int:
        self.made += 1
        made = self.made
        await self.may_end.wait()
        return made


def test_it_is_made_again_when_its_time_is_over(clock):
    """Not before, however many ask."""

    async def work() -> None:
        counted = Counted()
        view = CachedView(counted.make, lambda made: 0.5)
        assert [await view.read() for _ in range(20)] == [1] * 20
        clock.now += 0.6
        assert [await view.read() for _ in range(20)] == [2] * 20

    asyncio.run(work())


def test_requests_at_the_same_time_share_one():
    """Also where none is remembered; one that leaves takes nothing from the others."""

    async def work() -> None:
        counted = Counted()
        counted.may_end.clear()
        view = CachedView(counted.make, lambda made: 0.0)
        asking = [asyncio.ensure_future(view.read()) for _ in range(20)]
        await asyncio.sleep(0)
        asking[0].cancel()
        counted.may_end.set()
        assert await asyncio.gather(*asking[1:]) == [1] * 19
        assert await view.read() == 2

    asyncio.run(work())


def test_a_change_is_seen_by_the_next_request():
    """Also where the one before was still being made."""

    async def work() -> None:
        counted = Counted()
        view = CachedView(counted.make, lambda made: 60.0)
        assert await view.read() == 1
        view.forget()
        counted.may_end.clear()
        before = asyncio.ensure_future(view.read())
        await asyncio.sleep(0)
        view.forget()
        after = asyncio.ensure_future(view.read())
        counted.may_end.set()
        assert (await before, await after, await view.read()) == (2, 3, 3)

    asyncio.run(work())


def test_one_that_fails_is_made_again_for_the_next_request():
    """And says why to those that wait for it."""

    async def fail() -> int:
        nonlocal failed
        failed += 1
        raise LookupError(failed)

    async def work() -> None:
        view = CachedView(fail, lambda made: 60.0)
        for count in (1, 2):
            with pytest.raises(LookupError, match=str(count)):
                await view.read()

    failed = 0
    asyncio.run(work())


def test_a_text_is_written_once_for_each_view():
    """By which one it is, not by what is in it."""
    written = CachedText(lambda view, seen: bytes(view))
    view = [1, 2]
    assert written.text_of(view) is written.text_of(view)
    assert written.text_of([1, 2]) == bytes([1, 2])


def test_what_keys_see_of_a_view_is_written_once_as_well():
    """Of the same view; of so many keys that no client fills the memory."""

    def write(view: list[int], seen: int | None) -> bytes:
        made.append(seen)
        return bytes(view if seen is None else [seen])

    made: list[int | None] = []
    written, view = CachedText(write), [1, 2]
    for _ in range(3):
        assert (written.text_of(view), written.text_of(view, 2)) == (b"\1\2", b"\2")
    assert made == [None, 2]
    assert written.text_of([3], 2) == b"\2"
    assert made == [None, 2, 2]
    for seen in range(100):
        written.text_of(view, seen)
    assert len(written._texts) <= MOST_TEXTS


def test_many_functions_are_looked_at_once_for_all_clients(clock):
    """The index in its three forms, and metrics; what a client changes is seen at once."""
    made = {"index": 0, "metrics": 0}

    async def index() -> list[dict[str, Any]]:
        made["index"] += 1
        return [
            {"name": f"f{n}", "state": "asleep", "url": f"/f{n}", "reason": "", "part_of": ""}
            for n in range(1000)
        ]

    async def metrics() -> bytes:
        made["metrics"] += 1
        return bytes(1 << 20)

    async def work() -> None:
        transport = httpx.ASGITransport(
            catalogue(index, lambda: KnownPaths(()), None, metrics, Repository())
        )
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            paths = ("/", "/v2/repository/index", "/v2/health/ready", "/metrics")
            for path in paths * 5:
                assert (await client.get(path)).status_code == 200
            assert made == {"index": 1, "metrics": 1}
            await client.post("/v2/repository/models/f1/load")
            await client.get("/")
            assert made == {"index": 2, "metrics": 1}
            clock.now += 1.1
            for path in paths:
                await client.get(path)
            assert made == {"index": 3, "metrics": 2}

    asyncio.run(work())


@pytest.mark.parametrize("headers", [{}, {"x-wakeful-functions": "mine"}])
def test_a_path_that_leads_nowhere_is_answered_in_the_error_form(headers):
    """Also where the index, of which a key sees a part, cannot be made."""

    async def index() -> list[dict[str, Any]]:
        raise Unavailable("nothing is known")

    async def work() -> None:
        transport = httpx.ASGITransport(catalogue(index, lambda: KnownPaths(())))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.get("/elsewhere", headers=headers)
            assert answer.json()["code"] == ("unavailable" if headers else "not_found")

    asyncio.run(work())


class Repository:
    """Loads at once."""

    async def load(self, name: str) -> None:
        """Nothing is to be done."""

    unload = pin = unpin = load
