"""What HAProxy is told, decided from Ray's file, the environment and what ``up`` wrote down."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from deployments.ingress.haproxy import rules
from deployments.ingress.haproxy.ray_config import ApplicationBackend, BackendServer, read
from deployments.ingress.haproxy.rules import CATALOGUE, FUNCTION, HOST, INNER, ONCE, SECRET
from deployments.ingress.haproxy.terms import (
    Deployed,
    DeployedCors,
    decide_calls,
    decide_console,
    decide_hosts,
    decide_owners,
    decide_per_address,
    decide_terms,
    own_addresses,
    read_cors,
    read_per_address,
    split_stage_prefixes,
)
from deployments.ray_support.environment import HAPROXY_LOG, HTTP_HOST, MARK
from runtime.http import cors, function_routes
from runtime.system.secrets import derive_secret
from tests.deployments.ingress.haproxy.ray_files import ray_file

PROXY = BackendServer("SERVE_PROXY_ACTOR-1", "127.0.0.1:8500", "check backup", "")


@pytest.mark.parametrize(
    ("deployments", "waits", "calls"),
    [
        ([FUNCTION, FUNCTION], False, "replayed"),
        ([HOST], False, "replayed"),
        ([CATALOGUE], False, "replayed"),
        ([ONCE], True, "once"),
        ([FUNCTION, ONCE], True, "once"),
        (["Function"], True, ""),
        ([FUNCTION, "Shop"], True, ""),
        ([], True, "replayed"),
        ([], False, ""),
    ],
)
def test_replayed_calls_are_known_by_the_servers_and_without_servers_by_the_wake_signal(
    deployments, waits, calls
):
    """Of that application alone."""
    servers = tuple(
        BackendServer(f"SERVE_REPLICA_f-{one}-a{n}", f"127.0.0.1:{n}", "check", one)
        for n, one in enumerate(deployments)
    )
    application = ApplicationBackend("http-f", "/f", (*servers, PROXY), ())
    assert decide_calls(application, lambda prefix: waits and prefix == "/f") == calls
    expected = application if CATALOGUE in deployments else None
    other = ApplicationBackend("http-g", "/g", (PROXY,), ())
    assert decide_console([other, application]) == expected


@pytest.mark.parametrize(
    ("ray", "own", "hosts"),
    [
        ("127.0.0.1", "", ("127.0.0.1",)),
        ("*", "", ("*",)),
        ("127.0.0.1", "0.0.0.0", ("0.0.0.0",)),
        ("127.0.0.1", "10.0.0.5", ("127.0.0.1", "10.0.0.5")),
        ("127.0.0.1", "box.local", ("127.0.0.1", "box.local")),
        ("10.0.0.4", "10.0.0.5", ("10.0.0.4",)),
    ],
)
def test_haproxy_alone_listens_at_the_public_address(ray, own, hosts):
    """What is behind it listens on the loopback address, and so does it, for calls of functions by
    functions.
    """
    assert decide_hosts(ray, own) == hosts


@pytest.mark.parametrize(
    ("case", "is_ours", "is_closed"),
    [("shop", False, True), ("shop", True, True), ("public", False, False), ("public", True, True)],
)
def test_statistics_are_for_this_machine_where_http_is(case, is_ours, is_closed):
    """On a cluster that was started by hand for others, they are as Ray has them: what reads the
    metrics may be another machine.
    """
    ray = read(ray_file("ray_2_60", case))
    assert decide_terms(ray, Deployed(is_ours), lambda prefix: False).is_closed is is_closed


def test_calls_of_functions_are_known_by_the_secret():
    """Without a token by their content type."""
    ray = read(ray_file("ray_2_60", "shop"))
    assert decide_terms(ray, Deployed(), lambda prefix: False).inner == INNER
    inner = decide_terms(ray, Deployed(secret="c0ffee"), lambda prefix: False).inner
    assert inner == f"req.hdr({SECRET}) -m str c0ffee"
    assert function_routes.SECRET_HEADER.decode() == SECRET


DEPLOYED = [
    {"route_prefix": "/f", "part_of": "g", "role": "function", "hosted": False},
    {"route_prefix": "/g", "part_of": "", "role": "function", "hosted": False},
]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, Deployed()),
        ({HAPROXY_LOG: "/dev/log"}, Deployed(logs=True)),
        ({MARK: "HOME"}, Deployed(is_ours=True, cors=DeployedCors({"origins": ["*"]}))),
        (
            {MARK: "HOME", HTTP_HOST: "0.0.0.0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "t"},
            Deployed(
                is_ours=True,
                host="0.0.0.0",
                secret=derive_secret("t"),
                hidden=("/f",),
                cors=DeployedCors({"origins": ["*"]}),
            ),
        ),
    ],
    ids=["not ours", "a log", "ours", "a token"],
)
def test_what_is_known_here_is_of_the_environment_and_of_up(tmp_path, environ, expected):
    """Stages are hidden behind the secret, so without one there are none that could be."""
    (tmp_path / "up.json").write_text(
        json.dumps({"deployed": DEPLOYED, "cors": {"origins": ["*"]}})
    )
    found = Deployed.here(
        {name: str(tmp_path) if value == "HOME" else value for name, value in environ.items()}
    )
    cors = found.cors and DeployedCors(found.cors.policy)
    assert replace(found, cors=cors) == expected


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"deployed": [1]}'])
def test_without_a_word_on_them_no_parts_are_known(tmp_path, text):
    """They refuse calls themselves."""
    if text is not None:
        (tmp_path / "up.json").write_text(text)
    assert split_stage_prefixes(tmp_path) == []


APPS = [
    {"route_prefix": "/", "role": "catalogue", "hosted": False},
    {"route_prefix": "/v2/models", "role": "host", "hosted": False},
    {"route_prefix": "/v2/models/a", "role": "function", "hosted": True},
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, DeployedCors(None)),
        ("[]", DeployedCors(None)),
        ({"deployed": APPS}, DeployedCors(None)),
        ({"deployed": APPS, "cors": {"origins": ["*"]}}, DeployedCors({"origins": ["*"]})),
        (
            {"deployed": [*APPS, {"route_prefix": "/mine", "role": "other", "hosted": False}]},
            DeployedCors(None, [("/mine", False)]),
        ),
        (
            {"deployed": [*APPS[1:], {"route_prefix": "/", "role": "other", "hosted": False}]},
            DeployedCors(None, [("/", False), ("/v2/models", True)]),
        ),
    ],
    ids=["no file", "no state", "no policy", "a policy", "another application", "one at the root"],
)
def test_what_up_wrote_down_decides_on_pages_of_other_origins(tmp_path, text: Any, expected):
    """Nothing there is no policy."""
    if text is not None:
        (tmp_path / "up.json").write_text(text if isinstance(text, str) else json.dumps(text))
    found = read_cors(tmp_path)
    assert (found.policy, list(found.prefixes)) == (expected.policy, list(expected.prefixes))


OWNERS = {
    "none": ([], []),
    "ours alone": ([("/v2/models", True), ("/", True), ("/v2/models/a", True)], []),
    "another beside": ([("/", True), ("/v2/models", True), ("/mine", False)], [("/mine", False)]),
    "another at the root": (
        [("/v2/models", True), ("/", False), ("/v2/models/a", True)],
        [("/", False), ("/v2/models", True)],
    ),
    "another above ours": (
        [("/", True), ("/v2", False), ("/v2/models", True)],
        [("/v2", False), ("/v2/models", True)],
    ),
    "another below ours": (
        [("/", False), ("/v2/models", True), ("/v2/models/shop", False)],
        [("/", False), ("/v2/models", True), ("/v2/models/shop", False)],
    ),
    "another that begins alike": ([("/a", False), ("/ab", True)], [("/a", False)]),
}


@pytest.mark.parametrize(("applications", "expected"), OWNERS.values(), ids=OWNERS)
def test_a_path_is_of_the_application_with_the_longest_prefix(applications, expected):
    """In whichever order they are deployed; a prefix that changes nothing has no rule."""
    assert decide_owners(applications) == expected
    assert decide_owners(reversed(applications)) == expected


@pytest.mark.parametrize(
    ("declared", "hosts", "most", "expected"),
    [
        (None, ("127.0.0.1",), 4096, 0),
        (None, ("localhost", "::1"), 4096, 0),
        (100, ("127.0.0.1",), 4096, 0),
        (None, (), 4096, 0),
        (None, ("0.0.0.0",), 4096, 1024),
        (None, ("127.0.0.1", "10.0.0.5"), 4096, 1024),
        (None, ("*",), 16, 4),
        (None, ("0.0.0.0",), 2, 1),
        (100, ("0.0.0.0",), 4096, 100),
        (4095, ("0.0.0.0",), 4096, 4095),
        (4096, ("0.0.0.0",), 4096, 0),
        (9999, ("0.0.0.0",), 4096, 0),
    ],
)
def test_an_address_holds_a_quarter_of_the_connections_or_what_the_file_says(
    declared, hosts, most, expected
):
    """None is counted where this machine alone is heard."""
    assert decide_per_address(declared, hosts, most) == expected


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (("0.0.0.0", "::", "*", "", "box.local", "127.0.0.1"), ()),
        (("10.0.0.5", "10.0.0.5", "[fd00::2]"), ("10.0.0.5", "fd00::2")),
    ],
)
def test_a_machine_may_call_itself_at_its_address(hosts, expected):
    """As far as it is known; a name may lead anywhere."""
    assert own_addresses(hosts) == expected


@pytest.mark.parametrize("is_ours", [True, False])
def test_connections_are_counted_where_up_started_the_cluster(is_ours):
    """Elsewhere it is not known what stands in front."""
    ray = read(ray_file("ray_2_60", "public"))
    terms = decide_terms(
        ray, Deployed(is_ours, machine="10.0.0.5", per_address=7), lambda prefix: False
    )
    assert terms.per_address == (7 if is_ours else 0)
    assert terms.own == ("10.0.0.5",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, None), ("[]", None), ("{}", None), ('{"per_address": 7}', 7)],
)
def test_what_up_wrote_down_of_addresses_is_read(tmp_path, text, expected):
    """Nothing there is no word on it."""
    if text is not None:
        (tmp_path / "up.json").write_text(text)
    assert read_per_address(tmp_path) == expected


def test_the_names_are_those_of_one_process():
    """They are written twice."""
    assert rules.METHODS.encode() == cors.METHODS
    assert rules.EXPOSED.encode() == cors.EXPOSED
