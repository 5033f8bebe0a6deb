"""The files that `http.tls` names: found from the root folder, and refused with the line."""

from __future__ import annotations

import os
import time

import pytest

from deployments.ingress.tls.files import (
    MOST_BYTES,
    TlsFiles,
    describe_end,
    find_problems,
    tls_problem,
)
from runtime.declaration import config_file
from tests.certificates import authority, write_files
from tests.problems import expect_values, places

GOOD = authority().issue()
OURS = "http:\n  tls:\n    cert: cert.pem\n    key: key.pem\n    client_ca: clients.pem\n"
RAYS = (
    "http_options:\n  ssl_certfile: cert.pem\n  ssl_keyfile: key.pem\n  ssl_ca_certs: clients.pem\n"
)


def declared(folder, head=OURS):
    """A file with this head, beside good files of TLS."""
    write_files(folder, GOOD, authority().pem)
    file = folder / "serve_config.yaml"
    file.write_text(f"{head}applications:\n  - {{name: f, args: {{onnx: m.onnx}}}}\n")
    return config_file.read(file)


def found(folder, head=OURS, now=None):
    """What is wrong and what is doubtful, of files that are there."""
    return find_problems(declared(folder, head), folder, time.time() if now is None else now)


@pytest.mark.parametrize("head", [OURS, RAYS])
def test_files_are_found_from_the_root_folder(tmp_path, head):
    """In our spelling and in Ray's."""
    spec = declared(tmp_path, head).tls
    assert spec is not None
    assert TlsFiles.of(spec, tmp_path) == TlsFiles(
        tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "clients.pem"
    )
    assert find_problems(declared(tmp_path, head), tmp_path, time.time()) == ([], [])


def test_without_tls_nothing_is_looked_at(tmp_path):
    """Nor need anything be installed for it."""
    assert found(tmp_path, "") == ([], [])


@pytest.mark.parametrize(
    "files", [TlsFiles("/a b/c", "/k"), TlsFiles("/c", "/k", "/ü'a")], ids=["two", "three"]
)
def test_files_are_passed_on_as_a_line(files):
    """To other processes."""
    assert TlsFiles.from_json(files.to_json()).to_json() == files.to_json()


@pytest.mark.parametrize("text", ["x", "{}", "[1, 2, 3]", '["a"]', "null"])
def test_a_line_that_names_no_files_is_refused(text):
    """HTTP in the clear would be the other reading of it."""
    with pytest.raises(ValueError, match="does not name files of TLS"):
        TlsFiles.from_json(text)


def change(folder, name, what):
    """What is done to a file."""
    path = folder / name
    match what:
        case "gone":
            path.unlink()
        case "folder":
            path.unlink()
            path.mkdir()
        case "pipe":
            path.unlink()
            os.mkfifo(path, 0o600)
        case "unreadable by this user":
            path.unlink()
            path.symlink_to("/nonexistent/file")
        case "open to all":
            path.chmod(0o604)
        case "long":
            path.write_bytes(path.read_bytes() + b"\n#" * MOST_BYTES)
        case "a chain that is long":
            path.write_bytes(GOOD.cert + authority().pem * 140)
        case bytes():
            path.write_bytes(what)


@pytest.mark.parametrize(
    ("name", "what", "line", "words"),
    [
        ("cert.pem", "gone", "3: http.tls.cert", ("No such file", "cert.pem")),
        ("key.pem", "gone", "4: http.tls.key", ("No such file",)),
        ("clients.pem", "gone", "5: http.tls.client_ca", ("No such file",)),
        ("cert.pem", "folder", "3: http.tls.cert", ("cert.pem",)),
        ("cert.pem", "pipe", "3: http.tls.cert", ("is no file",)),
        ("key.pem", "unreadable by this user", "4: http.tls.key", ("No such file",)),
        ("key.pem", "open to all", "4: http.tls.key", ("0604", "chmod o-rwx", "defaultMode: 0440")),
        ("cert.pem", "long", "3: http.tls.cert", (f"{MOST_BYTES >> 10} KiB",)),
        ("cert.pem", "a chain that is long", "3: http.tls.cert", (f"{MOST_BYTES >> 10} KiB",)),
        ("key.pem", authority().issue().key, "4: http.tls.key", ("not the key", "localhost")),
        ("cert.pem", b"", "3: http.tls.cert", ("no certificate",)),
        ("clients.pem", GOOD.cert, "5: http.tls.client_ca", ("CA:TRUE",)),
    ],
    ids=range(12),
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, name, what, line, words):
    """One that is no file, is none of its kind, or is open to others."""
    file = declared(tmp_path)
    change(tmp_path, name, what)
    wrong, doubtful = find_problems(file, tmp_path, time.time())
    assert places(wrong) == [line]
    assert doubtful == []
    expect_values(wrong[0].message, *words)


def test_in_rays_spelling_the_problem_is_at_rays_key(tmp_path):
    """Where the user wrote it."""
    file = declared(tmp_path, RAYS)
    change(tmp_path, "key.pem", "gone")
    assert places(find_problems(file, tmp_path, time.time())[0]) == ["3: http_options.ssl_keyfile"]
    assert tls_problem(file, "no").key == "http_options.ssl_certfile"
    assert tls_problem(declared(tmp_path), "no").key == "http.tls"


@pytest.mark.parametrize(
    ("days", "begins", "words"),
    [
        (13, -1, ("ends on",)),
        (-1, -10, ("ended on",)),
        (90, 2, ("begins on",)),
        (15, -1, ()),
    ],
)
def test_a_certificate_that_clients_refuse_is_warned_of(tmp_path, days, begins, words):
    """It is served with: a server that does not start helps less."""
    file = declared(tmp_path)
    write_files(tmp_path, authority().issue(days=days, begins_in_days=begins), authority().pem)
    wrong, doubtful = find_problems(file, tmp_path, time.time())
    assert wrong == []
    assert places(doubtful) == ["3: http.tls.cert"] * bool(words)
    for word in words:
        assert word in doubtful[0].message


def test_what_reads_certificates_may_be_missing(tmp_path, monkeypatch):
    """The extra that has it is named."""
    monkeypatch.setattr("deployments.ingress.tls.files.is_installed", lambda name: False)
    wrong, _ = found(tmp_path)
    assert places(wrong) == ["2: http.tls"]
    expect_values(wrong[0].message, "cryptography", "pip install 'wakeful[workers]'")


def test_a_link_that_leads_elsewhere_is_another_state(tmp_path):
    """As Kubernetes replaces a secret: by one link, above the files."""
    for name, issued in (("one", GOOD), ("two", authority().issue())):
        write_files(tmp_path / name, issued)
    (tmp_path / "data").symlink_to("one")
    files = TlsFiles(tmp_path / "data" / "cert.pem", tmp_path / "data" / "key.pem")
    before = files.states()
    assert before == files.states()
    (tmp_path / "new").symlink_to("two")
    os.replace(tmp_path / "new", tmp_path / "data")  # noqa: PTH105 - of a link
    assert files.states() != before


@pytest.mark.parametrize(("ends_at", "words"), [(0, "ended on 1970-01-01"), (86400, "ends on")])
def test_an_end_is_told(ends_at, words):
    """In the time of all zones."""
    assert words in describe_end(ends_at, 1.0)
    assert describe_end(ends_at, 1.0).endswith("UTC")
