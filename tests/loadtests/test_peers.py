"""What the comparison with other servers sends and reads; the servers run in the benchmark only."""

from __future__ import annotations

import pytest

from loadtests.peers.compare import EMBED, MIXED, TRIVIAL, PeerRound, Standing, summary
from loadtests.peers.servers import PEERS, numbers


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


def standing(load: str, contestant: str, *rates: float, void: str = "", **more) -> Standing:
    """Some rounds of a contestant."""
    rounds = [PeerRound(rate, p50_ms=20, p99_ms=40, memory_mb=300) for rate in rates]
    return Standing(load, contestant, rounds, void, **more)


def test_a_line_has_rate_latency_and_memory():
    """Medians, and the rounds' lowest and highest rate."""
    line = standing(EMBED, "LitServe", 100, 300, 200)
    assert (
        str(line) == f"| {EMBED} | LitServe | 200 req/s (100 to 300) | 20.0 ms | 40.0 ms | 300 MB |"
    )
    assert line.verdict == ""


def test_a_bare_loop_has_a_rate_alone():
    """It has no callers."""
    line = Standing(EMBED, "bare", [PeerRound(3000.0)], unit="rows/s")
    assert str(line) == f"| {EMBED} | bare | 3,000 rows/s |  |  |  |"


def test_a_contestant_that_failed_is_void():
    """With the reason, whatever it reached before."""
    line = standing(EMBED, "MLServer", 100, void="it ended | early")
    assert line.verdict == "void"
    assert "it ended / early" in str(line)
    assert standing(EMBED, "MLServer").verdict == "void"


def test_the_short_table_has_a_line_for_each_server():
    """Ours in bold; of what is void nothing is told."""
    lines = [
        standing(load, server, rate)
        for load, rate in ((EMBED, 2000), (MIXED, 700), (TRIVIAL, 9000))
        for server in ("Wakeful, `run`", "mosec")
    ]
    lines += [standing(load, "void", 5, void="it ended") for load in (EMBED, MIXED, TRIVIAL)]
    rows = summary(lines).splitlines()
    assert rows[2] == "| Wakeful, `run` | **2,000** | 40.0 ms | **700** | **9,000** | 300 MB |"
    assert rows[3] == "| mosec | 2,000 | 40.0 ms | 700 | 9,000 | 300 MB |"
    assert rows[4] == "| void |  |  |  |  |  |"
    assert len({row.count("|") for row in rows}) == 1
