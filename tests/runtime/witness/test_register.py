"""The register of the dead: noticed once, told once, kept for ten minutes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runtime.witness import last_words, told
from runtime.witness.register import KEPT_S, MOST, registered

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="files are locked by POSIX means")

KILLED = """
import os, signal, sys
from pathlib import Path
from runtime.witness import Witness
for n in range(int(sys.argv[2])):
    witness = Witness(Path(sys.argv[1]), slots=1, counters=[Path(sys.argv[1]) / "oom"])
    witness.begin(0, "f", [n])
    globals()[f"witness_{n}"] = witness
os.kill(os.getpid(), signal.SIGKILL)
"""


def die(folder: Path, times: int = 1) -> None:
    """So many processes' deaths, or what looks like them: each holds files of its own."""
    (folder / "oom").write_text("oom_kill 3\\n")
    subprocess.run([sys.executable, "-c", KILLED, str(folder), str(times)], timeout=60)


def endings(folder: Path) -> list[str]:
    """Of the files that stand there."""
    return sorted(path.suffix for path in folder.iterdir() if path.suffix)


def test_a_death_is_written_down_by_who_notices_first(tmp_path):
    """What the system's counters say later changes nothing: a kill that was no want of memory does not become one."""
    die(tmp_path)
    assert endings(tmp_path) == [".fault", ".work"]
    noticed = registered(tmp_path, {}, 1000.0)
    assert endings(tmp_path) == [".dead"]
    (tmp_path / "oom").write_text("oom_kill 4\\n")
    assert registered(tmp_path, {}, 1001.0) == noticed
    (death,) = noticed.values()
    assert (death.at, death.is_out_of_memory, death.suspect_marks) == (1000.0, False, (0,))


def test_a_death_that_was_told_is_kept_for_ten_minutes_and_then_goes(tmp_path):
    """Processes that start meanwhile learn of it; afterwards nothing is left."""
    die(tmp_path)
    noticed = registered(tmp_path, {}, 1000.0)
    (key,) = noticed
    told(tmp_path, key)
    assert endings(tmp_path) == [".told"]
    assert registered(tmp_path, {}, 999.0 + KEPT_S) == noticed
    assert registered(tmp_path, noticed, 1000.0 + KEPT_S) == {}
    assert endings(tmp_path) == []


def test_what_was_known_is_not_read_again(tmp_path):
    """A name that stands there is enough."""
    die(tmp_path)
    noticed = registered(tmp_path, {}, 1000.0)
    for path in tmp_path.glob("*.dead"):
        path.write_text("overwritten")
    assert registered(tmp_path, noticed, 1001.0) == noticed
    assert registered(tmp_path, {}, 1001.0) == {}


def test_no_more_deaths_are_kept_than_anybody_needs(tmp_path):
    """The latest stay."""
    die(tmp_path)
    (first,) = registered(tmp_path, {}, 1000.0)
    die(tmp_path, MOST)
    assert len(kept := registered(tmp_path, {}, 1001.0)) == MOST
    assert first not in kept
    assert endings(tmp_path) == [".dead"] * MOST


def test_who_looks_while_another_tells_misses_nobody(tmp_path, monkeypatch):
    """The file has another name by the time it is read: the folder is listed again."""
    die(tmp_path)
    registered(tmp_path, {}, 1000.0)
    read = Path.read_bytes

    def told_meanwhile(path: Path) -> bytes:
        told(tmp_path, path.stem)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", told_meanwhile)
    assert len(registered(tmp_path, {}, 1001.0)) == 1
    assert last_words(tmp_path) == []


def test_a_folder_that_is_not_there_has_no_dead(tmp_path):
    """Nor one that went."""
    assert registered(tmp_path / "nowhere", {}, 1.0) == {}
