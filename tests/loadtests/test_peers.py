"""What the comparison with other servers sends and reads; the servers run in the benchmark only."""

from __future__ import annotations

import pytest

from loadtests.peers.compare import PEERS, numbers


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_gets_the_value_and_nothing_else(peer):
    """In the form of its own documentation."""
    assert 1.5 in _flat(peer.body("trivial", 1.5))
    assert "a text" in _flat(peer.body("embed", "a text"))


def _flat(value: object) -> list[object]:
    inner = value.values() if isinstance(value, dict) else value
    if isinstance(inner, str) or not hasattr(inner, "__iter__"):
        return [inner]
    return [one for each in inner for one in _flat(each)]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({"answer": 3.0}, [3.0]),
        (3.0, [3.0]),
        ([[0.5, 1.0]], [0.5, 1.0]),
        ({"embedding": [0.5, 1]}, [0.5, 1.0]),
        ({"model_name": "e", "outputs": [{"shape": [1, 2], "data": [0.5, 1]}]}, [1, 2, 0.5, 1]),
    ],
)
def test_numbers_are_found_in_every_form_of_answer(answer, found):
    """Those of a tensor come last, after its shape."""
    assert list(numbers(answer)) == found
