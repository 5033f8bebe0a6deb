"""Certificates and keys as PEM text: what a server needs of them, found without a server.

What is found comes back in the form that HAProxy takes (``set ssl cert``): blocks without comments
or blank lines. Imported where a file has ``http.tls`` alone, since ``cryptography`` takes 50 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

Part = Literal["cert", "key", "client_ca"]
"""A key of ``http.tls``."""


class CertificateFault(ValueError):
    """A file of ``http.tls`` cannot be served with; the message says why, and what helps.

    Attributes:
        part: which file.
    """

    def __init__(self, part: Part, message: str) -> None:
        super().__init__(message)
        self.part = part


@dataclass(frozen=True, slots=True)
class ServerPair:
    """A certificate, those that lead to its authority, and its key.

    Attributes:
        text: all of them, in PEM.
        subject: the common name, or the first name that it is for; empty: it has none.
        names: that it is for, and addresses.
        begins_at, ends_at: seconds since 1970 between which it holds.
        sha1: of the certificate, in upper-case hexadecimal digits, as HAProxy shows it.
    """

    text: str
    subject: str
    names: tuple[str, ...]
    begins_at: float
    ends_at: float
    sha1: str


@dataclass(frozen=True, slots=True)
class Authorities:
    """Authorities of client certificates.

    Attributes:
        text: their certificates, in PEM.
        ends_at: when the first of them ends, in seconds since 1970.
        sha1: of each, in upper-case hexadecimal digits.
    """

    text: str
    ends_at: float
    sha1: frozenset[str]


def read_pair(cert: bytes, key: bytes) -> ServerPair:
    """Return a certificate with its key.

    Args:
        cert, key: what the files have.

    Raises:
        CertificateFault: they are none, or do not belong together.
    """
    certificates = _certificates(cert, "cert")
    first = certificates[0]
    private = _private_key(key)
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if private.public_key().public_bytes(*form) != first.public_key().public_bytes(*form):
        raise CertificateFault(
            "key",
            f"this is not the key of the certificate{_of(first)}. Name the key that it was made"
            " with; where the certificate's file has several, the server's own comes first.",
        )
    text = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return ServerPair(
        _text(certificates) + text.decode("ascii"),
        _name(first),
        _names(first),
        first.not_valid_before_utc.timestamp(),
        first.not_valid_after_utc.timestamp(),
        _sha1(first),
    )


def read_authorities(data: bytes) -> Authorities:
    """Return the authorities of a file.

    Raises:
        CertificateFault: there is none in it, or something else.
    """
    certificates = _certificates(data, "client_ca")
    for one in certificates:
        try:
            constraints = one.extensions.get_extension_for_class(x509.BasicConstraints).value
        except (x509.ExtensionNotFound, ValueError):
            constraints = None
        if constraints is None or not constraints.ca:
            raise CertificateFault(
                "client_ca",
                f"the certificate{_of(one)} is no authority's (it has no `CA:TRUE`). Name the"
                " certificate that signs those of your clients.",
            )
    return Authorities(
        _text(certificates),
        min(one.not_valid_after_utc.timestamp() for one in certificates),
        frozenset(map(_sha1, certificates)),
    )


def _certificates(data: bytes, part: Part) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        what = "a private key" if b"PRIVATE KEY-----" in data else "no certificate in PEM"
        raise CertificateFault(
            part, f"{what} is in it; `-----BEGIN CERTIFICATE-----` begins one that is read here."
        ) from None


def _private_key(data: bytes):  # type: ignore[no-untyped-def]  # one of many classes of keys
    try:
        return load_pem_private_key(data, password=None)
    except TypeError:
        raise CertificateFault(
            "key",
            "it has a password, which is not asked for. Write it without: "
            "(umask 077; openssl pkey -in KEY -out FILE).",
        ) from None
    except UnsupportedAlgorithm:
        raise CertificateFault(
            "key", "it is of a kind that is not read here. Take a key of RSA or EC (P-256)."
        ) from None
    except ValueError:
        raise CertificateFault(
            "key", "no private key in PEM is in it; `-----BEGIN PRIVATE KEY-----` begins one."
        ) from None


def _text(certificates: Sequence[x509.Certificate]) -> str:
    return "".join(one.public_bytes(Encoding.PEM).decode("ascii") for one in certificates)


def _sha1(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(SHA1()).hex().upper()


def _name(certificate: x509.Certificate) -> str:
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else next(iter(_names(certificate)), "")


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    addresses = map(str, found.get_values_for_type(x509.IPAddress))
    return (*found.get_values_for_type(x509.DNSName), *addresses)


def _of(certificate: x509.Certificate) -> str:
    name = _name(certificate)
    return f" of {name!r}" if name else ""
