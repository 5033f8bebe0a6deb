"""Files, streams, elements and stages with threads of their own under `wakeful run --workers` and
`--reload`: as in one process, and what is under way ends well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.deployments.local.running import Run, Shell, shell
from tests.deployments.local.several import HOSTS, serving
from tests.deployments.projects import wait_until

pytestmark = pytest.mark.slow

STAGES = """\
import os, tempfile, time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypedDict

from wakeful import File, MediaType, State

WORD = "one"

def wait_for(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.01)

def draw(size: int) -> Annotated[bytes, MediaType("image/svg+xml")]:
    return WORD.encode() * size

def write(size: int, folder: str) -> Annotated[File, MediaType("text/csv")]:
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
        file.write(WORD * size)
    return File(path=file.name, filename="a.csv", delete=True)

def pages(count: int) -> list[int]:
    return list(range(count))

class Page(TypedDict):
    page: int
    word: str
    pid: int

def read(pages: int, go: str) -> Page:
    if pages:
        wait_for(go)
    return {"page": pages, "word": WORD, "pid": os.getpid()}

def line(n: int, go: str) -> Page:
    return read(n, go)

def waits(go: str, begun: str) -> Page:
    Path(begun).touch()
    return read(1, go)

def items(count: int, go: str, closed: str) -> Iterator[Page]:
    try:
        for n in range(count):
            yield read(n, go)
    finally:
        Path(closed).touch()

class Heard(TypedDict):
    said: str
    pid: int
    seen: int

def follow(said: str, seen: State[int]) -> Iterator[Heard]:
    for n in range(2):
        yield {"said": f"{said} {seen or 0}.{n}", "pid": os.getpid(), "seen": (seen or 0) + 1}
"""

GRAPHS = {
    "draw": '{stage: file, python: "of_a_test:draw"}',
    "write": '{stage: file, python: "of_a_test:write"}',
    "pages": '{stage: pages, python: "of_a_test:pages"}, '
    '{stage: read, python: "of_a_test:read", each: pages, stream: true, threads: 4}',
    "lines": '{stage: line, python: "of_a_test:line"}',
    "waits": '{stage: waits, python: "of_a_test:waits", threads: 4}',
    "items": '{stage: items, python: "of_a_test:items"}',
    "follow": '{stage: follow, python: "of_a_test:follow"}',
}

LINES = {"accept": "application/x-ndjson"}
LARGE = 3_000_000
"""Times that a word stands in a file: more than any buffer on the way."""


def write_project(made: Shell, word: str = "one") -> None:
    """The functions, in the version with this word."""
    (made.folder / "of_a_test.py").write_text(STAGES.replace('"one"', f'"{word}"'))
    file = made.folder / "serve_config.yaml"
    text = "applications:\n" + "".join(
        f"  - name: {name}\n    args:\n      graph: [{graph}]\n"
        + ("      sequences: {}\n" if name == "follow" else "")
        for name, graph in GRAPHS.items()
    )
    if not file.exists() or file.read_text() != text:
        file.write_text(text)


def url(run: Run, name: str) -> str:
    """Of a function."""
    return f"{run.url}/v2/models/{name}"


def post(run: Run, name: str, body: Any, **headers: str) -> httpx.Response:
    """A call on a connection of its own."""
    return httpx.post(url(run, name), json=body, headers=headers, timeout=60)


def rows(answer: httpx.Response) -> list[dict[str, Any]]:
    """Its lines."""
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Two processes."""
    with shell(tmp_path_factory.mktemp("forms")) as made:
        write_project(made)
        with made.serving("--workers", str(HOSTS)) as run:
            assert run.url
            yield run
        assert "Traceback" not in run.log.read_text()


@pytest.mark.full
@pytest.mark.parametrize("name", ["draw", "write"])
def test_a_file_comes_whole_and_in_part_from_any_process(
    workers: Run, name: str, tmp_path: Path
) -> None:
    """Eight parts at once, together the whole; nothing is left on the disk."""
    call = {"size": LARGE, **({"folder": str(tmp_path)} if name == "write" else {})}
    size = 3 * LARGE
    step = size // 8 + 1

    def part(start: int) -> bytes:
        stop = min(size, start + step)
        answer = post(workers, name, call, range=f"bytes={start}-{stop - 1}")
        assert answer.status_code == 206
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
        return answer.content

    with ThreadPoolExecutor(8) as pool:
        whole = pool.submit(post, workers, name, call)
        found = b"".join(pool.map(part, range(0, size, step)))
    assert whole.result().content == found == b"one" * LARGE
    outside = post(workers, name, call, range=f"bytes={size}-")
    assert (outside.status_code, outside.headers["content-range"]) == (416, f"bytes */{size}")
    wait_until(lambda: not list(tmp_path.iterdir()))


