"""The files that ``http.tls`` names: found, looked at, and read, with all that may be wrong with
them.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deployments.ray_support.environment import BUFFER_BYTES
from runtime.errors import Problem
from runtime.system.extras import install_line, is_installed

if TYPE_CHECKING:
    from deployments.ingress.tls.pem import Authorities, CertificateFault, Part, ServerPair
    from runtime.declaration.config_file import ConfigFile
    from runtime.declaration.http_section import TlsSpec

LIBRARY: Final = "cryptography"
"""Of the extras ``ray`` and ``workers``, which have what ends TLS, too."""

MOST_BYTES: Final = BUFFER_BYTES - 8 * 1024
"""Of a file: HAProxy takes one that has changed in a single command, which fits its buffer."""

SOON_S: Final = 14 * 86_400.0
"""So long before its end a certificate is spoken of: one that is renewed by itself is renewed a
month before.
"""

_RAYS: Final = {"cert": "ssl_certfile", "key": "ssl_keyfile", "client_ca": "ssl_ca_certs"}


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Absolute paths."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    @classmethod
    def of(cls, spec: TlsSpec | None, root: Path) -> TlsFiles | None:
        """Those that a file names; None: it has none.

        Args:
            root: where relative paths start.
        """
        if spec is None:
            return None
        clients = None if spec.client_ca is None else root / spec.client_ca
        return cls(root / spec.cert, root / spec.key, clients)

    @classmethod
    def from_json(cls, text: str) -> TlsFiles | None:
        """From the form in which processes pass it on; None: an empty text.

        Raises:
            ValueError: it is not in that form.
        """
        if not text:
            return None
        try:
            cert, key, clients = json.loads(text)
            return cls(Path(cert), Path(key), Path(clients) if clients else None)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{text!r} does not name files of TLS") from error

    def to_json(self) -> str:
        """One line."""
        return json.dumps([str(self.cert), str(self.key), str(self.client_ca or "")])

    @property
    def asks_for_certificates(self) -> bool:
        """Whether clients without one get no connection."""
        return self.client_ca is not None

    def states(self) -> tuple[object, ...]:
        """What changes when a file is written, or a link on the way to it leads elsewhere."""
        return tuple(map(_state, filter(None, (self.cert, self.key, self.client_ca))))


def _state(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode


@dataclass(frozen=True, slots=True)
class Served:
    """What the files have."""

    pair: ServerPair
    authorities: Authorities | None


def read_files(files: TlsFiles) -> Served:
    """Read the files.

    Raises:
        pem.CertificateFault: the first of what is wrong.
        ModuleNotFoundError: what reads certificates is not installed.
    """
    from deployments.ingress.tls.pem import read_authorities, read_pair

    cert = _read(files.cert, "cert")
    pair = read_pair(cert, _read(files.key, "key"))
    if len(pair.text) > MOST_BYTES:
        raise _too_long("cert", files.cert)
    clients = files.client_ca
    authorities = None if clients is None else read_authorities(_read(clients, "client_ca"))
    return Served(pair, authorities)


def _open_at_once(path: str, flags: int) -> int:
    """A pipe would be waited for."""
    return os.open(path, flags | os.O_NONBLOCK)


def _read(path: Path, part: Part) -> bytes:
    from deployments.ingress.tls.pem import CertificateFault

    try:
        with open(path, "rb", opener=_open_at_once) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise CertificateFault(part, f"{path} is no file.")
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise CertificateFault(part, f"{path} cannot be read: {error.strerror or error}.") from None
    if part == "key" and mode & stat.S_IRWXO:
        raise CertificateFault(
            part,
            f"every user of this machine can open {path} (mode {stat.S_IMODE(mode):04o}). Run"
            f" `chmod o-rwx {path}`; of a secret of Kubernetes, set `defaultMode: 0440`.",
        )
    if len(data) > MOST_BYTES:
        raise _too_long(part, path)
    return data


def _too_long(part: Part, path: Path) -> CertificateFault:
    from deployments.ingress.tls.pem import CertificateFault

    return CertificateFault(
        part,
        f"{path} has more than {MOST_BYTES >> 10} KiB. Name a file that has what this server needs"
        " alone.",
    )


def find_problems(
    declared: ConfigFile, root: Path, now: float
) -> tuple[list[Problem], list[Problem]]:
    """What is wrong with the files that a file names, and what is to be warned of.

    Args:
        root: where relative paths start.
        now: seconds since 1970.
    """
    files = TlsFiles.of(declared.tls, root)
    if files is None:
        return [], []
    if not is_installed(LIBRARY):
        message = f"{LIBRARY} reads certificates, and is not installed here. Run: "
        return [tls_problem(declared, message + install_line("workers"))], []
    from deployments.ingress.tls.pem import CertificateFault

    try:
        served = read_files(files)
    except CertificateFault as fault:
        return [declared.problem(_key_of(declared, fault.part), str(fault))], []
    warnings = [
        declared.problem(_key_of(declared, part), message)
        for part, message in _warnings(served, now)
    ]
    return [], warnings


ONLY_OURS: Final = (
    "a Ray that `up` did not start has HAProxy serve in the clear. Put a proxy that ends TLS in"
    " front of it, and delete this; or have `wakeful up` start Ray, and `wakeful join` add"
    " machines."
)
"""What is said of TLS where a cluster is another's."""

NO_HAPROXY: Final = (
    "HAProxy ends TLS, and `wakeful-haproxy`, which configures it, is not beside this Python."
    " Install Wakeful with pip, as docs/install.md says."
)

ONE_HAPROXY: Final = (
    "with TLS each machine's functions call others at its own HAProxy, and `proxy_location` has it"
    " on some machines alone. Delete that: every machine gets one."
)


def tls_problem(declared: ConfigFile, message: str) -> Problem:
    """A problem at the key that has TLS, in whichever spelling."""
    key = _key_of(declared, "cert")
    return declared.problem("http.tls" if key.startswith("http.") else key, message)


def _key_of(declared: ConfigFile, part: Part) -> str:
    """The key of the file, which may be in Ray's spelling."""
    is_ours = (declared.raw.get("http") or {}).get("tls") is not None
    return f"http.tls.{part}" if is_ours else f"http_options.{_RAYS[part]}"


def _warnings(served: Served, now: float) -> Iterator[tuple[Part, str]]:
    pair = served.pair
    if pair.begins_at > now:
        yield "cert", f"it begins on {show_moment(pair.begins_at)}: clients refuse it before."
    if pair.ends_at < now + SOON_S:
        yield "cert", f"{describe_end(pair.ends_at, now)}: clients refuse it then. Renew it."
    if served.authorities is not None and served.authorities.ends_at < now + SOON_S:
        end = describe_end(served.authorities.ends_at, now)
        yield "client_ca", f"an authority {end}, and its clients are refused then."


def describe_end(ends_at: float, now: float) -> str:
    """When it ends, in words: ``ended on 2027-03-01 12:00 UTC``."""
    return f"{'ended' if ends_at < now else 'ends'} on {show_moment(ends_at)}"


def show_moment(at: float) -> str:
    """``2027-03-01 12:00 UTC``."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
