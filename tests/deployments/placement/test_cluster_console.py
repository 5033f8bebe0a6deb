"""The console of a cluster: a stream past HAProxy, a wake as it is shown, and the end of its
catalogue.
"""

from __future__ import annotations

import httpx
import pytest

from tests.console_page import followed_page, open_page, press
from tests.deployments.projects import HOST, Standing, function, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.full
def test_a_page_follows_a_cluster(standing: Standing):
    """States at once, decisions, log, errors, the machine; its buttons are the repository's. A page
    of another site wakes nothing.
    """
    with standing.served(*HOST, function("shown", least=0)) as client:
        far = {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}
        with followed_page(standing.url, "shown") as page:
            held = page.until("server", lambda data: bool(data["machines"][0]["budget_bytes"]))
            assert len(held["machines"]) == 1
            assert page.events[0][0] == "functions"
            refused = client.post("/v2/models/shown", json={"name": "bo"}, headers=far)
            assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
            assert press(standing.url, "shown", "wake").json() == {}
            entry = page.until_state("shown", "ready")
            assert (entry["tier"], entry["replicas"]) == ("host", 1)
            failed = client.post("/v2/models/shown", json={}, headers={"x-request-id": "mine"})
            assert failed.status_code == 400
            page.until("errors", lambda data: any(one["id"] == "mine" for one in data["errors"]))
            assert press(standing.url, "shown", "sleep").status_code == 200
            page.until_state("shown", "asleep")
            samples = page.ever("samples", lambda data: "shown" in data["functions"])
            assert any(samples["functions"]["shown"]["calls_per_s"])
        details = client.get("/console/functions/shown").json()
        settings = {one["key"]: one["origin"] for one in details["settings"]}
        assert ":" in settings["autoscaling.min_replicas"]
        assert details["graph"]["nodes"][0]["id"] == "request"
        assert client.get("/console").headers["content-security-policy"]
        index = client.get("/", headers={"accept": "text/html"})
        assert index.headers["location"] == "console"
        assert client.post("/console/functions/shown/wake").status_code == 403


@pytest.mark.full
def test_an_open_page_does_not_hold_what_is_replaced(standing: Standing):
    """A catalogue without a console takes the place of one with an open page, which is told so."""
    with standing.served(*HOST, function("shown", least=0)), open_page(standing.url) as page:
        page.until("server")
        with standing.served(*HOST, function("shown", least=0), "http: {console: false}\n"):
            page.until_end()
            wait_until(lambda: httpx.get(f"{standing.url}/console").status_code == 404)
