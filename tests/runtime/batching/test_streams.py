"""The streams of one function: whose turn comes again, and what one is made of."""

from __future__ import annotations

import asyncio
import math

import pytest

from runtime.batching.rows import Call, Row
from runtime.batching.stream import BUFFER, Stream
from runtime.batching.streams import Streams
from runtime.errors import FunctionError


def row_of(streams: Streams) -> Row:
    """The row of a call that is open."""
    call = Call([{}], request_id="", now=0.0, deadline=math.inf)
    call.stream = Stream(asyncio.get_running_loop())
    streams.open(call)
    return call.rows[0]


def test_who_waits_again_who_is_parked_and_who_has_ended():
    """By room, and by the end of the generator or of the row."""

    async def main() -> None:
        streams, resumed = Streams([1.0]), []
        waits, parks, ends, fails = rows = [row_of(streams) for _ in range(4)]
        for _ in range(BUFFER):
            parks.call.stream.give({})
        ends.call.stream.end()
        fails.error = FunctionError("it failed.")
        assert streams.turns(rows, resumed.append) == ([waits], [ends, fails])
        assert not resumed
        await parks.call.stream.take()
        assert resumed == [[parks]]

    asyncio.run(main())


def test_a_row_costs_as_many_items_as_streams_had_lately():
    """Of those that came to their end."""

    async def main() -> None:
        factor = [1.0, 1.0]
        streams = Streams(factor)
        for has_ended in [True] * 60 + [False] * 10:
            row = row_of(streams)
            for _ in range(50 if has_ended else 1):
                row.call.stream.give({})
            if has_ended:
                row.call.stream.end()
            streams.close([row])
        assert factor == [1.0, pytest.approx(50, rel=0.01)]

    asyncio.run(main())


def test_the_end_of_the_function_is_that_of_its_streams():
    """Those that are open; their callers wait for nothing more."""

    async def main() -> None:
        streams = Streams([1.0])
        closed, open_ = row_of(streams), row_of(streams)
        streams.close([closed])
        streams.end()
        assert (closed.call.is_abandoned, open_.call.is_abandoned) == (False, True)
        assert await open_.call.stream.take() == []

    asyncio.run(main())
