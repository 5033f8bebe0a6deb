"""How a list of keys is changed."""

from __future__ import annotations

import pytest

from runtime.declaration.access import changes
from runtime.declaration.access.changes import (
    KeyRefused,
    with_key,
    with_rotated,
    without_key,
    without_spent,
)
from runtime.declaration.access.keys import AccessKey, KeyDigest
from runtime.declaration.http_section import MAX_DIGESTS
from tests.problems import expect_values

A, B, C = ("a" * 64, "b" * 64, "c" * 64)

ONE = AccessKey("one", (KeyDigest(A),), rps=2.0)
TWO = AccessKey("two", (KeyDigest(B),))


def test_a_key_is_added_behind_the_others():
    """The list itself stays."""
    before = (ONE,)
    assert with_key(before, TWO) == (ONE, TWO)
    assert before == (ONE,)


def test_a_key_of_a_name_that_is_taken_is_refused():
    """It would be told from the other by nothing."""
    with pytest.raises(KeyRefused) as refused:
        with_key((ONE, TWO), AccessKey("two", (KeyDigest(C),)))
    assert refused.value.code == "key"
    expect_values(refused.value, "two")


def test_as_many_keys_as_are_kept_and_one_more(monkeypatch):
    """The last that fits is taken."""
    monkeypatch.setattr(changes, "MAX_KEYS", 2)
    both = with_key((ONE,), TWO)
    with pytest.raises(KeyRefused) as refused:
        with_key(both, AccessKey("three", (KeyDigest(C),)))
    expect_values(refused.value, "2")


def test_a_key_is_removed():
    """All others stay."""
    assert without_key((ONE, TWO), "one") == (TWO,)


@pytest.mark.parametrize(
    "change",
    [
        lambda keys: without_key(keys, "tow"),
        lambda keys: with_rotated(keys, "tow", C, 0.0, 1.0),
    ],
)
def test_a_name_that_is_none_is_refused_with_the_nearest(change):
    """The keys stay."""
    with pytest.raises(KeyRefused) as refused:
        change((ONE, TWO))
    expect_values(refused.value, "tow", "two")


@pytest.mark.parametrize(
    ("digests", "keep_s", "after"),
    [
        ((KeyDigest(A),), 10.0, (KeyDigest(C), KeyDigest(A, 110.0))),
        ((KeyDigest(A),), 0.0, (KeyDigest(C),)),
        (
            (KeyDigest(A), KeyDigest(B, 105.0)),
            10.0,
            (KeyDigest(C), KeyDigest(A, 110.0), KeyDigest(B, 105.0)),
        ),
        (
            (KeyDigest(A), KeyDigest(B, 500.0)),
            10.0,
            (KeyDigest(C), KeyDigest(A, 110.0), KeyDigest(B, 110.0)),
        ),
        ((KeyDigest(A), KeyDigest(B, 100.0)), 10.0, (KeyDigest(C), KeyDigest(A, 110.0))),
        ((KeyDigest(A), KeyDigest(B, 105.0)), 0.0, (KeyDigest(C),)),
    ],
)
def test_a_rotated_key_is_taken_beside_the_new_one(digests, keep_s, after):
    """For so long; what was to end sooner does. All else of the key stays."""
    key = AccessKey("one", digests, rps=2.0, functions=frozenset({"f"}))
    _, rotated = with_rotated((TWO, key), "one", C, 100.0, keep_s)
    assert rotated == AccessKey("one", after, rps=2.0, functions=frozenset({"f"}))


def test_former_keys_are_bounded():
    """As many as a key may have, and one more; all can be refused at once."""
    former = tuple(KeyDigest(f"{number:064x}", 999.0) for number in range(MAX_DIGESTS - 1))
    full = AccessKey("one", (KeyDigest(A), *former))
    with pytest.raises(KeyRefused) as refused:
        with_rotated((full,), "one", C, 0.0, 10.0)
    expect_values(refused.value, "one", str(MAX_DIGESTS), "--keep")
    assert with_rotated((full,), "one", C, 0.0, 0.0)[0].digests == (KeyDigest(C),)


def test_a_certificate_has_no_key_to_rotate():
    """It is another authority's."""
    with pytest.raises(KeyRefused) as refused:
        with_rotated((AccessKey("client", subject="cn"),), "client", C, 0.0, 1.0)
    expect_values(refused.value, "client")


def test_digests_that_are_over_are_forgotten():
    """An expired key is not: the list of keys says that it has expired."""
    expired = AccessKey("old", (KeyDigest(B),), expires_at=50.0)
    keys = (AccessKey("one", (KeyDigest(A), KeyDigest(B, 100.0), KeyDigest(C, 101.0))), expired)
    assert without_spent(keys, 100.0) == (
        AccessKey("one", (KeyDigest(A), KeyDigest(C, 101.0))),
        expired,
    )
