"""Which key may do what, as HAProxy looks it up."""

from __future__ import annotations

import stat

import pytest

from deployments.ingress.haproxy.access import (
    ALL,
    NEVER,
    NO_LIMIT,
    AccessMaps,
    access_maps,
    grant_of,
    make_files,
    map_name,
    rate_limits,
    write_files,
    write_map,
)
from runtime.declaration.access.keys import AccessKey, KeyDigest

A, B, C = (letter * 64 for letter in "abc")
NO = NO_LIMIT


@pytest.mark.parametrize(
    ("key", "entries"),
    [
        (AccessKey("k", (KeyDigest(A),)), {A: f"k|*|call|{NEVER}|0|{NO}|{NO}|{NO}"}),
        (
            AccessKey("k", (KeyDigest(A),), scopes=frozenset({"operate", "call"}), in_flight=8),
            {A: f"k|*|call,operate|{NEVER}|1|{NO}|{NO}|8"},
        ),
        (
            AccessKey("k", (KeyDigest(A), KeyDigest(B, 50.9)), expires_at=99.5, rps=20),
            {A: f"k|*|call|99|1|20|{NO}|{NO}", B: f"k|*|call|50|1|20|{NO}|{NO}"},
        ),
        (
            AccessKey("k", (KeyDigest(A, 50.0),), expires_at=20.0, rps=0.5),
            {A: f"k|*|call|20|1|1|30|{NO}"},
        ),
        (AccessKey("k", subject="client-7"), {"CN=client-7": f"k|*|call|{NEVER}|0|{NO}|{NO}|{NO}"}),
        (
            AccessKey("k", (KeyDigest(A),), functions=frozenset({"g", "f"})),
            {A: f"k|{grant_of(['f', 'g'])}|call|{NEVER}|0|{NO}|{NO}|{NO}"},
        ),
    ],
)
def test_a_key_has_an_entry_for_each_digest(key, entries):
    """What is refused from some moment on says when: the first of both."""
    found = {name.upper() if len(name) == 64 else name: value for name, value in entries.items()}
    assert access_maps([key], {}).keys == found


@pytest.mark.parametrize(
    ("rps", "limits"),
    [
        (None, (NO, NO)),
        (1.0, (1, NO)),
        (20, (20, NO)),
        (2.5, (3, 150)),
        (0.5, (1, 30)),
        (0.01, (1, 1)),
        (0.001, (1, 1)),
    ],
)
def test_a_rate_of_no_whole_calls_is_kept_in_the_minute(rps, limits):
    """HAProxy counts whole ones."""
    assert rate_limits(rps) == limits


def test_keys_that_open_the_same_share_a_grant():
    """A set of other functions is another one, whatever their names are when they stand together."""
    keys = [
        AccessKey("one", (KeyDigest(A),), functions=frozenset({"a", "b"})),
        AccessKey("two", (KeyDigest(B),), functions=frozenset({"b", "a"})),
        AccessKey("three", (KeyDigest(C),), functions=frozenset({"ab"})),
    ]
    maps = access_maps(keys, {"/v2/models/a": "a", "/v2/models/a/b": "b", "/other": ALL})
    both, third = grant_of({"a", "b"}), grant_of({"ab"})
    assert maps.grants == {
        ALL: ALL,
        both: "a,b",
        f"{both}:a": "1",
        f"{both}:b": "1",
        third: "ab",
        f"{third}:ab": "1",
    }
    assert maps.functions == {
        "/v2/models/a/": "a",
        "/v2/models/a/b/": "b",
        "/other/": ALL,
        "loaded": "1",
    }


def test_maps_travel_as_plain_data():
    """To every machine."""
    maps = access_maps([AccessKey("k", (KeyDigest(A),))], {"/f": "f"})
    assert AccessMaps.from_dict(maps.to_dict()) == maps


def test_files_are_for_this_user_alone(tmp_path):
    """Also those that are made so that HAProxy starts, which do not take the place of others."""
    maps = access_maps([AccessKey("k", (KeyDigest(A),))], {"/f": "f"})
    make_files(tmp_path)
    for name, _ in maps.items():
        file = tmp_path / map_name(name)
        assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("", 0o600)
    write_files(tmp_path, maps)
    make_files(tmp_path)
    for name, entries in maps.items():
        file = tmp_path / map_name(name)
        assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == (write_map(entries), 0o600)
    assert len(list(tmp_path.iterdir())) == 3
