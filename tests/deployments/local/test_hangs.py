"""A `wakeful run` whose stages hang: it serves on, and where it cannot, it ends so that it is started
again. Real hangs in a real process, in which half a minute is half a second, and two minutes of a
load are one.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.local.hang_records import MOST_ENDS
from runtime.http.server import HUNG
from tests.deployments.local.running import Run, Shell, shell
from tests.deployments.projects import wait_until

pytestmark = pytest.mark.slow

STAGES = """\
import asyncio, os, threading, time
from collections.abc import AsyncIterator, Iterator

LOCK = threading.Lock()
GO = os.path.join(os.path.dirname(__file__), "go")

def loop(how: str) -> dict[str, str]:
    while how == "hang" and not os.path.exists(GO):
        pass
    return {"said": how}

def sleep(how: str) -> dict[str, str]:
    if how == "hang":
        time.sleep(1e9)
    return {"said": how}

def module_lock(how: str) -> dict[str, str]:
    with LOCK:
        if how == "hang":
            LOCK.acquire()
    return {"said": how}

class Locked:
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, how: str) -> dict[str, str]:
        with self.lock:
            if how == "hang":
                self.lock.acquire()
        return {"said": how}

class Constructs:
    def __init__(self) -> None:
        loop("hang")

    def __call__(self, how: str) -> dict[str, str]:
        return {"said": how}

def native(how: str) -> dict[str, str]:
    import numpy as np
    while how == "hang" and not os.path.exists(GO):
        np.linalg.svd(np.ones((200, 200)))
    return {"said": how}

def parts(how: str) -> list[str]:
    return [how, "fine"]

def each(parts: str) -> dict[str, str]:
    return loop(parts)

async def forever(how: str) -> dict[str, str]:
    if how == "hang":
        await asyncio.get_running_loop().create_future()
    return {"said": how}

async def blocks(how: str) -> dict[str, str]:
    if how == "hang":
        time.sleep(1.5)
    while how == "for good":
        time.sleep(0.1)
    return {"said": how}

def items(how: str) -> Iterator[dict[str, str]]:
    yield {"said": "first"}
    if how == "hang":
        time.sleep(1e9)
    yield {"said": how}
"""

FUNCTION = """\
  - name: {name}
    route_prefix: /v2/models/{name}
    import_path: deployments:function
    args:
      graph: [{graph}]
      limits: {{request_timeout_s: {timeout_s}{more}}}
"""

FAST = """\
import sys
from runtime.batching.health import hangs, loop_watch
hangs.HUNG_S = loop_watch.HUNG_S = 0.5
from runtime.library import entry
from runtime.library import eviction
entry.LOAD_HUNG_S, eviction.UNKNOWN_WAIT_S = 1.0, 0.5
from deployments.cli import main
sys.argv[0] = "wakeful"
main()
"""


def declared(name: str, graph: str = "", timeout_s: float = 0.5, more: str = "") -> str:
    """A function with one stage of ``STAGES``, or with this graph."""
    stage = graph or f'{{stage: {name}, python: "hangs_of_a_test:{name}"}}'
    return FUNCTION.format(name=name.replace("_", "-"), graph=stage, timeout_s=timeout_s, more=more)


FAN_OUT = (
    '{stage: parts, python: "hangs_of_a_test:parts"}, '
    '{stage: inner, python: "hangs_of_a_test:each", each: parts}'
)


@contextmanager
def serving(made: Shell, *functions: str) -> Iterator[Run]:
    """These, in a run in which half a minute is half a second; it may end by itself."""
    (made.folder / "hangs_of_a_test.py").write_text(STAGES)
    (made.folder / "go").unlink(missing_ok=True)
    (made.folder / "serve_config.yaml").write_text(
        'applications:\n  - {name: catalogue, route_prefix: /, import_path: "deployments:catalogue"}\n'
        + "".join(functions)
    )
    log = made.folder / "run.log"
    with log.open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-c", FAST, "run", "--port", "0", "--json"],
            cwd=made.folder,
            env=made.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
        )
    run = Run(process, log)
    reader = threading.Thread(target=run.read, daemon=True)
    reader.start()
    try:
        yield run
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(60)
        reader.join(10)


def post(run: Run, name: str, how: str, timeout: float = 30.0) -> httpx.Response:
    """A call."""
    return httpx.post(f"{run.url}/v2/models/{name}", json={"how": how}, timeout=timeout)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Shell]:
    """A project."""
    with shell(tmp_path) as one:
        yield one


HANGING = ("loop", "sleep", "Locked", "native", "inner")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One process of functions that hang, each in its way, and a neighbour."""
    functions = [declared(name, FAN_OUT if name == "inner" else "") for name in HANGING]
    with (
        shell(tmp_path_factory.mktemp("hangs")) as made,
        serving(made, *functions, declared("module_lock", timeout_s=5)) as running,
    ):
        yield running


