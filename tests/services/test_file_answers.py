"""Answers that are files come through HAProxy as they are: from the host, from a replica of its own,
from a stage that is split off, and from a function that another calls over HTTP.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.deployments.projects import HOST, Project, Standing

pytestmark = pytest.mark.ray

STAGES = """
import tempfile
from typing import Annotated

from wakeful import File, MediaType

def size(count: int) -> int:
    return count

def draw(size: int) -> Annotated[bytes, MediaType("image/svg+xml")]:
    return b"<" * size

def write(size: int, folder: str) -> Annotated[File, MediaType("text/csv")]:
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
        file.write("<" * size)
    return File(path=file.name, filename="a.csv", delete=True)
"""

FUNCTION = """\
  - name: {name}
    route_prefix: /v2/models/{name}
    import_path: deployments:function
    args:
      graph:
        - {first}
        - {last}
      autoscaling: {{min_replicas: {least}, max_replicas: 1}}
"""

SIZE = '{stage: size, python: "file_stages:size"}'
DRAWN = '{{stage: file, python: "file_stages:draw"{}}}'
WRITTEN = '{stage: file, python: "file_stages:write"}'

FUNCTIONS = {
    "hosted_draw": (0, DRAWN.format("")),
    "own_draw": (1, DRAWN.format("")),
    "split_draw": (1, DRAWN.format(", deployment: {min_replicas: 1}")),
    "calls_draw": (0, "{stage: file, function: own_inner, inputs: {size: size}}"),
    "hosted_write": (0, WRITTEN),
    "own_write": (1, WRITTEN),
}
"""Replicas at least, and the last stage."""

LARGE = 3_000_000
"""Bytes: more than any buffer on the way."""


@pytest.fixture(scope="module")
def up(standing: Standing) -> Iterator[Project]:
    """Up, with all of them."""
    (standing.folder / "file_stages.py").write_text(STAGES)
    inner = FUNCTION.format(name="own_inner", first=DRAWN.format(""), last=SIZE, least=1)
    inner = inner.replace(f"        - {SIZE}\n", "")
    with standing.served(
        *HOST,
        inner,
        *(
            FUNCTION.format(name=name, first=SIZE, last=last, least=least)
            for name, (least, last) in FUNCTIONS.items()
        ),
    ):
        yield standing


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_answer_is_the_file(up: Project, name: str, tmp_path: Path):
    """Whole, in part, and as text in JSON; a temporary file is gone afterwards."""
    is_written = name.endswith("write")
    call = {"count": LARGE, **({"folder": str(tmp_path)} if is_written else {})}
    with httpx.Client(base_url=up.url, timeout=60) as client:
        url = f"/v2/models/{name}"
        whole = client.post(url, json=call)
        assert (whole.status_code, whole.headers["content-type"].partition(";")[0]) == (
            200,
            "text/csv" if is_written else "image/svg+xml",
        )
        assert whole.content == b"<" * LARGE
        part = client.post(url, json=call, headers={"range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, b"<" * 10)
        assert part.headers["content-range"] == f"bytes 10-19/{LARGE}"
        text = client.post(url, json={**call, "count": 3}, headers={"accept": "application/json"})
        assert text.json() == {"file": b64encode(b"<<<").decode()}
    assert list(tmp_path.iterdir()) == []
