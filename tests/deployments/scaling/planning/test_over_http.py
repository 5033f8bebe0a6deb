"""What a call takes on its way."""

from __future__ import annotations

import pytest

from deployments.scaling.planning.over_http import HttpCall, read_timing, way_of


@pytest.mark.parametrize(
    ("text", "worker_s", "server_s"),
    [
        ("queue;dur=1, batch;dur=2, preprocess;dur=3, model;dur=4, postprocess;dur=1, total;dur=12",
         0.010, 0.002),
        ("total;dur=0", 0.0, 0.0),
        ("", 0.0, 0.0),
        ("model;dur=1.2.3", 0.0, 0.0),
        ("cache;desc=hit, model;dur=5", 0.005, 0.0),
    ],
)  # fmt: skip
def test_an_answer_says_what_its_worker_did(text, worker_s, server_s):
    """And of another server nothing is known."""
    assert read_timing(text) == pytest.approx((worker_s, server_s))


def calls(*seconds: float, worker_s=0.010, server_s=0.001, is_local=True) -> list[HttpCall]:
    """Calls that took so long."""
    return [HttpCall(one, worker_s, server_s, is_local) for one in seconds]


def test_the_way_is_what_a_worker_did_not_do():
    """In shares, the slowest among them; on one machine it is work of its processors."""
    way = way_of(calls(0.012, 0.013, 0.020), usual_s=0.008)
    assert way.call_s == 0.013
    assert way.served == pytest.approx(1.25)
    assert way.beside_s == pytest.approx((0.002, 0.003, 0.010))
    assert way.beside_cpu_s == pytest.approx(0.003)


def test_of_another_machine_the_network_is_no_work():
    """What its server says of itself is."""
    way = way_of(calls(0.050, 0.060, is_local=False), usual_s=0.010)
    assert way.beside_cpu_s == pytest.approx(0.001)
    assert max(way.beside_s) == pytest.approx(0.050)


def test_where_answers_say_nothing_the_profile_counts():
    """As of streams, whose head is sent before a worker is done; nothing is below 0."""
    way = way_of(calls(0.007, 0.012, worker_s=0.0), usual_s=0.010)
    assert way.served == 1.0
    assert way.beside_s == pytest.approx((0.0, 0.002))