def entry(run: Run, name: str) -> dict[str, Any]:
    """What the index says of a function."""
    functions = httpx.get(f"{run.url}/").json()["functions"]
    return next(one for one in functions if one["name"] == name)


@pytest.mark.parametrize("name", HANGING)
def test_the_next_call_of_a_function_that_hangs_is_answered(run: Run, name: str) -> None:
    """Its caller gets 504, which says what it is; the next one is answered, and so is that of its
    neighbour. The log has the stage once, with its line; the function is ready. A thread that comes
    back is forgotten.
    """
    go = run.log.parent / "go"
    go.unlink(missing_ok=True)
    assert post(run, name, "fine").status_code == 200
    hung = post(run, name, "hang")
    assert hung.status_code == 504
    assert "Stage '" in hung.text
    assert "less busy" not in hung.text
    began = time.monotonic()
    assert post(run, name, "fine", timeout=5).status_code == 200
    print(f"{name}: the next call after {time.monotonic() - began:.3f} s")
    assert post(run, "module-lock", "fine").status_code == 200
    wait_until(lambda: f"of '{name}' has not returned" in run.log.read_text())
    ready = httpx.get(f"{run.url}/v2/health/ready")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "failed": []})
    shown = entry(run, name)
    assert (shown["state"], "not returned" in shown["reason"]) == ("ready", True)
    log = run.log.read_text()
    assert log.count(f"of '{name}' has not returned") == 1
    assert re.search(rf"of '{name}' has not .*\n  hangs_of_a_test\.py:\d+, in ", log)
    metrics = httpx.get(f"{run.url}/metrics").text
    assert f'wakeful_hangs_total{{function="{name}"}} 1' in metrics
    go.touch()
    if name not in ("sleep", "Locked"):
        wait_until(lambda: not entry(run, name)["reason"])


@pytest.mark.full
def test_a_function_whose_load_hangs_is_told_of_and_the_others_are_served(made: Shell) -> None:
    """Its calls are refused at once, with the reason; the log has its stack. When it has loaded
    after all, it is ready.
    """
    with serving(made, declared("Constructs"), declared("loop")) as run:
        assert post(run, "loop", "fine").status_code == 200
        refused = post(run, "Constructs", "fine")
        assert (refused.status_code, refused.json()["code"]) == (503, "load_failed")
        assert "its load has not ended" in refused.json()["error"]
        ready = httpx.get(f"{run.url}/v2/models/Constructs/ready")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        server = httpx.get(f"{run.url}/v2/health/ready")
        assert (server.status_code, server.json()["failed"]) == (503, ["Constructs"])
        assert "its load has not ended" in made.run("status", "Constructs", "--why").stdout
        assert re.search(r"has not returned.*\n  hangs_of_a_test\.py:\d+, in ", run.log.read_text())
        (made.folder / "go").touch()
        wait_until(lambda: post(run, "Constructs", "fine").status_code == 200)
        assert httpx.get(f"{run.url}/v2/health/ready").status_code == 200


