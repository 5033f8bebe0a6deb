"""Graphs as lines of text."""

from __future__ import annotations

from deployments.cli.check import Box, draw_graph, hop_text

URL = "http://127.0.0.1:8000"


def test_a_row_is_a_line_for_each_stage() -> None:
    """What goes in and what comes out, aligned."""
    boxes = [
        Box("tokenize", "python a:Tokenize", ("text",), ("ids", "mask")),
        Box("model", "onnx m.onnx", ("ids", "mask"), ("y",)),
    ]
    assert draw_graph(["text"], boxes, ["y"]) == [
        "request  text",
        "├ tokenize  python a:Tokenize  text → ids, mask",
        "└ model     onnx m.onnx        ids, mask → y",
        "answer   y",
    ]


def test_stages_over_the_same_list_are_drawn_under_it_and_another_list_starts_a_group() -> None:
    """Branches say their condition, and a stage elsewhere where that is and what the way costs."""
    boxes = [
        Box("find", "python a:find", ("image",), ("lines", "words")),
        Box("turn", "python a:turn", ("lines",), ("upright",), each="lines", when="not flat"),
        Box(
            "read",
            "function f.read",
            ("upright",),
            ("text",),
            each="lines",
            runs="0 to 2 replicas of 1 CPU",
            hop="hop 1.90 ms",
        ),
        Box("spell", "python a:spell", ("words",), ("word",), each="words"),
    ]
    assert draw_graph(["image"], boxes, ["word"]) == [
        "request  image",
        "├ find           python a:find    image → lines, words",
        "├ each of lines",
        "│ ├ turn         python a:turn    lines → upright  when not flat",
        "│ └ read         function f.read  upright → text",
        "│                0 to 2 replicas of 1 CPU; hop 1.90 ms",
        "└ each of words",
        "  └ spell        python a:spell   words → word",
        "answer   word",
    ]


def test_functions_that_a_stage_calls_are_drawn_below_it() -> None:
    """One a line."""
    calls = ("calls embed: 0 to 2 replicas of 1 CPU; hop 1.90 ms", "calls rank: 1 to 1 replicas")
    boxes = [Box("find", "python a:find", ("text",), ("found",), calls=calls)]
    assert draw_graph(["text"], boxes, ["found"])[1:-1] == [
        "└ find  python a:find  text → found",
        "        calls embed: 0 to 2 replicas of 1 CPU; hop 1.90 ms",
        "        calls rank: 1 to 1 replicas",
    ]


def test_a_hop_is_shown_only_as_measured() -> None:
    """No catalogue, no call, or the number."""
    assert hop_text(None, "f.read", URL) == f"hop not measured: nothing answers at {URL}"
    assert hop_text({}, "f.read", URL) == "hop not measured: no call has gone to another process"
    assert hop_text({"f.read": 1.9041}, "f.read", URL) == "hop 1.90 ms"


def test_a_stage_that_takes_nothing_is_drawn_so() -> None:
    """A stage without parameters is legal."""
    assert (
        draw_graph([], [Box("now", "python a:now", (), ("time",))], ["time"])[1]
        == "└ now  python a:now  nothing → time"
    )
