"""Answers that stream through HAProxy: as they come, from the host and from replicas of their own,
to whatever end.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import httpx
import pytest

from tests.deployments.projects import Project, Standing, wait_until

pytestmark = pytest.mark.ray


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


@pytest.mark.parametrize("name", ["drip_rare", "drip_asleep", "drip_own"])
def test_items_come_as_they_are_computed(up: Standing, name: str, tmp_path: Path):
    """The first is there while the second is not begun; the end is the end."""
    with lines_of(up, name, tmp_path / "s") as response:
        assert response.status_code == 200
        lines = response.iter_lines()
        assert json.loads(next(lines))["n"] == 0
        (tmp_path / "s" / "go").touch()
        assert [json.loads(line)["n"] for line in lines] == [1, 2]
    assert (tmp_path / "s" / "closed").exists()


def test_events_end_with_done_or_an_error(up: Standing, tmp_path: Path):
    """Also through HAProxy, which makes no answer of its own of it."""
    for folder, fault_at, last in (("whole", -1, "event: done"), ("broken", 1, "event: error")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "go").touch()
        row = {"to": 2, "folder": str(tmp_path / folder), "fault_at": fault_at}
        response = httpx.post(f"{up.url}/v2/models/drip_own", json=row, timeout=60)
        assert (response.status_code, response.headers["content-type"]) == (
            200,
            "text/event-stream",
        )
        assert response.text.split("\n\n")[-2].startswith(last)
        assert "secret" not in response.text


def test_a_caller_who_leaves_ends_the_generator(up: Standing, tmp_path: Path):
    """HAProxy passes it on."""
    with lines_of(up, "drip_rare", tmp_path / "s", to=10**9) as response:
        next(response.iter_lines())
    (tmp_path / "s" / "go").touch()
    wait_until((tmp_path / "s" / "closed").exists)


def test_a_deadline_ends_it_with_words(up: Standing, tmp_path: Path):
    """That of its caller, which bounds the whole."""
    row = {"to": 3, "folder": str(tmp_path / "s")}
    url = f"{up.url}/v2/models/drip_own"
    response = httpx.post(url, json=row, headers={"x-request-timeout-seconds": "1"}, timeout=60)
    assert '"code":"deadline_exceeded"' in response.text
    (tmp_path / "s" / "go").touch()
    wait_until((tmp_path / "s" / "closed").exists)


def test_a_stream_whose_replica_dies_is_cut(up: Standing, tmp_path: Path):
    """It is not begun anew behind what has been sent: the caller finds that it ended too soon.
    (The last test here: what was called is another process then.)
    """
    with lines_of(up, "drip_own", tmp_path / "s") as response:
        lines = response.iter_lines()
        os.kill(json.loads(next(lines))["pid"], signal.SIGKILL)
        with pytest.raises(httpx.RemoteProtocolError):
            list(lines)
