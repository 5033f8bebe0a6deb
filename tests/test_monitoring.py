"""The dashboard and the alerts of docs/monitoring, in a real Prometheus that scrapes a server."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import onnx_models, serving

ROOT = Path(__file__).parent.parent
MONITORING = ROOT / "docs" / "monitoring"

pytestmark = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="Prometheus is not installed: apt-get install prometheus",
)

PATIENCE_S = 120.0

FILE = """\
applications:
  - {name: catalogue, route_prefix: /, import_path: "deployments:catalogue"}
  - name: hello
    route_prefix: /v2/models/hello
    import_path: deployments:function
    args: {graph: [{stage: greeting, python: "greet:hello"}]}
  - name: mean
    route_prefix: /v2/models/mean
    import_path: deployments:function
    args: {graph: [{stage: model, onnx: mean.onnx, pad: {x: 0, mask: 0}}]}
"""

PROMETHEUS = """\
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: wakeful
    static_configs: [{{targets: ["{target}"]}}]
"""


def expressions() -> list[tuple[str, str]]:
    """Every expression of the dashboard with its panel, the variables of Grafana filled in."""
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    values = {"$function": ".*", "$__rate_interval": "1m", "$__range": "1m"}
    found = []
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for name, value in values.items():
                expression = expression.replace(name, value)
            assert "$" not in expression
            found.append((panel["title"], expression))
    return found


def promtool(*arguments: str, folder: Path) -> str:
    """What it prints; it must end well."""
    done = subprocess.run(
        ["promtool", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_each_alert_fires_on_what_it_is_for(tmp_path):
    """And none where all is well, by Prometheus' own tests of rules."""
    shutil.copy(MONITORING / "alerts.yaml", tmp_path)
    shutil.copy(Path(__file__).with_name("alerts_test.yaml"), tmp_path)
    promtool("check", "rules", "alerts.yaml", folder=tmp_path)
    promtool("test", "rules", "alerts_test.yaml", folder=tmp_path)


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Callable[..., Any]]:
    """A Prometheus that scrapes the target, with our rules; gives what asks its API."""
    rules = MONITORING / "alerts.yaml"
    (folder / "prometheus.yml").write_text(PROMETHEUS.format(rules=rules, target=target))
    address = f"127.0.0.1:{serving.free_port()}"
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def is_ready() -> bool:
        try:
            return httpx.get(f"http://{address}/-/ready", timeout=30).status_code == 200
        except httpx.TransportError:
            return False

    def ask(path: str, **parameters: str) -> Any:
        answer = httpx.get(f"http://{address}/api/v1/{path}", params=parameters, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    try:
        until = time.monotonic() + PATIENCE_S
        while not is_ready():
            assert process.poll() is None, (folder / "prometheus.log").read_text()
            assert time.monotonic() < until
            time.sleep(0.05)
        yield ask
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def calls(url: str) -> Iterator[None]:
    """Clients that call all the time: rows that are padded, one that is refused."""
    over = threading.Event()
    rows = [{"x": [1.0] * length, "mask": [1.0] * length} for length in (2, 5, 9)]
    faults: list[str] = []

    def call() -> None:
        with httpx.Client(base_url=f"{url}/v2/models", timeout=60) as client:
            while not over.wait(0.02):
                for body, name, status in (
                    ({"name": "bo"}, "hello", 200),
                    (rows, "mean", 200),
                    ({"name": 7}, "hello", 400),
                ):
                    answer = client.post(f"/{name}", json=body)
                    if answer.status_code != status:
                        faults.append(answer.text)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert not faults, faults[0]


@pytest.mark.slow
def test_every_panel_and_rule_has_a_result(tmp_path):
    """While there are calls each expression of the dashboard finds series, and each rule is
    evaluated without an error and does not fire.
    """
    (tmp_path / "greet.py").write_text("def hello(name: str) -> str:\n    return name\n")
    (tmp_path / "serve_config.yaml").write_text(FILE)
    onnx_models.masked_mean(tmp_path / "mean.onnx")
    with (
        serving.run(tmp_path / "serve_config.yaml", root=tmp_path, log=tmp_path / "log") as url,
        calls(url),
        prometheus(tmp_path, url.removeprefix("http://")) as ask,
    ):
        missing = expressions()
        assert len(missing) > 20
        until = time.monotonic() + PATIENCE_S
        while missing and time.monotonic() < until:
            missing = [one for one in missing if not ask("query", query=one[1])["result"]]
        assert not missing

        def rules() -> list[dict[str, Any]]:
            (group,) = ask("rules")["groups"]
            found: list[dict[str, Any]] = group["rules"]
            return found

        while any(rule["health"] == "unknown" for rule in rules()):
            assert time.monotonic() < until
        assert {rule["health"]: rule.get("lastError", "") for rule in rules()} == {"ok": ""}
        assert [rule["name"] for rule in rules() if rule["state"] == "firing"] == []
        page = httpx.get(f"{url}/metrics").text
    lint = subprocess.run(
        ["promtool", "check", "metrics"],
        input=page,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert "error" not in lint.stderr.lower(), lint.stderr
