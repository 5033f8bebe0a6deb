"""Bodies in flight are bounded: by function, by process, and given back whatever becomes of the
call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from runtime.batching.reservation import BodyReservation, ByteBudget, bytes_rejection
from runtime.errors import Overloaded
from tests.sleepers import HANDS, Served, obedient, run, serving


def test_a_reservation_counts_in_all_budgets_or_in_none():
    """A refusal leaves the rooms as they were; an end is the end once."""
    small, large = ByteBudget(lambda: 10), ByteBudget(lambda: 100)
    one, two = (
        BodyReservation((large, small), lambda: 3),
        BodyReservation((large, small), lambda: 3),
    )
    one.extend_to(8)
    with pytest.raises(Overloaded) as refused:
        two.extend_to(5)
    assert (refused.value.retry_after_s, small.held, large.held) == (3, 8, 8)
    two.extend_to(2)
    one.end()
    one.end()
    assert (small.held, large.held) == (2, 2)
    two.extend_to(50)  # alone it may be as large as it likes
    assert small.held == 50


def test_a_length_beyond_the_budget_is_refused_and_one_within_it_reserves_nothing():
    """A declared length reserves nothing: clients that send nothing of theirs leave the budget to
    others.
    """
    budget = ByteBudget(lambda: 100)
    one, other = BodyReservation((budget,), lambda: 3), BodyReservation((budget,), lambda: 3)
    one.require(100)
    assert budget.held == 0
    other.extend_to(50)
    with pytest.raises(Overloaded):
        one.require(51)


def test_of_a_crowd_one_is_made_at_a_time():
    """Bodies that fill the budget, or a row that takes more than all of it, do not keep the only one
    from being made.
    """
    budget = ByteBudget(lambda: 100)
    one, two = BodyReservation((budget,), lambda: 3), BodyReservation((budget,), lambda: 3)
    one.extend_to(50)
    two.extend_to(50)
    one.add(200, 0)
    with pytest.raises(Overloaded):
        two.add(1, 0)
    with pytest.raises(Overloaded):
        BodyReservation((budget,), lambda: 3).extend_to(1)
    one.add(-200, 200)
    two.add(200, 0)


def test_rows_of_one_call_get_no_more_memory_than_those_of_many():
    """A body of 20 MB may hold 150 pictures of 40 million pixels."""
    one = BodyReservation((ByteBudget(lambda: 100),), lambda: 3)
    one.extend_to(10)
    one.add(60, 0)
    with pytest.raises(Overloaded):
        one.add(60, 0)
    one.add(30, 0)


def test_what_is_counted_after_the_end_counts_for_no_call():
    """A stage that still runs for a client that left takes no memory for good; neither does a call
    that it made, nor a body that is still read.
    """
    budget = ByteBudget(lambda: 100)
    one = BodyReservation((budget,), lambda: 3)
    one.extend_to(10)
    two = one.part(0)
    two.add(50, 0)
    assert budget.held == 60
    two.add(-20, 50)
    two.end()
    assert (budget.held, budget.derived, one.derived) == (10, 0, 0)  # ``one`` goes on
    two.end()
    assert budget.held == 10
    one.end()
    one.add(5, 0)
    one.add(-5, 5)
    one.extend_to(50)
    assert (budget.held, budget.derived, one.size) == (0, 0, 0)


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    """A body without a length."""
    for start in range(0, len(body), 100):
        yield body[start : start + 100]


def row(size: int) -> bytes:
    """A row of exactly so many bytes."""
    return b'{"n": 1' + b" " * (size - 8) + b"}"


@pytest.mark.parametrize("is_chunked", [False, True])
def test_more_bytes_than_a_function_holds_are_refused_at_once(tmp_path, is_chunked):
    """429 with Retry-After while others' bodies are in flight; what they held is there again once
    they are answered.
    """
    hand = HANDS["bytes"]

    async def send(served: Served, size: int) -> httpx.Response:
        content = pieces(row(size)) if is_chunked else row(size)
        return await served.client.post(
            "/v2/models/f", content=content, headers={"content-type": "application/json"}
        )

    async def work(served: Served) -> None:
        await served.library.load("f")
        hand.may_answer.clear()
        first = asyncio.create_task(send(served, 900))
        await served.until_begun("f")
        refused = await send(served, 200)
        assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
        assert "limits.max_ongoing_bytes" in refused.json()["error"]
        assert int(refused.headers["retry-after"]) >= 1
        second = asyncio.create_task(send(served, 100))
        hand.may_answer.set()
        assert [(await one).status_code for one in (first, second)] == [200, 200]
        assert (await send(served, 1000)).status_code == 200

    run(
        serving(
            tmp_path,
            obedient("f", "bytes", limits={"max_body_bytes": 1000, "max_ongoing_bytes": 1000}),
        ),
        work,
    )


def test_a_form_counts_twice(tmp_path):
    """Its parts are copied."""
    hand = HANDS["form"]

    async def work(served: Served) -> None:
        await served.library.load("f")
        hand.may_answer.clear()
        content = b"n=1".ljust(100, b"&")
        headers = {"content-type": "application/x-www-form-urlencoded"}
        call = served.client.post("/v2/models/f", content=content, headers=headers)
        first = asyncio.create_task(call)
        await served.until_begun("f")
        entry = served.library.entries.find("/v2/models/f")
        assert entry is not None
        budget = served.handler.body_budget_of(entry)
        assert budget.held == 200
        hand.may_answer.set()
        assert (await first).status_code == 200
        assert budget.held == 0

    run(serving(tmp_path, obedient("f", "form")), work)


def test_what_a_process_holds_is_bounded_over_all_its_functions(tmp_path):
    """Another function's bodies count, too; a largest one is taken where nothing is held."""
    hand = HANDS["process"]

    async def send(served: Served, name: str, size: int) -> httpx.Response:
        return await served.client.post(
            f"/v2/models/{name}", content=row(size), headers={"content-type": "application/json"}
        )

    async def work(served: Served) -> None:
        for name in "fg":
            await served.library.load(name)
        served.library.budget_bytes = 2000
        hand.may_answer.clear()
        first = asyncio.create_task(send(served, "f", 5000))
        await served.until_begun("f")
        assert (await send(served, "g", 100)).status_code == 429
        hand.may_answer.set()
        assert (await first).status_code == 200
        assert (await send(served, "g", 100)).status_code == 200

    run(serving(tmp_path, obedient("f", "process"), obedient("g", "free")), work)


