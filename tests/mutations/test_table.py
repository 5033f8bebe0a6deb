"""Tables of changes: what can be made of them, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutations.__main__ import ROOT, Copy, Outcome, summary
from tests.mutations.table import Change, TableError, read, read_all
from tests.problems import expect_values

BOUND = Change("B1", "code.py", "no bound", "if n > 3:", "if n > 4:", ("test_code.py",))
CODE = "def f(n):\n    if n > 3:\n        raise ValueError\n"


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("if n > 2:\n    pass\n", ("B1", "code.py", "0 times")),
        (CODE + "if n > 3:\n    pass\n", ("B1", "code.py", "2 times")),
        ("x = 1 if n > 3: 2", ("B1", "no Python")),
    ],
)
def test_a_change_that_cannot_be_made_is_refused(text, reasons):
    """It would say nothing of the tests."""
    with pytest.raises(TableError) as refused:
        BOUND.apply(text)
    expect_values(str(refused.value), *reasons)


def test_every_table_can_be_read():
    """No name is there twice, and each change names its tests."""
    tables = read_all()
    assert {"survivors"} <= tables.keys()
    for changes in tables.values():
        for change in changes:
            assert change.old != change.new, change.name
            for tests in change.tests:
                assert all(Path(test).parts[0] == "tests" for test in tests.split()), change.name


@pytest.mark.full
def test_every_change_can_be_made():
    """Its place is there once: where the code has moved on, the change is written anew."""
    refused = []
    for change in (change for changes in read_all().values() for change in changes):
        try:
            change.apply((ROOT / change.file).read_text(encoding="utf-8"))
        except TableError as error:
            refused.append(str(error))
    assert not refused, "\n".join(refused)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ('name = "A"', "missing"),
        ('name = "A"\nfile = "f"\nbreaks = "b"\nold = "o"\nnew = ""\ntests = []', "names no tests"),
        ('name = "A"\nmore = 1', "unexpected"),
    ],
)
def test_a_change_that_lacks_something_is_refused(tmp_path, entry, reason):
    """With its table and number, or its name."""
    table = tmp_path / "t.toml"
    table.write_text(f"[[change]]\n{entry}\n")
    with pytest.raises(TableError) as refused:
        read(table)
    expect_values(str(refused.value), "t.toml", reason)


@pytest.mark.parametrize(
    ("seen_by", "excuse", "said"),
    [
        ("a test", "", "1 changes: 1 of 1 seen (100 %), 0 excused."),
        ("", "", "1 changes: 0 of 1 seen (0 %), 0 excused."),
        ("", "equivalent", "1 changes: 0 of 0 seen, 1 excused."),
        ("a test", "equivalent", "1 changes: 1 of 1 seen (100 %), 0 excused."),
    ],
)
def test_what_no_test_can_see_does_not_count(seen_by, excuse, said):
    """Unless one does."""
    change = Change("B1", "code.py", "", "a", "b", ("t",), excuse)
    outcome = Outcome(change, seen_by, 1.0)
    assert (summary([outcome]), outcome.is_missed) == (said, not seen_by and not excuse)


@pytest.mark.slow
@pytest.mark.full  # it starts pytest four times, for a tool that is used before a release
def test_a_change_is_made_and_taken_back(tmp_path, monkeypatch):
    """In the copy alone; the nearest tests that see it are named, and a wider set is asked where
    they do not.
    """
    tree, copied = tmp_path / "tree", tmp_path / "copied"
    tree.mkdir()
    copied.mkdir()
    (tree / "code.py").write_text(CODE)
    (tree / "pytest.ini").write_text("[pytest]\nmarkers = ray\n    full\npythonpath = .\n")
    (tree / "test_near.py").write_text("from code_of import f\n\ndef test_near():\n    f(3)\n")
    (tree / "test_wide.py").write_text(
        "import pytest\nfrom code_of import f\n\ndef test_wide():\n"
        "    with pytest.raises(ValueError):\n        f(4)\n"
    )
    (tree / "code.py").rename(tree / "code_of.py")
    subprocess.run(["git", "init", "-q"], cwd=tree, check=True)
    monkeypatch.setattr(sys.modules["tests.mutations.__main__"], "ROOT", tree)
    copy = Copy(copied)
    change = Change("B1", "code_of.py", "", "n > 3", "n > 4", ("test_near.py", "test_wide.py"))
    assert copy.run(["test_near.py", "test_wide.py"]) == ""
    assert copy.try_change(change).seen_by == "test_wide.py::test_wide"
    assert (copied / "code_of.py").read_text() == (tree / "code_of.py").read_text() == CODE
