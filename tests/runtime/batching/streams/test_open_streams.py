"""The streams of one function: whose turn comes again, and what one is made of."""

from __future__ import annotations

import asyncio
import math

import pytest

from runtime.batching.calls import Call, Row
from runtime.batching.streams.open_streams import OpenStreams
from runtime.batching.streams.stream import BUFFER, Stream
from runtime.errors import FunctionError


def row_of(streams: OpenStreams) -> Row:
    """The row of a call that is open."""
    call = Call([{}], request_id="", now=0.0, deadline=math.inf)
    call.stream = Stream(asyncio.get_running_loop())
    streams.add(call)
    return call.rows[0]


def test_which_rows_wait_again_are_parked_or_have_ended():
    """By free buffer, and by the end of the generator or of the row."""

    async def main() -> None:
        streams, resumed = OpenStreams([1.0]), []
        waits, parks, ends, fails = rows = [row_of(streams) for _ in range(4)]
        for _ in range(BUFFER):
            parks.call.stream.put({})
        ends.call.stream.end()
        fails.error = FunctionError("it failed.")
        assert streams.requeue(rows, resumed.append) == ([waits], [ends, fails])
        assert not resumed
        await parks.call.stream.take()
        assert resumed == [[parks]]

    asyncio.run(main())


def test_a_row_costs_as_many_items_as_streams_had_lately():
    """Of those that came to their end."""

    async def main() -> None:
        factor = [1.0, 1.0]
        streams = OpenStreams(factor)
        for has_ended in [True] * 60 + [False] * 10:
            row = row_of(streams)
            for _ in range(50 if has_ended else 1):
                row.call.stream.put({})
            if has_ended:
                row.call.stream.end()
            streams.remove([row])
        assert factor == [1.0, pytest.approx(50, rel=0.01)]

    asyncio.run(main())


def test_the_end_of_the_function_is_that_of_its_streams():
    """Those that are open; their callers wait for nothing more."""

    async def main() -> None:
        streams = OpenStreams([1.0])
        closed, open_ = row_of(streams), row_of(streams)
        streams.remove([closed])
        streams.close_all()
        assert (closed.call.is_abandoned, open_.call.is_abandoned) == (False, True)
        assert await open_.call.stream.take() == []

    asyncio.run(main())
