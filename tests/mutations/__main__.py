"""``python -m tests.mutations [TABLE or NAME ...]``: makes each change in a copy of the tree, in
random order, and runs its tests until one fails. Ends with 1 if one is not seen that should be.

One process at a time, with its own temporary folder; the tree itself is not touched.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from tests.mutations.table import Change, TableError, read_all

ROOT = Path(__file__).parent.parent.parent

MARKS: Final = "not ray and not full"

LIMIT_S: Final = 300.0
"""Longest run of the tests of one change: a fault that makes them hang is seen."""

FORK: Final = multiprocessing.get_context("fork")

OTHERS: Final = (
    "numpy",
    "onnxruntime",
    "onnx",
    "pydantic",
    "httpx",
    "starlette",
    "hypothesis",
    "ray.serve",
)

WARM: Final = ("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning")

OURS: Final = ("wakeful", "runtime", "deployments", "apps", "loadtests", "tests")

FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a change.

    Attributes:
        seen_by: the first test that failed, or what else ended the run; empty: nothing.
        took_s: how long its tests ran.
    """

    change: Change
    seen_by: str
    took_s: float

    @property
    def is_missed(self) -> bool:
        """Whether a test should have seen it and none did."""
        return not self.seen_by and not self.change.excuse


def warm_up() -> None:
    """Imports what tests import of others: a run then begins in a second, by a fork, not in four."""
    for name in OTHERS:
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        if name != __name__:
            del sys.modules[name]


def _test(folder: Path, own: str, said: Path, tests: Sequence[str]) -> None:
    """Runs pytest in the fork, on the copy alone."""
    os.setsid()
    sys.stdout = sys.stderr = said.open("w", encoding="utf-8")  # a caller's may not be its output
    os.dup2(sys.stdout.fileno(), 1)
    os.dup2(sys.stdout.fileno(), 2)
    os.chdir(folder)
    os.environ.update(PYTHONPATH=str(folder), TMPDIR=own)
    tempfile.tempdir = None  # as TMPDIR says
    sys.path[:] = [str(folder), *(one for one in sys.path if Path(one).resolve() != ROOT)]
    options = ["-x", "-q", "-m", MARKS, "-p", "no:cacheprovider", *WARM]
    status = pytest.main([*options, *tests])
    sys.stdout.flush()
    os._exit(int(status))


class Copy:
    """The tracked files of the repository, and new ones, in a folder of their own.

    Args:
        folder: empty.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            check=True,
            capture_output=True,
        ).stdout
        for name in filter(None, listed.decode().split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        if (ROOT / "models").exists() and not (folder / "models").exists():
            (folder / "models").symlink_to(ROOT / "models")

    def run(self, tests: Sequence[str]) -> str:
        """The first test that fails; empty if none does. What it leaves running is ended."""
        with tempfile.TemporaryDirectory(prefix="m", dir="/tmp", ignore_cleanup_errors=True) as own:
            said = Path(own) / "said"
            child = FORK.Process(target=_test, args=(self.folder, own, said, tests))
            child.start()
            child.join(LIMIT_S)
            with contextlib.suppress(ProcessLookupError):  # its group, itself included
                os.killpg(child.pid or 0, signal.SIGKILL)
            child.join()
            text = said.read_text(encoding="utf-8", errors="replace")
        if child.exitcode == 0:
            return ""
        if child.exitcode == -signal.SIGKILL:
            return f"a run of more than {LIMIT_S:.0f} s"
        if (found := FAILED.search(text)) is None:
            raise RuntimeError(f"no test failed, and pytest ended with {child.exitcode}:\n{text}")
        return found[1]

    def write(self, name: str, text: str) -> None:
        """Puts another text in the place of a file; nothing compiled of the former is left, which
        Python would take for it within the same second.
        """
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            compiled.unlink()

    def try_change(self, change: Change) -> Outcome:
        """Makes it, runs its tests, and takes it back."""
        text = (self.folder / change.file).read_text(encoding="utf-8")
        began, seen_by = time.monotonic(), ""
        self.write(change.file, change.apply(text))
        try:
            for tests in change.tests:
                if seen_by := self.run(tests.split()):
                    break
        finally:
            self.write(change.file, text)
        return Outcome(change, seen_by, time.monotonic() - began)


def choose(names: Iterable[str]) -> list[Change]:
    """The changes of these tables and of these names; all, if none is named.

    Raises:
        TableError: nothing has such a name, or a change cannot be made.
    """
    tables, chosen = read_all(), []
    everything = [change for changes in tables.values() for change in changes]
    for name in names:
        found = tables.get(name) or [change for change in everything if change.name == name]
        if not found:
            raise TableError(f"no change and no table is named {name}; tables: {', '.join(tables)}")
        chosen += found
    chosen = chosen or everything
    for change in chosen:
        change.apply((ROOT / change.file).read_text(encoding="utf-8"))
    return chosen


def main(arguments: Sequence[str]) -> int:
    """Exit status 1 where a change is missed, 2 where one cannot be made or its tests fail
    without it.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("names", nargs="*", help="tables or changes; all without")
    parser.add_argument("--seed", type=int, default=0, help="of their order")
    parser.add_argument(
        "--trust", action="store_true", help="do not run the tests on the code as it is first"
    )
    parser.add_argument(
        "--near", action="store_true", help="the nearest tests of each change alone, not its folder"
    )
    options = parser.parse_args(arguments)
    try:
        changes = choose(options.names)
    except TableError as error:
        print(error, file=sys.stderr)
        return 2
    if options.near:
        changes = [replace(change, tests=change.tests[:1]) for change in changes]
    random.Random(options.seed).shuffle(changes)
    warm_up()
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        copy = Copy(Path(folder))
        tests = dict.fromkeys(test for change in changes for test in change.tests)
        for test in () if options.trust else tests:
            if failed := copy.run(test.split()):
                print(f"{failed} fails without any change: mend that first.", file=sys.stderr)
                return 2
        outcomes = []
        for change in changes:
            outcomes.append(outcome := copy.try_change(change))
            verdict = "seen" if outcome.seen_by else "missed" if outcome.is_missed else "excused"
            by = outcome.seen_by or change.excuse or change.breaks
            print(f"{verdict:8} {change.name:6} {outcome.took_s:5.0f} s  {by}", flush=True)
    print(summary(outcomes))
    return int(any(outcome.is_missed for outcome in outcomes))


def summary(outcomes: Sequence[Outcome]) -> str:
    """One line: how many of those that a test can see are seen."""
    seen = sum(bool(outcome.seen_by) for outcome in outcomes)
    excused = sum(not outcome.seen_by and not outcome.is_missed for outcome in outcomes)
    able = len(outcomes) - excused
    share = f" ({100 * seen / able:.0f} %)" if able else ""
    return f"{len(outcomes)} changes: {seen} of {able} seen{share}, {excused} excused."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
