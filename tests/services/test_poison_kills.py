"""A row that kills the process it runs in: refused after the second process, while everybody else
is answered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from runtime.system.crash import CrashReport
from runtime.system.crash.reports import crash_files
from tests.deployments.projects import HOST, Project, Standing, function, wait_until

pytestmark = pytest.mark.ray

POISON = {"name": "crash"}
CALLERS = 4


def call(url: str, rows: object) -> httpx.Response:
    """A call that is made once, on a connection of its own, in the declared time."""
    return httpx.post(url, json=rows, timeout=40)


@contextmanager
def callers(url: str) -> Iterator[list[httpx.Response]]:
    """Callers of good rows meanwhile, each with one call after the other, and time for what is done
    to them; the answers.
    """
    answers: list[httpx.Response] = []
    over = threading.Event()

    def calls(number: int) -> None:
        sent = 0
        while not over.wait(0.04):
            name = f"{number}.{sent}"
            answer = call(url, {"name": name})
            assert answer.status_code != 200 or answer.json()["said"] == name
            answers.append(answer)
            sent += 1

    with ThreadPoolExecutor(CALLERS) as pool:
        running: list[Future[None]] = [pool.submit(calls, number) for number in range(CALLERS)]
        try:
            wait_until(lambda: len(answers) > 10 * CALLERS)
            yield answers
            before = len(answers)
            wait_until(lambda: len(answers) > before + 10 * CALLERS)
        finally:
            over.set()
        for one in running:
            one.result()


def crashes(project: Project, *names: str) -> list[CrashReport]:
    """Of processes that ran one of these functions when they died. The cluster has others': reports
    of what earlier tests killed come late, and go after ten minutes.
    """
    return [
        report
        for report in crash_files(project.home.path / "hosts", {}, time.time()).values()
        if set(names).intersection(report.running)
    ]


def refused(url: str) -> None:
    """The killer's caller is told so, and when he asks again as well."""
    for _ in range(3):
        answer = call(url, POISON)
        assert (answer.status_code, answer.json()["code"]) == (500, "row_quarantined"), answer.text
        assert f"wakeful logs {url.rsplit('/', 1)[-1]}" in answer.json()["error"]


def refused_in_an_array(url: str) -> None:
    """Its company is answered, in its order."""
    rows = [{"name": f"row {n}"} for n in range(20)]
    rows[7] = POISON
    answer = call(url, rows)
    assert answer.status_code == 200, answer.text
    elements = answer.json()
    assert elements.pop(7)["code"] == "row_quarantined"
    assert [element["said"] for element in elements] == [
        row["name"] for row in rows if row is not POISON
    ]


def unanswered(answers: list[httpx.Response]) -> list[tuple[int, str]]:
    """What callers of good rows got instead of an answer."""
    return [(answer.status_code, answer.text) for answer in answers if answer.status_code != 200]


REPLICAS = "killed_by_a_row", "killed_by_an_array"


@pytest.fixture(scope="module")
def poisoned(standing: Standing) -> Iterator[Standing]:
    """Up, with a function that the host runs and one for each test of replicas."""
    # two processes each: of a fourth one its owner would hear, and end the function
    killed = (
        function(name, "stages_of_a_test:crash", 2, scaling=", max_replicas: 2")
        for name in REPLICAS
    )
    with standing.served(*HOST, function("poisoned", "stages_of_a_test:crash", 0), *killed):
        yield standing


@pytest.mark.full
def test_a_row_that_kills_its_host_is_refused_after_two_processes(poisoned: Standing) -> None:
    """Replayed, it runs alone and kills once more; a third process does not run it. No other
    call notices.
    """
    url = f"{poisoned.url}/v2/models/poisoned"
    with callers(url) as answers:
        refused(url)
    assert unanswered(answers) == []
    died = crashes(poisoned, "poisoned")
    assert [report.fault for report in died] == ["Segmentation fault"] * 2, died


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "is_refused"),
    [
        (REPLICAS[0], refused),
        pytest.param(REPLICAS[1], refused_in_an_array, marks=pytest.mark.full),
    ],
)
def test_a_row_that_kills_replicas_is_refused_by_the_next_one(
    poisoned: Standing, name: str, is_refused: Callable[[str], None]
) -> None:
    """Likewise, when both replicas that there are have died of it; and in an array its company is
    answered.
    """
    url = f"{poisoned.url}/v2/models/{name}"
    with callers(url) as answers:
        is_refused(url)
    assert unanswered(answers) == []
    died = crashes(poisoned, name)
    assert [report.fault for report in died] == ["Segmentation fault"] * 2, died
