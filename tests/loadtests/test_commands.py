"""The commands of the load tests: their help, what they refuse, and one tiny real run each."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper, save

from loadtests.bench import numbers, throughput, wake, wrk
from loadtests.bench.bare import bare_loop
from loadtests.bench.numbers import Number
from loadtests.bench.texts import by_length
from loadtests.bounds.command import main as bounds
from loadtests.command import Bench, Table
from loadtests.faults import scenarios
from loadtests.server import ChildFailed

TABLES = [throughput.TABLE, wake.TABLE, scenarios.TABLE]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.command)
def test_help_names_what_there_is(table: Table) -> None:
    """So that ``--only`` can be used without reading code."""
    done = CliRunner().invoke(table.as_command(), ["--help"])
    assert done.exit_code == 0
    assert ", ".join(table.sections) in re.sub(r"\s+", " ", done.output)
    refused = CliRunner().invoke(table.as_command(), ["--only", "nothing"])
    assert refused.exit_code == 2
    words = re.sub(r"\s+", " ", refused.output)
    assert f"unknown: nothing. There are {next(iter(table.sections))}" in words


def test_missing_models_are_named_with_the_command_that_brings_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything starts."""
    monkeypatch.chdir(tmp_path)
    for table in TABLES:
        done = CliRunner().invoke(table.as_command(), [])
        assert done.exit_code == 1
        assert "wrk" in done.output or "Run `wakeful models pull`" in done.output


def of(*sections: Number | Exception, marker: str = "") -> Table:
    """A table of sections that give a number, or numbers and then fail."""

    def section(_bench: Bench) -> Iterator[Number]:
        for found in sections:
            if isinstance(found, Exception):
                raise found
            yield found

    return Table("x", numbers.HEAD, {"mixed": section}, lambda _: "", "help", marker)


@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "of a group"])
def test_a_section_that_fails_keeps_what_it_found_and_says_why(
    wrapped: bool, tmp_path: Path
) -> None:
    """The rest of the run goes on."""
    error = ChildFailed("wrk: still running")
    raised = ExceptionGroup("of tasks", [error]) if wrapped else error
    bench = Bench(True, 1, tmp_path)
    first, failed = of(Number("first", (1.0,)), raised).measure(bench, "mixed")
    assert first.verdict == ""
    assert failed.verdict == "void"
    assert "mixed" in str(failed)
    assert "wrk: still running" in str(failed)


@pytest.mark.parametrize(
    ("value", "arguments", "code"),
    [(0.8, [], 0), (0.7, [], 0), (0.7, ["--strict"], 1), (float("nan"), ["--strict"], 1)],
)
def test_a_missed_number_fails_only_a_strict_run(
    value: float, arguments: list[str], code: int, tmp_path: Path
) -> None:
    """And the table is printed, and written where it is wanted."""
    table, page = of(Number("share", (value,), at_least=0.75)), tmp_path / "page.md"
    done = CliRunner().invoke(table.as_command(), [*arguments, "--out", str(page)])
    assert done.exit_code == code
    assert "| share |" in page.read_text()
    assert page.read_text() in done.stdout


def test_a_void_number_fails_every_run() -> None:
    """It proves nothing, whatever its size."""
    table = of(Number("share", (0.9,), void="of 10 answers 1 refused"))
    assert CliRunner().invoke(table.as_command(), []).exit_code == 1


def test_a_table_replaces_what_lies_between_its_markers(tmp_path: Path) -> None:
    """And nothing else; a number has a value, a spread, a target and a verdict."""
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- bench: written by `make bench` -->\nold\n<!-- bench: end -->\nb\n")
    number = Number("share", (0.7, 0.8, 0.9), note="of 3", at_least=0.75)
    of(marker="bench").write(page, f"{number}\n")
    text = page.read_text()
    assert "| share (of 3) | 0.80 | 0.70 to 0.90 of 3 | at least 0.75 | met |" in text
    assert text.startswith("a\n<!-- bench: written by `make bench` -->\n")
    assert "old" not in text
    assert text.endswith("<!-- bench: end -->\nb\n")
    with pytest.raises(ValueError, match="no markers"):
        of(marker="bench wake").write(page, "")


