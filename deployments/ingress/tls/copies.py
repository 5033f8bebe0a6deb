"""The copies of certificates that HAProxy serves with, in its own folder, and how they change.

HAProxy reads them when it starts, and is started again at each change of replicas: so what was
refused must not be in its way then. A file of ``http.tls`` is copied once it may be served with;
until then the copy before it stays, and so does what HAProxy has.

    tls.pem       the certificate, those that lead to its authority, and the key; mode 0600
    clients.pem   the authorities of clients
    tls.json      what the copies are, and why newer files were refused (``TlsState``)

A HAProxy that runs takes others by its socket, without a connection being closed. It is asked what
it has, again and again: one that was started a moment ago may have read the copies before.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from deployments.ingress import admin_socket
from deployments.ingress.tls.files import (
    LIBRARY,
    SOON_S,
    Served,
    TlsFiles,
    describe_end,
    read_files,
)
from runtime.system.extras import missing_message

PAIR: Final = "tls.pem"
CLIENTS: Final = "clients.pem"
STATE: Final = "tls.json"

LOOK_S: Final = 0.4
"""Between two looks; two of them take a file that has changed."""

AGAIN_S: Final = 5.0
"""After so long a HAProxy that did not take its certificates is given them again."""


@dataclass(frozen=True, slots=True)
class TlsState:
    """What is served with.

    Attributes:
        subject: of the certificate.
        ends_at: its end, seconds since 1970; 0: there is no copy yet.
        sha1: of the certificate, as HAProxy shows it.
        clients: those of the authorities of clients.
        refused: why the files as they are now are not served with; empty: they are.
    """

    subject: str = ""
    ends_at: float = 0.0
    sha1: str = ""
    clients: tuple[str, ...] = ()
    refused: str = ""

    def lines(self, now: float) -> list[str]:
        """What ``status`` says: what is wrong, or soon will be."""
        found = []
        if self.refused:
            found.append(f"TLS: new files are not taken, those before serve on: {self.refused}")
        if self.ends_at and self.ends_at < now + SOON_S:
            found.append(f"TLS: the certificate {describe_end(self.ends_at, now)}.")
        return found


def read_state(folder: Path) -> TlsState | None:
    """What HAProxy with this folder serves with; None: no TLS, or it is not known."""
    try:
        data = json.loads((folder / STATE).read_text(encoding="utf-8"))
        return TlsState(**{**data, "clients": tuple(data["clients"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def refresh(files: TlsFiles, folder: Path, now: float) -> tuple[TlsState, bool]:
    """Copy the files into HAProxy's folder if they may be served with; otherwise what is there
    stays.

    Args:
        now: seconds since 1970.

    Returns:
        the state, which is written down, and whether the copies are others now.

    Raises:
        OSError: the folder cannot be written.
    """
    before = read_state(folder) or TlsState()
    served, refused = _read(files)
    if served is not None and not refused:
        refused = refuse_older(before.ends_at, served.pair.ends_at, now)
    if served is None or refused:
        state, has_changed = replace(before, refused=refused), False
    else:
        authorities = served.authorities
        state = TlsState(
            served.pair.subject,
            served.pair.ends_at,
            served.pair.sha1,
            tuple(sorted(authorities.sha1)) if authorities else (),
        )
        has_changed = _put(folder / PAIR, served.pair.text)
        if authorities is not None:
            has_changed |= _put(folder / CLIENTS, authorities.text)
    _put(folder / STATE, json.dumps(asdict(state)))
    return state, has_changed


def refuse_older(before_ends_at: float, ends_at: float, now: float) -> str:
    """Why a certificate does not take the place of another; empty: it does.

    Args:
        before_ends_at: end of the one that is served with; 0: there is none.
        ends_at: end of the new one.
    """
    if ends_at <= now < before_ends_at:
        return f"the new certificate {describe_end(ends_at, now)}, and the one before still holds."
    return ""


def _read(files: TlsFiles) -> tuple[Served | None, str]:
    try:
        return read_files(files), ""
    except ModuleNotFoundError:
        return None, missing_message(LIBRARY, "http.tls")
    except ValueError as fault:  # of pem, which is not imported before
        return None, str(fault)


def _put(path: Path, text: str) -> bool:
    """Write a file that this user alone can read, whole or not at all; return whether its text is
    another.
    """
    with contextlib.suppress(OSError):
        if path.read_text(encoding="utf-8") == text:
            return False
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(text)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    return True


class CertificateWatch:
    """Has a HAProxy that runs take files as they change. Blocking, for some milliseconds at most
    half a second.

    Args:
        folder: HAProxy's, with its socket for commands ``s``.

    Mutable state: ``_looked_at``; ``_seen`` and ``_tried``, states of files at the last look and
    when they were read last; ``_is_due``, the copies are others than HAProxy was given;
    ``_refused``, why it did not take them, and ``_again_at``, when it is given them again;
    ``_unwritten``, why there are no copies of what is to be served with.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = folder / "s"
        self._seen: object = None
        self._tried: object = None
        self._is_due = False
        self._refused = ""
        self._unwritten = ""
        self._again_at = 0.0
        self._looked_at = -math.inf

    def look(self, files: TlsFiles, report: Callable[[str], None]) -> bool:
        """Take what has changed, if the last look is ``LOOK_S`` ago. To be called more often than
        that.

        Args:
            report: prints a line.

        Returns:
            whether there was a look, and HAProxy answers.
        """
        now = time.monotonic()
        if now < self._looked_at + LOOK_S:
            return False
        self._looked_at = now
        seen = files, files.states()
        # as they were a look ago: no file is read while it is written, no pair while one is renewed
        if seen != self._tried and seen == self._seen:
            self._tried = seen
            self._read(files, report)
        self._seen = seen
        return self._bring_up_to_date(now, report)

    def _read(self, files: TlsFiles, report: Callable[[str], None]) -> None:
        before = read_state(self._folder)
        try:
            state, has_changed = refresh(files, self._folder, time.time())
        except OSError as error:
            self._tried = None  # the next look tries it again, and says no more of it
            if str(error) != self._unwritten:
                report(f"TLS: certificates cannot be copied to {self._folder}: {error}")
            self._unwritten = str(error)
            return
        self._unwritten = ""
        self._is_due |= has_changed
        if state.refused and (before is None or state.refused != before.refused):
            report(f"TLS: new files are not taken, those before serve on: {state.refused}")
        elif before is not None and before.refused and not state.refused and not has_changed:
            report("TLS: the files are as they are served again.")

    def _bring_up_to_date(self, now: float, report: Callable[[str], None]) -> bool:
        """Give HAProxy the copies where it has others."""
        state = read_state(self._folder)
        pair, clients = self._folder / PAIR, self._folder / CLIENTS
        running = admin_socket.read_certificates(self._socket, pair)
        if running is None or state is None or not state.sha1:
            return running is not None
        authorities = frozenset(state.clients)
        is_other = running != frozenset({state.sha1})
        if authorities and not is_other:
            trusted = admin_socket.read_authorities(self._socket, clients)
            if trusted is None:
                return False
            is_other = trusted != authorities
        if not (is_other or self._is_due) or now < self._again_at:
            return True
        refused = admin_socket.set_certificate(self._socket, pair, pair.read_text("utf-8"))
        if authorities and not refused:
            refused = admin_socket.set_authorities(
                self._socket, clients, clients.read_text("utf-8")
            )
        self._is_due, self._again_at = bool(refused), now + AGAIN_S if refused else 0.0
        if refused and refused != self._refused:
            report(f"TLS: HAProxy does not take the new certificate: {refused}")
        elif not refused:
            end = describe_end(state.ends_at, time.time())
            report(f"TLS: new files are taken; the certificate of {state.subject!r} {end}.")
        self._refused = refused
        return True
