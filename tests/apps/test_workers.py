"""The shipped functions by two processes, as a container serves them (`WAKEFUL_WORKERS`)."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from loadtests import declare
from tests import serving
from tests.services.test_shipped_functions import DECISIVE, HEADERS

ROOT = Path(__file__).parent.parent.parent

# in few: test_curl.py (one process), tests/deployments/local/test_processes.py (two, of a test)
pytestmark = [pytest.mark.models, pytest.mark.slow, pytest.mark.full]


def test_every_shipped_function_answers(models, tmp_path):
    """Each time it is called, on its own route and on the routes by task; lines of the access log
    are whole.
    """
    log = tmp_path / "access.log"
    more = {"WAKEFUL_WORKERS": "2", "WAKEFUL_ACCESS_LOG": str(log), "TMPDIR": "/tmp"}
    run = serving.run(
        ROOT / "serve_config.yaml", root=ROOT, log=tmp_path / "log", start_s=180, more=more
    )
    with run as url, httpx.Client(base_url=url, timeout=60) as client:
        for name, (look, expected) in DECISIVE.items():
            for _ in range(3):
                answer = client.post(
                    f"/v2/models/{name}",
                    json=declare.example(name),
                    headers=HEADERS.get(name),
                )
                assert answer.status_code == 200, f"{name}: {answer.text}"
                assert look(json.loads(answer.text.partition("\n")[0])) == expected, name
        embedded = client.post("/v1/embeddings", json={"model": "embed", "input": ["a", "b"]})
        assert [len(one["embedding"]) for one in embedded.json()["data"]] == [384, 384]
        assert {one["name"] for one in client.get("/").json()["functions"]} == {*declare.shipped()}
        for page in ("/docs", "/openapi.json", "/v2", "/v2/health/ready", "/v1/models"):
            assert client.get(page).status_code == 200, page
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(calls) >= 3 * len(DECISIVE)
