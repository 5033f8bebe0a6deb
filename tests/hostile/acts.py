"""The rows of what hostile clients do (docs/reliability.md, by number) that are more than bytes on
one connection: many clients, clients that leave, and clients that are slow.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass

import httpx

from tests import basic
from tests.deployments.projects import wait_until
from tests.hostile.exchanges import exchange
from tests.hostile.rows import GOOD, LAST, expect_no_secret, post
from tests.hostile.targets import WAIT, Target

HALF = GOOD[:60]
"""A head that is not whole."""

UPLOAD = LAST[:-5]
"""A body that is not."""


@dataclass(frozen=True)
class Act:
    """What is done, and looked at."""

    number: int
    name: str
    check: Callable[[Target], None]

    def __str__(self) -> str:
        return f"{self.number}: {self.name}"


def connect(target: Target, sent: bytes) -> socket.socket:
    """A connection on which this was sent."""
    connection = socket.create_connection(("127.0.0.1", target.port), timeout=60)
    with suppress(ConnectionError):
        connection.sendall(sent)
    return connection


def reset(connection: socket.socket) -> None:
    """Leave with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def names(target: Target) -> None:
    """Of functions that there are not: as many series as before."""
    with httpx.Client(base_url=target.url, timeout=60) as client:
        before = _series(client)
        # by a client that goes on when HAProxy, which is told of a replica, closes its connection
        found = [client.get(f"/v2/models/unknown-{n}").status_code for n in range(500)]
        assert found == [404] * 500
        after = _series(client)
        assert not {name for name in after if "unknown-" in name}
        assert len(after) <= len(before) + 5


def _series(client: httpx.Client) -> set[str]:
    """What is counted by now, but for what HAProxy counts of itself."""
    lines = client.get("/metrics").text.splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("haproxy")}


def ids(target: Target) -> None:
    """What comes back of an id is bounded."""
    sent = {"x-request-id": "a" * 10_000}
    answer = httpx.post(f"{target.url}{basic.MEAN}", json={"values": [1]}, headers=sent, timeout=60)
    assert (answer.status_code, answer.headers["x-request-id"]) == (200, "a" * 128)


def poison(target: Target) -> None:
    """One row of 8 and of 20 that breaks its stage: the others are answered, as if alone."""
    with httpx.Client(base_url=target.url, timeout=60) as client:
        for count in (8, 20):
            rows = [{"values": [14 if n == 3 else n + 20]} for n in range(count)]
            answers = client.post(basic.MEAN, json=rows).json()
            assert [one.get("mean") for one in answers] == [
                None if n == 3 else n + 20.0 for n in range(count)
            ]
            assert (answers[3]["status"], answers[3]["code"]) == (500, "function_failed")
            expect_no_secret(str(answers[3]).encode())


def leave(target: Target, times: int = 10) -> None:
    """Clients that reset their connections in the head, in the body and in the call."""
    for sent in (HALF, UPLOAD, GOOD, post(b'{"seconds": 0.05}', path=WAIT)):
        for _ in range(times):
            reset(connect(target, sent))
    assert target.is_well()


def overload(target: Target) -> None:
    """More calls than are taken: some are answered and the others refused, with when to call again;
    it is over with the calls.
    """
    wait_until(lambda: _takes_calls(target))  # calls that clients left may be under way
    with ThreadPoolExecutor(24) as pool, httpx.Client(base_url=target.url, timeout=60) as client:

        def call(_: int) -> httpx.Response:
            return client.post(WAIT, json={"seconds": 0.3})

        answers = list(pool.map(call, range(24)))
    statuses = {answer.status_code for answer in answers}
    assert {429} < statuses <= {200, 429}, statuses
    for answer in answers:
        if answer.status_code == 429:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["code"] == "overloaded"
    wait_until(lambda: _takes_calls(target))


def _takes_calls(target: Target) -> bool:
    return exchange(target.port, post(b'{"seconds": 0}', path=WAIT)).statuses == [200]


def idle_uploads(target: Target) -> None:
    """Many that say how long their body is and send nothing of it: others are answered."""
    with ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(closing(connect(target, GOOD.replace(b"h: 15", b"h: 99999")[:-15])))
        for _ in range(10):
            assert exchange(target.port, LAST).statuses == [200]


def slow(target: Target) -> None:
    """Half a head, half a body, and nothing at all: each connection ends after 30 s, with 408 where
    there is a request to answer.
    """
    sent = (HALF, UPLOAD, b"", GOOD + HALF)
    began = time.monotonic()
    with ExitStack() as stack:
        held = [stack.enter_context(closing(connect(target, one))) for one in sent]
        found = []
        for connection in held:
            received = b""
            with suppress(ConnectionError):
                while chunk := connection.recv(65536):
                    received += chunk
            found.append([int(one[:3]) for one in received.split(b"HTTP/1.1 ")[1:]])
    assert found[0] in ([408], [])
    assert found[1] in ([408], [504])  # the call's own deadline is as long
    assert found[2] in ([408], [])
    assert found[3][0] == 200
    assert time.monotonic() - began > 20
    assert target.is_well()


ACTS = [
    Act(26, "500 unknown names", names),
    Act(27, "an id is cut", ids),
    Act(31, "a row that breaks its batch", poison),
    Act(33, "clients that leave", leave),
    Act(35, "more calls than are taken", overload),
    Act(35, "idle uploads", idle_uploads),
]

SLOW = Act(7, "slow clients", slow)
