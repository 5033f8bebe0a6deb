"""Which key may do what, as HAProxy looks it up."""

from __future__ import annotations

import stat

import pytest

from deployments.ingress.haproxy.access import (
    ALL,
    NEVER,
    NO_LIMIT,
    ROUTES,
    AccessMaps,
    access_maps,
    grant_of,
    make_files,
    map_name,
    rate_limits,
    write_files,
    write_map,
)
from deployments.ingress.haproxy.terms import (
    CONSOLE,
    CONSOLE_FILES,
    LIVE,
    RUN_ACCESS,
    SERVE_ACCESS,
)
from deployments.ray_support.texts import HEALTH_PATH
from runtime.declaration.access.keys import AccessKey, KeyDigest
from runtime.http.catalogue.app import catalogue
from runtime.http.function_routes import ALL_STATISTICS

A, B, C = (letter * 64 for letter in "abc")
NO = NO_LIMIT


@pytest.mark.parametrize(
    ("key", "entries"),
    [
        (AccessKey("k", (KeyDigest(A),)), {A: f"..c|k|*|{NEVER}|{NO}|{NO}|{NO}"}),
        (
            AccessKey("k", (KeyDigest(A),), scopes=frozenset({"operate", "call"}), in_flight=8),
            {A: f"r.co|k|*|{NEVER}|{NO}|{NO}|8"},
        ),
        (
            AccessKey("k", (KeyDigest(A), KeyDigest(B, 50.9)), expires_at=99.5, rps=20),
            {A: f"rxc|k|*|99|20|{NO}|{NO}", B: f"rxc|k|*|50|20|{NO}|{NO}"},
        ),
        (
            AccessKey("k", (KeyDigest(A, 50.0),), expires_at=20.0, rps=0.5),
            {A: f"rxc|k|*|20|1|30|{NO}"},
        ),
        (AccessKey("k", subject="client-7"), {"CN=client-7": f"..c|k|*|{NEVER}|{NO}|{NO}|{NO}"}),
        (
            AccessKey("k", (KeyDigest(A),), functions=frozenset({"g", "f"})),
            {A: f"..c|k|{grant_of(['f', 'g'])}|{NEVER}|{NO}|{NO}|{NO}"},
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
        **{f"*:{target}": "1" for target in ("", "-", "@call", "a", "b", ALL)},
        **{f"{grant}:@call": "1" for grant in (both, third)},
        both: "a,b",
        f"{both}:a": "1",
        f"{both}:b": "1",
        third: "ab",
        f"{third}:ab": "1",
    }
    own = {f"{prefix}/": target for prefix, target in ROUTES.items()}
    assert maps.functions == {
        **own,
        "/v2/models/a/": "a",
        "/v2/models/a/b/": "b",
        "/other/": ALL,
        "loaded": "1",
    }


def test_a_function_goes_before_a_route_of_ours():
    """All of whose statistics are at `/v2/models/stats` only where no function is."""
    assert access_maps([], {"/v2/models/stats": "stats"}).functions["/v2/models/stats/"] == "stats"


def test_every_route_of_the_catalogue_has_a_scope():
    """A route that is added there is open to the keys that it is for."""

    async def nothing(*_: object) -> list[dict[str, object]]:
        return []

    app = catalogue(nothing, nothing, nothing, object(), lambda: (None, list), object())
    own = {route.path for route in app.routes} | {ALL_STATISTICS, "/v1/embeddings", "/v1/models"}
    assert len(own) > 12
    for path in own:
        below = [one for one in ROUTES if f"{path}/".startswith(f"{one.rstrip('/')}/")]
        target = ROUTES[max(below, key=len)]
        if path == "/v2/repository/index":
            assert target == "@look"
        assert target == (
            "@call"
            if path.startswith("/v1/")
            else "@operate"
            if "{verb}" in path or "capture" in path
            else "@look"
        )


def test_that_it_is_alive_is_open():
    """And the console's page, which asks for a key; nothing else of ours."""
    assert (RUN_ACCESS.open, SERVE_ACCESS.open) == ((LIVE, CONSOLE), (LIVE, HEALTH_PATH, CONSOLE))
    assert RUN_ACCESS.open_below == SERVE_ACCESS.open_below == (CONSOLE_FILES,)


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
