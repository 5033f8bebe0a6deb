"""Which way requests take on the installed uvicorn, and that they are answered alike on each."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from runtime.http.transport import contract
from runtime.http.transport.contract import Contract
from runtime.http.transport.protocol import UVICORN, RequestProtocol, SlowProtocol
from runtime.system.assumptions import Assumption, require
from tests.problems import expect_values
from tests.runtime.http import test_transports
from tests.runtime.http.test_transports import HOT, NOT_HOT, Served, read, without_times

FAULT = "Cycle.transport: it is gone"


@pytest.mark.parametrize(
    ("found", "http", "words"),
    [
        (Contract("0.1"), RequestProtocol, []),
        (Contract("0.1", (), (FAULT,)), SlowProtocol, ["uvicorn 0.1", FAULT, "takes longer"]),
        (Contract("0.1", (FAULT,)), "auto", ["uvicorn 0.1", FAULT, contract.LOST]),
        (Contract("0.1", (FAULT,), ("another",)), "auto", ["uvicorn 0.1", FAULT]),
        (Contract("0.1", (), (FAULT,) * 5), SlowProtocol, [FAULT, "and 2 more"]),
    ],
)
def test_a_server_takes_what_the_installed_uvicorn_allows(
    found: Contract, http: object, words: list[str]
) -> None:
    """All, or all but the shortcuts, or uvicorn's own; what is less is said."""
    assert found.options == {"http": http, "ws": "none"}
    if words:
        expect_values(found.warning(), *words)
    else:
        assert found.warning() == ""


@pytest.fixture
def look_anew() -> Iterator[None]:
    """What was found before is forgotten, and so is what is found in the test."""
    contract.look.cache_clear()
    yield
    contract.look.cache_clear()


@pytest.mark.usefixtures("look_anew")
@pytest.mark.parametrize("group", ["READING", "SHORTCUTS"])
def test_what_is_otherwise_is_said_once(
    group: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process, however many servers it has."""
    broken = Assumption("one", "a reason.", "", lambda: require(False, "it is not"))
    monkeypatch.setattr(contract, group, (broken,))
    with caplog.at_level(logging.WARNING):
        assert contract.look() is contract.look()
    assert caplog.messages == [contract.look().warning()]
    expect_values(caplog.messages[0], "one: it is not")


READ_BY_UVICORN = frozenset(
    {
        "trailers",
        "an upgrade",
        "an upgrade in chunks",
        "a handshake with a body",
        "a tunnel",
        "another version of HTTP",
        "a length and chunks",
    }
)
"""Requests that uvicorn's own protocol reads otherwise (``contract.LOST``)."""

OTHERWISE = {
    "slow": (Contract("", (), (FAULT,)), frozenset()),
    "bare": (Contract("", (FAULT,)), READ_BY_UVICORN),
}
"""What may be found of a uvicorn, and which requests are then answered otherwise."""


@pytest.fixture(scope="module", params=OTHERWISE)
def other(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, frozenset[str]]]:
    """A server of a uvicorn that is otherwise, and what it reads otherwise."""
    found, lost = OTHERWISE[request.param]
    with test_transports.serving(tmp_path_factory.mktemp("other"), found.options) as one:
        yield one, lost


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of the installed one."""
    with test_transports.serving(tmp_path_factory.mktemp("usual"), UVICORN) as one:
        yield one


@pytest.mark.parametrize("name", [*HOT, *NOT_HOT])
def test_each_request_is_answered_alike_without_the_shortcuts(
    usual: Served, other: tuple[Served, frozenset[str]], name: str
) -> None:
    """Byte for byte, but for ids and times; twice on a connection, which is never hot."""
    served, lost = other
    if name in lost:
        return
    request = (HOT | NOT_HOT)[name]
    with usual.connection() as connection:
        connection.sendall(request)
        expected = without_times(read(connection))
    with served.connection() as connection:
        for _ in range(1 if b"connection: close" in expected else 2):
            connection.sendall(request)
            assert without_times(read(connection)) == expected
        assert not served.hot
