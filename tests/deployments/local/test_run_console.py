"""The console of a `wakeful run`: what only its command knows."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import httpx
import pytest

from tests import serving
from tests.console_page import open_page
from tests.deployments.projects import wait_until

pytestmark = pytest.mark.slow

STAGES = """\
def hello(name: str) -> str:
    \"\"\"Prints, and fails for x.\"\"\"
    print("said hello to", name)
    if name == "x":
        raise ValueError("no x")
    return f"hello {name}"
"""

FILE = """\
http: {console: %s}
applications:
  - name: hello
    args:
      graph: [{stage: s, python: "of_a_console:hello"}]
      batching: {max_batch_size: 3}
"""


def serve(project: Path) -> AbstractContextManager[str]:
    """By `wakeful run`, with a state folder of its own."""
    file, log = project / "serve_config.yaml", project / "log"
    return serving.run(file, root=project, log=log, more={"TMPDIR": str(project)})


@pytest.fixture
def project(tmp_path):
    """A function that prints."""
    (tmp_path / "of_a_console.py").write_text(STAGES)
    (tmp_path / "serve_config.yaml").write_text(FILE % "true")
    return tmp_path


def test_a_page_has_the_log_and_the_origins_of_settings(project):
    """What a function prints, with a traceback, as it is written; and a server that ends under the
    page says so, and does not wait for it.
    """
    with ExitStack() as stack:
        with serve(project) as url:
            details = httpx.get(f"{url}/console/functions/hello").json()
            settings = {one["key"]: one for one in details["settings"]}
            assert settings["batching.max_batch_size"]["origin"].endswith("serve_config.yaml:6")
            assert settings["tier"]["origin"] == "default"
            nodes = [node["id"] for node in details["graph"]["nodes"]]
            assert nodes == ["request", "stage:s", "answer"]
            page = stack.enter_context(open_page(url, "hello"))
            assert page.until("log", lambda data: data["all"])["why"] == ""
            for name in ("bo", "x"):
                httpx.post(f"{url}/v2/models/hello", json={"name": name}, timeout=60)
            lines: list[str] = []
            while not any("ValueError: no x" in line for line in lines):
                lines += [one["text"] for one in page.until("log")["lines"]]
            assert "said hello to bo" in lines
        page.until_end()
        assert page.events[-1] == ("closing", {"is_moving": False})


@pytest.mark.full  # `wakeful.testing` serves without one, too
def test_without_a_console_docs_are_what_browsers_see(project):
    """`console: false`: none of its routes is there."""
    (project / "serve_config.yaml").write_text(FILE % "false")
    with serve(project) as url:
        index = httpx.get(url, headers={"accept": "text/html"})
        assert (index.status_code, index.headers["location"]) == (303, "docs")
        for path in ("/console", "/console/session", "/console/events"):
            answer = httpx.get(f"{url}{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        wait_until(lambda: "serving on" in (project / "log").read_text())
        assert f"{url}/docs in a browser" in (project / "log").read_text()
