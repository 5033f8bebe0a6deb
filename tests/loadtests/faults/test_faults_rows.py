"""The table, the choice of scenarios, and what ends the command with an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from loadtests.bench.children import ChildFailed
from loadtests.faults import command, scenarios
from loadtests.faults.plan import QUICK, Setting
from loadtests.faults.row import Row, details, table
from loadtests.http1 import Phase
from loadtests.ledger.book import Book, Verdict
from loadtests.ledger.outcome import Exchange, Request

GOOD = Verdict(20_000, 20_000, 0, 0, 0)


def losing() -> Verdict:
    """One lost request."""
    book = Book()
    book.begin()
    book.enter(Request("r-1", "/f", b"{}", lambda answer: None), Exchange(0.0, 0.1, Phase.HEAD, error="closed"))
    return book.verdict()


def test_a_row_says_how_many_were_lost_and_why() -> None:
    """What was lost, missed or failed is printed bold."""
    assert str(Row("kill | more", GOOD, ("fast",))) == "| kill / more | 20,000 | 0 | fast |"
    assert str(Row("kill", losing(), ("fast",), ("p95",))) == "| kill | 1 | **1** | **missed**: p95; 1 x lost: closed at head; fast |"
    assert str(Row("kill", Verdict(0, 0, 0, 0, 0), failed="no start")) == "| kill | 0 | 0 | **failed**: no start |"
    assert table([Row("kill", GOOD)]).splitlines()[:2] == ["| fault | requests | lost | more |", "|---|---|---|---|"]


@pytest.mark.parametrize(
    ("row", "is_good"),
    [(Row("a", GOOD), True), (Row("a", GOOD, missed=("p95",)), True), (Row("a", losing()), False), (Row("a", GOOD, failed="late"), False)],
)
def test_a_row_is_good_if_it_ran_and_lost_nothing(row: Row, is_good: bool) -> None:
    """A bound that was missed is another thing."""
    assert row.is_good is is_good


def test_lost_requests_are_written_line_by_line() -> None:
    """For whoever looks for the reason."""
    (line,) = details(Row("kill", losing())).splitlines()
    assert {key: json.loads(line)[key] for key in ("id", "phase", "reason")} == {"id": "r-1", "phase": "head", "reason": "closed at head"}


def fails(_setting: Setting) -> Row:
    """Does not start."""
    raise ChildFailed("the port is in use.")


def fails_in_a_group(_setting: Setting) -> Row:
    """As a task group does it."""
    raise ExceptionGroup("tasks", [ChildFailed("nobody answered"), ValueError("not JSON")])


@pytest.mark.parametrize(
    ("scenario", "told"), [(fails, "the port is in use."), (fails_in_a_group, "nobody answered; not JSON")], ids=["alone", "group"]
)
def test_a_scenario_that_fails_is_a_row_that_is_not_good(scenario: Callable[[Setting], Row], told: str, tmp_path: Path) -> None:
    """The others go on."""
    row = scenarios.attempt("kill2", scenario, Setting(QUICK, 8000, tmp_path, tmp_path, lambda what: None))
    assert (row.failed, row.is_good) == (told, False)


@pytest.mark.parametrize(
    ("row", "arguments", "code"),
    [
        (Row("a", GOOD), [], 0),
        (Row("a", losing()), [], 1),
        (Row("a", GOOD, missed=("p95",)), [], 0),
        (Row("a", GOOD, missed=("p95",)), ["--strict"], 1),
        (Row("a", GOOD, failed="late"), [], 1),
    ],
)
def test_the_command_fails_if_something_was_lost(
    row: Row, arguments: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is printed, and written where it is wanted."""
    monkeypatch.setattr(scenarios, "SCENARIOS", {"kill2": lambda setting: row})
    out, lost = tmp_path / "table.md", tmp_path / "lost.jsonl"
    result = CliRunner().invoke(command.main, ["--only", "kill2", "--out", str(out), "--lost", str(lost), *arguments])
    assert (result.exit_code, str(row) in result.output) == (code, True), result.output
    assert str(row) in out.read_text()
    assert len(lost.read_text().splitlines()) == row.verdict.lost


def test_an_unknown_scenario_is_refused() -> None:
    """With those that there are."""
    result = CliRunner().invoke(command.main, ["--only", "flood"])
    assert result.exit_code == 2
    assert "unknown: flood. There are kill2, kill1, redeploy, poison" in " ".join(result.output.replace("│", "").split())
