"""Which HAProxy a process of the cluster calls."""

from __future__ import annotations

import pytest

from deployments.serving.ingress_address import pick_ingress

NODES = [
    {"NodeID": "a", "NodeManagerAddress": "10.0.0.1", "Alive": True},
    {"NodeID": "b", "NodeManagerAddress": "10.0.0.2", "Alive": True},
    {"NodeID": "c", "NodeManagerAddress": "10.0.0.3", "Alive": False},
]


@pytest.mark.parametrize(
    ("host", "proxies", "me", "found"),
    [
        ("127.0.0.1", {"a"}, "a", "127.0.0.1"),
        ("10.0.0.9", {"a"}, "b", "10.0.0.9"),
        ("0.0.0.0", {"a", "b"}, "b", "127.0.0.1"),
        ("0.0.0.0", {"a"}, "b", "10.0.0.1"),
        ("::", {"c", "b"}, "a", "10.0.0.2"),
        ("0.0.0.0", set(), "a", "127.0.0.1"),
    ],
)
def test_the_nearest_is_on_this_machine_if_there_is_one(
    host: str, proxies: set[str], me: str, found: str
) -> None:
    """Else on one that lives; an address that is given is the address."""
    assert pick_ingress(host, proxies, me, NODES) == found
