"""The process that watches, with versions that do what a test says."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from deployments.cli import run
from deployments.cli.operations.foreground import count_signals
from deployments.cli.run import RunOutput
from deployments.local.front import FrontFailed, FrontRules
from deployments.local.reload import HAND_OVER, Reloader, VersionLink
from tests.deployments.local.running import ROOT
from tests.deployments.projects import wait_until

pytestmark = pytest.mark.slow

PATIENCE_S = 60.0

GOES_ON = "the version before goes on answering; save a file to try again."


def watch(serve: Callable[[VersionLink], int], signal_count: Callable[[], int]) -> list[str]:
    """What is reported until the signal."""
    reported: list[str] = []
    Reloader(serve, (), lambda: (), (), reported.append).run(signal_count)
    return reported


def wait_for(file: Path) -> None:
    """Until another process has made it."""
    until = time.monotonic() + PATIENCE_S
    while not file.exists():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_an_edit_right_after_a_version_has_read_its_files_is_seen(tmp_path):
    """Though the process that watches learns of the files only afterwards."""
    code, edited, started = (tmp_path / name for name in ("code.py", "edited", "started"))
    code.write_text("1")

    def serve(link: VersionLink) -> int:
        with started.open("a") as file:
            file.write("x")
        link.watch([code], [])
        if code.read_text() == "1":
            code.write_text("edited")
            edited.touch()
        time.sleep(PATIENCE_S)
        return 1

    until = time.monotonic() + PATIENCE_S

    def signal_count() -> int:
        wait_for(edited)
        return int(started.read_text() == "xx" or time.monotonic() > until)

    watch(serve, signal_count)
    assert started.read_text() == "xx"


def test_a_version_that_ends_by_the_same_signal_has_not_crashed():
    """Ctrl-C reaches every process of a terminal; it says nothing of a restart."""
    counts = iter([0])

    def serve(link: VersionLink) -> int:
        link._pipe.send(("serving", ({}, FrontRules())))
        return 0

    def signal_count() -> int:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)  # it has ended, and is not reaped yet
        return next(counts, 1)

    assert watch(serve, signal_count) == []


class Polls:
    """Stands for the signals: does at each look at them what a test says, the last of it being a
    signal.
    """

    def __init__(self, *acts: Callable[[], object]) -> None:
        self._acts = list(acts)

    @property
    def count(self) -> int:
        """How many came."""
        if not self._acts:
            return 1
        self._acts.pop(0)()
        return 0


class FrontOfOneRule:
    """A HAProxy that starts with no rules but one's own."""

    pid = 1
    drain_s = 0.0

    def __init__(self) -> None:
        self.taken: list[FrontRules] = []
        self.ports: list[int | None] = []

    def update(self, rules: FrontRules) -> None:
        if rules.once:
            raise FrontFailed("HAProxy does not start: so it is.")
        self.taken.append(rules)

    def set_port(self, slot: int, port: int | None) -> None:
        self.ports.append(port)

    def look(self, report: Callable[[str], None]) -> None:
        pass

    def drain(self, until: float, signal_count: Callable[[], int]) -> None:
        pass

    def close(self) -> None:
        pass

    def kill(self) -> None:
        pass

    def forget(self) -> None:
        pass


