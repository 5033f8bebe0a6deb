"""Sequences on Ray: a sequence stays on its replica while others come and go; what is lost with a
process is said, never made up.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.deployments.projects import HOST, Project, Standing, state, wait_until

pytestmark = pytest.mark.ray

STAGES = """\
import os
from typing import TypedDict

from wakeful import State

class Added(TypedDict):
    sum: int
    pid: int
    kept: int

class Add:
    def __init__(self, version: int) -> None:
        self.version = version

    def __call__(self, n: int, kept: State[int]) -> Added:
        total = (kept or 0) + n
        return {"sum": total, "pid": os.getpid(), "kept": total}
"""

FUNCTION = """\
  - name: {name}
    route_prefix: /v2/models/{name}
    import_path: deployments:function
    args:
      graph: [{{stage: add, python: "sums_of_a_test:Add", with: {{version: {version}}}}}]
      sequences: {{idle_timeout_s: 120}}
      resources: {{num_cpus: 0.3}}
      autoscaling: {{min_replicas: {least}, max_replicas: 3, downscale_to_zero_delay_s: 600}}
"""


def function(name: str, *, least: int, version: int = 1) -> str:
    """Its entry in the file."""
    return FUNCTION.format(name=name, least=least, version=version)


class Adding:
    """Sequences that add up: each call brings 1, and knows what must come of it.

    Attributes:
        sums: of each sequence that lives, and the process that has it.
    """

    def __init__(self, project: Project, name: str) -> None:
        self.url = f"{project.url}/v2/models/{name}"
        self.sums: dict[str, tuple[int, int]] = {}
        self._client = httpx.Client(timeout=30)

    def __enter__(self) -> Adding:
        return self

    def __exit__(self, *of: object) -> None:
        self._client.close()

    def call(self, identity: str, *, starts: bool = False, by_tensors: bool = False) -> int:
        """Its status; an answer is checked to be the right one."""
        if by_tensors:
            data = {"inputs": [{"name": "n", "datatype": "INT64", "shape": [1], "data": [1]}]}
            answer = self._client.post(
                f"{self.url}/infer",
                json={**data, "parameters": {"sequence_id": identity, "sequence_start": starts}},
            )
        else:
            headers = {"x-sequence-id": identity, "x-sequence-start": str(int(starts))}
            answer = self._client.post(self.url, json={"n": 1}, headers=headers)
        if answer.status_code == 200:
            got = answer.json()
            if by_tensors:
                got = {output["name"]: output["data"][0] for output in got["outputs"]}
            before = 0 if starts else self.sums[identity][0]
            assert got["sum"] == before + 1, "an answer that was made up"
            self.sums[identity] = got["sum"], got["pid"]
        else:
            assert (answer.status_code, answer.json()["code"]) == (409, "sequence_unknown"), (
                answer.text
            )
        return answer.status_code

    def go_on(self, **how: Any) -> set[str]:
        """A call of each; those that were lost."""
        return {identity for identity in list(self.sums) if self.call(identity, **how) == 409}

    def pids(self) -> set[int]:
        """The processes that have some."""
        return {pid for _, pid in self.sums.values()}


def replicas(project: Project) -> int:
    """Of `own`, as the catalogue says; a command takes half a second of a core."""
    with httpx.Client(base_url=project.url, timeout=30) as client:
        return int(state(client, "own")["replicas"])


@pytest.fixture(scope="module")
def project(standing: Standing) -> Iterator[Project]:
    """A function with two replicas, and one in the host."""
    (standing.folder / "sums_of_a_test.py").write_text(STAGES)
    with standing.served(*HOST, function("own", least=2), function("rare", least=0)):
        with Adding(standing, "own") as adding:
            wait_until(  # HAProxy knows both replicas
                lambda: (
                    adding.call(f"first-{len(adding.sums)}", starts=True) == 200
                    and len(adding.pids()) == 2
                )
            )
        yield standing


@pytest.mark.parametrize("by_tensors", [False, True])
def test_a_sequence_stays_on_its_replica(project, by_tensors):
    """By headers and by the parameters of v2; both replicas have some."""
    with Adding(project, "own") as adding:
        for number in range(24):
            assert (
                adding.call(f"stays-{by_tensors}-{number}", starts=True, by_tensors=by_tensors)
                == 200
            )
        assert len(adding.pids()) == 2
        for _ in range(4):
            assert adding.go_on(by_tensors=by_tensors) == set()


def test_what_a_dead_replica_kept_is_lost_and_said_and_nothing_else_is(project):
    """409 for its sequences, which begin again elsewhere; those of the other replica go on, while
    HAProxy is reloaded around them.
    """
    with Adding(project, "own") as adding:
        for number in range(24):
            adding.call(f"dies-{number}", starts=True)
        victim = min(adding.pids())
        doomed = {identity for identity, (_, pid) in adding.sums.items() if pid == victim}
        os.kill(victim, signal.SIGKILL)
        assert adding.go_on() == doomed
        for identity in doomed:
            assert adding.call(identity, starts=True) == 200
        while replicas(project) < 2:
            assert adding.go_on() == set()
        for _ in range(10):
            assert adding.go_on() == set()


def test_sequences_stay_when_replicas_are_added(project):
    """Another one starts, and HAProxy is replaced by one that knows it; also those stay that begin
    meanwhile.
    """
    with Adding(project, "own") as adding:
        for number in range(24):
            adding.call(f"grows-{number}", starts=True)
        project.declare(*HOST, function("own", least=3), function("rare", least=0))
        growing = project.start("up", "--detach")
        while growing.poll() is None:
            assert adding.call(f"grown-{len(adding.sums)}", starts=True) == 200
            assert adding.go_on() == set()
        growing.communicate()
        while replicas(project) < 3:
            assert adding.go_on() == set()
        for _ in range(10):
            assert adding.go_on() == set()


def test_a_new_version_knows_nothing_of_what_the_one_before_kept(project):
    """In the host, where the function lives as long as its sequences do."""
    with Adding(project, "rare") as adding:
        assert adding.call("old", starts=True) == 200
        assert adding.go_on() == set()
        wait_until(lambda: "rare keeps 1 sequence" in project.run("status").stdout)
        project.declare(*HOST, function("own", least=3), function("rare", least=0, version=2))
        assert project.run("up", "--detach").returncode == 0
        assert adding.go_on() == {"old"}
        assert adding.call("old", starts=True) == 200
