"""What is read from the files that each supported Ray writes for HAProxy, and what is refused."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from deployments.ingress.haproxy.ray_config import BackendServer, UnknownConfig, read
from deployments.ingress.haproxy.syntax import parse
from tests.deployments.ingress.haproxy.ray_files import HERE, RELEASES, ray_file

ROOT = Path(__file__).parents[4]

CASES = ("before_routes", "shop", "draining", "public", "grpc", "router", "below_a_root")


def test_the_files_are_of_the_releases_that_are_supported():
    """And of the same clusters."""
    assert RELEASES == ("ray_2_59", "ray_2_60")
    for release in RELEASES:
        assert {path.stem for path in (HERE / release).iterdir()} == set(CASES)


@pytest.mark.full
def test_the_installed_ray_writes_the_files_of_its_release(tmp_path: Path):
    """Otherwise: `python -m tests.deployments.ingress.haproxy.ray_files`. In a process of its own:
    Serve reads its variables when it is imported.
    """
    command = [sys.executable, "-m", "tests.deployments.ingress.haproxy.ray_files", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    release = "_".join(["ray", *version("ray").split(".")[:2]])
    assert release in RELEASES
    for case in CASES:
        assert (tmp_path / release / f"{case}.cfg").read_text() == ray_file(release, case), case


@pytest.mark.parametrize("release", RELEASES)
def test_what_only_ray_knows_is_read(release):
    """Ports, sizes, applications with their paths and servers."""
    ray = read(ray_file(release, "shop"))
    assert (ray.socket, ray.folder, ray.buffer_bytes) == ("/hap/s", "/hap", 73728)
    assert (ray.http.host, ray.http.port) == ("127.0.0.1", "8123")
    assert (ray.metrics.host, ray.metrics.port) == ("", "9101")
    assert (ray.statistics.host, ray.statistics.port) == ("*", "8404")
    assert [(one.name, one.prefix) for one in ray.applications] == [
        ("http-sleeps", "/v2/models/sleeps"),
        ("http-embed", "/v2/models/embed"),
        ("http-pay", "/v2/models/pay"),
        ("http-host", "/v2/models"),
        ("http-other", "/other"),
        ("http-catalogue", "/"),
    ]
    options = "check observe layer4 error-limit 1 on-error mark-down"
    sleeps, embed = ray.applications[:2]
    proxy = BackendServer("SERVE_PROXY_ACTOR-a1", "127.0.0.1:8500", "check backup", "")
    first = BackendServer(
        "SERVE_REPLICA_embed-WakefulFunction-e1", "127.0.0.1:30003", options, "WakefulFunction"
    )
    second = BackendServer(
        "SERVE_REPLICA_embed-WakefulFunction-e2", "10.0.0.2:30004", options, "WakefulFunction"
    )
    assert sleeps.servers == (proxy,)
    assert embed.servers == (first, second, proxy)
    assert [one.is_far for one in embed.servers] == [False, True, False]
    assert {"maxconn 4096", "nbthread 1", "hard-stop-after 120s"} <= set(ray.settings)
    assert {"timeout client 30s", "retries 8", "balance leastconn"} <= set(ray.defaults)
    assert ray.others == ()


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("case", CASES)
def test_nothing_of_rays_is_lost(release, case):
    """Each line of the file is read into a value, kept where it was, or said by our template."""
    text = ray_file(release, case)
    ray = read(text)
    said = {
        *("mode http", "log global", "option httplog", "option log-health-checks"),
        *("option abortonclose", "option splice-request", "option splice-response"),
        *("option redispatch 1", "timeout connect 5s", "http-reuse always", "stats timeout 30s"),
        "default_backend default_backend",
    }
    kept = {*ray.settings, *ray.defaults, *ray.logs, *ray.http.routes, *said}
    for listener in (ray.http, ray.metrics, ray.statistics):
        kept |= {*listener.rules, f"bind {listener.host}:{listener.port}"}
    for application in ray.applications:
        kept |= set(application.lines)
        kept |= {f"server {one.name} {one.address} {one.options}" for one in application.servers}
    own = [one for one in parse(text) if one not in ray.others and one.name != "default_backend"]
    left = [line for one in own for line in one.lines if line not in kept]
    assert [line for line in left if not line.startswith(("errorfile", "stats socket"))] == []


@pytest.mark.parametrize("release", RELEASES)
def test_what_is_none_of_ours_stays_whole(release):
    """gRPC, and Ray's router of requests to replicas."""
    assert [one.head for one in read(ray_file(release, "grpc")).others] == [
        "frontend grpc_frontend",
        "backend grpc_fallback_backend",
        "backend default_grpc_backend",
        "backend grpc-embed",
        "backend grpc-pay",
    ]
    (router,) = read(ray_file(release, "router")).others
    assert router.head == "backend http-chat-via-ingress-request-router"
    assert "http-reuse always" in router.lines


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("frontend http_frontend", "frontend web", "no section `frontend http_frontend`"),
        ("frontend prometheus", "frontend exporter", "no section `frontend prometheus`"),
        ("listen stats", "listen pages", "no section `listen stats`"),
        ("backend default_backend", "backend nowhere", "no section `backend default_backend`"),
        ("defaults\n", "defaults http\n", "no section `defaults`"),
        ("listen stats", "defaults\nlisten stats", "more than one section `defaults`"),
        ("listen stats", "defaults x\nlisten stats", "a second section `defaults x`"),
        ("stats socket /hap/s", "stats socket ipv4@:1", "`stats socket` in `global` no longer"),
        ("stats socket", "admin socket", "`stats socket` in `global` no longer is there once"),
        ("tune.bufsize 73728", "", "`tune.bufsize` in `global` no longer is there once"),
        ("tune.bufsize 73728", "tune.bufsize 72k", "`tune.bufsize` in `global` no longer has a"),
        ("maxconn 4096", "", "`maxconn` in `global` no longer is there once"),
        ("bind 127.0.0.1:8123", "", "`bind` in `frontend http_frontend` no longer is there"),
        ("bind 127.0.0.1:8123", "bind unix@/s", "`bind` in `frontend http_frontend` no longer"),
        ("bind :9101", "bind :9101\nbind :9102", "`bind` in `frontend prometheus` no longer is"),
        ("bind *:8404", "bind *:8404 ssl", "`bind` in `listen stats` no longer has an address"),
        ("default_backend default_b", "default_backend b", "`frontend http_frontend` no longer is"),
        (
            "backend default_backend\n    http-request",
            "backend default_backend\n    x",
            "by itself",
        ),
        ("acl is_http-pay path /", "acl to_http-pay path /", "of no application whose path is"),
        ("backend http-pay", "backend pay", "no section `backend http-pay`"),
        ("SERVE_REPLICA_pay-", "REPLICA_pay-", "neither a replica nor a backup"),
        ("check backup", "check", "neither a replica nor a backup"),
        ("server SERVE_PROXY_ACTOR-a1 127.0.0.1:8500 check backup", "server x", "neither a"),
    ],
)
def test_what_must_be_there_and_is_not_is_a_refusal(before, after, expected):
    """A Ray that is not known: what it does not say here could be anywhere else."""
    text = ray_file("ray_2_60", "shop")
    assert before in text
    with pytest.raises(UnknownConfig) as refused:
        read(text.replace(before, after))
    assert expected in str(refused.value)


