"""What the page decides, as tables: how events become state, which rows are shown, where the nodes of a
graph stand.
"""

from __future__ import annotations

import json

import pytest

from tests.runtime.http.catalogue.console.console_page import (
    LIVE,
    import_of,
    needs_browser,
    opened,
    served,
)

pytestmark = [pytest.mark.slow, pytest.mark.full, needs_browser]  # `test_overview_page.py` in few


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page, whose modules are asked."""
    with (
        served(tmp_path_factory.mktemp("decisions")) as run,
        opened(run.url, tmp_path_factory.mktemp("browser")) as page,
    ):
        yield page


@pytest.mark.parametrize(
    ("pieces", "events"),
    [
        (["event: a\ndata: 1\n\n"], [("a", "1")]),
        (["event: a\nda", "ta: 1\n", "\n"], [("a", "1")]),
        (["data: 1\ndata: 2\n\n"], [("message", "1\n2")]),
        ([": beat\n\ndata:x\r\n\r", "\n"], [("message", "x")]),
        (["event: a\n\ndata: 1\n\n"], [("message", "1")]),
        (["data: 1\n"], []),
        (["retry: 5\nid: 3\ndata\n\n"], [("message", "")]),
    ],
)
def test_events_are_read(page, pieces, events):
    """However they are cut into pieces."""
    found = import_of(
        page,
        "live/events.js",
        f"{json.dumps(pieces)}.flatMap(it.eventParser()).map((one) => [one.event, one.data])",
    )
    assert [tuple(one) for one in found] == events


def sample(*rates):
    """The lines of a function that was called so often in each step."""
    calm = [None if rate == 0 else 5 for rate in rates]
    return {"calls_per_s": rates, "p50_ms": calm, "p95_ms": calm, "errors_per_s": [0] * len(rates)}


@pytest.mark.parametrize(
    ("events", "lines"),
    [
        ([(1000, 2, {"f": sample(1, 2)})], {"f": [0] * 10 + [1, 2]}),
        (
            [(1000, 12, {"f": sample(*range(12))}), (1060, 1, {"g": sample(7)})],
            {"f": [*range(1, 12), 0], "g": [0] * 11 + [7]},
        ),
        ([(1000, 1, {"f": sample(1)}), (1060, 12, {})], {}),
        ([(1000, 1, {"f": sample(1)}), (9000, 1, {"f": sample(3)})], {"f": [0] * 11 + [3]}),
        ([(1000, 2, {"f": sample(1, 2)}), (1005, 1, {"f": sample(9)})], {"f": [0] * 10 + [1, 9]}),
        # a clock that was set back
        ([(9000, 1, {"f": sample(1)}), (1000, 1, {"f": sample(3)})], {"f": [0] * 11 + [3]}),
    ],
)
def test_samples_are_put_together(page, events, lines):
    """A function without calls has a line of 0; one without any in the minute has none; what comes
    again after a reconnection takes the place of what was there.
    """
    data = [
        {"step_s": 5, "from": begin, "steps": steps, "functions": functions}
        for begin, steps, functions in events
    ]
    found = import_of(
        page,
        "live/series.js",
        f"Object.fromEntries([...{json.dumps(data)}.reduce(it.mergeSamples, it.NO_SAMPLES).functions]"
        ".map(([name, one]) => [name, one.calls_per_s]))",
    )
    assert found == lines


def history(begin, calls, step=10, **errors):
    """A history in which only calls and errors differ."""
    rest = dict.fromkeys(("p50_ms", "p95_ms", "batch_rows", "wakes", "replicas"), [1] * len(calls))
    return {"step_s": step, "from": begin, "calls": calls, "errors": errors, **rest}


@pytest.mark.parametrize(
    ("fresh", "begin", "calls", "errors"),
    [
        (history(130, [4]), 100, [1, 2, 3, 4], {"late": [0, 0, 1, None]}),
        (history(140, [5]), 110, [2, 3, None, 5], {"late": [0, 1, None, None]}),
        (history(120, [9, 4]), 100, [1, 2, 9, 4], {}),
        (history(130, [4], full=[2]), 100, [1, 2, 3, 4], {"late": [0, 0, 1, None], "full": [None, None, None, 2]}),
        (history(130, [4], step=60), 100, [1, 2, 3], {"late": [0, 0, 1]}),
        (history(90, [4]), 100, [1, 2, 3], {"late": [0, 0, 1]}),
        (history(90, [8, 9, 2, 3, 4]), 100, [9, 2, 3, 4], {}),
    ],
)  # fmt: skip
def test_a_history_goes_on(page, fresh, begin, calls, errors):
    """By new steps of its own length; the oldest leave."""
    known = history(100, [1, 2, 3], late=[0, 0, 1])
    found = import_of(
        page, "live/series.js", f"it.mergeHistory({json.dumps(known)}, {json.dumps(fresh)}, 4)"
    )
    assert (found["from"], found["calls"], found["errors"]) == (begin, calls, errors)


def entry(name, state, calls=0.0, **more):
    """A function in the overview."""
    minute = {"calls": calls, "calls_per_s": calls, "errors": 0, "p95_ms": None}
    texts = {"description": "", "reason": "", "part_of": "", "tier": "host"}
    numbers = {"replicas": 1, "memory_bytes": 10, "last_wake": None, "is_quarantined": False}
    return {"name": name, "state": state, "last_minute": minute, **texts, **numbers, **more}


ENTRIES = [
    entry("f10", "ready", 3, description="Of a text, its meaning."),
    entry("f2", "asleep"),
    entry("f1", "failed", 1, is_quarantined=True, reason="three crashes"),
    entry("f3", "ready", 2, tier="own", part_of="f10"),
]


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("", "f1 f2 f3 f10"),
        ("order=down", "f10 f3 f2 f1"),
        ("sort=calls", "f10 f3 f1 f2"),
        ("sort=calls&order=up", "f2 f1 f3 f10"),
        ("sort=state", "f1 f3 f10 f2"),
        ("sort=nonsense&group=nonsense&state=nonsense", "f1 f2 f3 f10"),
        ("sort=constructor&group=toString", "f1 f2 f3 f10"),
        ("q=TEXT+meaning", "f10"),
        ("q=f10", "f3 f10"),
        ("state=ready", "f3 f10"),
        ("state=quarantined", "f1"),
        ("group=state", "[quarantined 1] f1 [ready 2] f3 f10 [asleep 1] f2"),
        ("group=state&closed=ready,asleep", "[quarantined 1] f1 [ready 2] [asleep 1]"),
        ("group=tier&sort=calls", "[host 3] f10 f1 f2 [own 1] f3"),
    ],
)
def test_rows_are_arranged(page, query, rows):
    """As the address says; numbers in names count as numbers."""
    found = import_of(
        page,
        "overview/arrange.js",
        f"it.arrange({json.dumps(ENTRIES)}, it.readArrangement(new URLSearchParams({query!r})))"
        ".map((row) => row.entry ? row.key : `[${row.label} ${row.count}]`).join(' ')",
    )
    assert found == rows


@pytest.mark.parametrize(
    ("query", "by", "written"),
    [
        ("", "name", "order=down"),
        ("order=down", "name", ""),
        ("q=x", "calls", "q=x&sort=calls"),
        ("sort=calls", "calls", "sort=calls&order=up"),
        ("group=state&closed=ready", "wake", "group=state&sort=wake&closed=ready"),
    ],
)
def test_an_arrangement_is_written(page, query, by, written):
    """Into the address, as short as it can be; a column once more turns the order."""
    found = import_of(
        page,
        "overview/arrange.js",
        f"it.writeArrangement(it.sortBy(it.readArrangement(new URLSearchParams({query!r})), {by!r}))"
        ".toString()",
    )
    assert found == written


@pytest.mark.parametrize(
    ("top", "rows"),
    [(500, (0, 25)), (0, (0, 37)), (-4000, (88, 137)), (-39_500, (975, 1000)), (2000, (0, 0))],
)
def test_rows_near_the_view_are_drawn(page, top, rows):
    """Of a thousand of 40 pixels, in a view of 1000."""
    found = import_of(page, "overview/rows_window.js", f"it.rowsIn({top}, 1000, 40, 1000)")
    assert tuple(found) == rows


@pytest.mark.parametrize(
    ("fragment", "place"),
    [
        ("", ("overview", "")),
        ("#/", ("overview", "")),
        ("#/?q=functions/x", ("overview", "")),
        ("#/functions/embed", ("function", "embed")),
        ("#/functions/embed/try", ("try", "embed")),
        ("#/functions/embed/else", ("overview", "")),
        ("#/functions/", ("overview", "")),
        ("#/functions/a%2Fb", ("function", "a/b")),
        ("#/functions/%E0%A4%A", ("function", "%E0%A4%A")),
    ],
)
def test_an_address_leads_to_a_view(page, fragment, place):
    """What leads nowhere is the overview."""
    found = import_of(page, "route.js", f"it.parseRoute({fragment!r})")
    assert (found["view"], found["name"]) == place


def boxes(*names):
    """Nodes of a graph."""
    return [{"id": name, "width": 100, "height": 40} for name in names]


def lines(*pairs):
    """Its edges."""
    return [{"from": pair[0], "to": pair[1]} for pair in pairs]


def laid_out(page, nodes, edges, *, is_down=False):
    """Where the nodes of a graph stand: `{"nodes": {id: {"x", "y"}}, "width", "height"}`."""
    down = str(is_down).lower()
    arguments = f"{json.dumps(nodes)}, {json.dumps(edges)}, {down}"
    return import_of(
        page,
        "function/layout.js",
        f"((at) => ({{...at, nodes: Object.fromEntries(at.nodes)}}))(it.layOut({arguments}))",
    )


def test_a_graph_flows_to_one_side(page):
    """Each node stands behind those before it, none over another, within the picture; a chain is
    straight; down the page it is the same.
    """
    nodes = boxes("in", "a", "b", "c", "d", "out")
    edges = lines(
        ("in", "a"), ("in", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("d", "out"), ("in", "out")
    )
    for is_down in (False, True):
        found = laid_out(page, nodes, edges, is_down=is_down)
        at, along = found["nodes"], "y" if is_down else "x"
        for edge in edges:
            assert at[edge["from"]][along] < at[edge["to"]][along], edge
        for one in at.values():
            assert 0 <= one["x"] <= found["width"] - 100
            assert 0 <= one["y"] <= found["height"] - 40
        places = list(at.values())
        for index, one in enumerate(places):
            for other in places[index + 1 :]:
                apart_x = abs(one["x"] - other["x"]) >= 100
                assert apart_x or abs(one["y"] - other["y"]) >= 40
    chain = laid_out(page, boxes("a", "b", "c"), lines("ab", "bc"))
    assert {one["y"] for one in chain["nodes"].values()} == {0}


def test_an_odd_graph_is_drawn(page):
    """An edge that goes back, one to itself, one to nowhere, a node without any."""
    edges = lines("ab", "ba", "aa", "ax")
    found = laid_out(page, boxes("a", "b", "alone"), edges)
    assert set(found["nodes"]) == {"a", "b", "alone"}
    assert len(found["edges"]) == 2


def test_edges_do_not_cross_where_they_need_not(page):
    """The order of the nodes follows their joints."""
    edges = lines(("s", "a"), ("s", "b"), ("a", "y"), ("b", "x"))
    found = laid_out(page, boxes("s", "a", "b", "x", "y"), edges)["nodes"]
    assert (found["a"]["y"] < found["b"]["y"]) == (found["y"]["y"] < found["x"]["y"])


NUMBERS = {
    "it.formatNumber(1234.5)": ("1,235", "1.235"),
    "it.formatNumber(0.256)": ("0.26", "0,26"),
    "it.formatMs(0.4217)": ("0.42\u202fms", "0,42\u202fms"),
    "it.formatMs(1530)": ("1.53\u202fs", "1,53\u202fs"),
    "it.formatBytes(0)": ("0\u202fB", "0\u202fB"),
    "it.formatBytes(2.5e9)": ("2.5\u202fGB", "2,5\u202fGB"),
    "it.formatAge(100, 105)": ("just now", "just now"),
    "it.formatAge(100, 4000)": ("1\u202fh ago", "1\u202fh ago"),
    "it.formatCount(1, 'call')": ("1 call", "1 call"),
    "it.formatCount(2000, 'call')": ("2,000 calls", "2.000 calls"),
}
"""As they are written in America and in Germany."""


@pytest.mark.parametrize(("locale", "written"), [("en-US", 0), ("de-DE", 1)])
def test_numbers_are_those_of_the_browser(page, locale, written):
    """In the locale's writing, with the units of `wakeful status`."""
    page.command("Emulation.setLocaleOverride", locale=locale)
    page.evaluate("void (window.isOld = true)")
    page.command("Page.reload")
    page.wait_for(f"!window.isOld && {LIVE}")
    for expression, shown in NUMBERS.items():
        assert import_of(page, "parts/format.js", expression) == shown[written], expression
    page.command("Emulation.setLocaleOverride")
