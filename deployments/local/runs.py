"""The runs of this user that serve now, so that ``status``, ``logs`` and ``call`` find them from
another shell, and copies of what they wrote.

    <state folder>/runs/<process id>.json     where it serves, and what
    <state folder>/runs/<process id>.log      what it writes, and ``.log.1`` what it wrote before
    <state folder>/runs/<process id>/         of one with several processes (``--workers``)

A record is removed when its run ends. One that a killed run left is recognised by the time at which
its process started, and removed by the next run. Logs stay until then, for a run that died.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from deployments.local.output_copy import CappedFile, CopiedStream
from deployments.ray_support.haproxy_names import INNER_SOCKET
from deployments.ray_support.state_dir import StateDir
from deployments.rollout.catalogue_client import AWAKE, fetch_index

FOLDER: Final = "runs"

CLOCK_S: Final = 2.0
"""The time at which a process started is computed from the time of the system's start, which moves
when the clock is set.
"""

LOG_BYTES: Final = 4 << 20
"""Of a log; a full one is kept once more, then overwritten."""

MOST_ENDED: Final = 4
"""Logs of ended runs that are kept, the newest."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A ``wakeful run``.

    Attributes:
        pid: its process; with ``--reload`` the one that watches, with ``--workers`` the one that
            keeps the others running.
        started_at: when that started, seconds since the epoch.
        url: where this machine reaches it.
        file: the declaration, absolute.
        is_insecure: other machines reach it, and it asks for no keys.
        secret: what commands of its user carry instead of a key, where it asks for one.
    """

    pid: int
    started_at: float
    url: str
    file: str
    is_insecure: bool = False
    secret: str = field(default="", repr=False)

    def to_dict(self) -> dict[str, Any]:
        """What is told of it, which is all but the secret."""
        return {key: value for key, value in asdict(self).items() if key != "secret"}

    @property
    def is_alive(self) -> bool:
        """Whether that process runs."""
        with contextlib.suppress(psutil.Error):
            started_at: float = psutil.Process(self.pid).create_time()
            return abs(started_at - self.started_at) < CLOCK_S
        return False


def live_runs(state_dir: StateDir) -> list[RunRecord]:
    """The runs that are alive, the newest first."""
    records = [record for record in map(_read, _records(state_dir)) if record and record.is_alive]
    return sorted(records, key=lambda record: record.started_at, reverse=True)


def inner_socket(state_dir: StateDir, run: RunRecord) -> Path | None:
    """Where this user's processes reach a run in the clear; None: its HAProxy ends no TLS."""
    path = state_dir.path / FOLDER / str(run.pid) / INNER_SOCKET
    return path if path.exists() else None


def run_functions(run: RunRecord, state_dir: StateDir) -> list[dict[str, Any]]:
    """Every function of a run, as ``status`` shows it; none while its port is not open yet."""
    return [
        {
            **entry,
            "tier": "run",
            "replicas": entry.get("replicas", int(entry["state"] in AWAKE)),
            "url": run.url + entry["url"],
            "run": run.to_dict(),
        }
        for entry in fetch_index(run.url, run.secret, inner_socket(state_dir, run)) or ()
        if not entry["part_of"]
    ]


def run_logs(state_dir: StateDir) -> tuple[Path, ...]:
    """What runs wrote that serve now, and what the last one wrote, if none does."""
    folder = state_dir.path / FOLDER
    alive = [folder / f"{record.pid}.log" for record in live_runs(state_dir)]
    chosen = alive or _by_age(folder)[:1]
    return tuple(
        file for log in chosen for file in (log.with_suffix(".log.1"), log) if file.exists()
    )


@contextmanager
def record_run(
    state_dir: StateDir,
    url: str,
    file: Path,
    hide: Callable[[str], str],
    *,
    is_insecure: bool = False,
    secret: str = "",
) -> Iterator[Path]:
    """Within, the run is recorded, and what this process and its forks print is copied to its log,
    which it yields.

    Args:
        hide: takes secrets out of a text.
        is_insecure, secret: as of ``RunRecord``.

    Raises:
        StateDirUnusable: the state folder cannot be trusted.
    """
    state_dir.prepare()
    folder = state_dir.path / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    _sweep(state_dir)
    pid = os.getpid()
    (folder / f"{pid}.log.1").unlink(missing_ok=True)
    (folder / f"{pid}.log").unlink(missing_ok=True)
    started_at = psutil.Process().create_time()
    record = RunRecord(pid, started_at, url, str(file.resolve()), is_insecure, secret)
    path, draft = folder / f"{pid}.json", folder / f"{pid}.json.new"
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(asdict(record)), encoding="utf-8")
    draft.replace(path)
    before = sys.stdout, sys.stderr
    with contextlib.closing(CappedFile(folder / f"{pid}.log", LOG_BYTES)) as log:
        sys.stdout = CopiedStream(sys.stdout, log, "OUT", hide)
        sys.stderr = CopiedStream(sys.stderr, log, "ERR", hide)
        try:
            yield folder / f"{pid}.log"
        finally:
            sys.stdout, sys.stderr = before
            if os.getpid() == pid:  # and not a fork of it
                path.unlink(missing_ok=True)


@contextmanager
def run_folder(state_dir: StateDir | None = None) -> Iterator[Path]:
    """A folder of this run's own, readable by its user only: HAProxy's socket, and what processes
    record for each other. Removed afterwards; that of a run that was killed, by the next run.

    Raises:
        StateDirUnusable: the state folder cannot be trusted.
    """
    state_dir = state_dir or StateDir()
    state_dir.prepare()
    pid = os.getpid()
    folder = state_dir.path / FOLDER / str(pid)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    try:
        yield folder
    finally:
        if os.getpid() == pid:  # and not a fork of it
            shutil.rmtree(folder, ignore_errors=True)


def _records(state_dir: StateDir) -> Sequence[Path]:
    return sorted((state_dir.path / FOLDER).glob("*.json"))


def _read(path: Path) -> RunRecord | None:
    """A record; None where it is gone, or of another version."""
    try:
        return RunRecord(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _by_age(folder: Path) -> list[Path]:
    """The logs, the newest first."""
    dated = []
    for log in folder.glob("*.log"):
        with contextlib.suppress(FileNotFoundError):
            dated.append((log.stat().st_mtime_ns, log))
    return [log for _, log in sorted(dated, reverse=True)]


def _sweep(state_dir: StateDir) -> None:
    """Removes records of runs that died, and the oldest logs of those that ended."""
    folder = state_dir.path / FOLDER
    for path in _records(state_dir):
        record = _read(path)
        if record is None or not record.is_alive:
            path.unlink(missing_ok=True)
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
    ended = [log for log in _by_age(folder) if not log.with_suffix(".json").exists()]
    for log in ended[MOST_ENDED:]:
        log.with_suffix(".log.1").unlink(missing_ok=True)
        log.unlink(missing_ok=True)
