"""`wakeful up` on a file that changed, while callers call: a function that changed is replaced once
its successor is warm, and no other is touched.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import httpx
import psutil
import pytest

from tests.deployments.projects import HOST, Project, Standing, state, wait_until
from tests.steady import Callers

pytestmark = pytest.mark.ray

STAGES = '''\
import os, sys, time

class Versioned:
    """Answers with its version; ``fails_in`` says where it does not construct: ``host``, ``own`` or
    both.
    """

    def __init__(self, version: int, fails_in: str = "") -> None:
        self.version = version
        if "ray" in sys.modules and sys.modules["ray"].is_initialized():
            from ray import serve
            if ("host" if serve.get_replica_context().app_name == "host" else "own") in fails_in:
                raise ValueError(f"version {version} is not for this machine")

    def __call__(self, ms: int) -> dict[str, int]:
        until = time.perf_counter() + ms / 1000
        while time.perf_counter() < until:
            pass
        return {"version": self.version, "pid": os.getpid()}
'''

FUNCTION = """\
  - name: {name}
    route_prefix: /v2/models/{name}
    import_path: deployments:function
    args:
      graph: [{{stage: s, python: "versions_of_a_test:Versioned", with: {{version: {version}, fails_in: "{fails_in}"}}{split}}}]
      autoscaling: {{min_replicas: {least}, downscale_to_zero_delay_s: 600{scaling}}}
      {more}
