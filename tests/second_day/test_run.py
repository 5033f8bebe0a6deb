"""What the terminal of `wakeful run`, `wakeful logs` and `wakeful status` tell of a day's calls."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.deployments.local.running import Run, Shell, shell
from tests.deployments.projects import wait_until

pytestmark = pytest.mark.slow

FILE = """\
applications:
  - name: talks
    args: {graph: [{stage: s, python: "day_of_a_test:talks"}], example: {x: 1}}
  - name: leaks
    args: {graph: [{stage: s, python: "day_of_a_test:leaks"}], example: {x: 0}}
  - name: stuck
    args:
      graph: [{stage: s, python: "day_of_a_test:stuck"}]
      limits: {request_timeout_s: 1}
  - name: blocks
    args: {graph: [{stage: s, python: "day_of_a_test:blocks"}]}
  - name: blocks_while_it_streams
    args: {graph: [{stage: s, python: "day_of_a_test:blocks_while_it_streams"}]}
  - name: prints_much
    args: {graph: [{stage: s, python: "day_of_a_test:prints_much"}]}
  - name: waits_for
    args: {graph: [{stage: s, python: "day_of_a_test:waits_for"}]}
  - name: broken
    args: {graph: [{stage: s, python: "day_of_a_test:Broken"}]}
"""

STAGES = """\
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path

log = logging.getLogger(__name__)
KEPT = []


def talks(x: int) -> int:
    print("printed", x)
    log.info("an info of %d", x)
    log.warning("a warning of %d", x)
    return 1 // x


def leaks(x: int) -> int:
    KEPT.append(bytearray(b"x") * (x * 1_000_000))
    return len(KEPT)


def stuck(x: int) -> int:
    while x:
        time.sleep(0.1)
    return x


async def blocks(x: int) -> int:
    time.sleep(1.5)
    return x


async def blocks_while_it_streams(x: int) -> AsyncIterator[int]:
    for at in range(x):
        time.sleep(1.1)
        yield at


def prints_much(x: int) -> int:
    for _ in range(x):
        print("x" * 200)
    return x


def waits_for(path: str) -> str:
    while path and not Path(path).exists():
        time.sleep(0.02)
    return path


class Broken:
    def __init__(self) -> None:
        raise RuntimeError("no weights")

    def __call__(self, x: int) -> int:
        return x
