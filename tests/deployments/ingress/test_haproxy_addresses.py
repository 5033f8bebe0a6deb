"""One address holds so many of HAProxy's connections and no more, so that it cannot keep out all
others: the real program. Addresses of this machine are not counted, so all but one of its loopback
addresses are said to be others here.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.deployments.ingress.haproxy.proxies import OURS, Running, before_two
from tests.deployments.projects import wait_until

MOST = 3

OTHERS = replace(OURS, host="0.0.0.0", per_address=MOST)

FIRST, SECOND, THIRD, THIS = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.1"

GOOD = b"POST /f HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n"


def as_others(text: str) -> str:
    """The rules, where this machine has one address."""
    assert "src 127.0.0.0/8 ::1" in text
    return text.replace("src 127.0.0.0/8 ::1", f"src {THIS}")


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With this bound."""
    folder = tmp_path_factory.mktemp("addresses")
    with before_two(folder, deployed=OTHERS, change=as_others) as running:
        yield running


def connect(proxy: Running, address: str) -> socket.socket:
    """A connection from an address."""
    return socket.create_connection((THIS, proxy.port), timeout=30, source_address=(address, 0))


def answer(connection: socket.socket) -> bytes:
    """To a good call; empty where the connection is closed."""
    with suppress(ConnectionError):
        connection.sendall(GOOD)
        return connection.recv(65536)
    return b""


def hold(proxy: Running, address: str, stack: ExitStack) -> list[socket.socket]:
    """As many as an address may have, once HAProxy counts them: its threads take connections in any
    order, and a later one could be counted before.
    """
    held = [stack.enter_context(closing(connect(proxy, address))) for _ in range(MOST)]
    counted = rf"key=\S*{address} .*conn_cur={MOST}\b"
    wait_until(lambda: re.search(counted, proxy.tell("show table http_frontend")) is not None)
    return held


def is_taken(proxy: Running, address: str) -> bool:
    """Whether a further connection is."""
    with suppress(ConnectionError), closing(connect(proxy, address)) as one:
        return answer(one).startswith(b"HTTP/1.1 200 ")
    return False


def test_further_connections_of_an_address_are_closed(proxy: Running):
    """Until it ends one of its own, whether it has sent something or not; those of others are taken,
    and of this machine any number.
    """
    with ExitStack() as stack:
        held = hold(proxy, FIRST, stack)
        assert answer(held[0]).startswith(b"HTTP/1.1 200 ")
        for _ in range(5):
            assert not is_taken(proxy, FIRST)
        assert is_taken(proxy, SECOND)
        for _ in range(3 * MOST):
            one = stack.enter_context(closing(connect(proxy, THIS)))
            assert answer(one).startswith(b"HTTP/1.1 200 ")
        assert answer(held[0]).startswith(b"HTTP/1.1 200 ")
        held[1].close()
        wait_until(lambda: is_taken(proxy, FIRST))


def test_what_is_closed_is_counted(proxy: Running):
    """In HAProxy's own metrics, by which an operator finds it."""

    def denied() -> int:
        lines = proxy.tell("show stat").splitlines()
        names = lines[0].removeprefix("# ").split(",")
        (ours,) = (line for line in lines if line.startswith("http_frontend,FRONTEND,"))
        return int(dict(zip(names, ours.split(","), strict=False))["dcon"])

    before = denied()
    with ExitStack() as stack:
        hold(proxy, THIRD, stack)
        assert not is_taken(proxy, THIRD)
    assert denied() > before


@pytest.mark.full  # the test above, where IPv4 addresses come as they are
def test_an_address_of_ipv4_in_the_form_of_ipv6_is_counted_by_itself(tmp_path: Path):
    """Where HTTP is at all addresses of both."""

    def both(text: str) -> str:
        changed, count = re.subn(r"bind 0\.0\.0\.0:(\d+)", r"bind :::\1 v4v6", as_others(text))
        assert count == 1
        return changed

    with before_two(tmp_path, deployed=OTHERS, change=both) as proxy, ExitStack() as stack:
        hold(proxy, FIRST, stack)
        assert not is_taken(proxy, FIRST)
        assert is_taken(proxy, SECOND)
        network = socket.create_connection(("::1", proxy.port), timeout=30)
        with closing(network):
            assert answer(network).startswith(b"HTTP/1.1 200 ")
