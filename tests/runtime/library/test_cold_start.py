"""The phases of a cold start add up, and say so in every form."""

from __future__ import annotations

import json

from runtime.library.cold_start import ColdStart, ColdStartTimer


def waking() -> ColdStartTimer:
    """Arrived at 10, loaded within a second."""
    loaded = {"session": 0.25, "stages": 0.5, "warm_up": 0.0625, "another": 9.0}
    return ColdStartTimer(
        "f", 1e9, arrived=10.0, asked=10.125, began=10.25, loaded=11.25, load_s=loaded
    )


def test_phases_are_in_the_order_they_happen():
    """Those that took part; what is no phase is left out; the total is the caller's wait."""
    record = waking().finish(11.5)
    assert record == ColdStart(
        "f",
        1e9,
        {
            "route": 0.125,
            "queue": 0.125,
            "session": 0.25,
            "stages": 0.5,
            "warm_up": 0.0625,
            "answer": 0.25,
        },
        1.5,
    )
    assert list(record.phases) == ["route", "queue", "session", "stages", "warm_up", "answer"]


def test_a_load_without_a_waiting_client_has_no_answer_phase():
    """It ends when it is loaded."""
    record = waking().finish(None)
    assert "answer" not in record.phases
    assert record.total_s == 1.25


def test_it_is_reported_in_a_log_line_in_a_header_and_in_json():
    """Milliseconds where people and browsers look, seconds in data."""
    record = ColdStart("f", 1e9, {"queue": 0.0005, "answer": 0.002}, 0.1)
    assert str(record) == "f woke in 0.100 s: queue 0.5 ms, answer 2.0 ms"
    assert (
        record.server_timing() == b"cold;dur=100.000, cold_queue;dur=0.500, cold_answer;dur=2.000"
    )
    assert json.loads(json.dumps(record.to_dict()))["total_s"] == 0.1
