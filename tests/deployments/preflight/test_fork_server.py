"""Which loads run at once, what is kept of what they write, and how their processes ended."""

from __future__ import annotations

import gc
import io
import os
import pickle
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from deployments.preflight import fork_server


def test_of_a_crash_the_crashing_frames_are_shown() -> None:
    """They come first in a dump, after anything that was printed."""
    frames = [f'  File "stage.py", line {line} in f' for line in range(50)]
    written = "\n".join(
        [
            "printed before",
            "Fatal Python error: Segmentation fault",
            "",
            "Current thread 0x1:",
            *frames,
        ]
    ).encode()
    assert fork_server.tail(written).splitlines()[:3] == [
        "Fatal Python error: Segmentation fault",
        "Current thread 0x1:",
        frames[0],
    ]
    assert len(fork_server.tail(written).splitlines()) == fork_server.FRAMES


def test_otherwise_the_last_lines_are() -> None:
    """Without the marks under a traceback's lines, and cut where they are long."""
    written = (
        "\n".join(
            [*map(str, range(50)), "    call()", "    ^~~~~~", "Error: " + "x" * 1000]
        ).encode()
        + b"\xff\n"
    )
    last = fork_server.tail(written).splitlines()
    assert len(last) == fork_server.LINES
    assert last[-2:] == ["    call()", ("Error: " + "x" * 1000)[: fork_server.WIDTH]]


def test_silence_adds_nothing() -> None:
    """The message alone."""
    assert fork_server.with_tail("it failed.", b"\n \n") == "it failed."
    assert fork_server.with_tail("it failed.", b"why\n") == "it failed. It wrote:\nwhy"


class Loading:
    """A load that holds so many bytes while it runs, and ends at its third look.

    Mutable state: ``running`` of all loads, ``most`` of them at once, ``begun``, their names.
    """

    running: list[Loading] = []  # noqa: RUF012 - emptied by the fixture
    most = 0
    begun: list[str] = []  # noqa: RUF012

    def __init__(self, index: int, spec: tuple[str, int], settings: Any, *, prepares: bool) -> None:
        self.index, self.spec, self.prepares = index, spec, prepares
        self.ends: set[Any] = set()
        self.ended_for, self._looks = "", 0
        self.running.append(self)
        self.begun.append(spec[0])
        Loading.most = max(Loading.most, len(self.running))

    def bound(self, ready: Any, timeout_s: float, limit: int) -> int:
        """See ``fork_server.Load``."""
        self._looks += 1
        return self.spec[1]

    def has_ended(self) -> bool:
        """See there."""
        return self._looks == 3

    def close(self) -> dict[str, Any]:
        """See there."""
        self.running.remove(self)
        return {}

    def end(self) -> None:
        """See there."""
        self.ended_for = "the end"


@pytest.fixture
def load_all(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Loads functions of these names and bytes, on two cores where loads may take 100 MB; returns
    the names in the order in which loads began.
    """
    Loading.running.clear()
    Loading.begun.clear()
    Loading.most = 0
    monkeypatch.setattr(fork_server, "Load", Loading)
    monkeypatch.setattr(fork_server, "usable_cores", lambda: 2)
    monkeypatch.setattr(fork_server, "is_installed", lambda: True)
    monkeypatch.setattr(fork_server, "wait", lambda ends, timeout_s: [])
    monkeypatch.setattr(fork_server.load_job, "is_prepared", lambda spec, settings: True)
    monkeypatch.setattr(gc, "freeze", lambda: None)

    def load_all(*specs: tuple[str, int]) -> list[str]:
        settings = SimpleNamespace(probe_memory_mb=100, probe_timeout_s=10)
        given, answers = pickle.dumps((specs, settings)), io.BytesIO()
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(given)))
        monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=answers))
        fork_server.serve()
        answers.seek(0)
        assert {pickle.load(answers)[0] for _ in specs} == set(range(len(specs)))
        return list(Loading.begun)

    return load_all


def test_as_many_loads_run_at_once_as_there_are_cores(load_all: Any) -> None:
    """However many functions there are."""
    assert load_all(*((name, 1) for name in "abcde")) == list("abcde")
    assert Loading.most == 2


def test_loads_that_do_not_fit_together_run_one_by_one(load_all: Any) -> None:
    """The largest is ended and begins again when the others are done; none is lost."""
    assert load_all(("a", 60_000_000), ("b", 70_000_000), ("c", 80_000_000)) == ["a", "b", "c", "b"]
    assert Loading.most == 2


def test_loads_end_with_the_command_that_wants_them(load_all: Any, monkeypatch: Any) -> None:
    """Its end closes the standard input; nothing else begins then."""
    monkeypatch.setattr(fork_server, "wait", lambda ends, timeout_s: [0])
    with pytest.raises(EOFError):  # no answers
        load_all(("a", 1), ("b", 1), ("c", 1))
    assert Loading.begun == ["a", "b"]
    assert [load.ended_for for load in Loading.running] == ["the end", "the end"]


def test_of_what_a_load_writes_the_end_is_kept() -> None:
    """Megabytes of a chatty one are read, and not kept."""
    reads, writes = os.pipe()
    load = fork_server.Load.__new__(fork_server.Load)
    load._results, load._written = None, bytearray()  # type: ignore[assignment]
    output: Any = SimpleNamespace(fileno=lambda: reads)
    load.ends = set()
    try:
        for _ in range(3):
            os.write(writes, b"x" * (fork_server.WRITTEN_BYTES - 1) + b"!")
            load._read(output)
    finally:
        os.close(reads)
        os.close(writes)
    assert len(load._written) == fork_server.WRITTEN_BYTES
    assert load._written.endswith(b"!")
