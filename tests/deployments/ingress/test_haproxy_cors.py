"""HAProxy answers preflights and adds headers as one process does; the real program, on the
configuration that Ray really writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray.serve.schema import ServeDeploySchema

from deployments.ingress.haproxy import rules
from deployments.ingress.haproxy.lacks import PROMISES
from deployments.ingress.haproxy.rules import DRAINING
from deployments.ingress.haproxy.terms import Deployed, DeployedCors
from runtime.declaration.http_section import CorsSpec
from runtime.http import cors
from tests.deployments.ingress.haproxy.proxies import Replica, before_two
from tests.deployments.projects import HOST, Standing, function, state, wait_until
from tests.foreign_pages import FOREIGN

pytestmark = pytest.mark.slow

APP, OTHER = "https://app.example", "https://other.example"


def policy(*origins: str, **more: Any) -> dict[str, Any]:
    """As ``up`` writes it down."""
    return CorsSpec.model_validate({"origins": origins, **more}).model_dump(mode="json")


@contextmanager
def proxied(folder: Path, deployed: DeployedCors) -> Iterator[str]:
    """HAProxy with this policy, before two replicas; its URL."""
    with before_two(folder, deployed=Deployed(is_ours=True, cors=deployed)) as running:
        yield running.url


def ask(url: str, origin: str) -> httpx.Response:
    """A preflight."""
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type, x-mine",
        "x-request-id": "mine",
    }
    return httpx.options(url, headers=headers, timeout=60)


def cors_headers(response: httpx.Response) -> dict[str, str]:
    """Those that are about origins."""
    return {
        name: value
        for name, value in response.headers.items()
        if name == "vary" or name.startswith("access-control-")
    }


def in_process(spec: dict[str, Any], origin: str, *, is_preflight: bool) -> dict[str, str]:
    """What one process says to that origin."""
    made = cors.CorsPolicy(CorsSpec.model_validate(spec))
    headers = list(made.headers_for(origin.encode()))
    if is_preflight:
        headers += made.preflight_headers(origin.encode(), b"content-type, x-mine")
    return {name.decode(): value.decode() for name, value in headers}


@pytest.mark.parametrize(
    "spec",
    [policy("http://localhost:5173", APP), policy(APP, credentials=True, max_age_s=5), policy("*")],
    ids=["two", "credentials", "all"],
)
def test_it_says_what_one_process_says(tmp_path: Path, spec: dict[str, Any]):
    """To a preflight, which no replica sees; with an answer, an error of HAProxy's own and a path
    that nothing answers.
    """
    with proxied(tmp_path, DeployedCors(spec)) as url:
        for origin in (APP, OTHER, f"{APP}.evil"):
            for path in ("/f", "/f/infer", "/g", "/nowhere"):
                answer = ask(f"{url}{path}", origin)
                assert answer.status_code == 200
                assert cors_headers(answer) == in_process(spec, origin, is_preflight=True)
        assert Replica.requests == []
        for path, status in (("/f", 200), ("/g", 503), ("/nowhere", 404)):
            for origin in (APP, OTHER):
                answer = httpx.post(
                    f"{url}{path}", content=b"", headers={"origin": origin}, timeout=60
                )
                is_allowed = origin in spec["origins"] or "*" in spec["origins"]
                assert answer.status_code == (status if is_allowed else 403)
                assert cors_headers(answer) == in_process(spec, origin, is_preflight=False)
        assert len(Replica.requests) == (2 if "*" in spec["origins"] else 1)


def test_without_a_policy_a_preflight_reaches_no_replica(tmp_path: Path):
    """405 in the error form; any other OPTIONS is the replica's."""
    with proxied(tmp_path, DeployedCors(None)) as url:
        answer = ask(f"{url}/f", APP)
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
        assert answer.headers["allow"] == "GET, HEAD, POST"
        assert answer.json()["request_id"] == "mine"
        assert cors_headers(answer) == {}
        assert cors_headers(httpx.post(f"{url}/f", content=b"", timeout=60)) == {}
        assert len(Replica.requests) == 1


def test_it_refuses_what_one_process_refuses(tmp_path: Path):
    """Of pages of other sites, before a replica sees it; each in the error form."""
    with proxied(tmp_path, DeployedCors(policy(APP))) as url:
        for method, path, headers, is_refused in FOREIGN:
            if path.startswith("/console"):
                continue  # its own process sees to that
            path = path.replace("/v2/models/f", "/f")
            sent = {"x-request-id": "mine", **headers}
            answer = httpx.request(method, f"{url}{path}", headers=sent, timeout=60)
            case = method, path, headers
            assert (answer.status_code == 403) is is_refused, case
            if is_refused and method != "HEAD":
                body = answer.json()
                assert (body["code"], body["error"], body["request_id"]) == (
                    "forbidden",
                    cors.FOREIGN,
                    "mine",
                ), case
    with proxied(tmp_path, DeployedCors(policy("*"))) as url:
        headers = {"sec-fetch-site": "cross-site", "origin": OTHER}
        assert httpx.post(f"{url}/f", content=b"", headers=headers, timeout=60).status_code == 200
    assert set(rules.PAGES) == cors.PAGES


