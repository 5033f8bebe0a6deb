"""The life of a cluster: up, changed, down, killed, interrupted; always without a trace."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from deployments.cluster.machine import side_ports
from deployments.ray_support import ports, processes
from deployments.ray_support.driver_client import HeadOptions
from deployments.ray_support.environment import (
    SERVING,
    inherited_variables,
    local_variables,
    path_variables,
    to_mapping,
)
from deployments.ray_support.state_dir import StateDir
from runtime.settings import Settings
from tests.deployments.projects import Project, function, wait_until

pytestmark = pytest.mark.ray


@contextmanager
def foreground(project: Project) -> Iterator[subprocess.Popen[str]]:
    """`wakeful up`, when it serves; killed at the end if it is still there."""
    with project.start("up") as child:
        assert child.stdout
        assert child.stderr
        try:
            assert any(line.startswith("Ctrl-C") for line in child.stdout), child.stderr.read()
            yield child
        finally:
            child.kill()


# in few: services/test_shipped_functions.py (up, printed lines, logs, down), test_new_code.py (refused),
# test_redeploy.py (changes in place), test_compatibility.py (another root)
@pytest.mark.full
def test_a_cluster_comes_up_changes_in_place_and_goes(project):
    """Detached: the command returns though Ray stays, and another shell takes it down. A function
    that does not load is found by its probe, and what is up stays as it is.
    """
    project.declare(function("a"), function("sleeper", least=0))
    up = project.run("up", "--detach")
    assert up.returncode == 0, up.stderr
    curl = next(line for line in up.stdout.splitlines() if "/v2/models/a -H" in line)
    first = json.loads(subprocess.run(shlex.split(curl), capture_output=True, check=True).stdout)
    assert first["said"] == "text"
    assert project.state("sleeper")["state"] == "asleep"
    assert "asked by text" in project.run("logs", "a").stdout

    project.declare(function("a", more="batching: {max_batch_size: 4}"), function("new"))
    assert project.run("up", "--detach").returncode == 0
    again = json.loads(project.run("call", "a", '{"name": "me"}').stdout)
    assert again == {"said": "me", "pid": first["pid"]}

    project.more = {"WAKEFUL_ROOT": project.short}
    elsewhere = project.run("up", "--detach")
    assert elsewhere.returncode == 1
    assert f"from {project.folder}, not from {project.short}." in elsewhere.stderr
    project.more = {}

    project.declare(function("a"), function("bad", "stages_of_a_test:Broken"))
    refused = project.run("up", "--detach")
    assert refused.returncode == 2
    assert "serve_config.yaml:10: applications[1]: does not load: " in refused.stderr
    assert (
        "stages_of_a_test:Broken did not construct: ValueError: the weights are not there"
        in refused.stderr
    )
    assert [entry["name"] for entry in json.loads(project.run("status", "--json").stdout)] == [
        "a",
        "new",
    ]

    assert project.run("down").returncode == 0
    assert project.is_clean()


@pytest.mark.full
def test_two_halves_of_a_gpu_are_taken_and_the_third_says_what_it_waits_for(project):
    """And gets it when one of the two goes."""
    project.declare(*(function(name, gpus=0.5) for name in "abc"))
    up = project.run("up", "--detach", "--num-gpus", "1")
    wanted = "waits for 1 CPU and 0.5 GPU a replica; free in the cluster:"
    states = {name: project.state(name) for name in "abc"}
    (waiting,) = (name for name in "abc" if states[name]["state"] == "waking")
    assert up.returncode == 1
    assert f"{waiting} {wanted}" in up.stderr
    assert states[waiting]["reason"].startswith(wanted)
    others = ", ".join(f"{name} 0.5" for name in "abc" if name != waiting)
    assert states[waiting]["reason"].endswith(f"and 0 GPU. 1 of 1 GPU is taken: {others}.")

    project.run("down", next(name for name in "abc" if name != waiting))
    assert (
        httpx.post(f"{project.url}/v2/models/{waiting}", json={"name": "x"}, timeout=30).status_code
        == 200
    )


@pytest.mark.full  # services/test_drain.py: what is in flight at `down`, and two signals
def test_sigterm_drains_and_takes_everything_down(project):
    """The request in flight is answered."""
    project.declare(function("slow", "stages_of_a_test:slow"))
    answers: list[int] = []
    with foreground(project) as child:
        begun = project.folder / "begun"
        call = {"url": f"{project.url}/v2/models/slow", "json": {"name": str(begun)}, "timeout": 30}
        caller = threading.Thread(target=lambda: answers.append(httpx.post(**call).status_code))
        caller.start()
        wait_until(begun.exists)
        child.send_signal(signal.SIGTERM)
        caller.join()
        assert child.wait(60) == 0
    assert answers == [200]
    assert project.is_clean()


@pytest.mark.full
def test_a_cluster_taken_down_from_elsewhere_ends_its_command(project):
    """With success, since another command requested it."""
    project.declare(function("a"))
    with foreground(project) as child:
        assert project.run("down").returncode == 0
        assert child.wait(60) == 0
    assert project.is_clean()


@pytest.mark.full
def test_a_ray_that_dies_ends_its_command_too(project):
    """With failure, and what is left of it goes."""
    project.declare(function("a"))
    with foreground(project) as child:
        for process in processes.ray_processes(project.home.path):
            with contextlib.suppress(psutil.NoSuchProcess):  # one goes when the other does
                process.kill()
        assert child.wait(60) == 1
    assert project.is_clean()


@pytest.fixture
def foreign(project) -> Iterator[str]:
    """The address of a Ray that `up` did not start; the project's commands have its environment."""
    home = StateDir(Path(project.short) / "foreign")
    home.prepare()
    # the mark by which its processes are found has them ask for the edge's secret until they know
    # that no keys are on; a Ray that is not Wakeful's has no mark, and asks for nothing
    (home.path / "up.json").write_text(json.dumps({"kind": "own", "node_ip": "127.0.0.1"}))
    settings = Settings(root=project.folder, models=project.folder)
    variables = to_mapping(
        (
            *SERVING,
            *local_variables(home.path, side_ports(project.port)),
            *path_variables(settings, None),
        )
    )
    options = HeadOptions(
        str(home.path / "ray"),
        num_cpus=4,
        object_store_bytes=100_000_000,
        port=ports.find_free("127.0.0.1", 26379),
    )
    with (home.path / "head.log").open("w") as log:
        command = [
            sys.executable,
            "-m",
            "deployments.cluster.head",
            "start",
            options.encode(),
            str(home.path / "address"),
        ]
        subprocess.run(
            command,
            env=inherited_variables(variables),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
        )
    project.more = variables
    yield (home.path / "address").read_text()
    processes.end_processes(home.path)


