"""The end, and every lesser one: nothing that was accepted is lost when a cluster, a function or a replica goes."""

from __future__ import annotations

import json
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from deployments import ports, processes
from tests.deployments.projects import HOST, STAGES, Project, function, wait_until
from tests.wire import Wire

pytestmark = pytest.mark.ray

MORE_STAGES = """
class Late:
    def __init__(self):
        time.sleep(1)

    def __call__(self, name: str) -> dict[str, str]:
        return say(name)


def held(begun: str, go: str) -> dict[str, str]:
    open(begun, "w").close()
    while not os.path.exists(go):
        time.sleep(0.01)
    return {"said": begun}
"""


@contextmanager
def made(folder: Path) -> Iterator[Project]:
    """A project; whatever it leaves is ended."""
    (folder / "stages_of_a_test.py").write_text(STAGES + MORE_STAGES)
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as short:
        project = Project(folder, short, ports.free("127.0.0.1", 8000))
        try:
            yield project
        finally:
            processes.end(project.home.path)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """With the stages of this module."""
    with made(tmp_path) as project:
        yield project


class Callers:
    """Callers of one function, each on a connection that he keeps for as long as he may; every answer is checked, no call repeated.

    Attributes:
        seen: how often each outcome came: ``200``, ``503 draining``, ``refused`` (no connection), ``lost: WHY``.
    """

    def __init__(self, project: Project, name: str, count: int = 4) -> None:
        self.seen: Counter[str] = Counter()
        self._project, self._path = project, f"/v2/models/{name}"
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(index,)) for index in range(count)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: self.seen["200"] > 50)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(30)

    def _call(self, index: int) -> None:
        wire: Wire | None = None
        while not self._is_over.wait(0.002):
            try:
                wire = wire or Wire(self._project.port)
            except ConnectionRefusedError:
                self.seen["refused"] += 1
                continue
            name = f"{index} {self.seen.total()}"
            try:
                status, headers, body = wire.ask("POST", self._path, {"name": name})
            except (OSError, IndexError) as error:  # reset, or closed without an answer
                self.seen[f"lost: {error!r}"] += 1
                status, headers, body = 0, {"connection": "close"}, b""
            if status == 200:
                self.seen["200" if json.loads(body)["said"] == name else "wrong"] += 1
            elif status:
                self.seen[f"{status} {json.loads(body)['code']}"] += 1
            if headers.get("connection") == "close":
                wire.close()
                wire = None
        if wire is not None:
            wire.close()


def held(project: Project, begun: Path, go: Path, answers: list[int]) -> threading.Thread:
    """A call that stays in flight until ``go`` exists; it has begun when this returns."""
    call = {"url": f"{project.url}/v2/models/held", "json": {"begun": str(begun), "go": str(go)}, "timeout": 30}
    thread = threading.Thread(target=lambda: answers.append(httpx.post(**call).status_code))
    thread.start()
    wait_until(begun.exists)
    return thread


def test_down_loses_nothing(project):
    """Readiness fails first, a call in flight and one that waits for a wake are answered, what is new is refused in our form, and then
    the port is closed; another `down` meanwhile is told to wait."""
    project.declare(*HOST, function("say"), function("held", "stages_of_a_test:held"), function("late", "stages_of_a_test:Late", least=0))
    assert project.run("up", "--detach").returncode == 0
    go, answers = project.folder / "go", []
    with Callers(project, "say") as callers:
        caller = held(project, project.folder / "begun", go, answers)
        waking = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{project.url}/v2/models/late", json={"name": "x"}).status_code)
        )
        waking.start()
        wait_until(lambda: httpx.get(f"{project.url}/functions/late").json()["state"] == "waking")
        with project.start("down") as down:
            wait_until(lambda: httpx.get(f"{project.url}/v2/health/ready").status_code == 503)
            again = project.run("down")
            assert again.returncode == 1
            assert "starts or stops the cluster. Wait for it." in again.stderr
            assert down.poll() is None
            waking.join()
            go.touch()
            caller.join()
            assert down.wait(30) == 0, down.stderr.read()
        wait_until(lambda: callers.seen["refused"] > 0)
    assert answers == [200, 200]
    assert set(callers.seen) == {"200", "503 draining", "refused"}, callers.seen
    assert project.is_clean()


def test_a_second_signal_ends_up_at_once(project):
    """While a call is in flight that would hold it for long; no process is left."""
    project.declare(function("held", "stages_of_a_test:held"))
    with project.start("up") as up:
        try:
            assert any(line.startswith("Ctrl-C") for line in up.stdout), up.stderr.read()
            with closing(Wire(project.port)) as caller:
                caller.send(("POST", "/v2/models/held", {"begun": str(project.folder / "begun"), "go": "/nowhere"}))
                wait_until((project.folder / "begun").exists)
                up.send_signal(signal.SIGTERM)
                assert any("draining" in line for line in up.stderr)
                up.send_signal(signal.SIGTERM)
                assert up.wait(15) == 130
        finally:
            up.kill()
    assert project.is_clean()


@pytest.fixture(scope="module")
def busy(tmp_path_factory) -> Iterator[Project]:
    """Up, with one function of two replicas and two of one."""
    with made(tmp_path_factory.mktemp("busy")) as project:
        project.declare(*HOST, function("two", least=2, scaling=", max_replicas: 2"), function("stays"), function("goes"))
        assert project.run("up", "--detach").returncode == 0
        yield project
        assert project.run("down").returncode == 0


def test_a_replica_that_goes_loses_nothing(busy):
    """Two become one under callers who keep their connections."""
    with Callers(busy, "two") as callers:
        file = busy.folder / "serve_config.yaml"
        file.write_text(file.read_text().replace("{min_replicas: 2, max_replicas: 2}", "{min_replicas: 1, max_replicas: 1}"))
        assert busy.run("up", "--detach").returncode == 0
        wait_until(lambda: len(processes.named(busy.home.path, "ray::ServeReplica:two")) == 1)
        before = callers.seen["200"]
        wait_until(lambda: callers.seen["200"] > before + 50)
    assert set(callers.seen) == {"200"}, callers.seen


def test_a_function_that_goes_loses_nothing(busy):
    """Its callers are answered until they are told, in our form, that there is none; those of others do not notice."""
    with Callers(busy, "goes") as leaving, Callers(busy, "stays") as staying:
        assert busy.run("down", "goes").returncode == 0
        wait_until(lambda: leaving.seen["404 not_found"] > 50)
        before = staying.seen["200"]
        wait_until(lambda: staying.seen["200"] > before + 50)
    assert set(leaving.seen) == {"200", "404 not_found"}, leaving.seen
    assert set(staying.seen) == {"200"}, staying.seen
