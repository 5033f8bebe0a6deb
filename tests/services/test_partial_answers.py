"""Elements and rows come through HAProxy as they are done: from the host, from a replica of its
own, and from a stage that is split off.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.deployments.projects import HOST, Project, Standing

pytestmark = pytest.mark.ray

STAGES = """
import asyncio
import os
import time

def pages(count: int) -> list[int]:
    return list(range(count))

def read(pages: int, folder: str) -> int:
    while pages and not os.path.exists(f"{folder}/go"):
        time.sleep(0.01)
    return 10 * pages

async def line(n: int, folder: str) -> int:
    while n and not os.path.exists(f"{folder}/go"):
        await asyncio.sleep(0.01)
    return 10 * n
"""

FUNCTION = """\
  - name: {name}
    route_prefix: /v2/models/{name}
    import_path: deployments:function
    args:
      graph:{graph}
      autoscaling: {{min_replicas: {least}, max_replicas: 1}}
"""

ELEMENTS = """
        - {{stage: pages, python: "partial_stages:pages"}}
        - {{stage: read, python: "partial_stages:read", each: pages, stream: true{more}}}"""
ROWS = """
        - {stage: line, python: "partial_stages:line"}"""

LINES = {"accept": "application/x-ndjson", "content-type": "application/json"}


@pytest.fixture(scope="module")
def up(standing: Standing) -> Iterator[Project]:
    """Up, with all of them."""
    (standing.folder / "partial_stages.py").write_text(STAGES)
    elements = {
        "hosted_pages": (0, ", threads: 4"),
        "own_pages": (1, ", ordered: false"),
        "split_pages": (1, ", deployment: {min_replicas: 1}"),
    }
    with standing.served(
        *HOST,
        *(
            FUNCTION.format(name=name, graph=ELEMENTS.format(more=more), least=least)
            for name, (least, more) in elements.items()
        ),
        FUNCTION.format(name="hosted_lines", graph=ROWS, least=0),
        FUNCTION.format(name="own_lines", graph=ROWS, least=1),
    ):
        yield standing


@pytest.mark.parametrize("name", ["hosted_pages", "own_pages", "split_pages"])
def test_an_element_comes_while_the_next_is_computed(up: Project, name: str, tmp_path: Path):
    """The first is there before the others may be."""
    call = {"count": 3, "folder": str(tmp_path)}
    url = f"{up.url}/v2/models/{name}"
    with httpx.stream("POST", url, json=call, headers=LINES, timeout=60) as response:
        lines = response.iter_lines()
        assert json.loads(next(lines))["read"] == 0
        (tmp_path / "go").touch()
        assert sorted(json.loads(line)["read"] for line in lines) == [10, 20]


@pytest.mark.parametrize("name", ["hosted_lines", "own_lines"])
def test_a_row_comes_while_the_next_is_computed(up: Project, name: str, tmp_path: Path):
    """In a line of its own."""
    rows = [{"n": n, "folder": str(tmp_path)} for n in (0, 1, 2)]
    url = f"{up.url}/v2/models/{name}"
    with httpx.stream("POST", url, json=rows, headers=LINES, timeout=60) as response:
        assert response.headers["content-type"] == "application/x-ndjson"
        lines = response.iter_lines()
        assert json.loads(next(lines)) == {"line": 0}
        (tmp_path / "go").touch()
        assert [json.loads(line)["line"] for line in lines] == [10, 20]
