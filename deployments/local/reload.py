"""``wakeful run --reload``: one process watches files and forks another that serves them; after an
edit it forks the next, which loads what has changed and then takes over.

Theory of operation. The watching process has imported the engine and nothing of the project, so
that a fork of it starts in milliseconds and imports the project's modules as they are now. It holds
the listening sockets; all forks share them. A new version reads the file, says which files matter,
loads the functions that are not as the serving version has them, and reports ``SERVING`` once it
accepts connections. Only then the version before is told ``HAND_OVER``: it accepts no more, answers
what it has, and ends. A version that fails ends after it has printed why, and the one before never
learns of it. So an edit refuses no call; what stages keep in memory, sequences included, is lost
with it.

Where calls need keys, HAProxy stands before the versions, as it does before the processes of
``--workers`` (``front``); another takes its place where a version wants other rules of it. Where
none can, the version has failed as one that does not load.

The end of this process, whatever the reason, closes the pipe to each version, which then drains. A
version that dies while it serves is started again, once until something is edited: callers wait
meanwhile, in the queue of the sockets. After that the sockets are closed and bound anew, so that
callers are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from deployments.local.watched_files import POLL_S, PathState, look_at, should_start
from runtime.errors import WakefulError
from runtime.system.child_processes import end_with_parent, explain_exit, run_and_exit, signal_name

if TYPE_CHECKING:
    from deployments.local.front import Front, FrontRules
    from runtime.http.transport.draining_server import DrainingServer

WATCH: Final = "watch"
"""From a version: the files that it is made of, and the folders in which it looked for modules;
each with its state.
"""

SERVING: Final = "serving"
"""From a version: it accepts connections; with a digest of each of its functions."""

ANNOUNCE: Final = "announce"
"""To a version: clients reach it now."""

HAND_OVER: Final = "hand over"
"""To a version: another accepts connections now."""

MOST_LEAVING: Final = 3
"""Former versions that still answer what they have; the next edit waits for one of them to end."""

END_S: Final = 2.0
"""Beyond the drain time of HAProxy, for versions to close what they have."""

OLDEST_ENDED: Final = (
    "HAProxy was replaced so often that the oldest one, which clients still had connections to, was"
    " ended with what it had."
)

INTERRUPTED: Final = 130


class VersionLink:
    """What a version has of the process that watches.

    Attributes:
        sockets: bound ones, to serve on.
        served: the digests of the functions that the serving version has, by name; None: there is
            no serving version.
    """

    def __init__(
        self, pipe: Connection, sockets: Sequence[socket.socket], served: Mapping[str, str] | None
    ) -> None:
        self.sockets = sockets
        self.served = served
        self._pipe = pipe

    def watch(self, files: Iterable[Path], folders: Iterable[Path]) -> None:
        """Say which files this version is made of, and where a module that it lacks would be; each
        with its state, which is looked at before this version reads it: an edit afterwards is seen.
        """
        self._pipe.send((WATCH, (look_at(files), look_at(folders))))

    def take_over(
        self,
        server: DrainingServer,
        digests: Mapping[str, str],
        rules: FrontRules,
        announce: Callable[[], None],
    ) -> None:
        """Say that the server accepts connections, and end it when told to. Runs on its loop.

        Args:
            rules: of this version, for HAProxy, where that stands before it.
            announce: called once clients reach this version.
        """
        self._pipe.send((SERVING, (dict(digests), rules)))

        def on_message() -> None:
            try:
                kind = self._pipe.recv()
            except (EOFError, OSError):
                asyncio.get_running_loop().remove_reader(self._pipe.fileno())
                server.drain()
            else:
                announce() if kind == ANNOUNCE else server.hand_over()

        asyncio.get_running_loop().add_reader(self._pipe.fileno(), on_message)


@dataclass(eq=False, slots=True)
class ForkedVersion:
    """A version's process, as the process that watches knows it.

    Attributes:
        pipe: to its ``VersionLink``.
        began: seconds of ``time.monotonic``.
        files, folders: what it is made of, once it has said so.
        digests: of the functions that it serves.
    """

    pid: int
    pipe: Connection
    began: float
    files: frozenset[Path] = frozenset()
    folders: frozenset[Path] = frozenset()
    digests: Mapping[str, str] = field(default_factory=dict)


class Reloader:
    """Keeps the newest version that loads serving.

    Args:
        serve_version: runs in a fork: loads and serves one version until its end, and returns its
            exit status. It prints why it fails.
        sockets: bound ones; closed here.
        bind: returns others that are bound to the same address.
        files: watched whatever a version says: the declaration, and what it is read with.
        report: prints a line.
        front: HAProxy before the versions, whose own port the sockets then are; started and closed
            here. None: clients connect to the versions.

    Mutable state: ``_sockets``; ``_serving``, ``_loading`` (versions, or None) and ``_leaving``;
    ``_failed`` (the folders of the newest version, if it failed), ``_may_restart`` (no version died
    since the last edit), ``_tried`` and ``_seen`` (states of files: when the newest version was
    started, and at the last look).
    """

    def __init__(
        self,
        serve_version: Callable[[VersionLink], int],
        sockets: Sequence[socket.socket],
        bind: Callable[[], Sequence[socket.socket]],
        files: Iterable[Path],
        report: Callable[[str], None],
        front: Front | None = None,
    ) -> None:
        self._front = front
        self._serve_version = serve_version
        self._bind = bind
        self._files = frozenset(files)
        self._report = report
        self._sockets = sockets
        self._serving: ForkedVersion | None = None
        self._loading: ForkedVersion | None = None
        self._leaving: list[ForkedVersion] = []
        self._failed: frozenset[Path] = frozenset()
        self._may_restart = True
        self._tried: dict[Path, PathState] = {}
        self._seen: dict[Path, PathState] = {}

    def run(self, signal_count: Callable[[], int]) -> int:
        """Serve until a signal was counted, drain, and return the exit status; a second signal ends
        all at once. Blocking, on the only thread of this process.
        """
        gc.collect()
        gc.freeze()  # a collection in a fork would copy every object of this process
        try:
            self._start()
            while not signal_count():
                self._read_messages()
                if signal_count():  # a version may have ended by the same Ctrl-C, and not crashed
                    break
                self._reap_ended()
                if self._front is not None:
                    self._front.look(self._report)
                seen = look_at(self._watched)
                if should_start(self._tried, self._seen, seen) and (
                    len(self._leaving) < MOST_LEAVING
                ):
                    self._may_restart = True
                    self._start()
                self._seen = seen
            return self._drain(signal_count)
        finally:
            for version in self._versions:
                self._kill(version)
            if self._front is not None:
                self._front.kill()
                self._front.forget()
            for listener in self._sockets:
                listener.close()

    @property
    def _versions(self) -> list[ForkedVersion]:
        current = [version for version in (self._serving, self._loading) if version is not None]
        return [*current, *self._leaving]

    @property
    def _watched(self) -> frozenset[Path]:
        made_of = [version.files for version in (self._serving, self._loading) if version]
        return self._files.union(self._failed, *made_of)

    def _start(self) -> None:
        """Start the next version, in place of one that is still loading."""
        if self._loading is not None:
            self._kill(self._loading)
        self._tried, self._failed = look_at(self._watched), frozenset()
        ours, theirs = Pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if not pid:
            ours.close()
            for other in self._versions:
                other.pipe.close()  # its other end sees the end of the process that watches
            if self._front is not None:
                self._front.forget()
            served = None if self._serving is None else self._serving.digests
            link = VersionLink(theirs, self._sockets, served)
            run_and_exit(lambda: self._run_fork(link))
        theirs.close()
        self._loading = ForkedVersion(pid, ours, time.monotonic())

    def _run_fork(self, link: VersionLink) -> int:
        """The life of a fork. Ctrl-C reaches it too, and is left to the process that watches until
        the server counts signals.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        end_with_parent(signal.SIGTERM)  # one that still loads does not look at its pipe
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as of `nohup`
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
        # compiled code of a file is taken for that of another of the same second and size
        sys.dont_write_bytecode = True
        importlib.invalidate_caches()
        return self._serve_version(link)

    def _read_messages(self) -> None:
        """Read what versions say, for the time between two looks."""
        pipes = {version.pipe: version for version in self._versions if not version.pipe.closed}
        if not pipes:
            time.sleep(POLL_S)
        for pipe in wait(list(pipes), POLL_S):
            assert isinstance(pipe, Connection)
            try:
                kind, data = pipe.recv()
            except (EOFError, OSError):  # its process is ending
                pipe.close()
            else:
                self._on_message(pipes[pipe], kind, data)

    def _reap_ended(self) -> None:
        """Act on versions that have ended. Their pipes do not tell: what a stage has started may
        hold an end of one.
        """
        for version in self._versions:
            pid, status = os.waitpid(version.pid, os.WNOHANG)
            if pid:
                version.pipe.close()
                self._on_end(version, os.waitstatus_to_exitcode(status))
                return  # it may have started another; the rest has the next turn

    def _on_message(self, version: ForkedVersion, kind: str, data: Any) -> None:
        if kind == WATCH:
            version.files, version.folders = map(frozenset, data)
            for states in data:
                for path, state in states.items():
                    self._tried.setdefault(path, state)
        elif version is self._loading:
            version.digests, rules = data
            if self._front is not None:
                # first: calls may wait in one whose place is taken, which gets no port any more
                self._front.set_port(0, self._sockets[0].getsockname()[1])
                try:
                    if self._front.update(rules):
                        self._report(OLDEST_ENDED)
                except WakefulError as error:
                    if self._serving is None:
                        self._front.set_port(0, None)
                    self._report(str(error))
                    self._loading = None
                    self._hand_over(version)
                    self._on_failed(version)
                    return
                if self._front.pid is None:
                    self._front.start()
            former, self._serving, self._loading = self._serving, version, None
            _send(version, ANNOUNCE)
            if former is not None:
                self._hand_over(former)
                self._report(f"reloaded in {time.monotonic() - version.began:.2f} s.")

    def _hand_over(self, version: ForkedVersion) -> None:
        """Have a version accept no more: what it has it answers, and ends."""
        _send(version, HAND_OVER)
        self._leaving.append(version)

    def _on_end(self, version: ForkedVersion, status: int) -> None:
        """Act on the end of a version; ``status`` is negative for a signal."""
        if version in self._leaving:
            self._leaving.remove(version)
        elif version is self._loading:
            self._loading = None
            if status < 0:
                self._report(explain_exit(status, out_of_memory=False))
            self._on_failed(version)
        else:
            self._serving = None
            if self._front is not None:
                self._front.set_port(0, None)
            self._on_crash(version, status)

    def _on_failed(self, version: ForkedVersion) -> None:
        """Say what becomes of a version that did not come to serve."""
        self._failed = version.files | version.folders
        self._report(
            "the version before goes on answering; save a file to try again."
            if self._serving is not None
            else "nothing answers yet; save a file to try again."
        )

    def _on_crash(self, version: ForkedVersion, status: int) -> None:
        died = (
            f"the serving process died of {signal_name(-status)}"
            if status < 0
            else f"the serving process ended with status {status}"
        )
        if self._may_restart:
            self._may_restart = False
            self._report(f"{died}; it is started again.")
            self._start()
            return
        self._report(f"{died} again; save a file to start it.")
        self._failed = version.files
        for listener in self._sockets:
            listener.close()
        self._sockets = self._bind()

    def _kill(self, version: ForkedVersion) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(version.pid, signal.SIGKILL)
        version.pipe.close()
        os.waitpid(version.pid, 0)
        if version is self._loading:
            self._loading = None
        elif version is self._serving:
            self._serving = None
        else:
            self._leaving.remove(version)

    def _drain(self, signal_count: Callable[[], int]) -> int:
        """Let versions answer what they have; each bounds that itself, and HAProxy what it has."""
        if self._loading is not None:
            self._kill(self._loading)
        until = math.inf
        if self._front is not None:
            until = time.monotonic() + self._front.drain_s
            self._front.drain(until, signal_count)
            until = max(until, time.monotonic()) + END_S
        ending = self._versions
        for version in ending:
            version.pipe.close()
        while ending and signal_count() < 2 and time.monotonic() < until:
            for version in ending[:]:
                pid, _ = os.waitpid(version.pid, os.WNOHANG)
                if pid:
                    ending.remove(version)
            time.sleep(POLL_S)
        is_interrupted = bool(ending) and signal_count() > 1
        self._serving, self._leaving = None, []
        for version in ending:
            with contextlib.suppress(ProcessLookupError):
                os.kill(version.pid, signal.SIGKILL)
            os.waitpid(version.pid, 0)
        if self._front is not None and not is_interrupted:
            self._front.close()  # those that were replaced have the last answers by now
        return INTERRUPTED if is_interrupted else 0


def _send(version: ForkedVersion, message: str) -> None:
    with contextlib.suppress(OSError):  # it died meanwhile
        version.pipe.send(message)