def test_a_version_whose_rules_haproxy_does_not_take_has_failed(tmp_path):
    """The one before goes on, the run too, and the next edit is served. What the failed one has it may
    answer.
    """
    code, ended = tmp_path / "code.py", tmp_path / "ended"
    code.write_text("0 good")

    def serve(link: VersionLink) -> int:
        text = code.read_text()
        link.watch([code], [])
        rules = FrontRules(("/v2/models/f",)) if "bad" in text else FrontRules()
        link._pipe.send(("serving", ({}, rules)))
        try:
            while link._pipe.recv() != HAND_OVER:
                pass
            with ended.open("a") as file:
                file.write(f"{text}\n")
        except EOFError:
            pass
        return 0

    front, reported = FrontOfOneRule(), list[str]()
    edits = iter(
        [
            (lambda: len(front.taken) == 1, "1 bad"),
            (lambda: reported[-1:] == [GOES_ON], "2 good"),
            (
                lambda: (
                    ended.exists() and set(ended.read_text().split("\n")) >= {"0 good", "1 bad"}
                ),
                "",
            ),
        ]
    )
    wanted = next(edits)
    until = time.monotonic() + PATIENCE_S

    def signal_count() -> int:
        nonlocal wanted
        holds, text = wanted
        if holds():
            if not text:
                return 1
            code.write_text(text)
            wanted = next(edits)
        return int(time.monotonic() > until)

    with socket.create_server(("127.0.0.1", 0)) as bound:
        status = Reloader(serve, (bound,), lambda: (), (), reported.append, front).run(signal_count)  # type: ignore[arg-type]
    assert status == 0
    assert len(front.taken) == 2
    assert reported[:2] == ["HAProxy does not start: so it is.", GOES_ON]
    assert reported[2].startswith("reloaded in")


def test_a_version_that_has_failed_is_not_called():
    """Where none serves, calls that wait go on waiting for the next one."""

    def serve(link: VersionLink) -> int:
        link._pipe.send(("serving", ({}, FrontRules(("/v2/models/f",)))))
        return 0

    front, reported = FrontOfOneRule(), list[str]()
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
        reloader = Reloader(serve, (bound,), lambda: (), (), reported.append, front)  # type: ignore[arg-type]
        reloader.run(lambda: len(reported) // 2)
    assert reported[1] == "nothing answers yet; save a file to try again."
    assert front.ports == [port, None]


def test_a_broken_file_that_is_gone_for_a_while_is_waited_for(tmp_path):
    """Editors and version control remove a file and write it anew."""
    file = tmp_path / "serve_config.yaml"
    file.write_text("applications: 1")
    looks = Polls(
        lambda: None,
        file.unlink,
        lambda: None,
        lambda: None,
        lambda: file.write_text("http_options: {port: 7}\napplications: []\n"),
        lambda: None,
    )
    found = run._wait_for_file(file, RunOutput(False), looks)
    assert found is not None
    assert found.http.port == 7


@pytest.mark.parametrize("before", [signal.SIG_IGN, signal.SIG_DFL])
def test_the_end_of_the_terminal_ends_nothing_under_nohup(tmp_path, before):
    """What `nohup` has started ignores it, and so does each version."""
    seen = tmp_path / "seen"

    def serve(link: VersionLink) -> int:
        (tmp_path / "new").write_text(str(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN))
        (tmp_path / "new").rename(seen)
        return 1

    former = signal.signal(signal.SIGHUP, before)
    try:
        with count_signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            counted = signals.count
            watch(serve, lambda: int(seen.exists()))
    finally:
        signal.signal(signal.SIGHUP, former)
    is_ignored = before == signal.SIG_IGN
    assert (counted, seen.read_text()) == (int(not is_ignored), str(is_ignored))


LOADING = """
import os, sys, time
from pathlib import Path
from deployments.local.front import FrontRules
from deployments.local.reload import Reloader

def serve(link):
    Path(sys.argv[1]).with_suffix(".new").write_text(str(os.getpid()))
    Path(sys.argv[1]).with_suffix(".new").rename(sys.argv[1])
    time.sleep(600)

Reloader(serve, (), lambda: (), (), print).run(lambda: 0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell a process")
def test_a_version_that_loads_ends_with_the_process_that_watches(tmp_path):
    """Though that one was killed, and the load never looks at anything."""
    started = tmp_path / "started"
    watching = subprocess.Popen([sys.executable, "-c", LOADING, str(started)], cwd=ROOT)
    try:
        wait_for(started)
        version = psutil.Process(int(started.read_text()))
    finally:
        watching.kill()
        watching.wait()
    try:
        wait_until(lambda: has_ended(version))
    finally:
        with suppress(psutil.NoSuchProcess):
            version.kill()


def has_ended(process: psutil.Process) -> bool:
    """Whether or not its new parent has asked for its status."""
    with suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True
