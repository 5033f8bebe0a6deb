"""docs/security.md: each test that its table of threats names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "security.md"

TABLE = "## Threats"


def table_of(page: str) -> list[list[str]]:
    """The cells of each row of the table of threats."""
    section = page.split(f"\n{TABLE}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return rows[2:]  # without the head and the line under it


def find_tests(folder: Path) -> dict[str, set[str]]:
    """The tests of each file, by its path."""
    return {
        str(path.relative_to(ROOT)): {
            node.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name.startswith("test_")
        }
        for path in folder.rglob("test_*.py")
    }


def test_each_threat_has_what_stops_it_and_a_test_that_exists():
    """Where it comes from, what it could do, what stops it, which tests show it: `FILE::TEST`."""
    known = find_tests(ROOT / "tests")
    rows = table_of(PAGE.read_text(encoding="utf-8"))
    assert len(rows) >= 15
    for row in rows:
        assert len(row) == 4, row
        assert all(row), row
        named = re.findall(r"`(tests/[^`]+)`", row[3])
        assert named, row
        for one in named:
            file, _, name = one.partition("::")
            assert file in known, one
            assert name in known[file], one


def test_a_name_that_is_no_test_is_seen():
    """As a row would have it that outlived its test."""
    (row,) = table_of(
        "# X\n\n## Threats\n\n| a | b |\n|---|---|\n| c\\|d | `tests/x::y` |\n\n## Z\n"
    )
    assert row == ["c\\|d", "`tests/x::y`"]
    here = find_tests(ROOT / "tests")[str(Path(__file__).relative_to(ROOT))]
    assert "test_a_name_that_is_no_test_is_seen" in here
    assert "test_a_name_that_is_not_there" not in here
