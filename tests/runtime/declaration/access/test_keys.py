"""What a key is, and when it is taken."""

from __future__ import annotations

import hashlib
import re

import pytest

from runtime.declaration.access.keys import AccessKey, KeyDigest, digest_of, make_key
from runtime.declaration.http_section import KeySpec
from runtime.system.messages import hide_keys, is_key, quote, quote_names

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def test_a_key_is_random_and_known_by_its_form():
    """256 bits behind `wk_`; no two are alike."""
    made = {make_key() for _ in range(100)}
    assert len(made) == 100
    for key in made:
        assert re.fullmatch(r"wk_[A-Za-z0-9_-]{43}", key)
        assert is_key(key)
        assert digest_of(key) == hashlib.sha256(key.encode("ascii")).hexdigest()


def test_no_message_repeats_a_key():
    """Nor a part of one that tells most of it."""
    key = make_key()
    for text in (quote(key), quote({"k": key}), quote_names(key), hide_keys(f"a {key}, b")):
        assert key[3:20] not in text
        assert "wk_…" in text
    assert quote("wk_") == "'wk_'"
    assert hide_keys("no key") == "no key"
    assert not is_key(key[:-1])
    assert not is_key(f"{key}=")


@pytest.mark.parametrize(
    ("expires_at", "has_expired"), [(None, False), (10.5, False), (10.0, True), (9.0, True)]
)
def test_a_key_is_taken_until_its_end(expires_at, has_expired):
    """At the moment itself it is not."""
    assert AccessKey("k", (KeyDigest(A),), expires_at=expires_at).has_expired(10.0) is has_expired


def test_a_declared_key_is_what_it_says():
    """What it leaves out has its default."""
    spec = KeySpec(
        name="k",
        sha256=[A.upper(), B],
        functions=("f",),
        scope=["operate", "call"],
        rps=2,
        in_flight=3,
        expires="2027-03-01",
    )
    former = KeyDigest(C, 5.0)
    assert AccessKey.of(spec, [former]) == AccessKey(
        name="k",
        digests=(KeyDigest(A), KeyDigest(B), former),
        functions=frozenset({"f"}),
        scopes=frozenset({"call", "operate"}),
        rps=2.0,
        in_flight=3,
        expires_at=1803859200.0,
    )
    assert AccessKey.of(KeySpec(name="k", subject="client")) == AccessKey("k", subject="client")


def test_a_key_is_not_in_its_repr():
    """What is kept of it is its digest."""
    key = make_key()
    assert key not in repr(AccessKey("k", (KeyDigest(digest_of(key)),)))
