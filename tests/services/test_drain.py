"""The end, and every lesser one: nothing that was accepted is lost when a cluster, a function or a
replica goes.
"""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.deployments.projects import HOST, Project, function, wait_until
from tests.wire import Wire

pytestmark = pytest.mark.ray


CALLERS = 4


class Callers:
    """Callers of one function, each on a connection that is kept for as long as may be; every
    answer is checked, no call repeated.

    Attributes:
        seen: how often each outcome came: ``200``, ``503 draining``, ``refused`` (no connection),
            ``lost: WHY``.
    """

    def __init__(self, project: Project, name: str, count: int = CALLERS) -> None:
        self.seen: Counter[str] = Counter()
        self._project, self._path = project, f"/v2/models/{name}"
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._call, args=(index,)) for index in range(count)
        ]

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
        while not self._is_over.wait(0.03):
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
    call = {
        "url": f"{project.url}/v2/models/held",
        "json": {"begun": str(begun), "go": str(go)},
        "timeout": 30,
    }
    thread = threading.Thread(target=lambda: answers.append(httpx.post(**call).status_code))
    thread.start()
    wait_until(begun.exists)
    return thread


def streamed(project: Project, folder: Path, items: list[int]) -> threading.Thread:
    """A stream of three items, of which the first has come when this returns; the others come when
    ``go`` is in the folder.
    """

    def read() -> None:
        call = {"to": 3, "folder": str(folder)}
        lines = {"accept": "application/x-ndjson"}
        url = f"{project.url}/v2/models/drip"
        with httpx.stream("POST", url, json=call, headers=lines, timeout=60) as response:
            for line in response.iter_lines():
                items.append(json.loads(line)["n"])

    thread = threading.Thread(target=read)
    thread.start()
    wait_until(lambda: items == [0])
    return thread


def test_down_loses_nothing(project):
    """Readiness fails first, a call in flight and one that waits for a wake are answered, a stream
    comes to its end, what is new is refused in our form, and then the port is closed; another
    `down` meanwhile is told to wait.
    """
    project.declare(
        *HOST,
        function("say"),
        function("held", "stages_of_a_test:held"),
        function("late", "stages_of_a_test:Late", least=0),
        function("drip", "stages_of_a_test:drip"),
    )
    assert project.run("up", "--detach").returncode == 0
    go, answers, items = project.folder / "go", [], []
    with Callers(project, "say") as callers:
        caller = held(project, project.folder / "begun", go, answers)
        stream = streamed(project, project.folder / "s", items)
        waking = threading.Thread(
            target=lambda: answers.append(
                httpx.post(
                    f"{project.url}/v2/models/late", json={"name": "x"}, timeout=30
                ).status_code
            )
        )
        waking.start()
        wait_until(
            lambda: (
                httpx.get(f"{project.url}/functions/late", timeout=60).json()["state"] == "waking"
            )
        )
        with project.start("down") as down:
            wait_until(
                lambda: httpx.get(f"{project.url}/v2/health/ready", timeout=60).status_code == 503
            )
            again = project.run("down")
            assert again.returncode == 1
            assert "starts or stops the cluster. Wait for it." in again.stderr
            assert down.poll() is None
            waking.join()
            assert items == [0]
            go.touch()
            (project.folder / "s" / "go").touch()
            caller.join()
            stream.join()
            assert down.wait(30) == 0, down.stderr.read()
        wait_until(lambda: callers.seen["refused"] > 0)
    assert (answers, items) == ([200, 200], [0, 1, 2])
    # by the kernel, in the moment the port closes
    resets = [outcome for outcome in callers.seen if "ConnectionResetError" in outcome]
    assert sum(callers.seen[outcome] for outcome in resets) <= CALLERS, callers.seen
    assert set(callers.seen) - set(resets) == {"200", "503 draining", "refused"}, callers.seen
    assert project.is_clean()


@pytest.mark.full
def test_a_second_signal_ends_up_at_once(project):
    """While a call is in flight that would hold it for long; no process is left."""
    project.declare(function("held", "stages_of_a_test:held"))
    with project.start("up") as up:
        try:
            assert any(line.startswith("Ctrl-C") for line in up.stdout), up.stderr.read()
            with closing(Wire(project.port)) as caller:
                caller.send(
                    (
                        "POST",
                        "/v2/models/held",
                        {"begun": str(project.folder / "begun"), "go": "/nowhere"},
                    )
                )
                wait_until((project.folder / "begun").exists)
                up.send_signal(signal.SIGTERM)
                assert any("draining" in line for line in up.stderr)
                up.send_signal(signal.SIGTERM)
                assert up.wait(15) == 130
        finally:
            up.kill()
    assert project.is_clean()
