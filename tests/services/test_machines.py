"""Wakeful on several machines: each answers for all, functions belong to one of them, and what is
lost is taken over.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from loadtests import declare
from runtime.declaration.access.key_file import write_keys
from tests.deployments.ingress.keyed import Keys
from tests.deployments.projects import wait_until
from tests.services.listening import listeners_on
from tests.services.machines import (
    HOME,
    PORT,
    RAY_PORT,
    SLEEPERS,
    TEMPORARY,
    TOKEN,
    Fleet,
    Machine,
    declared,
    fleet,
    possible,
    sleeper,
)

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(bool(possible()), reason=possible() or "machines can be made"),
]

ROOM = {
    "WAKEFUL_LOGICAL_CPUS_PER_CORE": "16",
    "WAKEFUL_HOSTS": "1",
    "WAKEFUL_PROMOTE_WORK": declare.KEPT,
}
CALL = {"key": "a", "ms": 1.0, "padding": ""}


def answering(served: Fleet, machine: Machine, name: str) -> str:
    """The machine that answers a call through another."""
    answer = served.post(machine, name, CALL)
    assert answer.status_code == 200, answer.text
    machine_name: str = answer.json()["machine"]
    return machine_name


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One that every machine sees: the temporary folder is another one on each."""
    with tempfile.TemporaryDirectory(prefix="wakeful-test-", dir="/var/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def served(folder) -> Iterator[Fleet]:
    """Two machines with functions that sleep."""
    file = declare.write(folder / "first.yaml", declared(0))
    with fleet(2, file, folder / "log", ROOM) as served:
        served.wait_for_hosts(sleeper(0), 2)
        for machine in served.machines:
            served.wait_for_http(machine)
        yield served


@pytest.fixture(scope="module")
def replicated(served, folder) -> Fleet:
    """And one that has two replicas."""
    served.up(declare.write(folder / "serve_config.yaml", declared(2)))
    for machine in served.machines:
        served.wait_for_http(machine)
    return served


@pytest.mark.full
def test_up_says_how_another_machine_joins(served):
    """With the address that the others reach, and where the token lies."""
    said = served.log.read_text()
    assert f"wakeful join {served.head.address}:{RAY_PORT} --token-file token" in said
    assert f"a copy of {TEMPORARY / HOME / TOKEN}:" in said


@pytest.mark.full
def test_a_sleeping_function_belongs_to_one_machine(served):
    """Each answers for all, through its own HAProxy: whichever is asked, the same one loads a
    function; and of a dozen, both have some.
    """
    owners = {}
    for number in range(SLEEPERS):
        by = {
            answering(served, machine, sleeper(number))
            for machine in served.machines
            for _ in range(2)
        }
        assert len(by) == 1
        owners[number] = by.pop()
    assert set(owners.values()) == {"node1", "node2"}
    names = [f"/functions/{sleeper(number)}" for number in range(SLEEPERS)]
    # hosts report a load within a second
    wait_until(lambda: [served.get(served.head, name)["loads"] for name in names] == [1] * SLEEPERS)


@pytest.mark.full
def test_what_the_network_reaches_asks_for_a_secret(served):
    """HTTP is answered at its port alone: what has come past HAProxy to a replica, a host, the
    catalogue or Serve's proxy is refused, whatever it says of itself. HAProxy's own pages are for
    its machine.
    """
    called = {"key": "a", "ms": 1.0, "padding": ""}
    past = [
        {},
        {"x-wakeful-edge": "0" * 64, "x-wakeful-key": "ops", "x-wakeful-functions": "*"},
        {"x-wakeful-passed": "1"},
        {"content-type": "application/vnd.wakeful.rows"},
    ]
    refused = 0
    for machine in served.machines:
        beyond = {one for one in listeners_on(machine) if not one.is_local}
        assert PORT in {one.port for one in beyond if one.process.startswith("haproxy")}
        assert {one.port for one in beyond if one.process.startswith("haproxy")} == {PORT}
        assert served.post(machine, sleeper(0), called).status_code == 200
        for one in beyond:
            if one.port == PORT:
                continue
            url = f"http://{machine.address}:{one.port}"
            for headers in past:
                for path in (f"/v2/models/{sleeper(0)}", "/v1/models", "/", "/-/routes"):
                    try:
                        answer = httpx.post(f"{url}{path}", json=called, headers=headers, timeout=5)
                    except httpx.HTTPError:
                        continue  # Ray's own, and gRPC
                    assert answer.status_code in (400, 401, 403), (one, path, answer.text)
                    if answer.status_code == 403:
                        refused += answer.json()["code"] == "not_through_edge"
    # the hosts of both machines, the catalogue and two proxies, each asked so often
    assert refused >= 4 * len(past) * 4


@pytest.mark.full
def test_every_machine_answers_for_all_functions(replicated):
    """Through its own HAProxy; replicas that were deployed on both machines answer on both."""
    for machine in replicated.machines:
        assert {answering(replicated, machine, "work") for _ in range(12)} == {"node1", "node2"}


@pytest.mark.full
def test_a_machine_that_left_comes_again(replicated):
    """Its functions are the others' meanwhile."""
    second = replicated.others[0]
    replicated.wakeful(second, "down")
    replicated.wait_for_hosts(sleeper(0), 1)
    replicated.join(second)
    replicated.wait_for_hosts(sleeper(0), 2)
    replicated.wait_for_http(second)
    assert {answering(replicated, second, "work") for _ in range(12)} <= {"node1", "node2"}
    assert answering(replicated, second, sleeper(1)) == answering(
        replicated, replicated.head, sleeper(1)
    )


@pytest.mark.full
def test_keys_hold_on_every_machine(replicated, folder):
    """`up` turns them on while machines serve, on all of them; they change on each; a machine that
    joins has them; and `up` turns them off.
    """
    first, second = replicated.machines
    keys, file = Keys(), folder / "keys.json"
    key = keys.add("first")
    write_keys(file, keys.known)
    open_to_all = folder / "serve_config.yaml"
    declared_with = json.loads(open_to_all.read_text())
    closed = folder / "closed.yaml"
    closed.write_text(json.dumps({**declared_with, "http": {"auth": {"file": str(file)}}}))

    def status(machine: Machine, sent: str) -> int:
        with contextlib.suppress(httpx.HTTPError):
            return replicated.post(machine, "work", CALL, **{"x-api-key": sent}).status_code
        return 0

    def are(sent: str, expected: int) -> bool:
        return all(status(machine, sent) == expected for machine in (first, second))

    replicated.up(closed, is_insecure=False)
    wait_until(lambda: are("none", 401) and are(key, 200))
    other = keys.add("other")
    write_keys(file, keys.known)
    wait_until(lambda: are(other, 200))
    keys.known.pop(0)
    write_keys(file, keys.known)
    wait_until(lambda: are(key, 401))
    assert are(other, 200)

    replicated.wakeful(second, "down")
    replicated.join(second)
    wait_until(lambda: status(second, other) == 200)
    assert are("none", 401)

    replicated.up(open_to_all)
    wait_until(lambda: are("none", 200))


@pytest.mark.full
def test_the_functions_of_a_lost_machine_wake_on_another(served):
    """Pulled off the network, it says nothing; each of its functions answers elsewhere within its
    deadline.
    """
    served.others[0].unplug()
    began = time.monotonic()
    for number in range(SLEEPERS):
        assert answering(served, served.head, sleeper(number)) == "node1"
    assert time.monotonic() - began < 20
    served.wait_for_hosts(sleeper(0), 1)
