"""`wakeful run --workers` with functions that say which process answered, and callers of them."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil

from tests.deployments.local.running import shell
from tests.deployments.projects import wait_until

STAGES = """\
import ctypes, os, time
from pathlib import Path
from typing import TypedDict
from wakeful import State

class Where(TypedDict):
    pid: int
    said: str

def work(said: str, ms: float = 0.0) -> Where:
    if ms >= 1000:
        Path("at_work").write_text(str(os.getpid()))
    time.sleep(ms / 1000)
    return {"pid": os.getpid(), "said": said}

def held(said: str) -> Where:
    Path("held_" + said).touch()
    until = time.monotonic() + 60
    while not Path("go").exists() and time.monotonic() < until:
        time.sleep(0.01)
    return {"pid": os.getpid(), "said": said}

def rare(said: str) -> Where:
    return {"pid": os.getpid(), "said": said}

def die(said: str) -> Where:
    if said == "crash":
        ctypes.string_at(0)
    if said.startswith("hold"):
        time.sleep(0.5)
    return {"pid": os.getpid(), "said": said}

class Mean(TypedDict):
    total: float
    pid: int
    seen: float

def follow(x: float, seen: State[float]) -> Mean:
    return {"total": (seen or 0.0) + x, "seen": (seen or 0.0) + x, "pid": os.getpid()}
"""

FILE = """\
http: {cors: {origins: ["https://app.example"]}}
applications:
  - {name: catalogue, route_prefix: /, import_path: "deployments:catalogue"}
  - {name: work, args: {graph: [{stage: s, python: "of_a_test:work"}], example: {said: a}}}
  - {name: once, args: {graph: [{stage: s, python: "of_a_test:work"}], example: {said: a}, limits: {replay: false}}}
  - {name: held, args: {graph: [{stage: s, python: "of_a_test:held", threads: 4}]}}
  - {name: rare, args: {graph: [{stage: s, python: "of_a_test:rare"}], example: {said: a}}}
  - {name: poisoned, args: {graph: [{stage: s, python: "of_a_test:die"}], example: {said: a}}}
  - {name: caller, args: {graph: [{stage: s, function: rare}]}}
  - {name: mean, args: {graph: [{stage: s, python: "of_a_test:follow"}], example: {x: 1}, sequences: {}}}
"""

HOSTS = 2


@contextlib.contextmanager
def project(folder):
    """Functions of a file."""
    with shell(folder) as made:
        (folder / "of_a_test.py").write_text(STAGES)
        (folder / "serve_config.yaml").write_text(FILE)
        yield made


def url(run, name):
    """Of a function."""
    return f"{run.url}/v2/models/{name}"


def post(run, name, body, **headers):
    """A call on a connection of its own."""
    return httpx.post(url(run, name), json=body, headers=headers, timeout=60)


def children(run):
    """The processes that the run has started, each with its name."""
    found = []
    for child in psutil.Process(run.process.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append((child, child.name()))
    return found


def serving(run):
    """The processes that serve, without HAProxy."""
    return sorted(child.pid for child, name in children(run) if "haproxy" not in name)


def front(run):
    """HAProxy."""
    return next(child for child, name in children(run) if "haproxy" in name)


def crowd(run, name="work", count=16, ms=50.0):
    """So many calls at once; their answers."""
    with ThreadPoolExecutor(count) as pool:
        calls = [
            pool.submit(post, run, name, {"said": str(number), "ms": ms}) for number in range(count)
        ]
        answers = [call.result() for call in calls]
    assert [answer.status_code for answer in answers] == [200] * count, answers[0].text
    assert [answer.json()["said"] for answer in answers] == [str(n) for n in range(count)]
    return answers


def pids(answers):
    """Which processes answered."""
    return {answer.json()["pid"] for answer in answers}


def is_whole(run, among=None):
    """Whether all processes answer, none of them of these."""
    found = pids(crowd(run))
    return len(found) == HOSTS and not found.intersection(among or ())


@contextlib.contextmanager
def callers(run, name="work", count=4):
    """Callers of one call after the other meanwhile; the answers that were none."""
    over, faults, answered = threading.Event(), [], Counter()

    def calls(number):
        with httpx.Client(timeout=60) as client:
            sent = 0
            while not over.wait(0.01):
                said = f"{number}.{sent}"
                sent += 1
                try:
                    answer = client.post(url(run, name), json={"said": said, "ms": 5})
                except httpx.HTTPError as error:
                    faults.append(error)
                    continue
                if answer.status_code != 200 or answer.json()["said"] != said:
                    faults.append(answer.text)
                answered[number] += 1

    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(calls, number) for number in range(count)]
        try:
            wait_until(lambda: sum(answered.values()) > 5 * count)
            yield faults
            before = sum(answered.values())
            wait_until(lambda: sum(answered.values()) > before + 20 * count)
        finally:
            over.set()
        for one in running:
            one.result()
