"""TCP ports of this machine: free ones, and the process that holds one that is not."""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass
from typing import Final

import psutil

from runtime.errors import WakefulError

COMMAND_LENGTH: Final = 100
"""Characters of a holder's command that a message shows."""


class PortTaken(WakefulError):
    """Another process listens on the port; the message names it, where it is known."""

    code = "port_taken"
    fault = "operator"


@dataclass(frozen=True, slots=True)
class PortHolder:
    """The process that listens on a port."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})"


def find_holder(port: int) -> PortHolder | None:
    """The process that listens on a port; None if it cannot be seen, as another user's."""
    for connection in psutil.net_connections("tcp"):
        if (
            connection.status == psutil.CONN_LISTEN
            and connection.laddr.port == port
            and connection.pid
        ):
            try:
                command = " ".join(psutil.Process(connection.pid).cmdline())
            except psutil.Error:
                return None
            return PortHolder(
                connection.pid,
                command if len(command) <= COMMAND_LENGTH else f"{command[:COMMAND_LENGTH]}…",
            )
    return None


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now.

    Raises:
        OSError: the address is not one of this machine's, or the port is not for this user.
    """
    return not _is_taken(host, port)


def require_free(host: str, port: int, *, fix: str) -> None:
    """Checks that a server could listen there.

    Args:
        fix: what the reader can do about it.

    Raises:
        PortTaken: names the process that holds it.
    """
    try:
        taken = _is_taken(host, port)
    except OSError as error:
        raise _cannot_listen(host, port, error, fix) from error
    if taken:
        by = find_holder(port)
        raise PortTaken(
            f"port {port} on {host} is taken by {by or 'a process of another user'}. {fix}"
        )


def bind(host: str, port: int, *, fix: str) -> list[socket.socket]:
    """Sockets that are bound to an address and do not listen yet: a caller is refused until they
    do. A name may have several addresses, each with a socket.

    Args:
        port: 0 is any free one, of the first address and then of the others.
        fix: as of ``require_free``.

    Raises:
        PortTaken: as of ``require_free``, or there is no such address.
    """
    if port:
        require_free(host, port, fix=fix)
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            bound = socket.socket(family, kind, protocol)
            sockets.append(bound)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.bind((address[0], port, *address[2:]))
            port = bound.getsockname()[1]
    except OSError as error:
        for bound in sockets:
            bound.close()
        raise _cannot_listen(host, port, error, fix) from error
    return sockets


def _cannot_listen(host: str, port: int, error: OSError, fix: str) -> PortTaken:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        fix = "Take an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them."
    return PortTaken(f"cannot listen on {host}:{port}: {error.strerror or error}. {fix}")


def local_url(host: str, port: int, *, is_tls: bool = False) -> str:
    """Where this machine reaches a server that listens on an address."""
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http{'s' if is_tls else ''}://{f'[{near}]' if ':' in near else near}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def find_free(host: str, wanted: int, *, but: frozenset[int] = frozenset()) -> int:
    """The wanted port, or any free one if that is 0, taken, or among ``but``."""
    if wanted and wanted not in but and is_free(host, wanted):
        return wanted
    while True:
        with socket.socket(_family(host)) as probe:
            probe.bind((host, 0))
            port: int = probe.getsockname()[1]
        if port not in but:
            return port


def _is_taken(host: str, port: int) -> bool:
    with socket.socket(_family(host)) as probe:
        # as servers do: a port in TIME_WAIT is free
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)  # two may bind with SO_REUSEADDR; only one listens
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise
    return False


def _family(host: str) -> socket.AddressFamily:
    try:
        return socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        return socket.AF_INET