def test_a_round_goes_the_other_way_every_other_time_and_each_side_may_void_both(
    tmp_path: Path,
) -> None:
    """A limit whose run was refused is no limit; figures stay with their side."""
    order: list[str] = []

    def turn(side: str, void: str) -> throughput.Turn:
        def figure() -> tuple[float, str]:
            order.append(side)
            return float(len(order)), void

        return figure

    bench, sides = Bench(False, 1, tmp_path), (turn("limit", "1 broke"), turn("ours", ""))
    bound, ours = Number("bare", ()), Number("ours", ())
    lines = list(throughput.against(bench, bound, sides[0], ours, sides[1], 0.5))
    assert order[2:] == ["limit", "ours", "ours", "limit", "limit", "ours"]
    assert [line.rounds for line in lines] == [[3, 6, 7], [4, 5, 8], [4 / 3, 5 / 6, 8 / 7]]
    assert {line.void for line in lines} == {"1 broke"}


def test_bounds_say_how_they_are_called() -> None:
    """They have a command line of their own."""
    done = CliRunner().invoke(bounds, ["--help"])
    assert done.exit_code == 0
    assert "--skip" in done.output


def test_the_bare_loop_counts_rows_and_answers_as_the_model_does(tmp_path: Path) -> None:
    """Two workers, ragged rows padded, then answers from the same processes."""
    ids, mask = (
        helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "tokens"])
        for name in ("input_ids", "attention_mask")
    )
    output = helper.make_tensor_value_info("sum", TensorProto.INT64, ["rows", 1])
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "axis"], ["sum"]),
    ]
    axis = numpy_helper.from_array(np.array([1], np.int64), "axis")
    graph = helper.make_graph(nodes, "sum", [ids, mask], [output], [axis])
    opsets = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(tmp_path / "m.onnx"))
    texts = [("a", (1, 2, 3)), ("b", (4, 5)), ("c", (6,))]
    with bare_loop(tmp_path / "m.onnx", 2) as bare:
        assert bare.rows_per_s(texts, by_length([3, 2, 1], 2), 0.05) > 0
        assert bare.embed(texts) == [[6], [9], [6]]


def test_neighbours_in_length_share_a_batch() -> None:
    """Within its size and its padded tokens."""
    assert by_length([9, 1, 2, 8], 2) == [[1, 2], [3, 0]]
    assert by_length([4, 4, 4], 32, cost=8) == [[0, 1], [2]]


def test_the_line_that_the_script_prints_is_read() -> None:
    """A refusal or a broken connection voids the rate."""
    line = "result requests=100 duration_us=2000000 connect=0 read=1 write=0 status=2 timeout=0"
    found = wrk.parse(f"Running\n{line} p50_us=1500 p99_us=9000\n")
    assert (found.requests_per_s, found.p50_ms, found.p99_ms) == (50.0, 1.5, 9.0)
    assert found.void == "of 100 answers 2 refused, 1 broke"
    with pytest.raises(ChildFailed, match="printed no result"):
        wrk.parse("wrk: unable to connect")


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.models
@pytest.mark.skipif(bool(wrk.missing()), reason=wrk.missing())
def test_a_quick_run_without_ray_is_valid(root: Path, tmp_path: Path) -> None:
    """Its numbers are those of `wakeful run` against the bare loop."""
    options = ["--quick", "--only", "run", "--port", "8765", "--keep", str(tmp_path)]
    command = [sys.executable, "-m", "loadtests.bench", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "**void**" not in done.stdout
    assert "`embed` by `wakeful run`, 64 connections, share of that" in done.stdout
