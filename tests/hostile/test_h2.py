"""What hostile clients send by HTTP/2 to `wakeful run` with TLS, whose HAProxy writes it anew as
HTTP/1.1: each is one request to the function, or none.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass

import pytest

from tests.certificates import authority
from tests.hostile import targets
from tests.hostile.acts import connect
from tests.hostile.h2_exchanges import exchange_frames, request
from tests.hostile.h2_vectors import FIRST, H2_VECTORS, H2Vector, fields
from tests.hostile.targets import SEEN, Target

# tests/deployments/ingress/tls/test_haproxy_tls.py sends them to HAProxy before another server
pytestmark = [pytest.mark.full, pytest.mark.slow]

HELLO = b"\x16\x03\x01\x02\x00\x01"
"""The beginning of a handshake."""


@dataclass(frozen=True)
class Served:
    """Implements ``H2Server``."""

    target: Target
    context: ssl.SSLContext
    path: str = SEEN

    @property
    def port(self) -> int:
        """Of HAProxy."""
        return self.target.port

    def seen(self) -> list[tuple[str, bytes]]:
        """By the function's own record."""
        return self.target.seen()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Its processes are those that it had at the end."""
    with targets.run(tmp_path_factory.mktemp("h2"), has_tls=True) as target:
        before = target.processes()
        yield Served(target, authority().context())
        assert target.processes() == before


@pytest.mark.parametrize("vector", H2_VECTORS, ids=lambda one: one.name)
def test_frames_are_one_request_or_none(server: Served, vector: H2Vector) -> None:
    """Whatever they become as HTTP/1.1."""
    vector.check(server)


def test_slow_handshakes_end_and_others_do_not_notice(server: Served) -> None:
    """As slow heads do: those that begin, and those that do not even that."""
    good = request(FIRST, fields(marker=b"good"), b"good")
    with ExitStack() as stack:
        held = []
        for number in range(100):
            one = stack.enter_context(closing(connect(server.target, HELLO[: number % 6])))
            held.append(one)
        for _ in range(20):
            answer = exchange_frames(server.port, server.context, good, (FIRST,))
            assert answer.of(FIRST).status == 200
        for one in held:
            with suppress(ConnectionError):
                assert one.recv(1) == b""


def test_they_are_many() -> None:
    """Each with a name of its own."""
    names = [one.name for one in H2_VECTORS]
    assert len(names) == len(set(names)) > 100
