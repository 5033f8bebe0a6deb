"""What a page is told between two looks."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.http.catalogue.console.changes import (
    PageChanges,
    compare,
    describe_change,
    new_decisions,
    to_entry,
)


def entry(name: str, state: str = "asleep", **of: Any) -> Any:
    """A function, as a page has it."""
    return to_entry(
        {
            "name": name,
            "state": state,
            "url": f"/v2/models/{name}",
            "reason": "",
            "description": "",
            "part_of": "",
            "memory_bytes": 0,
            "last_wake": None,
            "last_minute": {"calls": 0},
            **of,
        },
        {},
    )


A, B, C = entry("a"), entry("b"), entry("c")


@pytest.mark.parametrize(
    ("sent", "now", "with_numbers", "told"),
    [
        ([], [A, B], False, PageChanges(True, [A, B], [])),
        ([A, B], [A, B], True, PageChanges(False, [], [])),
        ([A, B], [A, entry("b", "waking")], False, PageChanges(False, [entry("b", "waking")], [])),
        ([A, B], [A, entry("b", reason="full")], False, PageChanges(False, [entry("b", reason="full")], [])),
        ([A, B], [A, entry("b", in_flight=2)], False, PageChanges(False, [], [])),
        ([A, B], [A, entry("b", in_flight=2)], True, PageChanges(False, [entry("b", in_flight=2)], [])),
        ([A, B], [A], False, PageChanges(False, [], ["b"])),
        ([A], [A, B], False, PageChanges(True, [A, B], [])),
        ([A, B], [B, A], False, PageChanges(True, [B, A], [])),
        ([A, B, C], [C], False, PageChanges(False, [], ["a", "b"])),
        ([A], [], False, PageChanges(False, [], ["a"])),
        ([], [], False, PageChanges(False, [], [])),
    ],
    ids=str,
)  # fmt: skip
def test_a_page_is_told_what_has_changed(sent, now, with_numbers, told):
    """States at once, numbers with the samples; all of it where the order is another."""
    changes, after = compare({one["name"]: one for one in sent}, now, with_numbers=with_numbers)
    assert changes == told
    if told or with_numbers:
        assert list(after) == [one["name"] for one in now]


def test_numbers_that_were_not_told_come_with_the_next_samples():
    """What a page has is what it was sent, and not what was seen since."""
    sent = {"a": A}
    busy = entry("a", in_flight=3)
    _, sent = compare(sent, [busy], with_numbers=False)
    assert sent == {"a": A}
    changes, sent = compare(sent, [busy], with_numbers=True)
    assert changes.functions == [busy]
    assert sent == {"a": busy}


def test_an_entry_of_a_run_has_what_one_of_a_cluster_has():
    """As far as it has a meaning there; what the index says goes before."""
    assert entry("a", "ready")["replicas"] == 1
    assert entry("a")["replicas"] == 0
    own = entry("a", "ready", replicas=3, tier="own", doing="updating")
    assert (own["replicas"], own["tier"], own["doing"]) == (3, "own", "updating")
    assert A["tier"] == "run"


@pytest.mark.parametrize(
    ("state", "reason", "load_s", "text"),
    [
        ("waking", "", 0.0, "asleep → waking"),
        ("ready", "", 0.25, "asleep → ready: loaded in 0.25 s"),
        ("failed", "no such file.", 0.2, "asleep → failed: no such file."),
        ("draining", "", 0.2, "asleep → draining"),
    ],
)
def test_a_change_is_said_as_a_decision(state, reason, load_s, text):
    """With its reason, or how long it took."""
    assert describe_change("asleep", state, reason, load_s) == text


def test_a_decision_is_told_once():
    """One that was made again has another time."""
    first, again = {"at": 1.0, "why": "a", "kind": "x"}, {"at": 2.0, "why": "a"}
    assert new_decisions([], [first]) == [{"at": 1.0, "why": "a"}]
    assert new_decisions([{"at": 1.0, "why": "a"}], [first]) == []
    assert new_decisions([{"at": 1.0, "why": "a"}], [again]) == [again]
