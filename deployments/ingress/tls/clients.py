"""What clients of ours trust, and the certificates that they show: the files, which are passed on
to other processes, and what is made of them.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, Final
from urllib.parse import urlsplit

from deployments.ingress.tls.files import TlsFiles, read_files


class ClientFilesRefused(ValueError):
    """A file of a client's cannot be used; with the reason."""


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """Files in PEM.

    Attributes:
        authorities: that servers' certificates are of, in place of those of this machine.
        certificate: of the client, with its key.
        pinned: the certificate of a server of one's own, which is trusted whatever it is called by.
    """

    authorities: Path | None = None
    certificate: Path | None = None
    pinned: Path | None = None

    def context(self, module: Any = ssl) -> ssl.SSLContext | None:
        """Return what to connect with; None: as any program of this machine (``SSL_CERT_FILE``).

        Args:
            module: ``ssl``, or gevent's.

        Raises:
            ClientFilesRefused: one of the files is none.
        """
        if self == ClientFiles():
            return None
        trusted = self.pinned or self.authorities
        try:
            context: ssl.SSLContext = module.create_default_context(cafile=trusted)
        except OSError as error:
            raise ClientFilesRefused(
                f"{trusted} has no certificate in PEM: {_reason(error)}."
            ) from None
        if self.pinned is not None:
            context.check_hostname = False
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if self.certificate is not None:
            try:
                context.load_cert_chain(self.certificate, password=_refuse_password)
            except OSError as error:
                raise ClientFilesRefused(
                    f"{self.certificate} has no certificate with its key in PEM: {_reason(error)}."
                ) from None
        return context


NO_FILES: Final = ClientFiles()


def curl_address(url: str, files: TlsFiles) -> str:
    """An address of a server of this machine's in a line of curl, with the options before it by
    which the line is right, whatever names the certificate is for. Files that are refused may have
    been taken before, and are served with then: of their names nothing is known.

    Args:
        url: as this machine reaches it.
    """
    at = urlsplit(url)
    host = at.hostname or ""
    try:
        names = read_files(files).pair.names
    except ValueError:
        names = ()
    others = [*(["localhost"] if "localhost" in names else ()), *names, host]
    name = host if host in names else others[0].replace("*", "www")
    options = ["--cacert", quote(os.path.relpath(files.cert))]
    if name not in (host, "localhost"):
        options += ["--connect-to", f"{name}:{at.port}:{host}:{at.port}"]
    if files.client_ca is not None:
        options += ["--cert", "CLIENT.pem"]
    shown = f"[{name}]" if ":" in name else name
    return " ".join([*options, f"https://{shown}:{at.port}{at.path}"])


def _refuse_password() -> str:
    raise ClientFilesRefused("the client's key has a password, which is not asked for.")


def _reason(error: OSError) -> str:
    """``ssl.SSLError`` is such an error."""
    return str(getattr(error, "reason", None) or error.strerror or error)
