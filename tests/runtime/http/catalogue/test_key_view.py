"""What a key sees that opens some functions and not others."""

from __future__ import annotations

import random

import pytest

from runtime.errors import NotFound
from runtime.http.catalogue.key_view import HIDDEN, KeyView

MINE = KeyView(frozenset({"a", "b.c"}), "ops")


@pytest.mark.parametrize(
    ("headers", "view"),
    [
        ([], None),
        ([(b"x-wakeful-key", b"ops")], None),
        ([(b"x-wakeful-functions", b"*"), (b"x-wakeful-key", b"ops")], None),
        ([(b"x-wakeful-functions", b"a,b.c"), (b"x-wakeful-key", b"ops")], MINE),
        ([(b"x-wakeful-functions", b"")], KeyView(frozenset(), "")),
        (
            [(b"x-wakeful-functions", b"a"), (b"x-wakeful-functions", b"*")],
            KeyView(frozenset("a"), ""),
        ),
    ],
)
def test_the_edge_says_what_is_seen(headers, view):
    """Everything where it says nothing of functions."""
    assert KeyView.of(headers) == view


ENTRIES = [
    {"name": "a", "part_of": "", "reason": "waits for x, which has the GPU; x.y and a go on."},
    {"name": "a.gen", "part_of": "a", "reason": ""},
    {"name": "x", "part_of": "", "reason": "a"},
    {"name": "x.y", "part_of": "x", "reason": ""},
    {"name": "b.c", "part_of": "", "reason": "", "hop_ms": {"x": 1.0, "a": 2.0}},
]


def test_others_are_not_there():
    """Nor their stages, nor their names in what is said of one's own."""
    found = MINE.entries(ENTRIES)
    assert [one["name"] for one in found] == ["a", "a.gen", "b.c"]
    assert found[0]["reason"] == (f"waits for {HIDDEN}, which has the GPU; {HIDDEN} and a go on.")
    assert found[2]["hop_ms"] == {"a": 2.0}
    assert ENTRIES[4]["hop_ms"] == {"x": 1.0, "a": 2.0}
    assert KeyView(frozenset(), "").entries(ENTRIES) == []


def test_an_explanation_has_no_names_of_others():
    """And does not say where the server's processes are."""
    told = {
        **ENTRIES[0],
        "last_decision": "host → own: x is idle",
        "decisions": [{"at": 1.0, "why": "'x' gives way to a, x-1 does not"}],
        "hosts": [{"address": "10.0.0.1:80"}],
    }
    found = MINE.explanation(told, ENTRIES)
    assert found["last_decision"] == f"host → own: {HIDDEN} is idle"
    assert found["decisions"] == [{"at": 1.0, "why": f"'{HIDDEN}' gives way to a, x-1 does not"}]
    assert found["hosts"] == []


@pytest.mark.parametrize("name", ["x", "x.y", "nothing", "", "A", "b_c"])
def test_what_is_not_seen_is_as_what_is_not_declared(name):
    """The same words for both, and no name but of one's own."""
    with pytest.raises(NotFound) as refused:
        MINE.require(name)
    with pytest.raises(NotFound) as undeclared:
        KeyView(MINE.functions, "other").require(name)
    assert refused.value.message == undeclared.value.message
    MINE.require("a")


PAGE = b"""\
# HELP wakeful_requests_total Calls.
# TYPE wakeful_requests_total counter
wakeful_requests_total{process="r",function="a",code="200"} 3
wakeful_requests_total{process="r",function="x",code="200"} 4
wakeful_requests_total{function="*"} 7
wakeful_batch_rows_bucket{function="x",stage="a",le="1.0"} 1
wakeful_errors_total{function="a",reason="a\\" function=\\"x"} 1
wakeful_key_requests_total{key="ops",code="2xx"} 1
wakeful_key_requests_total{key="ci",code="2xx"} 1
wakeful_key_requests_total{key="*",code="2xx"} 1
process_cpu_seconds_total{process="r"} 1.5
wakeful_functions{state="ready"} 2
"""


def test_metrics_are_of_ones_own():
    """Of a process too, but of no other function and no other key."""
    kept = MINE.metrics(PAGE).decode().splitlines()
    assert [line for line in kept if not line.startswith("#")] == [
        'wakeful_requests_total{process="r",function="a",code="200"} 3',
        'wakeful_errors_total{function="a",reason="a\\" function=\\"x"} 1',
        'wakeful_key_requests_total{key="ops",code="2xx"} 1',
        'process_cpu_seconds_total{process="r"} 1.5',
        'wakeful_functions{state="ready"} 2',
    ]


def test_no_name_of_another_gets_through():
    """Whatever names are, and whatever texts have them in."""
    draw = random.Random(7)
    letters = "ab-._é1"
    for _ in range(300):
        names = list({"".join(draw.choices(letters, k=draw.randint(1, 4))) for _ in range(8)})
        names = [name for name in names if name[-1].isalnum() and name[0].isalnum()]
        mine = frozenset(draw.sample(names, len(names) // 2))
        texts = [draw.choice([" ", "'{}' ", "({}), "]).join(names).format(*names) for _ in range(3)]
        entries = [
            {"name": name, "part_of": "", "reason": f"{draw.choice(texts)}; '{draw.choice(names)}'"}
            for name in names
        ]
        for entry in KeyView(mine, "").entries(entries):
            words = set(
                entry["reason"]
                .replace("'", " ")
                .replace("(", " ")
                .replace(")", " ")
                .replace(",", " ")
                .replace(";", " ")
                .split()
            )
            assert not words & (set(names) - mine), entry
