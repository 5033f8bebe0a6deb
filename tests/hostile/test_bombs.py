"""Pictures, sounds and archives that are few bytes and claim to be much more: the functions that
ship with Wakeful refuse each with a reason, no memory is taken for what is claimed, and other calls
are answered meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests import serving
from tests.hostile.bombs import Bomb, bombs
from tests.hostile.rows import expect_no_secret

pytestmark = [
    pytest.mark.full,
    pytest.mark.slow,
    pytest.mark.models,
]  # ``tests/apps`` has few of each

ROOT = Path(__file__).parents[2]

MOST_MB = 200.0
"""Of memory for one: twice what a body may be, and what reading it takes."""


@dataclass
class Neighbour:
    """Another client, that calls one function after the other.

    Attributes:
        faults: answers that were not right.
    """

    faults: list[str] = field(default_factory=list)
    answered: int = 0

    @contextmanager
    def calling(self, url: str) -> Iterator[Neighbour]:
        """Meanwhile."""
        over = threading.Event()
        thread = threading.Thread(target=self._call, args=(url, over))
        thread.start()
        try:
            yield self
        finally:
            over.set()
            thread.join()

    def _call(self, url: str, over: threading.Event) -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not over.wait(0.02):
                answer = client.post("/v2/models/moderate", json={"text": "good morning"})
                self.answered += 1
                if answer.status_code != 200:
                    self.faults.append(answer.text)


@dataclass(frozen=True)
class Served:
    """The functions, and the process that has them."""

    url: str
    pid: int

    def memory_mb(self) -> tuple[float, float]:
        """Now, and at most since this was asked."""
        process = Path(f"/proc/{self.pid}")
        lines = (process / "status").read_text().splitlines()
        found = dict(line.split(":", 1) for line in lines)
        (process / "clear_refs").write_text("5")
        now, most = (int(found[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
        return now, most


@pytest.fixture(scope="module")
def served(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """By `wakeful run`, in one process; each function has answered."""
    log = tmp_path_factory.mktemp("bombs") / "log"
    with serving.run(ROOT / "serve_config.yaml", root=ROOT, log=log, start_s=200) as url:
        port = urlsplit(url).port
        (pid,) = (
            child.pid
            for child in psutil.Process().children()
            for one in child.net_connections("tcp4")
            if one.status == psutil.CONN_LISTEN and one.laddr.port == port
        )
        yield Served(url, pid)
        assert psutil.pid_exists(pid)


@pytest.mark.parametrize("bomb", bombs(), ids=str)
def test_a_bomb_is_refused(served: Served, bomb: Bomb) -> None:
    """With a reason, in little memory, and beside others."""
    body = bomb.made()
    with httpx.Client(base_url=served.url, timeout=60) as client:
        before, _ = served.memory_mb()
        with Neighbour().calling(served.url) as neighbour:
            headers = {"content-type": bomb.media, **bomb.headers}
            answer = client.post(f"/v2/models/{bomb.to}", content=body, headers=headers)
        _, most = served.memory_mb()
    assert answer.status_code in bomb.statuses, answer.text[:500]
    if answer.status_code != 200:
        assert answer.json()["code"] in ("bad_request", "too_large", "malformed_body")
    expect_no_secret(answer.content)
    assert most - before < MOST_MB
    assert not neighbour.faults
