"""Answers that stream through HAProxy: as they come, from the host and from replicas of their own,
to whatever end.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.deployments.projects import HOST, Project, Standing, function, wait_until

pytestmark = pytest.mark.ray

FUNCTIONS = ("rare", "slept", "own")
"""One that the host loads, one that has its own replica once it is called, so that the standby has
the call, and one that has it.
"""


@pytest.fixture(scope="module")
def up(standing: Standing) -> Iterator[Project]:
    """Up, with all of them."""
    drip = "stages_of_a_test:drip"
    slept = function("slept", drip, least=0, more="tier: own")
    with standing.served(
        *HOST,
        function("rare", drip, least=0),
        slept,
        function("own", drip),
        function("killed", drip),
    ):
        yield standing


def lines_of(project: Project, name: str, folder: Path, **row: int):
    """A stream of lines."""
    call = {"to": 3, "folder": str(folder), **row}
    return httpx.stream(
        "POST",
        f"{project.url}/v2/models/{name}",
        json=call,
        headers={"accept": "application/x-ndjson"},
        timeout=60,
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_items_come_as_they_are_computed(up, name, tmp_path):
    """The first is there while the second is not begun; the end is the end."""
    with lines_of(up, name, tmp_path / "s") as response:
        assert response.status_code == 200
        lines = response.iter_lines()
        assert json.loads(next(lines))["n"] == 0
        (tmp_path / "s" / "go").touch()
        assert [json.loads(line)["n"] for line in lines] == [1, 2]
    assert (tmp_path / "s" / "closed").exists()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_events_end_with_done_or_an_error(up, name, tmp_path):
    """Also through HAProxy, which makes no answer of its own of it."""
    for folder, fault_at, last in (("whole", -1, "event: done"), ("broken", 1, "event: error")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "go").touch()
        row = {"to": 2, "folder": str(tmp_path / folder), "fault_at": fault_at}
        response = httpx.post(f"{up.url}/v2/models/{name}", json=row, timeout=60)
        assert (response.status_code, response.headers["content-type"]) == (
            200,
            "text/event-stream",
        )
        assert response.text.split("\n\n")[-2].startswith(last)
        assert "secret" not in response.text


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_caller_who_leaves_ends_the_generator(up, name, tmp_path):
    """HAProxy passes his leaving on."""
    with lines_of(up, name, tmp_path / "s", to=10**9) as response:
        next(response.iter_lines())
    (tmp_path / "s" / "go").touch()
    wait_until((tmp_path / "s" / "closed").exists)


def test_a_deadline_ends_it_with_words(up, tmp_path):
    """That of its caller, which bounds the whole."""
    row = {"to": 3, "folder": str(tmp_path / "s")}
    url = f"{up.url}/v2/models/own"
    response = httpx.post(url, json=row, headers={"x-request-timeout-seconds": "1"}, timeout=60)
    assert '"code":"deadline_exceeded"' in response.text
    (tmp_path / "s" / "go").touch()
    wait_until((tmp_path / "s" / "closed").exists)


def test_a_stream_whose_replica_dies_is_cut(up, tmp_path):
    """It is not begun anew behind what has been sent: the caller finds that it ended too soon."""
    with lines_of(up, "killed", tmp_path / "s") as response:
        lines = response.iter_lines()
        os.kill(json.loads(next(lines))["pid"], signal.SIGKILL)
        with pytest.raises(httpx.RemoteProtocolError):
            list(lines)
