"""HAProxy holds a key to its limits, and slows what guesses keys: the real program."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from deployments.ingress.haproxy.rules import FREE_GUESSES, GUESS_S, KEY_PAGES, MOST_HELD
from runtime.declaration.access.keys import make_key
from tests.deployments.ingress.haproxy.proxies import Replica, Running
from tests.deployments.ingress.keyed import Keys, ask, held, proxied, status_of
from tests.deployments.projects import wait_until

pytestmark = pytest.mark.slow

KEYS = Keys()
KEYS.add("free")
KEYS.add("second", rps=2.0)
KEYS.add("minute", rps=0.02)
KEYS.add("one", in_flight=1)
KEYS.add("two", in_flight=2)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With these keys."""
    with proxied(tmp_path_factory.mktemp("limits"), KEYS.known) as running:
        yield running


def header(name: str) -> str:
    """The line of a key's client."""
    return f"x-api-key: {KEYS.sent[name]}"


def test_calls_beyond_a_second_are_refused(proxy: Running):
    """429 with when to call again; another key is not. What is refused does not count."""
    head = f"POST /f/a HTTP/1.1\r\nhost: h\r\n{header('second')}\r\ncontent-length: 0\r\n"
    many = 12

    refused: list[bytes] = []

    def are_refused() -> bool:
        """Some of calls that HAProxy has at one time."""
        text = f"{head}\r\n" * (many - 1) + f"{head}connection: close\r\n\r\n"
        found = proxy.send(text.encode()).split(b"HTTP/1.1 ")[1:]
        assert len(found) == many
        assert {int(answer[:3]) for answer in found} <= {200, 429}
        refused.extend(answer for answer in found if answer.startswith(b"429"))
        return bool(refused)

    wait_until(are_refused)  # a busy machine may take more than a second for them
    for answer in refused:
        start, _, body = answer.partition(b"\r\n\r\n")
        assert b"\r\nretry-after: 1" in start
        assert json.loads(body)["code"] == "key_limit"
    assert all(status_of(ask(proxy, "/f/a", header("free"))) == 200 for _ in range(20))
    wait_until(lambda: status_of(ask(proxy, "/f/a", header("second"))) == 200)


def test_a_rate_below_one_is_kept_in_the_minute(proxy: Running):
    """One a minute: the second is refused, and told when the next one may come."""
    assert status_of(ask(proxy, "/f/a", header("minute"))) == 200
    refused = ask(proxy, "/f/a", header("minute"))
    assert status_of(refused) == 429
    assert b"\r\nretry-after: 61\r\n" in refused


def test_a_404_is_no_call(tmp_path: Path):
    """A key that is refused for what it calls, or that is sent where none is asked for, keeps its
    calls for what it may.
    """
    keys = Keys()
    keys.add("k", functions=frozenset({"a"}), rps=0.02)
    with proxied(tmp_path, keys.known) as other:
        line = f"x-api-key: {keys.sent['k']}"
        assert all(status_of(ask(other, "/f/ab", line)) == 404 for _ in range(5))
        open_to_all = [ask(other, "/v2/health/live", line, method="GET") for _ in range(5)]
        assert {status_of(answer) for answer in open_to_all} == {404}  # from what is behind
        assert status_of(ask(other, "/f/a", line)) == 200
        assert status_of(ask(other, "/f/a", line)) == 429


@pytest.mark.parametrize(("name", "most"), [("one", 1), ("two", 2)])
def test_calls_under_way_are_bounded(proxy: Running, name: str, most: int):
    """Until their clients have left."""
    with ExitStack() as stack:
        Replica.forget()
        for number in range(most):
            stack.enter_context(held(proxy, "/f/watched", header(name)))
            wait_until(lambda number=number: len(Replica.requests) > number)  # they are under way
        assert status_of(ask(proxy, "/f/a", header(name))) == 429
        assert b"retry-after: 1" in ask(proxy, "/f/a", header(name))
        assert status_of(ask(proxy, "/f/a", header("free"))) == 200
    wait_until(lambda: status_of(ask(proxy, "/f/a", header(name))) == 200)