@pytest.mark.parametrize("body", [b"{", b'{"m": 1}', b'{"n": "x"}', row(2000)])
def test_what_is_refused_gives_its_bytes_back(tmp_path, body):
    """Malformed, misnamed, mistyped or too large, a hundred times: the budget is empty again."""

    async def work(served: Served) -> None:
        await served.library.load("f")
        for _ in range(100):
            answer = await served.client.post(
                "/v2/models/f", content=body, headers={"content-type": "application/json"}
            )
            assert answer.status_code in (400, 413)
        assert (await served.call("f")).status_code == 200

    run(
        serving(
            tmp_path,
            obedient("f", "given", limits={"max_body_bytes": 1000, "max_ongoing_bytes": 1000}),
        ),
        work,
    )


@pytest.mark.parametrize(
    ("held", "own", "more", "admitted"),
    [
        (0, 0, 100, True),
        (0, 0, 5000, True),
        (900, 0, 100, True),
        (900, 0, 101, False),
        (1, 0, 1000, False),
        (900, 900, 5000, True),
        (901, 900, 100, False),
    ],
)
def test_bytes_are_admitted(held, own, more, admitted):
    """Up to what the budget holds; a body alone in it is taken whatever its size, at once or as it
    grows.
    """
    error = bytes_rejection(held, own, more, 1000, 3)
    assert (error is None) is admitted
    if error is not None:
        assert (error.status, error.retry_after_s) == (429, 3)
        assert str(held) in error.message
        assert "max_ongoing_bytes" in error.message
