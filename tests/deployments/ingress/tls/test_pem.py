"""Certificates and keys as text: what is found of a server's, and what is wrong with it."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from deployments.ingress.tls.pem import CertificateFault, read_authorities, read_pair
from tests.certificates import Authority, authority

GOOD = authority().issue("api.example")
OTHER = authority().issue("other.example")


def test_a_pair_is_found_with_its_name_and_its_end():
    """In the form that HAProxy takes by its socket: no comments, no blank lines."""
    text = b"subject=CN=api.example\n\n" + GOOD.cert + b"\n" + authority().pem
    pair = read_pair(text, b"a comment\n\n" + GOOD.key)
    assert pair.subject == "api.example"
    assert pair.sha1 == hashlib.sha1(GOOD.der).hexdigest().upper()
    assert 89 * 86400 < pair.ends_at - pair.begins_at < 92 * 86400
    lines = pair.text.splitlines()
    assert "" not in lines
    assert [line for line in lines if line.startswith("-----BEGIN")] == [
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN PRIVATE KEY-----",
    ]


@pytest.mark.parametrize(
    ("common_name", "names", "subject"),
    [("a", ("b",), "a"), ("", ("b", "::1"), "b"), ("", ("127.0.0.1",), "127.0.0.1"), ("", (), "")],
)
def test_a_certificate_is_called_by_its_common_name_or_its_first(common_name, names, subject):
    """Authorities of the web issue some without a common name."""
    issued = authority().issue(common_name, names)
    pair = read_pair(*issued)
    assert (pair.subject, pair.names) == (subject, names)


@pytest.mark.parametrize(
    ("cert", "key", "part", "words"),
    [
        (GOOD.cert, OTHER.key, "key", ("not the key", "api.example")),
        (authority().pem + GOOD.cert, GOOD.key, "key", ("not the key", "comes first")),
        (GOOD.key, GOOD.cert, "cert", ("a private key is in it", "BEGIN CERTIFICATE")),
        (b"", GOOD.key, "cert", ("no certificate",)),
        (GOOD.cert[:200], GOOD.key, "cert", ("no certificate",)),
        (b"\x30\x82\x00\xff" * 40, GOOD.key, "cert", ("no certificate",)),
        (GOOD.cert, b"", "key", ("no private key", "BEGIN PRIVATE KEY")),
        (GOOD.cert, GOOD.cert, "key", ("no private key",)),
        (
            GOOD.cert,
            authority().issue(password=b"secret").key,
            "key",
            ("has a password", "openssl pkey"),
        ),
    ],
    ids=range(9),
)
def test_what_cannot_be_served_with_is_said(cert, key, part, words):
    """Which file, what is wrong with it, what to do."""
    with pytest.raises(CertificateFault) as refused:
        read_pair(cert, key)
    assert refused.value.part == part
    for word in words:
        assert word in str(refused.value)


def test_an_rsa_key_does_not_fit_a_certificate_of_another_kind():
    """Nor is that an error of ours."""
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )
    with pytest.raises(CertificateFault) as refused:
        read_pair(GOOD.cert, key)
    assert refused.value.part == "key"


def test_authorities_are_found():
    """Several in a file; the first end of them counts."""
    one, other = Authority("One"), Authority("Other")
    found = read_authorities(one.pem + b"# a comment\n" + other.pem)
    assert len(found.sha1) == 2
    assert found.text.count("BEGIN CERTIFICATE") == 2


@pytest.mark.parametrize(
    ("data", "words"),
    [(GOOD.cert, ("api.example", "CA:TRUE")), (b"x", ("no certificate",))],
    ids=["a server's", "none"],
)
def test_what_is_no_authority_is_said(data, words):
    """A server's own certificate as the authority of clients trusts that one alone."""
    with pytest.raises(CertificateFault) as refused:
        read_authorities(data)
    assert refused.value.part == "client_ca"
    for word in words:
        assert word in str(refused.value)