def test_a_page_of_the_console_is_no_call_under_way(tmp_path: Path):
    """It is connected for as long as it is open. A key has some pages at once, whatever its limits are,
    or it could have all of a process.
    """

    def mark(text: str) -> str:
        for old, new, count in (
            (
                "acl wakeful_page path /console/events",
                "acl wakeful_page req.hdr(x-page) -m found",
                1,
            ),
            (f"(wakeful_pages) ge {KEY_PAGES} ", "(wakeful_pages) ge 2 ", 2),
        ):
            assert text.count(old) == count
            text = text.replace(old, new)
        return text

    page = "x-page: 1"
    with proxied(tmp_path, KEYS.known, change=mark) as proxy:
        for name in ("one", "free"):
            with ExitStack() as stack:
                Replica.forget()
                for number, more in enumerate([(page,), (), (page,)]):  # a call between them
                    assert status_of(ask(proxy, "/f/a", header("two"), page)) == 200
                    seen = len(Replica.requests)
                    stack.enter_context(held(proxy, "/f/watched", header(name), *more))
                    wait_until(lambda seen=seen: len(Replica.requests) > seen)
                    status = 429 if number and name == "one" else 200
                    assert status_of(ask(proxy, "/f/a", header(name))) == status
                refused = ask(proxy, "/f/a", header(name), page)
                assert (status_of(refused), b"as many pages" in refused) == (429, True)
            wait_until(
                lambda name=name: (
                    [status_of(ask(proxy, "/f/a", header(name), *more)) for more in ((), (page,))]
                    == [200, 200]
                )
            )


def test_a_page_counts_as_a_request(tmp_path: Path):
    """A key that may call once a minute opens one page a minute."""
    keys = Keys()
    keys.add("minute", rps=0.02)
    line = f"x-api-key: {keys.sent['minute']}"

    def mark(text: str) -> str:
        return text.replace("wakeful_page path /console/events", "wakeful_page path /f/a")

    with proxied(tmp_path, keys.known, change=mark) as proxy:
        assert [status_of(ask(proxy, "/f/a", line)) for _ in range(2)] == [200, 429]


def test_a_call_that_is_answered_is_under_way_no_more(proxy: Running):
    """One after another are never too many; also where a replica breaks off, or is too late."""
    headers = KEYS.headers("one")
    with httpx.Client(timeout=60) as client:
        for number in range(30):
            assert (
                client.post(f"{proxy.url}/f/a", content=b"x" * number, headers=headers).text
                == "x" * number
            )
        for _ in range(3):
            with pytest.raises(httpx.HTTPError):
                client.post(f"{proxy.url}/f/half", content=b"", headers=headers)
            wait_until(
                lambda: (
                    client.post(f"{proxy.url}/f/a", content=b"", headers=headers).status_code == 200
                )
            )


def test_wrong_keys_are_slowed_and_right_ones_are_not(tmp_path: Path):
    """Of one address; where too many are held they are not held, but refused."""

    def hold_long(text: str) -> str:
        assert f"timeout tarpit {GUESS_S}s" in text
        assert f"lt {MOST_HELD} " in text
        return text.replace(f"timeout tarpit {GUESS_S}s", "timeout tarpit 60s").replace(
            f"lt {MOST_HELD} ", "lt 3 "
        )

    keys = Keys()
    keys.add("good")
    good = f"x-api-key: {keys.sent['good']}"
    with proxied(tmp_path, keys.known, change=hold_long) as proxy:
        for number in range(FREE_GUESSES):
            line = ("x-api-key: " if number % 2 else "authorization: Bearer ") + make_key()
            assert status_of(ask(proxy, "/f/a", line)) == 401
        for _ in range(30):  # without a key it is no guess
            assert status_of(ask(proxy, "/f/a")) == 401
        waiting = []
        try:
            for _ in range(3):
                caller = socket.create_connection(("127.0.0.1", proxy.port), timeout=30)
                waiting.append(caller)
                caller.sendall(
                    f"POST /f/a HTTP/1.1\r\nhost: h\r\nx-api-key: {make_key()}\r\n"
                    "content-length: 0\r\n\r\n".encode()
                )
            wait_until(lambda: "conn_cur=3" in proxy.tell("show table wakeful_held"))
            for _ in range(30):
                assert status_of(ask(proxy, "/f/a", good)) == 200
            assert status_of(ask(proxy, "/f/a", f"x-api-key: {make_key()}")) == 401
            for caller in waiting:
                caller.setblocking(False)
                with pytest.raises(BlockingIOError):
                    caller.recv(1)
        finally:
            for caller in waiting:
                caller.close()


def test_what_is_held_is_refused_in_the_end(tmp_path: Path):
    """As at once, and its connection closed."""
    keys = Keys()
    keys.add("good")
    with proxied(
        tmp_path,
        keys.known,
        change=lambda text: text.replace(f"timeout tarpit {GUESS_S}s", "timeout tarpit 10ms"),
    ) as proxy:
        for _ in range(FREE_GUESSES + 3):
            answer = ask(proxy, "/f/a", f"x-api-key: {make_key()}")
            assert status_of(answer) == 401
            assert b"www-authenticate: Bearer" in answer
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "unauthorized"
