"""HAProxy's socket for commands: what is asked of a running HAProxy, and how its answers are read.

Blocking. Source: HAProxy 2.8, management guide, section 9.3 (commands); the form of the answers to
``show sess`` and ``show info`` is not promised there (``deployments.ingress.assumptions``).
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from deployments.ingress.haproxy.rules import CONSOLE, DRAINING, KEPT

ANSWER_S: Final = 0.5
"""Longest wait for HAProxy's socket, and between two pieces of its answer."""

_ACCEPTED: Final = re.compile(rf"fe=http_frontend be=(?!http_frontend|{CONSOLE} |<NONE>)")
"""A session whose request a backend has, or waits for, and which ends by itself."""

_PID: Final = re.compile(r"^Pid: (\d+)", re.MULTILINE)

_MAP_VERSION: Final = re.compile(r"^New version created: (\d+)$", re.MULTILINE)

MAPS_S: Final = 5.0
"""The longest wait, where nothing waits for what is asked."""

MOST_COMMAND_BYTES: Final = 32 * 1024
"""Of what is sent at once: HAProxy takes what fits its buffer."""
_VALUE: Final = re.compile(r"type=str value=<(.*)>")
"""Of a variable that is a text."""
_SHA1: Final = re.compile(r"^SHA1 FingerPrint: ([0-9A-F]{40})$", re.MULTILINE)
"""Of a certificate that it serves with, or trusts."""

_FRONTENDS: Final = "show stat -1 1 -1"


def send_command(path: Path, command: str, timeout_s: float = ANSWER_S) -> str | None:
    """HAProxy's answer on its socket; None if there is none."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(path))
            connection.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode()
    except OSError:
        return None


def refuse_new(path: Path) -> int | None:
    """Has the HAProxy with this socket refuse new requests, and returns the calls in flight; None
    where it does not answer.
    """
    sessions = send_command(path, f"experimental-mode on; set var {DRAINING} bool(true); show sess")
    return None if sessions is None else len(_ACCEPTED.findall(sessions))


def accept_again(path: Path) -> None:
    """Takes ``refuse_new`` back."""
    send_command(path, f"experimental-mode on; set var {DRAINING} bool(false)")


def process_id(path: Path, timeout_s: float = ANSWER_S) -> int | None:
    """Of the HAProxy with this socket; None where it does not answer."""
    found = _PID.search(send_command(path, "show info", timeout_s) or "")
    return int(found[1]) if found else None


def read_frontends(path: Path) -> str | None:
    """Its counts of frontends: comma-separated, the first line names the columns."""
    return send_command(path, _FRONTENDS)


def read_kept(path: Path) -> frozenset[str] | None:
    """The promises that it keeps (``haproxy.lacks``); none where its configuration does not say so,
    None where it does not answer.
    """
    answer = send_command(path, f"get var {KEPT}")
    if answer is None:
        return None
    found = _VALUE.search(answer)
    return frozenset(found[1].split()) if found else frozenset()


def set_server(
    path: Path, name: str, backend: str, others: Iterable[str], address: tuple[str, int] | None
) -> None:
    """From now on a server is at this address, or is not to be used.

    Args:
        backend: where it is chosen, and checked.
        others: backends that have it as well.
        address: host and port; None: it gets nothing more.
    """
    commands = [f"set server {backend}/{name} state maint"]
    if address is not None:
        host, port = address
        commands = [
            *(f"set server {one}/{name} addr {host} port {port}" for one in (*others, backend)),
            f"set server {backend}/{name} state ready",
            f"set server {backend}/{name} health up",
        ]
    send_command(path, "; ".join(commands))


def has_map(path: Path, name: str) -> bool | None:
    """Whether its configuration names a map; None where it does not answer."""
    maps = send_command(path, "show map", MAPS_S)
    return None if maps is None else f"({name})" in maps


def replace_map(path: Path, name: str, entries: Mapping[str, str]) -> bool:
    """From now on a map has these entries, and no others: a lookup finds what it had before, or all
    of these. Return whether that is so; if not, it has what it had.

    Args:
        name: as its configuration has it; no word of a command is in it.
        entries: no key has a blank in it.
    """
    begun = _MAP_VERSION.search(send_command(path, f"prepare map {name}", MAPS_S) or "")
    if begun is None:
        return False
    version = begun[1]
    for lines in _in_parts(entries):
        answer = send_command(path, f"add map @{version} {name} <<\n{lines}", MAPS_S)
        if answer is None or answer.strip():
            send_command(path, f"clear map @{version} {name}", MAPS_S)
            return False
    return send_command(path, f"commit map @{version} {name}", MAPS_S) is not None


def _in_parts(entries: Mapping[str, str]) -> Iterator[str]:
    """The lines of entries, as many at once as HAProxy takes."""
    part, size = list[str](), 0
    for key, value in entries.items():
        line = f"{key} {value}\n"
        if part and size + len(line) > MOST_COMMAND_BYTES:
            yield "".join(part)
            part, size = [], 0
        part.append(line)
        size += len(line)
    if part:
        yield "".join(part)


def read_certificates(path: Path, file: Path) -> frozenset[str] | None:
    """The certificate that is served from a file of its configuration, as the sha1 of it; empty:
    it has no such file; None: it does not answer.
    """
    return _fingerprints(path, f"show ssl cert {_word(file)}")


def read_authorities(path: Path, file: Path) -> frozenset[str] | None:
    """The authorities of clients in a file of its configuration, likewise."""
    return _fingerprints(path, f"show ssl ca-file {_word(file)}")


def set_certificate(path: Path, file: Path, text: str) -> str:
    """From the next handshake on it serves with this certificate and key.

    Args:
        file: as its configuration names it; it is not read.
        text: in PEM, without a blank line.

    Returns:
        why it does not; empty: it does.
    """
    return _replace(path, "cert", file, text)


def set_authorities(path: Path, file: Path, text: str) -> str:
    """From the next handshake on these are the authorities of clients; args as above."""
    return _replace(path, "ca-file", file, text)


def _fingerprints(path: Path, command: str) -> frozenset[str] | None:
    answer = send_command(path, command)
    return None if answer is None else frozenset(_SHA1.findall(answer))


def _replace(path: Path, kind: str, file: Path, text: str) -> str:
    """Replace a file of certificates in a transaction: of what is refused nothing stays."""
    name = _word(file)
    answers = [send_command(path, f"set ssl {kind} {name} <<\n{text}", MAPS_S)]
    if (answers[0] or "").lower().startswith("transaction "):
        answers.append(send_command(path, f"commit ssl {kind} {name}", MAPS_S))
        if (answers[1] or "").rstrip().endswith("Success!"):
            return ""
    send_command(path, f"abort ssl {kind} {name}", MAPS_S)
    return " ".join((answers[-1] or "it does not answer").split())


def _word(file: Path) -> str:
    """A path as one word of a command."""
    return re.sub(r"([\\ ;])", r"\\\1", str(file))
