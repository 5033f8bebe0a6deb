"""What commands do on a terminal; what they print where none shows it: whole lines, as they are."""

from __future__ import annotations

import io
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import click
import httpx
import pytest

from deployments.cli import status, terminal
from deployments.cli.terminal import (
    GONE_S,
    INTERRUPTED,
    Progress,
    SignalCounter,
    count_signals,
    new_table,
    print_answer,
    print_table,
    stay_attached,
)
from deployments.cli.up import ENDING
from deployments.cluster.cluster import Cluster
from deployments.ray_support.state_dir import ClusterState, StateDir, StateDirBusy
from tests.problems import expect_values

NAME = "sentences-in-many-languages-" * 4


def test_a_pipe_gets_each_row_as_one_line(capsys):
    """Eighty columns would break a name, and a search for it would find nothing."""
    entry = {
        "name": NAME,
        "state": "ready",
        "tier": "host",
        "replicas": 0,
        "url": f"http://127.0.0.1:8000/v2/models/{NAME}",
        "reason": "",
    }
    status._print_table([entry])
    _, row = capsys.readouterr().out.splitlines()
    assert row.split() == [NAME, "ready", "host", "0", f"/v2/models/{NAME}"]


def test_cells_are_text(capsys):
    """What looks like rich's markup or like an emoji is neither."""
    table = new_table()
    table.add_column("licence")
    table.add_row("MIT [bold] :smile: [/x]")
    print_table(table)
    assert capsys.readouterr().out.splitlines()[1].rstrip() == "MIT [bold] :smile: [/x]"


def test_a_reason_is_printed_as_it_is(capsys):
    """One with a path in brackets ended `up`, as a closing tag without its opening one."""
    with Progress("starting") as progress:
        progress("late", {"why": "no [/run/haproxy.sock]"})
        progress("changed", {"news": {"classify": "accepts [image/*]"}})
        progress("untried", {"names": [NAME, NAME]})
    shown = [line.partition(" s  ")[2] for line in capsys.readouterr().err.splitlines()[1:]]
    assert shown[:2] == [
        "HAProxy is late: no [/run/haproxy.sock]",
        "classify: accepts [image/*]",
    ]
    assert len(shown) == 3
    assert shown[2].startswith(f"no answer is tried before the first call: {NAME}, {NAME}. ")


def test_a_down_from_another_terminal_may_take_longer_than_ray(capsys):
    """An `up` in the foreground sees Ray gone, and waits for that command's end."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        state_dir = StateDir(Path(short) / "w")
        state_dir.prepare()
        state_dir.save(ClusterState("own", "127.0.0.1:1", "127.0.0.1", 1, "", "/", "/"))
        holds = threading.Event()

        def down() -> None:
            with state_dir.lock():
                holds.set()
                time.sleep(1.5)
                state_dir.clear()

        other = threading.Thread(target=down)
        other.start()
        holds.wait(10)
        assert stay_attached(state_dir, 0.0, SignalCounter(), ENDING) == 0
        other.join()
    assert capsys.readouterr().out == "taken down from elsewhere.\n"


def test_a_down_from_another_terminal_may_end_between_a_look_and_the_lock(monkeypatch, capsys):
    monkeypatch.setattr(Cluster, "liveness_check", lambda self: lambda: False)
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        state_dir = EndsOnceSeen(Path(short) / "w")
        state_dir.prepare()
        state_dir.save(ClusterState("own", "127.0.0.1:1", "127.0.0.1", 1, "", "/", "/"))
        assert stay_attached(state_dir, 0.0, SignalCounter(), ENDING) == 0
    assert capsys.readouterr().out == "taken down from elsewhere.\n"


class EndsOnceSeen(StateDir):
    """One whose cluster another command takes down right after a reader saw it."""

    def load(self) -> ClusterState | None:
        up = super().load()
        self.clear()
        return up


@pytest.fixture
def attached(monkeypatch) -> Iterator[StateDir]:
    """A state folder in which something is up whose Ray lives."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        state_dir = StateDir(Path(short) / "w")
        state_dir.prepare()
        state_dir.save(ClusterState("own", "127.0.0.1:1", "127.0.0.1", 1, "", "/", "/"))
        monkeypatch.setattr(Cluster, "liveness_check", lambda self: lambda: True)
        yield state_dir


@pytest.mark.parametrize(("more", "status"), [(0, 0), (1, INTERRUPTED)])
def test_a_second_signal_ends_the_wait_that_the_first_began(attached, monkeypatch, more, status):
    """The time to drain is handed on; the status says whether the wait was cut."""
    signals, seen = SignalCounter(), []

    def down(self: Cluster, *, drain_s: float, should_stop: Callable[[], bool]) -> bool:
        seen.append((drain_s, should_stop()))
        for _ in range(more):
            signals(signal.SIGINT, None)
        seen.append((drain_s, should_stop()))
        return True

    monkeypatch.setattr(Cluster, "down", down)
    signals(signal.SIGINT, None)
    assert stay_attached(attached, 7.0, signals, ENDING) == status
    assert seen == [(7.0, False), (7.0, bool(more))]


def test_a_down_elsewhere_that_never_ends_is_not_waited_for(attached, clock, monkeypatch):
    """After half a minute the command says what holds the folder."""
    monkeypatch.setattr(Cluster, "liveness_check", lambda self: lambda: False)
    monkeypatch.setattr(terminal.time, "sleep", clock.advance)
    began = clock()
    with attached.lock(), pytest.raises(StateDirBusy):
        stay_attached(attached, 0.0, SignalCounter(), ENDING)
    assert GONE_S < clock() - began < GONE_S + 5


def test_signals_are_counted_within_and_mean_what_they_did_outside():
    """After an error too."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with suppress(ZeroDivisionError), count_signals() as signals:
        for number in numbers:
            signal.raise_signal(number)
        assert signals.count == 3
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in numbers] == before


def test_under_nohup_the_end_of_the_terminal_stays_ignored():
    """A command that was told to survive its terminal does."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with count_signals() as signals:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGTERM)
            assert signals.count == 1
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("status", "kind", "content", "is_terminal", "printed"),
    [
        (200, "application/json", b'{"a":1}\n', True, b'{"a":1}\n'),
        (200, "text/csv; charset=utf-8", b"a,b\n", True, b"a,b\n"),
        (200, "image/svg+xml", b"<svg/>", True, b"<svg/>\n"),
        (200, "", b"x", True, b"x\n"),
        (200, "image/png", b"\x89PNG\n", False, b"\x89PNG\n"),
        (200, "image/png", b"\x89PNG\n", True, None),
        (400, "application/json", b'{"error":"e"}', False, b""),
    ],
)
def test_what_a_call_prints(monkeypatch, status, kind, content, is_terminal, printed):
    """Text, and a file as it is, but not on a terminal; an error on standard error."""
    output = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(output, "isatty", lambda: is_terminal, raising=False)
    headers = {"content-type": kind} if kind else {}
    answer = httpx.Response(status, headers=headers, content=content)
    if printed is None:
        with pytest.raises(click.ClickException) as refused:
            print_answer(answer)
        expect_values(refused.value.message, "image/png", "5 bytes", "FILE")
        printed = b""
    else:
        print_answer(answer)
    output.flush()
    assert output.buffer.getvalue() == printed
