"""All keys of a server, those that are declared and those of the file."""

from __future__ import annotations

import errno
import os

import pytest

from runtime.declaration.access import key_file
from runtime.declaration.access.key_file import write_keys
from runtime.declaration.access.key_table import KeyTable
from runtime.declaration.access.keys import AccessKey, KeyDigest
from runtime.errors import DeclarationError
from tests.problems import expect_values, places, problems_in

A, B, C = ("a" * 64, "b" * 64, "c" * 64)

DECLARED = (AccessKey("declared", (KeyDigest(A),)), AccessKey("client", subject="cn"))


def test_declared_keys_come_first(tmp_path):
    """And a file that is not there yet is seen when it is."""
    table = KeyTable(DECLARED, tmp_path / "keys.json")
    assert table.has_changed() is True, "none was read"
    assert table.read() == DECLARED
    assert table.has_changed() is False
    stored = AccessKey("stored", (KeyDigest(B),))
    write_keys(table.path, [stored])
    assert table.has_changed() is True
    assert table.read() == (*DECLARED, stored)
    assert table.has_changed() is False


def test_each_change_of_the_file_is_seen(tmp_path):
    """One of the same size in the same moment, of its permissions, and its end."""
    table = KeyTable((), tmp_path / "keys.json")
    write_keys(table.path, [AccessKey("k", (KeyDigest(A),))])
    table.read()
    write_keys(table.path, [AccessKey("k", (KeyDigest(B),))])
    assert table.has_changed() is True
    assert [one.sha256 for one in table.read()[0].digests] == [B]
    table.path.chmod(0o666)
    assert table.has_changed() is True
    with pytest.raises(DeclarationError):
        table.read()
    assert table.has_changed() is False, "it is not read again and again"
    table.path.unlink()
    assert table.has_changed() is True
    assert table.read() == ()


def test_a_file_that_cannot_be_read_for_a_moment_is_read_again(tmp_path, monkeypatch):
    """It may be as it was then, and have a key no more that was read before."""
    table = KeyTable((), tmp_path / "keys.json")
    write_keys(table.path, [AccessKey("k", (KeyDigest(A),))])
    assert len(table.read()) == 1
    write_keys(table.path, [])

    def fails(*_args):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr(key_file.os, "open", fails)
        for _ in range(2):
            assert table.has_changed() is True
            with pytest.raises(DeclarationError) as refused:
                table.read()
    expect_values(refused.value, os.strerror(errno.EMFILE))
    assert table.has_changed() is True
    assert table.read() == ()
    assert table.has_changed() is False


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (AccessKey("declared", (KeyDigest(B),)), ["declared"]),
        (AccessKey("other", (KeyDigest(B), KeyDigest(A, 9e9))), ["other", "declared"]),
        (AccessKey("other", subject="cn"), ["other"]),
    ],
)
def test_no_key_is_in_both(tmp_path, stored, words):
    """Two of one name, or two names of one key, could not be told apart."""
    table = KeyTable(DECLARED, tmp_path / "keys.json")
    write_keys(table.path, [AccessKey("good", (KeyDigest(C),)), stored])
    with pytest.raises(DeclarationError) as refused:
        table.read()
    assert places(problems_in(refused.value)) == ["keys[1]"]
    expect_values(refused.value, *words)