@pytest.mark.full
def test_a_cluster_that_was_there_is_joined_and_left_as_it_was(project, foreign):
    """Down ends what `up` brought, and not the cluster; what its HAProxy does not do is said."""
    project.declare(
        function("a"),
        "http: {cors: {origins: [https://app.example]}, connections_per_address: 7}\n",
    )
    outcome = project.run("up", "--detach", "--address", foreign)
    assert outcome.returncode == 0
    for key in ("cors", "connections_per_address"):
        assert f": http.{key}: no effect on this cluster" in outcome.stderr
    called = project.run("call", "a", '{"name": "me"}')
    assert called.returncode == 0, called.stderr
    assert json.loads(called.stdout)["said"] == "me"
    assert project.state("a")["state"] == "ready"
    assert project.run("down").returncode == 0
    assert project.run("status").stdout == "nothing is up.\n"
    assert ports.is_free("127.0.0.1", project.port)
    assert processes.is_running(Path(project.short) / "foreign")


@pytest.mark.full  # cli/test_up.py
def test_a_function_that_fails_is_reported_and_everything_is_taken_down_again(project):
    """Since nothing was up before."""
    project.declare(function("good"), function("bad", "stages_of_a_test:BrokenOnRay"))
    up = project.run("up", "--detach")
    assert up.returncode == 1
    assert (
        "bad failed: stages_of_a_test:BrokenOnRay did not construct: ValueError: not on this "
        "machine" in up.stderr
    )
    assert project.is_clean()


@pytest.mark.full  # `test_a_ray_that_dies…` kills all of it, and its command takes down what is left
@pytest.mark.parametrize("names", [("raylet",), ("gcs_server", "raylet", "ray::HAProxyMana")])
def test_what_a_killed_ray_leaves_is_taken_down(project, names):
    """HAProxy outlives it, and holds the port."""
    project.declare(function("a"))
    assert project.run("up", "--detach").returncode == 0
    for name in names:
        for process in processes.by_name(project.home.path, name):
            with contextlib.suppress(psutil.NoSuchProcess):  # some go when the one before them does
                process.kill()
    assert project.run("status").stdout == "nothing is up.\n"
    assert project.run("down").returncode == 0
    assert project.is_clean()


def test_ctrl_c_while_it_starts_leaves_nothing(project):
    """As soon as Ray's first process is there."""
    project.declare(function("a"))
    with project.start("up") as child:
        wait_until(lambda: bool(processes.cluster_processes(project.home.path)))
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "interrupted; what was started has been taken down." in err
    assert project.is_clean()