"""


@pytest.fixture(scope="module")
def day(tmp_path_factory) -> Iterator[Shell]:
    """A project of several functions."""
    with shell(tmp_path_factory.mktemp("day")) as made:
        (made.folder / "serve_config.yaml").write_text(FILE)
        (made.folder / "day_of_a_test.py").write_text(STAGES)
        yield made


@pytest.fixture(scope="module")
def run(day: Shell) -> Iterator[Run]:
    """It serves."""
    with day.serving() as running:
        assert running.url
        yield running


def call(run: Run, path: str, body: object) -> httpx.Response:
    """An answer, whatever it is."""
    return httpx.post(f"{run.url}{path}", json=body, timeout=30)


def test_a_call_that_failed_has_a_line(day: Shell, run: Run) -> None:
    """Refused, failed, or at a path where nothing answers; the other calls have none."""
    assert call(run, "/v2/models/talks", {"x": 5}).status_code == 200
    assert call(run, "/v2/models/talks", {"x": "a"}).status_code == 400
    assert call(run, "/v2/models/talks", {"x": 0}).status_code == 500
    assert httpx.get(f"{run.url}/healthz").status_code == 404
    wait_until(lambda: "GET /healthz 404" in run.log.read_text())
    lines = [line for line in run.log.read_text().splitlines() if re.match(r"(POST|GET) /", line)]
    assert lines[0].startswith("POST /v2/models/talks 400 wrong_datatype: ")
    assert "'a' is given, a string" in lines[0]
    assert lines[1].startswith("POST /v2/models/talks 500 function_failed: ")
    assert lines[2].startswith("GET /healthz 404 not_found: ")
    assert len(lines) == 3
    assert "POST /v2/models/talks 400" in day.run("logs", "talks").stdout


def test_what_stages_print_and_log_is_shown(day: Shell, run: Run) -> None:
    """Warnings with their logger; an INFO is not, unless it is asked for."""
    call(run, "/v2/models/talks", {"x": 7})
    wait_until(lambda: "a warning of 7" in run.log.read_text())
    text = run.log.read_text()
    assert "WARNING day_of_a_test: a warning of 7" in text
    assert "printed 7" in text
    assert "an info" not in text
    logs = day.run("logs", "talks").stdout.splitlines()
    assert any(re.match(r"OUT .* talks \d+ -- printed 7$", line) for line in logs)
    assert any(re.match(r"ERR .* -- WARNING day_of_a_test: a warning of 7$", line) for line in logs)


def test_a_wake_is_no_error(day: Shell, run: Run) -> None:
    """`wakeful logs` has it as output."""
    assert day.run("sleep", "talks").returncode == 0
    call(run, "/v2/models/talks", {"x": 1})
    wait_until(lambda: " woke in " in day.run("logs", "talks").stdout)
    (line,) = [line for line in day.run("logs", "talks").stdout.splitlines() if " woke in " in line]
    assert line.startswith("OUT ")


def test_a_function_that_failed_to_load_is_tried_again_and_only_then_said_to_be(
    day: Shell, run: Run
) -> None:
    """At the start the process may end instead."""
    text = run.log.read_text()
    assert "'broken' did not load" in text
    first = next(line for line in text.splitlines() if "'broken' did not load" in line)
    assert "tried again" not in first
    assert "broken is served as failed; its next call tries to load it again." in text


def test_status_tells_of_the_last_minute_and_of_a_leak(day: Shell, run: Run) -> None:
    """Calls a second, latency, errors; memory that was taken after the load."""

    def entry(name: str) -> dict:
        return json.loads(day.run("status", name, "--json").stdout)

    before = entry("leaks")["memory_bytes"]
    for _ in range(4):
        assert call(run, "/v2/models/leaks", {"x": 20}).status_code == 200
    wait_until(lambda: entry("leaks")["memory_bytes"] > before + 60_000_000)
    minute = entry("leaks")["last_minute"]
    assert (minute["calls"], minute["errors"]) == (4, 0)
    assert minute["calls_per_s"] > 0
    assert minute["p95_ms"] > 0
    assert entry("talks")["last_minute"]["errors"] >= 2
    table = day.run("status").stdout
    assert re.search(r"^function .* MB .* calls/s +p95 +errors +path", table, re.MULTILINE)


def test_a_stage_that_never_returns_takes_no_other_call_with_it(run: Run) -> None:
    """70: the next call is answered, and nothing calls itself ready that is not."""
    assert call(run, "/v2/models/stuck", {"x": 1}).status_code == 504
    wait_until(lambda: call(run, "/v2/models/stuck", {"x": 0}).status_code == 200)


def test_a_coroutine_that_blocks_the_event_loop_is_named(run: Run) -> None:
    """43: every function waits for it, and nothing else says why."""
    assert call(run, "/v2/models/blocks", {"x": 1}).status_code == 200
    wait_until(lambda: "held the event loop for" in run.log.read_text())
    assert "stage 's' of 'blocks'" in run.log.read_text()


def test_a_stream_that_blocks_the_event_loop_is_named(run: Run) -> None:
    """91: as a coroutine is."""
    with httpx.stream(
        "POST", f"{run.url}/v2/models/blocks_while_it_streams", json={"x": 1}, timeout=30
    ) as answer:
        assert 'data: {"s":0}' in answer.read().decode()
    wait_until(lambda: "stage 's' of 'blocks_while_it_streams'" in run.log.read_text())


@pytest.mark.full
def test_a_stage_that_prints_much_is_answered_and_its_log_has_an_end(day: Shell, run: Run) -> None:
    """63: four megabytes, of which `wakeful logs` keeps the last."""
    for _ in range(3):
        assert call(run, "/v2/models/prints_much", {"x": 20_000}).json() == {"s": 20_000}
    assert call(run, "/v2/models/talks", {"x": 8}).status_code == 200
    wait_until(lambda: "printed 8" in day.run("logs", "talks").stdout)
    logs = day.run("logs", "prints_much").stdout
    assert logs.count("x" * 200) >= 10_000
    assert len(logs) < 9 << 20


def test_rows_of_lines_are_answered_as_they_are_done(run: Run, tmp_path: Path) -> None:
    """120: the first one is there while the second waits."""
    file = tmp_path / "done"
    rows = [{"path": ""}, {"path": str(file)}]
    with httpx.stream(
        "POST",
        f"{run.url}/v2/models/waits_for",
        content="\n".join(map(json.dumps, rows)),
        headers={"content-type": "application/x-ndjson", "accept": "application/x-ndjson"},
        timeout=30,
    ) as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines)) == {"s": ""}
        file.touch()
        assert [json.loads(line) for line in lines] == [{"s": str(file)}]


def test_reload_shows_what_stages_log_as_info(day: Shell) -> None:
    """While a function is written; so does the setting."""
    with day.serving("--reload") as running:
        call(running, "/v2/models/talks", {"x": 3})
        wait_until(lambda: "INFO day_of_a_test: an info of 3" in running.log.read_text())