@pytest.mark.full
def test_a_function_that_always_hangs_ends_the_process(made: Shell) -> None:
    """Its calls hang one after another: it is failed, the process drains, and its exit status makes a
    supervisor start it again. After the fourth time the function is quarantined, and its neighbour
    is served.
    """
    functions = declared("module_lock"), declared("sleep", timeout_s=10)
    with serving(made, *functions) as run:
        assert post(run, "module-lock", "hang").status_code == 504
        while run.process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                post(run, "module-lock", "fine", timeout=5)
                assert post(run, "sleep", "fine").status_code in (200, 503)
        assert run.process.wait(30) == HUNG
        assert f"status {HUNG}" in run.log.read_text()
    (hangs,) = Path(made.short).glob("*/hangs.json")
    ((label, ends),) = json.loads(hangs.read_text()).items()
    hangs.write_text(json.dumps({label: ends * MOST_ENDS}))
    with serving(made, *functions) as run:
        assert post(run, "sleep", "fine").status_code == 200
        refused = post(run, "module-lock", "fine")
        assert (refused.status_code, refused.json()["code"]) == (503, "quarantined")
        ready = httpx.get(f"{run.url}/v2/health/ready")
        assert (ready.status_code, ready.json()["failed"]) == (503, ["module-lock"])
        assert "did not return" in ready.json()["reasons"]["module-lock"]
        assert httpx.get(f"{run.url}/v2/health/live").status_code == 200
        assert "did not return" in made.run("status", "module-lock", "--why").stdout


def test_a_coroutine_that_waits_for_ever_ends_with_its_call(made: Shell) -> None:
    """It holds no worker, and no one else."""
    with serving(made, declared("forever", timeout_s=1.5)) as run:  # in which it is to answer, too
        hung = post(run, "forever", "hang")
        assert hung.status_code == 504
        assert "'forever'" in hung.text
        assert post(run, "forever", "fine").status_code == 200


@pytest.mark.full
def test_a_coroutine_that_blocks_the_loop_is_named(made: Shell) -> None:
    """With its line, and for how long it did."""
    with serving(made, declared("blocks", timeout_s=5)) as run:
        assert post(run, "blocks", "hang").status_code == 200
        wait_until(lambda: "held the event loop for" in run.log.read_text())
        log = run.log.read_text()
        assert "'blocks'" in log
        assert "time.sleep(1.5)" in log


@pytest.mark.full
def test_a_coroutine_that_never_lets_go_of_the_loop_ends_the_process(made: Shell) -> None:
    """Nothing can be answered any more, and its supervisor starts it again."""
    with serving(made, declared("blocks", timeout_s=1)) as run:
        with pytest.raises(httpx.HTTPError):
            post(run, "blocks", "for good", timeout=20)
        assert run.process.wait(30) == HUNG
        log = run.log.read_text()
        assert "has held the event loop" in log
        assert "time.sleep(0.1)" in log


@pytest.mark.full
def test_a_stream_that_hangs_between_two_items_gives_its_worker_back(made: Shell) -> None:
    """By ``item_timeout_s``, long before the whole stream's time is over."""
    more = ", item_timeout_s: 2"
    with serving(made, declared("items", timeout_s=60, more=more)) as run:
        hung = post(run, "items", "hang")
        assert "item_timeout_s" in hung.text
        began = time.monotonic()
        assert '"fine"' in post(run, "items", "fine", timeout=10).text
        assert time.monotonic() - began < 10


def test_in_one_of_several_processes_the_next_call_is_answered_too(tmp_path: Path) -> None:
    """Whose records of what each thread runs have a place for the thread that takes over."""
    with shell(tmp_path) as made:
        made.more["WAKEFUL_WORKERS"] = "2"
        with serving(made, declared("sleep")) as run:
            for _ in range(2):
                assert post(run, "sleep", "hang").status_code == 504
                assert post(run, "sleep", "fine", timeout=5).status_code == 200
            assert "Traceback" not in run.log.read_text()
            run.process.terminate()
            run.process.wait(30)