"""

TUNED = """\
limits: {request_timeout_s: 11, max_ongoing_requests: 40, max_queued_requests: 9}
      batching: {max_batch_size: 4}
      slo: {latency_p95_ms: 500}"""


def function(
    name: str,
    version: int = 1,
    *,
    fails_in: str = "",
    least: int = 1,
    scaling: str = "",
    more: str = "",
    part: int | None = None,
) -> str:
    """Its entry in the file; ``part``: least replicas of its stage, which is split off."""
    split = "" if part is None else f", deployment: {{min_replicas: {part}}}"
    return FUNCTION.format(
        name=name,
        version=version,
        fails_in=fails_in,
        least=least,
        scaling=scaling,
        more=more,
        split=split,
    )


class Served:
    """A project that is up, and what its file declares.

    Attributes:
        functions: entries of the file, by name.
    """

    def __init__(self, project: Project, functions: dict[str, str]) -> None:
        self.project = project
        self.functions = functions

    def apply(self, *, fails: str = "", **changed: str) -> None:
        """Applies the file with some functions changed; ``fails``: the command says so, and exits
        with 1.
        """
        self.project.declare(*HOST, *{**self.functions, **changed}.values())
        outcome = self.project.run("up", "--detach")
        assert outcome.returncode == (1 if fails else 0), outcome.stderr
        assert fails in outcome.stderr
        if not fails:
            self.functions |= changed

    def callers(self, *names: str, ms: int = 0) -> Callers:
        """Steady callers of some of the functions."""
        return Callers(self.project.port, names, ms)


@pytest.fixture(scope="module")
def served(standing: Standing) -> Iterator[Served]:
    """One cluster for all of these tests, whose functions are their own each: an update is what
    they are about.
    """
    (standing.folder / "versions_of_a_test.py").write_text(STAGES)
    hosted = {
        name: function(name, least=0)
        for name in ("host_", "same_in_host", "tuned_in_host", "moves", "busy", "busier", "splits")
    }
    owned = {name: function(name) for name in ("own", "same", "tuned")}
    with standing.served(*HOST, *hosted.values(), *owned.values()):
        yield Served(standing, {**hosted, **owned})


def test_functions_change_and_move_and_are_split_without_a_call_lost(served):
    """With a deployment of their own and in the host, all in the same updates, since each takes
    seconds: a new version takes over when it is warm, and a broken one never; settings change in
    place; a function moves out of the host and back; a stage is split off and fused again. What did
    not change keeps its process. Should the process of a version that was kept die, the next one is
    of the same version.
    """
    names = ("own", "host_", "same", "same_in_host", "tuned", "tuned_in_host", "moves", "splits")
    kept = ("same", "same_in_host", "tuned", "tuned_in_host")
    tuned = {
        "scaling": ", max_replicas: 3, target_ongoing_requests: 5, downscale_delay_s: 9",
        "more": TUNED,
    }
    changed = {
        "tuned": function("tuned", **tuned),
        "tuned_in_host": function("tuned_in_host", least=0, **tuned),
    }
    broken = {
        "own": function("own", 2, fails_in="own"),
        "host_": function("host_", 2, fails_in="host", least=0),
        "moves": function("moves", 2, fails_in="own"),
    }
    with served.callers(*names) as callers:
        served.apply(
            **changed, **broken, fails="own keeps the version before; the new one did not start: "
        )
        for name in ("own", "host_"):
            told = served.project.state(name)
            assert told["state"] == "ready"
            assert told["reason"].startswith(
                "keeps the version before; the new one did not start: "
            )
            assert "version 2 is not for this machine" in told["reason"]
            assert {version for version, _ in callers.said(name)} == {1}
        assert [len(callers.said(name)) for name in (*kept, "moves")] == [1] * 5
        assert "its new version is not taken" in served.project.run("status", "own", "--why").stdout
        in_host = callers.last("moves")
        assert callers.lost() == []

    with served.callers("own") as victim:
        killed = victim.last("own")
        os.kill(killed[1], signal.SIGKILL)
        wait_until(lambda: victim.last("own") not in ((0, 0), killed))
        assert victim.last("own")[0] == 1

    with served.callers(*names) as callers:
        served.apply(
            **changed,
            own=function("own", 3),
            host_=function("host_", 3, least=0),
            moves=function("moves", 3),
            splits=function("splits", 2, least=0, part=1),
        )
        wait_until(
            lambda: (
                [callers.last(name)[0] for name in ("own", "host_", "moves", "splits")]
                == [3, 3, 3, 2]
                and callers.last("moves")[1] != in_host[1]
            )
        )
        assert served.project.state("own")["reason"] == ""
        served.apply(moves=function("moves", 4, least=0), splits=function("splits", 3, least=0))
        wait_until(
            lambda: callers.last("moves") == (4, in_host[1]) and callers.last("splits")[0] == 3
        )
        assert {name: len(callers.said(name)) for name in ("own", "host_", *kept)} == {
            **dict.fromkeys(kept, 1),
            "own": 2,
            "host_": 2,
        }
        assert callers.lost() == []


@pytest.mark.full  # test_new_code.py renews two; tests/deployments/placement: one that does not start
def test_promoted_functions_are_renewed_in_their_deployments(served):
    """Two in one `up`, by the owner of placement, which goes back if a new version does not start."""
    names = ("busy", "busier")
    with served.callers(*names, ms=15) as callers:
        wait_until(lambda: all(len(callers.said(name)) == 2 for name in names))
        with httpx.Client(base_url=served.project.url, timeout=30) as client:
            wait_until(lambda: all(state(client, name)["doing"] == "" for name in names))
        served.apply(**{name: function(name, 2, least=0) for name in names})
        wait_until(lambda: all(callers.last(name)[0] == 2 for name in names))
        served.apply(
            busy=function("busy", 3, fails_in="own", least=0),
            fails="version 3 is not for this machine",
        )
        assert callers.last("busy")[0] == 2
        assert callers.lost() == []


@pytest.mark.full  # the part has a deployment of its own in the first test
def test_a_stage_is_split_off_into_the_host_and_fused_again(served):
    """Callers of the part have it for as long."""
    with served.callers("splits") as callers:
        served.apply(splits=function("splits", 4, least=0, part=0))
        wait_until(lambda: callers.last("splits")[0] == 4)
        served.apply(splits=function("splits", 5, least=0))
        wait_until(lambda: callers.last("splits")[0] == 5)
        assert callers.lost() == []


def test_an_update_that_is_interrupted_leaves_one_version_and_says_which(served):
    """The one before, whose callers notice nothing; the next `up` finds nothing to mend."""
    names = ("own", "host_")
    with served.callers(*names) as callers:
        before = {name: callers.last(name)[0] for name in names}
        changed = {"own": function("own", 99), "host_": function("host_", 99, least=0)}
        served.project.declare(*HOST, *{**served.functions, **changed}.values())
        with served.project.start("up", "--detach") as child:
            assert child.stderr
            assert any("waiting for" in line for line in child.stderr)
            child.send_signal(signal.SIGINT)
            said = child.stderr.read()
        assert child.returncode == 130, said
        assert "everything is as it was before the update" in said
        assert {name: callers.last(name)[0] for name in names} == before
        served.apply()
        assert {name: callers.last(name)[0] for name in names} == before
        assert callers.lost() == []


@pytest.mark.full
def test_a_process_that_is_stopped_is_replaced(served):
    """SIGSTOP: Ray's health checks find it. The calls it has wait for their deadline; later ones
    are answered by another.
    """
    url = f"{served.project.url}/v2/models/same"

    def pid() -> int | None:
        try:
            return httpx.post(url, json={"ms": 0}, timeout=1).json().get("pid")
        except httpx.TimeoutException:
            return None

    stopped = psutil.Process(httpx.post(url, json={"ms": 0}, timeout=30).json()["pid"])
    stopped.suspend()
    try:
        wait_until(lambda: pid() not in (None, stopped.pid))
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):  # Ray ends it after a while
            stopped.kill()
