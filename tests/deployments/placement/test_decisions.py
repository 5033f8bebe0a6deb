"""What is kept of the decisions about a function: each once, with its last numbers."""

from __future__ import annotations

from collections import Counter
from itertools import takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.ingress.haproxy.rules import FUNCTION
from deployments.placement.function_state import MAX_DECISIONS, FunctionState
from deployments.ray_support.serve_status import AppState
from tests.deployments.placement.placing import Box, declaration, promote

EVENT = ""


@pytest.mark.parametrize(
    ("recorded", "kept"),
    [
        ([("idle for 60 s", "asleep"), ("idle for 61 s", "asleep")], ["idle for 61 s"]),
        ([("a", "asleep"), ("b", "no room"), ("c", "asleep")], ["b", "c"]),
        ([("a", "asleep"), ("crashed", EVENT), ("b", "asleep")], ["a", "crashed", "b"]),
        ([("crashed", EVENT), ("crashed", EVENT)], ["crashed"]),
        ([("crashed", EVENT), ("crashed again", EVENT)], ["crashed", "crashed again"]),
        ([("same", "asleep"), ("same", "no room")], ["same", "same"]),
    ],
)
def test_a_decision_that_is_repeated_is_kept_once(recorded, kept):
    """Whatever its numbers are now; and at the time when it was decided last."""
    state = FunctionState(declaration())
    for at, (why, kind) in enumerate(recorded):
        state.record_decision(why, float(at), kind)
    assert [one.why for one in state.decisions] == kept
    assert state.decisions[-1].to_dict() == {"at": len(recorded) - 1.0, "why": kept[-1]}


@pytest.mark.slow
@settings(max_examples=40)
@given(
    is_promoted=st.booleans(),
    cores=st.sampled_from([0.0, 0.05, 0.3, 0.75, 1.3]),
    flutters=st.booleans(),
    in_flight=st.integers(0, 1),
    is_idle=st.booleans(),
    sequences=st.sampled_from([0, 3]),
    free=st.sampled_from([0.0, 4.0]),
    outcome=st.sampled_from(["taken", "refused", "lost"]),
    app=st.sampled_from(["ready", "waking", "failed", "", "theirs"]),
    is_reported=st.booleans(),
)
def test_nothing_is_decided_again_and_again_while_nothing_changes(
    is_promoted, cores, flutters, in_flight, is_idle, sequences, free, outcome, app, is_reported
):
    """Ten minutes of the same: idle or busy, without room, with orders that all end the same way,
    as a host or its replica reports it. What was decided before is still there.
    """
    box = Box()
    box.declare(declaration())
    if is_promoted:
        promote(box)
    box.free = {"CPU": free}
    state = box.placement.functions["f"]
    state.record_decision("what was decided before", box.now)
    idle_since, busy_s = box.now, 100.0
    for second in range(600):
        box.now += 1
        busy_s += cores * (1.5 - second // 6 % 2 if flutters else 1.0)
        counted = {
            "busy_s": busy_s,
            "calls": int(busy_s * 100),
            "in_flight": in_flight,
            "idle_s": box.now - idle_since if is_idle else 0.0,
            "sequences": sequences and sequences + second % 2,
        }
        box.host(**({"f": {"state": "ready", **counted}} if is_reported else {}))
        if box.placement.functions["f"].tier == "own":
            box.own("f", **counted)
        for order in box.tick():
            error = "" if outcome == "taken" else f"ValueError: {second}"
            for more in box.done("f", error, kind=order.kind, is_lost=outcome == "lost"):
                box.done("f", kind=more.kind)
            if outcome == "taken":
                box.apps.pop("f", None)
                if app and order.kind == "deploy":
                    box.apps["f"] = AppState("f", app, 1, f"at {second}", (FUNCTION,))
        if app == "theirs" and not is_promoted:
            box.apps["f"] = AppState("f", "ready", 1, "", ("Theirs",))
    whys = [one.why for one in state.decisions]
    assert whys.count("what was decided before") == 1, whys
    assert len(whys) < MAX_DECISIONS / 2, whys
    standing = takewhile(lambda one: one.kind, reversed(state.decisions))
    assert max(Counter(one.kind for one in standing).values(), default=0) <= 1, whys