def test_a_directive_that_is_not_known_stays_where_it_was():
    """A later Ray may say more."""
    text = ray_file("ray_2_60", "shop")
    for section in ("global", "defaults", "frontend http_frontend", "backend http-pay"):
        text = text.replace(f"\n{section}\n", f"\n{section}\n    new directive of {section}\n")
    text = text.replace("global\n", "global\n    new directive of global\n", 1)
    ray = read(text)
    assert "new directive of global" in ray.settings
    assert "new directive of defaults" in ray.defaults
    assert ray.http.rules[0] == "new directive of frontend http_frontend"
    (pay,) = (one for one in ray.applications if one.name == "http-pay")
    assert pay.lines[0] == "new directive of backend http-pay"


@pytest.mark.parametrize("release", RELEASES)
def test_a_damaged_file_is_read_or_refused(release):
    """Whatever of it is missing, doubled, cut or out of place."""
    draw = random.Random(22)
    for case in CASES:
        lines = ray_file(release, case).splitlines()
        for _ in range(60):
            damaged, place = list(lines), draw.randrange(len(lines))
            match draw.randrange(5):
                case 0:
                    del damaged[place]
                case 1:
                    damaged.insert(draw.randrange(len(lines)), damaged[place])
                case 2:
                    damaged[place] = damaged[place][: draw.randrange(len(damaged[place]) + 1)]
                case 3:
                    del damaged[place : place + draw.randrange(40)]
                case 4:
                    words = damaged[place].split()
                    damaged[place] = " ".join(draw.sample(words, len(words)))
            with contextlib.suppress(UnknownConfig):
                read("\n".join(damaged))
