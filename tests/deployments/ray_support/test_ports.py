"""Free ports, and the process that holds one that is not."""

from __future__ import annotations

import os
import socket

import pytest

from deployments.ray_support import ports


@pytest.fixture
def listener():
    """A socket that listens on a free port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_taken_port_is_refused_with_the_process_that_holds_it(listener):
    """The message names the process by id and command, and what to do."""
    with pytest.raises(ports.PortTaken) as refused:
        ports.require_free("127.0.0.1", listener, fix="Take another.")
    assert (
        f"port {listener} on 127.0.0.1 is taken by process {os.getpid()} (" in refused.value.message
    )
    assert refused.value.message.endswith("Take another.")


def test_a_port_held_on_every_address_is_not_free_on_one(listener):
    """A process that listens on one address prevents listening on all."""
    assert not ports.is_free("0.0.0.0", listener)


def test_a_port_just_closed_is_free():
    """A connection in TIME_WAIT does not count: servers may listen again."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()
    assert ports.is_free("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused_with_that_reason():
    """Not "taken": the address is wrong."""
    with pytest.raises(ports.PortTaken, match=r"cannot listen on 192\.0\.2\.77:8000"):
        ports.require_free("192.0.2.77", 8000, fix="")
    with pytest.raises(ports.PortTaken, match=r"Take an address of this machine"):
        ports.bind("192.0.2.77", 0, fix="Stop that.")


def test_the_wanted_port_is_given_where_it_is_free(listener):
    """A taken one, or one to be avoided, is replaced by another that is free."""
    other = ports.find_free("127.0.0.1", listener)
    assert other != listener
    assert ports.find_free("127.0.0.1", other) == other
    assert ports.find_free("127.0.0.1", other, but=frozenset({other})) != other


def test_no_process_holds_a_free_port(listener):
    """None, and no exception."""
    assert ports.find_holder(ports.find_free("127.0.0.1", listener)) is None


def test_a_bound_port_refuses_callers_until_it_listens():
    """Any free one for 0, on each address of a name."""
    sockets = ports.bind("localhost", 0, fix="")
    try:
        (port,) = {bound.getsockname()[1] for bound in sockets}
        assert port
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        for bound in sockets:
            bound.listen()
        socket.create_connection(("127.0.0.1", port)).close()
    finally:
        for bound in sockets:
            bound.close()


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("box", "http://box:80"),
    ],
)
def test_a_server_is_reached_from_its_machine(host, url):
    """Where it listens on every address, by the loopback one."""
    assert ports.local_url(host, 80) == url
