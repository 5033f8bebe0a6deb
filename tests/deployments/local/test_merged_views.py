"""What several processes say, as one."""

from __future__ import annotations

import pytest

from deployments.local.merged_views import count_states, merge_indexes


def entry(name, state="ready", **of):
    """A function of an index."""
    return {
        "name": name,
        "state": state,
        "url": f"/v2/models/{name}",
        "reason": "",
        "kept": False,
        "pinned": False,
        "is_quarantined": False,
        "in_flight": 0,
        "sequences": 0,
        "loads": 0,
        "memory_bytes": 0,
        "last_wake": None,
        **of,
    }


@pytest.mark.parametrize(
    ("states", "told", "replicas"),
    [
        (("ready", "asleep"), "ready", 1),
        (("asleep", "waking"), "waking", 1),
        (("ready", "waking"), "ready", 2),
        (("draining", "asleep"), "draining", 1),
        (("asleep", "asleep"), "asleep", 0),
        (("ready", "failed"), "failed", 1),
    ],
)
def test_a_function_has_one_state(states, told, replicas):
    """Ready anywhere is ready, failed anywhere is failed; it is awake in so many."""
    (merged,) = merge_indexes([[entry("f", state)] for state in states])
    assert (merged["state"], merged["replicas"]) == (told, replicas)


def test_what_it_holds_is_summed_and_the_latest_wake_counts():
    """Memory of all; kept where one keeps it."""
    (merged,) = merge_indexes(
        [
            [entry("f", memory_bytes=5, last_wake={"at": 1.0})],
            [entry("f", memory_bytes=7, last_wake={"at": 2.0}, kept=True, pinned=True)],
        ]
    )
    assert (merged["memory_bytes"], merged["last_wake"]) == (12, {"at": 2.0})
    assert (merged["kept"], merged["pinned"]) == (True, True)


def test_a_reason_says_in_how_many_processes():
    """Unless it is that of all."""
    failed = entry("f", "failed", reason="no such file.")
    (merged,) = merge_indexes([[failed], [entry("f")]])
    assert merged["reason"] == "in 1 of 2 processes: no such file."
    (merged,) = merge_indexes([[failed], [failed]])
    assert merged["reason"] == "no such file."


def test_the_order_is_that_of_the_file():
    """And every function is there once; one that only another process knows is not."""
    merged = merge_indexes([[entry("b"), entry("a")], [entry("a"), entry("b"), entry("c")]])
    assert [one["name"] for one in merged] == ["b", "a"]
    assert count_states(merged) == {"ready": 2}
