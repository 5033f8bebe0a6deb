"""What clients of ours trust, and the lines of curl that are printed."""

from __future__ import annotations

import ssl

import pytest

from deployments.ingress.tls.clients import (
    NO_FILES,
    ClientFiles,
    ClientFilesRefused,
    curl_address,
)
from tests.certificates import authority, client_file, write_files


def test_without_files_a_client_trusts_what_any_program_does():
    """``SSL_CERT_FILE`` is the library's to read."""
    assert NO_FILES.context() is None


def test_a_client_trusts_what_it_is_told_to(tmp_path):
    """In place of what the machine does; a pinned server by any name."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority().pem)
    own = client_file(tmp_path, authority().issue("a"))
    trusting = ClientFiles(ca, own).context()
    assert trusting.check_hostname
    assert [one["subject"] for one in trusting.get_ca_certs()] == [
        ((("commonName", "An Authority"),),)
    ]
    pinned = ClientFiles(pinned=ca).context()
    assert not pinned.check_hostname
    assert pinned.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("content", "which", "words"),
    [
        (None, "authorities", "No such file"),
        (b"x", "authorities", "no certificate in PEM"),
        (None, "certificate", "No such file"),
        (b"x", "certificate", "no certificate with its key"),
        (authority().issue().cert, "certificate", "no certificate with its key"),
        (b"".join(authority().issue(password=b"x")), "certificate", "password"),
    ],
    ids=range(6),
)
def test_a_file_that_is_none_is_refused(tmp_path, content, which, words):
    """Before anything is asked."""
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ClientFilesRefused, match=words):
        ClientFiles(**{which: file}).context()


@pytest.mark.parametrize(
    ("names", "url", "line"),
    [
        (("localhost", "127.0.0.1"), "https://127.0.0.1:8/f", "https://127.0.0.1:8/f"),
        (("localhost",), "https://127.0.0.1:8/f", "https://localhost:8/f"),
        (("::1",), "https://[::1]:8/f", "https://[::1]:8/f"),
        (
            ("api.example", "b"),
            "https://127.0.0.1:8/f",
            "--connect-to api.example:8:127.0.0.1:8 https://api.example:8/f",
        ),
        (
            ("*.example",),
            "https://127.0.0.1:8",
            "--connect-to www.example:8:127.0.0.1:8 https://www.example:8",
        ),
        ((), "https://127.0.0.1:8", "https://127.0.0.1:8"),
    ],
)
def test_a_line_of_curl_works_as_it_is(tmp_path, monkeypatch, names, url, line):
    """On this machine, whichever authority has signed the certificate."""
    monkeypatch.chdir(tmp_path)
    files = write_files(tmp_path / "it's", authority().issue("", names))
    assert curl_address(url, files) == f"--cacert 'it'\"'\"'s/cert.pem' {line}"


def test_a_line_of_curl_says_where_a_certificate_is_wanted(tmp_path, monkeypatch):
    """Which only its reader has."""
    monkeypatch.chdir(tmp_path)
    files = write_files(tmp_path / "t", authority().issue(), authority().pem)
    line = curl_address("https://127.0.0.1:8", files)
    assert line == "--cacert t/cert.pem --cert CLIENT.pem https://127.0.0.1:8"


def test_a_line_of_curl_stands_while_new_files_are_refused(tmp_path, monkeypatch):
    """Those before serve on, and `--reload` serves an edit with them."""
    monkeypatch.chdir(tmp_path)
    files = write_files(tmp_path / "t", authority().issue())
    files.key.write_bytes(authority().issue().key)
    line = curl_address("https://127.0.0.1:8/f", files)
    assert line == "--cacert t/cert.pem https://127.0.0.1:8/f"
