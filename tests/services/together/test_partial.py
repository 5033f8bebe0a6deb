"""Elements and rows come through HAProxy as they are done: from the host, from a replica of its
own, and from a stage that is split off.
"""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.deployments.projects import Standing
from tests.services.together.declared import ELEMENTS, ROWS

pytestmark = pytest.mark.ray

LINES = {"accept": "application/x-ndjson", "content-type": "application/json"}


@pytest.mark.parametrize("name", ELEMENTS)
def test_an_element_comes_while_the_next_is_computed(up: Standing, name: str, tmp_path: Path):
    """The first is there before the others may be."""
    call = {"count": 3, "folder": str(tmp_path)}
    url = f"{up.url}/v2/models/{name}"
    with httpx.stream("POST", url, json=call, headers=LINES, timeout=60) as response:
        lines = response.iter_lines()
        assert json.loads(next(lines))["read"] == 0
        (tmp_path / "go").touch()
        assert sorted(json.loads(line)["read"] for line in lines) == [10, 20]


@pytest.mark.parametrize("name", ROWS)
def test_a_row_comes_while_the_next_is_computed(up: Standing, name: str, tmp_path: Path):
    """In a line of its own."""
    rows = [{"n": n, "folder": str(tmp_path)} for n in (0, 1, 2)]
    url = f"{up.url}/v2/models/{name}"
    with httpx.stream("POST", url, json=rows, headers=LINES, timeout=60) as response:
        assert response.headers["content-type"] == "application/x-ndjson"
        lines = response.iter_lines()
        assert json.loads(next(lines)) == {"line": 0}
        (tmp_path / "go").touch()
        assert [json.loads(line)["line"] for line in lines] == [10, 20]
