"""Certificates that are made for a test: an authority, and what it signs."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from deployments.ingress.tls.files import TlsFiles

NAMES = ("localhost", "127.0.0.1")


class Issued(NamedTuple):
    """A certificate and its key, in PEM."""

    cert: bytes
    key: bytes

    @property
    def der(self) -> bytes:
        """The certificate as a handshake has it."""
        return ssl.PEM_cert_to_DER_cert(self.cert.decode())


class Authority:
    """Signs certificates.

    Args:
        name: its own.
    """

    def __init__(self, name: str = "An Authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        self.pem = _sign(self._name, self._name, self._key, self._key, is_authority=True)

    def issue(
        self,
        common_name: str = "localhost",
        names: tuple[str, ...] = NAMES,
        *,
        days: float = 90,
        begins_in_days: float = -1,
        password: bytes | None = None,
    ) -> Issued:
        """A certificate for these names.

        Args:
            days: from now until its end.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        cert = _sign(_named(common_name), self._name, key, self._key, names, days, begins_in_days)
        hidden = BestAvailableEncryption(password) if password else NoEncryption()
        return Issued(cert, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden))

    def context(self, *, certificate: Path | None = None) -> ssl.SSLContext:
        """What a client connects with that trusts this authority.

        Args:
            certificate: of the client, with its key.
        """
        context = ssl.create_default_context(cadata=self.pem.decode())
        if certificate is not None:
            context.load_cert_chain(certificate)
        return context


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])


def _sign(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    names: tuple[str, ...] = (),
    days: float = 90,
    begins_in_days: float = -1,
    *,
    is_authority: bool = False,
) -> bytes:
    now = datetime.now(UTC)
    begins = min(now + timedelta(days=begins_in_days), now + timedelta(days=days - 1))
    building = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
    )
    if is_authority:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        building = building.add_extension(usage, critical=True)
    if names:
        building = building.add_extension(
            x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False
        )
    return building.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM)


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@cache
def authority() -> Authority:
    """One for all tests that need no other."""
    return Authority()


def write_files(folder: Path, issued: Issued, client_ca: bytes | None = None) -> TlsFiles:
    """The files of a server, as `http.tls` names them: ``cert.pem``, ``key.pem``, ``clients.pem``."""
    folder.mkdir(exist_ok=True)
    files = TlsFiles(
        folder / "cert.pem",
        folder / "key.pem",
        None if client_ca is None else folder / "clients.pem",
    )
    files.cert.write_bytes(issued.cert)
    files.key.touch(mode=0o600)
    files.key.write_bytes(issued.key)
    if files.client_ca is not None and client_ca is not None:
        files.client_ca.write_bytes(client_ca)
    return files


def client_file(folder: Path, issued: Issued, name: str = "client.pem") -> Path:
    """A client's certificate with its key, in one file."""
    path = folder / name
    path.touch(mode=0o600)
    path.write_bytes(issued.cert + issued.key)
    return path
