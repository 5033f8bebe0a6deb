"""What the tests of this folder call."""

from __future__ import annotations

STAGES = """\
import asyncio
import os
import tempfile
import time
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
      graph: [{graph}]
      autoscaling: {{min_replicas: {least}, max_replicas: 1}}
"""

SIZE = '{stage: size, python: "answers_of_a_test:size"}'
DRAWN = '{{stage: file, python: "answers_of_a_test:draw"{}}}'
PAGES = '{stage: pages, python: "answers_of_a_test:pages"}'
READ = '{{stage: read, python: "answers_of_a_test:read", each: pages, stream: true{}}}'
LINE = '{stage: line, python: "answers_of_a_test:line"}'
PART = ", deployment: {min_replicas: 1}"
DRIP = "stages_of_a_test:drip"

FILES = {
    "drawn_hosted": (0, f"{SIZE}, {DRAWN.format('')}"),
    "drawn_own": (1, f"{SIZE}, {DRAWN.format('')}"),
    "drawn_split": (0, f"{SIZE}, {DRAWN.format(PART)}"),
    "drawn_by_a_call": (
        0,
        f"{SIZE}, {{stage: file, function: drawn_own, inputs: {{count: size}}}}",
    ),
    "written_hosted": (0, f'{SIZE}, {{stage: file, python: "answers_of_a_test:write"}}'),
}
"""Answers that are files: replicas at least, and the stages."""

ELEMENTS = {
    "pages_hosted": (0, f"{PAGES}, {READ.format(', threads: 4')}"),
    "pages_own": (1, f"{PAGES}, {READ.format(', ordered: false')}"),
    "pages_split": (0, f"{PAGES}, {READ.format(PART)}"),
}
ROWS = {"lines_hosted": (0, LINE), "lines_own": (1, LINE)}