def test_the_console_is_no_other_pages(tmp_path: Path):
    """It has no headers for others, whatever the policy is, and its requests are its process's to
    refuse.
    """
    with proxied(tmp_path, DeployedCors(policy(APP))) as url:
        for path in ("/console", "/console/session", "/console/functions/f/wake"):
            assert "access-control-allow-origin" not in ask(f"{url}{path}", APP).headers
            answer = httpx.get(f"{url}{path}", headers={"origin": APP}, timeout=60)
            assert cors_headers(answer) == {}


@pytest.mark.parametrize(
    "prefixes",
    [[("/f", False)], [("/", False), ("/g", True)], [("/", False), ("/f/x", True), ("/g", True)]],
    ids=["below a prefix", "everywhere else", "around ours"],
)
def test_an_application_that_is_not_ours_keeps_its_ways(tmp_path: Path, prefixes):
    """It sees its preflights, and its answers stay as they are, by whatever letters it is called;
    one of ours is asked as ever, though another has the prefix above it.
    """
    with proxied(tmp_path, DeployedCors(policy(APP), prefixes)) as url:
        for path in ("/f", "/%66", "/f/infer"):
            answer = httpx.post(f"{url}{path}", content=b"", headers={"origin": APP}, timeout=60)
            assert cors_headers(answer) == {}
            assert cors_headers(ask(f"{url}{path}", APP)) == {}
        ours = ["/g", "/%67", *(prefix for prefix, is_ours in prefixes if is_ours)]
        for path in ours:
            assert ask(f"{url}{path}", APP).headers["access-control-allow-origin"] == APP


def test_a_page_is_told_that_the_server_ends(tmp_path: Path):
    """A refusal without the headers would be a failure of the network to it."""
    deployed = Deployed(is_ours=True, cors=DeployedCors(policy(APP)))
    with before_two(tmp_path, deployed=deployed) as proxy:
        proxy.tell(f"experimental-mode on; set var {DRAINING} bool(true)")
        refused = httpx.post(f"{proxy.url}/f", content=b"", headers={"origin": APP}, timeout=60)
    assert (refused.status_code, refused.json()["code"]) == (503, "draining")
    assert refused.headers["access-control-allow-origin"] == APP


def test_ray_reads_a_file_with_the_key():
    """`serve deploy` ignores it."""
    data = {"http": {"cors": {"origins": [APP]}}, "applications": []}
    assert not ServeDeploySchema.model_validate(data).applications


@pytest.mark.full
@pytest.mark.ray
def test_a_cluster_answers_preflights_and_wakes_nothing(standing: Standing):
    """Neither what sleeps in the host nor a deployment without a replica; a policy that is gone from
    the file is gone with the next `up`. HAProxy keeps each of its promises there.
    """
    functions = [
        function("hosted", least=0),
        function("owned", least=0, more="tier: own"),
    ]

    def allowed(name: str, origin: str) -> str | None:
        answer = ask(f"{standing.url}/v2/models/{name}", origin)
        return answer.headers.get("access-control-allow-origin")

    policy = f'http: {{cors: {{origins: ["{APP}"]}}}}\n'
    with standing.served(*HOST, *functions, policy) as client:
        wait_until(lambda: allowed("hosted", APP) == APP)  # HAProxy is reloaded for the catalogue
        asleep = state(client, "owned")["state"]
        for name in ("hosted", "owned"):
            assert (allowed(name, APP), allowed(name, OTHER)) == (APP, None)
        called = client.post("/v2/models/nowhere", json={}, headers={"origin": APP})
        assert (called.status_code, called.headers["access-control-allow-origin"]) == (404, APP)
        assert state(client, "hosted")["state"] == "asleep"
        assert state(client, "owned")["state"] == asleep
        page = client.get("/metrics").text
        kept = [line for line in page.splitlines() if line.startswith("wakeful_haproxy_promise{")]
        assert len(kept) == len(PROMISES) + 1
        assert all(line.endswith("} 1") for line in kept)
    with standing.served(*HOST, *functions):
        wait_until(lambda: ask(f"{standing.url}/v2/models/hosted", APP).status_code == 405)
