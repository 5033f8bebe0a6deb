"""Whatever name of its inside a release of uvicorn changes, requests are answered the same."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.full, pytest.mark.slow, pytest.mark.timeout(900)]

KNOWN = {
    "RequestResponseCycle": "bare",
    "keep_alive": "bare",
    "more_body": "slow",
    "pipeline": "bare",
    "scope": "bare",
    "transport": "bare",
    "_get_upgrade": "fast",
}
"""Which way requests take where a name is another, of some names."""


def test_requests_are_answered_the_same_whatever_is_changed() -> None:
    """Each name of each class and attribute, one by one."""
    command = [sys.executable, "-m", "tests.runtime.http.transport.altered_uvicorn"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, check=True)
    usual, *altered = map(json.loads, done.stdout.splitlines())
    assert usual["way"] == "fast"
    assert len(altered) > 40
    for one in altered:
        assert one.get("answers") == usual["answers"], (one["name"], one.get("error"))
    ways = {one["name"]: one["way"] for one in altered}
    assert {name: ways[name] for name in KNOWN} == KNOWN