@pytest.mark.full
@pytest.mark.parametrize("name", ["pages", "items", "lines"])
def test_items_come_as_they_are_done_from_all_processes(
    workers: Run, name: str, tmp_path: Path
) -> None:
    """Streams of elements, of a generator, and of rows: the first of each before the others may
    be, by each process at once.
    """
    go, closed = tmp_path / "go", tmp_path / "closed"
    body: Any = {"count": 4, "go": str(go)}
    if name == "items":
        body["closed"] = str(closed)
    if name == "lines":
        body = [{"n": n, "go": str(go)} for n in range(4)]
    with ExitStack() as open_streams:
        streams, found = [], []
        for _ in range(HOSTS):
            stream = httpx.stream("POST", url(workers, name), json=body, headers=LINES, timeout=60)
            response = open_streams.enter_context(stream)
            assert response.status_code == 200
            streams.append(response.iter_lines())
            found.append([json.loads(next(streams[-1]))])
        assert not go.exists()
        go.touch()
        for items, lines in zip(found, streams, strict=True):
            items += map(json.loads, lines)
    assert [[item["page"] for item in items] for items in found] == [[0, 1, 2, 3]] * HOSTS
    assert {len({item["pid"] for item in items}) for items in found} == {1}
    assert {items[0]["pid"] for items in found} == set(serving(workers))


@pytest.mark.full
@pytest.mark.parametrize("name", ["items", "pages"])
def test_a_stream_whose_client_leaves_ends_in_its_process(
    workers: Run, name: str, tmp_path: Path
) -> None:
    """Its generator is closed, and its process has no call under way."""
    go, closed = tmp_path / "go", tmp_path / "closed"
    body: dict[str, Any] = {"count": 1000, "go": str(go)}
    if name == "items":
        body["closed"] = str(closed)
    with httpx.stream("POST", url(workers, name), json=body, headers=LINES, timeout=60) as response:
        next(response.iter_lines())
    go.touch()
    if name == "items":
        wait_until(closed.exists)

    def in_flight() -> list[float]:
        page = httpx.get(f"{workers.url}/metrics").text
        sample = rf'wakeful_requests_in_flight{{{{process="run-\d",function="{name}"}}}} (.+)'
        return [float(count) for count in re.findall(sample.format(), page)]

    wait_until(lambda: in_flight() == [0.0] * HOSTS)
    assert len(rows(post(workers, name, {**body, "count": 2}, **LINES))) == 2


@pytest.mark.full
def test_a_sequence_of_streams_stays_in_its_process(workers: Run) -> None:
    """Each of many goes on from what it left."""

    def hear(number: int) -> int:
        named = {"x-sequence-id": f"s{number}", **LINES}
        found = rows(post(workers, "follow", {"said": "a"}, **named, **{"x-sequence-start": "1"}))
        for turn in range(1, 4):
            found += (heard := rows(post(workers, "follow", {"said": "a"}, **named)))
            assert [item["said"] for item in heard] == [f"a {turn}.0", f"a {turn}.1"]
        (pid,) = {item["pid"] for item in found}
        return int(pid)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(hear, range(8))) <= set(serving(workers))


def test_what_is_under_way_at_an_edit_ends_well(tmp_path: Path) -> None:
    """A stream of elements, one of a generator, rows, a file that its client has not read yet and
    a call in a thread of its stage: each as the version before began it, while new calls get the
    edited one. Then the former process is gone, with its threads.
    """
    go, closed, begun = tmp_path / "go", tmp_path / "closed", tmp_path / "begun"
    (folder := tmp_path / "project").mkdir()
    pages = {"count": 4, "go": str(go)}
    bodies: dict[str, Any] = {
        "pages": pages,
        "items": {**pages, "closed": str(closed)},
        "lines": [{"n": n, "go": str(go)} for n in range(4)],
    }
    with shell(folder) as made:
        write_project(made)
        with (
            made.serving("--reload") as run,
            ThreadPoolExecutor(2) as pool,
            ExitStack() as under_way,
        ):

            def open_stream(name: str, body: Any, **headers: str) -> httpx.Response:
                stream = httpx.stream(
                    "POST", url(run, name), json=body, headers=headers, timeout=60
                )
                return under_way.enter_context(stream)

            streams, firsts = {}, {}
            for name, body in bodies.items():
                streams[name] = open_stream(name, body, **LINES).iter_lines()
                firsts[name] = json.loads(next(streams[name]))
            files = [
                open_stream("draw", {"size": LARGE}),
                open_stream("write", {"size": LARGE, "folder": str(tmp_path)}),
            ]
            waiting = pool.submit(post, run, "waits", {"go": str(go), "begun": str(begun)})
            wait_until(begun.exists)
            former = firsts["pages"]["pid"]
            write_project(made, "two")
            wait_until(lambda: post(run, "draw", {"size": 1}).content == b"two")
            assert psutil.pid_exists(former)
            (new,) = rows(post(run, "pages", {**pages, "count": 1}, **LINES))
            assert (new["word"], new["pid"] != former) == ("two", True)
            go.touch()
            for name, lines in streams.items():
                found = [firsts[name], *map(json.loads, lines)]
                assert [item["page"] for item in found] == [0, 1, 2, 3]
                assert {(item["word"], item["pid"]) for item in found} == {("one", former)}
            assert (waiting.result().json()["word"], waiting.result().status_code) == ("one", 200)
            for file in files:
                assert file.status_code == 200
                assert b"".join(file.iter_bytes()) == b"one" * LARGE
            wait_until(lambda: not psutil.pid_exists(former))
            assert closed.exists()
            assert not [one for one in tmp_path.iterdir() if one.name.startswith("tmp")]
        assert "Traceback" not in run.log.read_text()
