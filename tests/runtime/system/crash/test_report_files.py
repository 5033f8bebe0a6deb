"""The files of crashed processes: noticed once, reported once, kept for ten minutes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.system.crash import (
    CrashRecorder,
    CrashReport,
    mark_reported,
    read_crash_reports,
    reports,
)
from runtime.system.crash.reports import KEPT_S, MOST, ProcessWatch, crash_files

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="files are locked by POSIX means")

KILLED = """
import os, signal, sys
from pathlib import Path
from runtime.system.crash import CrashRecorder
for n in range(int(sys.argv[2])):
    recorder = CrashRecorder(Path(sys.argv[1]), slots=1, counters=[Path(sys.argv[1]) / "oom"])
    recorder.begin(0, "f", [n])
    globals()[f"witness_{n}"] = recorder
os.kill(os.getpid(), signal.SIGKILL)
"""

LOCK_STAYS = """
import subprocess, sys
from pathlib import Path
from runtime.system.crash import CrashRecorder
kept = CrashRecorder.__init__
def opened(self, *args, **kwargs):
    kept(self, *args, **kwargs)
    holder = subprocess.Popen(["sleep", "60"], pass_fds=[self._file.fileno()])
    (Path(sys.argv[1]) / "holder").write_text(str(holder.pid))
CrashRecorder.__init__ = opened
"""


def die(folder: Path, times: int = 1) -> None:
    """So many crashed processes, or what looks like them: each holds files of its own."""
    (folder / "oom").write_text("oom_kill 3\n")
    subprocess.run([sys.executable, "-c", KILLED, str(folder), str(times)], timeout=60)


def endings(folder: Path) -> list[str]:
    """Of the files that are there."""
    return sorted(path.suffix for path in folder.iterdir() if path.suffix)


def test_a_crash_is_recorded_by_the_process_that_notices_first(tmp_path):
    """What the system's counters say later changes nothing: a kill that was no want of memory does
    not become one.
    """
    die(tmp_path)
    assert endings(tmp_path) == [".fault", ".work"]
    noticed = crash_files(tmp_path, {}, 1000.0)
    assert endings(tmp_path) == [".dead"]
    (tmp_path / "oom").write_text("oom_kill 4\n")
    assert crash_files(tmp_path, {}, 1001.0) == noticed
    (report,) = noticed.values()
    assert (report.at, report.is_out_of_memory, report.suspect_row_ids) == (1000.0, False, (0,))


def test_a_reported_crash_is_kept_for_ten_minutes_and_then_goes(tmp_path):
    """Processes that start meanwhile learn of it; afterwards nothing is left."""
    die(tmp_path)
    noticed = crash_files(tmp_path, {}, 1000.0)
    (key,) = noticed
    mark_reported(tmp_path, key)
    assert endings(tmp_path) == [".told"]
    assert crash_files(tmp_path, {}, 999.0 + KEPT_S) == noticed
    assert crash_files(tmp_path, noticed, 1000.0 + KEPT_S) == {}
    assert endings(tmp_path) == []


def test_what_was_known_is_not_read_again(tmp_path):
    """A name that is there is enough."""
    die(tmp_path)
    noticed = crash_files(tmp_path, {}, 1000.0)
    for path in tmp_path.glob("*.dead"):
        path.write_text("overwritten")
    assert crash_files(tmp_path, noticed, 1001.0) == noticed
    assert crash_files(tmp_path, {}, 1001.0) == {}


def test_the_number_of_crashes_kept_is_bounded(tmp_path):
    """The latest stay."""
    die(tmp_path)
    (first,) = crash_files(tmp_path, {}, 1000.0)
    die(tmp_path, MOST)
    assert len(kept := crash_files(tmp_path, {}, 1001.0)) == MOST
    assert first not in kept
    assert endings(tmp_path) == [".dead"] * MOST


def test_a_reader_misses_no_crash_while_another_process_reports_it(tmp_path, monkeypatch):
    """The file has another name by the time it is read: the folder is listed again."""
    die(tmp_path)
    crash_files(tmp_path, {}, 1000.0)
    read = Path.read_bytes

    def reported_meanwhile(path: Path) -> bytes:
        mark_reported(tmp_path, path.stem)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", reported_meanwhile)
    assert len(crash_files(tmp_path, {}, 1001.0)) == 1
    assert read_crash_reports(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only /proc has it")
def test_a_process_has_crashed_before_its_lock_is_free(tmp_path):
    """The system frees locks last: here another process has the file open still."""
    (tmp_path / "oom").write_text("oom_kill 3\n")
    child = subprocess.Popen([sys.executable, "-c", LOCK_STAYS + KILLED, str(tmp_path), "1"])
    watch = ProcessWatch(tmp_path)
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it is not taken off the table
        watch.restart()
        assert watch.has_changed()
        (report,) = crash_files(tmp_path, {}, 1000.0).values()
        assert (report.pid, report.running) == (child.pid, ("f",))
    finally:
        child.wait()
        os.kill(int((tmp_path / "holder").read_text()), signal.SIGKILL)


def test_two_processes_notice_a_crash_at_a_time(tmp_path, monkeypatch):
    """The one that reads the records when the other removes them takes the other's report."""
    die(tmp_path)
    read = reports._fault

    def noticed_meanwhile(path: Path) -> tuple[str, int | None]:
        monkeypatch.setattr(reports, "_fault", lambda _: ("Aborted", None))
        crash_files(tmp_path, {}, 1000.0)
        return read(path)

    monkeypatch.setattr(reports, "_fault", noticed_meanwhile)
    (report,) = crash_files(tmp_path, {}, 1001.0).values()
    assert (report.at, report.fault) == (1000.0, "Aborted")
    assert crash_files(tmp_path, {}, 1002.0) == {report.key: report}


def test_a_process_that_notices_first_leaves_no_gap_to_the_next(tmp_path, monkeypatch):
    """The records are gone when they are to be read, and the report is there."""
    die(tmp_path)
    read = reports.read_crash_report

    def noticed_meanwhile(path: Path, now: float) -> CrashReport | None:
        monkeypatch.setattr(reports, "read_crash_report", read)
        crash_files(tmp_path, {}, 1000.0)
        return read(path, now)

    monkeypatch.setattr(reports, "read_crash_report", noticed_meanwhile)
    assert [report.at for report in crash_files(tmp_path, {}, 1001.0).values()] == [1000.0]


def test_a_watch_sees_what_comes_goes_and_ends(tmp_path):
    """A process that records, its end, and a report; and nothing else."""
    watch = ProcessWatch(tmp_path / "folder")
    watch.restart()
    assert not watch.has_changed()
    recorder = CrashRecorder(tmp_path / "folder", slots=1)
    assert watch.has_changed()
    watch.restart()
    assert not watch.has_changed()
    assert crash_files(tmp_path / "folder", {}, 1000.0) == {}
    recorder.close()
    assert watch.has_changed()
    watch.restart()
    assert not watch.has_changed()
    die(tmp_path / "folder")
    assert watch.has_changed()
    watch.restart()
    crash_files(tmp_path / "folder", {}, 1000.0)
    assert watch.has_changed()
    watch.restart()
    assert not watch.has_changed()


def test_a_folder_that_is_not_there_has_no_crashes(tmp_path):
    """Nor one that went."""
    assert crash_files(tmp_path / "nowhere", {}, 1.0) == {}


def test_a_process_that_died_while_it_began_leaves_nothing(tmp_path):
    """Its files have been made, and never got their names."""
    for name in ("7-0.new", "7-0.fault"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1, 1))
    assert read_crash_reports(tmp_path) == []
    assert endings(tmp_path) == []
