"""The installed HAProxy is as Wakeful takes it to be; and one that is not is seen."""

from __future__ import annotations

import pytest

from deployments.ingress import admin_socket, assumptions
from deployments.ingress.assumptions import ASSUMPTIONS

BY_NAME = {one.name: one for one in ASSUMPTIONS}


@pytest.mark.parametrize("name", BY_NAME)
def test_haproxy_is_as_it_is_taken_to_be(name: str):
    """A release that is not says here which entry, and what was found instead."""
    assert BY_NAME[name].fault() == ""


OTHERWISE = [
    ("show info", assumptions.PROCESS_ID),
    ("show sess", assumptions.REFUSES),
    ("set var", assumptions.REFUSES),
    ("show stat", assumptions.COUNTS),
    ("set server", assumptions.SERVERS),
    ("set ssl cert", assumptions.CERTIFICATES),
    ("show ssl cert", assumptions.CERTIFICATES),
]


@pytest.mark.parametrize(("command", "entry"), OTHERWISE, ids=[one for one, _ in OTHERWISE])
def test_a_haproxy_that_does_otherwise_is_seen(monkeypatch, command, entry):
    """Of each command, one that HAProxy does not know."""
    monkeypatch.setattr(assumptions, "START_S", 0.5)
    send = admin_socket.send_command

    def send_otherwise(path, text):
        is_look = text == "show info" and entry is not assumptions.PROCESS_ID
        return send(path, text if is_look else text.replace(command, "unknown"))

    monkeypatch.setattr(admin_socket, "send_command", send_otherwise)
    assert entry.fault().startswith(f"{entry.name}: ")
