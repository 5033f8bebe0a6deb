"""The first line of the README, on Ray: the shipped file comes up, each of its functions answers, and
it goes.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests import declare
from tests.deployments.projects import Project, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.models]

STREAMED = {
    "x-sequence-id": "one",
    "x-sequence-start": "1",
    "x-sequence-end": "1",
    "accept": "application/x-ndjson",
}
"""A sequence of one call, whose items are lines."""

HEADERS = {"listen": STREAMED, "highlight": {"accept": "application/json"}}
"""By function, of a call whose answer begins with a line of JSON."""

DECISIVE: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "embed": (
        lambda found: (len(found["embedding"]), found["embedding"][0]),
        (384, pytest.approx(0.044, abs=1e-3)),
    ),
    "forecast": (lambda found: found["reorder_quantity"], 39),
    "ocr": (lambda found: [line["text"] for line in found["lines"]], ["OCR"]),
    "classify": (lambda found: (len(found["labels"]), found["labels"][0]["score"]), (5, 0.0011)),
    "moderate": (lambda found: found["is_profane"], True),
    "filetype": (lambda found: found["label"], "markdown"),
    "search": (
        lambda found: found["results"][0]["passage"].split()[:3],
        ["Salaries", "are", "paid"],
    ),
    "highlight": (lambda found: b64decode(found["mark"])[:8], b"\x89PNG\r\n\x1a\n"),
    "listen": (lambda found: (found["event"], found["at_s"]), ("heard", 0.0)),
}
"""Of the answer to the example that the file shows, or of its first item: what is looked at, and
what it is.
"""


def test_every_shipped_function_answers_on_ray(project: Project, root: Path, models: Path):
    """As they ship, asleep in the host: their first call wakes them, the split stage of `ocr` and
    the function that `search` calls too. The command returns though Ray stays, and prints lines
    that are calls; other commands, as of another shell, find the cluster and take it down.
    """
    assert declare.shipped().keys() == DECISIVE.keys()
    up = project.run("up", "--detach", str(root / "serve_config.yaml"))
    assert up.returncode == 0, up.stderr
    assert project.state("moderate")["state"] == "asleep"
    line = next(line for line in up.stdout.splitlines() if "/v2/models/moderate -H" in line)
    typed = subprocess.run(shlex.split(line), capture_output=True, timeout=60, check=True)
    assert DECISIVE["moderate"][0](json.loads(typed.stdout)) is True
    wait_until(lambda: " -- moderate woke in " in project.run("logs", "moderate").stdout)
    with httpx.Client(base_url=project.url, timeout=60) as client:
        for name, (look, expected) in DECISIVE.items():
            answer = client.post(
                f"/v2/models/{name}",
                json=declare.example(name),
                headers=HEADERS.get(name),
            )
            assert answer.status_code == 200, f"{name}: {answer.text}"
            assert look(json.loads(answer.text.partition("\n")[0])) == expected, name
        assert {one["name"] for one in client.get("/").json()["functions"]} == {
            *DECISIVE,
            "ocr.recognise",
        }
    assert project.run("down").returncode == 0
    assert project.is_clean()
